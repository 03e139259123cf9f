/** What the guards of gRPC services and of HTTP handlers share. No Node, no protobuf. */

import type { Checker, Verdict } from "../checks.js";
import { parseAddress } from "../holder/addresses.js";

const BATCH = 256;

/** Where a guard says what is wrong with it. `console` is one. */
export interface GuardLogger {
  error(event: string, fields: Readonly<Record<string, unknown>>): void;
}

/** Asks for the verdict on a key. Without scopes: whether it is any good key. */
export function ask(
  client: Checker,
  question: { apiKey: string; keyspace: string; clientAddress: string; requiredScopes: readonly string[] },
): Promise<Verdict> {
  const { requiredScopes, ...authentication } = question;
  return requiredScopes.length === 0 ? client.authenticate(authentication) : client.checkScope(question);
}

/**
 * Says which of the scopes the keyspace does not register. It asks about no key, which needs no more than the
 * scope "keys:check": the server looks at the scopes first.
 */
export async function unregistered(
  client: Checker,
  keyspace: string,
  scopes: Iterable<string>,
): Promise<string[]> {
  const wanted = [...new Set(scopes)].sort();
  const wrong: string[] = [];
  for (let start = 0; start < wanted.length; start += BATCH) {
    const batch = wanted.slice(start, start + BATCH);
    const checks = batch.map((scope) => ({ apiKey: "", keyspace, requiredScopes: [scope] }));
    const results = await client.batchCheckScope(checks);
    for (const [index, { error }] of results.entries()) {
      if (error !== undefined) {
        wrong.push(`scope "${batch[index]}" of keyspace "${keyspace}": ${error.message}`);
      }
    }
  }
  return wrong;
}

/** The address without its port; empty if it has none that is an IP address. */
export function hostOf(address: string): string {
  const host = /^(.*?):\d+$/.exec(address)?.[1] ?? address;
  for (const candidate of [address, host.replace(/^\[|\]$/g, "")]) {
    const [plain = ""] = candidate.split("%");
    if (parseAddress(plain) !== undefined) {
      return plain;
    }
  }
  return "";
}

/** The key in the value of an `Authorization` header; undefined if it is of another scheme. */
export function bearer(value: string): string | undefined {
  const [scheme = "", ...rest] = value.split(" ");
  const key = rest.join(" ").trim();
  return scheme.toLowerCase() === "bearer" && key !== "" ? key : undefined;
}
