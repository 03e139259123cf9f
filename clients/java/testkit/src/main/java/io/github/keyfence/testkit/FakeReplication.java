package io.github.keyfence.testkit;

import io.github.keyfence.v1.AddressList;
import io.github.keyfence.v1.FetchFactsRequest;
import io.github.keyfence.v1.FetchFactsResponse;
import io.github.keyfence.v1.FetchKeyspacesRequest;
import io.github.keyfence.v1.FetchKeyspacesResponse;
import io.github.keyfence.v1.Key;
import io.github.keyfence.v1.KeyFacts;
import io.github.keyfence.v1.Keyspace;
import io.github.keyfence.v1.Reason;
import io.github.keyfence.v1.ReplicationServiceGrpc;
import io.github.keyfence.v1.ReportUsesRequest;
import io.github.keyfence.v1.ReportUsesResponse;
import io.github.keyfence.v1.SyncRequest;
import io.github.keyfence.v1.SyncResponse;
import io.grpc.ForwardingServerCall.SimpleForwardingServerCall;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.util.List;

/** Grants leases to caches, and tells them of changes. */
final class FakeReplication extends ReplicationServiceGrpc.ReplicationServiceImplBase {
  private static final Metadata.Key<String> LET_IN =
      Metadata.Key.of("x-keyfence-let-in", Metadata.ASCII_STRING_MARSHALLER);
  // So that caches have to ask for the next page.
  private static final int KEYSPACES_IN_PAGE = 1;

  private final FakeState state;

  FakeReplication(FakeState state) {
    this.state = state;
  }

  /** Begins streams with the header that lets a cache in. */
  static <Q, A> ServerCall.Listener<Q> letIn(
      ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
    boolean isStream = !call.getMethodDescriptor().getType().clientSendsOneMessage();
    if (!isStream) {
      return next.startCall(call, headers);
    }
    Metadata answered = new Metadata();
    answered.put(LET_IN, "1");
    call.sendHeaders(answered);
    return next.startCall(
        new SimpleForwardingServerCall<>(call) {
          @Override
          public void sendHeaders(Metadata ignored) {} // they were sent
        },
        headers);
  }

  @Override
  public StreamObserver<SyncRequest> sync(StreamObserver<SyncResponse> caller) {
    // Without a handler, to tell a cache that has left would be an error.
    ((ServerCallStreamObserver<SyncResponse>) caller).setOnCancelHandler(() -> {});
    return new StreamObserver<>() {
      private FakeState.HolderStream holder;

      @Override
      public void onNext(SyncRequest request) {
        if (request.hasHello()) {
          holder =
              state.join(
                  message -> {
                    synchronized (caller) {
                      caller.onNext(message);
                    }
                  });
        } else if (request.hasRenew() && holder != null) {
          state.renew(holder, request.getRenew());
        }
      }

      @Override
      public void onError(Throwable left) {}

      @Override
      public void onCompleted() {
        caller.onCompleted();
      }
    };
  }

  @Override
  public void fetchFacts(FetchFactsRequest request, StreamObserver<FetchFactsResponse> caller) {
    Answering.answer(
        caller,
        () -> {
          FetchFactsResponse.Builder response =
              FetchFactsResponse.newBuilder()
                  .setRevision(state.revision())
                  .setEpoch(FakeState.EPOCH);
          Key key = state.find(request.getApiKey());
          if (key != null) {
            response.setWellFormed(true).setFacts(factsOf(key));
          }
          return response.build();
        });
  }

  private static KeyFacts factsOf(Key key) {
    KeyFacts.Builder facts =
        KeyFacts.newBuilder()
            .setPrincipal(FakeState.principalOf(key))
            .setStanding(
                switch (key.getState()) {
                  case KEY_STATE_REVOKED -> Reason.REASON_KEY_REVOKED;
                  case KEY_STATE_DISABLED -> Reason.REASON_KEY_DISABLED;
                  default -> Reason.REASON_OK;
                })
            .addDependsOn("key:" + key.getKeyId())
            .addDependsOn("keyspace:" + key.getKeyspace())
            .addDependsOn("account:" + key.getAccountId());
    if (key.hasExpireTime()) {
      facts.setExpireTime(key.getExpireTime());
    }
    if (key.getAllowedAddressesCount() > 0) {
      facts.addAddressLists(AddressList.newBuilder().addAllNetworks(key.getAllowedAddressesList()));
    }
    return facts.build();
  }

  @Override
  public void fetchKeyspaces(
      FetchKeyspacesRequest request, StreamObserver<FetchKeyspacesResponse> caller) {
    Answering.answer(
        caller,
        () -> {
          List<Keyspace> left = state.keyspacesAfter(request.getPageToken());
          FetchKeyspacesResponse.Builder page =
              FetchKeyspacesResponse.newBuilder()
                  .setRevision(state.revision())
                  .setEpoch(FakeState.EPOCH)
                  .addAllKeyspaces(left.subList(0, Math.min(left.size(), KEYSPACES_IN_PAGE)));
          if (left.size() > KEYSPACES_IN_PAGE) {
            page.setNextPageToken(left.get(KEYSPACES_IN_PAGE - 1).getName());
          }
          return page.build();
        });
  }

  @Override
  public void reportUses(ReportUsesRequest request, StreamObserver<ReportUsesResponse> caller) {
    Answering.answer(
        caller,
        () -> {
          state.report(request);
          return ReportUsesResponse.getDefaultInstance();
        });
  }
}
