/**
 * Sends one batch at a time, and has the checks that come meanwhile wait for the next one. So a lone
 * check is sent at once, and the more there are, the more share a message. A batch that is full does
 * not wait for the one that is under way.
 */

import { toBinary } from "@bufbuild/protobuf";
import type { BatchResult, Verdict } from "./checks.js";
import { scopeVerdict } from "./convert.js";
import { KeyfenceError, statusName } from "./errors.js";
import type { Transport } from "./transport.js";
import type { BatchCheckScopeResponse, CheckScopeRequest } from "./v1/index.js";
import { AuthorizationService, CheckScopeRequestSchema } from "./v1/index.js";

/**
 * A batch may have 512 KiB. A very long presented key must not fail the other checks of its message, so a check
 * that is larger than this is sent alone.
 */
const MAX_BATCHED_CHECK_BYTES = 1_536;

interface Waiting {
  readonly request: CheckScopeRequest;
  readonly deadline: number;
  /** The check was answered, or its caller has gone. */
  isSettled: boolean;
  readonly settle: (result: BatchResult) => void;
}

export class Batcher {
  readonly #transport: Transport;
  readonly #max: number;
  #waiting: Waiting[] = [];
  #isSending = false;

  constructor(transport: Transport, maxChecks: number) {
    this.#transport = transport;
    this.#max = maxChecks;
  }

  /** Answers a check. Fails with a KeyfenceError. */
  async check(request: CheckScopeRequest, timeoutMs: number, signal?: AbortSignal): Promise<Verdict> {
    const deadline = Date.now() + timeoutMs;
    if (isLarge(request)) {
      return await this.#alone(request, deadline, signal);
    }
    const result = await new Promise<BatchResult>((resolve) => {
      const settle = (settled: BatchResult): void => {
        waiting.isSettled = true;
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        resolve(settled);
      };
      const waiting: Waiting = { request, deadline, isSettled: false, settle };
      const fail = (status: "DEADLINE_EXCEEDED" | "CANCELLED", message: string): void => {
        settle({ error: new KeyfenceError({ status, message }) });
      };
      const abort = (): void => fail("CANCELLED", "the call was aborted");
      const timer = setTimeout(
        () => fail("DEADLINE_EXCEEDED", "the check was not answered in time"),
        timeoutMs,
      );
      signal?.addEventListener("abort", abort, { once: true });
      if (signal?.aborted) {
        abort();
        return;
      }
      this.#waiting.push(waiting);
      if (this.#waiting.length >= this.#max) {
        void this.#send(this.#waiting.splice(0, this.#max));
      } else if (!this.#isSending) {
        this.#isSending = true;
        // After the checks that begin in this same turn of the event loop.
        queueMicrotask(() => void this.#sendAll());
      }
    });
    if (result.error === undefined) {
      return result.verdict;
    }
    if (wasLeftOut(result.error)) {
      return await this.#alone(request, deadline, signal);
    }
    throw result.error;
  }

  async #alone(request: CheckScopeRequest, deadline: number, signal?: AbortSignal): Promise<Verdict> {
    const { checkScope } = AuthorizationService.method;
    const timeoutMs = Math.max(1, deadline - Date.now());
    return scopeVerdict(
      await this.#transport.call(checkScope, request, { timeoutMs, ...(signal && { signal }) }),
    );
  }

  async #sendAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      await this.#send(this.#waiting.splice(0, this.#max));
      // Callers that have just been answered come along if they have their turn first.
      await nextTurn();
    }
    this.#isSending = false;
  }

  async #send(batch: readonly Waiting[]): Promise<void> {
    const kept = batch.filter((one) => !one.isSettled);
    if (kept.length === 0) {
      return;
    }
    const requests = kept.map((one) => one.request);
    // One caller's giving up must not fail the others' checks.
    const timeoutMs = Math.max(1, Math.max(...kept.map((one) => one.deadline)) - Date.now());
    let results: BatchResult[];
    try {
      const { batchCheckScope } = AuthorizationService.method;
      const response = await this.#transport.call(batchCheckScope, { checks: requests }, { timeoutMs });
      results = batchResults(requests, response);
    } catch (error) {
      const failed = error instanceof KeyfenceError ? error : failure(String(error));
      results = kept.map(() => ({ error: failed }));
    }
    for (const [index, one] of kept.entries()) {
      one.settle(results[index] ?? { error: failure("there is no result") });
    }
  }
}

/** Node has setImmediate; browsers and edge runtimes need not. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === "function") {
      setImmediate(resolve);
    } else {
      setTimeout(resolve, 0);
    }
  });
}

function isLarge(request: CheckScopeRequest): boolean {
  const texts = [request.apiKey, request.keyspace, request.clientAddress, ...request.requiredScopes];
  // A text has at most three bytes for each of its UTF-16 units, and four before it. Numbers are short.
  const atMost = texts.reduce((sum, text) => sum + 3 * text.length + 4, 32);
  return (
    atMost > MAX_BATCHED_CHECK_BYTES &&
    toBinary(CheckScopeRequestSchema, request).length > MAX_BATCHED_CHECK_BYTES
  );
}

/**
 * Whether the server has not looked at the check, because the answers of its batch were too large. It counts
 * against no rate limit then, and may be sent alone.
 */
function wasLeftOut(error: KeyfenceError): boolean {
  return error.status === "RESOURCE_EXHAUSTED" && error.metadata["limit"] === "answer_bytes";
}

/** Reads a response: a result for each of the checks, in order. */
export function batchResults(
  requests: readonly CheckScopeRequest[],
  response: BatchCheckScopeResponse,
): BatchResult[] {
  if (response.results.length !== requests.length) {
    throw failure("the server answered another number of checks than were asked");
  }
  return response.results.map(({ result }, index): BatchResult => {
    switch (result.case) {
      case "response":
        return { verdict: scopeVerdict(result.value) };
      case "error": {
        const { code, reason, message, metadata } = result.value;
        const secrets = [requests[index]?.apiKey ?? ""];
        return { error: new KeyfenceError({ status: statusName(code), reason, message, metadata }, secrets) };
      }
      default:
        return { error: failure("the server answered a check with neither a verdict nor an error") };
    }
  });
}

function failure(message: string): KeyfenceError {
  return new KeyfenceError({ status: "INTERNAL", message });
}
