package io.github.keyfence;

/** A key or a token in plaintext. It is never printed. */
public final class Secret {
  private final String plaintext;

  private Secret(String plaintext) {
    this.plaintext = plaintext;
  }

  /** Wraps a plaintext. */
  public static Secret of(String plaintext) {
    if (plaintext == null) {
      throw new IllegalArgumentException("keyfence: a secret must not be null");
    }
    return new Secret(plaintext);
  }

  /** The plaintext. */
  public String reveal() {
    return plaintext;
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof Secret secret && secret.plaintext.equals(plaintext);
  }

  @Override
  public int hashCode() {
    return plaintext.hashCode();
  }

  @Override
  public String toString() {
    return "(redacted)";
  }
}
