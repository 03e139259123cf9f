package io.github.keyfence.testkit;

import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;

/** Counts calls, lets them fail, and refuses calls without the fake's token. */
final class FakeDoor implements ServerInterceptor {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> REQUEST_ID =
      Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);

  private final FakeState state;

  FakeDoor(FakeState state) {
    this.state = state;
  }

  @Override
  public <Q, A> ServerCall.Listener<Q> interceptCall(
      ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
    RuntimeException failure = state.admit(call.getMethodDescriptor().getFullMethodName());
    if (failure == null) {
      failure = refusal(headers.get(AUTHORIZATION));
    }
    if (failure == null) {
      return next.startCall(call, headers);
    }
    Metadata trailers = Status.trailersFromThrowable(failure);
    Metadata told = new Metadata();
    if (trailers != null) {
      told.merge(trailers);
    }
    told.put(REQUEST_ID, "fake");
    call.close(
        failure instanceof StatusRuntimeException known ? known.getStatus() : Status.UNKNOWN, told);
    return new ServerCall.Listener<>() {};
  }

  private static RuntimeException refusal(String presented) {
    if (presented == null) {
      return FakeState.error(
          Status.Code.UNAUTHENTICATED, "CREDENTIAL_REQUIRED", "the call carries no credential");
    }
    if (!presented.equals("Bearer " + FakeKeyfence.TOKEN.reveal())) {
      return FakeState.error(
          Status.Code.UNAUTHENTICATED,
          "CREDENTIAL_REJECTED",
          "the credential is not good; use FakeKeyfence.TOKEN");
    }
    return null;
  }
}
