package io.github.keyfence;

import java.util.List;
import java.util.concurrent.CompletableFuture;

/** What a guard asks: a {@link KeyfenceClient}, or what stands for one in a test. */
public interface KeyChecks {
  /**
   * Asks whether the key may do what needs all of the check's scopes; without scopes, whose key it
   * is.
   *
   * @return a verdict, a denial included, or a {@link KeyfenceException}: there is no answer.
   */
  CompletableFuture<Verdict> checkAsync(Check check);

  /**
   * Asks up to 256 questions with scopes in one call. Each is answered by itself, in order.
   *
   * @throws KeyfenceException if there is no answer to any.
   */
  List<Result> batchCheckScope(List<Check> checks);
}
