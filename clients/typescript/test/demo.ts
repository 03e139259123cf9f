/** What several tests share. */

import { FakeServer, keyspace } from "../src/testing/index.js";
import { create, KeyspaceSchema } from "../src/v1/index.js";

/**
 * A fake with the keyspace "demo", where vps:create implies vps:write, which implies vps:read. Another keyspace
 * comes before it, so that "demo" is not on the first page of the keyspaces.
 */
export function demoServer(): Promise<FakeServer> {
  const scopes = [
    { name: "vps:read" },
    { name: "vps:write", implies: ["vps:read"] },
    { name: "vps:create", implies: ["vps:write"] },
  ];
  return FakeServer.start(create(KeyspaceSchema, { name: "demo", scopes }), keyspace("another", "a:b"));
}

/** Waits until something holds. */
export async function until(
  holds: () => boolean | Promise<boolean>,
  what: string,
  patienceMs = 20_000,
): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!(await holds())) {
    if (performance.now() > deadline) {
      throw new Error(`it never came to be that ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
