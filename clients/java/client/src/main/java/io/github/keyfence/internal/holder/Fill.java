package io.github.keyfence.internal.holder;

import java.util.ArrayList;
import java.util.List;

/** Facts on their way into memory, and what has changed since they were asked for. */
public final class Fill {
  private record Change(long revision, String subject) {}

  private final long startedAt;
  private final String epoch;
  private final List<Change> changed = new ArrayList<>();
  private boolean isVoid;

  Fill(long startedAt, String epoch) {
    this.startedAt = startedAt;
    this.epoch = epoch;
  }

  /** The revision that was applied when the facts were asked for. */
  public long startedAt() {
    return startedAt;
  }

  void note(long revision, String subject) {
    changed.add(new Change(revision, subject));
  }

  void makeVoid() {
    isVoid = true;
  }

  /** Whether facts of a revision may lack a change that the holder has applied (rule I5). */
  boolean isOvertaken(long revision, String revisionEpoch, List<String> dependsOn) {
    return isOutOfStep(revision, revisionEpoch)
        || changed.stream()
            .anyMatch(one -> one.revision > revision && dependsOn.contains(one.subject));
  }

  /** As {@link #isOvertaken}, of what depends on everything. */
  boolean isOvertakenByAny(long revision, String revisionEpoch) {
    return isOutOfStep(revision, revisionEpoch) || !changed.isEmpty();
  }

  private boolean isOutOfStep(long revision, String revisionEpoch) {
    return isVoid || !revisionEpoch.equals(epoch) || revision < startedAt;
  }
}
