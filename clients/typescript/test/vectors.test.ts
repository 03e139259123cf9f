import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { contains, parseAddress, parseNetwork, plainAddress } from "../src/holder/addresses.js";
import type { Clock } from "../src/holder/clock.js";
import { Core } from "../src/holder/core.js";
import { Lease } from "../src/holder/lease.js";
import type { Fill } from "../src/holder/memory.js";
import { Memory } from "../src/holder/memory.js";
import type { SubjectChange } from "../src/v1/index.js";
import {
  create,
  FetchFactsResponseSchema,
  FetchKeyspacesResponseSchema,
  LeaseSchema,
  Reason,
  RevisionChangesSchema,
  SyncResponseSchema,
} from "../src/v1/index.js";

// What every holder must do: spec/vectors/README.md in the repository, which the package is without.
const folder = fileURLToPath(new URL("../../../../spec/vectors/", import.meta.url));
const skip = existsSync(folder) || process.env["CI"] ? false : "SKIPPED: the vectors are in the repository";

function vectors<T>(name: string): T {
  return skip ? ([] as T) : (JSON.parse(readFileSync(folder + name, "utf8")) as T);
}

interface Step {
  readonly do: string;
  readonly now?: number;
  readonly nonce?: number;
  readonly ttl?: number;
  readonly head?: number;
  readonly revision?: number;
  readonly epoch?: string;
  readonly forget?: boolean;
  readonly is?: boolean | number;
  readonly kept?: boolean;
  readonly key_id?: string;
  readonly keyspace?: string;
  readonly account_id?: string;
  readonly session_id?: string;
}

interface Story {
  readonly name: string;
  readonly steps: readonly Step[];
}

function at(seconds = 0): { monotonic: number; wall: number } {
  return { monotonic: seconds * 1000, wall: seconds * 1000 };
}

describe("a lease", { skip }, () => {
  for (const { name, steps } of vectors<Story[]>("leases.json")) {
    it(name, () => {
      const lease = new Lease();
      for (const step of steps) {
        const now = at(step.now);
        switch (step.do) {
          case "request":
            assert.equal(lease.request(now), BigInt(step.nonce ?? 0));
            break;
          case "grant": {
            let forgot = false;
            lease.grant(
              now,
              BigInt(step.nonce ?? 0),
              (step.ttl ?? 0) * 1000,
              BigInt(step.head ?? 0),
              step.epoch ?? "",
              () => {
                forgot = true;
              },
            );
            assert.equal(forgot, step.forget);
            break;
          }
          case "advance":
            lease.advanceTo(BigInt(step.revision ?? 0));
            break;
          case "abandon":
            lease.abandon();
            break;
          case "live":
            assert.equal(lease.isLive(now.monotonic, now.wall), step.is);
            assert.equal(lease.left(now) > 0, step.is);
            break;
          case "applied":
            assert.equal(lease.applied, BigInt(Number(step.is)));
            break;
          default:
            assert.fail(`there is no step ${step.do}`);
        }
      }
    });
  }
});

describe("the two clocks of a lease", () => {
  function granted(): Lease {
    const lease = new Lease();
    const nonce = lease.request({ monotonic: 100, wall: 5_000 });
    lease.grant(at(0), nonce, 2_000, 5n, "a", () => undefined);
    return lease;
  }

  it("end it when the monotonic clock says so", () => {
    assert.equal(granted().isLive(2_099, 5_000), true);
    assert.equal(granted().isLive(2_100, 5_000), false);
  });

  it("end it when the wall clock says so, as after a sleep", () => {
    assert.equal(granted().isLive(100, 6_999), true);
    assert.equal(granted().isLive(100, 7_000), false);
  });

  it("end it when the wall clock was set back", () => {
    assert.equal(granted().isLive(200, 4_999), false);
  });

  it("count together, so that two grants do not outlast both", () => {
    const lease = granted();
    const nonce = lease.request({ monotonic: 200, wall: 1_000 }); // the wall clock was set back
    lease.grant(at(0), nonce, 2_000, 5n, "a", () => undefined);

    assert.equal(lease.isLive(300, 2_999), true);
    assert.equal(lease.isLive(300, 6_000), false);
  });
});

interface VectorFacts {
  readonly keyspace: string;
  readonly account_id: string;
  readonly scopes: readonly string[];
  readonly standing: keyof typeof Reason;
  readonly expires_at: number | null;
  readonly allow_lists: readonly (readonly string[])[];
  readonly is_counted: boolean;
  readonly registered: readonly string[];
}

interface VectorQuestion {
  readonly required_scopes: readonly string[];
  readonly keyspace: string;
  readonly client_address: string;
  readonly at_least_revision: number;
  readonly now: number;
}

interface Decisions {
  readonly good: { readonly facts: VectorFacts; readonly question: VectorQuestion };
  readonly cases: readonly {
    readonly name: string;
    readonly facts?: Partial<VectorFacts>;
    readonly question?: Partial<VectorQuestion>;
    readonly answer: { readonly reason: string; readonly missing_scopes?: readonly string[] } | null;
  }[];
}

function live(core: Core): void {
  const { nonce } = core.renewal();
  const lease = create(LeaseSchema, { nonce, ttl: { seconds: 2n }, headRevision: 10n, epoch: "a" });
  core.take(create(SyncResponseSchema, { message: { case: "lease", value: lease } }));
}

describe("a decision", { skip }, () => {
  const { good, cases } = vectors<Decisions>("decisions.json");
  for (const one of cases ?? []) {
    it(one.name, () => {
      const facts = { ...good.facts, ...one.facts };
      const question = { ...good.question, ...one.question };
      const clock: Clock = { monotonic: () => 0, wall: () => question.now * 1000 };
      const core = new Core(10, clock);
      live(core);
      const keyspaces = core.memory.beginFill();
      const registered = facts.registered.map((name) => ({ name }));
      core.memory.endKeyspacesFill(
        keyspaces,
        create(FetchKeyspacesResponseSchema, {
          keyspaces: [{ name: facts.keyspace, scopes: registered }],
          revision: 10n,
          epoch: "a",
        }),
      );
      const begun = core.beginFill("kf_live_key");
      assert.ok(begun);
      const response = create(FetchFactsResponseSchema, {
        revision: 10n,
        epoch: "a",
        facts: {
          principal: {
            keyId: "key_1",
            keyspace: facts.keyspace,
            accountId: facts.account_id,
            effectiveScopes: [...facts.scopes],
          },
          standing: Reason[facts.standing],
          isCounted: facts.is_counted,
          addressLists: facts.allow_lists.map((networks) => ({ networks: [...networks] })),
          ...(facts.expires_at !== null && { expireTime: { seconds: BigInt(facts.expires_at) } }),
        },
      });
      core.endFill(begun.fill, "kf_live_key", response);

      const answer = core.answer({
        apiKey: "kf_live_key",
        requiredScopes: question.required_scopes,
        keyspace: question.keyspace,
        clientAddress: question.client_address,
        atLeastRevision: BigInt(question.at_least_revision),
      });

      const told = answer && {
        reason: answer.reason,
        ...(answer.missingScopes.length > 0 && { missing_scopes: answer.missingScopes }),
      };
      assert.deepEqual(told ?? null, one.answer);
    });
  }
});

function subjectOf(step: Step): MessageInitShape<typeof RevisionChangesSchema>["changes"] {
  const subjects: [SubjectChange["subject"]["case"], string | undefined][] = [
    ["keyId", step.key_id],
    ["keyspace", step.keyspace],
    ["accountId", step.account_id],
    ["sessionId", step.session_id],
  ];
  const found = subjects.find(([, value]) => value !== undefined);
  return [
    found === undefined ? {} : { subject: { case: found[0], value: found[1] } as SubjectChange["subject"] },
  ];
}

describe("a fill", { skip }, () => {
  for (const { name, steps } of vectors<Story[]>("fills.json")) {
    it(name, () => {
      const memory = new Memory(10);
      let fill: Fill | undefined;
      for (const step of steps) {
        const revision = BigInt(step.revision ?? 0);
        switch (step.do) {
          case "start":
            memory.forgetEverything(BigInt(step.head ?? 0), step.epoch ?? "");
            break;
          case "begin":
            fill = memory.beginFill();
            break;
          case "change":
            memory.apply(create(RevisionChangesSchema, { revision, changes: subjectOf(step) ?? [] }));
            break;
          case "end": {
            const response = create(FetchFactsResponseSchema, {
              revision,
              epoch: step.epoch ?? "",
              facts: {
                principal: { keyId: "key_1", keyspace: "demo", accountId: "acct_1" },
                standing: Reason.OK,
                dependsOn: ["key:key_1", "keyspace:demo", "account:acct_1"],
              },
            });
            assert.ok(fill);
            assert.equal(memory.endFill(fill, "kf_live_key", response), step.kept);
            assert.equal(memory.find("kf_live_key") !== undefined, step.kept);
            break;
          }
          case "known":
            assert.equal(memory.find("kf_live_key") !== undefined, step.is);
            break;
          default:
            assert.fail(`there is no step ${step.do}`);
        }
      }
    });
  }
});

describe("an address", () => {
  for (const [network, address, is] of [
    ["10.0.0.0/8", "10.255.255.255", true],
    ["10.0.0.0/8", "11.0.0.0", false],
    ["0.0.0.0/0", "255.255.255.255", true],
    ["::ffff:10.0.0.0/104", "10.1.1.1", true],
    ["2001:db8::/32", "2001:db8:ffff::", true],
    ["2001:db8::1", "2001:db8:0:0:0:0:0:1", true],
    ["2001:db8::1", "2001:db8::2", false],
  ] as const) {
    it(`${address} is ${is ? "" : "not "}in ${network}`, () => {
      const [within, one] = [parseNetwork(network), parseAddress(address)];
      assert.ok(within && one);
      assert.equal(contains(within, one), is);
    });
  }

  for (const text of [
    "",
    "1.2.3",
    "1.2.3.256",
    "1.2.3.04",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7:8:9",
    "::g",
    "::1%eth0",
    "::1.2.3",
    "12345::",
  ]) {
    it(`"${text}" is none`, () => assert.equal(parseAddress(text), undefined));
  }

  for (const text of [
    "10.0.0.0/33",
    "10.0.0.0/-1",
    "10.0.0.0/08",
    "10.0.0.0/8/8",
    "::ffff:10.0.0.0/8",
    "x/8",
  ]) {
    it(`"${text}" is no network`, () => assert.equal(parseNetwork(text), undefined));
  }

  it("of IPv4 is reported as such", () => {
    assert.equal(plainAddress("::ffff:10.0.0.1"), "10.0.0.1");
    assert.equal(plainAddress("::1"), "::1");
    assert.equal(plainAddress(""), "");
  });
});
