"""Ids of all that has one: 48 bits of time, 80 bits of chance, in lower-case base32.

Ids made later sort later, to the millisecond, so that a listing by id is a listing
by age, and an index on ids grows at its end. The layout is that of a ULID
(https://github.com/ulid/spec). An id is not a secret, and nothing rests on its
being hard to guess.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Final

from keyfence_server.domain.accounts import AccountId
from keyfence_server.domain.keys import KeyId
from keyfence_server.domain.sessions import SessionId

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH: Final = 26
# Two digits at a time: an import makes thousands of ids.
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]
_PAIR_MASK: Final = len(_PAIRS) - 1
_SHIFTS: Final = range(5 * (_LENGTH - 2), -1, -10)
_RANDOM_BITS: Final = 80
_SESSION: Final = "ses_"


def new_key_id(now: datetime) -> KeyId:
    """A new key's id, for example "key_01jd2k7v9x4m8r5t6w3y1z0abc"."""
    return KeyId("key_" + _sortable(now))


def new_account_id(now: datetime) -> AccountId:
    """A registered account's id, for example "usr_01jd2k7v9x4m8r5t6w3y1z0abc"."""
    return AccountId("usr_" + _sortable(now))


def new_session_id(now: datetime) -> SessionId:
    """A new session's id, for example "ses_01jd2k7v9x4m8r5t6w3y1z0abc"."""
    return SessionId(_SESSION + _sortable(now))


def is_session_id(text: str) -> bool:
    """Whether an id is a session's, and not a key's."""
    return text.startswith(_SESSION)


def new_event_id(now: datetime) -> str:
    """A new audit event's id, for example "evt_01jd2k7v9x4m8r5t6w3y1z0abc"."""
    return "evt_" + _sortable(now)


def _sortable(now: datetime) -> str:
    number = int(now.timestamp() * 1000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    return "".join([_PAIRS[number >> shift & _PAIR_MASK] for shift in _SHIFTS])
