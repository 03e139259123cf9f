"""Why a key holds the scopes that a check asked for, or what it would take.

Explaining walks the graph instead of testing a mask, so it is done on request, and
it agrees with the mask: what is explained as held is in it, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keyfence_server.domain.catalog import ScopePath
from keyfence_server.domain.facts import KeyFacts, own_mask


@dataclass(frozen=True, slots=True)
class CappedScope:
    """A required scope that the key cannot hold, whatever it is granted.

    `capped_by` is "key_type:NAME" or "parent:KEY_ID".
    """

    scope: str
    capped_by: str


@dataclass(frozen=True, slots=True)
class ScopeExplanation:
    """Why a key holds, or lacks, the required scopes.

    Attributes:
        held: for each required scope that the key holds, how it came to it.
        sufficient_grants: the fewest grants that would have made up for what is missing
            and not capped.
        capped: for each required scope that a cap takes away, or would, which cap.
    """

    held: tuple[ScopePath, ...]
    sufficient_grants: tuple[str, ...]
    capped: tuple[CappedScope, ...]


def explain(facts: KeyFacts, required: Sequence[str]) -> ScopeExplanation:
    """Explains a check of registered scopes."""
    held: list[ScopePath] = []
    missing: list[str] = []
    capped: list[CappedScope] = []
    catalog = facts.keyspace.catalog
    for scope in dict.fromkeys(required):
        if cap := _cap_on(facts, scope):
            # Also where it was not granted: to grant it would not help.
            capped.append(CappedScope(scope, cap))
        elif path := catalog.explain(facts.key.granted_scopes, scope):
            held.append(path)
        else:
            missing.append(scope)
    return ScopeExplanation(tuple(held), catalog.smallest_grants(missing), tuple(capped))


def _cap_on(facts: KeyFacts, scope: str) -> str | None:
    """The first cap, from the key upwards, that keeps a scope from the key."""
    wanted = facts.keyspace.catalog.required_mask([scope])
    if not facts.keyspace.cap_mask(facts.key.key_type) & wanted:
        return f"key_type:{facts.key.key_type}"
    for ancestor in facts.lineage[1:]:
        if not own_mask(ancestor, facts.keyspace) & wanted:
            return f"parent:{ancestor.key_id}"
    return None
