import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { Socket } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { principalOf } from "../src/convert.js";
import { Client, KeyfenceError, Secret } from "../src/index.js";
import type { FakeServer } from "../src/testing/index.js";
import { FakeError, TOKEN } from "../src/testing/index.js";
import { create, KeyState, PrincipalSchema } from "../src/v1/index.js";
import { demoServer } from "./demo.js";

const away = new FakeError("UNAVAILABLE", "STORE_UNAVAILABLE", "the store is away");

describe("a client", () => {
  let server: FakeServer;
  let client: Client;

  before(async () => {
    server = await demoServer();
    client = server.client();
  });

  after(() => server.close());

  it("says whether the list of effective scopes was cut off", async () => {
    const { apiKey } = await server.createKey("demo", "vps:create");
    assert.equal((await client.authenticate({ apiKey })).principal?.effectiveScopesTruncated, false);

    const message = create(PrincipalSchema, { effectiveScopes: ["a:b"], effectiveScopesTruncated: true });
    assert.equal(principalOf(message).effectiveScopesTruncated, true);
  });

  it("allows what a key's scopes imply", async () => {
    const { apiKey, keyId } = await server.createKey("demo", "vps:create");

    const verdict = await client.checkScope({ apiKey, keyspace: "demo", requiredScopes: ["vps:read"] });

    assert.ok(verdict.allowed);
    assert.equal(verdict.principal.keyId, keyId);
    assert.equal(verdict.reason, "OK");
  });

  it("is answered by a fake that knows networks", async () => {
    const { apiKey } = await client.keys.createKey({
      keyspace: "demo",
      allowedAddresses: ["10.0.0.0/8", "2001:db8::1"],
    });
    for (const [clientAddress, isAllowed] of [
      ["10.1.2.3", true],
      ["::ffff:10.1.2.3", true],
      ["2001:db8::1", true],
      ["192.0.2.1", false],
      ["", false],
    ] as const) {
      const verdict = await client.authenticate({ apiKey, clientAddress });
      assert.equal(verdict.allowed, isAllowed, clientAddress);
    }
  });

  it("is answered by a fake that lists keys in pages", async () => {
    const pages: number[] = [];
    let pageToken = "";
    do {
      const page = await client.keys.listKeys({ keyspace: "demo", pageSize: 1, pageToken });
      pages.push(page.keys.length);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    assert.ok(pages.length > 1);
    assert.ok(pages.every((length) => length === 1));
  });

  it("answers a denial as a value", async () => {
    const { apiKey } = await server.createKey("demo", "vps:read");

    const verdict = await client.checkScope({ apiKey, requiredScopes: ["vps:write"] });

    assert.equal(verdict.allowed, false);
    assert.equal(verdict.reason, "SCOPE_MISSING");
    assert.deepEqual(verdict.missingScopes, ["vps:write"]);
  });

  it("tells whose key it is, and whose token it has itself", async () => {
    const { apiKey } = await server.createKey("demo");

    assert.equal((await client.authenticate({ apiKey })).principal?.accountId, "acct_1");
    assert.equal((await client.whoAmI()).accountId, "operators");
  });

  it("refuses a check without scopes, which would allow whatever the key may do", async () => {
    await assert.rejects(client.checkScope({ apiKey: "x", requiredScopes: [] }), TypeError);
  });

  it("fails with a typed error that shows no secret", async () => {
    const { apiKey } = await server.createKey("demo");
    const plaintext = apiKey.reveal();
    const told = { key: `${plaintext} and ${TOKEN.reveal()}` };
    server.failNext(
      "CheckScope",
      1,
      new FakeError("INVALID_ARGUMENT", "INVALID_FIELD", `no ${plaintext}`, told),
    );

    const error = await client
      .checkScope({ apiKey, requiredScopes: ["vps:read"] })
      .catch((failed: unknown) => failed);

    assert.ok(error instanceof KeyfenceError);
    assert.equal(error.status, "INVALID_ARGUMENT");
    assert.equal(error.reason, "INVALID_FIELD");
    assert.match(error.requestId, /^fake_/);
    assert.match(error.metadata["key"] ?? "", /redacted/);
    assert.ok(!`${error.stack} ${JSON.stringify(error)}`.includes(plaintext));
    assert.ok(!JSON.stringify(error).includes(TOKEN.reveal()));
    assert.equal(error.isPassing, false);
  });

  it("repeats a check while no server can answer", async () => {
    const { apiKey } = await server.createKey("demo");
    const before = server.calls("Authenticate");
    server.failNext("Authenticate", 3, away);

    assert.ok((await client.authenticate({ apiKey })).allowed);
    assert.equal(server.calls("Authenticate") - before, 4);
  });

  it("gives up after four attempts", async () => {
    const before = server.calls("Authenticate");
    server.failNext("Authenticate", 4, away);

    await assert.rejects(client.authenticate({ apiKey: "x" }), { status: "UNAVAILABLE", isPassing: true });
    assert.equal(server.calls("Authenticate") - before, 4);
  });

  it("sends an update once, since it may have been carried out", async () => {
    server.failNext("UpdateKey", 1, away);
    const before = server.calls("UpdateKey");

    await assert.rejects(client.keys.updateKey({ key: { keyId: "key_1" } }), { status: "UNAVAILABLE" });
    assert.equal(server.calls("UpdateKey") - before, 1);
  });

  it("makes one key although the call is repeated", async () => {
    const create = { keyspace: "demo", accountId: "acct_retry", scopes: ["vps:read"] };
    server.loseNextAnswer("CreateKey");

    // The key was made, and its plaintext was in the answer that was lost.
    await assert.rejects(client.keys.createKey(create), { reason: "REQUEST_ALREADY_DONE" });

    const { keys } = await client.keys.listKeys({ keyspace: "demo", accountId: "acct_retry" });
    assert.equal(keys.length, 1);
    await client.keys.createKey(create);
    assert.equal((await client.keys.listKeys({ keyspace: "demo", accountId: "acct_retry" })).keys.length, 2);
  });

  it("manages keys by the messages of the API", async () => {
    const { apiKey, keyId } = await server.createKey("demo", "vps:read");

    await client.keys.updateKey({
      key: { keyId, state: KeyState.DISABLED },
      updateMask: { paths: ["state"] },
    });
    assert.equal((await client.authenticate({ apiKey })).reason, "KEY_DISABLED");
    const { key } = await client.keys.revokeKey({ keyId });
    assert.equal(key?.state, KeyState.REVOKED);
    assert.equal((await client.authenticate({ apiKey })).reason, "KEY_REVOKED");
  });

  it("keeps each check of a batch apart", async () => {
    const { apiKey } = await server.createKey("demo", "vps:read");

    const [good, poor, broken] = await client.batchCheckScope([
      { apiKey, keyspace: "demo", requiredScopes: ["vps:read"] },
      { apiKey, keyspace: "demo", requiredScopes: ["vps:write"] },
      { apiKey, keyspace: "demo", requiredScopes: ["vps:raed"] },
    ]);

    assert.ok(good?.verdict?.allowed);
    assert.equal(poor?.verdict?.reason, "SCOPE_MISSING");
    assert.equal(broken?.error?.reason, "UNKNOWN_SCOPE");
  });

  it("ends a call at its deadline", async () => {
    // A server that takes connections and says nothing.
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket)).listen(0, "127.0.0.1");
    await new Promise((resolve) => silent.once("listening", resolve));
    const address = silent.address() as { port: number };
    await using patient = new Client({ target: `127.0.0.1:${address.port}`, token: TOKEN });

    await assert.rejects(patient.authenticate({ apiKey: "x", timeoutMs: 50 }), {
      status: "DEADLINE_EXCEEDED",
    });
    for (const socket of sockets) {
      socket.destroy();
    }
    silent.close();
  });

  it("ends a call when it is aborted", async () => {
    await using aborted = new Client({ target: "127.0.0.1:1", token: TOKEN });

    const call = aborted.authenticate({ apiKey: "x", signal: AbortSignal.timeout(20) });

    await assert.rejects(call, KeyfenceError);
    await assert.rejects(aborted.authenticate({ apiKey: "x", signal: AbortSignal.abort() }), {
      status: "CANCELLED",
    });
  });

  it("goes to another address when one is away", async () => {
    await using several = new Client({ target: "127.0.0.1:1", addresses: [server.target], token: TOKEN });

    for (let count = 0; count < 4; count += 1) {
      assert.equal((await several.whoAmI()).keyId, "key_fake");
    }
  });

  it("lets several addresses take turns", async () => {
    await using other = await demoServer();
    await using both = new Client({ target: server.target, addresses: [other.target], token: TOKEN });
    const calls = (): number => other.calls("WhoAmI");

    for (let count = 0; count < 20; count += 1) {
      await both.whoAmI();
    }

    assert.ok(calls() >= 5 && calls() <= 15, `${calls()} of 20 calls`);
  });

  it("takes its token from a text, a file that changes, or a function", async () => {
    const directory = await mkdtemp(join(tmpdir(), "kf"));
    const file = join(directory, "token");
    try {
      await writeFile(file, "kf_system_wrong\n");
      await using byFile = new Client({ target: server.target, token: { file } });
      await assert.rejects(byFile.whoAmI(), { status: "UNAUTHENTICATED", reason: "CREDENTIAL_REJECTED" });
      await writeFile(file, `${TOKEN.reveal()}\n`);
      assert.ok(await byFile.whoAmI());
      await using byFunction = new Client({ target: server.target, token: async () => TOKEN });
      assert.ok(await byFunction.whoAmI());
      await using without = new Client({ target: server.target });
      await assert.rejects(without.whoAmI(), { reason: "CREDENTIAL_REQUIRED" });
      assert.ok(await without.whoAmI({ credential: TOKEN }));
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it("refuses a token that can be none without showing it", async () => {
    assert.throws(
      () => new Client({ target: server.target, token: "a secret" }),
      (error: Error) => !error.message.includes("a secret"),
    );
    await using byFile = new Client({ target: server.target, token: { file: "kf_system_0123456789abcdef" } });
    await assert.rejects(byFile.whoAmI(), (error: Error) => !error.message.includes("0123456789"));
  });

  it("takes no calls when it is closed, and closes twice", async () => {
    const closed = server.client({ cache: true, batching: true });
    await closed.close();
    await closed.close();

    await assert.rejects(closed.checkScope({ apiKey: "x", requiredScopes: ["vps:read"] }), /closed/);
    await assert.rejects(closed.whoAmI(), /closed/);
  });

  it("refuses options that contradict each other or mean nothing", () => {
    const target = server.target;
    assert.throws(() => new Client({ target, tls: {}, insecurePlaintext: true }), /exclude/);
    assert.throws(() => new Client({ target, checkTimeoutMs: 0 }), RangeError);
    assert.throws(() => new Client({ target, checkTimeoutMs: 2 ** 31 }), RangeError);
    assert.throws(() => new Client({ target, cache: { maxKeys: 0 } }), RangeError);
    assert.throws(() => new Client({ target, batching: { maxChecks: 257 } }), RangeError);
    assert.throws(() => new Client({ target: "https://keyfence.example" }), /URL/);
    assert.throws(() => new Client({ target: "" }), /KEYFENCE_TARGET/);
  });

  it("speaks TLS to whatever may be another machine, and plaintext only where that is asked for", async () => {
    // 0.0.0.0 leads to this machine here, and nothing says so.
    const network = "0.0.0.0";
    for (const [host, options, first] of [
      [network, {}, "16"],
      [network, { insecurePlaintext: true }, "50"],
      ["127.0.0.1", {}, "50"],
      ["127.0.0.1", { tls: {} }, "16"],
    ] as const) {
      const listener = createServer();
      const heard = new Promise<string>((resolve) => {
        listener.on("connection", (socket) => {
          socket.on("error", () => undefined);
          socket.once("data", (data) => {
            resolve(data.subarray(0, 1).toString("hex"));
            socket.destroy();
          });
        });
      });
      listener.listen(0, "127.0.0.1");
      await new Promise((resolve) => listener.once("listening", resolve));
      const { port } = listener.address() as { port: number };
      await using secured = new Client({ target: `${host}:${port}`, token: TOKEN, ...options });
      await assert.rejects(secured.authenticate({ apiKey: "x", timeoutMs: 500 }));
      assert.equal(await heard, first, `${host} ${JSON.stringify(options)}`);
      listener.close();
    }
  });

  it("takes a Secret wherever it takes a key", async () => {
    const { apiKey } = await server.createKey("demo");

    assert.ok((await client.authenticate({ apiKey: apiKey.reveal() })).allowed);
    assert.ok((await client.authenticate({ apiKey: new Secret(apiKey.reveal()) })).allowed);
  });
});
