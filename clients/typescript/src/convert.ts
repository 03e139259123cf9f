/** From the API's messages to the values that callers of the client see. */

import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { Explanation, Principal, RateLimitStatus, Verdict } from "./checks.js";
import { verdictOf } from "./checks.js";
import type {
  AuthenticateResponse,
  CheckScopeResponse,
  Principal as PrincipalMessage,
  RateLimitStatus as RateLimitMessage,
  ScopeExplanation,
} from "./v1/index.js";
import { Reason as ReasonNumber } from "./v1/index.js";

/** The name of a reason without "REASON_"; "UNSPECIFIED" for a number that stands for none. */
export function reasonName(reason: ReasonNumber): string {
  return ReasonNumber[reason] ?? "UNSPECIFIED";
}

/** Milliseconds since the epoch. Rounded down: a key does not live longer for it. */
export function millisOf(time: Timestamp): number {
  return Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6);
}

/** The principal, frozen, since verdicts share it. */
export function principalOf(message: PrincipalMessage): Principal {
  return Object.freeze({
    keyId: message.keyId,
    accountId: message.accountId,
    keyspace: message.keyspace,
    keyType: message.keyType,
    environment: message.environment,
    displayName: message.displayName,
    grantedScopes: Object.freeze(message.grantedScopes),
    effectiveScopes: Object.freeze(message.effectiveScopes),
    effectiveScopesTruncated: message.effectiveScopesTruncated,
    ...(message.expireTime && { expireTime: new Date(millisOf(message.expireTime)) }),
    displayPrefix: message.displayPrefix,
    parentKeyId: message.parentKeyId,
    labels: Object.freeze(message.labels),
    boundKeyspaces: Object.freeze(message.boundKeyspaces),
    sessionId: message.sessionId,
  });
}

/** The verdict that a response tells. */
export function authenticationVerdict(response: AuthenticateResponse): Verdict {
  return verdictOf({
    allowed: response.authenticated,
    reason: reasonName(response.reason),
    principal: response.principal && principalOf(response.principal),
    revision: response.revision,
    rateLimit: rateLimitOf(response.rateLimit),
    stale: response.stale,
  });
}

/** The verdict that a response tells. */
export function scopeVerdict(response: CheckScopeResponse): Verdict {
  return verdictOf({
    allowed: response.allowed,
    reason: reasonName(response.reason),
    missingScopes: response.missingScopes,
    principal: response.principal && principalOf(response.principal),
    revision: response.revision,
    rateLimit: rateLimitOf(response.rateLimit),
    explanation: explanationOf(response.explanation),
    stale: response.stale,
  });
}

function rateLimitOf(message: RateLimitMessage | undefined): RateLimitStatus | undefined {
  if (message === undefined) {
    return undefined;
  }
  return {
    limit: Number(message.limit),
    remaining: Number(message.remaining),
    resetTime: new Date(message.resetTime ? millisOf(message.resetTime) : 0),
    ...(message.retryAfter && { retryAfterSeconds: Number(message.retryAfter.seconds) }),
  };
}

function explanationOf(message: ScopeExplanation | undefined): Explanation | undefined {
  if (message === undefined) {
    return undefined;
  }
  return {
    held: message.held.map(({ scope, granted, path }) => ({ scope, granted, path })),
    sufficientGrants: message.sufficientGrants,
    capped: message.capped.map(({ scope, cappedBy }) => ({ scope, cappedBy })),
  };
}
