package io.github.keyfence.testkit;

import io.grpc.StatusRuntimeException;
import io.grpc.stub.StreamObserver;
import java.util.function.Supplier;

/** Answers a call with what a supplier makes, or with the error that it throws. */
final class Answering {
  private Answering() {}

  static <A> void answer(StreamObserver<A> caller, Supplier<A> response) {
    A made;
    try {
      made = response.get();
    } catch (StatusRuntimeException failed) {
      caller.onError(failed);
      return;
    }
    caller.onNext(made);
    caller.onCompleted();
  }
}
