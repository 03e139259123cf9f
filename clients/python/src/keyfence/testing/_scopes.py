"""The scopes of a fake's keyspaces."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import grpc

from keyfence.holder.memory import registered_scopes
from keyfence.testing._failure import Failure
from keyfence.v1 import keyspace_pb2


def effective(declared: keyspace_pb2.Keyspace, granted: Iterable[str]) -> list[str]:
    """The registered scopes that the granted ones come to."""
    implied = {scope.name: list(scope.implies) for scope in declared.scopes}
    for resource in declared.resources:
        levels = [f"{resource.name}:{level.name}" for level in resource.levels]
        for lower, higher in zip(["", *levels], levels, strict=False):
            implied.setdefault(higher, []).extend([lower] if lower else [])
    held: set[str] = set()
    waiting = [name for grant in granted for name in implied if _covers(grant, name)]
    while waiting:
        name = waiting.pop()
        if name not in held:
            held.add(name)
            waiting += implied.get(name, [])
    return sorted(held)


def _covers(grant: str, scope: str) -> bool:
    return scope.startswith(grant[:-1]) if grant.endswith("*") else grant == scope


def require_registered(declared: keyspace_pb2.Keyspace, scopes: Iterable[str]) -> None:
    """Raises the `Failure` of the first scope that the keyspace does not register."""
    registered = registered_scopes(declared)
    for scope in scopes:
        if scope not in registered:
            nearest = difflib.get_close_matches(scope, sorted(registered), n=1)
            raise Failure(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"keyspace {declared.name!r} registers no scope {scope!r}",
                "UNKNOWN_SCOPE",
                {
                    "scope": scope,
                    "keyspace": declared.name,
                    **({"nearest": nearest[0]} if nearest else {}),
                },
            )
