package io.github.keyfence.testcontainers;

import io.github.keyfence.KeyfenceClient;
import io.github.keyfence.Secret;
import java.nio.charset.StandardCharsets;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.wait.strategy.Wait;
import org.testcontainers.utility.DockerImageName;

/** Keyfence in a container, with its data inside. */
public final class KeyfenceContainer extends GenericContainer<KeyfenceContainer> {
  private static final int PORT = 50051;
  private static final String ROOT_KEY = "/var/lib/keyfence/root.key";

  /**
   * A container of an image that was built from Keyfence's Dockerfile.
   *
   * @param image its name, for example "keyfence:1.0.0".
   */
  public KeyfenceContainer(String image) {
    super(DockerImageName.parse(image));
    withExposedPorts(PORT);
    // The network is that of the tests. Without this the server wants a certificate.
    withEnv("KEYFENCE_INSECURE_PLAINTEXT", "true");
    waitingFor(Wait.forHealthcheck());
  }

  /** The server's address, for {@link KeyfenceClient#builder(String)}. */
  public String target() {
    return getHost() + ":" + getMappedPort(PORT);
  }

  /** The first operator credential, which may do everything. */
  public Secret token() {
    return Secret.of(
        copyFileFromContainer(
            ROOT_KEY, file -> new String(file.readAllBytes(), StandardCharsets.UTF_8).strip()));
  }

  /** Begins a client of the server, with its first credential. */
  public KeyfenceClient.Builder client() {
    KeyfenceClient.Builder builder = KeyfenceClient.builder(target()).token(token());
    // The engine may be on another machine. Its network is that of the tests.
    return builder.insecurePlaintext();
  }
}
