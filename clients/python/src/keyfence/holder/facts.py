"""The facts about one key that an SDK's cache remembers, and what follows from them.

Facts and never decisions: each check decides by the time, the address and the required scopes. The
facts of an entry never change. If they do at the server, the entry is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, TypeAlias

from keyfence import _convert, results
from keyfence.v1 import reason_pb2, replication_service_pb2

# In Python 3.11 the look-up of an enum's member takes longer than that of a global.
_OK: Final = results.Reason.OK
_REVOKED: Final = results.Reason.KEY_REVOKED
_NEVER: Final = float("inf")
_STANDINGS: Final[Mapping[int, results.Reason | None]] = {
    reason_pb2.REASON_OK: None,
    reason_pb2.REASON_KEY_REVOKED: results.Reason.KEY_REVOKED,
    reason_pb2.REASON_KEY_DISABLED: results.Reason.KEY_DISABLED,
    reason_pb2.REASON_ACCOUNT_DISABLED: results.Reason.ACCOUNT_DISABLED,
}

Address: TypeAlias = IPv4Address | IPv6Address


@dataclass(slots=True, eq=False)
class Answers:
    """What a check is answered, whichever call it came by.

    Attributes:
        check, authentication: the answer of either call, made when it is first asked for. Most
            checks of a key pass, at a revision that has not moved, and share one answer.
    """

    principal: results.Principal
    revision: int
    reason: results.Reason = _OK
    missing_scopes: tuple[str, ...] = ()
    check: results.CheckResult | None = None
    authentication: results.Authentication | None = None

    def make_check(self) -> results.CheckResult:
        """Makes `check`."""
        self.check = results.CheckResult(
            allowed=self.reason is _OK,
            reason=self.reason,
            missing_scopes=self.missing_scopes,
            principal=self.principal,
            revision=self.revision,
            explanation=None,
        )
        return self.check

    def make_authentication(self) -> results.Authentication:
        """Makes `authentication`."""
        self.authentication = results.Authentication(
            authenticated=self.reason is _OK,
            reason=self.reason,
            principal=self.principal,
            revision=self.revision,
        )
        return self.authentication


@dataclass(slots=True, eq=False)
class Entry:
    """The facts about a key.

    Attributes:
        depends_on: the subjects of these facts, such as "key:ID". A change of one of them drops
            the entry.
        expires_at: seconds since the epoch.
        standing: why the key does not pass, whatever the time and address; None if it may pass.
        allow_lists: the caller's address must be in each of them.
        passes_until: before this time, in seconds since the epoch, the key passes if the caller
            gives no address. Follows from the facts above, and spares most checks a look at them.
        yes: the answers if a check passes, as of the revision that was applied at the last one.
        is_counted: whether checks count against a rate limit. Only the server counts, so such
            checks are never answered from memory.
        is_asked_for: whether the key was asked for since it last moved in the queue.
        uses: how many checks have passed. Counted without a lock: CPython does not switch threads
            within `+= 1`. Where it is built without the GIL, threads that use one key at the same
            time may lose uses.
        collected: how many of these uses were collected to be reported.
        last_use: the time of the last use, in seconds since the epoch, and the address.
    """

    depends_on: frozenset[str]
    keyspace: str
    expires_at: float
    standing: results.Reason | None
    allow_lists: tuple[tuple[object, ...], ...]
    scopes: frozenset[str]
    principal: results.Principal
    passes_until: float
    yes: Answers
    is_counted: bool
    is_asked_for: bool = True
    uses: int = 0
    collected: int = 0
    last_use: tuple[float, str | None] = (0.0, None)


def entry_of(response: replication_service_pb2.FetchFactsResponse) -> Entry | None:
    """The entry for a key's facts; None if this version does not understand them."""
    facts = response.facts
    if facts.standing not in _STANDINGS:
        # A later version has sent this. The server answers checks of the key.
        return None
    principal = _convert.result(results.Principal, facts.principal)
    has_end = facts.HasField("expire_time")
    expires_at = _convert.seconds_of(facts.expire_time) if has_end else _NEVER
    standing = _STANDINGS[facts.standing]
    has_conditions = standing is not None or facts.address_lists
    return Entry(
        depends_on=frozenset(facts.depends_on),
        keyspace=facts.principal.keyspace,
        expires_at=expires_at,
        standing=standing,
        allow_lists=tuple(tuple(map(ip_network, one.networks)) for one in facts.address_lists),
        passes_until=-_NEVER if has_conditions else expires_at,
        scopes=frozenset(facts.principal.effective_scopes),
        principal=principal,
        yes=Answers(principal, response.revision),
        is_counted=facts.is_counted,
    )


def reason_of(entry: Entry, now: float, client_address: str | None) -> results.Reason | None:
    """Why the key does not pass, scopes aside; None if it passes.

    Args:
        now: seconds since the epoch.

    Raises:
        ValueError: the address is not an address.
    """
    address = address_of(client_address) if client_address else None
    if entry.standing is _REVOKED:
        return entry.standing
    if now >= entry.expires_at:
        return results.Reason.KEY_EXPIRED
    if entry.standing is not None:
        return entry.standing
    if entry.allow_lists and not _is_allowed(entry, address):
        return results.Reason.ADDRESS_NOT_ALLOWED
    return None


def _is_allowed(entry: Entry, address: Address | None) -> bool:
    return address is not None and all(
        any(address in network for network in networks)  # type: ignore[operator]
        for networks in entry.allow_lists
    )


@lru_cache(maxsize=4096)
def address_of(text: str) -> Address:
    """The address; IPv4 if it is IPv4 in IPv6. Raises `ValueError` if the text is not one."""
    if "%" in text:
        # A zone has a meaning on one host only, so the server refuses it.
        raise ValueError(text)
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
