package io.github.keyfence;

import io.github.keyfence.internal.holder.Answer;
import io.github.keyfence.v1.AuthenticateRequest;
import io.github.keyfence.v1.AuthenticateResponse;
import io.github.keyfence.v1.BatchCheckScopeRequest;
import io.github.keyfence.v1.BatchCheckScopeResponse;
import io.github.keyfence.v1.BatchCheckScopeResult;
import io.github.keyfence.v1.CheckScopeRequest;
import io.github.keyfence.v1.CheckScopeResponse;
import io.github.keyfence.v1.Principal;
import io.github.keyfence.v1.Reason;
import io.grpc.Status;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** Turns checks into messages, and messages into verdicts. */
final class Verdicts {
  private Verdicts() {}

  static CheckScopeRequest request(Check check) {
    CheckScopeRequest.Builder request =
        CheckScopeRequest.newBuilder()
            .setApiKey(check.apiKey().reveal())
            .addAllRequiredScopes(check.requiredScopes())
            .setKeyspace(check.keyspace())
            .setClientAddress(check.clientAddress())
            .setAtLeastRevision(check.atLeastRevision())
            .setExplain(check.explain());
    check.cost().ifPresent(request::setCost);
    return request.build();
  }

  static AuthenticateRequest authenticateRequest(Check check) {
    AuthenticateRequest.Builder request =
        AuthenticateRequest.newBuilder()
            .setApiKey(check.apiKey().reveal())
            .setKeyspace(check.keyspace())
            .setClientAddress(check.clientAddress())
            .setAtLeastRevision(check.atLeastRevision());
    check.cost().ifPresent(request::setCost);
    return request.build();
  }

  static Verdict verdict(CheckScopeResponse response) {
    Verdict.Details details =
        new Verdict.Details(
            response.getRevision(),
            response.hasRateLimit() ? Optional.of(response.getRateLimit()) : Optional.empty(),
            response.hasExplanation() ? Optional.of(response.getExplanation()) : Optional.empty(),
            response.getStale());
    return verdict(
        response.getAllowed(),
        response.getReason(),
        response.getMissingScopesList(),
        response.hasPrincipal() ? response.getPrincipal() : null,
        details);
  }

  static Verdict verdict(AuthenticateResponse response) {
    Verdict.Details details =
        new Verdict.Details(
            response.getRevision(),
            response.hasRateLimit() ? Optional.of(response.getRateLimit()) : Optional.empty(),
            Optional.empty(),
            response.getStale());
    return verdict(
        response.getAuthenticated(),
        response.getReason(),
        List.of(),
        response.hasPrincipal() ? response.getPrincipal() : null,
        details);
  }

  static Verdict verdict(Answer answer) {
    return verdict(
        answer.reason() == Reason.REASON_OK,
        answer.reason(),
        answer.missingScopes(),
        answer.principal(),
        Verdict.Details.at(answer.revision()));
  }

  /** Nothing but a clear yes about a known principal allows. */
  private static Verdict verdict(
      boolean isAllowed,
      Reason reason,
      List<String> missingScopes,
      Principal principal,
      Verdict.Details details) {
    if (isAllowed && reason == Reason.REASON_OK && principal != null) {
      return new Verdict.Allowed(principal, details);
    }
    Reason why = reason == Reason.REASON_OK ? Reason.REASON_UNSPECIFIED : reason;
    return new Verdict.Denied(
        why, List.copyOf(missingScopes), Optional.ofNullable(principal), details);
  }

  /** Reads a response to the request: a result for each of its checks, in order. */
  static List<Result> results(BatchCheckScopeRequest request, BatchCheckScopeResponse response) {
    if (response.getResultsCount() != request.getChecksCount()) {
      throw KeyfenceException.of(
          Status.Code.INTERNAL, "the server answered another number of checks than were asked");
    }
    List<Result> results = new ArrayList<>();
    for (int index = 0; index < response.getResultsCount(); index++) {
      BatchCheckScopeResult one = response.getResults(index);
      results.add(
          switch (one.getResultCase()) {
            case RESPONSE -> new Result.Answered(verdict(one.getResponse()));
            case ERROR ->
                new Result.Failed(
                    KeyfenceException.of(one.getError(), request.getChecks(index).getApiKey()));
            case RESULT_NOT_SET ->
                new Result.Failed(
                    KeyfenceException.of(
                        Status.Code.INTERNAL,
                        "the server answered a check with neither a verdict nor an error"));
          });
    }
    return results;
  }
}
