package io.github.keyfence;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.Objects;
import java.util.function.Supplier;

/** Where the client's own credential comes from. */
final class Tokens {
  private Tokens() {}

  static Supplier<Secret> fixed(Secret token) {
    checked(token.reveal());
    return () -> token;
  }

  /** Says what is wrong with a token, without showing it. */
  static String checked(String token) {
    if (token.isEmpty()) {
      throw new IllegalArgumentException("keyfence: the token is empty");
    }
    if (!token.chars().allMatch(letter -> letter > ' ' && letter <= '~')) {
      throw new IllegalArgumentException(
          "keyfence: the token must be printable ASCII without spaces");
    }
    return token;
  }

  static Supplier<Secret> file(Path path) {
    return new TokenFile(path);
  }

  /** Reads a file once for each of its versions. */
  private static final class TokenFile implements Supplier<Secret> {
    private record Version(Object fileKey, Object modified, long size) {}

    private final Path path;
    private Version seen;
    private Secret token;

    TokenFile(Path path) {
      this.path = path;
    }

    @Override
    public synchronized Secret get() {
      try {
        BasicFileAttributes now = Files.readAttributes(path, BasicFileAttributes.class);
        // A replaced file is another file, even where its times were copied.
        Version version = new Version(now.fileKey(), now.lastModifiedTime(), now.size());
        if (!Objects.equals(version, seen)) {
          token = Secret.of(checked(Files.readString(path).strip()));
          seen = version;
        }
        return token;
      } catch (IOException | IllegalArgumentException failed) {
        // The path may be the token itself, given in the wrong place: without a slash, and long.
        String text = path.toString();
        boolean isShown = path.getNameCount() > 1 || text.length() < Target.SHORTEST_TOKEN;
        String cause =
            failed instanceof IllegalArgumentException
                ? failed.getMessage()
                : failed.getClass().getSimpleName();
        throw new IllegalStateException(
            "keyfence: the token file " + (isShown ? text + " " : "") + "cannot be read: " + cause);
      }
    }
  }
}
