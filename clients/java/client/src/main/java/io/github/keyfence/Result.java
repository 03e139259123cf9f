package io.github.keyfence;

/** The answer to one check of a batch: a verdict, or why there is none. */
public sealed interface Result {
  /** There is a verdict. */
  record Answered(Verdict verdict) implements Result {}

  /** There is none. The error has no violations, which batches do not carry. */
  record Failed(KeyfenceException error) implements Result {}

  /**
   * The verdict.
   *
   * @throws KeyfenceException if there is none.
   */
  default Verdict orThrow() {
    if (this instanceof Failed failed) {
      throw failed.error();
    }
    return ((Answered) this).verdict();
  }
}
