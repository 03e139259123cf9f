package io.github.keyfence;

import com.google.errorprone.annotations.concurrent.GuardedBy;
import io.github.keyfence.v1.BatchCheckScopeRequest;
import io.github.keyfence.v1.BatchCheckScopeResponse;
import io.github.keyfence.v1.CheckScopeRequest;
import io.grpc.Deadline;
import io.grpc.Status;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.BiFunction;

/**
 * Sends one batch at a time, and has the checks that come meanwhile wait for the next one. So a
 * lone check is sent at once, and the more there are, the more share a message. A batch that is
 * full does not wait for the one that is under way.
 */
final class Batcher {
  private record Waiting(
      CheckScopeRequest request, Deadline deadline, CompletableFuture<Verdict> verdict) {}

  // A batch may have 512 KiB. A very long presented key must not fail the other checks of its
  // message, so a check that is larger than this is sent alone.
  private static final int MAX_BATCHED_CHECK_BYTES = 1536;

  private final BiFunction<
          BatchCheckScopeRequest, Deadline, CompletableFuture<BatchCheckScopeResponse>>
      send;
  private final BiFunction<CheckScopeRequest, Deadline, CompletableFuture<Verdict>> sendAlone;
  private final int maxChecks;
  private final Object lock = new Object();

  @GuardedBy("lock")
  private final ArrayDeque<Waiting> waiting = new ArrayDeque<>();

  @GuardedBy("lock")
  private boolean isSending;

  Batcher(
      int maxChecks,
      BiFunction<BatchCheckScopeRequest, Deadline, CompletableFuture<BatchCheckScopeResponse>> send,
      BiFunction<CheckScopeRequest, Deadline, CompletableFuture<Verdict>> sendAlone) {
    this.maxChecks = maxChecks;
    this.send = send;
    this.sendAlone = sendAlone;
  }

  CompletableFuture<Verdict> check(CheckScopeRequest request, Deadline deadline) {
    if (request.getSerializedSize() > MAX_BATCHED_CHECK_BYTES) {
      return sendAlone.apply(request, deadline);
    }
    Waiting one = new Waiting(request, deadline, new CompletableFuture<>());
    List<Waiting> batch = List.of();
    boolean isFirst = false;
    synchronized (lock) {
      waiting.addLast(one);
      if (!isSending) {
        isSending = true;
        isFirst = true;
        batch = take();
      } else if (waiting.size() >= maxChecks) {
        batch = take();
      }
    }
    long left = Math.max(0, deadline.timeRemaining(TimeUnit.NANOSECONDS));
    CompletableFuture<Verdict> answered =
        one.verdict
            .orTimeout(left, TimeUnit.NANOSECONDS)
            .exceptionallyCompose(
                failed -> {
                  if (failed instanceof TimeoutException) {
                    throw KeyfenceException.of(
                        Status.Code.DEADLINE_EXCEEDED, "the check was not answered in time");
                  }
                  if (wasLeftOut(failed)) {
                    return sendAlone.apply(request, deadline);
                  }
                  throw Calls.thrown(failed);
                });
    CompletableFuture<Void> sent = sendOne(batch);
    if (isFirst) {
      sent.thenRun(this::sendNext);
    }
    return answered;
  }

  /**
   * Whether the server has not looked at the check, because the answers of its batch were too
   * large. It counts against no rate limit then, and may be sent alone.
   */
  private static boolean wasLeftOut(Throwable failed) {
    return failed instanceof KeyfenceException known
        && known.code() == Status.Code.RESOURCE_EXHAUSTED
        && "answer_bytes".equals(known.metadata().get("limit"));
  }

  @GuardedBy("lock")
  private List<Waiting> take() {
    List<Waiting> batch = new ArrayList<>();
    while (batch.size() < maxChecks && !waiting.isEmpty()) {
      batch.add(waiting.removeFirst());
    }
    return batch;
  }

  private void sendNext() {
    List<Waiting> batch;
    synchronized (lock) {
      batch = take();
      isSending = !batch.isEmpty();
    }
    if (!batch.isEmpty()) {
      sendOne(batch).thenRunAsync(this::sendNext);
    }
  }

  /** Completes, and never fails, when the batch is answered. */
  private CompletableFuture<Void> sendOne(List<Waiting> batch) {
    List<Waiting> kept = new ArrayList<>();
    BatchCheckScopeRequest.Builder request = BatchCheckScopeRequest.newBuilder();
    Deadline latest = null;
    for (Waiting one : batch) {
      if (one.verdict.isDone()) {
        continue; // its caller has gone
      }
      kept.add(one);
      request.addChecks(one.request);
      latest = latest == null || latest.isBefore(one.deadline) ? one.deadline : latest;
    }
    if (kept.isEmpty()) {
      return CompletableFuture.completedFuture(null);
    }
    BatchCheckScopeRequest made = request.build();
    return send.apply(made, latest)
        .thenApply(response -> Verdicts.results(made, response))
        .handle(
            (results, failed) -> {
              for (int index = 0; index < kept.size(); index++) {
                CompletableFuture<Verdict> verdict = kept.get(index).verdict;
                if (failed != null) {
                  verdict.completeExceptionally(Calls.thrown(failed));
                } else if (results.get(index) instanceof Result.Answered answered) {
                  verdict.complete(answered.verdict());
                } else if (results.get(index) instanceof Result.Failed one) {
                  verdict.completeExceptionally(one.error());
                }
              }
              return null;
            });
  }
}
