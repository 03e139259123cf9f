import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { ServiceDefinition } from "@grpc/grpc-js";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { Client } from "../src/index.js";
import type { FakeServer } from "../src/testing/index.js";
import { FakeError, TOKEN } from "../src/testing/index.js";
import { definitionOf } from "../src/testing/server.js";
import type { BatchCheckScopeRequest } from "../src/v1/index.js";
import {
  AuthorizationService,
  BatchCheckScopeResponseSchema,
  CheckScopeResponseSchema,
  create,
  Reason,
} from "../src/v1/index.js";
import { demoServer, until } from "./demo.js";

describe("batching", () => {
  let server: FakeServer;
  let client: Client;
  const read = { keyspace: "demo", requiredScopes: ["vps:read"] };

  before(async () => {
    server = await demoServer();
    client = server.client({ batching: { maxChecks: 16 } });
  });

  after(() => server.close());

  it("sends checks that begin together in one message, and answers each by itself", async () => {
    const good = await server.createKey("demo", "vps:read");
    const poor = await server.createKey("demo");
    const count = server.calls("BatchCheckScope");

    const [yes, no, broken, none] = await Promise.allSettled([
      client.checkScope({ ...good, ...read }),
      client.checkScope({ ...poor, ...read }),
      client.checkScope({ ...good, keyspace: "demo", requiredScopes: ["vps:raed"] }),
      client.checkScope({ apiKey: "", ...read }),
    ]);

    assert.equal(server.calls("BatchCheckScope") - count, 1);
    assert.ok(yes.status === "fulfilled" && yes.value.principal?.keyId === good.keyId);
    assert.ok(no.status === "fulfilled" && no.value.reason === "SCOPE_MISSING");
    assert.ok(broken.status === "rejected" && broken.reason.reason === "UNKNOWN_SCOPE");
    assert.ok(none.status === "fulfilled" && none.value.reason === "CREDENTIAL_MISSING");
  });

  it("sends no more checks in a message than it may", async () => {
    const { apiKey } = await server.createKey("demo", "vps:read");
    const count = server.calls("BatchCheckScope");

    const verdicts = await Promise.all(
      Array.from({ length: 100 }, () => client.checkScope({ apiKey, ...read })),
    );

    assert.ok(verdicts.every((verdict) => verdict.allowed));
    assert.equal(server.calls("BatchCheckScope") - count, 7);
  });

  it("has checks wait for the message that is under way", async () => {
    const { apiKey } = await server.createKey("demo", "vps:read");
    const count = server.calls("BatchCheckScope");
    const checks = [client.checkScope({ apiKey, ...read })];
    for (let turn = 0; turn < 8; turn += 1) {
      await Promise.resolve();
      checks.push(client.checkScope({ apiKey, ...read }));
    }
    await Promise.all(checks);

    assert.ok(server.calls("BatchCheckScope") - count <= 2);
  });

  it("lets callers that were just answered share the next message", async () => {
    const { apiKey } = await server.createKey("demo", "vps:read");
    const count = server.calls("BatchCheckScope");
    const askTenTimes = async (): Promise<void> => {
      for (let number = 0; number < 10; number += 1) {
        await client.checkScope({ apiKey, ...read });
      }
    };

    const first = askTenTimes();
    // The first message is sent in this turn of the event loop, and cannot be answered in it.
    for (let turn = 0; turn < 8; turn += 1) {
      await Promise.resolve();
    }
    await Promise.all([first, askTenTimes(), askTenTimes(), askTenTimes()]);

    assert.ok(server.calls("BatchCheckScope") - count <= 12, "20, if the first caller is always alone");
  });

  it("does not have a full message wait for the one that is under way", async () => {
    const held: (() => void)[] = [];
    const answerAll = (): void => {
      for (const answer of held.splice(0)) {
        answer();
      }
    };
    const slow = new Server();
    const { batchCheckScope } = definitionOf(AuthorizationService);
    slow.addService({ batchCheckScope } as ServiceDefinition, {
      batchCheckScope: (
        call: { request: BatchCheckScopeRequest },
        callback: (error: null, value: object) => void,
      ) => {
        const results = call.request.checks.map(() => ({ result: { case: "response" as const, value: {} } }));
        held.push(() => callback(null, create(BatchCheckScopeResponseSchema, { results })));
      },
    });
    const port = await new Promise<number>((resolve) => {
      slow.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (_, bound) => resolve(bound));
    });
    await using batched = new Client({
      target: `127.0.0.1:${port}`,
      token: TOKEN,
      batching: { maxChecks: 4 },
    });
    const check = (): Promise<unknown> => batched.checkScope({ apiKey: "x", ...read });

    const checks = [check()];
    await until(() => held.length === 1, "the first message is under way");
    checks.push(...[1, 2, 3, 4, 5].map(check));
    await until(() => held.length === 2, "the full message is under way, too");
    answerAll();
    await until(() => held.length === 1, "the check that was left has its message");
    answerAll();

    assert.equal((await Promise.all(checks)).length, 6);
    slow.forceShutdown();
  });

  it("fails every check of a message that fails, and repeats it first", async () => {
    server.failNext("BatchCheckScope", 4, new FakeError("UNAVAILABLE", "STORE_UNAVAILABLE", "away"));

    const failed = await Promise.allSettled([1, 2].map(() => client.checkScope({ apiKey: "x", ...read })));

    assert.deepEqual(
      failed.map((one) => one.status === "rejected" && one.reason.status),
      ["UNAVAILABLE", "UNAVAILABLE"],
    );
    assert.ok(await client.checkScope({ apiKey: "x", ...read }), "and goes on");
  });

  it("sends a large check alone", async () => {
    const counts = ["CheckScope", "BatchCheckScope"].map((method) => server.calls(method));

    const verdict = await client.checkScope({ apiKey: `kf_live_${"a".repeat(2_000)}`, ...read });

    assert.equal(verdict.allowed, false);
    const now = ["CheckScope", "BatchCheckScope"].map((method) => server.calls(method));
    assert.deepEqual(now, [(counts[0] ?? 0) + 1, counts[1]]);
  });

  it("asks alone for a check that did not fit the answer of its batch", async () => {
    const leftOut = { code: 8, reason: "LIMIT_REACHED", message: "", metadata: { limit: "answer_bytes" } };
    const full = new Server();
    const { batchCheckScope, checkScope } = definitionOf(AuthorizationService);
    full.addService({ batchCheckScope, checkScope } as ServiceDefinition, {
      batchCheckScope: (
        call: { request: BatchCheckScopeRequest },
        callback: (error: null, value: object) => void,
      ) => {
        const results = call.request.checks.map(() => ({
          result: { case: "error" as const, value: leftOut },
        }));
        callback(null, create(BatchCheckScopeResponseSchema, { results }));
      },
      checkScope: (_: object, callback: (error: null, value: object) => void) => {
        callback(null, create(CheckScopeResponseSchema, { allowed: true, reason: Reason.OK, principal: {} }));
      },
    });
    const port = await new Promise<number>((resolve) => {
      full.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (_, bound) => resolve(bound));
    });
    await using batched = new Client({ target: `127.0.0.1:${port}`, token: TOKEN, batching: true });

    assert.ok((await batched.checkScope({ apiKey: "x", ...read })).allowed);
    full.forceShutdown();
  });

  it("ends one check without the others", async () => {
    const { apiKey } = await server.createKey("demo", "vps:read");
    const controller = new AbortController();
    const aborted = client.checkScope({ apiKey, ...read, signal: controller.signal });
    const other = client.checkScope({ apiKey, ...read });
    controller.abort();

    await assert.rejects(aborted, { status: "CANCELLED" });
    assert.ok((await other).allowed);
  });

  it("sends a check with a credential of its own by itself", async () => {
    const count = server.calls("CheckScope");

    await assert.rejects(client.checkScope({ apiKey: "x", ...read, credential: "kf_system_another" }), {
      status: "UNAUTHENTICATED",
    });
    assert.equal(server.calls("CheckScope") - count, 1);
  });
});
