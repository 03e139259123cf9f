package io.github.keyfence;

import io.github.keyfence.internal.holder.Upstream;
import io.github.keyfence.v1.FetchFactsRequest;
import io.github.keyfence.v1.FetchFactsResponse;
import io.github.keyfence.v1.FetchKeyspacesRequest;
import io.github.keyfence.v1.FetchKeyspacesResponse;
import io.github.keyfence.v1.ReplicationServiceGrpc;
import io.github.keyfence.v1.ReportUsesRequest;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;

/** The connections of a client's cache, apart from those of its calls. */
final class HolderChannels implements Upstream {
  private final Channels channels;
  private final Calls calls;
  private int attempts;
  private ManagedChannel managed;
  private volatile Channel current;

  HolderChannels(Channels channels, Calls calls) {
    this.channels = channels;
    this.calls = calls;
  }

  @Override
  public synchronized Channel open() {
    if (managed == null || channels.count() > 1) {
      close();
      managed = channels.toOne(attempts++);
      current = calls.prepared(managed);
    }
    return current;
  }

  @Override
  public CompletableFuture<FetchFactsResponse> fetchFacts(
      FetchFactsRequest request, Deadline deadline) {
    return calls.unary(
        current, ReplicationServiceGrpc.getFetchFactsMethod(), request, until(deadline));
  }

  @Override
  public CompletableFuture<FetchKeyspacesResponse> fetchKeyspaces(
      FetchKeyspacesRequest request, Deadline deadline) {
    return calls.unary(
        current, ReplicationServiceGrpc.getFetchKeyspacesMethod(), request, until(deadline));
  }

  @Override
  public CompletableFuture<Boolean> report(ReportUsesRequest request, Deadline deadline) {
    return calls
        .unary(current, ReplicationServiceGrpc.getReportUsesMethod(), request, until(deadline))
        .handle(
            (response, failed) -> {
              Throwable cause = failed instanceof CompletionException ? failed.getCause() : failed;
              // What the server takes for faulty once, it does again.
              return failed == null || cause instanceof KeyfenceException.InvalidRequest;
            });
  }

  private static CallOptions until(Deadline deadline) {
    return CallOptions.DEFAULT.withDeadline(deadline);
  }

  @Override
  public synchronized void close() {
    if (managed != null) {
      managed.shutdownNow();
    }
  }
}
