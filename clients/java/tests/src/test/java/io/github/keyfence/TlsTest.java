package io.github.keyfence;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.keyfence.v1.AuthorizationServiceGrpc;
import io.github.keyfence.v1.Principal;
import io.github.keyfence.v1.WhoAmIRequest;
import io.github.keyfence.v1.WhoAmIResponse;
import io.grpc.ChannelCredentials;
import io.grpc.Server;
import io.grpc.TlsChannelCredentials;
import io.grpc.TlsServerCredentials;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.StreamObserver;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.time.Duration;
import java.util.Base64;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A server with a certificate of its own, which keytool of the JDK makes. */
final class TlsTest {
  private static final char[] PASSWORD = "password".toCharArray();

  private static final class WhoAmI extends AuthorizationServiceGrpc.AuthorizationServiceImplBase {
    @Override
    public void whoAmI(WhoAmIRequest request, StreamObserver<WhoAmIResponse> caller) {
      caller.onNext(
          WhoAmIResponse.newBuilder()
              .setPrincipal(Principal.newBuilder().setAccountId("operators"))
              .build());
      caller.onCompleted();
    }
  }

  @Test
  void onlyACertificateThatIsTrustedIsTalkedTo(@TempDir Path directory) throws Exception {
    Path certificate = directory.resolve("certificate.pem");
    Path key = directory.resolve("key.pem");
    makeCertificate(directory.resolve("store.p12"), certificate, key);
    Server server =
        NettyServerBuilder.forAddress(
                new InetSocketAddress(InetAddress.getLoopbackAddress(), 0),
                TlsServerCredentials.create(certificate.toFile(), key.toFile()))
            .addService(new WhoAmI())
            .build()
            .start();
    String target = "127.0.0.1:" + server.getPort();
    ChannelCredentials trusting =
        TlsChannelCredentials.newBuilder().trustManager(certificate.toFile()).build();
    // The first handshake of a process takes a while on a slow machine.
    Duration patience = Duration.ofSeconds(30);
    try (KeyfenceClient client =
            KeyfenceClient.builder(target).tls(trusting).checkTimeout(patience).build();
        KeyfenceClient several =
            KeyfenceClient.builder(target)
                .addresses("127.0.0.1:" + server.getPort())
                .tls(trusting)
                .checkTimeout(patience)
                .build();
        KeyfenceClient stranger =
            KeyfenceClient.builder(target).tls(TlsChannelCredentials.create()).build();
        KeyfenceClient plain = KeyfenceClient.builder(target).build()) {
      assertEquals("operators", client.whoAmI().getAccountId());
      assertEquals("operators", several.whoAmI().getAccountId());
      assertThrows(KeyfenceException.Unavailable.class, stranger::whoAmI);
      assertThrows(KeyfenceException.Unavailable.class, plain::whoAmI);
    } finally {
      server.shutdownNow();
    }
  }

  @Test
  void optionsThatExcludeEachOtherAreRefused() {
    KeyfenceClient.Builder builder =
        KeyfenceClient.builder("keyfence.example:443")
            .tls(TlsChannelCredentials.create())
            .insecurePlaintext();
    assertThrows(IllegalArgumentException.class, builder::build);
  }

  private static void makeCertificate(Path store, Path certificate, Path key) throws Exception {
    Process keytool =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "keytool").toString(),
                "-genkeypair",
                "-keyalg",
                "EC",
                "-alias",
                "server",
                "-dname",
                "CN=server",
                "-ext",
                "san=ip:127.0.0.1",
                "-storetype",
                "PKCS12",
                "-keystore",
                store.toString(),
                "-storepass",
                new String(PASSWORD))
            .redirectErrorStream(true)
            .start();
    String said = new String(keytool.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, keytool.waitFor(), said);
    KeyStore read = KeyStore.getInstance("PKCS12");
    try (InputStream in = Files.newInputStream(store)) {
      read.load(in, PASSWORD);
    }
    write(certificate, "CERTIFICATE", read.getCertificate("server").getEncoded());
    write(key, "PRIVATE KEY", read.getKey("server", PASSWORD).getEncoded());
    assertTrue(Files.size(key) > 0);
  }

  private static void write(Path file, String what, byte[] content) throws Exception {
    String text = Base64.getMimeEncoder().encodeToString(content);
    Files.writeString(
        file, "-----BEGIN " + what + "-----\n" + text + "\n-----END " + what + "-----\n");
  }
}
