"""Reads the wanted properties of a key, and says everything that is wrong with them."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from keyfence_server.domain.addresses import canonical_networks, parse_network
from keyfence_server.domain.durations import format_duration
from keyfence_server.domain.errors import InvalidInput, Problem
from keyfence_server.domain.keyspace_problems import MAX_DISPLAY_NAME, is_keyspace_name
from keyfence_server.domain.keyspaces import SYSTEM, Keyspace
from keyfence_server.domain.limits import Rate, rate_problem
from keyfence_server.domain.scopes import is_wildcard
from keyfence_server.domain.system import ALL_KEYSPACES

MAX_GRANTS: Final = 256
MAX_COMMENT: Final = 200
MAX_ADDRESSES: Final = 64
MAX_LABELS: Final = 32
MAX_BOUND_KEYSPACES: Final = 100

_ACCOUNT_ID: Final = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,64}")
_CONTROLS: Final = frozenset({"Cc", "Cf", "Zl", "Zp"})
_JOINERS: Final = "\u200c\u200d"
_LABEL_NAME: Final = re.compile(r"[A-Za-z0-9._/-]{1,63}")


def read_display_name(path: str, text: str) -> str:
    """A name for people: no control characters, so that it cannot forge a log line."""
    if not text.strip(_JOINERS + string.whitespace) or len(text) > MAX_DISPLAY_NAME:
        raise InvalidInput.field(path, f"1 to {MAX_DISPLAY_NAME} characters, not all of them blank")
    _refuse_control_characters(path, text)
    return text


def _refuse_control_characters(path: str, text: str) -> None:
    """Refuses characters that steer a terminal, or that break or turn a line.

    The joiners (U+200C, U+200D) have the same category but do neither: Persian, the languages
    of India and many emoji are written with them.
    """
    if text.isprintable():
        # What is printable is in none of these categories. To look at each character of the
        # largest request would take milliseconds of the event loop.
        return
    for place, character in enumerate(text, 1):
        if unicodedata.category(character) in _CONTROLS and character not in _JOINERS:
            name = unicodedata.name(character, "a control character")
            raise InvalidInput.field(
                path,
                f"character {place} is U+{ord(character):04X} ({name}), which is not allowed "
                "here: it can change how a line is shown; remove it",
            )


def read_comment(text: str) -> str:
    """Why something was done, for the audit log."""
    if len(text) > MAX_COMMENT:
        raise InvalidInput.field("comment", f"at most {MAX_COMMENT} characters")
    _refuse_control_characters("comment", text)
    return text


def read_account_id(text: str) -> str:
    """An account's id."""
    if not _ACCOUNT_ID.fullmatch(text):
        raise InvalidInput.field(
            "account_id", "1 to 128 characters of letters, digits and ._:@- are needed"
        )
    return text


def read_request_id(text: str) -> str | None:
    """An idempotency id; None for an empty text."""
    if text and not _REQUEST_ID.fullmatch(text):
        raise InvalidInput.field("request_id", "1 to 64 printable ASCII characters, no blanks")
    return text or None


def read_grants(path: str, scopes: Sequence[str], keyspace: Keyspace) -> tuple[str, ...]:
    """Scopes and wildcards to grant, each of them standing for something that is registered."""
    if len(scopes) > MAX_GRANTS:
        raise InvalidInput.field(path, f"at most {MAX_GRANTS} scopes; consider a wildcard")
    for index, scope in enumerate(scopes):
        if keyspace.catalog.knows(scope):
            continue
        where = f"{path}[{index}]"
        if is_wildcard(scope):
            raise InvalidInput.field(where, keyspace.catalog.describe_unknown(scope))
        raise keyspace.unknown_scope(where, scope)
    return tuple(sorted(set(scopes)))


def require_grants_within_type(
    path: str, grants: Sequence[str], keyspace: Keyspace, key_type: str
) -> None:
    """Refuses to grant by name what the key's type can never hold.

    A wildcard is narrowed by the type instead: it asks for whatever there is.
    """
    cap = keyspace.cap_mask(key_type)
    for index, scope in enumerate(grants):
        if not is_wildcard(scope) and not keyspace.catalog.required_mask([scope]) & cap:
            raise InvalidInput.field(
                f"{path}[{index}]", f'a key of type "{key_type}" cannot hold "{scope}"'
            )


def read_addresses(texts: Sequence[str]) -> tuple[str, ...]:
    """An allow-list of addresses and networks."""
    if not texts:
        return ()
    path = "allowed_addresses"
    if len(texts) > MAX_ADDRESSES:
        raise InvalidInput.field(path, f"at most {MAX_ADDRESSES} addresses or networks")
    problems = []
    for index, text in enumerate(texts):
        try:
            parse_network(text)
        except ValueError:
            problems.append(
                Problem(
                    (path, index),
                    f"{text[:64]!r} is neither an address nor a network such as 192.0.2.0/24 or "
                    "2001:db8::/32 (no bits may be set beyond the prefix)",
                )
            )
    if problems:
        raise InvalidInput(problems)
    return canonical_networks(texts)


def require_changeable(fields: Collection[str], changeable: Collection[str]) -> None:
    """Refuses an update that names a field that cannot be changed, or none."""
    unknown = sorted(set(fields) - set(changeable))
    if unknown or not fields:
        raise InvalidInput.field(
            "update_mask",
            (f"{unknown[0][:64]!r} cannot be changed; " if unknown else "name what to change; ")
            + f"possible: {', '.join(sorted(changeable))}",
        )


def read_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Free labels."""
    if len(labels) > MAX_LABELS:
        raise InvalidInput.field("labels", f"at most {MAX_LABELS} labels")
    for name, value in labels.items():
        if not _LABEL_NAME.fullmatch(name):
            raise InvalidInput.field(
                f"labels[{name[:64]}]", "a label's name is 1 to 63 letters, digits and ._/-"
            )
        if len(value) > 256:
            raise InvalidInput.field(
                f"labels[{name}]", "a label's value has at most 256 characters"
            )
        _refuse_control_characters(f"labels[{name}]", value)
    return dict(sorted(labels.items()))


def read_bound_keyspaces(names: Sequence[str], keyspace: str) -> tuple[str, ...]:
    """Where an operator credential may act: never by leaving it empty."""
    path = "bound_keyspaces"
    if keyspace != SYSTEM:
        if names:
            raise InvalidInput.field(path, f'only credentials of keyspace "{SYSTEM}" are bound')
        return ()
    if not names:
        raise InvalidInput.field(
            path,
            f'name the keyspaces that the credential may act on, or "{ALL_KEYSPACES}" for all of '
            f'them but "{SYSTEM}"',
        )
    if len(names) > MAX_BOUND_KEYSPACES:
        raise InvalidInput.field(path, f"at most {MAX_BOUND_KEYSPACES} keyspaces")
    for index, name in enumerate(names):
        if name != ALL_KEYSPACES and not is_keyspace_name(name):
            raise InvalidInput.field(f"{path}[{index}]", f"{name[:64]!r} is not a keyspace's name")
    return tuple(sorted(set(names)))


def read_expire_time(
    asked: datetime | None,
    *,
    default: timedelta | None,
    keyspace: Keyspace,
    create_time: datetime,
    now: datetime,
) -> datetime | None:
    """When a key is to expire: as asked, or after the default, within the keyspace's limit.

    A life is counted from the key's creation, so that it cannot be drawn out for ever.
    """
    longest = keyspace.declaration.max_lifetime
    if asked is None:
        lifetime = default or longest
        if lifetime is None:
            return None
        asked = create_time + lifetime
    if asked <= now:
        raise InvalidInput.field("expire_time", "is in the past")
    if longest is not None and asked > create_time + longest:
        raise InvalidInput.field(
            "expire_time",
            f'keys of keyspace "{keyspace.name}" live for at most '
            f"{format_duration(longest)}: give a time up to "
            f"{(create_time + longest).isoformat(timespec='seconds')}",
        )
    return asked


def read_rate_limit(rate: Rate | None, keyspace: Keyspace) -> Rate | None:
    """A key's own rate limit; None for what its keyspace says."""
    if rate is None:
        return None
    if keyspace.name == SYSTEM:
        raise InvalidInput.field(
            "rate_limit",
            f'cannot be set for keys of keyspace "{SYSTEM}", which are credentials of '
            "services and operators",
        )
    problem = rate_problem(rate)
    if problem is not None:
        raise InvalidInput.field("rate_limit", problem)
    return rate
