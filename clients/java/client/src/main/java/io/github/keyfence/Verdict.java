package io.github.keyfence;

import io.github.keyfence.v1.Principal;
import io.github.keyfence.v1.RateLimitStatus;
import io.github.keyfence.v1.Reason;
import io.github.keyfence.v1.ScopeExplanation;
import java.util.List;
import java.util.Optional;

/** Answers a check. A denial is an answer, and never an exception. */
public sealed interface Verdict permits Verdict.Allowed, Verdict.Denied {
  /** Whether the key is good and holds every required scope. */
  default boolean isAllowed() {
    return this instanceof Allowed;
  }

  /** Why; {@code REASON_OK} exactly if the check is allowed. docs/errors.md lists the reasons. */
  Reason reason();

  /** Whose key it is. Empty if the key is not known; known keys that do not pass have it. */
  Optional<Principal> caller();

  /** What else there is to know of the answer. */
  Details details();

  /** The key is good and holds every required scope. */
  record Allowed(Principal principal, Details details) implements Verdict {
    @Override
    public Reason reason() {
      return Reason.REASON_OK;
    }

    @Override
    public Optional<Principal> caller() {
      return Optional.of(principal);
    }
  }

  /**
   * The key does not pass.
   *
   * @param missingScopes the required scopes that the key lacks, with {@code REASON_SCOPE_MISSING}.
   */
  record Denied(
      Reason reason, List<String> missingScopes, Optional<Principal> caller, Details details)
      implements Verdict {}

  /**
   * What else there is to know of an answer.
   *
   * @param revision what the answer reflects at least.
   * @param rateLimit where the key's limit stands. Empty: it has none.
   * @param explanation is there if the check asked for it and the key is known.
   * @param isStale whether the server answers from a memory that may be out of date, because its
   *     operator has asked for that.
   */
  record Details(
      long revision,
      Optional<RateLimitStatus> rateLimit,
      Optional<ScopeExplanation> explanation,
      boolean isStale) {
    static Details at(long revision) {
      return new Details(revision, Optional.empty(), Optional.empty(), false);
    }
  }
}
