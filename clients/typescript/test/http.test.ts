import assert from "node:assert/strict";
import type { AddressInfo } from "node:net";
import { after, before, describe, it } from "node:test";
import express from "express";
import { Hono } from "hono";
import type { HttpAnswersLike } from "../src/http/index.js";
import { HttpGuard, principalOf } from "../src/http/index.js";
import type { Checker, Client, Verdict } from "../src/index.js";
import { KeyfenceError } from "../src/index.js";
import type { FakeServer } from "../src/testing/index.js";
import { demoServer } from "./demo.js";

/** What a handler sees of a request: whose it is, and what is left of the headers. */
interface Seen {
  readonly keyId: string | undefined;
  readonly headers: Record<string, string>;
}

type Send = (headers: Record<string, string>) => Promise<Response>;

/** The three frameworks, each behind a function that sends a request. */
const frameworks: Record<
  string,
  (guard: HttpGuard, seen: Seen[]) => Promise<{ send: Send; close: () => void }>
> = {
  fetch: async (guard, seen) => {
    const handler = guard.fetch(["vps:read"], async (request, more: string) => {
      seen.push({ keyId: principalOf(request)?.keyId, headers: Object.fromEntries(request.headers) });
      return new Response(`${await request.text()} ${more}`);
    });
    const url = "http://api.example/servers";
    return {
      send: (headers) => handler(new Request(url, { method: "POST", body: "hello", headers }), "there"),
      close: () => undefined,
    };
  },
  hono: async (guard, seen) => {
    const app = new Hono();
    app.post("/servers", guard.hono("vps:read"), async (c) => {
      seen.push({ keyId: principalOf(c.req.raw)?.keyId, headers: c.req.header() });
      return c.text(`${await c.req.text()} there`);
    });
    return {
      send: async (headers) => await app.request("/servers", { method: "POST", body: "hello", headers }),
      close: () => undefined,
    };
  },
  express: async (guard, seen) => {
    const app = express();
    app.post("/servers", guard.express("vps:read"), express.text(), (request, response) => {
      const raw = request.rawHeaders;
      const distinct = Object.entries(request.headersDistinct).map(([name, values]) => [
        name,
        values?.join(),
      ]);
      const headers = Object.fromEntries(
        raw.flatMap((name, index) => (index % 2 ? [] : [[name.toLowerCase(), raw[index + 1] ?? ""]])),
      );
      assert.deepEqual(Object.fromEntries(distinct), headers);
      assert.deepEqual({ ...request.headers }, headers);
      seen.push({ keyId: principalOf(request)?.keyId, headers });
      response.send(`${request.body} there`);
    });
    const server = app.listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as AddressInfo;
    return {
      send: (headers) =>
        fetch(`http://127.0.0.1:${port}/servers`, {
          method: "POST",
          body: "hello",
          headers: { "content-type": "text/plain", ...headers },
        }),
      close: () => {
        server.closeAllConnections();
        server.close();
      },
    };
  },
};

for (const [name, start] of Object.entries(frameworks)) {
  describe(`a guard of HTTP handlers, with ${name}`, () => {
    let fake: FakeServer;
    let client: Client;
    let send: Send;
    let close: () => void;
    const seen: Seen[] = [];
    const declared: HttpAnswersLike = {
      credentials: { bearer: true, headers: ["X-API-Key"], cookie: "session" },
    };

    before(async () => {
      fake = await demoServer();
      client = fake.client();
      const guard = new HttpGuard(client, { keyspace: "demo", answers: declared });
      ({ send, close } = await start(guard, seen));
    });

    after(async () => {
      close();
      await fake.close();
    });

    it("lets a good key through, and takes it off the request", async () => {
      const { apiKey, keyId } = await fake.createKey("demo", "vps:read");
      const key = apiKey.reveal();
      const ways: Record<string, string>[] = [
        { authorization: `Bearer ${key}` },
        { "x-api-key": key },
        { cookie: `theme=dark; session=${key}; lang=en` },
        { "x-api-key": key, authorization: `bearer ${key}` },
      ];
      for (const headers of ways) {
        seen.length = 0;
        const response = await send({ ...headers, "x-other": "kept" });

        assert.deepEqual([response.status, await response.text()], [200, "hello there"]);
        assert.equal(seen[0]?.keyId, keyId);
        assert.ok(!JSON.stringify(seen[0]?.headers).includes(key));
        assert.equal(seen[0]?.headers["x-other"], "kept");
        assert.equal(seen[0]?.headers["cookie"], headers["cookie"] && "theme=dark; lang=en");
      }
    });

    it("answers in the words of RFC 6750, where the keyspace has none", async () => {
      const { apiKey } = await fake.createKey("demo");

      const missing = await send({});
      assert.equal(missing.status, 401);
      assert.equal(missing.headers.get("www-authenticate"), 'Bearer realm="demo"');
      assert.equal(missing.headers.get("cache-control"), "no-store");
      assert.deepEqual(await missing.json(), {
        error: "invalid_token",
        error_description: "The credential is missing or not valid",
      });

      const poor = await send({ "x-api-key": apiKey.reveal() });
      assert.equal(poor.status, 403);
      assert.equal(poor.headers.get("www-authenticate"), 'Bearer realm="demo", error="insufficient_scope"');
    });

    it("takes what another program may read otherwise for no key", async () => {
      const { apiKey } = await fake.createKey("demo", "vps:read");
      const key = apiKey.reveal();
      const count = fake.calls("CheckScope");
      for (const headers of [
        { authorization: `Bearer ${key}`, "x-api-key": "kf_live_another" },
        { authorization: `Basic ${key}` },
        { authorization: `Basic ${key}`, "x-api-key": key },
        { "x-api-key": `${key}, ${key}` },
        { "x-api-key": "" },
        { cookie: `session=${key}; session=${key}` },
      ] as Record<string, string>[]) {
        assert.equal((await send(headers)).status, 401, JSON.stringify(headers));
      }
      assert.equal(fake.calls("CheckScope"), count);
    });

    it("refuses a revoked key", async () => {
      const { apiKey, keyId } = await fake.createKey("demo", "vps:read");
      await fake.revokeKey(keyId);

      assert.equal((await send({ "x-api-key": apiKey.reveal() })).status, 401);
    });
  });

  describe(`the answers of a keyspace, with ${name}`, () => {
    let answer: Verdict | KeyfenceError;
    const revision = 1n;
    const checker: Checker = {
      authenticate: () => Promise.reject(new Error("not asked")),
      batchCheckScope: () => Promise.reject(new Error("not asked")),
      checkScope: () => (answer instanceof KeyfenceError ? Promise.reject(answer) : Promise.resolve(answer)),
    };
    const declared: HttpAnswersLike = {
      credentials: { bearer: false, headers: ["X-Key"] },
      answers: [
        { cause: "unauthenticated", status: 404, code: "WHO", message: "not {code}" },
        { cause: "key_expired", code: "EXPIRED" },
        { cause: "scope_missing", message: "needs {missing_scopes}" },
        {
          cause: "rate_limited",
          message: "wait {retry_after} s",
          body: '{"wait": "{retry_after}", "at": "{reset}"}',
        },
      ],
      contentType: "application/problem+json",
      body: '{"status": "{status}", "lacks": "{missing_scopes}", "of": "{required_scopes}", "braces": "{{{code}}}", "deep": [{"m": "{message}"}], "limit": "{limit}", "id": "{request_id}", "n": 1.5}',
      rateLimitHeaders: { limit: "X-Limit", remaining: "", reset: "X-Reset" },
    };
    const rateLimit = {
      limit: 10,
      remaining: 0,
      resetTime: new Date(1_700_000_000_000),
      retryAfterSeconds: 7,
    };

    /** Each answer that a caller gets to a check. */
    async function answered(verdict: Verdict | KeyfenceError): Promise<Response> {
      answer = verdict;
      const { send, close } = await (frameworks[name] ?? assert.fail())(
        new HttpGuard(checker, { keyspace: "demo", answers: declared }),
        [],
      );
      try {
        const response = await send({ "x-key": "k", "x-request-id": 'r"1' });
        return new Response(await response.text(), response);
      } finally {
        close();
      }
    }

    it("stand for a denial", async () => {
      const denied = await answered({
        allowed: false,
        reason: "KEY_UNKNOWN",
        missingScopes: [],
        revision,
        stale: false,
        rateLimit,
      });

      assert.equal(denied.status, 404);
      assert.equal(denied.headers.get("content-type"), "application/problem+json");
      assert.equal(denied.headers.get("www-authenticate"), 'ApiKey realm="demo"');
      assert.equal(denied.headers.get("x-limit"), null, "a 401 never tells of a limit");
      assert.deepEqual(await denied.json(), {
        status: 404,
        lacks: [],
        of: ["vps:read"],
        braces: "{WHO}",
        deep: [{ m: "not WHO" }],
        limit: null,
        id: 'r"1',
        n: 1.5,
      });
    });

    it("stand for one reason", async () => {
      const denied = await answered({
        allowed: false,
        reason: "KEY_EXPIRED",
        missingScopes: [],
        revision,
        stale: false,
      });

      assert.equal(denied.status, 404);
      assert.equal(((await denied.json()) as { braces: string }).braces, "{EXPIRED}");
    });

    it("stand for a reason of a later version", async () => {
      const denied = await answered({
        allowed: false,
        reason: "UNRECOGNIZED",
        missingScopes: [],
        revision,
        stale: false,
      });

      assert.equal(denied.status, 404);
    });

    it("stand for a missing scope", async () => {
      const denied = await answered({
        allowed: false,
        reason: "SCOPE_MISSING",
        missingScopes: ["vps:read"],
        revision,
        stale: false,
        rateLimit,
      });

      assert.equal(denied.status, 403);
      assert.equal(denied.headers.get("x-limit"), "10");
      const told = (await denied.json()) as { deep: unknown; limit: number };
      assert.deepEqual([told.deep, told.limit], [[{ m: "needs vps:read" }], 10]);
    });

    it("stand for a limit that is used up", async () => {
      const denied = await answered({
        allowed: false,
        reason: "RATE_LIMITED",
        missingScopes: [],
        revision,
        stale: false,
        rateLimit,
      });

      assert.equal(denied.status, 429);
      assert.equal(denied.headers.get("retry-after"), "7");
      assert.equal(denied.headers.get("x-reset"), "1700000000");
      assert.deepEqual(await denied.json(), { wait: 7, at: 1_700_000_000 });
    });

    it("are never given when nothing was decided", async () => {
      const away = await answered(new KeyfenceError({ status: "UNAVAILABLE", message: "away" }));
      assert.equal(away.status, 503);
      const wrong = await answered(new KeyfenceError({ status: "UNAUTHENTICATED", message: "no" }));
      assert.equal(wrong.status, 500);
      assert.match(await wrong.text(), /not set up/);
    });
  });
}

describe("a guard of HTTP handlers", () => {
  it("tells a request that passes where its limit stands", async () => {
    const rateLimit = { limit: 10, remaining: 9, resetTime: new Date(1_700_000_000_000) };
    const principal = { keyId: "key_1" } as never;
    const allowed = {
      allowed: true,
      reason: "OK",
      missingScopes: [],
      principal,
      revision: 1n,
      stale: false,
      rateLimit,
    } as const;
    const client = { authenticate: async () => allowed } as unknown as Checker;
    const guard = new HttpGuard(client, { keyspace: "demo" });
    const request = (): Request => new Request("http://api.example", { headers: { "x-api-key": "k" } });
    const app = new Hono().get("/", guard.hono(), (c) => c.text("ok"));

    const fetched = await guard.fetch([], () => Response.redirect("http://api.example/x"))(request());
    assert.deepEqual([fetched.status, fetched.headers.get("x-ratelimit-remaining")], [302, "9"]);
    const served = await app.request("/", { headers: { "x-api-key": "k" } });
    assert.deepEqual([served.status, served.headers.get("x-ratelimit-reset")], [200, "1700000000"]);
  });

  it("says at the start which scopes are not registered", async () => {
    await using fake = await demoServer();
    const guard = new HttpGuard(fake.client(), { keyspace: "demo" });
    guard.express("vps:read");
    await guard.verify();
    guard.fetch(["vps:raed"], () => new Response());

    await assert.rejects(guard.verify(), /"vps:raed" of keyspace "demo"/);
  });

  it("refuses answers that the server would not have taken", () => {
    const client = {} as Checker;
    for (const answers of [
      { body: "{" },
      { body: '{"a": "{b"}' },
      { answers: [{ cause: "key_revoked", message: "}" }] },
    ]) {
      assert.throws(() => new HttpGuard(client, { keyspace: "demo", answers }));
    }
    assert.throws(() => new HttpGuard(client, { keyspace: "" }), TypeError);
  });

  it("asks with the caller's address, if it is told how to find it", async () => {
    await using fake = await demoServer();
    const client = fake.client();
    const { apiKey } = await client.keys.createKey({
      keyspace: "demo",
      accountId: "a",
      allowedAddresses: ["10.0.0.1"],
    });
    const guard = new HttpGuard(client, {
      keyspace: "demo",
      clientAddress: (request) =>
        request instanceof Request ? (request.headers.get("x-real-ip") ?? "") : "",
    });
    const handler = guard.fetch([], () => new Response("ok"));
    const from = (address: string): Promise<Response> =>
      handler(new Request("http://api.example", { headers: { "x-api-key": apiKey, "x-real-ip": address } }));

    assert.equal((await from("10.0.0.1")).status, 200);
    assert.equal((await from("10.0.0.2")).status, 401);
  });
});
