/**
 * Checks from where there is no gRPC: browsers, workers, edge functions. It asks the gateway in JSON
 * (docs/gateway.md) by `fetch`, and needs nothing else.
 */

import type {
  Authentication,
  BatchResult,
  CallOptions,
  Checker,
  Explanation,
  Principal,
  RateLimitStatus,
  ScopeCheck,
  Verdict,
} from "./checks.js";
import { NO_SCOPES, verdictOf } from "./checks.js";
import type { StatusName } from "./errors.js";
import { KeyfenceError, statusName } from "./errors.js";
import type { HttpAnswersLike } from "./http/answers.js";
import { faultOfToken, revealed, type Secret } from "./secret.js";

export type {
  Allowed,
  Authentication,
  BatchResult,
  CallOptions,
  Checker,
  DenialReason,
  Denied,
  Explanation,
  Principal,
  RateLimitStatus,
  Reason,
  ScopeCheck,
  Verdict,
} from "./checks.js";
export { REASONS } from "./checks.js";
export type { StatusName, Violation } from "./errors.js";
export { KeyfenceError } from "./errors.js";
export { Secret } from "./secret.js";

/** How an edge client is to be. */
export interface EdgeClientOptions {
  /** The gateway: "https://keyfence.example". */
  readonly url: string;
  /** The client's own credential, or a function that has it, which is asked for every call. */
  readonly token: string | Secret | (() => string | Secret | Promise<string | Secret>);
  /** The deadline of calls that name none, in milliseconds. By default 2,000. */
  readonly timeoutMs?: number;
  /** Plaintext to another machine, which lets the network read the token and every key. */
  readonly insecurePlaintext?: boolean;
  /** By default the global one. */
  readonly fetch?: typeof fetch;
}

interface PrincipalJson extends Partial<Omit<Principal, "expireTime">> {
  readonly expireTime?: string;
}

interface AnswerJson {
  readonly allowed?: boolean;
  readonly authenticated?: boolean;
  readonly reason?: string;
  readonly missingScopes?: readonly string[];
  readonly principal?: PrincipalJson;
  readonly revision?: string;
  readonly rateLimit?: { limit?: string; remaining?: string; resetTime?: string; retryAfter?: string };
  readonly explanation?: Partial<Explanation>;
  readonly stale?: boolean;
}

interface FaultJson {
  readonly code?: number;
  readonly reason?: string;
  readonly message?: string;
  readonly metadata?: Record<string, string>;
}

interface StatusJson extends FaultJson {
  readonly details?: readonly {
    readonly "@type"?: string;
    readonly domain?: string;
    readonly reason?: string;
    readonly metadata?: Record<string, string>;
    readonly fieldViolations?: readonly { readonly field?: string; readonly description?: string }[];
  }[];
}

const DEFAULT_TIMEOUT_MS = 2_000;
const MAX_ATTEMPTS = 4;
const FIRST_PAUSE_MS = 50;
const PAUSE_GROWTH = 3;
const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;
const BY_HTTP_STATUS: Readonly<Record<number, StatusName>> = {
  400: "INVALID_ARGUMENT",
  401: "UNAUTHENTICATED",
  403: "PERMISSION_DENIED",
  404: "NOT_FOUND",
  408: "DEADLINE_EXCEEDED",
  429: "RESOURCE_EXHAUSTED",
  502: "UNAVAILABLE",
  503: "UNAVAILABLE",
  504: "DEADLINE_EXCEEDED",
};

/** Asks a gateway. It holds nothing open, so there is nothing to close. */
export class EdgeClient implements Checker {
  readonly #url: string;
  readonly #options: EdgeClientOptions;

  constructor(options: EdgeClientOptions) {
    const url = new URL(options.url);
    if (url.protocol !== "https:" && !LOOPBACK.test(url.hostname) && !options.insecurePlaintext) {
      throw new TypeError(`${url.origin} is plaintext over a network: use https, or insecurePlaintext`);
    }
    this.#url = url.href.replace(/\/$/, "");
    this.#options = options;
  }

  /** Asks whose key it is. A key that is not good is a verdict and no error. */
  async authenticate(question: Authentication): Promise<Verdict> {
    const answer = await this.#call<AnswerJson>("/v1/keys:authenticate", fieldsOf(question), question, [
      question,
    ]);
    return answerVerdict(answer, answer.authenticated);
  }

  /** Asks whether the key may do what needs all of the scopes. A denial is a verdict and no error. */
  async checkScope(question: ScopeCheck): Promise<Verdict> {
    if (question.requiredScopes.length === 0) {
      throw new TypeError(NO_SCOPES);
    }
    const answer = await this.#call<AnswerJson>("/v1/keys:check", scopeFields(question), question, [
      question,
    ]);
    return answerVerdict(answer, answer.allowed);
  }

  /** Asks up to 256 questions in one call. Each is answered by itself, in order. */
  async batchCheckScope(questions: readonly ScopeCheck[], options: CallOptions = {}): Promise<BatchResult[]> {
    const checks = questions.map(scopeFields);
    const { results = [] } = await this.#call<{ results?: { response?: AnswerJson; error?: FaultJson }[] }>(
      "/v1/keys:batchCheck",
      { checks },
      options,
      questions,
    );
    if (results.length !== questions.length) {
      throw failure("the server answered another number of checks than were asked");
    }
    return results.map(({ response, error }, index): BatchResult => {
      if (response !== undefined) {
        return { verdict: answerVerdict(response, response.allowed) };
      }
      if (error === undefined) {
        return { error: failure("the server answered a check with neither a verdict nor an error") };
      }
      const { code = 2, reason = "", message = "", metadata = {} } = error;
      const secrets = [revealed(questions[index]?.apiKey ?? "")];
      return { error: new KeyfenceError({ status: statusName(code), reason, message, metadata }, secrets) };
    });
  }

  /** How a keyspace speaks HTTP, for `HttpGuard`. The token needs the scope "keyspaces:read". */
  async httpAnswers(keyspace: string, options: CallOptions = {}): Promise<HttpAnswersLike | undefined> {
    const path = `/v1/keyspaces/${encodeURIComponent(keyspace)}`;
    const answer = await this.#call<{ keyspace?: { http?: HttpAnswersLike } }>(path, undefined, options, []);
    return answer.keyspace?.http;
  }

  async #call<T>(
    path: string,
    body: object | undefined,
    options: CallOptions,
    questions: readonly Authentication[],
  ): Promise<T> {
    const { token, timeoutMs = DEFAULT_TIMEOUT_MS } = this.#options;
    const given = options.credential ?? (typeof token === "function" ? await token() : token);
    const credential = revealed(given);
    const fault = faultOfToken(credential);
    if (fault !== undefined) {
      throw new TypeError(fault);
    }
    const deadline = Date.now() + (options.timeoutMs ?? timeoutMs);
    const secrets = [credential, ...questions.map(({ apiKey }) => revealed(apiKey))];
    for (let attempt = 1; ; attempt += 1) {
      try {
        return (await this.#send(path, body, credential, deadline, options.signal, secrets)) as T;
      } catch (error) {
        const pause = FIRST_PAUSE_MS * PAUSE_GROWTH ** (attempt - 1) * (0.8 + 0.4 * Math.random());
        const isOver = attempt >= MAX_ATTEMPTS || Date.now() + pause >= deadline;
        if (!(error instanceof KeyfenceError) || error.status !== "UNAVAILABLE" || isOver) {
          throw error;
        }
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }

  async #send(
    path: string,
    body: object | undefined,
    credential: string,
    deadline: number,
    signal: AbortSignal | undefined,
    secrets: readonly string[],
  ): Promise<unknown> {
    const expiry = AbortSignal.timeout(Math.max(0, deadline - Date.now()));
    const send = this.#options.fetch ?? fetch;
    try {
      const response = await send(this.#url + path, {
        method: body === undefined ? "GET" : "POST",
        headers: {
          authorization: `Bearer ${credential}`,
          ...(body !== undefined && { "content-type": "application/json" }),
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        cache: "no-store",
        redirect: "error",
        signal: signal === undefined ? expiry : AbortSignal.any([signal, expiry]),
      });
      const text = await response.text();
      if (!response.ok) {
        throw errorOf(response, text, secrets);
      }
      return JSON.parse(text) as unknown;
    } catch (error) {
      if (error instanceof KeyfenceError) {
        throw error;
      }
      if (signal?.aborted) {
        throw new KeyfenceError({ status: "CANCELLED", message: "the call was aborted" });
      }
      if (expiry.aborted) {
        throw new KeyfenceError({ status: "DEADLINE_EXCEEDED", message: "there was no answer in time" });
      }
      const status = error instanceof SyntaxError ? "INTERNAL" : "UNAVAILABLE";
      throw new KeyfenceError({ status, message: String((error as Error).message) }, secrets);
    }
  }
}

function errorOf(response: Response, text: string, secrets: readonly string[]): KeyfenceError {
  let told: StatusJson = {};
  try {
    told = JSON.parse(text) as StatusJson;
  } catch {
    // Something in between has answered.
  }
  const details = told.details ?? [];
  const info = details.find(
    (one) => one["@type"]?.endsWith("/google.rpc.ErrorInfo") && one.domain === "keyfence",
  );
  const violations = details
    .flatMap((one) => one.fieldViolations ?? [])
    .map(({ field = "", description = "" }) => ({ field, description }));
  const status =
    told.code === undefined ? (BY_HTTP_STATUS[response.status] ?? "UNKNOWN") : statusName(told.code);
  return new KeyfenceError(
    {
      status,
      message: told.message ?? `the gateway answered ${response.status}`,
      reason: info?.reason ?? "",
      metadata: info?.metadata ?? {},
      violations,
      requestId: response.headers.get("x-request-id") ?? "",
    },
    secrets,
  );
}

function fieldsOf(question: Authentication): Record<string, unknown> {
  return {
    apiKey: revealed(question.apiKey),
    ...(question.keyspace && { keyspace: question.keyspace }),
    ...(question.clientAddress && { clientAddress: question.clientAddress }),
    ...(question.atLeastRevision && { atLeastRevision: question.atLeastRevision.toString() }),
    ...(question.cost !== undefined && { cost: question.cost }),
  };
}

function scopeFields(question: ScopeCheck): Record<string, unknown> {
  return {
    ...fieldsOf(question),
    requiredScopes: question.requiredScopes,
    ...(question.explain && { explain: true }),
  };
}

function answerVerdict(answer: AnswerJson, allowed: boolean | undefined): Verdict {
  return verdictOf({
    allowed: allowed === true,
    reason: (answer.reason ?? "").replace(/^REASON_/, ""),
    missingScopes: answer.missingScopes ?? [],
    principal: answer.principal && principalOf(answer.principal),
    revision: BigInt(answer.revision ?? 0),
    rateLimit: rateLimitOf(answer.rateLimit),
    explanation: answer.explanation && {
      held: answer.explanation.held ?? [],
      sufficientGrants: answer.explanation.sufficientGrants ?? [],
      capped: answer.explanation.capped ?? [],
    },
    stale: answer.stale ?? false,
  });
}

function principalOf(json: PrincipalJson): Principal {
  return Object.freeze({
    keyId: json.keyId ?? "",
    accountId: json.accountId ?? "",
    keyspace: json.keyspace ?? "",
    keyType: json.keyType ?? "",
    environment: json.environment ?? "",
    displayName: json.displayName ?? "",
    grantedScopes: json.grantedScopes ?? [],
    effectiveScopes: json.effectiveScopes ?? [],
    effectiveScopesTruncated: json.effectiveScopesTruncated ?? false,
    ...(json.expireTime && { expireTime: new Date(json.expireTime) }),
    displayPrefix: json.displayPrefix ?? "",
    parentKeyId: json.parentKeyId ?? "",
    labels: json.labels ?? {},
    boundKeyspaces: json.boundKeyspaces ?? [],
    sessionId: json.sessionId ?? "",
  });
}

function rateLimitOf(json: AnswerJson["rateLimit"]): RateLimitStatus | undefined {
  return (
    json && {
      limit: Number(json.limit ?? 0),
      remaining: Number(json.remaining ?? 0),
      resetTime: new Date(json.resetTime ?? 0),
      ...(json.retryAfter !== undefined && { retryAfterSeconds: Number(json.retryAfter.replace(/s$/, "")) }),
    }
  );
}

function failure(message: string): KeyfenceError {
  return new KeyfenceError({ status: "INTERNAL", message });
}
