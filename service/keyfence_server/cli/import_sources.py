"""What other programs write of their keys, as the fields that `import_files` reads.

Unkey: the objects of `POST /v2/apis.listKeys` and the rows of its own table, by Unkey's API
reference as it was in November 2026. djangorestframework-api-key: the rows of its model in versions
1.4 to 3.1, as `dumpdata` writes them, or as CSV. docs/how-to/ has a page for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

Fields = dict[str, Any]


class Source(StrEnum):
    """Whose file it is."""

    KEYFENCE = "keyfence"
    UNKEY = "unkey"
    DJANGO = "djangorestframework-api-key"


class WrongLine(Exception):
    """Why a line gives no key. Nothing of its values is in it."""


def fields_from(source: Source, given: Fields) -> Fields:
    """The fields of a line of this program, by our names. Raises `WrongLine`."""
    return _READERS[source](given)


_UNKEY_IGNORED: Final = frozenset(
    {
        "apiId",
        "createdAt",
        "environment",
        "id",
        "keyAuthId",
        "keyId",
        "lastUsedAt",
        "prefix",
        "start",
        "updatedAt",
        "workspaceId",
    }
)
_UNKEY_HASH: Final = "sha256_base64"
_HAS_NO_MEANING: Final = "replace it with something that Keyfence has, or leave it out of the file"


def _from_unkey(given: Fields) -> Fields:
    given = {
        name: value
        for name, value in given.items()
        if name not in _UNKEY_IGNORED and value not in (None, [], {}, "")
    }
    fields = _hash_of_unkey(given)
    identity = given.pop("identity", None)
    owners = [given.pop(name, None) for name in ("externalId", "ownerId")]
    if isinstance(identity, Mapping):
        owners.insert(0, identity.get("externalId"))
        if identity.get("ratelimits"):
            raise WrongLine(
                "identity.ratelimits: limits of an owner are declared by the keyspace; "
                f"{_HAS_NO_MEANING}"
            )
    fields["account_id"] = next((owner for owner in owners if owner), "")
    if not given.pop("enabled", True):
        raise WrongLine("enabled: the key is disabled there; leave it out, or enable it first")
    for name, ours in (("name", "display_name"), ("permissions", "scopes")):
        if name in given:
            fields[ours] = given.pop(name)
    if "expires" in given:
        fields["expire_time"] = _time_of_milliseconds(given.pop("expires"))
    limits = given.pop("ratelimits", None) or [given.pop("ratelimit", None)]
    if limits != [None]:
        fields["rate_limit"] = _rate_of_unkey(limits)
    fields["labels"] = _labels("meta", given.pop("meta", {}))
    for name in given:
        # Credits and roles among them: without them a key could do more, or would do nothing.
        raise WrongLine(f"{_shown(name)}: Keyfence has no such field; {_HAS_NO_MEANING}")
    return fields


def _hash_of_unkey(given: Fields) -> Fields:
    written = given.pop("hash", None)
    plaintext = given.pop("plaintext", None) or given.pop("key", None)
    if isinstance(written, Mapping):
        if written.get("variant") != _UNKEY_HASH:
            raise WrongLine(f"hash.variant: only {_UNKEY_HASH} is known")
        written = written.get("value")
    if plaintext is not None:
        return {"api_key": plaintext}
    if written is None:
        raise WrongLine(
            "hash: it is missing, and so is the plaintext; Unkey's API gives the plaintext of "
            "recoverable keys alone, and its table has the hash"
        )
    return {"sha256": written}


def _rate_of_unkey(limits: Any) -> str:
    if not isinstance(limits, list) or len(limits) != 1 or not isinstance(limits[0], Mapping):
        raise WrongLine(f"ratelimits: a key has one rate limit here; {_HAS_NO_MEANING}")
    limit, milliseconds = limits[0].get("limit"), limits[0].get("duration")
    if not isinstance(limit, int) or not isinstance(milliseconds, int) or milliseconds % 1000:
        raise WrongLine("ratelimits: a limit and a duration in whole seconds are needed")
    return f"{limit}/{milliseconds // 1000}s"


def _time_of_milliseconds(value: Any) -> str:
    if isinstance(value, int):
        try:
            return (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=value)).isoformat()
        except OverflowError:
            pass
    raise WrongLine("expires: milliseconds since 1970 are needed, within the calendar")


def _labels(path: str, values: Any) -> dict[str, str]:
    if not isinstance(values, Mapping) or not all(
        isinstance(value, str | int | float | bool) for value in values.values()
    ):
        raise WrongLine(f"{path}: an object of strings, numbers and booleans is needed")
    return {
        name: value if isinstance(value, str) else str(value).lower()
        for name, value in values.items()
    }


_DJANGO_IGNORED: Final = frozenset({"created", "id", "model", "pk"})


def _from_django(given: Fields) -> Fields:
    nested = given.pop("fields", {})
    if not isinstance(nested, Mapping):
        raise WrongLine("fields: an object is needed")
    fields = {
        name: value
        for name, value in {**given, **nested}.items()
        if name not in _DJANGO_IGNORED and value not in (None, "")
    }
    if str(fields.pop("revoked", False)).lower() not in ("false", "f", "0"):
        raise WrongLine("revoked: the key is revoked there, so it is not imported")
    for name, ours in (("name", "display_name"), ("expiry_date", "expire_time")):
        if name in fields:
            fields[ours] = fields.pop(name)
    return fields


_READERS: Final[Mapping[Source, Callable[[Fields], Fields]]] = {
    Source.KEYFENCE: lambda given: given,
    Source.UNKEY: _from_unkey,
    Source.DJANGO: _from_django,
}


def _shown(name: str) -> str:
    """A field's name, unless it may be a value that stands where a name should."""
    return name if name.isidentifier() and len(name) <= 32 else "a field"
