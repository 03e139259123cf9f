package io.github.keyfence.internal.holder;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import io.github.keyfence.v1.GivenUp;
import io.github.keyfence.v1.Hello;
import io.github.keyfence.v1.Renew;
import io.github.keyfence.v1.ReplicationServiceGrpc;
import io.github.keyfence.v1.SyncRequest;
import io.github.keyfence.v1.SyncResponse;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.concurrent.Executor;

/** One stream to a grantor. Everything it hears is handed over on one thread, in order. */
final class SyncStream {
  // A header of the answer, which a refusal does not have.
  private static final Metadata.Key<String> LET_IN =
      Metadata.Key.of("x-keyfence-let-in", Metadata.ASCII_STRING_MARSHALLER);

  /** What becomes of a stream. */
  interface Events {
    void letIn(SyncStream stream);

    void heard(SyncStream stream, SyncResponse message);

    void ended(SyncStream stream, End end);
  }

  /** Why a stream has ended. */
  record End(Status.Code code, String reason, Duration retryAfter) {
    String cause() {
      return reason.isEmpty() ? code.toString() : code + " " + reason;
    }
  }

  private final ClientCall<SyncRequest, SyncResponse> call;

  SyncStream(Channel channel, Executor thread, Events events) {
    call =
        channel.newCall(
            ReplicationServiceGrpc.getSyncMethod(), CallOptions.DEFAULT.withWaitForReady());
    call.start(
        new ClientCall.Listener<>() {
          @Override
          public void onHeaders(Metadata headers) {
            if (headers.containsKey(LET_IN)) {
              thread.execute(() -> events.letIn(SyncStream.this));
            }
          }

          @Override
          public void onMessage(SyncResponse message) {
            thread.execute(
                () -> {
                  events.heard(SyncStream.this, message);
                  call.request(1);
                });
          }

          @Override
          public void onClose(Status status, Metadata trailers) {
            thread.execute(() -> events.ended(SyncStream.this, read(status, trailers)));
          }
        },
        new Metadata());
    call.request(1);
  }

  void send(Hello hello) {
    call.sendMessage(SyncRequest.newBuilder().setHello(hello).build());
  }

  void send(Renew renew) {
    call.sendMessage(SyncRequest.newBuilder().setRenew(renew).build());
  }

  /** Sends the last message of the stream, which the grantor then ends. */
  void sendGivenUp() {
    call.sendMessage(SyncRequest.newBuilder().setGivenUp(GivenUp.getDefaultInstance()).build());
    call.halfClose();
  }

  void cancel(String cause) {
    call.cancel(cause, null);
  }

  /** Reads why the server has ended or refused a stream. */
  static End read(Status status, Metadata trailers) {
    ErrorInfo told = ErrorInfo.getDefaultInstance();
    for (Any detail : StatusProto.fromStatusAndTrailers(status, trailers).getDetailsList()) {
      try {
        told = detail.is(ErrorInfo.class) ? detail.unpack(ErrorInfo.class) : told;
      } catch (InvalidProtocolBufferException broken) {
        return new End(status.getCode(), "", Duration.ZERO); // the status says enough
      }
    }
    String seconds = told.getMetadataOrDefault("retry_after_seconds", "0");
    return new End(status.getCode(), told.getReason(), Backoff.retryAfter(seconds));
  }
}
