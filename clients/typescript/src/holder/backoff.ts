/** How long a holder waits between two streams. Times are in milliseconds. */

const FIRST_MS = 100;
const LAST_MS = 1_000;
/** A refusal lasts until an operator has changed something. */
const REFUSED_MS = 5_000;
/** What a server may ask a holder to wait. */
const LONGEST_RETRY_AFTER_MS = 60_000;

/** What the pause after a stream depends on. */
export interface EndOfStream {
  /** The server does not accept the holder's credential or its version. */
  readonly isRefused: boolean;
  /** How long the server asks to be left alone. 0: it does not ask. */
  readonly retryAfterMs: number;
}

/** Makes the pauses longer with each failure, and of random lengths, so that holders do not come together. */
export class Backoff {
  #next = FIRST_MS;

  /** A lease was granted. */
  reset(): void {
    this.#next = FIRST_MS;
  }

  /** How long to wait from now on, since a stream has ended. */
  pauseAfter(ended: EndOfStream): number {
    const longest = ended.isRefused ? REFUSED_MS : this.#next;
    this.#next = Math.min(LAST_MS, 2 * longest);
    const part = 0.5 + Math.random() / 2;
    return Math.max(longest * part, ended.retryAfterMs * (0.5 + part));
  }
}

/** Reads from an error's metadata how long the server asks to be left alone. 0: it does not ask. */
export function retryAfterMs(metadata: Readonly<Record<string, string>>): number {
  const seconds = Number(metadata["retry_after_seconds"] ?? 0);
  return seconds > 0 ? Math.min(seconds * 1000, LONGEST_RETRY_AFTER_MS) : 0;
}
