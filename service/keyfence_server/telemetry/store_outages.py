"""Reports outages of the store: in a few log lines, in the metrics, and to health.

Every call that fails is counted. The log gets one line when an outage begins or its cause
changes, one a minute while it lasts, and one when it is over. A probe decides when that
is, since a call that reads can succeed while the disk is full.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

import structlog

from keyfence_server.application.ports import StoreProblem, StoreUnavailable
from keyfence_server.coherence.ports import BootClock

_REMINDER_SECONDS: Final = 60.0
_BUSY_SECONDS: Final = 10.0
_PROBE_SECONDS: Final = 1.0

_UNFIT: Final = frozenset(
    {
        StoreProblem.DISK_FULL,
        StoreProblem.READ_ONLY,
        StoreProblem.LOGIN_REFUSED,
        StoreProblem.IO_ERROR,
        StoreProblem.DAMAGED,
    }
)
"""What an operator has to mend. A store that cannot be reached is the lease's concern."""

_log = structlog.get_logger("keyfence")


@dataclass(eq=False)
class StoreOutages:
    """Knows whether the store works, and why not.

    Attributes:
        now: seconds, from any point in time.
        failures: how often the store did not do what it was asked.
        problem: why the present outage is one; None while there is none.
    """

    now: Callable[[], float] = monotonic
    failures: int = 0
    problem: StoreProblem | None = None
    _logged: set[StoreProblem] = field(default_factory=set)
    _began: float = 0.0
    _reported_at: float = 0.0
    _failures_before: int = 0
    _failures_at_probe: int = -1
    _busy: int = 0
    _busy_at: float = float("-inf")

    @property
    def is_fit(self) -> bool:
        """Whether the process may say that it serves, as far as the store is concerned."""
        return self.problem not in _UNFIT

    def failed(self, error: StoreUnavailable) -> None:
        """Counts a call that failed, and logs it if it says something new."""
        self.failures += 1
        now = self.now()
        if error.problem is StoreProblem.BUSY:
            self._report_busy(error, now)
            return
        if self.problem is None:
            self._began = now
            self._failures_before = self.failures - 1
        self.problem = error.problem
        if error.problem not in self._logged or now - self._reported_at >= _REMINDER_SECONDS:
            self._logged.add(error.problem)
            self._reported_at = now
            _log.error(
                "store_unavailable",
                problem=error.problem.value,
                error=str(error),
                **self._figures(),
            )

    async def watch(self, probe: Callable[[], Awaitable[None]], clock: BootClock) -> None:
        """Probes the store once a second during an outage, until it is cancelled. `probe` returns
        if the store can be written, and raises `StoreUnavailable`."""
        while True:
            await clock.sleep_until(clock.now() + _PROBE_SECONDS)
            if self.problem is None:
                continue
            try:
                await probe()
            except StoreUnavailable as error:
                self.failed(error)
            else:
                self._probed()

    def _probed(self) -> None:
        """Ends the outage if nothing has failed since the probe before this one: calls on
        connections that died in the outage fail for a moment longer."""
        if self._failures_at_probe != self.failures:
            self._failures_at_probe = self.failures
            return
        _log.warning("store_available", **self._figures())
        self.problem = None
        self._logged.clear()

    def _figures(self) -> dict[str, float]:
        return {
            "failures": self.failures - self._failures_before,
            "seconds": round(self.now() - self._began, 1),
        }

    def _report_busy(self, error: StoreUnavailable, now: float) -> None:
        self._busy += 1
        if now - self._busy_at >= _BUSY_SECONDS:
            _log.warning("store_busy", failures=self._busy, error=str(error))
            self._busy = 0
            self._busy_at = now
