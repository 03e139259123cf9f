/** What a holder knows of a key, and what it answers from that. */

import type { Principal } from "../checks.js";
import { millisOf, principalOf } from "../convert.js";
import type { FetchFactsResponse, SubjectChange } from "../v1/index.js";
import { Reason } from "../v1/index.js";
import type { Network } from "./addresses.js";
import { contains, parseAddress, parseNetwork } from "./addresses.js";

/** Facts about a key. They never change. */
export interface Facts {
  readonly principal: Principal;
  readonly scopes: ReadonlySet<string>;
  /** Why the key does not pass, whatever the time and the address. */
  readonly standing: Standing;
  /** In milliseconds since the epoch. */
  readonly expiresAt: number;
  /** Each of the lists must have the caller's address. */
  readonly allowLists: readonly (readonly Network[])[];
  /** What the facts follow from: "key:...", "keyspace:...", "account:..." or "session:...". */
  readonly dependsOn: readonly string[];
  /** Checks count against a rate limit, so the server answers them. */
  readonly isCounted: boolean;
}

/** Why a key does not pass, scopes aside; "OK" if it may. */
export type Standing = "OK" | "KEY_REVOKED" | "KEY_DISABLED" | "ACCOUNT_DISABLED";

/** Why a key does not pass now, scopes aside; "OK" if it does. */
export type Ground = Standing | "KEY_EXPIRED" | "ADDRESS_NOT_ALLOWED";

const STANDINGS: ReadonlyMap<Reason, Standing> = new Map([
  [Reason.OK, "OK"],
  [Reason.KEY_REVOKED, "KEY_REVOKED"],
  [Reason.KEY_DISABLED, "KEY_DISABLED"],
  [Reason.ACCOUNT_DISABLED, "ACCOUNT_DISABLED"],
]);

/** Reads what the server tells of a key. Undefined: it is nothing to remember. */
export function factsOf(response: FetchFactsResponse): Facts | undefined {
  const told = response.facts;
  // A standing of a later version is for the server to tell.
  const standing = told && STANDINGS.get(told.standing);
  if (told?.principal === undefined || standing === undefined) {
    return undefined;
  }
  const allowLists: Network[][] = [];
  for (const { networks } of told.addressLists) {
    const list = networks.map(parseNetwork);
    if (!list.every((network) => network !== undefined)) {
      return undefined;
    }
    allowLists.push(list);
  }
  const principal = principalOf(told.principal);
  return {
    principal,
    scopes: new Set(principal.effectiveScopes),
    standing,
    expiresAt: told.expireTime ? millisOf(told.expireTime) : Number.POSITIVE_INFINITY,
    allowLists,
    dependsOn: told.dependsOn,
    isCounted: told.isCounted || response.isCounted,
  };
}

/** What has changed. Undefined: something of a kind that this version does not know. */
export function subjectOf(change: SubjectChange): string | undefined {
  switch (change.subject.case) {
    case "keyId":
      return `key:${change.subject.value}`;
    case "keyspace":
      return `keyspace:${change.subject.value}`;
    case "accountId":
      return `account:${change.subject.value}`;
    case "sessionId":
      return `session:${change.subject.value}`;
    default:
      return undefined;
  }
}

/**
 * Why the key does not pass, scopes aside; "OK" if it does. Undefined: the address is none, whatever
 * else there is to say of the key.
 */
export function groundOf(facts: Facts, wall: number, clientAddress: string): Ground | undefined {
  const address = clientAddress === "" ? undefined : parseAddress(clientAddress);
  if (clientAddress !== "" && address === undefined) {
    return undefined;
  }
  if (facts.standing === "KEY_REVOKED") {
    return "KEY_REVOKED";
  }
  if (wall >= facts.expiresAt) {
    return "KEY_EXPIRED";
  }
  if (facts.standing !== "OK") {
    return facts.standing;
  }
  for (const list of facts.allowLists) {
    if (address === undefined || !list.some((network) => contains(network, address))) {
      return "ADDRESS_NOT_ALLOWED";
    }
  }
  return "OK";
}

/** Those of the scopes that the key lacks, each once, in the order asked. */
export function missingScopes(facts: Facts, required: readonly string[]): string[] {
  const missing: string[] = [];
  for (const scope of required) {
    if (!facts.scopes.has(scope) && !missing.includes(scope)) {
      missing.push(scope);
    }
  }
  return missing;
}
