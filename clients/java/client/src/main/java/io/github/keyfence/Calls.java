package io.github.keyfence;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ClientInterceptors;
import io.grpc.Context;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Supplier;

/**
 * Makes calls: each carries a credential, has a deadline, and fails with a {@link
 * KeyfenceException}.
 */
final class Calls {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  private static final CallOptions.Key<Secret> CREDENTIAL =
      CallOptions.Key.create("io.github.keyfence.credential");

  private final Supplier<Secret> token; // null: there is none
  private final Duration checkTimeout;
  private final Duration timeout;

  Calls(Supplier<Secret> token, Duration checkTimeout, Duration timeout) {
    this.token = token;
    this.checkTimeout = checkTimeout;
    this.timeout = timeout;
  }

  /** A channel whose calls, by whatever stub, are prepared as the client's own. */
  Channel prepared(Channel channel) {
    return ClientInterceptors.intercept(channel, new Preparation());
  }

  static CallOptions withCredential(CallOptions options, Secret credential) {
    return credential == null ? options : options.withOption(CREDENTIAL, credential);
  }

  /** The credential of the client; null if it has none. */
  private Secret ownToken() {
    Secret own = token == null ? null : token.get();
    if (own != null) {
      Tokens.checked(own.reveal());
    }
    return own;
  }

  /** Calls, and completes with the response or a {@link KeyfenceException}. */
  <Q extends Message, A> CompletableFuture<A> unary(
      Channel prepared, MethodDescriptor<Q, A> method, Q request, CallOptions options) {
    Secret credential = options.getOption(CREDENTIAL);
    try {
      credential = credential == null ? ownToken() : credential;
      UnaryCall<A> made = new UnaryCall<>(secretsOf(request, credential));
      made.start(prepared.newCall(method, withCredential(options, credential)), request);
      return made;
    } catch (RuntimeException failed) {
      return CompletableFuture.failedFuture(failed);
    }
  }

  /** Waits for a call. Its error is thrown as the calling thread's own. */
  static <T> T await(CompletableFuture<T> future) {
    try {
      return future.get();
    } catch (InterruptedException stop) {
      future.cancel(true);
      Thread.currentThread().interrupt();
      throw KeyfenceException.of(Status.Code.CANCELLED, "the calling thread was interrupted");
    } catch (ExecutionException failed) {
      throw thrown(failed.getCause());
    }
  }

  /** The error of a call, as it is thrown to callers. */
  static RuntimeException thrown(Throwable failed) {
    Throwable cause = failed instanceof CompletionException ? failed.getCause() : failed;
    if (cause instanceof KeyfenceException known) {
      known.fillInStackTrace();
      return known;
    }
    if (cause instanceof RuntimeException known) {
      return known;
    }
    if (cause instanceof Error fatal) {
      throw fatal;
    }
    return new IllegalStateException(cause);
  }

  private static List<String> secretsOf(Message request, Secret credential) {
    List<String> secrets = new ArrayList<>();
    if (credential != null) {
      secrets.add(credential.reveal());
    }
    collect(request, secrets);
    return secrets;
  }

  private static void collect(Message message, List<String> secrets) {
    for (FieldDescriptor field : message.getDescriptorForType().getFields()) {
      if (field.getJavaType() == FieldDescriptor.JavaType.STRING
          && field.getOptions().getDebugRedact()
          && !field.isRepeated()) {
        secrets.add((String) message.getField(field));
      } else if (field.getJavaType() == FieldDescriptor.JavaType.MESSAGE && !field.isMapField()) {
        if (field.isRepeated()) {
          ((List<?>) message.getField(field)).forEach(one -> collect((Message) one, secrets));
        } else if (message.hasField(field)) {
          collect((Message) message.getField(field), secrets);
        }
      }
    }
  }

  private final class Preparation implements ClientInterceptor {
    @Override
    public <Q, A> ClientCall<Q, A> interceptCall(
        MethodDescriptor<Q, A> method, CallOptions given, Channel next) {
      Rpcs.Rpc rpc = Rpcs.find(method.getFullMethodName());
      CallOptions options = given;
      if (method.getType() == MethodDescriptor.MethodType.UNARY
          && options.getDeadline() == null
          && Context.current().getDeadline() == null) {
        Duration allowed = rpc.isCheck() ? checkTimeout : timeout;
        options = options.withDeadlineAfter(allowed.toNanos(), TimeUnit.NANOSECONDS);
      }
      Secret own = options.getOption(CREDENTIAL);
      Secret credential = own == null ? ownToken() : own;
      return new SimpleForwardingClientCall<>(next.newCall(method, options)) {
        @Override
        public void start(Listener<A> listener, Metadata headers) {
          if (credential != null) {
            headers.put(AUTHORIZATION, "Bearer " + credential.reveal());
          }
          super.start(listener, headers);
        }

        @Override
        public void sendMessage(Q message) {
          super.sendMessage(rpc.takesRequestId() ? withRequestId(message) : message);
        }
      };
    }
  }

  /** Fills in a request's id, so that repeating the request makes one key. */
  @SuppressWarnings("unchecked") // a message of the same type
  private static <Q> Q withRequestId(Q request) {
    Message message = (Message) request;
    FieldDescriptor field = message.getDescriptorForType().findFieldByName(Rpcs.REQUEST_ID);
    if (!message.getField(field).equals("")) {
      return request;
    }
    return (Q) message.toBuilder().setField(field, UUID.randomUUID().toString()).build();
  }

  private static final class UnaryCall<A> extends CompletableFuture<A> {
    private final List<String> secrets;
    private final AtomicReference<A> response = new AtomicReference<>();
    private volatile ClientCall<?, A> call;

    UnaryCall(List<String> secrets) {
      this.secrets = secrets;
    }

    <Q> void start(ClientCall<Q, A> started, Q request) {
      call = started;
      started.start(new Answered(), new Metadata());
      started.request(2);
      started.sendMessage(request);
      started.halfClose();
    }

    @Override
    public boolean cancel(boolean mayInterrupt) {
      boolean isCancelled = super.cancel(mayInterrupt);
      if (isCancelled && call != null) {
        call.cancel("the caller has given the call up", null);
      }
      return isCancelled;
    }

    private final class Answered extends ClientCall.Listener<A> {
      @Override
      public void onMessage(A message) {
        response.set(message);
      }

      @Override
      public void onClose(Status status, Metadata trailers) {
        A answered = response.get();
        if (status.isOk() && answered != null) {
          complete(answered);
          return;
        }
        Status told = status;
        if (status.isOk()) {
          told = Status.INTERNAL.withDescription("the server has answered nothing");
        } else if (status.getCode() == Status.Code.CANCELLED && !Context.current().isCancelled()) {
          // The server gave the call up: it is flooded, or was stopped.
          told = Status.UNAVAILABLE.withDescription(status.getDescription());
        }
        completeExceptionally(KeyfenceException.of(told, trailers, secrets));
      }
    }
  }
}
