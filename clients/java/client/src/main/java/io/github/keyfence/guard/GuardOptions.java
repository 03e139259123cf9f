package io.github.keyfence.guard;

import java.util.Set;

/**
 * How a {@link GrpcGuard} guards.
 *
 * @param keyspace whose keys are accepted.
 * @param unguarded what anybody may call: methods ("package.Service/Method") and whole services
 *     ("package.Service").
 * @param hidesMissingScopes whether the answer leaves out which scopes a key lacks.
 */
public record GuardOptions(String keyspace, Set<String> unguarded, boolean hidesMissingScopes) {
  /** Copies the set. */
  public GuardOptions {
    if (keyspace.isEmpty()) {
      throw new IllegalArgumentException(
          "keyfence: a guard needs the keyspace whose keys it accepts");
    }
    unguarded = Set.copyOf(unguarded);
  }

  /** Accepts the keys of a keyspace, and names the missing scopes. */
  public static GuardOptions of(String keyspace) {
    return new GuardOptions(keyspace, Set.of(), false);
  }

  /** The same, with methods and services that anybody may call. */
  public GuardOptions unguarded(String... names) {
    return new GuardOptions(keyspace, Set.of(names), hidesMissingScopes);
  }

  /** The same, without telling which scopes a key lacks. */
  public GuardOptions hidingMissingScopes() {
    return new GuardOptions(keyspace, unguarded, true);
  }
}
