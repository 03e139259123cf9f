"""Keys in the product's own words: what a request may choose, and what an answer shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, Field, create_model

from keyfence._async.client import AsyncClient
from keyfence.asgi import rfc3339
from keyfence.results import Key

Shown = Mapping[str, "str | Callable[[Key], object]"]

TYPES: Final[Mapping[str, Any]] = {
    "display_name": str,
    "key_type": str,
    "environment": str,
    "preset": str,
    "scopes": list[str],
    "allowed_addresses": list[str],
    "expire_time": AwareDatetime,
}


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """Whose keys a caller manages, and with which credential.

    Attributes:
        client: presents the caller's own credential, or an operator's.
        account_id: with an operator's credential, the account that the product has found out
            by means of its own. None: the account of the credential.
    """

    client: AsyncClient
    account_id: str | None = None


def model_of(takes: Mapping[str, str], required: frozenset[str]) -> type[BaseModel]:
    """What a request to make a key must look like."""
    fields: dict[str, Any] = {}
    for name, argument in takes.items():
        kind = TYPES[argument]
        if name in required:
            fields[argument] = (kind, Field(alias=name))
        else:
            fields[argument] = (kind | None, Field(default=None, alias=name))
    return create_model("NewKey", **fields)


def value_of(key: Key, what: str | Callable[[Key], object], timespec: str) -> object:
    """What an answer shows of a key."""
    value = what(key) if callable(what) else getattr(key, what)
    return rfc3339(value, timespec) if isinstance(value, datetime) else value
