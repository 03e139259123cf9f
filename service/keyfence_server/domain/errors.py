"""What can be wrong with a request, in the domain's own words.

The tree:

    DomainError
    ├── InvalidInput            one or more named fields are wrong
    │   ├── UnknownScope        a scope that no catalog registers
    │   └── InvalidDeclaration  a keyspace that contradicts itself
    ├── Unauthenticated         the caller's own credential is missing or does not pass
    ├── NotFound
    ├── AlreadyDone             a request that was carried out before
    ├── Forbidden               the maker may not make or change this
    │   └── ExceedsMaker
    ├── Throttled               too often in too short a time
    ├── Overloaded              more at once than the server takes
    ├── QuotaReached            an account has or does as much as its keyspace lets it
    ├── Conflict                the record has moved on
    └── Precondition            the record is in the wrong state

Every error says what to do in its message, names no secret, and carries in `metadata` what a
program would want to know. The gRPC status is chosen elsewhere: this module must not know of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self


class Name(str):
    """A step of a path that the input's author named: a key of a map, or the name of an item
    in a list of named items. A plain string is a field."""

    __slots__ = ()


Path = tuple[str | int, ...]
"""The place of a fault, from the input's root: fields, names and indexes from 0."""


def path_text(path: Path) -> str:
    """A path as the API writes it, with names and indexes in brackets:
    `scopes[vps:write].implies[0]`."""
    text = ""
    for step in path:
        if isinstance(step, int | Name):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault at one place of the input.

    Attributes:
        path: the place; empty for the input as a whole.
        message: what is wrong and what to do about it.
        is_of_name: the field's name is wrong, not its value.
    """

    path: Path
    message: str
    is_of_name: bool = False

    @property
    def where(self) -> str:
        """The path as text."""
        return path_text(self.path)

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.path else self.message


def _problem(path: Path | str, message: str) -> Problem:
    return Problem((path,) if isinstance(path, str) else path, message)


class DomainError(Exception):
    """The request cannot be carried out, and nothing was changed.

    Attributes:
        reason: the name of a `keyfence.v1.ErrorReason` without its prefix.
        metadata: names and values for programs. Never a secret.
    """

    reason: str = "INTERNAL"

    def __init__(self, message: str, *, reason: str | None = None, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata: Mapping[str, str] = metadata
        if reason is not None:
            self.reason = reason


class InvalidInput(DomainError):
    """Fields of the request are wrong. `problems` names each of them, at least one."""

    reason = "INVALID_FIELD"

    def __init__(self, problems: Sequence[Problem], **metadata: str) -> None:
        super().__init__("; ".join(map(str, problems)), **metadata)
        self.problems = tuple(problems)

    @classmethod
    def field(cls, path: Path | str, message: str) -> Self:
        """The error for a single wrong field, given by its name or its path."""
        return cls([_problem(path, message)])


class UnknownScope(InvalidInput):
    """A scope that the keyspace's catalog does not register."""

    reason = "UNKNOWN_SCOPE"

    def __init__(self, path: Path | str, scope: str, keyspace: str, nearest: str | None) -> None:
        scope = scope[:128]
        hint = f'; did you mean "{nearest}"?' if nearest else ""
        metadata = {"scope": scope, "keyspace": keyspace}
        if nearest:
            metadata["nearest"] = nearest
        problem = _problem(path, f'keyspace "{keyspace}" has no scope "{scope}"{hint}')
        super().__init__([problem], **metadata)
        self.scope = scope
        self.nearest = nearest


class InvalidDeclaration(InvalidInput):
    """A keyspace's declaration that contradicts itself."""

    reason = "INVALID_KEYSPACE"


class Unauthenticated(DomainError):
    """The caller's own credential is missing, or does not pass.

    `cause` says why, for the log: the caller itself is told no more than the message.
    """

    reason = "CREDENTIAL_REJECTED"

    def __init__(self, message: str, *, reason: str | None = None, cause: str) -> None:
        super().__init__(message, reason=reason)
        self.cause = cause


class NotFound(DomainError):
    """There is no such thing, or the caller may not know of it: the two look alike."""

    @classmethod
    def keyspace(cls, name: str, *, that: str = "") -> NotFound:
        """The error for a keyspace that is not there, or for none `that` is so."""
        return cls(
            f'there is no keyspace "{name[:64]}"{that}',
            reason="KEYSPACE_NOT_FOUND",
            keyspace=name[:64],
        )


class AlreadyDone(DomainError):
    """The request was carried out before, or what it would make is there."""

    reason = "REQUEST_ALREADY_DONE"


class Forbidden(DomainError):
    """The caller may not do this."""


class ExceedsMaker(Forbidden):
    """A key would be able to do more than its maker. `exceeds` names in which respect."""

    reason = "EXCEEDS_MAKER"


class Throttled(DomainError):
    """Something was tried too often. Its `retry_after_seconds` are whole, and at least 1."""

    reason = "TOO_MANY_ATTEMPTS"


class Overloaded(DomainError):
    """The server has as much of this to do as it takes on. Nothing was done."""

    reason = "LIMIT_REACHED"


class QuotaReached(DomainError):
    """An account has used up a quota of its keyspace. Nothing was done.

    Its `quota` is the field of the keyspace's `limits` that declares it, its `limit` what that
    allows. It has whole `retry_after_seconds` where waiting helps.
    """

    reason = "QUOTA_REACHED"


class Conflict(DomainError):
    """The record has changed since the caller read it."""

    reason = "REVISION_CHANGED"

    @classmethod
    def moved_on(cls, what: str, revision: int) -> Conflict:
        """The error for a change that was meant for another revision of a record than this one."""
        message = f"{what} is at revision {revision} by now; read it again and decide again"
        return cls(message, revision=str(revision))


class Precondition(DomainError):
    """The record is in a state in which this cannot be done."""
