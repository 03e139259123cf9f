"""Ids of all that has one: 48 bits of time, 80 bits of chance, in lower-case base32.

Ids made later sort later, to the millisecond, so that a listing by id is a listing by age, and an
index on ids grows at its end. The layout is that of a ULID (https://github.com/ulid/spec). An id is
not a secret, and nothing rests on its being hard to guess.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Final

from keyfence_server.domain.accounts import AccountId
from keyfence_server.domain.keys import KeyId
from keyfence_server.domain.sessions import SessionId

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_SHIFTS_OF_TIME: Final = range(45, -1, -5)
_DIGITS_OF_CHANCE: Final = 16
_DIGIT_OF_BYTE: Final = bytes(ord(_ALPHABET[byte % len(_ALPHABET)]) for byte in range(256))
_SESSION: Final = "ses_"


def new_key_id(now: datetime) -> KeyId:
    """A new key's id, for example "key_01jd2k7v9x4m8r5t6w3y1z0abc"."""
    return new_key_ids(now, 1)[0]


def new_key_ids(now: datetime, count: int) -> list[KeyId]:
    """The ids of so many new keys, in no order."""
    return [KeyId(one) for one in _sortable("key_", now, count)]


def new_account_id(now: datetime) -> AccountId:
    """A registered account's id, for example "usr_01jd2k7v9x4m8r5t6w3y1z0abc"."""
    return AccountId(_sortable("usr_", now)[0])


def new_session_id(now: datetime) -> SessionId:
    """A new session's id, for example "ses_01jd2k7v9x4m8r5t6w3y1z0abc"."""
    return SessionId(_sortable(_SESSION, now)[0])


def is_session_id(text: str) -> bool:
    """Whether an id is a session's, and not a key's."""
    return text.startswith(_SESSION)


def new_event_id(now: datetime) -> str:
    """A new audit event's id, for example "evt_01jd2k7v9x4m8r5t6w3y1z0abc"."""
    return _sortable("evt_", now)[0]


def _sortable(kind: str, now: datetime, count: int = 1) -> list[str]:
    milliseconds = int(now.timestamp() * 1000)
    start = kind + "".join([_ALPHABET[milliseconds >> shift & 31] for shift in _SHIFTS_OF_TIME])
    # Each random byte gives five bits.
    chance = secrets.token_bytes(_DIGITS_OF_CHANCE * count).translate(_DIGIT_OF_BYTE).decode()
    return [
        start + chance[place : place + _DIGITS_OF_CHANCE]
        for place in range(0, len(chance), _DIGITS_OF_CHANCE)
    ]
