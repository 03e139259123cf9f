"""What the accounts of a keyspace may have and do: quotas that the keyspace declares.

Quotas are for the calls of accounts' own sessions and keys. Operators have none. A change
is counted before it waits for its turn, so a refused one costs the others nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from keyfence_server.application.callers import AccountKey, AccountSession, Caller
from keyfence_server.application.ports import Transaction
from keyfence_server.application.rate_limits import RateLimits
from keyfence_server.domain.declarations import (
    DEFAULT_CHANGES_PER_ACCOUNT,
    DEFAULT_KEYS_PER_ACCOUNT,
)
from keyfence_server.domain.errors import QuotaReached
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.limits import MAX_REQUESTS, Limit, Rate, Subject

RESTRICTIVE_FACTOR: Final = 10
"""How many times as many changes an account may make that only restrict, such as
revocations: an owner whose keys have leaked must be able to revoke all of them."""


class ChangeQuotas:
    """Counts the changes that accounts make.

    Args:
        limits: counts. What is counted here shares nothing with the limits of keys.
    """

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits

    async def count(self, caller: Caller, *, restrictive: bool) -> None:
        """Counts a change. Raises `QuotaReached`.

        Args:
            restrictive: whether the change can only take something away.
        """
        if not isinstance(caller, AccountKey | AccountSession):
            return
        keyspace, owner = caller.facts.keyspace, caller.own_account
        rate = keyspace.declaration.limits.changes_per_account or DEFAULT_CHANGES_PER_ACCOUNT
        kind = "changes"
        if restrictive:
            kind = "restrictive-changes"
            rate = Rate(min(rate.requests * RESTRICTIVE_FACTOR, MAX_REQUESTS), rate.window)
        name = f"{kind}/{owner.keyspace}/{owner.account_id}/{rate.seconds}"
        passed, status = await self._limits.take([Limit(Subject.ACCOUNT, name, rate)], 1)
        if not passed:
            wait = status.retry_after or 1
            raise QuotaReached(
                f"this account may make {rate} changes; try again in {wait} seconds",
                quota="changes_per_account",
                limit=str(rate),
                retry_after_seconds=str(wait),
            )


async def require_room_for_key(
    transaction: Transaction, maker: Caller, keyspace: Keyspace, now: datetime
) -> None:
    """Makes sure that an account that makes a key itself may have one more.

    Raises:
        QuotaReached: it has as many usable keys as its keyspace lets it have.
    """
    if maker.own_account is None:
        return
    most = keyspace.declaration.limits.keys_per_account or DEFAULT_KEYS_PER_ACCOUNT
    count = await transaction.count_keys(
        keyspace.name, account_id=maker.own_account.account_id, unexpired_at=now
    )
    if count >= most:
        raise QuotaReached(
            f"this account has {count} keys that are neither revoked nor expired, and may have "
            f"{most}; revoke one that is no longer needed",
            quota="keys_per_account",
            limit=str(most),
        )
