package io.github.keyfence.internal.holder;

import java.time.Duration;

/** How a holder is doing: see {@code io.github.keyfence.CacheStatus}. */
public record HolderStatus(
    boolean live,
    Duration leaseLeft,
    long appliedRevision,
    int keys,
    long hits,
    long discardedFills,
    long resets) {}
