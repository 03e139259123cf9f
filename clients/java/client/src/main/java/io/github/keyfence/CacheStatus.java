package io.github.keyfence;

import java.time.Duration;

/**
 * How a client's cache is doing.
 *
 * @param isLive whether checks may be answered from memory now.
 * @param leaseLeft how long that lasts if nothing more is heard; zero if it has ended.
 * @param appliedRevision the revision up to which every change is applied.
 * @param keys how many keys are remembered.
 * @param hits how many checks were answered from memory.
 * @param discardedFills how often what the server told of a key was not remembered, because
 *     something had changed meanwhile.
 * @param resets how often everything had to be forgotten, because the connection was lost.
 */
public record CacheStatus(
    boolean isLive,
    Duration leaseLeft,
    long appliedRevision,
    int keys,
    long hits,
    long discardedFills,
    long resets) {}
