"""Validates the keyspaces that an operator credential is bound to."""

from __future__ import annotations

import difflib
from typing import Final

from keyfence_server.application.callers import Caller
from keyfence_server.application.ports import Transaction
from keyfence_server.domain.errors import InvalidInput
from keyfence_server.domain.keys import Key
from keyfence_server.domain.keyspaces import SYSTEM
from keyfence_server.domain.system import ALL_KEYSPACES, SYSTEM_KEYSPACE

_MAX_NAMES_TO_COMPARE: Final = 500


async def require_bound_to_what_is_there(transaction: Transaction, maker: Caller, key: Key) -> None:
    """Refuses a credential that is bound to a keyspace that is not there, most likely for a
    slip of the pen. One that may apply keyspaces is let through: so a keyspace can be made by
    a credential that is bound to it alone.

    Called when it is known that the maker may bind the key so: others must not learn which
    keyspaces there are.

    Raises:
        InvalidInput: with the nearest name that the maker may know of.
    """
    if key.keyspace != SYSTEM:
        return
    effective = SYSTEM_KEYSPACE.catalog.mask(key.granted_scopes)
    if effective & SYSTEM_KEYSPACE.catalog.required_mask(["keyspaces:write"]):
        return
    for index, name in enumerate(key.bound_keyspaces):
        if name in (ALL_KEYSPACES, SYSTEM) or await transaction.find_keyspace(name) is not None:
            continue
        known = await transaction.list_keyspaces(after=None, limit=_MAX_NAMES_TO_COMPARE)
        reached = [one.name for one in known if maker.reaches(one.name)]
        nearest = difflib.get_close_matches(name, reached, n=1)
        hint = f'did you mean "{nearest[0]}"?' if nearest else "apply it first"
        raise InvalidInput.field(
            f"bound_keyspaces[{index}]", f'there is no keyspace "{name}"; {hint}'
        )
