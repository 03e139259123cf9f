package io.github.keyfence.internal.holder;

import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;

/**
 * Says how long to wait before the next connection or stream: longer after each failure, and for a
 * random time, so that clients do not come together.
 */
public final class Backoff {
  private static final Duration FIRST = Duration.ofMillis(100);
  private static final Duration LAST = Duration.ofSeconds(1);
  // A refusal lasts until an operator has changed something.
  private static final Duration REFUSED = Duration.ofSeconds(5);
  // What a server may ask a holder to wait.
  private static final double LONGEST_RETRY_AFTER_SECONDS = 60;

  private Duration next = FIRST;

  /** A connection was made, or a lease granted. */
  public void reset() {
    next = FIRST;
  }

  /**
   * How long to wait from now on, since a stream has ended or no connection was made.
   *
   * @param isRefused whether the server does not accept the holder's credential.
   * @param retryAfter how long the server asks to be left alone; zero if it does not ask.
   */
  public Duration pauseAfter(boolean isRefused, Duration retryAfter) {
    Duration longest = isRefused ? REFUSED : next;
    Duration doubled = longest.multipliedBy(2);
    next = doubled.compareTo(LAST) < 0 ? doubled : LAST;
    double part = ThreadLocalRandom.current().nextDouble(0.5, 1);
    Duration own = times(longest, part);
    Duration asked = times(retryAfter, 0.5 + part);
    return own.compareTo(asked) > 0 ? own : asked;
  }

  /** Reads how long a server asks to be left alone; zero if that is no positive number. */
  static Duration retryAfter(String seconds) {
    double asked;
    try {
      asked = Double.parseDouble(seconds);
    } catch (NumberFormatException none) {
      return Duration.ZERO;
    }
    return asked > 0
        ? times(Duration.ofSeconds(1), Math.min(asked, LONGEST_RETRY_AFTER_SECONDS))
        : Duration.ZERO;
  }

  private static Duration times(Duration duration, double factor) {
    return Duration.ofNanos((long) (duration.toNanos() * factor));
  }
}
