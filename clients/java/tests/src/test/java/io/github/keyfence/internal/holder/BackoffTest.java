package io.github.keyfence.internal.holder;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.rpc.Code;
import com.google.rpc.ErrorInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** How long a holder waits between two streams. */
final class BackoffTest {
  private static final int TRIES = 200;
  private static final Duration SEVEN_SECONDS = Duration.ofSeconds(7);

  private final Backoff backoff = new Backoff();

  private static void assertWithin(Supplier<Duration> pause, long leastMillis, long mostMillis) {
    List<Duration> pauses = Stream.generate(pause).limit(TRIES).sorted().toList();
    Duration shortest = pauses.get(0);
    Duration longest = pauses.get(TRIES - 1);
    assertTrue(shortest.compareTo(Duration.ofMillis(leastMillis)) >= 0, shortest::toString);
    assertTrue(longest.compareTo(Duration.ofMillis(mostMillis)) <= 0, longest::toString);
    assertNotEquals(shortest, longest, "pauses are random");
  }

  @Test
  void pausesAreLongerAfterEachFailureAndShortAfterALease() {
    for (long longest : new long[] {100, 200, 400, 800, 1_000, 1_000}) {
      long pause = backoff.pauseAfter(false, Duration.ZERO).toMillis();
      assertTrue(pause >= longest / 2 && pause <= longest, pause + " of " + longest);
    }
    backoff.reset();
    assertTrue(backoff.pauseAfter(false, Duration.ZERO).toMillis() <= 100);
  }

  @Test
  void pausesAreLongAfterARefusal() {
    assertWithin(() -> backoff.pauseAfter(true, Duration.ZERO), 2_500, 5_000);
    assertTrue(backoff.pauseAfter(false, Duration.ZERO).toMillis() <= 1_000);
  }

  @Test
  void aPauseIsNeverShorterThanTheServerAsks() {
    assertWithin(() -> backoff.pauseAfter(false, SEVEN_SECONDS), 7_000, 10_500);
    assertWithin(() -> backoff.pauseAfter(true, SEVEN_SECONDS), 7_000, 10_500);
    assertWithin(() -> backoff.pauseAfter(true, Duration.ofMillis(1)), 2_500, 5_000);
  }

  @Test
  void whatAServerAsksForIsReadFromItsError() {
    assertEquals(SEVEN_SECONDS, asked("7"));
    assertEquals(Duration.ofMillis(500), asked("0.5"));
    assertEquals(Duration.ofMinutes(1), asked("86400"));
    assertEquals(Duration.ofMinutes(1), asked("Infinity"));
    for (String none : List.of("-1", "soon", "NaN", "")) {
      assertEquals(Duration.ZERO, asked(none), none);
    }
    SyncStream.End gone = SyncStream.read(Status.UNAVAILABLE, new Metadata());
    assertEquals(new SyncStream.End(Status.Code.UNAVAILABLE, "", Duration.ZERO), gone);
  }

  private static Duration asked(String seconds) {
    ErrorInfo info =
        ErrorInfo.newBuilder()
            .setDomain("keyfence")
            .setReason("LIMIT_REACHED")
            .putMetadata("retry_after_seconds", seconds)
            .build();
    StatusRuntimeException refusal =
        StatusProto.toStatusRuntimeException(
            com.google.rpc.Status.newBuilder()
                .setCode(Code.RESOURCE_EXHAUSTED_VALUE)
                .setMessage("later")
                .addDetails(Any.pack(info))
                .build());
    SyncStream.End end = SyncStream.read(refusal.getStatus(), refusal.getTrailers());
    assertEquals("RESOURCE_EXHAUSTED LIMIT_REACHED", end.cause());
    return end.retryAfter();
  }
}
