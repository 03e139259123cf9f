package io.github.keyfence.internal.holder;

import java.util.List;

/** A check, as memory can answer it. Empty texts and lists stand for what was not said. */
public record Question(
    String apiKey,
    List<String> requiredScopes,
    String keyspace,
    String clientAddress,
    long atLeastRevision) {
  @Override
  public String toString() {
    return "Question[" + keyspace + ", " + requiredScopes + "]"; // without the key
  }
}
