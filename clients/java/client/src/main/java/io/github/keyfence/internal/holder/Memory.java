package io.github.keyfence.internal.holder;

import com.google.errorprone.annotations.concurrent.GuardedBy;
import io.github.keyfence.v1.FetchFactsResponse;
import io.github.keyfence.v1.FetchKeyspacesResponse;
import io.github.keyfence.v1.Keyspace;
import io.github.keyfence.v1.RevisionChanges;
import io.github.keyfence.v1.SubjectChange;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.security.SecureRandom;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Remembers facts about at most so many keys, and never decisions. When another key comes, a key
 * goes that was not asked for lately.
 *
 * <p>{@link #find} takes no lock. A key is found by a digest with a secret of this process, so that
 * no plaintext stays in memory.
 */
final class Memory {
  private static final int MAX_KEY_BYTES = 512;

  private record Digest(long high, long low) {}

  /** A key in memory. */
  static final class Entry {
    final Facts facts;
    private final Digest digest;
    private final AtomicLong uses = new AtomicLong();
    // Whether a check has asked for it since its place in the queue last came up.
    private volatile boolean isAskedFor = true;
    private volatile long lastUse;
    private volatile String lastAddress = "";
    // Of the uses, those that were handed over to be reported. Memory's lock guards it.
    private long collected;

    private Entry(Facts facts, Digest digest) {
      this.facts = facts;
      this.digest = digest;
    }

    /** Notes a check that has passed. */
    void use(long now, String clientAddress) {
      lastUse = now;
      if (!lastAddress.equals(clientAddress)) {
        lastAddress = clientAddress;
      }
      uses.incrementAndGet();
    }
  }

  private final int capacity;
  private final Set<Guard> leftOut;
  // Has taken in the secret. It is cloned for each key and never changed.
  private final MessageDigest keyed;
  private final ConcurrentHashMap<Digest, Entry> entries = new ConcurrentHashMap<>();
  private volatile long applied;

  private final Object lock = new Object();

  // The first has waited longest.
  @GuardedBy("lock")
  private final LinkedHashSet<Entry> queue = new LinkedHashSet<>();

  @GuardedBy("lock")
  private final Map<String, Set<Entry>> bySubject = new HashMap<>();

  @GuardedBy("lock")
  private final Map<String, Set<String>> registered = new HashMap<>();

  @GuardedBy("lock")
  private final Set<Fill> fills = new HashSet<>();

  @GuardedBy("lock")
  private final Uses uses = new Uses();

  @GuardedBy("lock")
  private String epoch = "";

  @GuardedBy("lock")
  private long discardedFills;

  @GuardedBy("lock")
  private long resets;

  Memory(int capacity, Set<Guard> leftOut) {
    this.capacity = capacity;
    this.leftOut = leftOut;
    byte[] secret = new byte[16];
    new SecureRandom().nextBytes(secret);
    try {
      keyed = MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException impossible) {
      throw new AssertionError(impossible); // every Java has it
    }
    keyed.update(secret);
  }

  /** The revision up to which every change is applied. */
  long applied() {
    return applied;
  }

  /** What a key is found by; null if the text is too long to be a key. */
  private Digest digest(String apiKey) {
    byte[] text = apiKey.getBytes(StandardCharsets.UTF_8);
    if (text.length > MAX_KEY_BYTES) {
      return null;
    }
    try {
      MessageDigest own = (MessageDigest) keyed.clone();
      ByteBuffer sum = ByteBuffer.wrap(own.digest(text));
      return new Digest(sum.getLong(), sum.getLong());
    } catch (CloneNotSupportedException impossible) {
      throw new AssertionError(impossible); // the JDK's SHA-256 can be cloned
    }
  }

  /** The key's entry; null if the key is not in memory. */
  Entry find(String apiKey) {
    Digest digest = digest(apiKey);
    Entry known = digest == null ? null : entries.get(digest);
    if (known != null && !known.isAskedFor) {
      known.isAskedFor = true;
    }
    return known;
  }

  /** Whether the keyspace is known to register all of the scopes. */
  boolean registers(String keyspace, Collection<String> scopes) {
    synchronized (lock) {
      Set<String> known = registered.get(keyspace);
      return known != null && known.containsAll(scopes);
    }
  }

  /** Called before facts are asked for. Every fill must be ended or dropped. */
  Fill beginFill() {
    synchronized (lock) {
      Fill fill = new Fill(applied, epoch);
      fills.add(fill);
      return fill;
    }
  }

  void dropFill(Fill fill) {
    synchronized (lock) {
      fills.remove(fill);
    }
  }

  /**
   * Remembers facts, unless something has changed that they may not show (rule I5).
   *
   * @return whether checks of the key can be answered now.
   */
  boolean endFill(Fill fill, String apiKey, FetchFactsResponse response) {
    Facts facts = Facts.of(response);
    Digest digest = digest(apiKey);
    synchronized (lock) {
      fills.remove(fill);
      if (facts == null || digest == null) {
        return false;
      }
      if (!leftOut.contains(Guard.DISCARD_OVERTAKEN_FILLS)
          && fill.isOvertaken(response.getRevision(), response.getEpoch(), facts.dependsOn())) {
        discardedFills++;
        return false;
      }
      Entry replaced = entries.get(digest);
      if (replaced != null) {
        drop(replaced);
      }
      Entry added = new Entry(facts, digest);
      queue.add(added);
      for (String subject : facts.dependsOn()) {
        bySubject.computeIfAbsent(subject, any -> new HashSet<>(2)).add(added);
      }
      entries.put(digest, added);
      while (queue.size() > capacity) {
        dropOne();
      }
      return !facts.isCounted();
    }
  }

  /** Remembers which scopes are registered. Says whether that is still so. */
  boolean endKeyspacesFill(Fill fill, FetchKeyspacesResponse response) {
    synchronized (lock) {
      fills.remove(fill);
      if (fill.isOvertakenByAny(response.getRevision(), response.getEpoch())) {
        return false;
      }
      registered.clear();
      for (Keyspace keyspace : response.getKeyspacesList()) {
        register(keyspace.getName(), scopesOf(keyspace));
      }
      return true;
    }
  }

  void register(String keyspace, Set<String> scopes) {
    synchronized (lock) {
      registered.put(keyspace, scopes);
    }
  }

  private static Set<String> scopesOf(Keyspace keyspace) {
    Set<String> scopes = new HashSet<>();
    keyspace.getScopesList().forEach(scope -> scopes.add(scope.getName()));
    keyspace
        .getResourcesList()
        .forEach(
            resource ->
                resource
                    .getLevelsList()
                    .forEach(level -> scopes.add(resource.getName() + ":" + level.getName())));
    return scopes;
  }

  /** Forgets what a revision changed. Says whether the keyspaces must be fetched again. */
  boolean apply(RevisionChanges changes) {
    synchronized (lock) {
      boolean anyKeyspace = false;
      for (SubjectChange one : changes.getChangesList()) {
        String subject = Facts.subjectOf(one);
        if (subject == null) {
          if (leftOut.contains(Guard.FORGET_UNKNOWN_CHANGES)) {
            continue;
          }
          // What it is about cannot be told (rule I8), so nothing that is remembered counts.
          forget();
          anyKeyspace = true;
          break;
        }
        fills.forEach(fill -> fill.note(changes.getRevision(), subject));
        if (one.hasKeyspace()) {
          anyKeyspace = true;
          registered.remove(one.getKeyspace());
        }
        List.copyOf(bySubject.getOrDefault(subject, Set.of())).forEach(this::drop);
      }
      applied = changes.getRevision();
      return anyKeyspace;
    }
  }

  /** Starts anew, from this revision of this epoch on. */
  void forgetEverything(long head, String newEpoch) {
    synchronized (lock) {
      if (!epoch.isEmpty()) {
        resets++;
      }
      forget();
      applied = head;
      epoch = newEpoch;
    }
  }

  @GuardedBy("lock")
  private void forget() {
    List.copyOf(queue).forEach(this::drop);
    registered.clear();
    fills.forEach(Fill::makeVoid);
  }

  @GuardedBy("lock")
  private void dropOne() {
    while (true) {
      Entry oldest = queue.iterator().next();
      if (!oldest.isAskedFor) {
        drop(oldest);
        return;
      }
      oldest.isAskedFor = false;
      queue.remove(oldest);
      queue.add(oldest);
    }
  }

  @GuardedBy("lock")
  private void drop(Entry known) {
    entries.remove(known.digest);
    queue.remove(known);
    for (String subject : known.facts.dependsOn()) {
      Set<Entry> dependent = bySubject.get(subject);
      if (dependent != null && dependent.remove(known) && dependent.isEmpty()) {
        bySubject.remove(subject);
      }
    }
    collect(known);
  }

  @GuardedBy("lock")
  private void collect(Entry known) {
    long count = known.uses.get() - known.collected;
    if (count == 0) {
      return;
    }
    known.collected += count;
    uses.note(
        new Uses.Use(known.facts.principal().getKeyId(), known.lastUse, known.lastAddress, count));
  }

  /** Hands over how keys were used since this was last called, to be reported. */
  List<Uses.Use> takeUses() {
    synchronized (lock) {
      queue.forEach(this::collect);
      return uses.take();
    }
  }

  void putBackUses(Collection<Uses.Use> taken) {
    synchronized (lock) {
      taken.forEach(uses::add);
    }
  }

  /** What {@link HolderStatus} tells of memory. */
  record Counts(int keys, long passed, long discardedFills, long resets) {}

  Counts counts() {
    synchronized (lock) {
      long passed = uses.total();
      for (Entry known : queue) {
        passed += known.uses.get() - known.collected;
      }
      return new Counts(queue.size(), passed, discardedFills, resets);
    }
  }
}
