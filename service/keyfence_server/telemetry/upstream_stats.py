"""Counts a sidecar's calls to the servers upstream."""

from __future__ import annotations

from keyfence_server.application.latencies import Latencies


class UpstreamStats:
    """How often each RPC was called, for how long, and how often in vain.

    Attributes:
        calls: by RPC, those that were not answered included.
        unanswered: by RPC.
    """

    __slots__ = ("calls", "unanswered")

    def __init__(self) -> None:
        self.calls: dict[str, Latencies] = {}
        self.unanswered: dict[str, int] = {}

    def add(self, rpc: str, seconds: float, *, is_answered: bool) -> None:
        """Counts one call."""
        self.calls.setdefault(rpc, Latencies()).add(seconds)
        self.unanswered[rpc] = self.unanswered.get(rpc, 0) + (not is_answered)
