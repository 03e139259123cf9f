package io.github.keyfence.internal.holder;

import io.github.keyfence.v1.FetchKeyspacesRequest;
import io.github.keyfence.v1.FetchKeyspacesResponse;
import java.util.concurrent.CompletableFuture;
import java.util.function.Function;

/** Fetches keyspaces, which come in pages. */
final class Pages {
  private Pages() {}

  /**
   * Fetches all pages, and makes one answer of them that is as old as the oldest. If the store has
   * failed over between two of them, the answer has no epoch.
   */
  static CompletableFuture<FetchKeyspacesResponse> fetchAll(
      Function<FetchKeyspacesRequest, CompletableFuture<FetchKeyspacesResponse>> fetch,
      FetchKeyspacesRequest first) {
    return fetch.apply(first).thenCompose(page -> fetchRest(fetch, first, page));
  }

  private static CompletableFuture<FetchKeyspacesResponse> fetchRest(
      Function<FetchKeyspacesRequest, CompletableFuture<FetchKeyspacesResponse>> fetch,
      FetchKeyspacesRequest first,
      FetchKeyspacesResponse known) {
    if (known.getNextPageToken().isEmpty()) {
      return CompletableFuture.completedFuture(known);
    }
    FetchKeyspacesRequest next = first.toBuilder().setPageToken(known.getNextPageToken()).build();
    return fetch
        .apply(next)
        .thenCompose(
            page -> {
              boolean isOneEpoch = page.getEpoch().equals(known.getEpoch());
              return fetchRest(
                  fetch,
                  first,
                  known.toBuilder()
                      .addAllKeyspaces(page.getKeyspacesList())
                      .setNextPageToken(page.getNextPageToken())
                      .setRevision(Math.min(known.getRevision(), page.getRevision()))
                      .setEpoch(isOneEpoch ? known.getEpoch() : "")
                      .build());
            });
  }
}
