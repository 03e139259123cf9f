"""A new key can do no more than the key or session that makes it.

A key made by a key stays within its maker in every respect: scopes, lifetime, addresses, rate
limit, environment, key type and, for operator credentials, keyspaces. It does so for all time, not
only today: a maker passes on a wildcard only if it holds one that covers it, since every scope that
is registered under the wildcard later comes to the new key too.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from keyfence_server.domain.addresses import are_within, parse_network
from keyfence_server.domain.errors import ExceedsMaker
from keyfence_server.domain.facts import NEVER, KeyFacts, own_rate
from keyfence_server.domain.keys import Key, KeyState
from keyfence_server.domain.keyspaces import SYSTEM, Keyspace
from keyfence_server.domain.limits import Rate
from keyfence_server.domain.scopes import EVERYTHING, covers
from keyfence_server.domain.system import ALL_KEYSPACES


def require_within(maker: KeyFacts, key: Key) -> None:
    """Makes sure that a key of the maker's own keyspace can do nothing its maker cannot.

    Raises:
        ExceedsMaker: naming the respect: "environment", "key_type", "scopes",
            "expire_time", "allowed_addresses", "bound_keyspaces" or "rate_limit".
    """
    _require_environment_within(maker, key)
    _require_type_within(maker, key)
    _require_scopes_within(maker, key)
    _require_lifetime_within(maker, key)
    _require_addresses_within(maker, key)
    _require_keyspaces_within(maker, key)
    _require_rate_within(maker, key)


def require_grantable(keyspace: Keyspace, key: Key) -> None:
    """Makes sure that a key can do nothing that accounts may not give to their keys by
    themselves, in a session: no more than the keyspace lets them grant, and no more often
    than it lets any key be used.

    Raises:
        ExceedsMaker: naming the respect: "key_type", "environment", "scopes" or "rate_limit".
    """
    declared = keyspace.declaration.accounts
    if declared is not None:
        _require_among(declared.grantable_key_types, key.key_type, "key_type", keyspace)
        _require_among(declared.grantable_environments, key.environment, "environment", keyspace)
    grantable = declared.grantable_scopes if declared is not None else ()
    for granted in key.granted_scopes if grantable else ():
        if not any(covers(pattern, granted) for pattern in grantable) and not _is_implied(
            granted, grantable, keyspace
        ):
            raise ExceedsMaker(
                f'accounts of keyspace "{keyspace.name}" cannot grant "{granted}" themselves; '
                f"they can grant {', '.join(grantable[:5])}",
                exceeds="scopes",
            )
    rate, default = key.rate_limit, keyspace.declaration.limits.per_key
    if rate is not None and default is not None and not rate.is_within(default):
        raise ExceedsMaker(
            f"a key that is made in a session can have a limit of {default} at most",
            exceeds="rate_limit",
        )


def _require_among(grantable: Sequence[str], name: str, respect: str, keyspace: Keyspace) -> None:
    if grantable and name not in grantable:
        raise ExceedsMaker(
            f'accounts of keyspace "{keyspace.name}" cannot make or change keys of '
            f'{respect} "{name}" themselves; they can with {", ".join(grantable[:5])}',
            exceeds=respect,
        )


def _is_implied(granted: str, grantable: Sequence[str], keyspace: Keyspace) -> bool:
    """Whether a registered scope comes with those that may be granted."""
    catalog = keyspace.catalog
    return granted in catalog and not catalog.mask([granted]) & ~catalog.mask(grantable)


def _require_environment_within(maker: KeyFacts, key: Key) -> None:
    if key.environment != maker.key.environment:
        raise ExceedsMaker(
            f'{maker.key_id} is a key of environment "{maker.key.environment}", so it cannot '
            f'make or change a key of environment "{key.environment}"',
            exceeds="environment",
        )


def _require_type_within(maker: KeyFacts, key: Key) -> None:
    for ancestor in maker.lineage:
        if not is_type_within(maker.keyspace, key.key_type, ancestor.key_type):
            raise ExceedsMaker(
                f'{maker.key_id} is limited to what keys of type "{ancestor.key_type}" can hold '
                f'and do, so it cannot make or change a key of type "{key.key_type}"',
                exceeds="key_type",
            )


def is_type_within(keyspace: Keyspace, inner: str, outer: str) -> bool:
    """Whether keys of the type `inner` can never hold or do what keys of the type `outer`
    cannot, whatever is granted to them or registered later."""
    one, other = keyspace.find_key_type(inner), keyspace.find_key_type(outer)
    if one is None or other is None or (one.manages_keys and not other.manages_keys):
        return False
    if one == other or not other.scope_cap:
        return True
    catalog = keyspace.catalog
    if not one.scope_cap or catalog.mask(one.scope_cap) & ~catalog.mask(other.scope_cap):
        return False
    return all(
        pattern in catalog or any(covers(cap, pattern) for cap in other.scope_cap)
        for pattern in one.scope_cap
    )


def inherited_type(above: Sequence[KeyFacts], keyspace: Keyspace) -> str:
    """The type of a key whose maker asks for none: the keyspace's default, if that is within
    the types of all keys above; otherwise the type of the nearest key above."""
    default = keyspace.default_key_type
    types = [key.key_type for maker in above for key in maker.lineage]
    if all(is_type_within(keyspace, default, one) for one in types):
        return default
    return types[0]


def inherited_environment(above: Sequence[KeyFacts], keyspace: Keyspace) -> str:
    """The environment of a key whose maker asks for none: that of the nearest key above,
    otherwise the keyspace's default."""
    return above[0].key.environment if above else keyspace.default_environment


def _require_scopes_within(maker: KeyFacts, key: Key) -> None:
    catalog = maker.keyspace.catalog
    # The key's own cap is left out of account: it may be lifted one day.
    beyond = catalog.mask(key.granted_scopes) & ~maker.effective
    if beyond:
        names = ", ".join(catalog.names_in(beyond)[:5])
        raise ExceedsMaker(
            f"{maker.key_id} does not have {names}, so it cannot grant it to another key",
            exceeds="scopes",
        )
    for pattern in key.granted_scopes:
        # A scope that is registered brings what the maker holds too, whatever it comes to
        # imply. A wildcard may come to stand for more, and so may a name that is not
        # registered, or not any more, and that an old key still carries.
        if pattern in catalog:
            continue
        if not all(_passes_on(ancestor, maker, pattern) for ancestor in maker.lineage):
            raise ExceedsMaker(
                f'{maker.key_id} was not granted "{pattern}" itself, so it cannot pass on '
                "scopes that may be registered later; name the scopes one by one",
                exceeds="scopes",
            )


def _passes_on(ancestor: Key, maker: KeyFacts, pattern: str) -> bool:
    kind = maker.keyspace.find_key_type(ancestor.key_type)
    within_cap = kind is not None and (
        not kind.scope_cap or any(covers(cap, pattern) for cap in kind.scope_cap)
    )
    return within_cap and any(covers(granted, pattern) for granted in ancestor.granted_scopes)


def _require_lifetime_within(maker: KeyFacts, key: Key) -> None:
    if maker.expires_at == NEVER:
        return
    if key.expire_time is None or key.expire_time.timestamp() > maker.expires_at:
        raise ExceedsMaker(
            f"{maker.key_id} expires before the key that it would make; give an earlier "
            "expire_time",
            exceeds="expire_time",
        )


def _require_addresses_within(maker: KeyFacts, key: Key) -> None:
    networks = [parse_network(text) for text in key.allowed_addresses]
    for allow_list in maker.allow_lists:
        if not networks or not are_within(networks, allow_list):
            raise ExceedsMaker(
                f"{maker.key_id} may be used from some addresses only; the key that it makes "
                "needs allowed_addresses within those",
                exceeds="allowed_addresses",
            )


def _require_keyspaces_within(maker: KeyFacts, key: Key) -> None:
    for keyspace in key.bound_keyspaces:
        if keyspace == ALL_KEYSPACES:
            held = all(ALL_KEYSPACES in ancestor.bound_keyspaces for ancestor in maker.lineage)
        else:
            held = maker.acts_on(keyspace)
        if not held:
            where = "every keyspace" if keyspace == ALL_KEYSPACES else f'keyspace "{keyspace}"'
            raise ExceedsMaker(
                f"{maker.key_id} is not bound to {where}, so it cannot bind another key to it",
                exceeds="bound_keyspaces",
            )


def _require_rate_within(maker: KeyFacts, key: Key) -> None:
    rate = own_rate(key, maker.keyspace)
    for above in rates_of(maker):
        if rate is None or not rate.is_within(above):
            raise ExceedsMaker(
                f"{maker.key_id} may be used {above} at most; the key that it makes needs a "
                "rate_limit that allows no more in any such time",
                exceeds="rate_limit",
            )


def rates_of(maker: KeyFacts) -> list[Rate]:
    """What a maker's own line is limited to."""
    rates = (own_rate(key, maker.keyspace) for key in maker.lineage)
    return [rate for rate in rates if rate is not None]


def inherited_rate(above: Sequence[KeyFacts], keyspace: Keyspace) -> Rate | None:
    """The limit of a key whose maker asks for none: the keyspace's, if that is within all
    that is above; otherwise the strictest of those. None for the keyspace's."""
    rates = [rate for maker in above for rate in rates_of(maker)]
    default = keyspace.declaration.limits.per_key
    if default is not None and all(map(default.is_within, rates)):
        return None
    return min(rates, key=lambda rate: rate.requests / rate.seconds, default=None)


class Administration(IntEnum):
    """How far operators can rely on a credential to make every other operator credential.

    A credential that makes a key cannot give it what the maker does not hold. So the scopes
    and bindings of the last administrator cannot be made again once it is gone.
    """

    NONE = 0
    """The credential cannot make every other one, or does not work."""
    LIMITED = 1
    """It can, until it expires or from some addresses only."""
    LASTING = 2
    """It can, at any time and from anywhere."""


def administration_of(facts: KeyFacts, now: float) -> Administration:
    """How far operators can rely on this credential.

    Args:
        now: seconds since the epoch.
    """
    holds_everything = facts.acts_on(SYSTEM) and all(
        EVERYTHING in key.granted_scopes and ALL_KEYSPACES in key.bound_keyspaces
        for key in facts.lineage
    )
    works = facts.state is KeyState.ACTIVE and now < facts.expires_at
    if not holds_everything or not works:
        return Administration.NONE
    if facts.expires_at != NEVER or facts.allow_lists:
        return Administration.LIMITED
    return Administration.LASTING
