/**
 * The clocks that leases and keys are judged by, in milliseconds.
 *
 * Node has no clock that counts the time for which a machine sleeps. So leases are counted by two
 * clocks, and end when either of them says so (docs/holder-protocol.md): the monotonic clock, which
 * cannot be set back, and the wall clock, which goes on while the machine sleeps. What stays open is
 * a machine that sleeps and whose wall clock is set back by the length of the sleep.
 */
export interface Clock {
  monotonic(): number;
  wall(): number;
}

/** The machine's clocks, read anew each time. */
export const systemClock: Clock = {
  monotonic: () => performance.now(),
  wall: () => Date.now(),
};
