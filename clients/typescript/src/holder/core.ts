/**
 * A holder without connections, timers and clocks: what it makes of what its grantor says, and what
 * it answers (docs/holder-protocol.md). The conformance driver speaks to it, and so does `Holder`.
 */

import type { Duration } from "@bufbuild/protobuf/wkt";
import type { DenialReason, Principal } from "../checks.js";
import type {
  FetchFactsRequest,
  FetchFactsResponse,
  Lease as LeaseMessage,
  Renew,
  RevisionChanges,
  SyncResponse,
} from "../v1/index.js";
import { create, FetchFactsRequestSchema, RenewSchema } from "../v1/index.js";
import type { Clock } from "./clock.js";
import { groundOf, missingScopes } from "./facts.js";
import type { Guard } from "./lease.js";
import { Lease } from "./lease.js";
import type { Fill } from "./memory.js";
import { Memory } from "./memory.js";

const RENEWALS_PER_LEASE = 3; // unless the grantor says when to renew
const FIRST_INTERVAL_MS = 500;
/** What is left of a lease can be very little, and asking without a pause brings no more. */
const SHORTEST_INTERVAL_MS = 100;
/** Without an answer for as long as a lease lasts, a stream is given up. */
const LEAST_PATIENCE_MS = 1000;

/** A check. */
export interface Question {
  readonly apiKey: string;
  readonly requiredScopes: readonly string[];
  readonly keyspace: string;
  readonly clientAddress: string;
  readonly atLeastRevision: bigint;
}

/** What a check is answered with from memory. */
export interface Answer {
  readonly reason: "OK" | DenialReason;
  readonly missingScopes: readonly string[];
  readonly principal: Principal;
  readonly revision: bigint;
}

const NONE: readonly string[] = Object.freeze([]);

/** A revision is missing, so the stream must be given up. */
export class RevisionMissing extends Error {}

export class Core {
  readonly memory: Memory;
  readonly lease: Lease;
  readonly #without: Guard | undefined;
  readonly #clock: Clock;
  #told = 0n;
  #heard = 0n;
  /** How long to wait between renewals, in milliseconds. */
  intervalMs = FIRST_INTERVAL_MS;
  /** How long to wait for an answer to any of them, in milliseconds. */
  patienceMs = LEAST_PATIENCE_MS;
  /** Checks that were answered. */
  hits = 0;

  constructor(maxKeys: number, clock: Clock, without?: Guard) {
    this.#clock = clock;
    this.#without = without;
    this.memory = new Memory(maxKeys, without);
    this.lease = new Lease(without);
  }

  /**
   * A grantor has let the holder in and says nothing on the stream yet: what was granted and remembered is
   * given up, so that the grantor need not wait for it.
   */
  begin(): void {
    this.#told = 0n;
    this.#heard = 0n;
    this.intervalMs = FIRST_INTERVAL_MS;
    this.patienceMs = LEAST_PATIENCE_MS;
    if (this.#without !== "forget_on_new_stream") {
      this.abandon();
    }
  }

  /** Gives up the lease and everything that is remembered. */
  abandon(): void {
    this.lease.abandon();
    this.memory.forgetEverything(0n, "");
  }

  /** The next request for a lease, to be sent after this returns. */
  renewal(): Renew {
    const nonce = this.lease.request({ monotonic: this.#clock.monotonic(), wall: this.#clock.wall() });
    return create(RenewSchema, { nonce, appliedRevision: this.#acknowledged() });
  }

  /** What there is to acknowledge; undefined if it was told before. */
  acknowledgement(): Renew | undefined {
    const applied = this.#acknowledged();
    if (applied <= this.#told) {
      return undefined;
    }
    this.#told = applied;
    return create(RenewSchema, { appliedRevision: applied });
  }

  /**
   * Does what the grantor says. Says whether the keyspaces must be fetched again.
   *
   * @throws RevisionMissing if the stream must be given up.
   */
  take(message: SyncResponse): boolean {
    switch (message.message.case) {
      case "lease":
        return this.#takeLease(message.message.value);
      case "changes":
        return this.#takeChanges(message.message.value);
      case "end":
        // The grantor takes every lease back: what is remembered goes before it is told so.
        this.abandon();
        return false;
      default:
        return false;
    }
  }

  /** Answers a check from memory. Undefined: the server must be asked. */
  answer(question: Question): Answer | undefined {
    const { memory } = this;
    // The clocks are read for this very answer, after the question came (rule I2).
    const wall = this.#clock.wall();
    if (!this.lease.isLive(this.#clock.monotonic(), wall) || question.atLeastRevision > memory.applied) {
      return undefined;
    }
    const entry = memory.find(question.apiKey);
    if (entry === undefined || entry.facts.isCounted) {
      return undefined;
    }
    const { principal } = entry.facts;
    if (question.keyspace !== "" && question.keyspace !== principal.keyspace) {
      return undefined;
    }
    const missing = missingScopes(entry.facts, question.requiredScopes);
    if (missing.length > 0 && !memory.registers(principal.keyspace, missing)) {
      // Whether these scopes exist at all, the server knows.
      return undefined;
    }
    const ground = groundOf(entry.facts, wall, question.clientAddress);
    if (ground === undefined) {
      return undefined;
    }
    this.hits += 1;
    const revision = memory.applied;
    if (ground !== "OK") {
      return { reason: ground, missingScopes: NONE, principal, revision };
    }
    if (missing.length > 0) {
      return { reason: "SCOPE_MISSING", missingScopes: missing, principal, revision };
    }
    memory.use(entry, wall, question.clientAddress);
    return { reason: "OK", missingScopes: NONE, principal, revision };
  }

  /** Called when a check could not be answered. Undefined: to ask for facts would not help. */
  beginFill(apiKey: string): { fill: Fill; request: FetchFactsRequest } | undefined {
    const isLive = this.lease.isLive(this.#clock.monotonic(), this.#clock.wall());
    if (apiKey === "" || !isLive || this.memory.find(apiKey) !== undefined) {
      return undefined;
    }
    const fill = this.memory.beginFill();
    return { fill, request: create(FetchFactsRequestSchema, { apiKey, atLeastRevision: fill.startedAt }) };
  }

  /** Takes the server's answer; undefined if there was none. Says whether the check can be answered now. */
  endFill(fill: Fill, apiKey: string, response: FetchFactsResponse | undefined): boolean {
    if (response === undefined) {
      this.memory.dropFill(fill);
      return false;
    }
    return this.memory.endFill(fill, apiKey, response);
  }

  /** How long the lease lasts if nothing more is heard, in milliseconds. */
  leaseLeft(): number {
    return this.lease.left({ monotonic: this.#clock.monotonic(), wall: this.#clock.wall() });
  }

  #acknowledged(): bigint {
    if (!this.lease.hasStarted) {
      return 0n;
    }
    const { applied } = this.lease;
    return this.#without === "apply_before_ack" && this.#heard > applied ? this.#heard : applied;
  }

  #takeLease(lease: LeaseMessage): boolean {
    const ttl = durationMs(lease.ttl);
    if (ttl <= 0) {
      return false;
    }
    let hasForgotten = false;
    this.#hear(lease.headRevision);
    const now = { monotonic: this.#clock.monotonic(), wall: this.#clock.wall() };
    this.lease.grant(now, lease.nonce, ttl, lease.headRevision, lease.epoch, () => {
      this.memory.forgetEverything(lease.headRevision, lease.epoch);
      hasForgotten = true;
    });
    const renewAfter = durationMs(lease.renewAfter);
    this.intervalMs = Math.max(SHORTEST_INTERVAL_MS, renewAfter > 0 ? renewAfter : ttl / RENEWALS_PER_LEASE);
    this.patienceMs = Math.max(LEAST_PATIENCE_MS, ttl);
    return hasForgotten;
  }

  #takeChanges(changes: RevisionChanges): boolean {
    const { applied } = this.lease;
    if (!this.lease.hasStarted || changes.revision <= applied) {
      // Before the first lease there is nothing to forget, and its head has them all.
      return false;
    }
    const first = changes.firstRevision || changes.revision;
    if (first > applied + 1n && this.#without !== "refuse_gaps") {
      throw new RevisionMissing(`revision ${first} came after ${applied}: some are missing`);
    }
    this.#hear(changes.revision);
    const anyKeyspace = this.memory.apply(changes);
    this.lease.advanceTo(changes.revision);
    return anyKeyspace;
  }

  #hear(revision: bigint): void {
    if (revision > this.#heard) {
      this.#heard = revision;
    }
  }
}

function durationMs(duration: Duration | undefined): number {
  return duration === undefined ? 0 : Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}
