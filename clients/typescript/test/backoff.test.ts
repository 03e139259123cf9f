import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Backoff, retryAfterMs } from "../src/holder/backoff.js";

const BROKEN = { isRefused: false, retryAfterMs: 0 };
const TRIES = 200;

/** The shortest and the longest of many pauses. */
function range(pause: () => number): [number, number] {
  const pauses = Array.from({ length: TRIES }, pause);
  return [Math.min(...pauses), Math.max(...pauses)];
}

function assertWithin([shortest, longest]: [number, number], least: number, most: number): void {
  assert.ok(shortest >= least && longest <= most, `${shortest} to ${longest}, not ${least} to ${most}`);
  assert.ok(longest > shortest, "pauses are random");
}

describe("the pause between two streams", () => {
  it("is longer after each failure, up to a second, and short again after a lease", () => {
    const backoff = new Backoff();
    for (const longest of [100, 200, 400, 800, 1_000, 1_000]) {
      const pause = backoff.pauseAfter(BROKEN);
      assert.ok(pause >= longest / 2 && pause <= longest, `${pause} of ${longest}`);
    }
    backoff.reset();
    assert.ok(backoff.pauseAfter(BROKEN) <= 100);
  });

  it("is long after a refusal, which lasts until an operator does something", () => {
    const backoff = new Backoff();
    assertWithin(
      range(() => backoff.pauseAfter({ isRefused: true, retryAfterMs: 0 })),
      2_500,
      5_000,
    );
    assert.ok(backoff.pauseAfter(BROKEN) <= 1_000);
  });

  it("is never shorter than the server asks, whatever else it depends on", () => {
    for (const isRefused of [false, true]) {
      const backoff = new Backoff();
      assertWithin(
        range(() => backoff.pauseAfter({ isRefused, retryAfterMs: 7_000 })),
        7_000,
        10_500,
      );
    }
    const backoff = new Backoff();
    assertWithin(
      range(() => backoff.pauseAfter({ isRefused: true, retryAfterMs: 1 })),
      2_500,
      5_000,
    );
  });

  it("is asked for in seconds, a minute at most, or not at all", () => {
    const asked: readonly (readonly [string, number])[] = [
      ["7", 7_000],
      ["0.5", 500],
      ["86400", 60_000],
      ["Infinity", 60_000],
      ["-1", 0],
      ["soon", 0],
      ["NaN", 0],
      ["", 0],
    ];
    for (const [text, milliseconds] of asked) {
      assert.equal(retryAfterMs({ retry_after_seconds: text }), milliseconds, text);
    }
    assert.equal(retryAfterMs({}), 0);
  });
});
