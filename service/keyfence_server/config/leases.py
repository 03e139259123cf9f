"""How long a process may answer from memory."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pydantic import Field, field_validator

from keyfence_server.coherence.terms import LeaseTerms
from keyfence_server.config.group import SettingsGroup
from keyfence_server.domain.durations import parse_duration

_MAX_STALE: Final = timedelta(days=1)


class LeaseSettings(SettingsGroup):
    """How long a process may answer from memory."""

    lease_seconds: float = Field(default=2.0, ge=0.1, le=60)
    lease_renewals: float = Field(default=3.0, ge=1.25, le=20)
    clock_drift: float = Field(default=0.01, ge=0, le=0.2)
    stale_if_error: str = "0s"

    @field_validator("stale_if_error")
    @classmethod
    def _check_stale_if_error(cls, value: str) -> str:
        duration = parse_duration(value)
        if duration is None or duration > _MAX_STALE:
            raise ValueError("must be a duration of at most a day, such as 30s, 10m or 2h")
        return value

    def stale_if_error_seconds(self) -> float:
        """For how long after the end of a lease memory may answer."""
        return (parse_duration(self.stale_if_error) or timedelta()).total_seconds()

    def lease_terms(self) -> LeaseTerms:
        """The lengths of time that the fence rests on."""
        return LeaseTerms(
            length=self.lease_seconds, drift=self.clock_drift, renewals=self.lease_renewals
        )
