package io.github.keyfence.testkit;

import io.github.keyfence.KeyfenceClient;
import io.github.keyfence.Secret;
import io.github.keyfence.v1.CreateKeyRequest;
import io.github.keyfence.v1.CreateKeyResponse;
import io.github.keyfence.v1.Keyspace;
import io.github.keyfence.v1.RevokeKeyRequest;
import io.github.keyfence.v1.Scope;
import io.grpc.InsecureServerCredentials;
import io.grpc.MethodDescriptor;
import io.grpc.Server;
import io.grpc.ServerInterceptors;
import io.grpc.Status;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Clock;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/**
 * A fake Keyfence in memory that speaks the same API over a real socket. It knows keyspaces, scopes
 * that imply each other, keys and their lifecycle, and grants leases to caches, so that revocations
 * hold as with a real one. It knows no key formats, rate limits, accounts or audit log.
 */
public final class FakeKeyfence implements AutoCloseable {
  /** The only credential that the fake takes. It may do everything. */
  public static final Secret TOKEN = Secret.of("kf_system_fakefakefakefakefakefake");

  private final FakeState state;
  private final Server server;

  private FakeKeyfence(List<Keyspace> keyspaces) {
    state = new FakeState(keyspaces);
    server =
        NettyServerBuilder.forAddress(
                new InetSocketAddress(InetAddress.getLoopbackAddress(), 0),
                InsecureServerCredentials.create())
            .intercept(new FakeDoor(state))
            .addService(new FakeAuthorization(state))
            .addService(new FakeKeys(state))
            .addService(new FakeKeyspaces(state))
            .addService(
                ServerInterceptors.intercept(new FakeReplication(state), FakeReplication::letIn))
            .build();
    try {
      server.start();
    } catch (IOException failed) {
      throw new UncheckedIOException(failed);
    }
  }

  /** Starts a fake with these keyspaces. */
  public static FakeKeyfence start(Keyspace... keyspaces) {
    return new FakeKeyfence(List.of(keyspaces));
  }

  /** Declares a keyspace whose scopes imply nothing. */
  public static Keyspace keyspace(String name, String... scopes) {
    Keyspace.Builder declared = Keyspace.newBuilder().setName(name);
    for (String scope : scopes) {
      declared.addScopes(Scope.newBuilder().setName(scope));
    }
    return declared.build();
  }

  /** The fake's address, for {@link KeyfenceClient#builder(String)}. */
  public String target() {
    return "127.0.0.1:" + server.getPort();
  }

  /** Begins a client of the fake. Its checks may take 15 s, since machines of tests are slow. */
  public KeyfenceClient.Builder client() {
    return KeyfenceClient.builder(target()).token(TOKEN).checkTimeout(Duration.ofSeconds(15));
  }

  /**
   * A key that was made.
   *
   * @param apiKey the plaintext.
   */
  public record MadeKey(Secret apiKey, String keyId) {}

  /** Makes a key of the account "acct_1". */
  public MadeKey createKey(String keyspace, String... scopes) {
    CreateKeyResponse made =
        state.createKey(
            CreateKeyRequest.newBuilder()
                .setKeyspace(keyspace)
                .setAccountId("acct_1")
                .addAllScopes(Arrays.asList(scopes))
                .build());
    return new MadeKey(Secret.of(made.getApiKey()), made.getKey().getKeyId());
  }

  /** Revokes a key. When this returns, no cache accepts the key. */
  public void revokeKey(String keyId) {
    state.revokeKey(RevokeKeyRequest.newBuilder().setKeyId(keyId).build());
  }

  /** Makes keys expire by another clock. */
  public void setClock(Clock clock) {
    state.setClock(clock);
  }

  /**
   * Makes the next calls of a method fail. {@link #error} makes errors as Keyfence answers them.
   */
  public void failNext(MethodDescriptor<?, ?> method, int times, RuntimeException error) {
    state.failNext(method.getFullMethodName(), times, error);
  }

  /** How often a method was called. */
  public int calls(MethodDescriptor<?, ?> method) {
    return state.calls(method.getFullMethodName());
  }

  /** How many uses of a key caches have reported. */
  public long uses(String keyId) {
    return state.uses(keyId);
  }

  /** Makes an error as Keyfence answers it. */
  public static RuntimeException error(Status.Code code, String reason, String message) {
    return FakeState.error(code, reason, message);
  }

  /** Makes an error as Keyfence answers it, with metadata such as {@code retry_after_seconds}. */
  public static RuntimeException error(
      Status.Code code, String reason, String message, Map<String, String> metadata) {
    return FakeState.error(code, reason, message, metadata);
  }

  @Override
  public void close() {
    server.shutdownNow();
    try {
      server.awaitTermination();
    } catch (InterruptedException stop) {
      Thread.currentThread().interrupt();
    }
  }
}
