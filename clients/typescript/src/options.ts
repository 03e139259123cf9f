/** How a client is to be. */

import { readFileSync } from "node:fs";
import type { Token } from "./token.js";

/** How to do TLS, where the defaults do not fit. Each file is in PEM. */
export interface TlsOptions {
  /** The authorities that the server's certificate must come from. By default the system's. */
  readonly ca?: string | Buffer | { readonly file: string };
  /** A certificate of the client's own. */
  readonly cert?: string | Buffer | { readonly file: string };
  /** The key of that certificate. */
  readonly key?: string | Buffer | { readonly file: string };
}

/** How checks are answered from memory. */
export interface CacheOptions {
  /** How many keys to remember, those that were asked for lately. By default 10,000. */
  readonly maxKeys?: number;
}

/** How checks that are under way at the same time share messages. */
export interface BatchingOptions {
  /** How many checks one message carries at most: 1 to 256. By default 64. */
  readonly maxChecks?: number;
}

/** Where the client says what an operator should know. `console` is one. */
export interface Logger {
  info(event: string, fields: Readonly<Record<string, unknown>>): void;
  error(event: string, fields: Readonly<Record<string, unknown>>): void;
}

/** How a client is to be. Everything can be left out. */
export interface ClientOptions {
  /** The server's address: "host:port", "unix:/path". By default the environment's KEYFENCE_TARGET. */
  readonly target?: string;
  /** More servers, each as host:port, that stand for the target. Calls take turns among them. */
  readonly addresses?: readonly string[];
  /**
   * The client's own credential: a text, a file that is read again when it has changed, or a function that is
   * asked for every call. By default the environment's KEYFENCE_TOKEN, or else none.
   */
  readonly token?: Token;
  /** TLS for local targets as well, or TLS that the defaults do not fit. */
  readonly tls?: TlsOptions;
  /**
   * No TLS over a network, which can then read the token and every key. It is meant for networks that encrypt
   * by themselves, such as a service mesh.
   */
  readonly insecurePlaintext?: boolean;
  /** The deadline of checks that name none, in milliseconds. By default 2,000. */
  readonly checkTimeoutMs?: number;
  /** The deadline of other calls that name none, in milliseconds. By default 15,000. */
  readonly timeoutMs?: number;
  /**
   * Answers checks on known keys from memory, under a lease: what was revoked is never accepted. The token
   * needs the scope "replication:sync".
   */
  readonly cache?: boolean | CacheOptions;
  /** Sends checks that are under way at the same time in one message. */
  readonly batching?: boolean | BatchingOptions;
  /** By default nothing is logged. */
  readonly logger?: Logger;
}

export const DEFAULT_CHECK_TIMEOUT_MS = 2_000;
export const DEFAULT_TIMEOUT_MS = 15_000;
export const DEFAULT_MAX_KEYS = 10_000;
export const DEFAULT_BATCH_CHECKS = 64;
const MAX_BATCH_CHECKS = 256;
/** What a timer of Node counts to. It takes more for no time at all. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/** The bound of a cache; undefined: there is to be none. */
export function cacheSize(cache: boolean | CacheOptions | undefined): number | undefined {
  if (cache === undefined || cache === false) {
    return undefined;
  }
  return within("cache.maxKeys", cache === true ? undefined : cache.maxKeys, DEFAULT_MAX_KEYS, 10_000_000);
}

/** The bound of a batch; undefined: there are to be none. */
export function batchSize(batching: boolean | BatchingOptions | undefined): number | undefined {
  if (batching === undefined || batching === false) {
    return undefined;
  }
  const given = batching === true ? undefined : batching.maxChecks;
  return within("batching.maxChecks", given, DEFAULT_BATCH_CHECKS, MAX_BATCH_CHECKS);
}

/** A timeout in milliseconds, which must be positive. */
export function timeout(name: string, given: number | undefined, otherwise: number): number {
  const chosen = given ?? otherwise;
  if (!(chosen > 0 && chosen <= LONGEST_TIMEOUT_MS)) {
    throw new RangeError(
      `${name} must be a positive number of milliseconds up to ${LONGEST_TIMEOUT_MS}, not ${chosen}`,
    );
  }
  return chosen;
}

/** What PEM was given, or stands in the file that was named. */
export function pem(given: string | Buffer | { readonly file: string } | undefined): Buffer | null {
  if (given === undefined) {
    return null;
  }
  if (typeof given === "string" || Buffer.isBuffer(given)) {
    return Buffer.from(given);
  }
  return readFileSync(given.file);
}

function within(name: string, given: number | undefined, otherwise: number, most: number): number {
  const chosen = given ?? otherwise;
  if (!Number.isInteger(chosen) || chosen < 1 || chosen > most) {
    throw new RangeError(`${name} must be a whole number from 1 to ${most}, not ${chosen}`);
  }
  return chosen;
}
