package io.github.keyfence;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.keyfence.testkit.FakeKeyfence;
import io.github.keyfence.v1.AuthorizationServiceGrpc;
import io.github.keyfence.v1.CreateKeyRequest;
import io.github.keyfence.v1.CreateKeyResponse;
import io.github.keyfence.v1.GetKeyRequest;
import io.github.keyfence.v1.KeyServiceGrpc;
import io.github.keyfence.v1.Reason;
import io.github.keyfence.v1.UpdateKeyRequest;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

final class ClientTest {
  private final FakeKeyfence server =
      FakeKeyfence.start(FakeKeyfence.keyspace("demo", "vps:read", "vps:write"));

  @AfterEach
  void stop() {
    server.close();
  }

  private static RuntimeException away() {
    return FakeKeyfence.error(Status.Code.UNAVAILABLE, "STORE_UNAVAILABLE", "away");
  }

  @Test
  void aDenialIsAVerdictAndNoException() {
    FakeKeyfence.MadeKey key = server.createKey("demo", "vps:read");
    try (KeyfenceClient client = server.client().build()) {
      Verdict good = client.checkScope(Check.of(key.apiKey(), "vps:read").inKeyspace("demo"));
      assertEquals(
          key.keyId(), assertInstanceOf(Verdict.Allowed.class, good).principal().getKeyId());

      Verdict poor = client.checkScope(Check.of(key.apiKey(), "vps:write"));
      Verdict.Denied denied = assertInstanceOf(Verdict.Denied.class, poor);
      assertEquals(Reason.REASON_SCOPE_MISSING, denied.reason());
      assertEquals(List.of("vps:write"), denied.missingScopes());

      server.revokeKey(key.keyId());
      Verdict revoked = client.authenticate(Check.of(key.apiKey()));
      assertEquals(Reason.REASON_KEY_REVOKED, revoked.reason());
      assertEquals(key.keyId(), revoked.caller().orElseThrow().getKeyId());
    }
  }

  @Test
  void theFakeKnowsNetworks() {
    CreateKeyRequest request =
        CreateKeyRequest.newBuilder()
            .setKeyspace("demo")
            .setAccountId("acct_1")
            .addAllowedAddresses("10.0.0.0/8")
            .addAllowedAddresses("2001:db8::1")
            .build();
    try (KeyfenceClient client = server.client().build()) {
      Check check = Check.of(client.keys().createKey(request).getApiKey());
      for (String address : List.of("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1")) {
        assertTrue(client.authenticate(check.fromAddress(address)).isAllowed(), address);
      }
      assertFalse(client.authenticate(check.fromAddress("192.0.2.1")).isAllowed());
      assertFalse(client.authenticate(check).isAllowed());
    }
  }

  @Test
  void anErrorIsTypedAndShowsNoSecret() {
    FakeKeyfence.MadeKey key = server.createKey("demo", "vps:read");
    String secret = key.apiKey().reveal();
    server.failNext(
        AuthorizationServiceGrpc.getCheckScopeMethod(),
        1,
        FakeKeyfence.error(
            Status.Code.INVALID_ARGUMENT,
            "UNKNOWN_SCOPE",
            "no " + secret + " for " + FakeKeyfence.TOKEN.reveal()));
    try (KeyfenceClient client = server.client().build()) {
      KeyfenceException.InvalidRequest failed =
          assertThrows(
              KeyfenceException.InvalidRequest.class,
              () -> client.checkScope(Check.of(key.apiKey(), "vps:raed")));
      assertEquals(Status.Code.INVALID_ARGUMENT, failed.code());
      assertEquals("UNKNOWN_SCOPE", failed.reason());
      assertEquals("fake", failed.requestId());
      assertFalse(failed.toString().contains(secret), failed.toString());
      assertFalse(failed.toString().contains(FakeKeyfence.TOKEN.reveal()), failed.toString());
      assertThrows(
          KeyfenceException.NotFound.class,
          () -> client.keys().getKey(GetKeyRequest.newBuilder().setKeyId("none").build()));
      CompletionException later =
          assertThrows(
              CompletionException.class,
              () -> client.checkScopeAsync(Check.of(key.apiKey(), "vps:raed")).join());
      assertInstanceOf(KeyfenceException.InvalidRequest.class, later.getCause());
      assertFalse(Check.of(key.apiKey(), "vps:read").toString().contains(secret));
    }
  }

  @Test
  void whatDoesNoHarmIsSentAgain() {
    FakeKeyfence.MadeKey key = server.createKey("demo", "vps:read");
    server.failNext(AuthorizationServiceGrpc.getCheckScopeMethod(), 2, away());
    server.failNext(KeyServiceGrpc.getCreateKeyMethod(), 2, away());
    server.failNext(KeyServiceGrpc.getUpdateKeyMethod(), 1, away());
    try (KeyfenceClient client = server.client().build()) {
      assertTrue(client.checkScope(Check.of(key.apiKey(), "vps:read")).isAllowed());
      assertEquals(3, server.calls(AuthorizationServiceGrpc.getCheckScopeMethod()));

      CreateKeyRequest request =
          CreateKeyRequest.newBuilder().setKeyspace("demo").setAccountId("acct_1").build();
      CreateKeyResponse made = client.keys().createKey(request);
      assertFalse(made.toString().contains(made.getApiKey()));
      assertEquals(3, server.calls(KeyServiceGrpc.getCreateKeyMethod()));

      assertThrows(
          KeyfenceException.Unavailable.class,
          () -> client.keys().updateKey(UpdateKeyRequest.getDefaultInstance()));
      assertEquals(1, server.calls(KeyServiceGrpc.getUpdateKeyMethod()));
    }
  }

  @Test
  void aRequestWithoutAnIdGetsOne() {
    List<String> ids = new CopyOnWriteArrayList<>();
    ClientInterceptor listening =
        new ClientInterceptor() {
          @Override
          public <Q, A> ClientCall<Q, A> interceptCall(
              MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
            return new SimpleForwardingClientCall<>(next.newCall(method, options)) {
              @Override
              public void sendMessage(Q message) {
                ids.add(((CreateKeyRequest) message).getRequestId());
                super.sendMessage(message);
              }
            };
          }
        };
    try (KeyfenceClient client =
        server.client().channelOptions(builder -> builder.intercept(listening)).build()) {
      CreateKeyRequest request =
          CreateKeyRequest.newBuilder().setKeyspace("demo").setAccountId("acct_1").build();
      client.keys().createKey(request);
      client.keys().createKey(request);
      client.keys().createKey(request.toBuilder().setRequestId("own").build());
      assertFalse(ids.get(0).isEmpty());
      assertFalse(ids.get(0).equals(ids.get(1)));
      assertEquals("own", ids.get(2));
    }
  }

  @Test
  void aCallEndsAtItsDeadline() {
    server.failNext(AuthorizationServiceGrpc.getCheckScopeMethod(), 100, away());
    try (KeyfenceClient client = server.client().checkTimeout(Duration.ofMillis(20)).build()) {
      assertThrows(
          KeyfenceException.Unavailable.class,
          () -> client.checkScope(Check.of("kf_live_x", "vps:read")));
      assertTrue(server.calls(AuthorizationServiceGrpc.getCheckScopeMethod()) < 4);
    }
  }

  @Test
  void theTokenComesFromAFileOrASupplier(@TempDir Path directory) throws IOException {
    Path file = directory.resolve("token");
    Files.writeString(file, "wrong_token_wrong_token\n");
    try (KeyfenceClient client = server.client().tokenFile(file).build()) {
      assertThrows(KeyfenceException.NotPermitted.class, client::whoAmI);
      Files.writeString(file, FakeKeyfence.TOKEN.reveal() + "\n");
      assertEquals("operators", client.whoAmI().getAccountId());
      Files.delete(file);
      String message = assertThrows(IllegalStateException.class, client::whoAmI).getMessage();
      assertTrue(message.contains(file.toString()), message);
    }
    AtomicInteger asked = new AtomicInteger();
    try (KeyfenceClient client =
        server
            .client()
            .tokenSupplier(
                () -> {
                  asked.incrementAndGet();
                  return FakeKeyfence.TOKEN;
                })
            .build()) {
      client.whoAmI();
      int once = asked.get();
      client.whoAmI();
      assertEquals(2 * once, asked.get());
      assertThrows(
          KeyfenceException.NotPermitted.class,
          () -> client.withCredential(Secret.of("another_credential")).whoAmI());
    }
  }

  @Test
  void aTokenThatIsNoneIsRefusedAtOnce() {
    String message =
        assertThrows(IllegalArgumentException.class, () -> server.client().token("se cret"))
            .getMessage();
    assertFalse(message.contains("se cret"), message);
    assertThrows(IllegalArgumentException.class, () -> server.client().token(""));
  }

  @Test
  void callsTakeTurnsAmongServers() {
    try (FakeKeyfence other = FakeKeyfence.start(FakeKeyfence.keyspace("demo", "vps:read"));
        KeyfenceClient client = server.client().addresses(other.target()).build()) {
      for (int call = 0; call < 50 && calls(server) * calls(other) == 0; call++) {
        client.whoAmI();
      }
      assertTrue(calls(server) > 0 && calls(other) > 0);
    }
  }

  private static int calls(FakeKeyfence fake) {
    return fake.calls(AuthorizationServiceGrpc.getWhoAmIMethod());
  }

  @Test
  void callsGoOnWhenAServerIsAway() {
    FakeKeyfence other = FakeKeyfence.start(FakeKeyfence.keyspace("demo", "vps:read"));
    try (KeyfenceClient client = server.client().addresses(other.target()).build()) {
      client.whoAmI();
      other.close();
      for (int call = 0; call < 10; call++) {
        client.whoAmI();
      }
    }
  }

  @Test
  void concurrentChecksShareMessages() {
    FakeKeyfence.MadeKey key = server.createKey("demo", "vps:read");
    try (KeyfenceClient client = server.client().batching(new BatchingOptions(8)).build()) {
      assertTrue(client.checkScope(Check.of(key.apiKey(), "vps:read")).isAllowed());
      List<CompletableFuture<Verdict>> asked = new ArrayList<>();
      for (int check = 0; check < 100; check++) {
        String scope = check % 2 == 0 ? "vps:read" : "vps:write";
        asked.add(client.checkScopeAsync(Check.of(key.apiKey(), scope)));
      }
      for (int check = 0; check < 100; check++) {
        assertEquals(check % 2 == 0, asked.get(check).join().isAllowed());
      }
      int messages = server.calls(AuthorizationServiceGrpc.getBatchCheckScopeMethod());
      assertTrue(messages >= 14 && messages < 90, messages + " messages");
      assertEquals(0, server.calls(AuthorizationServiceGrpc.getCheckScopeMethod()));
      assertThrows(
          KeyfenceException.InvalidRequest.class,
          () -> client.checkScope(Check.of(key.apiKey(), "vps:raed")));
      server.failNext(AuthorizationServiceGrpc.getBatchCheckScopeMethod(), 100, away());
      KeyfenceClient impatient = client.withTimeout(Duration.ofMillis(50));
      assertThrows(
          KeyfenceException.Unavailable.class,
          () -> impatient.checkScope(Check.of(key.apiKey(), "vps:read")));
    }
  }

  @Test
  void aClosedClientSaysSo() {
    KeyfenceClient client = server.client().build();
    client.close();
    client.close();
    assertThrows(KeyfenceException.Closed.class, client::whoAmI);
    assertThrows(
        KeyfenceException.Closed.class, () -> client.checkScope(Check.of("kf_live_x", "vps:read")));
  }

  @ParameterizedTest
  @CsvSource({
    "127.0.0.1:1, true",
    "127.9.9.9:1, true",
    "[::1]:1, true",
    "[::ffff:127.0.0.1]:1, true",
    "LOCALHOST:1, true",
    "unix:/run/keyfence.sock, true",
    "dns:///localhost:1, true",
    "keyfence.example:443, false",
    "10.0.0.1:1, false",
    "localhost.example:1, false",
    "dns://1.1.1.1/keyfence.example:443, false",
    "xds:///service, false",
  })
  void onlyWhatStaysOnTheMachineIsLocal(String text, boolean isLocal) {
    assertEquals(isLocal, Target.parse(text).isLocal());
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "a b:1", "host", "https://host:1", "host:99999", "::1:1", "unix:"})
  void whatIsNoTargetIsRefused(String text) {
    assertThrows(IllegalArgumentException.class, () -> Target.parse(text));
  }

  @Test
  void aTokenInTheTargetsPlaceIsNotShown() {
    String token = "kf_system_0123456789012345678901234567";
    String message =
        assertThrows(IllegalArgumentException.class, () -> KeyfenceClient.builder(token).build())
            .getMessage();
    assertFalse(message.contains(token), message);
  }
}
