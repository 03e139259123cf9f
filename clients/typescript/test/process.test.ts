import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { after, before, describe, it } from "node:test";
import type { KeyfenceError } from "../src/index.js";
import { EdgeClient } from "../src/index.js";
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

/** A port that is free at the moment. */
function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

describe("the client for edges at a real gateway", { skip }, () => {
  let keyfence: KeyfenceProcess;
  let gateway: ChildProcess;
  let edge: EdgeClient;
  let apiKey: string;
  let said = "";

  before(async () => {
    keyfence = await KeyfenceProcess.start();
    const operator = keyfence.client();
    const http = { answers: [{ cause: "unauthenticated", code: "WHO" }] };
    await operator.keyspaces.applyKeyspace({
      keyspace: { name: "demo", scopes: [{ name: "vps:read" }], http },
    });
    ({ apiKey } = await operator.keys.createKey({ keyspace: "demo", accountId: "acct_1" }));
    const port = await freePort();
    edge = new EdgeClient({ url: `http://127.0.0.1:${port}`, token: keyfence.token, timeoutMs: 5_000 });
    const settings = {
      KEYFENCE_GATEWAY_LISTEN: `127.0.0.1:${port}`,
      KEYFENCE_GATEWAY_TARGET: keyfence.target,
    };
    const env = { PATH: process.env["PATH"], ...settings };
    gateway = spawn(findCommand() ?? "keyfence", ["gateway"], { env, stdio: ["ignore", "pipe", "pipe"] });
    for (const output of [gateway.stdout, gateway.stderr]) {
      output?.on("data", (text: Buffer) => {
        said += text.toString();
      });
    }
  });

  after(async () => {
    if (gateway.exitCode === null) {
      gateway.kill("SIGTERM");
      await new Promise((resolve) => gateway.once("exit", resolve));
    }
    await keyfence.close();
  });

  it("asks about keys, is told what is wrong, and learns how the keyspace speaks HTTP", async (test) => {
    const isUp = async (): Promise<boolean> =>
      gateway.exitCode !== null ||
      (await edge.authenticate({ apiKey }).then(
        (verdict) => verdict.allowed,
        () => false,
      ));
    await until(isUp, "the gateway answers", 60_000);
    if (gateway.exitCode !== null && !process.env["CI"]) {
      test.skip(`SKIPPED: no gateway: ${said}`);
      return;
    }

    const check = { apiKey, keyspace: "demo", requiredScopes: ["vps:read"] };
    const denied = await edge.checkScope({ ...check, explain: true });
    assert.deepEqual([denied.reason, denied.missingScopes], ["SCOPE_MISSING", ["vps:read"]]);
    assert.equal(denied.principal?.accountId, "acct_1");
    assert.deepEqual(denied.explanation?.sufficientGrants, ["vps:read"]);
    assert.ok(denied.revision > 0n);
    const results = await edge.batchCheckScope([check, { ...check, requiredScopes: ["vps:raed"] }]);
    assert.deepEqual(
      results.map(({ verdict, error }) => verdict?.reason ?? error?.reason),
      ["SCOPE_MISSING", "UNKNOWN_SCOPE"],
    );
    const wrong = (await edge
      .authenticate({ apiKey, clientAddress: "localhost" })
      .catch((error: unknown) => error)) as KeyfenceError;
    assert.deepEqual(
      [wrong.status, wrong.reason, wrong.violations[0]?.field],
      ["INVALID_ARGUMENT", "INVALID_FIELD", "client_address"],
    );
    assert.notEqual(wrong.requestId, "");
    assert.equal((await edge.httpAnswers("demo"))?.answers?.[0]?.code, "WHO");
  });
});
