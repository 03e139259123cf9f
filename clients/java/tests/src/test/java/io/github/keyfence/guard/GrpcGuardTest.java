package io.github.keyfence.guard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.keyfence.CacheOptions;
import io.github.keyfence.KeyfenceClient;
import io.github.keyfence.example.Server;
import io.github.keyfence.example.ServersGrpc;
import io.github.keyfence.testkit.FakeKeyfence;
import io.github.keyfence.v1.AuthorizationServiceGrpc;
import io.github.keyfence.v1.Principal;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.InsecureServerCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

final class GrpcGuardTest {
  private final FakeKeyfence keyfence =
      FakeKeyfence.start(FakeKeyfence.keyspace("demo", "vps:read", "vps:write"));
  private final KeyfenceClient client = keyfence.client().build();
  private io.grpc.Server server;
  private ManagedChannel channel;

  /** Tells whose key a call was made with. */
  private static final class Servers extends ServersGrpc.ServersImplBase {
    private static Server caller() {
      String account = GrpcGuard.principal().map(Principal::getKeyId).orElse("nobody");
      return Server.newBuilder().setName(account).build();
    }

    @Override
    public void read(Server request, StreamObserver<Server> told) {
      told.onNext(caller());
      told.onCompleted();
    }

    @Override
    public void whose(Server request, StreamObserver<Server> told) {
      read(request, told);
    }

    @Override
    public void undeclared(Server request, StreamObserver<Server> told) {
      read(request, told);
    }

    @Override
    public StreamObserver<Server> watch(StreamObserver<Server> told) {
      Server caller = caller();
      return new StreamObserver<>() {
        @Override
        public void onNext(Server request) {
          told.onNext(caller);
        }

        @Override
        public void onError(Throwable failed) {}

        @Override
        public void onCompleted() {
          told.onCompleted();
        }
      };
    }
  }

  private void serve(KeyfenceClient asked, GuardOptions options) throws IOException {
    server =
        NettyServerBuilder.forAddress(
                new InetSocketAddress(InetAddress.getLoopbackAddress(), 0),
                InsecureServerCredentials.create())
            .addService(new Servers())
            .intercept(new GrpcGuard(asked, options))
            .build()
            .start();
    channel =
        Grpc.newChannelBuilder("127.0.0.1:" + server.getPort(), InsecureChannelCredentials.create())
            .build();
  }

  @AfterEach
  void stop() {
    if (server != null) {
      channel.shutdownNow();
      server.shutdownNow();
    }
    client.close();
    keyfence.close();
  }

  private Channel presenting(String... headers) {
    Metadata metadata = new Metadata();
    for (int index = 0; index < headers.length; index += 2) {
      metadata.put(
          Metadata.Key.of(headers[index], Metadata.ASCII_STRING_MARSHALLER), headers[index + 1]);
    }
    return ClientInterceptors.intercept(
        channel, MetadataUtils.newAttachHeadersInterceptor(metadata));
  }

  private String read(String... headers) {
    try {
      return ServersGrpc.newBlockingStub(presenting(headers))
          .read(Server.getDefaultInstance())
          .getName();
    } catch (StatusRuntimeException failed) {
      return failed.getStatus().getCode() + " " + failed.getStatus().getDescription();
    }
  }

  @Test
  void onlyAKeyWithTheDeclaredScopePasses() throws IOException {
    serve(client, GuardOptions.of("demo"));
    FakeKeyfence.MadeKey good = keyfence.createKey("demo", "vps:read");
    FakeKeyfence.MadeKey poor = keyfence.createKey("demo", "vps:write");
    String key = good.apiKey().reveal();
    assertEquals(good.keyId(), read("authorization", "Bearer " + key));
    assertEquals(good.keyId(), read("x-api-key", key));
    assertEquals(
        "PERMISSION_DENIED the API key lacks: vps:read", read("x-api-key", poor.apiKey().reveal()));

    keyfence.revokeKey(good.keyId());
    String noKey = read();
    assertEquals("UNAUTHENTICATED a valid API key is required", noKey);
    assertEquals(noKey, read("x-api-key", key), "a revoked key is told from no key");
    assertEquals(noKey, read("x-api-key", "kf_live_unknown"));
    String other = poor.apiKey().reveal();
    assertEquals(noKey, read("x-api-key", other, "x-api-key", other), "a key twice");
    assertEquals(noKey, read("x-api-key", other, "authorization", "Bearer " + other));
    assertEquals(noKey, read("authorization", "Basic " + other));
  }

  @Test
  void aStreamIsCheckedWhenItBegins() throws IOException {
    serve(client, GuardOptions.of("demo"));
    FakeKeyfence.MadeKey good = keyfence.createKey("demo", "vps:write");
    FakeKeyfence.MadeKey poor = keyfence.createKey("demo", "vps:read");
    assertEquals(List.of(good.keyId(), good.keyId()), watch(good.apiKey().reveal()).join());
    CompletionException refused =
        assertThrows(CompletionException.class, () -> watch(poor.apiKey().reveal()).join());
    assertEquals(Status.Code.PERMISSION_DENIED, Status.fromThrowable(refused).getCode());
  }

  /** What a stream of two messages is answered. */
  private CompletableFuture<List<String>> watch(String key) {
    CompletableFuture<List<String>> ended = new CompletableFuture<>();
    List<String> heard = new java.util.concurrent.CopyOnWriteArrayList<>();
    StreamObserver<Server> sending =
        ServersGrpc.newStub(presenting("x-api-key", key))
            .watch(
                new StreamObserver<>() {
                  @Override
                  public void onNext(Server told) {
                    heard.add(told.getName());
                  }

                  @Override
                  public void onError(Throwable failed) {
                    ended.completeExceptionally(failed);
                  }

                  @Override
                  public void onCompleted() {
                    ended.complete(heard);
                  }
                });
    sending.onNext(Server.getDefaultInstance());
    sending.onNext(Server.getDefaultInstance());
    sending.onCompleted();
    return ended;
  }

  @Test
  void aMethodThatDeclaresNothingIsRefusedToAll() throws IOException {
    serve(client, GuardOptions.of("demo"));
    FakeKeyfence.MadeKey key = keyfence.createKey("demo", "*");
    Channel presenting = presenting("x-api-key", key.apiKey().reveal());
    StatusRuntimeException refused =
        assertThrows(
            StatusRuntimeException.class,
            () -> ServersGrpc.newBlockingStub(presenting).undeclared(Server.getDefaultInstance()));
    assertEquals(Status.Code.PERMISSION_DENIED, refused.getStatus().getCode());
    assertEquals(
        key.keyId(),
        ServersGrpc.newBlockingStub(presenting).whose(Server.getDefaultInstance()).getName());
  }

  @Test
  void unguardedMethodsAreOpen() throws IOException {
    serve(client, GuardOptions.of("demo").unguarded("example.Servers"));
    assertEquals("nobody", read());
  }

  @Test
  void withoutAVerdictNoCallerIsLetInOrDenied() throws IOException {
    serve(client, GuardOptions.of("demo"));
    FakeKeyfence.MadeKey key = keyfence.createKey("demo", "vps:read");
    keyfence.failNext(
        AuthorizationServiceGrpc.getCheckScopeMethod(),
        4,
        FakeKeyfence.error(Status.Code.UNAVAILABLE, "STORE_UNAVAILABLE", "away"));
    assertTrue(read("x-api-key", key.apiKey().reveal()).startsWith("UNAVAILABLE"));
    keyfence.failNext(
        AuthorizationServiceGrpc.getCheckScopeMethod(),
        1,
        FakeKeyfence.error(Status.Code.PERMISSION_DENIED, "SCOPE_REQUIRED", "no"));
    assertTrue(read("x-api-key", key.apiKey().reveal()).startsWith("INTERNAL"));
    assertEquals(key.keyId(), read("x-api-key", key.apiKey().reveal()));
  }

  @Test
  void answersFromMemoryGuardToo() throws IOException {
    try (KeyfenceClient cached = keyfence.client().cache(CacheOptions.defaults()).build()) {
      serve(cached, GuardOptions.of("demo"));
      FakeKeyfence.MadeKey key = keyfence.createKey("demo", "vps:read");
      for (int call = 0; call < 200; call++) {
        assertEquals(key.keyId(), read("x-api-key", key.apiKey().reveal()));
        if (cached.cacheStatus().orElseThrow().hits() > 5) {
          keyfence.revokeKey(key.keyId());
          assertTrue(read("x-api-key", key.apiKey().reveal()).startsWith("UNAUTHENTICATED"));
          return;
        }
      }
      throw new AssertionError("nothing was answered from memory");
    }
  }

  @Test
  void faultsOfTheServicesAreToldAtTheStart() throws IOException {
    serve(client, GuardOptions.of("demo"));
    GrpcGuard guard = new GrpcGuard(client, GuardOptions.of("demo"));
    String faults =
        assertThrows(IllegalStateException.class, () -> guard.verify(server)).getMessage();
    assertTrue(faults.contains("example.Servers/Undeclared declares no"), faults);
    assertTrue(!faults.contains("vps:"), faults);

    try (FakeKeyfence other = FakeKeyfence.start(FakeKeyfence.keyspace("demo", "vps:read"));
        KeyfenceClient otherClient = other.client().build()) {
      GuardOptions options = GuardOptions.of("demo").unguarded("example.Servers/Undeclared");
      String scopes =
          assertThrows(
                  IllegalStateException.class,
                  () -> new GrpcGuard(otherClient, options).verify(server))
              .getMessage();
      assertTrue(scopes.contains("\"vps:write\"") && !scopes.contains("\"vps:read\""), scopes);
      new GrpcGuard(client, options).verify(server);
    }
  }
}
