package io.github.keyfence;

import java.util.List;
import java.util.OptionalInt;

/**
 * A question about a key. Without required scopes it asks whose key it is, and no more.
 *
 * @param apiKey what a caller presented, without "Bearer".
 * @param requiredScopes are needed, all of them: registered names, no wildcards.
 * @param keyspace must be the key's. Empty: any of those that the client's token is bound to.
 * @param clientAddress where the key was presented from, without a port, for keys with an
 *     allow-list of addresses. Empty: not known.
 * @param atLeastRevision asks for an answer from no older a state, for example that of a mutation.
 *     Zero: the server's current state.
 * @param explain asks which grants led to the answer. It needs required scopes.
 * @param cost what the check counts for against rate limits. Empty: 1. With 0 nothing is counted
 *     and no limit stops the check.
 */
public record Check(
    Secret apiKey,
    List<String> requiredScopes,
    String keyspace,
    String clientAddress,
    long atLeastRevision,
    boolean explain,
    OptionalInt cost) {

  /** Copies the list of scopes. */
  public Check {
    requiredScopes = List.copyOf(requiredScopes);
  }

  /** Asks whether a key holds all of the scopes; without scopes, whose key it is. */
  public static Check of(Secret apiKey, String... requiredScopes) {
    return new Check(apiKey, List.of(requiredScopes), "", "", 0, false, OptionalInt.empty());
  }

  /** As {@link #of(Secret, String...)}. */
  public static Check of(String apiKey, String... requiredScopes) {
    return of(Secret.of(apiKey), requiredScopes);
  }

  /** The same, of a key that must belong to this keyspace. */
  public Check inKeyspace(String name) {
    return new Check(apiKey, requiredScopes, name, clientAddress, atLeastRevision, explain, cost);
  }

  /** The same, of a key that was presented from this address. */
  public Check fromAddress(String address) {
    return new Check(apiKey, requiredScopes, keyspace, address, atLeastRevision, explain, cost);
  }

  /** The same, to be answered from no older a state than this revision. */
  public Check atLeastRevision(long revision) {
    return new Check(apiKey, requiredScopes, keyspace, clientAddress, revision, explain, cost);
  }

  /** The same, to be explained. */
  public Check explained() {
    return new Check(apiKey, requiredScopes, keyspace, clientAddress, atLeastRevision, true, cost);
  }

  /** The same, counting for so much against rate limits. */
  public Check withCost(int requests) {
    OptionalInt counted = OptionalInt.of(requests);
    return new Check(
        apiKey, requiredScopes, keyspace, clientAddress, atLeastRevision, explain, counted);
  }
}
