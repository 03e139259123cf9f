package io.github.keyfence.internal.holder;

import io.github.keyfence.v1.FetchFactsRequest;
import io.github.keyfence.v1.FetchFactsResponse;
import io.github.keyfence.v1.FetchKeyspacesRequest;
import io.github.keyfence.v1.FetchKeyspacesResponse;
import io.github.keyfence.v1.ReportUsesRequest;
import io.grpc.Channel;
import io.grpc.Deadline;
import java.util.concurrent.CompletableFuture;

/** A holder's way to its server, on connections of its own. */
public interface Upstream {
  /** The channel for the next stream. Where there are several servers, they take turns. */
  Channel open();

  /** Asks the stream's server for what is known of a key. */
  CompletableFuture<FetchFactsResponse> fetchFacts(FetchFactsRequest request, Deadline deadline);

  /** Asks the stream's server which scopes are registered. */
  CompletableFuture<FetchKeyspacesResponse> fetchKeyspaces(
      FetchKeyspacesRequest request, Deadline deadline);

  /** Reports uses. The result is whether the report need not be sent again. */
  CompletableFuture<Boolean> report(ReportUsesRequest request, Deadline deadline);

  /** Ends the connections. */
  void close();
}
