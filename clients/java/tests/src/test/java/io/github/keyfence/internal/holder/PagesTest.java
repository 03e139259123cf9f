package io.github.keyfence.internal.holder;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.keyfence.v1.FetchKeyspacesRequest;
import io.github.keyfence.v1.FetchKeyspacesResponse;
import io.github.keyfence.v1.Keyspace;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;

/** Keyspaces come in pages. */
final class PagesTest {
  private final List<FetchKeyspacesRequest> asked = new ArrayList<>();
  private final Queue<FetchKeyspacesResponse> pages = new ArrayDeque<>();

  private void page(String keyspace, long revision, String epoch, String nextPageToken) {
    pages.add(
        FetchKeyspacesResponse.newBuilder()
            .addKeyspaces(Keyspace.newBuilder().setName(keyspace))
            .setRevision(revision)
            .setEpoch(epoch)
            .setNextPageToken(nextPageToken)
            .build());
  }

  private static FetchKeyspacesRequest request(String pageToken) {
    return FetchKeyspacesRequest.newBuilder().setAtLeastRevision(5).setPageToken(pageToken).build();
  }

  private CompletableFuture<FetchKeyspacesResponse> fetch() {
    return Pages.fetchAll(
        request -> {
          asked.add(request);
          FetchKeyspacesResponse next = pages.poll();
          return next == null
              ? CompletableFuture.failedFuture(new IllegalStateException("gone"))
              : CompletableFuture.completedFuture(next);
        },
        request(""));
  }

  @Test
  void pagesAreOneAnswerAsOldAsTheOldest() {
    page("a", 7, "1", "t1");
    page("b", 5, "1", "t2");
    page("c", 6, "1", "");

    FetchKeyspacesResponse whole = fetch().join();

    assertEquals(List.of(request(""), request("t1"), request("t2")), asked);
    assertEquals(
        List.of("a", "b", "c"), whole.getKeyspacesList().stream().map(Keyspace::getName).toList());
    assertEquals(5, whole.getRevision());
    assertEquals("1", whole.getEpoch());
  }

  @Test
  void pagesOfSeveralEpochsHaveNone() {
    page("a", 7, "1", "t1");
    page("b", 7, "2", "t2");
    page("c", 7, "1", "");

    assertEquals("", fetch().join().getEpoch());
  }

  @Test
  void nothingIsAnsweredIfOnePageIsMissing() {
    page("a", 7, "1", "t1");

    assertTrue(fetch().isCompletedExceptionally());
  }
}
