package io.github.keyfence;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.keyfence.v1.BatchCheckScopeRequest;
import io.github.keyfence.v1.BatchCheckScopeResponse;
import io.github.keyfence.v1.BatchCheckScopeResult;
import io.github.keyfence.v1.CheckError;
import io.github.keyfence.v1.CheckScopeRequest;
import io.github.keyfence.v1.CheckScopeResponse;
import io.github.keyfence.v1.Principal;
import io.github.keyfence.v1.Reason;
import io.grpc.Deadline;
import io.grpc.Status;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** Which checks do not share a message. */
final class BatcherTest {
  private final List<String> sent = new ArrayList<>();
  private BatchCheckScopeResult answer =
      BatchCheckScopeResult.newBuilder().setResponse(allowed()).build();
  private final Batcher batcher = new Batcher(8, this::send, this::sendAlone);

  private static CheckScopeResponse allowed() {
    return CheckScopeResponse.newBuilder()
        .setAllowed(true)
        .setReason(Reason.REASON_OK)
        .setPrincipal(Principal.getDefaultInstance())
        .build();
  }

  private CompletableFuture<BatchCheckScopeResponse> send(
      BatchCheckScopeRequest request, Deadline deadline) {
    sent.add("batch");
    return CompletableFuture.completedFuture(
        BatchCheckScopeResponse.newBuilder().addResults(answer).build());
  }

  private CompletableFuture<Verdict> sendAlone(CheckScopeRequest request, Deadline deadline) {
    sent.add("alone");
    return CompletableFuture.completedFuture(Verdicts.verdict(allowed()));
  }

  private boolean isAllowed(String apiKey) {
    Deadline deadline = Deadline.after(20, TimeUnit.SECONDS);
    CheckScopeRequest request = CheckScopeRequest.newBuilder().setApiKey(apiKey).build();
    return batcher.check(request, deadline).join().isAllowed();
  }

  @Test
  void aLargeCheckIsSentAlone() {
    assertTrue(isAllowed("short") && isAllowed("k".repeat(2_000)));
    assertEquals(List.of("batch", "alone"), sent);
  }

  @Test
  void aCheckThatDidNotFitTheAnswerOfItsBatchIsAskedAlone() {
    CheckError leftOut =
        CheckError.newBuilder()
            .setCode(Status.Code.RESOURCE_EXHAUSTED.value())
            .setReason("LIMIT_REACHED")
            .putMetadata("limit", "answer_bytes")
            .build();
    answer = BatchCheckScopeResult.newBuilder().setError(leftOut).build();
    assertTrue(isAllowed("short"));
    assertEquals(List.of("batch", "alone"), sent);
  }
}
