"""A sidecar's calls to the servers upstream, in the metrics, and its streams, in the log.

A sidecar that has no stream tries again every few seconds. The log gets a line when the cause
changes, and one a minute while it stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

import structlog

from keyfence_server.application.latencies import Latencies

_REMINDER_SECONDS: Final = 60.0

_log = structlog.get_logger("keyfence")


@dataclass(eq=False, slots=True)
class UpstreamStats:
    """How often each RPC was called, for how long, and how often in vain.

    Attributes:
        calls: by RPC, those that were not answered included.
        unanswered: by RPC.
    """

    calls: dict[str, Latencies] = field(default_factory=dict)
    unanswered: dict[str, int] = field(default_factory=dict)

    def add(self, rpc: str, seconds: float, *, is_answered: bool) -> None:
        """Counts one call."""
        self.calls.setdefault(rpc, Latencies()).add(seconds)
        self.unanswered[rpc] = self.unanswered.get(rpc, 0) + (not is_answered)


@dataclass(eq=False)
class UpstreamOutages:
    """Counts streams that broke or could not be opened.

    Attributes:
        now: seconds, from any point in time.
    """

    now: Callable[[], float] = monotonic
    _logged_at: dict[tuple[str, str, str], float] = field(default_factory=dict)
    _failures: int = 0

    def broken(self, target: str, why: str, advice: str) -> None:
        """Counts a stream, and logs it if it says something new. `advice` is what an operator has
        to do; empty if that is not known."""
        self._failures += 1
        now = self.now()
        recent = {
            cause: at for cause, at in self._logged_at.items() if now - at < _REMINDER_SECONDS
        }
        self._logged_at = recent
        if (target, why, advice) in recent:
            return
        recent[target, why, advice] = now
        more = {"advice": advice} if advice else {}
        _log.warning(
            "upstream_out_of_step", target=target, why=why, failures=self._failures, **more
        )
        self._failures = 0
