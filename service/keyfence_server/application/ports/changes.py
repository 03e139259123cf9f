"""What a mutation changes, as caches need to know it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ChangeKind(Enum):
    """What a change is about."""

    KEY = "key"
    KEYSPACE = "keyspace"
    ACCOUNT = "account"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Change:
    """That something is no longer as it was: all that a cache needs to forget it.

    Attributes:
        subject: the key's, account's or session's id, or the keyspace's name. A change of
            an account concerns all its keys and sessions as well.
        keyspace: the keyspace that the subject is in, or is.
        created: whether the subject was not there before, so that a cache which
            remembers absence must forget that.
    """

    kind: ChangeKind
    subject: str
    keyspace: str
    created: bool = False
