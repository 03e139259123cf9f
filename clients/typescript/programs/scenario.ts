/** Lets the repository's table of scenarios, torture and benchmark call the client. */

import type { CallOptions, Principal, ScopeCheck, Verdict } from "../src/index.js";
import { Client, KeyfenceError } from "../src/index.js";
import { serveLines } from "./lines.js";

interface Check {
  readonly api_key?: string;
  readonly scopes?: readonly string[];
  readonly keyspace?: string;
  readonly client_address?: string;
  readonly at_least_revision?: number;
  readonly explain?: boolean;
  readonly timeout_seconds?: number;
}

interface Command extends Check {
  readonly do: string;
  readonly target?: string;
  readonly token?: string;
  readonly mode?: string;
  readonly checks?: readonly Check[];
  readonly count?: number;
  readonly at_once?: number;
  /** How many checks there are to each that is timed. */
  readonly timed_every?: number;
}

let opened: Client | undefined;

async function answer(command: Command): Promise<object> {
  if (command.do === "open") {
    opened = new Client({
      target: command.target ?? "",
      token: command.token ?? "",
      cache: command.mode === "cached",
      batching: command.mode === "batched",
    });
    return {};
  }
  const client = opened;
  if (client === undefined) {
    throw new Error("the client is not open");
  }
  try {
    return await answered(client, command);
  } catch (error) {
    if (error instanceof KeyfenceError) {
      return { error: failureOf(error) };
    }
    throw error;
  }
}

async function answered(client: Client, command: Command): Promise<object> {
  switch (command.do) {
    case "check":
      return told(await client.checkScope(questionOf(command)));
    case "authenticate": {
      const { requiredScopes: _, explain: __, ...question } = questionOf(command);
      return told(await client.authenticate(question));
    }
    case "batch": {
      const results = await client.batchCheckScope(
        (command.checks ?? []).map(questionOf),
        optionsOf(command),
      );
      return {
        results: results.map(({ verdict, error }) => (verdict ? told(verdict) : { error: failureOf(error) })),
      };
    }
    case "together": {
      const asked = (command.checks ?? []).map((one) => answer({ ...one, do: "check" }));
      return { results: await Promise.all(asked) };
    }
    case "who_am_i":
      return whose(await client.whoAmI(optionsOf(command)));
    case "status": {
      const status = client.cacheStatus();
      return status === undefined ? {} : { live: status.live, hits: status.hits };
    }
    case "measure":
      return await measured(client, questionOf(command), command);
    case "memory":
      global.gc?.();
      return { bytes: process.memoryUsage().heapUsed };
    default:
      throw new Error(`there is no command "${command.do}"`);
  }
}

/** Makes the same check many times, so many at once, and says how long those took that were timed. */
async function measured(client: Client, check: ScopeCheck, asked: Command): Promise<object> {
  const { count = 1, at_once: atOnce = 1, timed_every: every = 1 } = asked;
  const took = new Float64Array(Math.ceil(count / every));
  let begun = 0;
  const ask = async (): Promise<void> => {
    while (begun < count) {
      const index = begun;
      begun += 1;
      const isTimed = index % every === 0;
      const began = isTimed ? performance.now() : 0;
      const verdict = await client.checkScope(check);
      if (isTimed) {
        took[index / every] = (performance.now() - began) * 1000;
      }
      if (!verdict.allowed) {
        throw new Error(`the check was answered with ${verdict.reason}`);
      }
      if (index % 10_000 === 0) {
        // A lease is renewed by the same thread.
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, ask));
  took.sort();
  return { p50_us: took[Math.floor(took.length / 2)], p99_us: took[Math.floor((took.length * 99) / 100)] };
}

function optionsOf(check: Check): CallOptions {
  return check.timeout_seconds === undefined ? {} : { timeoutMs: check.timeout_seconds * 1000 };
}

function questionOf(check: Check): ScopeCheck {
  return {
    apiKey: check.api_key ?? "",
    requiredScopes: check.scopes ?? [],
    keyspace: check.keyspace ?? "",
    clientAddress: check.client_address ?? "",
    atLeastRevision: BigInt(check.at_least_revision ?? 0),
    explain: check.explain ?? false,
    ...optionsOf(check),
  };
}

function told(verdict: Verdict): object {
  return {
    allowed: verdict.allowed,
    reason: verdict.reason,
    missing_scopes: verdict.missingScopes,
    ...(verdict.principal && whose(verdict.principal)),
    ...(verdict.explanation && { sufficient_grants: verdict.explanation.sufficientGrants }),
  };
}

function whose(principal: Principal): object {
  return { key_id: principal.keyId, account_id: principal.accountId };
}

function failureOf(error: KeyfenceError): object {
  return {
    status: error.status,
    reason: error.reason,
    metadata: error.metadata,
    fields: error.violations.map(({ field }) => field),
    has_request_id: error.requestId !== "",
  };
}

await serveLines(answer);
await opened?.close();
