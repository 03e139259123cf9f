package io.github.keyfence.testkit;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import io.github.keyfence.v1.AuthenticateRequest;
import io.github.keyfence.v1.AuthenticateResponse;
import io.github.keyfence.v1.AuthorizationServiceGrpc;
import io.github.keyfence.v1.BatchCheckScopeRequest;
import io.github.keyfence.v1.BatchCheckScopeResponse;
import io.github.keyfence.v1.BatchCheckScopeResult;
import io.github.keyfence.v1.CheckError;
import io.github.keyfence.v1.CheckScopeRequest;
import io.github.keyfence.v1.CheckScopeResponse;
import io.github.keyfence.v1.Principal;
import io.github.keyfence.v1.Reason;
import io.github.keyfence.v1.WhoAmIRequest;
import io.github.keyfence.v1.WhoAmIResponse;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.util.List;

/** Answers checks as Keyfence does. */
final class FakeAuthorization extends AuthorizationServiceGrpc.AuthorizationServiceImplBase {
  private static final int MAX_CHECKS = 256;

  private final FakeState state;

  FakeAuthorization(FakeState state) {
    this.state = state;
  }

  @Override
  public void authenticate(
      AuthenticateRequest request, StreamObserver<AuthenticateResponse> caller) {
    Answering.answer(
        caller,
        () -> {
          FakeState.Judgement judged =
              state.judge(request.getApiKey(), request.getKeyspace(), request.getClientAddress());
          AuthenticateResponse.Builder response =
              AuthenticateResponse.newBuilder()
                  .setAuthenticated(judged.reason() == Reason.REASON_OK)
                  .setReason(judged.reason())
                  .setRevision(state.revision());
          if (judged.key() != null) {
            response.setPrincipal(FakeState.principalOf(judged.key()));
          }
          return response.build();
        });
  }

  @Override
  public void checkScope(CheckScopeRequest request, StreamObserver<CheckScopeResponse> caller) {
    Answering.answer(caller, () -> check(request));
  }

  private CheckScopeResponse check(CheckScopeRequest request) {
    if (request.getRequiredScopesCount() == 0) {
      throw FakeState.error(
          Status.Code.INVALID_ARGUMENT, "INVALID_FIELD", "required_scopes: 1 to 64 scopes");
    }
    FakeState.Judgement judged =
        state.judge(request.getApiKey(), request.getKeyspace(), request.getClientAddress());
    state.requireRegistered(
        judged.key() == null ? request.getKeyspace() : judged.key().getKeyspace(),
        request.getRequiredScopesList());
    CheckScopeResponse.Builder response =
        CheckScopeResponse.newBuilder().setReason(judged.reason()).setRevision(state.revision());
    if (judged.key() != null) {
      response.setPrincipal(FakeState.principalOf(judged.key()));
    }
    if (judged.reason() == Reason.REASON_OK) {
      List<String> held = judged.key().getEffectiveScopesList();
      request.getRequiredScopesList().stream()
          .distinct()
          .filter(scope -> !held.contains(scope))
          .forEach(response::addMissingScopes);
      if (response.getMissingScopesCount() > 0) {
        response.setReason(Reason.REASON_SCOPE_MISSING);
      }
    }
    return response.setAllowed(response.getReason() == Reason.REASON_OK).build();
  }

  @Override
  public void batchCheckScope(
      BatchCheckScopeRequest request, StreamObserver<BatchCheckScopeResponse> caller) {
    Answering.answer(
        caller,
        () -> {
          if (request.getChecksCount() == 0 || request.getChecksCount() > MAX_CHECKS) {
            throw FakeState.error(
                Status.Code.INVALID_ARGUMENT, "INVALID_FIELD", "checks: 1 to " + MAX_CHECKS);
          }
          BatchCheckScopeResponse.Builder response = BatchCheckScopeResponse.newBuilder();
          request.getChecksList().forEach(check -> response.addResults(result(check)));
          return response.build();
        });
  }

  private BatchCheckScopeResult result(CheckScopeRequest check) {
    try {
      return BatchCheckScopeResult.newBuilder().setResponse(check(check)).build();
    } catch (StatusRuntimeException failed) {
      return BatchCheckScopeResult.newBuilder().setError(checkError(failed)).build();
    }
  }

  private static CheckError checkError(StatusRuntimeException failed) {
    CheckError.Builder error =
        CheckError.newBuilder()
            .setCode(failed.getStatus().getCode().value())
            .setMessage(failed.getStatus().getDescription());
    for (Any detail : StatusProto.fromThrowable(failed).getDetailsList()) {
      try {
        ErrorInfo info = detail.unpack(ErrorInfo.class);
        error.setReason(info.getReason()).putAllMetadata(info.getMetadataMap());
      } catch (InvalidProtocolBufferException impossible) {
        throw new AssertionError(impossible);
      }
    }
    return error.build();
  }

  @Override
  public void whoAmI(WhoAmIRequest request, StreamObserver<WhoAmIResponse> caller) {
    Answering.answer(
        caller,
        () ->
            WhoAmIResponse.newBuilder()
                .setPrincipal(
                    Principal.newBuilder()
                        .setKeyId("key_fake")
                        .setKeyspace("system")
                        .setAccountId("operators")
                        .addBoundKeyspaces("*")
                        .addGrantedScopes("*"))
                .build());
  }
}
