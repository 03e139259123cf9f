package io.github.keyfence.testkit;

import io.github.keyfence.v1.ApplyKeyspaceRequest;
import io.github.keyfence.v1.ApplyKeyspaceResponse;
import io.github.keyfence.v1.GetKeyspaceRequest;
import io.github.keyfence.v1.GetKeyspaceResponse;
import io.github.keyfence.v1.KeyspaceServiceGrpc;
import io.grpc.stub.StreamObserver;

/** Declares keyspaces as Keyfence does. */
final class FakeKeyspaces extends KeyspaceServiceGrpc.KeyspaceServiceImplBase {
  private final FakeState state;

  FakeKeyspaces(FakeState state) {
    this.state = state;
  }

  @Override
  public void applyKeyspace(
      ApplyKeyspaceRequest request, StreamObserver<ApplyKeyspaceResponse> caller) {
    Answering.answer(
        caller,
        () -> {
          if (!request.getValidateOnly()) {
            state.apply(request.getKeyspace());
          }
          return ApplyKeyspaceResponse.newBuilder()
              .setKeyspace(request.getKeyspace())
              .setRevision(state.revision())
              .build();
        });
  }

  @Override
  public void getKeyspace(GetKeyspaceRequest request, StreamObserver<GetKeyspaceResponse> caller) {
    Answering.answer(
        caller,
        () ->
            GetKeyspaceResponse.newBuilder()
                .setKeyspace(state.keyspace(request.getName()))
                .build());
  }
}
