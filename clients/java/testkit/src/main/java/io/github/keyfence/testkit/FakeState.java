package io.github.keyfence.testkit;

import com.google.errorprone.annotations.concurrent.GuardedBy;
import com.google.protobuf.Any;
import com.google.protobuf.Timestamp;
import com.google.rpc.ErrorInfo;
import io.github.keyfence.internal.Addresses;
import io.github.keyfence.v1.CreateKeyRequest;
import io.github.keyfence.v1.CreateKeyResponse;
import io.github.keyfence.v1.Key;
import io.github.keyfence.v1.KeyState;
import io.github.keyfence.v1.Keyspace;
import io.github.keyfence.v1.Lease;
import io.github.keyfence.v1.ListKeysRequest;
import io.github.keyfence.v1.Principal;
import io.github.keyfence.v1.Reason;
import io.github.keyfence.v1.Renew;
import io.github.keyfence.v1.ReportUsesRequest;
import io.github.keyfence.v1.RevisionChanges;
import io.github.keyfence.v1.RevokeKeyRequest;
import io.github.keyfence.v1.Scope;
import io.github.keyfence.v1.SubjectChange;
import io.github.keyfence.v1.SyncResponse;
import io.github.keyfence.v1.UpdateKeyRequest;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.time.Clock;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.UUID;
import java.util.function.Consumer;

/** What the fake knows: keyspaces, keys, holders, and what was asked of it. */
final class FakeState {
  static final String KEY_PREFIX = "kf_live_";
  static final String EPOCH = "1";
  private static final long TTL_SECONDS = 2;

  /** A key and its plaintext. */
  record StoredKey(Key record, String plaintext) {}

  /** Why a key does not pass, scopes aside; the key is null if it is not known. */
  record Judgement(Key key, Reason reason) {}

  private static final class Failure {
    private final String method;
    private final RuntimeException error;
    private int times;

    Failure(String method, RuntimeException error, int times) {
      this.method = method;
      this.error = error;
      this.times = times;
    }
  }

  /** A cache that may answer from memory. */
  static final class HolderStream {
    private final Consumer<SyncResponse> send;
    private long acknowledged;
    private long untilNanos = System.nanoTime();

    private HolderStream(Consumer<SyncResponse> send) {
      this.send = send;
    }
  }

  private final Object lock = new Object();

  @GuardedBy("lock")
  private final Map<String, Keyspace> keyspaces = new LinkedHashMap<>();

  @GuardedBy("lock")
  private final Map<String, StoredKey> keys = new LinkedHashMap<>(); // by key id

  @GuardedBy("lock")
  private final Map<String, String> requests = new HashMap<>(); // request id → key id

  @GuardedBy("lock")
  private final Set<HolderStream> holders = new HashSet<>();

  @GuardedBy("lock")
  private final List<Failure> failures = new ArrayList<>();

  @GuardedBy("lock")
  private final Map<String, Integer> calls = new HashMap<>();

  @GuardedBy("lock")
  private final Map<String, Long> uses = new HashMap<>();

  @GuardedBy("lock")
  private Clock clock = Clock.systemUTC();

  @GuardedBy("lock")
  private long revision;

  FakeState(Collection<Keyspace> declared) {
    synchronized (lock) {
      for (Keyspace keyspace : declared) {
        revision++;
        keyspaces.put(keyspace.getName(), keyspace);
      }
    }
  }

  static RuntimeException error(Status.Code code, String reason, String message) {
    return error(code, reason, message, Map.of());
  }

  static RuntimeException error(
      Status.Code code, String reason, String message, Map<String, String> metadata) {
    ErrorInfo info =
        ErrorInfo.newBuilder()
            .setDomain("keyfence")
            .setReason(reason)
            .putAllMetadata(metadata)
            .build();
    return StatusProto.toStatusRuntimeException(
        com.google.rpc.Status.newBuilder()
            .setCode(code.value())
            .setMessage(message)
            .addDetails(Any.pack(info))
            .build());
  }

  // --- what a test asks and sets ---

  void setClock(Clock other) {
    synchronized (lock) {
      clock = other;
    }
  }

  void failNext(String method, int times, RuntimeException error) {
    synchronized (lock) {
      failures.add(new Failure(method, error, times));
    }
  }

  int calls(String method) {
    synchronized (lock) {
      return calls.getOrDefault(method, 0);
    }
  }

  long uses(String keyId) {
    synchronized (lock) {
      return uses.getOrDefault(keyId, 0L);
    }
  }

  /** Counts a call. Null: it does not fail. */
  RuntimeException admit(String method) {
    synchronized (lock) {
      calls.merge(method, 1, Integer::sum);
      for (Failure one : failures) {
        if (one.method.equals(method) && one.times > 0) {
          one.times--;
          return one.error;
        }
      }
      return null;
    }
  }

  // --- checks ---

  long revision() {
    synchronized (lock) {
      return revision;
    }
  }

  Judgement judge(String apiKey, String keyspace, String clientAddress) {
    synchronized (lock) {
      if (!keyspace.isEmpty()) {
        keyspace(keyspace);
      }
      if (apiKey.isEmpty()) {
        return new Judgement(null, Reason.REASON_CREDENTIAL_MISSING);
      }
      Key key = findByPlaintext(apiKey);
      if (key == null) {
        boolean isWellFormed = apiKey.startsWith(KEY_PREFIX);
        return new Judgement(
            null, isWellFormed ? Reason.REASON_KEY_UNKNOWN : Reason.REASON_CREDENTIAL_MALFORMED);
      }
      if (!keyspace.isEmpty() && !key.getKeyspace().equals(keyspace)) {
        return new Judgement(null, Reason.REASON_KEYSPACE_MISMATCH);
      }
      return new Judgement(key, reason(key, clientAddress));
    }
  }

  @GuardedBy("lock")
  private Reason reason(Key key, String clientAddress) {
    if (key.getState() == KeyState.KEY_STATE_REVOKED) {
      return Reason.REASON_KEY_REVOKED;
    }
    if (key.hasExpireTime()
        && !clock.instant().isBefore(Instant.ofEpochSecond(key.getExpireTime().getSeconds()))) {
      return Reason.REASON_KEY_EXPIRED;
    }
    if (key.getState() == KeyState.KEY_STATE_DISABLED) {
      return Reason.REASON_KEY_DISABLED;
    }
    return isAllowed(key.getAllowedAddressesList(), clientAddress)
        ? Reason.REASON_OK
        : Reason.REASON_ADDRESS_NOT_ALLOWED;
  }

  /** Whether the address is in one of the networks, if there are any. */
  private static boolean isAllowed(List<String> networks, String clientAddress) {
    byte[] address = Addresses.parse(clientAddress);
    return networks.isEmpty()
        || networks.stream()
            .map(Addresses::parseNetwork)
            .anyMatch(network -> network != null && network.contains(address));
  }

  @GuardedBy("lock")
  private Key findByPlaintext(String apiKey) {
    for (StoredKey stored : keys.values()) {
      if (stored.plaintext.equals(apiKey)) {
        return stored.record;
      }
    }
    return null;
  }

  /** The key's record; null if the key is not known. */
  Key find(String apiKey) {
    synchronized (lock) {
      return findByPlaintext(apiKey);
    }
  }

  void requireRegistered(String keyspace, Collection<String> scopes) {
    synchronized (lock) {
      Keyspace declared = keyspaces.get(keyspace);
      for (String scope : scopes) {
        if (declared != null
            && declared.getScopesList().stream().noneMatch(one -> one.getName().equals(scope))) {
          throw error(
              Status.Code.INVALID_ARGUMENT,
              "UNKNOWN_SCOPE",
              "keyspace " + keyspace + " registers no scope " + scope,
              Map.of("scope", scope));
        }
      }
    }
  }

  // --- keyspaces ---

  Keyspace keyspace(String name) {
    synchronized (lock) {
      Keyspace declared = keyspaces.get(name);
      if (declared == null) {
        throw error(Status.Code.NOT_FOUND, "KEYSPACE_NOT_FOUND", "there is no keyspace " + name);
      }
      return declared;
    }
  }

  /** The keyspaces whose names come after this one, in the order of their names. */
  List<Keyspace> keyspacesAfter(String name) {
    synchronized (lock) {
      return keyspaces.values().stream()
          .filter(one -> one.getName().compareTo(name) > 0)
          .sorted(Comparator.comparing(Keyspace::getName))
          .toList();
    }
  }

  void apply(Keyspace declared) {
    synchronized (lock) {
      keyspaces.put(declared.getName(), declared);
      keys.replaceAll(
          (id, stored) ->
              stored.record.getKeyspace().equals(declared.getName())
                  ? new StoredKey(
                      withEffective(stored.record.toBuilder()).build(), stored.plaintext)
                  : stored);
      commit(SubjectChange.newBuilder().setKeyspace(declared.getName()).build());
    }
  }

  // --- keys ---

  CreateKeyResponse createKey(CreateKeyRequest request) {
    synchronized (lock) {
      keyspace(request.getKeyspace());
      String known = requests.get(request.getRequestId());
      if (!request.getRequestId().isEmpty() && known != null) {
        throw error(
            Status.Code.ALREADY_EXISTS,
            "REQUEST_ALREADY_DONE",
            "the request has made a key before",
            Map.of("key_id", known));
      }
      String keyId = "key_" + random();
      String plaintext = KEY_PREFIX + random();
      if (!request.getRequestId().isEmpty()) {
        requests.put(request.getRequestId(), keyId);
      }
      Key.Builder made =
          Key.newBuilder()
              .setKeyId(keyId)
              .setKeyspace(request.getKeyspace())
              .setAccountId(request.getAccountId())
              .setDisplayName(request.getDisplayName())
              .addAllGrantedScopes(request.getScopesList())
              .setState(KeyState.KEY_STATE_ACTIVE)
              .addAllAllowedAddresses(request.getAllowedAddressesList())
              .putAllLabels(request.getLabelsMap())
              .setDisplayPrefix(plaintext.substring(0, KEY_PREFIX.length() + 4))
              .setCreateTime(now());
      if (request.hasExpireTime()) {
        made.setExpireTime(request.getExpireTime());
      }
      keys.put(keyId, new StoredKey(withEffective(made).build(), plaintext));
      Key stored =
          commitKey(keyId, SubjectChange.newBuilder().setKeyId(keyId).setCreated(true).build());
      return CreateKeyResponse.newBuilder()
          .setKey(stored)
          .setApiKey(plaintext)
          .setRevision(stored.getRevision())
          .build();
    }
  }

  private static String random() {
    return UUID.randomUUID().toString().replace("-", "");
  }

  @GuardedBy("lock")
  private Timestamp now() {
    return Timestamp.newBuilder().setSeconds(clock.instant().getEpochSecond()).build();
  }

  Key key(String keyId) {
    synchronized (lock) {
      StoredKey stored = keys.get(keyId);
      if (stored == null) {
        throw error(Status.Code.NOT_FOUND, "KEY_NOT_FOUND", "there is no key " + keyId);
      }
      return stored.record;
    }
  }

  List<Key> list(ListKeysRequest request) {
    synchronized (lock) {
      return keys.values().stream()
          .map(StoredKey::record)
          .filter(
              key ->
                  key.getKeyspace().equals(request.getKeyspace())
                      && (request.getAccountId().isEmpty()
                          || key.getAccountId().equals(request.getAccountId()))
                      && (request.getState() == KeyState.KEY_STATE_UNSPECIFIED
                          || key.getState() == request.getState()))
          .sorted(Comparator.comparingLong(Key::getRevision))
          .toList();
    }
  }

  Key update(UpdateKeyRequest request) {
    synchronized (lock) {
      Key asked = request.getKey();
      Key.Builder changed = key(asked.getKeyId()).toBuilder();
      for (String path : request.getUpdateMask().getPathsList()) {
        switch (path) {
          case "granted_scopes" ->
              changed.clearGrantedScopes().addAllGrantedScopes(asked.getGrantedScopesList());
          case "state" -> changed.setState(asked.getState());
          case "expire_time" -> changed.setExpireTime(asked.getExpireTime());
          case "allowed_addresses" ->
              changed
                  .clearAllowedAddresses()
                  .addAllAllowedAddresses(asked.getAllowedAddressesList());
          case "display_name" -> changed.setDisplayName(asked.getDisplayName());
          case "labels" -> changed.clearLabels().putAllLabels(asked.getLabelsMap());
          default ->
              throw error(
                  Status.Code.INVALID_ARGUMENT,
                  "INVALID_FIELD",
                  "update_mask: the fake does not change " + path);
        }
      }
      return replace(withEffective(changed).build());
    }
  }

  Key revokeKey(RevokeKeyRequest request) {
    synchronized (lock) {
      return replace(
          key(request.getKeyId()).toBuilder()
              .setState(KeyState.KEY_STATE_REVOKED)
              .setRevokeTime(now())
              .build());
    }
  }

  @GuardedBy("lock")
  private Key replace(Key changed) {
    StoredKey before = keys.get(changed.getKeyId());
    keys.put(changed.getKeyId(), new StoredKey(changed, before.plaintext));
    return commitKey(
        changed.getKeyId(), SubjectChange.newBuilder().setKeyId(changed.getKeyId()).build());
  }

  @GuardedBy("lock")
  private Key commitKey(String keyId, SubjectChange change) {
    long at = commit(change);
    StoredKey stored = keys.get(keyId);
    Key record = stored.record.toBuilder().setRevision(at).build();
    keys.put(keyId, new StoredKey(record, stored.plaintext));
    return record;
  }

  /** Fills in the registered scopes that the granted ones come to. */
  @GuardedBy("lock")
  private Key.Builder withEffective(Key.Builder key) {
    Map<String, Scope> declared = new LinkedHashMap<>();
    Keyspace keyspace = keyspaces.get(key.getKeyspace());
    keyspace.getScopesList().forEach(scope -> declared.put(scope.getName(), scope));
    Set<String> held = new TreeSet<>();
    for (String grant : key.getGrantedScopesList()) {
      for (String name : declared.keySet()) {
        boolean covers =
            grant.endsWith("*")
                ? name.startsWith(grant.substring(0, grant.length() - 1))
                : grant.equals(name);
        if (covers) {
          hold(name, declared, held);
        }
      }
    }
    return key.clearEffectiveScopes().addAllEffectiveScopes(held);
  }

  private static void hold(String name, Map<String, Scope> declared, Set<String> held) {
    Scope scope = declared.get(name);
    if (scope != null && held.add(name)) {
      scope.getImpliesList().forEach(implied -> hold(implied, declared, held));
    }
  }

  static Principal principalOf(Key key) {
    Principal.Builder principal =
        Principal.newBuilder()
            .setKeyId(key.getKeyId())
            .setAccountId(key.getAccountId())
            .setKeyspace(key.getKeyspace())
            .setDisplayName(key.getDisplayName())
            .addAllGrantedScopes(key.getGrantedScopesList())
            .addAllEffectiveScopes(key.getEffectiveScopesList())
            .setDisplayPrefix(key.getDisplayPrefix())
            .putAllLabels(key.getLabelsMap());
    if (key.hasExpireTime()) {
      principal.setExpireTime(key.getExpireTime());
    }
    return principal.build();
  }

  // --- holders ---

  HolderStream join(Consumer<SyncResponse> send) {
    synchronized (lock) {
      HolderStream holder = new HolderStream(send);
      holders.add(holder);
      return holder;
    }
  }

  void renew(HolderStream holder, Renew renew) {
    synchronized (lock) {
      holder.acknowledged = Math.max(holder.acknowledged, renew.getAppliedRevision());
      lock.notifyAll();
      if (renew.getNonce() == 0) {
        return;
      }
      holder.untilNanos = System.nanoTime() + TTL_SECONDS * 1_000_000_000;
      holder.send.accept(
          SyncResponse.newBuilder()
              .setLease(
                  Lease.newBuilder()
                      .setNonce(renew.getNonce())
                      .setTtl(com.google.protobuf.Duration.newBuilder().setSeconds(TTL_SECONDS))
                      .setHeadRevision(revision)
                      .setEpoch(EPOCH))
              .build());
    }
  }

  void report(ReportUsesRequest request) {
    synchronized (lock) {
      request.getUsesList().forEach(use -> uses.merge(use.getKeyId(), use.getCount(), Long::sum));
    }
  }

  /**
   * Makes a new revision and returns when every cache has acknowledged it, or has no lease any
   * more. A cache that has left may still answer, until its lease has run out.
   */
  @GuardedBy("lock")
  private long commit(SubjectChange change) {
    long made = ++revision;
    SyncResponse told =
        SyncResponse.newBuilder()
            .setChanges(RevisionChanges.newBuilder().setRevision(made).addChanges(change))
            .build();
    holders.forEach(holder -> holder.send.accept(told));
    try {
      while (isAwaited(made)) {
        lock.wait(10);
      }
    } catch (InterruptedException stop) {
      Thread.currentThread().interrupt();
      throw error(Status.Code.CANCELLED, "INTERNAL", "the fake was stopped");
    }
    return made;
  }

  @GuardedBy("lock")
  private boolean isAwaited(long made) {
    long now = System.nanoTime();
    for (HolderStream holder : holders) {
      if (holder.acknowledged < made && holder.untilNanos - now > 0) {
        return true;
      }
    }
    return false;
  }
}
