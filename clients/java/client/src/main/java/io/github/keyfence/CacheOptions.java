package io.github.keyfence;

/**
 * How checks are answered from memory: see {@link KeyfenceClient.Builder#cache}.
 *
 * @param maxKeys how many keys to remember, those that were asked for lately: at least 1.
 */
public record CacheOptions(int maxKeys) {
  /** How many keys a cache remembers, unless said otherwise. */
  public static final int DEFAULT_MAX_KEYS = 10_000;

  /** Refuses fewer than one key. */
  public CacheOptions {
    if (maxKeys < 1) {
      throw new IllegalArgumentException("keyfence: maxKeys must be at least 1, not " + maxKeys);
    }
  }

  /** A cache of 10,000 keys. */
  public static CacheOptions defaults() {
    return new CacheOptions(DEFAULT_MAX_KEYS);
  }
}
