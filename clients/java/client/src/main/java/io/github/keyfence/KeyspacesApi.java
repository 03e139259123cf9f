package io.github.keyfence;

import io.github.keyfence.v1.ApplyKeyspaceRequest;
import io.github.keyfence.v1.ApplyKeyspaceResponse;
import io.github.keyfence.v1.ExplainScopeRequest;
import io.github.keyfence.v1.ExplainScopeResponse;
import io.github.keyfence.v1.GetKeyspaceRequest;
import io.github.keyfence.v1.GetKeyspaceResponse;
import io.github.keyfence.v1.KeyspaceServiceGrpc;
import io.github.keyfence.v1.ListKeyspacesRequest;
import io.github.keyfence.v1.ListKeyspacesResponse;

/**
 * The RPCs that declare keyspaces. Each call fails with a {@link KeyfenceException}. {@link
 * KeyfenceClient#callAsync} makes the same calls without waiting.
 */
public final class KeyspacesApi {
  private final KeyfenceClient client;

  KeyspacesApi(KeyfenceClient client) {
    this.client = client;
  }

  /**
   * Makes a keyspace as declared, or changes it to that. Applying the same declaration again
   * changes nothing. One that says nothing but the name of a keyspace that is there is refused: it
   * would take away all that the keyspace declares.
   */
  public ApplyKeyspaceResponse applyKeyspace(ApplyKeyspaceRequest request) {
    return client.call(KeyspaceServiceGrpc.getApplyKeyspaceMethod(), request);
  }

  /** Reads a keyspace's declaration. */
  public GetKeyspaceResponse getKeyspace(GetKeyspaceRequest request) {
    return client.call(KeyspaceServiceGrpc.getGetKeyspaceMethod(), request);
  }

  /** Lists the keyspaces that the caller's credential is bound to, by name. */
  public ListKeyspacesResponse listKeyspaces(ListKeyspacesRequest request) {
    return client.call(KeyspaceServiceGrpc.getListKeyspacesMethod(), request);
  }

  /** Says what a scope implies and what implies it, and by which path. */
  public ExplainScopeResponse explainScope(ExplainScopeRequest request) {
    return client.call(KeyspaceServiceGrpc.getExplainScopeMethod(), request);
  }
}
