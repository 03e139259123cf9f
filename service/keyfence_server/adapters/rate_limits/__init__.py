"""Counters of rate limits: one in this process, and one that servers share, in Redis."""
