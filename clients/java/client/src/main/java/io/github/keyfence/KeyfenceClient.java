package io.github.keyfence;

import com.google.protobuf.Message;
import io.github.keyfence.internal.holder.Answer;
import io.github.keyfence.internal.holder.Holder;
import io.github.keyfence.internal.holder.HolderStatus;
import io.github.keyfence.internal.holder.Question;
import io.github.keyfence.v1.AuthorizationServiceGrpc;
import io.github.keyfence.v1.BatchCheckScopeRequest;
import io.github.keyfence.v1.Principal;
import io.github.keyfence.v1.WhoAmIRequest;
import io.github.keyfence.v1.WhoAmIResponse;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.MethodDescriptor;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;

/**
 * Talks to Keyfence. Make one client, share it between threads, and close it at the end.
 *
 * <p>A key that does not pass is an answer: {@link Verdict.Denied}, with a reason. A {@link
 * KeyfenceException} means that there was no answer, and never that the key is bad.
 */
public final class KeyfenceClient implements KeyChecks, AutoCloseable {
  /** What all views of a client share. */
  private static final class Connection {
    private final Calls calls;
    private final ManagedChannel managed;
    private final Channel channel;
    private final Duration checkTimeout;
    private final Batcher batcher; // null: checks are sent one by one
    private final Holder holder; // null: nothing is answered from memory
    private final AtomicBoolean isClosed = new AtomicBoolean();

    Connection(Builder builder, Channels channels) {
      calls = new Calls(builder.token, builder.checkTimeout, builder.timeout);
      managed = channels.toAll();
      channel = calls.prepared(managed);
      checkTimeout = builder.checkTimeout;
      batcher =
          builder.batching == null
              ? null
              : new Batcher(
                  builder.batching.maxChecks(),
                  (request, deadline) ->
                      calls.unary(
                          channel,
                          AuthorizationServiceGrpc.getBatchCheckScopeMethod(),
                          request,
                          CallOptions.DEFAULT.withDeadline(deadline)),
                  (request, deadline) ->
                      calls
                          .unary(
                              channel,
                              AuthorizationServiceGrpc.getCheckScopeMethod(),
                              request,
                              CallOptions.DEFAULT.withDeadline(deadline))
                          .thenApply(Verdicts::verdict));
      holder =
          builder.cache == null
              ? null
              : new Holder(builder.cache.maxKeys(), new HolderChannels(channels, calls));
    }
  }

  private final Connection connection;
  private final Secret credential; // null: the client's own token
  private final Duration timeout; // null: by default

  private KeyfenceClient(Connection connection, Secret credential, Duration timeout) {
    this.connection = connection;
    this.credential = credential;
    this.timeout = timeout;
  }

  /**
   * A client of the server that the environment's {@code KEYFENCE_TARGET} names, with the
   * credential of {@code KEYFENCE_TOKEN}.
   */
  public static KeyfenceClient fromEnvironment() {
    return builder().build();
  }

  /** As {@link #builder(String)}, of the environment's {@code KEYFENCE_TARGET}. */
  public static Builder builder() {
    String target = System.getenv("KEYFENCE_TARGET");
    if (target == null || target.isEmpty()) {
      throw new IllegalArgumentException("keyfence: no target: pass one, or set KEYFENCE_TARGET");
    }
    return builder(target);
  }

  /**
   * Begins a client. It connects at the first call, so a server that is away is an error of the
   * calls. The connection is plaintext over loopback and Unix sockets, and TLS with the system's
   * certificate authorities everywhere else.
   *
   * @param target in gRPC's syntax: "host:port", "dns:///host:port", "unix:/path".
   */
  public static Builder builder(String target) {
    return new Builder(target);
  }

  /**
   * The same client, whose calls carry another credential: an account's session, or the key that
   * {@link #whoAmI} is to tell about. Its checks are neither answered from memory nor batched. It
   * is closed with this one.
   */
  public KeyfenceClient withCredential(Secret other) {
    Tokens.checked(other.reveal());
    return new KeyfenceClient(connection, other, timeout);
  }

  /** The same client, whose calls have another deadline. It is closed with this one. */
  public KeyfenceClient withTimeout(Duration other) {
    return new KeyfenceClient(connection, credential, positive(other));
  }

  /**
   * Asks whether the key may do what needs all of the scopes.
   *
   * @throws KeyfenceException if there is no answer.
   * @throws IllegalArgumentException if the check has no scopes.
   */
  public Verdict checkScope(Check check) {
    requireScopes(check);
    return Calls.await(checkAsync(check));
  }

  /** As {@link #checkScope}, without waiting. */
  public CompletableFuture<Verdict> checkScopeAsync(Check check) {
    requireScopes(check);
    return checkAsync(check);
  }

  private static void requireScopes(Check check) {
    if (check.requiredScopes().isEmpty()) {
      throw new IllegalArgumentException(
          "keyfence: checkScope needs required scopes; authenticate asks whose key it is");
    }
  }

  /**
   * Asks whose key it is. A key that is not good is a verdict and no exception.
   *
   * @throws KeyfenceException if there is no answer.
   * @throws IllegalArgumentException if the check has scopes, or is to be explained.
   */
  public Verdict authenticate(Check check) {
    return Calls.await(authenticateAsync(check));
  }

  /** As {@link #authenticate}, without waiting. */
  public CompletableFuture<Verdict> authenticateAsync(Check check) {
    if (!check.requiredScopes().isEmpty() || check.explain()) {
      throw new IllegalArgumentException(
          "keyfence: authenticate takes no required scopes; checkScope does");
    }
    return checkAsync(check);
  }

  @Override
  public CompletableFuture<Verdict> checkAsync(Check check) {
    if (connection.isClosed.get()) {
      return CompletableFuture.failedFuture(KeyfenceException.closed());
    }
    // Memory holds what the client's own token may know of.
    if (connection.holder == null || credential != null || check.explain()) {
      return ask(check, checkDeadline());
    }
    Question question =
        new Question(
            check.apiKey().reveal(),
            check.requiredScopes(),
            check.keyspace(),
            check.clientAddress(),
            check.atLeastRevision());
    Answer known = connection.holder.answer(question);
    if (known != null) {
      return CompletableFuture.completedFuture(Verdicts.verdict(known));
    }
    Deadline deadline = checkDeadline();
    return connection
        .holder
        .fill(question, deadline)
        .thenCompose(
            answer ->
                answer == null
                    ? ask(check, deadline)
                    : CompletableFuture.completedFuture(Verdicts.verdict(answer)));
  }

  private CompletableFuture<Verdict> ask(Check check, Deadline deadline) {
    CallOptions options =
        Calls.withCredential(CallOptions.DEFAULT.withDeadline(deadline), credential);
    if (check.requiredScopes().isEmpty()) {
      return call(
              AuthorizationServiceGrpc.getAuthenticateMethod(),
              Verdicts.authenticateRequest(check),
              options)
          .thenApply(Verdicts::verdict);
    }
    if (connection.batcher != null && credential == null) {
      return connection.batcher.check(Verdicts.request(check), deadline);
    }
    return call(AuthorizationServiceGrpc.getCheckScopeMethod(), Verdicts.request(check), options)
        .thenApply(Verdicts::verdict);
  }

  private Deadline checkDeadline() {
    Duration allowed = timeout == null ? connection.checkTimeout : timeout;
    Deadline own = Deadline.after(allowed.toNanos(), TimeUnit.NANOSECONDS);
    Deadline around = Context.current().getDeadline();
    return around == null ? own : own.minimum(around);
  }

  @Override
  public List<Result> batchCheckScope(List<Check> checks) {
    return Calls.await(batchCheckScopeAsync(checks));
  }

  /** As {@link #batchCheckScope}, without waiting. */
  public CompletableFuture<List<Result>> batchCheckScopeAsync(List<Check> checks) {
    BatchCheckScopeRequest.Builder builder = BatchCheckScopeRequest.newBuilder();
    checks.forEach(check -> builder.addChecks(Verdicts.request(check)));
    BatchCheckScopeRequest request = builder.build();
    return callAsync(AuthorizationServiceGrpc.getBatchCheckScopeMethod(), request)
        .thenApply(response -> Verdicts.results(request, response));
  }

  /** Asks whose token the client has. */
  public Principal whoAmI() {
    return Calls.await(whoAmIAsync());
  }

  /** As {@link #whoAmI}, without waiting. */
  public CompletableFuture<Principal> whoAmIAsync() {
    return callAsync(AuthorizationServiceGrpc.getWhoAmIMethod(), WhoAmIRequest.getDefaultInstance())
        .thenApply(WhoAmIResponse::getPrincipal);
  }

  /**
   * Makes any unary call of Keyfence's API, for example {@code
   * call(KeyServiceGrpc.getRevokeKeyMethod(), request)}. It carries the client's token, has a
   * deadline, and is retried where that is safe. A request with an empty {@code request_id} gets
   * one, so that repeating it makes one key.
   *
   * @throws KeyfenceException if the call fails.
   */
  public <Q extends Message, A> A call(MethodDescriptor<Q, A> method, Q request) {
    return Calls.await(callAsync(method, request));
  }

  /** As {@link #call}, without waiting. */
  public <Q extends Message, A> CompletableFuture<A> callAsync(
      MethodDescriptor<Q, A> method, Q request) {
    CallOptions options = Calls.withCredential(CallOptions.DEFAULT, credential);
    if (timeout != null) {
      options = options.withDeadlineAfter(timeout.toNanos(), TimeUnit.NANOSECONDS);
    }
    return call(method, request, options);
  }

  private <Q extends Message, A> CompletableFuture<A> call(
      MethodDescriptor<Q, A> method, Q request, CallOptions options) {
    if (connection.isClosed.get()) {
      return CompletableFuture.failedFuture(KeyfenceException.closed());
    }
    return connection
        .calls
        .unary(connection.channel, method, request, options)
        .exceptionallyCompose(
            failed ->
                CompletableFuture.failedFuture(
                    connection.isClosed.get() ? KeyfenceException.closed() : failed));
  }

  /** The RPCs that manage keys. */
  public KeysApi keys() {
    return new KeysApi(this);
  }

  /** The RPCs that declare keyspaces. */
  public KeyspacesApi keyspaces() {
    return new KeyspacesApi(this);
  }

  /**
   * The channel for stubs, those of accounts and of the audit log for example. Calls over it carry
   * the client's token, have a deadline, and are retried where that is safe; they fail with gRPC's
   * own exceptions.
   */
  public Channel channel() {
    return connection.channel;
  }

  /** How the cache is doing; empty if the client has none. */
  public Optional<CacheStatus> cacheStatus() {
    if (connection.holder == null) {
      return Optional.empty();
    }
    HolderStatus status = connection.holder.status();
    return Optional.of(
        new CacheStatus(
            status.live(),
            status.leaseLeft(),
            status.appliedRevision(),
            status.keys(),
            status.hits(),
            status.discardedFills(),
            status.resets()));
  }

  /**
   * Gives up the cache's lease, reports the last uses of keys and ends the connection and the calls
   * under way. It takes at most a few seconds. Closing twice is fine.
   */
  @Override
  public void close() {
    if (connection.isClosed.getAndSet(true)) {
      return;
    }
    if (connection.holder != null) {
      connection.holder.close();
    }
    connection.managed.shutdownNow();
    try {
      connection.managed.awaitTermination(1, TimeUnit.SECONDS);
    } catch (InterruptedException stop) {
      Thread.currentThread().interrupt();
    }
  }

  private static Duration positive(Duration timeout) {
    if (timeout.isZero() || timeout.isNegative()) {
      throw new IllegalArgumentException("keyfence: a timeout must be positive, not " + timeout);
    }
    return timeout;
  }

  /** Says how a client is to be. */
  public static final class Builder {
    private static final Duration CHECK_TIMEOUT = Duration.ofSeconds(2);
    private static final Duration TIMEOUT = Duration.ofSeconds(15);

    private final List<String> targets = new ArrayList<>();
    private Supplier<Secret> token;
    private ChannelCredentials tls;
    private boolean isPlaintext;
    private Duration checkTimeout = CHECK_TIMEOUT;
    private Duration timeout = TIMEOUT;
    private CacheOptions cache;
    private BatchingOptions batching;
    private UnaryOperator<ManagedChannelBuilder<?>> adjust = UnaryOperator.identity();

    private Builder(String target) {
      targets.add(target);
      String own = System.getenv("KEYFENCE_TOKEN");
      if (own != null && !own.isEmpty()) {
        token = Tokens.fixed(Secret.of(own));
      }
    }

    /**
     * The client's own credential. Without it: the environment's {@code KEYFENCE_TOKEN}, or else
     * none.
     */
    public Builder token(Secret fixed) {
      token = Tokens.fixed(fixed);
      return this;
    }

    /** As {@link #token(Secret)}. */
    public Builder token(String fixed) {
      return token(Secret.of(fixed));
    }

    /** Takes the credential from a file, which is read again when it has changed. */
    public Builder tokenFile(Path path) {
      token = Tokens.file(path);
      return this;
    }

    /** Asks for the credential, for every call and from any thread. It must be quick. */
    public Builder tokenSupplier(Supplier<Secret> supplier) {
      token = supplier;
      return this;
    }

    /**
     * How to do TLS, where the defaults do not fit: other certificate authorities, a certificate of
     * the client's own ({@link io.grpc.TlsChannelCredentials}). It also turns TLS on for local
     * targets.
     */
    public Builder tls(ChannelCredentials credentials) {
      tls = credentials;
      return this;
    }

    /**
     * Does without TLS over a network, which can then read the token and every key. It is meant for
     * networks that encrypt by themselves, such as a service mesh.
     */
    public Builder insecurePlaintext() {
      isPlaintext = true;
      return this;
    }

    /**
     * More servers, each as host:port, that stand for the one that is named as the target. Calls
     * take turns among those that can be reached.
     */
    public Builder addresses(String... more) {
      targets.addAll(List.of(more));
      return this;
    }

    /** The deadline of checks, 2 s by default: their callers have callers waiting. */
    public Builder checkTimeout(Duration allowed) {
      checkTimeout = positive(allowed);
      return this;
    }

    /**
     * The deadline of other calls, 15 s by default. A mutation returns when it holds everywhere,
     * which takes seconds when a holder of a lease has gone away.
     */
    public Builder timeout(Duration allowed) {
      timeout = positive(allowed);
      return this;
    }

    /**
     * Answers checks on known keys from memory, under a lease: what was revoked is never accepted,
     * and what is not known is asked of the server. The token needs the scope "replication:sync".
     */
    public Builder cache(CacheOptions options) {
      cache = options;
      return this;
    }

    /**
     * Sends checks that are under way at the same time in one message. It costs a check nothing
     * when it is alone.
     */
    public Builder batching(BatchingOptions options) {
      batching = options;
      return this;
    }

    /**
     * Changes gRPC's own options, for example adds interceptors for telemetry. Interceptors that
     * log headers log the token.
     */
    public Builder channelOptions(UnaryOperator<ManagedChannelBuilder<?>> change) {
      adjust = change;
      return this;
    }

    /**
     * Makes the client.
     *
     * @throws IllegalArgumentException if a target is none, or options exclude each other.
     */
    public KeyfenceClient build() {
      if (tls != null && isPlaintext) {
        throw new IllegalArgumentException(
            "keyfence: tls and insecurePlaintext exclude each other");
      }
      Channels channels = new Channels(targets, tls, isPlaintext, adjust);
      return new KeyfenceClient(new Connection(this, channels), null, null);
    }
  }
}
