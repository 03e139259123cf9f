package io.github.keyfence.testkit;

import io.github.keyfence.KeyfenceClient;
import io.github.keyfence.KeyfenceException;
import io.github.keyfence.Secret;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * A real Keyfence, as a process of its own: "keyfence serve" on a Unix socket, with its data in a
 * folder of its own. The command is the environment's {@code KEYFENCE_COMMAND}, or else "keyfence"
 * on the {@code PATH}.
 */
public final class KeyfenceProcess implements AutoCloseable {
  private static final Duration START = Duration.ofSeconds(60);
  private static final Duration STOP = Duration.ofSeconds(15);
  private static final Duration CHECKS = Duration.ofSeconds(15);

  private final Process process;
  private final Path directory;
  private final String target;
  private final Secret token;

  private KeyfenceProcess(Process process, Path directory, String target, Secret token) {
    this.process = process;
    this.directory = directory;
    this.target = target;
    this.token = token;
  }

  /** Whether there is a command to start. A test may be skipped where there is none. */
  public static boolean isAvailable() {
    String program = command().get(0);
    if (program.indexOf(File.separatorChar) >= 0) {
      return Files.isExecutable(Path.of(program));
    }
    return Stream.of(System.getenv().getOrDefault("PATH", "").split(File.pathSeparator, -1))
        .anyMatch(folder -> Files.isExecutable(Path.of(folder, program)));
  }

  private static List<String> command() {
    String asked = System.getenv().getOrDefault("KEYFENCE_COMMAND", "").strip();
    return asked.isEmpty() ? List.of("keyfence") : List.of(asked.split("\\s+"));
  }

  /**
   * Starts a server and waits until it answers.
   *
   * @param settings environment variables, for example {@code KEYFENCE_LEASE_SECONDS}.
   * @throws IllegalStateException if there is no command, or the server does not answer.
   */
  public static KeyfenceProcess start(Map<String, String> settings) {
    if (!isAvailable()) {
      throw new IllegalStateException(
          "keyfence: no command \""
              + command().get(0)
              + "\"; install keyfence-server or set KEYFENCE_COMMAND");
    }
    try {
      // A socket's path must be short, and the folders of tests are not.
      Path directory = Files.createTempDirectory("kf");
      String target = "unix:" + directory.resolve("keyfence.sock");
      Path data = directory.resolve("data");
      Path log = directory.resolve("log");
      List<String> command = new ArrayList<>(command());
      command.add("serve");
      ProcessBuilder builder =
          new ProcessBuilder(command)
              .directory(directory.toFile())
              .redirectErrorStream(true)
              .redirectOutput(log.toFile());
      builder.environment().keySet().removeIf(name -> name.startsWith("KEYFENCE_"));
      builder.environment().put("KEYFENCE_LISTEN", target);
      builder.environment().put("KEYFENCE_DATA_DIR", data.toString());
      builder.environment().putAll(settings);
      Process process = builder.start();
      try {
        Secret token = awaitToken(process, target, data.resolve("root.key"), log);
        return new KeyfenceProcess(process, directory, target, token);
      } catch (RuntimeException failed) {
        process.destroyForcibly();
        throw failed;
      }
    } catch (IOException failed) {
      throw new UncheckedIOException(failed);
    }
  }

  /** Starts a server with the settings by default. */
  public static KeyfenceProcess start() {
    return start(Map.of());
  }

  private static Secret awaitToken(Process process, String target, Path file, Path log)
      throws IOException {
    long deadline = System.nanoTime() + START.toNanos();
    while (process.isAlive() && System.nanoTime() < deadline) {
      if (Files.exists(file)) {
        String token = Files.readString(file).strip();
        if (!token.isEmpty() && answers(target, token)) {
          return Secret.of(token);
        }
      }
      pause();
    }
    throw new IllegalStateException(
        "keyfence: keyfence serve does not answer:\n" + Files.readString(log));
  }

  private static boolean answers(String target, String token) {
    try (KeyfenceClient client =
        KeyfenceClient.builder(target).token(token).checkTimeout(Duration.ofSeconds(1)).build()) {
      client.whoAmI();
      return true;
    } catch (KeyfenceException notYet) {
      return false;
    }
  }

  private static void pause() {
    try {
      Thread.sleep(20);
    } catch (InterruptedException stop) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException("keyfence: the start was interrupted", stop);
    }
  }

  /** The server's address, for {@link KeyfenceClient#builder(String)}. */
  public String target() {
    return target;
  }

  /** The first operator credential, which may do everything. */
  public Secret token() {
    return token;
  }

  /** The server's process, for example to stop it for a while. */
  public ProcessHandle handle() {
    return process.toHandle();
  }

  /**
   * Begins a client of the server, with its first credential. Its checks may take 15 s, since
   * machines of tests are slow.
   */
  public KeyfenceClient.Builder client() {
    return KeyfenceClient.builder(target).token(token).checkTimeout(CHECKS);
  }

  /** Stops the server and removes its data. */
  @Override
  public void close() {
    process.destroy();
    try {
      if (!process.waitFor(STOP.toSeconds(), TimeUnit.SECONDS)) {
        process.destroyForcibly().waitFor();
      }
    } catch (InterruptedException stop) {
      process.destroyForcibly();
      Thread.currentThread().interrupt();
    }
    try (Stream<Path> files = Files.walk(directory)) {
      files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
    } catch (IOException failed) {
      throw new UncheckedIOException(failed);
    }
  }
}
