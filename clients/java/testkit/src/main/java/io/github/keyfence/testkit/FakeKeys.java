package io.github.keyfence.testkit;

import io.github.keyfence.v1.CreateKeyRequest;
import io.github.keyfence.v1.CreateKeyResponse;
import io.github.keyfence.v1.GetKeyRequest;
import io.github.keyfence.v1.GetKeyResponse;
import io.github.keyfence.v1.Key;
import io.github.keyfence.v1.KeyServiceGrpc;
import io.github.keyfence.v1.ListKeysRequest;
import io.github.keyfence.v1.ListKeysResponse;
import io.github.keyfence.v1.RevokeKeyRequest;
import io.github.keyfence.v1.RevokeKeyResponse;
import io.github.keyfence.v1.UpdateKeyRequest;
import io.github.keyfence.v1.UpdateKeyResponse;
import io.grpc.stub.StreamObserver;

/** Manages keys as Keyfence does. */
final class FakeKeys extends KeyServiceGrpc.KeyServiceImplBase {
  private final FakeState state;

  FakeKeys(FakeState state) {
    this.state = state;
  }

  @Override
  public void createKey(CreateKeyRequest request, StreamObserver<CreateKeyResponse> caller) {
    Answering.answer(caller, () -> state.createKey(request));
  }

  @Override
  public void getKey(GetKeyRequest request, StreamObserver<GetKeyResponse> caller) {
    Answering.answer(
        caller, () -> GetKeyResponse.newBuilder().setKey(state.key(request.getKeyId())).build());
  }

  @Override
  public void listKeys(ListKeysRequest request, StreamObserver<ListKeysResponse> caller) {
    Answering.answer(
        caller, () -> ListKeysResponse.newBuilder().addAllKeys(state.list(request)).build());
  }

  @Override
  public void updateKey(UpdateKeyRequest request, StreamObserver<UpdateKeyResponse> caller) {
    Answering.answer(
        caller,
        () -> {
          Key key = state.update(request);
          return UpdateKeyResponse.newBuilder().setKey(key).setRevision(key.getRevision()).build();
        });
  }

  @Override
  public void revokeKey(RevokeKeyRequest request, StreamObserver<RevokeKeyResponse> caller) {
    Answering.answer(
        caller,
        () -> {
          Key key = state.revokeKey(request);
          return RevokeKeyResponse.newBuilder().setKey(key).setRevision(key.getRevision()).build();
        });
  }
}
