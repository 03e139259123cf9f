"""What a route demands, by its `context_extensions` in Envoy's configuration.

    keyspace: quicksrv
    required_scopes: vps:read, vps:write

A route that says too little, too much or something misspelt lets no request through.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from keyfence_server.domain.limits import DEFAULT_COST

KEYSPACE: Final = "keyspace"
REQUIRED_SCOPES: Final = "required_scopes"
AUTHENTICATE_ONLY: Final = "authenticate_only"
COST: Final = "cost"

_KNOWN: Final = frozenset({KEYSPACE, REQUIRED_SCOPES, AUTHENTICATE_ONLY, COST})
_COST: Final = re.compile(r"[0-9]{1,7}")


class UnusableRoute(Exception):
    """The route's configuration does not say what the route demands; the message says why."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a route demands.

    Attributes:
        required_scopes: all of them; none if any good credential will do.
        cost: what a request counts for against the key's rate limits.
    """

    keyspace: str
    required_scopes: tuple[str, ...]
    cost: int = DEFAULT_COST


def read_route(extensions: Mapping[str, str]) -> Route:
    """Reads the `context_extensions` of a route. Raises `UnusableRoute`."""
    unknown = sorted(set(extensions) - _KNOWN)
    if unknown:
        raise UnusableRoute(f'there is no context extension "{unknown[0][:64]}"')
    keyspace = extensions.get(KEYSPACE, "")
    if not keyspace:
        raise UnusableRoute(f'the route has no context extension "{KEYSPACE}"')
    cost = extensions.get(COST, str(DEFAULT_COST))
    if not _COST.fullmatch(cost):
        raise UnusableRoute(f'"{COST}" is not a whole number')
    return Route(keyspace, _required_scopes(extensions), int(cost))


def _required_scopes(extensions: Mapping[str, str]) -> tuple[str, ...]:
    marker = extensions.get(AUTHENTICATE_ONLY)
    scopes = tuple(extensions.get(REQUIRED_SCOPES, "").replace(",", " ").split())
    if marker is None:
        if not scopes:
            raise UnusableRoute(
                f'the route names no scope in "{REQUIRED_SCOPES}"; if any good credential is to '
                f'pass, say {AUTHENTICATE_ONLY}: "true"'
            )
        return scopes
    if marker != "true":
        raise UnusableRoute(f'"{AUTHENTICATE_ONLY}" must be "true" or absent')
    if REQUIRED_SCOPES in extensions:
        raise UnusableRoute(f'"{AUTHENTICATE_ONLY}" and "{REQUIRED_SCOPES}" exclude each other')
    return ()
