package io.github.keyfence.internal.holder;

import com.google.errorprone.annotations.concurrent.GuardedBy;
import io.github.keyfence.v1.FetchFactsRequest;
import io.github.keyfence.v1.FetchFactsResponse;
import io.github.keyfence.v1.FetchKeyspacesResponse;
import io.github.keyfence.v1.Reason;
import io.github.keyfence.v1.Renew;
import io.github.keyfence.v1.RevisionChanges;
import io.github.keyfence.v1.SyncResponse;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Set;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.Supplier;

/**
 * A holder without threads, connections and clocks: what it makes of what its grantor says, and
 * what it answers. The conformance driver speaks to it, and so does {@link Holder}.
 *
 * <p>All of it is safe for concurrent use, but the stream's messages must be taken in their order.
 */
public final class Core {
  private static final int RENEWALS_PER_LEASE = 3; // unless the grantor says when to renew
  private static final Duration FIRST_INTERVAL = Duration.ofMillis(500);
  // What is left of a lease can be very little, and asking without a pause brings no more.
  private static final Duration SHORTEST_INTERVAL = Duration.ofMillis(100);
  // Without an answer for as long as a lease lasts, a stream is given up.
  private static final Duration LEAST_PATIENCE = Duration.ofSeconds(1);

  final Memory memory;
  private final Set<Guard> leftOut;
  private final Supplier<Moment> clock;
  private final Supplier<Instant> wall;
  private final LongAdder denials = new LongAdder();
  private final Lease lease; // isLive and until need no lock
  private final Object lock = new Object(); // checks do not take it

  @GuardedBy("lock")
  private long told;

  @GuardedBy("lock")
  private long heard;

  @GuardedBy("lock")
  private Duration interval = FIRST_INTERVAL;

  @GuardedBy("lock")
  private Duration patience = LEAST_PATIENCE;

  /**
   * A holder that remembers nothing and has no lease.
   *
   * @param leftOut the guards to leave out, in a test.
   * @param clock reads the clocks that leases are counted by.
   * @param wall reads the clock that keys expire by.
   */
  public Core(int maxKeys, Set<Guard> leftOut, Supplier<Moment> clock, Supplier<Instant> wall) {
    this.memory = new Memory(maxKeys, leftOut);
    this.lease = new Lease(leftOut);
    this.leftOut = leftOut;
    this.clock = clock;
    this.wall = wall;
  }

  /**
   * Called when a grantor has let the holder in, before anything is said on the stream: what was
   * granted and remembered is given up, so that the grantor need not wait for it.
   */
  public void begin() {
    synchronized (lock) {
      told = 0;
      heard = 0;
      interval = FIRST_INTERVAL;
      patience = LEAST_PATIENCE;
      if (!leftOut.contains(Guard.FORGET_ON_NEW_STREAM)) {
        giveUp();
      }
    }
  }

  /** Gives up the lease and everything that is remembered. */
  public void abandon() {
    synchronized (lock) {
      giveUp();
    }
  }

  @GuardedBy("lock")
  private void giveUp() {
    lease.abandon();
    memory.forgetEverything(0, "");
  }

  /** The next request for a lease, to be sent after this returns. */
  public Renew renewal() {
    synchronized (lock) {
      long nonce = lease.request(clock.get());
      return Renew.newBuilder().setNonce(nonce).setAppliedRevision(acknowledged()).build();
    }
  }

  /** What there is to acknowledge; null if it was told before. */
  public Renew acknowledgement() {
    synchronized (lock) {
      long applied = acknowledged();
      if (applied <= told) {
        return null;
      }
      told = applied;
      return Renew.newBuilder().setAppliedRevision(applied).build();
    }
  }

  @GuardedBy("lock")
  private long acknowledged() {
    if (!lease.hasStarted()) {
      return 0;
    }
    return leftOut.contains(Guard.APPLY_BEFORE_ACK)
        ? Math.max(heard, lease.applied())
        : lease.applied();
  }

  /**
   * Does what the grantor says.
   *
   * @return whether the keyspaces must be fetched again.
   * @throws StreamBrokenException if the stream must be given up.
   */
  public boolean take(SyncResponse message) throws StreamBrokenException {
    synchronized (lock) {
      if (message.hasEnd()) {
        // The grantor takes every lease back: what is remembered goes before it is told so.
        giveUp();
        return false;
      }
      if (message.hasChanges()) {
        return takeChanges(message.getChanges());
      }
      return message.hasLease() && takeLease(message.getLease());
    }
  }

  @GuardedBy("lock")
  private boolean takeLease(io.github.keyfence.v1.Lease granted) {
    if (!grantsTime(granted)) {
      return false;
    }
    Duration ttl = durationOf(granted.getTtl());
    heard = Math.max(heard, granted.getHeadRevision());
    boolean[] hasForgotten = {false};
    lease.grant(
        clock.get(),
        granted.getNonce(),
        ttl,
        granted.getHeadRevision(),
        granted.getEpoch(),
        () -> {
          memory.forgetEverything(granted.getHeadRevision(), granted.getEpoch());
          hasForgotten[0] = true;
        });
    Duration renewAfter = durationOf(granted.getRenewAfter());
    interval = renewAfter.isZero() ? ttl.dividedBy(RENEWALS_PER_LEASE) : renewAfter;
    interval = interval.compareTo(SHORTEST_INTERVAL) < 0 ? SHORTEST_INTERVAL : interval;
    patience = ttl.compareTo(LEAST_PATIENCE) < 0 ? LEAST_PATIENCE : ttl;
    return hasForgotten[0];
  }

  /** Whether a lease is one: a grantor that has none of its own says zero. */
  static boolean grantsTime(io.github.keyfence.v1.Lease granted) {
    Duration ttl = durationOf(granted.getTtl());
    return !ttl.isZero() && !ttl.isNegative();
  }

  private static Duration durationOf(com.google.protobuf.Duration told) {
    return Duration.ofSeconds(told.getSeconds(), told.getNanos());
  }

  @GuardedBy("lock")
  private boolean takeChanges(RevisionChanges changes) throws StreamBrokenException {
    long applied = lease.applied();
    if (!lease.hasStarted() || changes.getRevision() <= applied) {
      // Before the first lease there is nothing to forget, and its head has them all.
      return false;
    }
    long first =
        changes.getFirstRevision() == 0 ? changes.getRevision() : changes.getFirstRevision();
    if (first > applied + 1 && !leftOut.contains(Guard.REFUSE_GAPS)) {
      throw new StreamBrokenException(
          "revision " + first + " came after " + applied + ": some are missing");
    }
    heard = Math.max(heard, changes.getRevision());
    boolean anyKeyspace = memory.apply(changes);
    lease.advanceTo(changes.getRevision());
    return anyKeyspace;
  }

  /** How long to wait between renewals. */
  Duration interval() {
    synchronized (lock) {
      return interval;
    }
  }

  /** How long to wait for an answer to any renewal. */
  Duration patience() {
    synchronized (lock) {
      return patience;
    }
  }

  /** Answers a check from memory; null if the server must be asked. */
  public Answer answer(Question question) {
    // Read before the entry, which is then at least as new, whatever is applied meanwhile.
    long revision = memory.applied();
    // The clock is read for this very answer, after the question came (rule I2).
    if (question.atLeastRevision() > revision || !lease.isLive(clock.get())) {
      return null;
    }
    Memory.Entry known = memory.find(question.apiKey());
    if (known == null || known.facts.isCounted()) {
      return null;
    }
    Facts facts = known.facts;
    String keyspace = facts.principal().getKeyspace();
    if (!question.keyspace().isEmpty() && !question.keyspace().equals(keyspace)) {
      return null;
    }
    List<String> missing = facts.missing(question.requiredScopes());
    if (!missing.isEmpty() && !memory.registers(keyspace, missing)) {
      // Whether these scopes exist at all, the server knows.
      return null;
    }
    long now = Moment.nanos(wall.get());
    Reason reason = facts.reason(now, question.clientAddress());
    if (reason == null) {
      return null;
    }
    if (reason == Reason.REASON_OK && !missing.isEmpty()) {
      reason = Reason.REASON_SCOPE_MISSING;
    }
    if (reason == Reason.REASON_OK) {
      known.use(now, question.clientAddress());
    } else {
      denials.increment();
    }
    boolean lacksScopes = reason == Reason.REASON_SCOPE_MISSING;
    return new Answer(reason, lacksScopes ? missing : List.of(), facts.principal(), revision);
  }

  /** Begins to ask for what is known of a key; null if to ask would not help. */
  public Fill beginFill(String apiKey) {
    if (apiKey.isEmpty() || !lease.isLive(clock.get()) || memory.find(apiKey) != null) {
      return null;
    }
    return memory.beginFill();
  }

  /** What the server must be asked. */
  public static FetchFactsRequest request(Fill fill, String apiKey) {
    return FetchFactsRequest.newBuilder()
        .setApiKey(apiKey)
        .setAtLeastRevision(fill.startedAt())
        .build();
  }

  /** Takes the server's answer. Says whether the check can be answered now. */
  public boolean endFill(Fill fill, String apiKey, FetchFactsResponse response) {
    return memory.endFill(fill, apiKey, response);
  }

  /** The server has not answered. */
  public void dropFill(Fill fill) {
    memory.dropFill(fill);
  }

  Fill beginKeyspacesFill() {
    return memory.beginFill();
  }

  boolean endKeyspacesFill(Fill fill, FetchKeyspacesResponse response) {
    return memory.endKeyspacesFill(fill, response);
  }

  /** How the holder is doing. */
  public HolderStatus status() {
    Duration left = clock.get().until(lease.until());
    boolean live = lease.isLive(clock.get());
    Memory.Counts counts = memory.counts();
    return new HolderStatus(
        live,
        live ? left : Duration.ZERO,
        memory.applied(),
        counts.keys(),
        counts.passed() + denials.sum(),
        counts.discardedFills(),
        counts.resets());
  }
}
