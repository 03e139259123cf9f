import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Client } from "../src/index.js";
import type { FakeServer } from "../src/testing/index.js";
import { FakeError } from "../src/testing/index.js";
import { KeyState } from "../src/v1/index.js";
import { demoServer, until } from "./demo.js";

describe("a cache", () => {
  let server: FakeServer;
  let client: Client;

  const read = { keyspace: "demo", requiredScopes: ["vps:read"] };

  before(async () => {
    server = await demoServer();
    client = server.client({ cache: true });
    await client.authenticate({ apiKey: "kf_live_nothing" });
    await until(() => client.cacheStatus()?.live === true, "the cache has a lease");
  });

  after(() => server.close());

  /** How many calls a check cost the server. */
  async function cost(check: () => Promise<unknown>): Promise<number> {
    const calls = (): number =>
      ["CheckScope", "Authenticate", "FetchFacts"].reduce((sum, name) => sum + server.calls(name), 0);
    const count = calls();
    await check();
    return calls() - count;
  }

  it("answers a known key without a call", async () => {
    const { apiKey, keyId } = await server.createKey("demo", "vps:read");
    assert.equal(await cost(() => client.checkScope({ apiKey, ...read })), 1);

    const hits = client.cacheStatus()?.hits ?? 0;
    assert.equal(
      await cost(async () => {
        const verdict = await client.checkScope({ apiKey, ...read });
        assert.equal(verdict.principal?.keyId, keyId);
      }),
      0,
    );
    assert.equal(client.cacheStatus()?.hits, hits + 1);
  });

  it("never accepts a revoked key, once the revocation has returned", async () => {
    for (let count = 0; count < 50; count += 1) {
      const { apiKey, keyId } = await server.createKey("demo", "vps:read");
      assert.ok((await client.checkScope({ apiKey, ...read })).allowed);
      await server.revokeKey(keyId);
      assert.equal((await client.checkScope({ apiKey, ...read })).reason, "KEY_REVOKED");
    }
    assert.equal(client.cacheStatus()?.live, true);
  });

  it("learns of a key's new state", async () => {
    const { apiKey, keyId } = await server.createKey("demo", "vps:read");
    const set = (state: KeyState): Promise<unknown> =>
      client.keys.updateKey({ key: { keyId, state }, updateMask: { paths: ["state"] } });
    assert.ok((await client.authenticate({ apiKey })).allowed);
    await set(KeyState.DISABLED);
    assert.equal((await client.authenticate({ apiKey })).reason, "KEY_DISABLED");
    await set(KeyState.ACTIVE);
    assert.ok((await client.authenticate({ apiKey })).allowed);
  });

  it("says itself which scope is missing, once it knows which are registered", async () => {
    const { apiKey } = await server.createKey("demo", "vps:read");
    const check = { apiKey, keyspace: "demo", requiredScopes: ["vps:write"] };
    await until(async () => (await cost(() => client.checkScope(check))) === 0, "denials come from memory");

    const verdict = await client.checkScope(check);
    assert.deepEqual([verdict.reason, verdict.missingScopes], ["SCOPE_MISSING", ["vps:write"]]);
    await assert.rejects(client.checkScope({ ...check, requiredScopes: ["vps:raed"] }), {
      reason: "UNKNOWN_SCOPE",
    });
  });

  it("asks the server for explanations and for other credentials", async () => {
    const { apiKey } = await server.createKey("demo", "vps:read");
    await client.checkScope({ apiKey, ...read });

    assert.equal(await cost(() => client.checkScope({ apiKey, ...read, explain: true })), 1);
    const credential = "kf_system_another";
    await assert.rejects(client.checkScope({ apiKey, ...read, credential }), { status: "UNAUTHENTICATED" });
  });

  it("holds no more keys than it may, and keeps those that are asked for", async () => {
    await using small = server.client({ cache: { maxKeys: 3 } });
    await small.authenticate({ apiKey: "kf_live_nothing" });
    await until(() => small.cacheStatus()?.live === true, "the cache has a lease");
    const favourite = await server.createKey("demo");
    const others = await Promise.all(Array.from({ length: 20 }, () => server.createKey("demo")));

    const calls = await cost(async () => {
      for (const other of others) {
        await small.authenticate(favourite);
        await small.authenticate(other);
      }
    });

    assert.equal(small.cacheStatus()?.keys, 3);
    // A queue that did not look would ask for the favourite in every other turn.
    assert.ok(calls <= 24, `${calls} calls`);
  });

  it("reports the uses of keys when it is closed", async () => {
    const closing = server.client({ cache: true });
    await closing.authenticate({ apiKey: "kf_live_nothing" });
    await until(() => closing.cacheStatus()?.live === true, "the cache has a lease");
    const { apiKey, keyId } = await server.createKey("demo");
    for (let count = 0; count < 7; count += 1) {
      await closing.authenticate({ apiKey });
    }
    await closing.close();

    assert.equal(server.uses(keyId), 7);
    assert.equal(closing.cacheStatus()?.live, false);
  });

  it("asks the server while it has no lease", async () => {
    server.failNext("Sync", 1, new FakeError("UNAVAILABLE", "", "not now"));
    await using without = server.client({ cache: true });
    const { apiKey } = await server.createKey("demo", "vps:read");

    assert.ok((await without.checkScope({ apiKey, ...read })).allowed);
    assert.equal(without.cacheStatus()?.live, false);
    await until(() => without.cacheStatus()?.live === true, "the cache tries again");
  });

  it("says why it is kept out", async () => {
    server.failNext("Sync", 1, new FakeError("PERMISSION_DENIED", "SCOPE_REQUIRED", "no"));
    const said: string[] = [];
    const note = (event: string, fields: object): void =>
      void said.push(`${event} ${JSON.stringify(fields)}`);
    await using refused = server.client({ cache: true, logger: { info: note, error: note } });
    await refused.authenticate({ apiKey: "kf_live_nothing" });
    await until(() => said.length > 0, "something is said");

    assert.match(said[0] ?? "", /^cache_out_of_step .*PERMISSION_DENIED SCOPE_REQUIRED/);
  });

  it("leaves a server alone for as long as that asks, from the refusal on", async () => {
    const error = new FakeError("RESOURCE_EXHAUSTED", "LIMIT_REACHED", "later", { retry_after_seconds: "7" });
    server.failNext("Sync", 1, error);
    const said: Readonly<Record<string, unknown>>[] = [];
    const note = (event: string, fields: Readonly<Record<string, unknown>>): void =>
      void (event === "cache_out_of_step" && said.push(fields));
    await using refused = server.client({ cache: true, logger: { info: note, error: note } });
    await refused.authenticate({ apiKey: "kf_live_nothing" });
    await until(() => said.length > 0, "something is said");

    const pauseMs = Number(said[0]?.["pauseMs"]);
    assert.ok(pauseMs >= 7_000 && pauseMs <= 10_500, `${pauseMs} ms`);
  });

  it("has no status without the option", () => {
    assert.equal(server.client().cacheStatus(), undefined);
  });
});
