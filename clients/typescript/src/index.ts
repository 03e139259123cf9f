/** Ask Keyfence whose API key it is and what it may do, and manage keys: the entry point for Node. */

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
export type { Rpcs } from "./client.js";
export { Client } from "./client.js";
export type { EdgeClientOptions } from "./edge.js";
export { EdgeClient } from "./edge.js";
export type { StatusName, Violation } from "./errors.js";
export { KeyfenceError } from "./errors.js";
export type { CacheStatus } from "./holder/holder.js";
export type { BatchingOptions, CacheOptions, ClientOptions, Logger, TlsOptions } from "./options.js";
export { Secret } from "./secret.js";
export type { Token, TokenFunction } from "./token.js";
