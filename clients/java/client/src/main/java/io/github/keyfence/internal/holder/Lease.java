package io.github.keyfence.internal.holder;

import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Set;

/**
 * A holder's right to answer from memory: how long it lasts and what it depends on (rules I2 and I6
 * of docs/fence.md). It does no I/O and reads no clock.
 *
 * <p>Its methods are called by one thread at a time, except {@link #isLive} and {@link #until},
 * which checks call. The other methods publish the lease's end for them, after memory is as it must
 * be.
 */
final class Lease {
  private static final int MAX_PENDING = 16;
  private static final int MAX_GRANTS = 16;
  private static final Span NO_SPAN = new Span(Moment.NEVER, Moment.NEVER);

  /** From when a lease counts, and when it ends. */
  private record Span(Moment sent, Moment until) {}

  private record Grant(Span span, long head) {}

  private record Request(long nonce, Moment sent, long applied) {}

  private final Set<Guard> leftOut;
  private final ArrayDeque<Request> pending = new ArrayDeque<>();
  private final List<Grant> grants = new ArrayList<>();
  private long nextNonce = 1;
  private long applied;
  private String epoch = "";
  private boolean hasStarted;
  private volatile Span current = NO_SPAN;

  Lease(Set<Guard> leftOut) {
    this.leftOut = leftOut;
  }

  /** The revision up to which every change is applied; 0 before the first grant. */
  long applied() {
    return applied;
  }

  /** Whether a first grant has told from which revision on changes are followed. */
  boolean hasStarted() {
    return hasStarted;
  }

  /**
   * Whether the holder may answer from memory.
   *
   * @param now read for this very answer, after the question came.
   */
  boolean isLive(Moment now) {
    Span span = current;
    // A wall clock that was set back ends the lease, too.
    return now.isBefore(span.until) && now.wall() >= span.sent.wall();
  }

  /** When the right to answer ends. */
  Moment until() {
    return current.until;
  }

  /**
   * Begins a renewal.
   *
   * @param now read before the renewal is sent: a grant can lie in a buffer for any time, so it is
   *     counted from there.
   * @return the nonce to send.
   */
  long request(Moment now) {
    long nonce = nextNonce++;
    pending.addLast(new Request(nonce, now, applied));
    if (pending.size() > MAX_PENDING) {
      pending.removeFirst();
    }
    return nonce;
  }

  /**
   * Takes note of a grant. One that was not asked for, or comes for the second time, is ignored.
   *
   * @param ttl how long the grant lasts, counted from when its renewal was sent.
   * @param forget called before anything can be answered under the grant, if what is remembered
   *     does not count any more: this is the first grant, or one of another epoch, or of a head
   *     that lies behind what had been applied when the grant was asked for.
   */
  void grant(
      Moment now, long nonce, Duration ttl, long head, String grantedEpoch, Runnable forget) {
    Request asked = takePending(nonce);
    if (asked == null) {
      return;
    }
    boolean isOtherEpoch =
        !grantedEpoch.equals(epoch) && !leftOut.contains(Guard.FORGET_OTHER_EPOCH);
    if (!hasStarted || isOtherEpoch || head < asked.applied) {
      // With an empty memory every change up to the head is as good as applied.
      grants.clear();
      current = NO_SPAN;
      applied = head;
      epoch = grantedEpoch;
      hasStarted = true;
      forget.run();
    }
    Moment sent = leftOut.contains(Guard.COUNT_FROM_SENDING) ? now : asked.sent;
    grants.add(new Grant(new Span(sent, sent.plus(ttl)), head));
    extendUntil();
  }

  private Request takePending(long nonce) {
    for (Iterator<Request> each = pending.iterator(); each.hasNext(); ) {
      Request one = each.next();
      if (one.nonce == nonce) {
        each.remove();
        return one;
      }
    }
    return null;
  }

  /** Takes note that every change up to a revision has been applied, without a gap. */
  void advanceTo(long revision) {
    if (hasStarted && revision > applied) {
      applied = revision;
      extendUntil();
    }
  }

  /**
   * Gives up every grant, and those that were asked for. The holder must then forget what it
   * remembers; the next grant starts it anew.
   */
  void abandon() {
    pending.clear();
    grants.clear();
    current = NO_SPAN;
    applied = 0;
    epoch = "";
    hasStarted = false;
  }

  private void extendUntil() {
    Span best = current;
    for (Iterator<Grant> each = grants.iterator(); each.hasNext(); ) {
      Grant one = each.next();
      if (one.head > applied && !leftOut.contains(Guard.WAIT_FOR_HEAD)) {
        continue;
      }
      each.remove();
      // Both clocks of one grant count together: a mixture of two grants could outlast both.
      if (one.span.until.monotonic() > best.until.monotonic()) {
        best = one.span;
      }
    }
    while (grants.size() > MAX_GRANTS) {
      grants.remove(0);
    }
    current = best;
  }
}
