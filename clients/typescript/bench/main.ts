/**
 * Measures a hit, the memory of a cached key, and what 32 concurrent checks cost the server with and without
 * batches: `make -C clients/typescript bench`. The last needs the command keyfence (KEYFENCE_COMMAND) and Linux.
 */

import { readFileSync } from "node:fs";
import { toBinary } from "@bufbuild/protobuf";
import { systemClock } from "../src/holder/clock.js";
import { Core } from "../src/holder/core.js";
import type { Client } from "../src/index.js";
import { FakeServer, findCommand, KeyfenceProcess, keyspace } from "../src/testing/index.js";
import {
  create,
  FetchFactsResponseSchema,
  fromBinary,
  LeaseSchema,
  Reason,
  SyncResponseSchema,
} from "../src/v1/index.js";

const HITS = 400_000;
const KEYS = 50_000;
const CONCURRENT = 32;
const ROUNDS = 150;
const TICKS_PER_SECOND = 100;

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** The processor time that something takes, in microseconds for each of so many. */
async function cpuOf(count: number, act: () => Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  await act();
  const used = process.cpuUsage(before);
  return (used.user + used.system) / count;
}

async function measureHit(): Promise<void> {
  await using server = await FakeServer.start(keyspace("demo", "vps:read"));
  const client = server.client({ cache: true });
  const { apiKey } = await server.createKey("demo", "vps:read");
  const check = { apiKey, keyspace: "demo", requiredScopes: ["vps:read"] };
  while (!client.cacheStatus()?.live) {
    await client.checkScope(check);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const hit = async (times: number): Promise<void> => {
    for (let count = 0; count < times; count += 1) {
      await client.checkScope(check);
      if (count % 10_000 === 0) {
        // The lease is renewed by the same thread.
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  };
  await hit(HITS / 4);
  const before = client.cacheStatus()?.hits ?? 0;
  const cpu = await cpuOf(HITS, () => hit(HITS));
  const hits = (client.cacheStatus()?.hits ?? 0) - before;
  const times: number[] = [];
  for (let count = 0; count < 20_000; count += 1) {
    const began = performance.now();
    await client.checkScope(check);
    times.push((performance.now() - began) * 1000);
  }
  times.sort((one, other) => one - other);
  const at = (part: number): string => (times[Math.floor(times.length * part)] ?? 0).toFixed(2);
  say(
    `a hit: ${cpu.toFixed(2)} us of CPU (${hits} of ${HITS} from memory), p50 ${at(0.5)} us, p99 ${at(0.99)} us`,
  );
}

function measureMemory(): void {
  const core = new Core(KEYS, systemClock);
  const { nonce } = core.renewal();
  const lease = create(LeaseSchema, { nonce, ttl: { seconds: 3_600n }, headRevision: 10n, epoch: "a" });
  core.take(create(SyncResponseSchema, { message: { case: "lease", value: lease } }));
  global.gc?.();
  const before = process.memoryUsage().heapUsed;
  for (let number = 0; number < KEYS; number += 1) {
    const apiKey = `kf_live_${number.toString().padStart(40, "0")}`;
    const keyId = `key_${number.toString().padStart(26, "0")}`;
    const told = create(FetchFactsResponseSchema, {
      revision: 10n,
      epoch: "a",
      facts: {
        principal: {
          keyId,
          keyspace: "demo",
          accountId: `acct_${number % 5_000}`,
          grantedScopes: ["vps:create"],
          effectiveScopes: ["vps:create", "vps:read", "vps:write"],
          displayPrefix: "kf_live_abcd",
          keyType: "secret",
          environment: "live",
        },
        standing: Reason.OK,
        dependsOn: [`key:${keyId}`, "keyspace:demo", `account:acct_${number % 5_000}`],
      },
    });
    const response = fromBinary(FetchFactsResponseSchema, toBinary(FetchFactsResponseSchema, told));
    const begun = core.beginFill(apiKey);
    if (begun === undefined || !core.endFill(begun.fill, apiKey, response)) {
      throw new Error("the key is not remembered");
    }
  }
  global.gc?.();
  const used = process.memoryUsage().heapUsed - before;
  say(`a cached key with three scopes: ${Math.round(used / KEYS)} bytes (${core.memory.size} keys)`);
}

/** The processor time that a process has used, in microseconds. */
function cpuOfProcess(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return ((Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND) * 1e6;
}

async function measureBatches(): Promise<void> {
  await using keyfence = await KeyfenceProcess.start();
  const operator = keyfence.client();
  await operator.keyspaces.applyKeyspace({ keyspace: { name: "demo", scopes: [{ name: "vps:read" }] } });
  const { apiKey } = await operator.keys.createKey({
    keyspace: "demo",
    accountId: "acct_1",
    scopes: ["vps:read"],
  });
  const check = { apiKey, keyspace: "demo", requiredScopes: ["vps:read"] };
  const costOf = async (client: Client): Promise<number> => {
    const together = async (rounds: number): Promise<void> => {
      for (let round = 0; round < rounds; round += 1) {
        await Promise.all(Array.from({ length: CONCURRENT }, () => client.checkScope(check)));
      }
    };
    await together(ROUNDS / 5);
    const before = cpuOfProcess(keyfence.pid);
    await together(ROUNDS);
    return (cpuOfProcess(keyfence.pid) - before) / ROUNDS;
  };
  const alone = await costOf(keyfence.client());
  const batched = await costOf(keyfence.client({ batching: true }));
  const part = (alone / batched).toFixed(1);
  say(
    `${CONCURRENT} concurrent checks cost the server ${alone.toFixed(0)} us, batched ${batched.toFixed(0)} us: ${part} times less`,
  );
}

await measureHit();
measureMemory();
if (findCommand() === undefined) {
  say("SKIPPED: batches, since there is no command keyfence (KEYFENCE_COMMAND)");
} else {
  await measureBatches();
}
