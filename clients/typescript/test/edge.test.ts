import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { EdgeClient, KeyfenceError } from "../src/edge.js";

interface Sent {
  readonly url: string;
  readonly init: RequestInit;
}

function edge(...answers: (() => Response | Promise<Response>)[]): { client: EdgeClient; sent: Sent[] } {
  const sent: Sent[] = [];
  const answer = (url: string | URL | Request, init: RequestInit = {}): Promise<Response> => {
    sent.push({ url: String(url), init });
    return Promise.resolve((answers[sent.length - 1] ?? answers.at(-1) ?? assert.fail())());
  };
  const client = new EdgeClient({
    url: "https://gateway.example/",
    token: "kf_system_token",
    fetch: answer as typeof fetch,
  });
  return { client, sent };
}

const json =
  (body: object, status = 200, headers: Record<string, string> = {}) =>
  (): Response =>
    Response.json(body, { status, headers });

describe("an edge client", () => {
  it("asks the gateway, and reads its answer", async () => {
    const principal = {
      keyId: "key_1",
      accountId: "acct_1",
      effectiveScopesTruncated: true,
      expireTime: "2030-01-01T00:00:00Z",
    };
    const rateLimit = { limit: "10", remaining: "9", resetTime: "2030-01-01T00:00:00Z" };
    const { client, sent } = edge(
      json({ allowed: true, reason: "REASON_OK", principal, revision: "12345678901234567", rateLimit }),
    );

    const verdict = await client.checkScope({
      apiKey: "kf_live_key",
      keyspace: "demo",
      requiredScopes: ["vps:read"],
      atLeastRevision: 5n,
    });

    assert.ok(verdict.allowed);
    assert.equal(verdict.revision, 12345678901234567n);
    assert.equal(verdict.principal.effectiveScopesTruncated, true);
    assert.equal(verdict.principal.expireTime?.getUTCFullYear(), 2030);
    assert.equal(verdict.rateLimit?.remaining, 9);
    assert.equal(sent[0]?.url, "https://gateway.example/v1/keys:check");
    assert.deepEqual(JSON.parse(String(sent[0]?.init.body)), {
      apiKey: "kf_live_key",
      keyspace: "demo",
      requiredScopes: ["vps:read"],
      atLeastRevision: "5",
    });
    assert.equal(new Headers(sent[0]?.init.headers).get("authorization"), "Bearer kf_system_token");
  });

  it("allows nothing that is not said in full", async () => {
    for (const answer of [
      {},
      { allowed: true },
      { allowed: true, reason: "REASON_OK" },
      { allowed: "true", reason: "REASON_OK", principal: {} },
      { allowed: false, reason: "REASON_OK", principal: {} },
      { allowed: true, reason: "REASON_NEW", principal: {} },
    ]) {
      const { client } = edge(json(answer));
      const verdict = await client.checkScope({ apiKey: "x", requiredScopes: ["vps:read"] });
      assert.deepEqual([verdict.allowed, verdict.reason], [false, "UNRECOGNIZED"], JSON.stringify(answer));
    }
  });

  it("answers a denial as a value", async () => {
    const { client, sent } = edge(
      json({ authenticated: false, reason: "REASON_KEY_REVOKED", principal: { keyId: "key_1" } }),
    );

    const verdict = await client.authenticate({ apiKey: "kf_live_key" });

    assert.deepEqual(
      [
        verdict.allowed,
        verdict.reason,
        verdict.principal?.keyId,
        verdict.principal?.effectiveScopesTruncated,
      ],
      [false, "KEY_REVOKED", "key_1", false],
    );
    assert.equal(sent[0]?.url, "https://gateway.example/v1/keys:authenticate");
  });

  it("keeps each check of a batch apart", async () => {
    const { client } = edge(
      json({
        results: [
          { response: { allowed: false, reason: "REASON_KEY_UNKNOWN" } },
          { error: { code: 3, reason: "UNKNOWN_SCOPE", message: "no such scope" } },
        ],
      }),
    );
    const check = { apiKey: "x", requiredScopes: ["vps:read"] };

    const [denied, failed] = await client.batchCheckScope([check, check]);

    assert.equal(denied?.verdict?.reason, "KEY_UNKNOWN");
    assert.equal(failed?.error?.reason, "UNKNOWN_SCOPE");
    await assert.rejects(client.batchCheckScope([check]), { status: "INTERNAL" });
  });

  it("fails with a typed error that shows no secret", async () => {
    const details = [
      {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        domain: "keyfence",
        reason: "INVALID_FIELD",
        metadata: { key: "kf_live_key" },
      },
      {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        fieldViolations: [{ field: "api_key", description: "kf_live_key" }],
      },
    ];
    const { client } = edge(
      json({ code: 3, message: "kf_live_key kf_system_token", details }, 400, { "x-request-id": "req_1" }),
    );

    const error = await client.authenticate({ apiKey: "kf_live_key" }).catch((failed: unknown) => failed);

    assert.ok(error instanceof KeyfenceError);
    assert.deepEqual(
      [error.status, error.reason, error.requestId],
      ["INVALID_ARGUMENT", "INVALID_FIELD", "req_1"],
    );
    assert.equal(error.violations[0]?.field, "api_key");
    assert.ok(!`${error.stack}${JSON.stringify(error)}`.match(/kf_live_key|kf_system_token/));
  });

  it("repeats a check while the gateway is away, and reads answers of other programs", async () => {
    const away = (): Response => new Response("<html>", { status: 503 });
    const broken = (): Promise<Response> => Promise.reject(new TypeError("fetch failed"));
    const { client, sent } = edge(away, broken, json({ authenticated: false, reason: "REASON_KEY_UNKNOWN" }));

    assert.equal((await client.authenticate({ apiKey: "x" })).reason, "KEY_UNKNOWN");
    assert.equal(sent.length, 3);
    await assert.rejects(edge(away).client.authenticate({ apiKey: "x" }), { status: "UNAVAILABLE" });
    await assert.rejects(edge(() => new Response("<html>")).client.authenticate({ apiKey: "x" }), {
      status: "INTERNAL",
    });
  });

  it("ends a call at its deadline, and when it is aborted", async () => {
    const never = (_: unknown, init: RequestInit = {}): Promise<Response> =>
      new Promise((_resolve, reject) => {
        const fail = (): void => reject(init.signal?.reason);
        init.signal?.addEventListener("abort", fail);
        if (init.signal?.aborted) {
          fail();
        }
      });
    const client = new EdgeClient({ url: "http://localhost:1", token: "t", fetch: never as typeof fetch });
    const alive = setInterval(() => undefined, 1_000);

    await assert.rejects(client.authenticate({ apiKey: "x", timeoutMs: 20 }), {
      status: "DEADLINE_EXCEEDED",
    });
    await assert.rejects(client.authenticate({ apiKey: "x", signal: AbortSignal.abort() }), {
      status: "CANCELLED",
    });
    clearInterval(alive);
  });

  it("refuses plaintext over a network, and a token that can be none", async () => {
    assert.throws(() => new EdgeClient({ url: "http://gateway.example", token: "t" }), /plaintext/);
    assert.ok(new EdgeClient({ url: "http://127.0.0.1:8080", token: "t" }));
    const client = new EdgeClient({ url: "http://localhost:1", token: () => "a b" });
    await assert.rejects(client.authenticate({ apiKey: "x" }), TypeError);
  });

  it("needs nothing of Node's and no package, nor does the guard of HTTP handlers", () => {
    const source = fileURLToPath(new URL("../../src/", import.meta.url));
    assert.ok(readdirSync(source).includes("edge.ts"));
    const seen = new Set<string>();
    const visit = (path: string): void => {
      if (seen.has(path)) {
        return;
      }
      seen.add(path);
      const text = readFileSync(path, "utf8");
      for (const [, from = ""] of text.matchAll(/^(?:import|export) (?!type ).*from "([^"]+)";$/gm)) {
        assert.ok(from.startsWith("."), `${path} imports ${from}`);
        visit(fileURLToPath(new URL(from.replace(/\.js$/, ".ts"), `file://${path}`)));
      }
    };
    visit(`${source}edge.ts`);
    visit(`${source}http/index.ts`);
    assert.ok(seen.size >= 6, [...seen].join());
  });
});
