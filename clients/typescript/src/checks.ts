/** What is asked of Keyfence and what it answers, whatever carries it. No Node, no protobuf. */

import type { KeyfenceError } from "./errors.js";
import type { Secret } from "./secret.js";

/** Why a check answered as it did, in order of precedence: docs/errors.md says what to do about each. */
export const REASONS = [
  "OK",
  "CREDENTIAL_MISSING",
  "CREDENTIAL_MALFORMED",
  "KEY_UNKNOWN",
  "KEYSPACE_MISMATCH",
  "KEY_REVOKED",
  "KEY_EXPIRED",
  "KEY_DISABLED",
  "ACCOUNT_DISABLED",
  "ADDRESS_NOT_ALLOWED",
  "SCOPE_MISSING",
  "RATE_LIMITED",
] as const;

/** A reason's name. */
export type Reason = (typeof REASONS)[number];

/** A reason of a key that does not pass. "UNRECOGNIZED": the server is newer than this client. */
export type DenialReason = Exclude<Reason, "OK"> | "UNRECOGNIZED";

/** How long a call may take, who makes it, and what ends it early. */
export interface CallOptions {
  /** The deadline in milliseconds. By default the client's own. */
  readonly timeoutMs?: number;
  /** Ends the call when it is aborted. */
  readonly signal?: AbortSignal;
  /** Another credential than the client's token, for this call. */
  readonly credential?: string | Secret;
}

/** A question about a key: whose is it? */
export interface Authentication extends CallOptions {
  /** What a caller presented, without "Bearer". */
  readonly apiKey: string | Secret;
  /** The keyspace that must be the key's. By default any of those that the client's token is bound to. */
  readonly keyspace?: string;
  /** The address that the key was presented from, without a port, for keys with an allow-list. */
  readonly clientAddress?: string;
  /** Answer from no older a state, for example that of a mutation. */
  readonly atLeastRevision?: bigint;
  /** What the check counts for against rate limits: 1 by default. 0 counts for nothing. */
  readonly cost?: number;
}

/** A question about a key: may it do what needs all of the scopes? */
export interface ScopeCheck extends Authentication {
  /** Registered names, no wildcards: 1 to 64. */
  readonly requiredScopes: readonly string[];
  /** Whether to say which grants led to the answer. */
  readonly explain?: boolean;
}

/** Whose key it is. Verdicts share it: it is frozen. */
export interface Principal {
  readonly keyId: string;
  readonly accountId: string;
  readonly keyspace: string;
  readonly keyType: string;
  readonly environment: string;
  readonly displayName: string;
  readonly grantedScopes: readonly string[];
  /** Sorted. A long list is cut off: see `effectiveScopesTruncated`. */
  readonly effectiveScopes: readonly string[];
  /** Whether `effectiveScopes` leaves out the last of the scopes. Checks go by all of them. */
  readonly effectiveScopesTruncated: boolean;
  /** When the key stops working. Not set: never, by time. */
  readonly expireTime?: Date;
  readonly displayPrefix: string;
  readonly parentKeyId: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Of an operator credential: the keyspaces that it may act on. */
  readonly boundKeyspaces: readonly string[];
  readonly sessionId: string;
}

/** Where a key's rate limit stands. */
export interface RateLimitStatus {
  readonly limit: number;
  readonly remaining: number;
  readonly resetTime: Date;
  /** Seconds until the same check can pass, with `RATE_LIMITED`. Not set: it never can. */
  readonly retryAfterSeconds?: number;
}

/** Which grants and implications led to a verdict. */
export interface Explanation {
  readonly held: readonly {
    readonly scope: string;
    readonly granted: string;
    readonly path: readonly string[];
  }[];
  /** The smallest set of grants that would have made up for the missing scopes. */
  readonly sufficientGrants: readonly string[];
  readonly capped: readonly { readonly scope: string; readonly cappedBy: string }[];
}

interface Answered {
  /** What the answer reflects at least. */
  readonly revision: bigint;
  /** Not set: the key has no limit. */
  readonly rateLimit?: RateLimitStatus;
  /** Set if the check asked for it and the key is known. */
  readonly explanation?: Explanation;
  /** Whether the server answers from a memory that may be out of date, because its operator asked for that. */
  readonly stale: boolean;
}

/** The key is good, and holds every required scope. */
export interface Allowed extends Answered {
  readonly allowed: true;
  readonly reason: "OK";
  readonly missingScopes: readonly [];
  readonly principal: Principal;
}

/** The key does not pass. This is an answer, and no error. */
export interface Denied extends Answered {
  readonly allowed: false;
  readonly reason: DenialReason;
  /** The required scopes that the key lacks, with `SCOPE_MISSING`. */
  readonly missingScopes: readonly string[];
  /** Whose key it is, if it is known. */
  readonly principal?: Principal;
}

/** The answer to a check. */
export type Verdict = Allowed | Denied;

/** The answer to one check of a batch: a verdict, or why there is none. */
export type BatchResult =
  | { readonly verdict: Verdict; readonly error?: undefined }
  | { readonly verdict?: undefined; readonly error: KeyfenceError };

/** Whatever answers checks: the client for Node, or the one for browsers and edges. */
export interface Checker {
  authenticate(question: Authentication): Promise<Verdict>;
  checkScope(question: ScopeCheck): Promise<Verdict>;
  batchCheckScope(questions: readonly ScopeCheck[], options?: CallOptions): Promise<BatchResult[]>;
}

/** The parts of an answer, as any of the wire's formats carries them. */
export interface AnswerParts {
  readonly allowed: boolean;
  /** The reason's name without "REASON_". */
  readonly reason: string;
  readonly missingScopes?: readonly string[];
  readonly principal?: Principal | undefined;
  readonly revision: bigint;
  readonly rateLimit?: RateLimitStatus | undefined;
  readonly explanation?: Explanation | undefined;
  readonly stale?: boolean;
}

const KNOWN: ReadonlySet<string> = new Set(REASONS);

/** Makes a verdict. It allows nothing unless every part of the answer says so. */
export function verdictOf(parts: AnswerParts): Verdict {
  const answered = {
    revision: parts.revision,
    stale: parts.stale ?? false,
    ...(parts.rateLimit && { rateLimit: parts.rateLimit }),
    ...(parts.explanation && { explanation: parts.explanation }),
  };
  if (parts.allowed && parts.reason === "OK" && parts.principal) {
    return { allowed: true, reason: "OK", missingScopes: [], principal: parts.principal, ...answered };
  }
  const isKnown = KNOWN.has(parts.reason) && parts.reason !== "OK";
  return {
    allowed: false,
    reason: isKnown ? (parts.reason as DenialReason) : "UNRECOGNIZED",
    missingScopes: parts.missingScopes ?? [],
    ...(parts.principal && { principal: parts.principal }),
    ...answered,
  };
}

/** The message of a check without scopes: it would allow whatever the key may do. */
export const NO_SCOPES = "checkScope needs requiredScopes; authenticate asks whose key it is";
