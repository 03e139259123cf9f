"""Throttles log-ins and registrations by client address, so that no client can lock out another.

Counted are the wrong passwords of an address, for one account and for all accounts together, and
the accounts that it registered. A log-in that succeeds is not counted. Nothing is counted against
an account alone: otherwise any client could keep the owner from logging in by failing often enough.

Behind a proxy that the server was not told to trust, no client's address is known, and all clients
would be counted as one. So their wrong passwords are not counted, and the log says so. Their
registrations are counted together: that keeps no owner from an existing account.

A password that is being checked counts as wrong until it turns out to be right, so
that many sent at once get no more tries than one after the other.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv6Address, IPv6Network
from typing import Final

import structlog

from keyfence_server.application.ports import Clock
from keyfence_server.application.rate_limits import RateLimits
from keyfence_server.domain.addresses import find_address
from keyfence_server.domain.errors import Throttled
from keyfence_server.domain.limits import Limit, Rate, Subject

PER_ACCOUNT_AND_ADDRESS: Final = Rate(10, timedelta(minutes=15))
PER_ADDRESS: Final = Rate(100, timedelta(minutes=15))
REGISTRATIONS_PER_ADDRESS: Final = Rate(20, timedelta(hours=1))

_log = structlog.get_logger("keyfence.accounts")

# One customer has a whole network of IPv6, so all of its addresses count as one client.
_IPV6_PREFIX: Final = 64
_UNKNOWN: Final = "unknown"


class LogInAttempts:
    """Counts failed log-ins, and registrations.

    Args:
        limits: counts. What is counted here shares nothing with the limits of keys.
    """

    def __init__(self, limits: RateLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._under_way: Counter[str] = Counter()
        self._has_warned = False

    @asynccontextmanager
    async def of_password(
        self, keyspace: str, identity: str, address: str
    ) -> AsyncIterator[PasswordAttempt]:
        """Surrounds the checking of a password. The attempt counts unless it is marked as
        `succeeded`.

        Args:
            identity: the identity of the e-mail address that was given.
            address: the client's address; empty for unknown.

        Raises:
            Throttled: too many have failed.
        """
        network = _network_of(address)
        if network is None:
            if not self._has_warned:
                self._has_warned = True
                _log.warning(
                    "log_ins_not_throttled",
                    advice="set KEYFENCE_TRUSTED_PROXIES: without it the addresses of callers who "
                    "try passwords are not known",
                )
            yield PasswordAttempt()
            return
        # The counter may be shared and seen by others, who need not see addresses of people.
        name = hashlib.sha256(f"{keyspace}\0{identity}".encode()).hexdigest()[:32]
        limits = [
            Limit(Subject.ACCOUNT, f"password/{name}/{network}", PER_ACCOUNT_AND_ADDRESS),
            Limit(Subject.ACCOUNT, f"passwords/{keyspace}/{network}", PER_ADDRESS),
        ]
        for limit in limits:
            _, status = await self._limits.take([limit], 0)
            if status.remaining <= self._under_way[limit.name]:
                raise self._throttled(status.reset_at)
        names = [limit.name for limit in limits]
        self._under_way.update(names)
        attempt = PasswordAttempt()
        try:
            yield attempt
        finally:
            if not attempt.succeeded:
                await self._limits.take(limits, 1)
            self._under_way.subtract(names)
            # What has come to nothing must not stay: names come from strangers.
            for name in names:
                if not self._under_way[name]:
                    del self._under_way[name]

    async def count_registration(self, keyspace: str, address: str) -> None:
        """Counts a registration, or a change of an account's e-mail address: both tell whether an
        address is taken. Raises `Throttled`."""
        network = _network_of(address) or _UNKNOWN
        limit = Limit(Subject.ACCOUNT, f"register/{keyspace}/{network}", REGISTRATIONS_PER_ADDRESS)
        passed, status = await self._limits.take([limit], 1)
        if not passed:
            raise self._throttled(status.reset_at)

    def _throttled(self, reset_at: int) -> Throttled:
        seconds = max(1, reset_at - int(self._clock.timestamp()))
        return Throttled(
            f"too many attempts from this address; try again in {seconds} seconds",
            retry_after_seconds=str(seconds),
        )


@dataclass(slots=True)
class PasswordAttempt:
    """A password that is being checked.

    Attributes:
        succeeded: whether it was right: the attempt does not count.
    """

    succeeded: bool = False


def _network_of(address: str) -> str | None:
    """Whose address it is, as far as addresses tell; None where it tells nothing.

    A loopback address is that of a proxy on this machine, and so of all clients behind it.
    """
    parsed = find_address(address)
    if parsed is None or parsed.is_loopback:
        return None
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, _IPV6_PREFIX), strict=False))
    return str(parsed)
