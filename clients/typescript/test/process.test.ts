import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { findCommand, KeyfenceProcess } from "../src/testing/index.js";
import { until } from "./demo.js";

const skip =
  findCommand() || process.env["CI"]
    ? false
    : "SKIPPED: no command keyfence; install keyfence-server or set KEYFENCE_COMMAND";

describe("a real Keyfence", { skip }, () => {
  let keyfence: KeyfenceProcess;

  before(async () => {
    keyfence = await KeyfenceProcess.start();
    const scopes = [{ name: "vps:read" }, { name: "vps:write", implies: ["vps:read"] }];
    await keyfence.client().keyspaces.applyKeyspace({ keyspace: { name: "demo", scopes } });
  });

  after(() => keyfence.close());

  it("has no cache that accepts a key which was revoked", async () => {
    const operator = keyfence.client();
    const cached = keyfence.client({ cache: true, batching: true });
    await cached.authenticate({ apiKey: "kf_live_nothing" });
    await until(() => cached.cacheStatus()?.live === true, "the cache has a lease");
    const { apiKey, key } = await operator.keys.createKey({
      keyspace: "demo",
      accountId: "acct_1",
      scopes: ["vps:write"],
    });
    const check = { apiKey, keyspace: "demo", requiredScopes: ["vps:read"] };

    assert.ok((await cached.checkScope(check)).allowed);
    assert.ok((await cached.checkScope(check)).allowed);
    assert.ok((cached.cacheStatus()?.hits ?? 0) >= 1);
    await operator.keys.revokeKey({ keyId: key?.keyId ?? "" });
    assert.equal((await cached.checkScope(check)).reason, "KEY_REVOKED");
  });

  it("tells what is wrong with a call", async () => {
    const call = keyfence.client().checkScope({ apiKey: "", keyspace: "demo", requiredScopes: ["vps:raed"] });

    const error = await call.catch((failed: unknown) => failed);
    assert.deepEqual([(error as { reason: string }).reason], ["UNKNOWN_SCOPE"]);
    assert.notEqual((error as { requestId: string }).requestId, "");
  });

  it("names the fields that are wrong", async () => {
    const call = keyfence.client().authenticate({ apiKey: "x", clientAddress: "localhost" });

    const error = (await call.catch((failed: unknown) => failed)) as { violations: { field: string }[] };
    assert.deepEqual(
      error.violations.map((one) => one.field),
      ["client_address"],
    );
  });
});
