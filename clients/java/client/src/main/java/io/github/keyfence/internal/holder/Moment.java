package io.github.keyfence.internal.holder;

import java.time.Duration;
import java.time.Instant;

/**
 * A moment on the two clocks that leases are counted by, in nanoseconds. The monotonic clock of
 * Java does not count the time for which the machine sleeps; the wall clock does. The wall clock
 * can be set back; the monotonic clock bounds what that would stretch. A lease ends when either of
 * them says so (docs/holder-protocol.md, "Clocks"). What stays open is a machine that sleeps while
 * its wall clock is set back by the length of the sleep.
 *
 * @param monotonic a reading of {@link System#nanoTime}.
 * @param wall nanoseconds since the epoch.
 */
public record Moment(long monotonic, long wall) {
  /** A moment that no clock shows. */
  static final Moment NEVER = new Moment(Long.MIN_VALUE / 2, Long.MIN_VALUE / 2);

  /** Reads both clocks. */
  public static Moment now() {
    return new Moment(System.nanoTime(), nanos(Instant.now()));
  }

  /** The same moment on the wall clock, in nanoseconds since the epoch. */
  static long nanos(Instant instant) {
    return instant.getEpochSecond() * 1_000_000_000 + instant.getNano();
  }

  Moment plus(Duration duration) {
    long nanos = duration.toNanos();
    return new Moment(monotonic + nanos, wall + nanos);
  }

  /** Whether the moment comes before another one by every clock. */
  boolean isBefore(Moment other) {
    return monotonic < other.monotonic && wall < other.wall;
  }

  /** The time that is left until another moment, by the clock that leaves the least. */
  Duration until(Moment other) {
    return Duration.ofNanos(Math.min(other.monotonic - monotonic, other.wall - wall));
  }
}
