/**
 * A holder's right to answer from memory: how long it lasts and what it depends on (rules I2 and I6
 * of docs/fence.md). It does no I/O and reads no clock. Times are in milliseconds.
 */

const MAX_PENDING = 16;
const MAX_GRANTS = 16;

/** A moment, by both clocks. */
export interface Instant {
  readonly monotonic: number;
  readonly wall: number;
}

/** When a lease counts: from when its renewal was sent, until it ends. */
interface Span {
  readonly sent: Instant;
  readonly until: Instant;
}

interface Asked {
  readonly nonce: bigint;
  readonly sent: Instant;
  readonly applied: bigint;
}

interface Grant extends Span {
  readonly head: bigint;
}

/**
 * The guards that a holder can be made without, one at a time, so that the conformance driver can
 * be shown to notice.
 */
export const GUARDS = [
  "count_from_sending",
  "wait_for_head",
  "forget_other_epoch",
  "discard_overtaken_fills",
  "apply_before_ack",
  "forget_unknown_changes",
  "refuse_gaps",
  "forget_on_new_stream",
] as const;

/** A guard's name. */
export type Guard = (typeof GUARDS)[number];

const NEVER: Span = {
  sent: { monotonic: -Infinity, wall: -Infinity },
  until: { monotonic: -Infinity, wall: -Infinity },
};

export class Lease {
  readonly #without: Guard | undefined;
  #nextNonce = 1n;
  #pending: Asked[] = [];
  #grants: Grant[] = [];
  #current: Span = NEVER;
  #applied = 0n;
  #epoch = "";
  #hasStarted = false;

  constructor(without?: Guard) {
    this.#without = without;
  }

  /** The revision up to which every change is applied; 0 before the first grant. */
  get applied(): bigint {
    return this.#applied;
  }

  /** Whether a first grant has told from which revision on changes are followed. */
  get hasStarted(): boolean {
    return this.#hasStarted;
  }

  /** Whether the holder may answer. The clocks must be read for this answer, after the question came. */
  isLive(monotonic: number, wall: number): boolean {
    const { sent, until } = this.#current;
    return monotonic < until.monotonic && wall < until.wall && wall >= sent.wall;
  }

  /** How long the lease lasts if nothing more is heard; 0 if it has ended. */
  left(now: Instant): number {
    if (!this.isLive(now.monotonic, now.wall)) {
      return 0;
    }
    const { until } = this.#current;
    return Math.min(until.monotonic - now.monotonic, until.wall - now.wall);
  }

  /**
   * Begins a renewal and returns the nonce to send. The clocks must be read before the renewal is
   * sent: a grant can lie in a buffer for any time, so it is counted from there.
   */
  request(now: Instant): bigint {
    const nonce = this.#nextNonce++;
    this.#pending.push({ nonce, sent: now, applied: this.#applied });
    if (this.#pending.length > MAX_PENDING) {
      this.#pending.shift();
    }
    return nonce;
  }

  /**
   * Takes note of a grant. One that was not asked for, or comes for the second time, is ignored.
   *
   * It calls `forget` before anything can be answered under the grant, if what is remembered does not
   * count any more: this is the first grant, or one of another epoch, or of a head that lies behind
   * what had been applied when it was asked for.
   */
  grant(now: Instant, nonce: bigint, ttl: number, head: bigint, epoch: string, forget: () => void): void {
    const index = this.#pending.findIndex((one) => one.nonce === nonce);
    const asked = this.#pending[index];
    if (asked === undefined) {
      return;
    }
    this.#pending.splice(index, 1);
    const sent = this.#without === "count_from_sending" ? now : asked.sent;
    const isOtherEpoch = epoch !== this.#epoch && this.#without !== "forget_other_epoch";
    if (!this.#hasStarted || isOtherEpoch || head < asked.applied) {
      // With an empty memory every change up to the head is as good as applied.
      this.#grants = [];
      this.#current = NEVER;
      this.#applied = head;
      this.#epoch = epoch;
      this.#hasStarted = true;
      forget();
    }
    const until = { monotonic: sent.monotonic + ttl, wall: sent.wall + ttl };
    this.#grants.push({ sent, until, head });
    this.#extendUntil();
  }

  /** Takes note that every change up to a revision is applied. Called after they are, without a gap. */
  advanceTo(revision: bigint): void {
    if (this.#hasStarted && revision > this.#applied) {
      this.#applied = revision;
      this.#extendUntil();
    }
  }

  /** Gives up every grant, and those that were asked for. The next grant starts the holder anew. */
  abandon(): void {
    this.#pending = [];
    this.#grants = [];
    this.#current = NEVER;
    this.#applied = 0n;
    this.#epoch = "";
    this.#hasStarted = false;
  }

  #extendUntil(): void {
    const open: Grant[] = [];
    for (const grant of this.#grants) {
      if (grant.head > this.#applied && this.#without !== "wait_for_head") {
        open.push(grant);
      } else if (grant.until.monotonic > this.#current.until.monotonic) {
        // Both clocks of one grant count together: mixing two grants could outlast both.
        this.#current = { sent: grant.sent, until: grant.until };
      }
    }
    this.#grants = open.slice(-MAX_GRANTS);
  }
}
