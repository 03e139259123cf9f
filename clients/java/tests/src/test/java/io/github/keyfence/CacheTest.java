package io.github.keyfence;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.keyfence.testkit.FakeKeyfence;
import io.github.keyfence.testkit.KeyfenceProcess;
import io.github.keyfence.v1.ApplyKeyspaceRequest;
import io.github.keyfence.v1.AuthorizationServiceGrpc;
import io.github.keyfence.v1.CreateKeyRequest;
import io.github.keyfence.v1.CreateKeyResponse;
import io.github.keyfence.v1.Reason;
import io.github.keyfence.v1.ReplicationServiceGrpc;
import io.github.keyfence.v1.RevokeKeyRequest;
import io.grpc.Status;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.BooleanSupplier;
import java.util.logging.Filter;
import java.util.logging.Logger;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

final class CacheTest {
  private static final int PATIENCE_SECONDS = 30;

  // "demo" is not on the first page of the keyspaces.
  private final FakeKeyfence server =
      FakeKeyfence.start(
          FakeKeyfence.keyspace("another", "a:b"),
          FakeKeyfence.keyspace("demo", "vps:read", "vps:write"));

  @AfterEach
  void stop() {
    server.close();
  }

  private static void await(String what, BooleanSupplier isTrue) {
    long deadline = System.nanoTime() + PATIENCE_SECONDS * 1_000_000_000L;
    while (!isTrue.getAsBoolean()) {
      assertTrue(System.nanoTime() < deadline, "not within the time: " + what);
      try {
        Thread.sleep(5);
      } catch (InterruptedException stop) {
        throw new AssertionError(stop);
      }
    }
  }

  private static CacheStatus status(KeyfenceClient client) {
    return client.cacheStatus().orElseThrow();
  }

  /** Wakes the cache. The token may not suffice for the server's own answer. */
  private static void ask(KeyfenceClient client) {
    try {
      client.authenticate(Check.of("kf_live_unknown"));
    } catch (KeyfenceException unanswered) {
      assertFalse(unanswered.getMessage().isEmpty());
    }
  }

  private static KeyfenceClient live(KeyfenceClient.Builder builder) {
    KeyfenceClient client = builder.cache(CacheOptions.defaults()).build();
    await(
        "the cache has a lease",
        () -> {
          ask(client);
          return status(client).isLive();
        });
    return client;
  }

  @Test
  void aKnownKeyIsAnsweredFromMemoryUntilItIsRevoked() {
    try (KeyfenceClient client = live(server.client())) {
      FakeKeyfence.MadeKey key = server.createKey("demo", "vps:read");
      Check check = Check.of(key.apiKey(), "vps:read").inKeyspace("demo");
      for (int count = 0; count < 10; count++) {
        assertTrue(client.checkScope(check).isAllowed());
      }
      assertEquals(0, server.calls(AuthorizationServiceGrpc.getCheckScopeMethod()));
      assertEquals(10, status(client).hits());
      await(
          "the cache knows which scopes are registered",
          () -> {
            int before = server.calls(AuthorizationServiceGrpc.getCheckScopeMethod());
            Verdict poor = client.checkScope(Check.of(key.apiKey(), "vps:write"));
            assertEquals(Reason.REASON_SCOPE_MISSING, poor.reason());
            return server.calls(AuthorizationServiceGrpc.getCheckScopeMethod()) == before;
          });

      server.revokeKey(key.keyId());

      assertEquals(Reason.REASON_KEY_REVOKED, client.checkScope(check).reason());
    }
  }

  @Test
  void noCheckThatBeginsAfterARevocationPasses() {
    try (KeyfenceClient client = live(server.client())) {
      for (int round = 0; round < 20; round++) {
        FakeKeyfence.MadeKey key = server.createKey("demo", "vps:read");
        long before = status(client).hits();
        AtomicBoolean isRevoked = new AtomicBoolean();
        AtomicBoolean isStale = new AtomicBoolean();
        AtomicBoolean isDone = new AtomicBoolean();
        List<CompletableFuture<Void>> checking = new ArrayList<>();
        for (int thread = 0; thread < 4; thread++) {
          checking.add(
              CompletableFuture.runAsync(
                  () -> {
                    while (!isDone.get()) {
                      boolean wasRevoked = isRevoked.get();
                      Verdict verdict = client.checkScope(Check.of(key.apiKey(), "vps:read"));
                      if (wasRevoked && verdict.isAllowed()) {
                        isStale.set(true);
                      }
                    }
                  }));
        }
        await("the key is in memory", () -> status(client).hits() > before + 10);
        server.revokeKey(key.keyId());
        isRevoked.set(true);
        assertFalse(client.checkScope(Check.of(key.apiKey(), "vps:read")).isAllowed());
        isDone.set(true);
        checking.forEach(CompletableFuture::join);
        assertFalse(isStale.get());
      }
    }
  }

  @Test
  void usesAreReportedWhenTheClientCloses() {
    FakeKeyfence.MadeKey key = server.createKey("demo", "vps:read");
    try (KeyfenceClient client = live(server.client())) {
      for (int count = 0; count < 7; count++) {
        client.checkScope(Check.of(key.apiKey(), "vps:read").fromAddress("10.0.0.1"));
      }
      assertEquals(7, status(client).hits());
    }
    assertEquals(7, server.uses(key.keyId()));
  }

  @Test
  void withoutALeaseTheServerIsAsked() {
    server.failNext(
        ReplicationServiceGrpc.getSyncMethod(),
        100,
        FakeKeyfence.error(Status.Code.PERMISSION_DENIED, "SCOPE_REQUIRED", "no"));
    FakeKeyfence.MadeKey key = server.createKey("demo", "vps:read");
    try (KeyfenceClient client = server.client().cache(CacheOptions.defaults()).build()) {
      for (int count = 0; count < 5; count++) {
        assertTrue(client.checkScope(Check.of(key.apiKey(), "vps:read")).isAllowed());
      }
      assertEquals(5, server.calls(AuthorizationServiceGrpc.getCheckScopeMethod()));
      assertFalse(status(client).isLive());
    }
  }

  @Test
  void aServerThatAsksToBeLeftAloneIs() {
    server.failNext(
        ReplicationServiceGrpc.getSyncMethod(),
        1,
        FakeKeyfence.error(
            Status.Code.RESOURCE_EXHAUSTED,
            "LIMIT_REACHED",
            "later",
            Map.of("retry_after_seconds", "7")));
    Pattern told =
        Pattern.compile("cache_out_of_step cause=RESOURCE_EXHAUSTED LIMIT_REACHED pause_ms=(\\d+)");
    List<Long> pauses = new CopyOnWriteArrayList<>();
    Logger logger = Logger.getLogger("io.github.keyfence");
    Filter before = logger.getFilter();
    logger.setFilter(
        logged -> {
          Matcher matched = told.matcher(logged.getMessage());
          if (matched.matches()) {
            pauses.add(Long.parseLong(matched.group(1)));
          }
          return true;
        });
    try (KeyfenceClient client = server.client().cache(CacheOptions.defaults()).build()) {
      ask(client);
      await("the cache says how long it waits", () -> !pauses.isEmpty());
    } finally {
      logger.setFilter(before);
    }
    long pause = pauses.get(0);
    assertTrue(pause >= 7_000 && pause <= 10_500, pause + " ms");
  }

  @Test
  void anotherCredentialIsNotAnsweredFromMemory() {
    FakeKeyfence.MadeKey key = server.createKey("demo", "vps:read");
    try (KeyfenceClient client = live(server.client())) {
      client.checkScope(Check.of(key.apiKey(), "vps:read"));
      KeyfenceClient other = client.withCredential(FakeKeyfence.TOKEN);
      assertTrue(other.checkScope(Check.of(key.apiKey(), "vps:read")).isAllowed());
      assertEquals(1, server.calls(AuthorizationServiceGrpc.getCheckScopeMethod()));
    }
  }

  @Test
  void aCacheThatLostItsServerFindsTheNextOne() {
    try (FakeKeyfence other = FakeKeyfence.start(FakeKeyfence.keyspace("demo", "vps:read"));
        KeyfenceClient client = live(server.client().addresses(other.target()))) {
      server.close();
      await(
          "the cache has a lease of the other server",
          () -> {
            ask(client);
            return other.calls(ReplicationServiceGrpc.getSyncMethod()) > 0
                && status(client).isLive();
          });
    }
  }

  /** What the fake is believed about is asked of a real server, too. */
  @Test
  void aRealServerKeepsItsPromiseToTheCache() {
    boolean isThere = KeyfenceProcess.isAvailable();
    assumeTrue(
        isThere || System.getenv("CI") != null,
        "SKIPPED: no command keyfence; install keyfence-server or set KEYFENCE_COMMAND");
    try (KeyfenceProcess process = KeyfenceProcess.start();
        KeyfenceClient operator = process.client().build()) {
      operator
          .keyspaces()
          .applyKeyspace(
              ApplyKeyspaceRequest.newBuilder()
                  .setKeyspace(FakeKeyfence.keyspace("demo", "vps:read", "vps:write"))
                  .build());
      CreateKeyResponse own =
          operator
              .keys()
              .createKey(
                  CreateKeyRequest.newBuilder()
                      .setKeyspace("system")
                      .setAccountId("checkout")
                      .addScopes("replication:sync")
                      .addBoundKeyspaces("demo")
                      .build());
      try (KeyfenceClient client = live(process.client().token(own.getApiKey()))) {
        for (int round = 0; round < 10; round++) {
          CreateKeyResponse key =
              operator
                  .keys()
                  .createKey(
                      CreateKeyRequest.newBuilder()
                          .setKeyspace("demo")
                          .setAccountId("acct_1")
                          .addScopes("vps:read")
                          .build());
          Check check = Check.of(key.getApiKey(), "vps:read").inKeyspace("demo");
          for (int count = 0; count < 5; count++) {
            assertTrue(client.checkScope(check).isAllowed());
          }
          operator
              .keys()
              .revokeKey(RevokeKeyRequest.newBuilder().setKeyId(key.getKey().getKeyId()).build());
          assertEquals(Reason.REASON_KEY_REVOKED, client.checkScope(check).reason());
        }
        assertTrue(status(client).hits() >= 45, status(client)::toString);
      }
    }
  }
}
