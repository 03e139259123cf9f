"""How long the holders of each credential may delay mutations, in all (rule I8).

The time for which the holders of a credential have delayed mutations is taken from a budget.
docs/fence.md ("How long a mutation waits") has the sizes of the two budgets and the bound that
follows from them. A holder that renews its lease while it leaves a revision unacknowledged does
what no good holder does, so little is allowed. A holder that is silent may have crashed, or may be
cut off, so more is allowed. Delays at the same moment count once, however many holders cause them:
a machine that dies with all its processes costs W.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MOST_CREDENTIALS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """The size of a budget.

    Attributes:
        seconds: B, in seconds.
        refill: r, the seconds that come back in a second.
        grace: delays up to this length are round trips and are not counted.
    """

    seconds: float
    refill: float
    grace: float


@dataclass(slots=True)
class _Account:
    left: float
    at: float
    charged_until: float
    is_spent: bool = False


class DelayBudget:
    """A budget for each credential. Times are readings of the grantor's clock."""

    def __init__(self, allowance: Allowance) -> None:
        self._budget = allowance.seconds
        self._refill_rate = allowance.refill
        self._grace = allowance.grace
        self._accounts: dict[str, _Account] = {}

    def charge(self, credential: str, start: float, end: float) -> None:
        """Adds the delay from `start` to `end`, except the part that was counted before."""
        if end - start <= self._grace:
            return
        account = self._account(credential, end)
        seconds = end - max(start, account.charged_until)
        if seconds <= 0:
            return
        account.charged_until = end
        account.left -= seconds
        account.is_spent = account.is_spent or account.left <= 0

    def is_spent(self, credential: str, now: float) -> bool:
        """Whether the credential's holders get no lease now."""
        return credential in self._accounts and self._account(credential, now).is_spent

    def seconds_until_allowed(self, credential: str, now: float) -> float:
        """For how long the credential's holders get no lease; 0 if they get one."""
        if not self.is_spent(credential, now):
            return 0.0
        return max(0.0, self._budget / 2 - self._accounts[credential].left) / self._refill_rate

    def _account(self, credential: str, now: float) -> _Account:
        account = self._accounts.get(credential)
        if account is None:
            self._forget_full(now)
            account = _Account(self._budget, now, float("-inf"))
            self._accounts[credential] = account
        self._refill(account, now)
        return account

    def _refill(self, account: _Account, now: float) -> None:
        if now > account.at:
            account.left = min(self._budget, account.left + (now - account.at) * self._refill_rate)
            account.at = now
        if account.is_spent and account.left >= self._budget / 2:
            account.is_spent = False

    def _forget_full(self, now: float) -> None:
        """Bounds the memory. A credential with a full budget needs no entry."""
        if len(self._accounts) < _MOST_CREDENTIALS:
            return
        for account in self._accounts.values():
            self._refill(account, now)
        self._accounts = {
            name: account for name, account in self._accounts.items() if account.left < self._budget
        }
