package io.github.keyfence;

/**
 * How checks that are under way at the same time share messages: see {@link
 * KeyfenceClient.Builder#batching}.
 *
 * @param maxChecks how many checks one message carries at most: 1 to 256.
 */
public record BatchingOptions(int maxChecks) {
  /** How many checks one message carries at most, unless said otherwise. */
  public static final int DEFAULT_MAX_CHECKS = 64;

  private static final int LIMIT = 256;

  /** Refuses what the server would refuse. */
  public BatchingOptions {
    if (maxChecks < 1 || maxChecks > LIMIT) {
      throw new IllegalArgumentException(
          "keyfence: maxChecks must be 1 to " + LIMIT + ", not " + maxChecks);
    }
  }

  /** Up to 64 checks a message. */
  public static BatchingOptions defaults() {
    return new BatchingOptions(DEFAULT_MAX_CHECKS);
  }
}
