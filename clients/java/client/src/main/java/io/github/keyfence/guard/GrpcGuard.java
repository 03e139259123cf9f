package io.github.keyfence.guard;

import com.google.errorprone.annotations.concurrent.GuardedBy;
import io.github.keyfence.Check;
import io.github.keyfence.KeyChecks;
import io.github.keyfence.Verdict;
import io.github.keyfence.internal.Addresses;
import io.github.keyfence.v1.Principal;
import io.github.keyfence.v1.Reason;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Grpc;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.ServerMethodDefinition;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.BiFunction;

/**
 * Enforces what the protos of gRPC services declare: {@code required_scope}, or {@code
 * ACCESS_ANY_CREDENTIAL}. A method that declares nothing and is not unguarded is refused to all.
 *
 * <p>The key comes as "authorization: Bearer ..." or "x-api-key"; exactly one is accepted. A stream
 * is checked when it begins, and goes on if its key is revoked later. No thread waits for a
 * verdict.
 */
public final class GrpcGuard implements ServerInterceptor {
  private static final System.Logger LOGGER = System.getLogger("io.github.keyfence");
  private static final Context.Key<Principal> PRINCIPAL = Context.key("keyfence-principal");
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> API_KEY =
      Metadata.Key.of("x-api-key", Metadata.ASCII_STRING_MARSHALLER);

  // One answer for a key that is missing, malformed, unknown, revoked, expired, disabled or used
  // from a wrong address: the answer must not tell which keys exist.
  private static final Status NO_GOOD_KEY =
      Status.UNAUTHENTICATED.withDescription("a valid API key is required");
  private static final Status NOT_OPEN =
      Status.PERMISSION_DENIED.withDescription("this method is not open to callers");
  private static final Status TOO_MANY =
      Status.RESOURCE_EXHAUSTED.withDescription("too many requests");
  private static final Status AWAY =
      Status.UNAVAILABLE.withDescription("authorization is unavailable at the moment; try again");
  private static final Status BROKEN =
      Status.INTERNAL.withDescription("authorization is not set up correctly");

  private final KeyChecks client;
  private final GuardOptions options;
  private final BiFunction<ServerCall<?, ?>, Metadata, String> clientAddress;
  private final Map<String, Policy.Rule> rules = new ConcurrentHashMap<>();

  /** A guard that takes the other end of the connection for the caller. */
  public GrpcGuard(KeyChecks client, GuardOptions options) {
    this(client, options, (call, headers) -> peerOf(call));
  }

  /**
   * A guard behind a proxy.
   *
   * @param clientAddress tells where a call comes from, for keys with an allow-list; empty: not
   *     known.
   */
  public GrpcGuard(
      KeyChecks client,
      GuardOptions options,
      BiFunction<ServerCall<?, ?>, Metadata, String> clientAddress) {
    this.client = client;
    this.options = options;
    this.clientAddress = clientAddress;
  }

  /** Whose key the guarded call was made with; empty outside of one. */
  public static Optional<Principal> principal() {
    return Optional.ofNullable(PRINCIPAL.get());
  }

  /**
   * Requires that each method of a server's services declares what it needs, and that the keyspace
   * registers each scope. Call it before the server starts.
   *
   * @throws IllegalStateException that names each fault.
   * @throws io.github.keyfence.KeyfenceException if Keyfence does not answer.
   */
  public void verify(Server server) {
    List<String> faults = new ArrayList<>();
    List<String> scopes = new ArrayList<>();
    for (ServerServiceDefinition service : server.getServices()) {
      for (ServerMethodDefinition<?, ?> method : service.getMethods()) {
        io.grpc.MethodDescriptor<?, ?> described = method.getMethodDescriptor();
        if (isUnguarded(described)) {
          continue;
        }
        Policy.Rule rule = Policy.ruleOf(described);
        if (!rule.isOpen()) {
          faults.add(
              described.getFullMethodName() + " declares no required_scope and is not unguarded");
        }
        scopes.addAll(rule.scopes());
      }
    }
    Policy.verify(client, options.keyspace(), scopes, faults);
  }

  private boolean isUnguarded(io.grpc.MethodDescriptor<?, ?> method) {
    return options.unguarded().contains(method.getFullMethodName())
        || options.unguarded().contains(method.getServiceName());
  }

  @Override
  public <Q, A> ServerCall.Listener<Q> interceptCall(
      ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
    io.grpc.MethodDescriptor<Q, A> method = call.getMethodDescriptor();
    if (isUnguarded(method)) {
      return next.startCall(call, headers);
    }
    Policy.Rule rule =
        rules.computeIfAbsent(method.getFullMethodName(), name -> Policy.ruleOf(method));
    if (!rule.isOpen()) {
      LOGGER.log(
          System.Logger.Level.ERROR,
          "method_refused_to_all method={0} cause=it declares no required_scope",
          method.getFullMethodName());
      return refuse(call, NOT_OPEN);
    }
    String key = presentedKey(headers);
    if (key == null) {
      return refuse(call, NO_GOOD_KEY);
    }
    Check check =
        Check.of(key, rule.scopes().toArray(String[]::new))
            .inKeyspace(options.keyspace())
            .fromAddress(clientAddress.apply(call, headers));
    CompletableFuture<Verdict> asked = client.checkAsync(check);
    if (asked.isDone() && !asked.isCompletedExceptionally()) {
      return decide(call, headers, next, asked.join(), null);
    }
    Delayed<Q> delayed = new Delayed<>();
    Context context = Context.current();
    asked.whenComplete(
        (verdict, failed) ->
            context.run(() -> delayed.goOn(decide(call, headers, next, verdict, failed))));
    return delayed;
  }

  private <Q, A> ServerCall.Listener<Q> decide(
      ServerCall<Q, A> call,
      Metadata headers,
      ServerCallHandler<Q, A> next,
      Verdict verdict,
      Throwable failed) {
    if (failed != null) {
      Throwable cause = failed instanceof CompletionException ? failed.getCause() : failed;
      LOGGER.log(
          System.Logger.Level.ERROR,
          "no_verdict method={0} cause={1}",
          call.getMethodDescriptor().getFullMethodName(),
          cause.getMessage());
      return refuse(call, Policy.isPassing(cause) ? AWAY : BROKEN);
    }
    if (verdict instanceof Verdict.Allowed allowed) {
      Context context = Context.current().withValue(PRINCIPAL, allowed.principal());
      return Contexts.interceptCall(context, call, headers, next);
    }
    return refuse(call, refusal((Verdict.Denied) verdict));
  }

  private Status refusal(Verdict.Denied denied) {
    if (denied.reason() == Reason.REASON_SCOPE_MISSING) {
      return Status.PERMISSION_DENIED.withDescription(
          options.hidesMissingScopes()
              ? "the API key lacks a required scope"
              : "the API key lacks: " + String.join(", ", denied.missingScopes()));
    }
    return denied.reason() == Reason.REASON_RATE_LIMITED ? TOO_MANY : NO_GOOD_KEY;
  }

  private static <Q> ServerCall.Listener<Q> refuse(ServerCall<Q, ?> call, Status status) {
    call.close(status, new Metadata());
    return new ServerCall.Listener<>() {};
  }

  /**
   * The one key of a call; null if there is none, or more than one. Where a gateway and a service
   * read different ones of two credentials, one of them guards nothing.
   */
  private static String presentedKey(Metadata headers) {
    List<String> bearers = values(headers, AUTHORIZATION);
    List<String> plain = values(headers, API_KEY);
    if (bearers.size() + plain.size() != 1) {
      return null;
    }
    String key = plain.isEmpty() ? Policy.bearer(bearers.get(0)) : plain.get(0);
    return key == null || key.isEmpty() ? null : key;
  }

  private static List<String> values(Metadata headers, Metadata.Key<String> name) {
    List<String> values = new ArrayList<>();
    Iterable<String> found = headers.getAll(name);
    if (found != null) {
      found.forEach(values::add);
    }
    return values;
  }

  private static String peerOf(ServerCall<?, ?> call) {
    SocketAddress peer = call.getAttributes().get(Grpc.TRANSPORT_ATTR_REMOTE_ADDR);
    if (peer instanceof InetSocketAddress address && address.getAddress() != null) {
      String text = address.getAddress().getHostAddress();
      int zone = text.indexOf('%');
      return Addresses.canonical(zone < 0 ? text : text.substring(0, zone));
    }
    return "";
  }

  /** Keeps what happens to a call until it is decided, and then hands it on in its order. */
  private static final class Delayed<Q> extends ServerCall.Listener<Q> {
    private final Object lock = new Object();

    @GuardedBy("lock")
    private final ArrayDeque<Runnable> events = new ArrayDeque<>();

    private volatile ServerCall.Listener<Q> decided;

    @GuardedBy("lock")
    private boolean isHandingOn;

    void goOn(ServerCall.Listener<Q> listener) {
      decided = listener;
      handOn();
    }

    private void add(Runnable event) {
      synchronized (lock) {
        events.addLast(event);
      }
      if (decided != null) {
        handOn();
      }
    }

    private void handOn() {
      while (true) {
        Runnable next;
        synchronized (lock) {
          if (isHandingOn || events.isEmpty()) {
            return;
          }
          isHandingOn = true;
          next = events.removeFirst();
        }
        try {
          next.run();
        } finally {
          synchronized (lock) {
            isHandingOn = false;
          }
        }
      }
    }

    @Override
    public void onMessage(Q message) {
      add(() -> decided.onMessage(message));
    }

    @Override
    public void onHalfClose() {
      add(() -> decided.onHalfClose());
    }

    @Override
    public void onCancel() {
      add(() -> decided.onCancel());
    }

    @Override
    public void onComplete() {
      add(() -> decided.onComplete());
    }

    @Override
    public void onReady() {
      add(() -> decided.onReady());
    }
  }
}
