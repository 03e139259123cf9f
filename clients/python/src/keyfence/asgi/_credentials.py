"""The one credential of an HTTP request, in the places that a keyspace declares.

Several programs on the way of a request could each use another credential in it. So a
request has one credential or none: two different ones, or one header twice, count as none.
The edge of the server reads requests by the same rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from keyfence.asgi._answers import Places
from keyfence.results import Reason

Headers = list[tuple[bytes, bytes]]

_BEARER: Final = "bearer "


@dataclass(frozen=True, slots=True)
class Presented:
    """The credential of a request. Its `repr` does not show it.

    Attributes:
        credential: empty for none.
        problem: why there is none: missing or malformed. OK if there is one.
        headers_left: the request's headers without the credential.
    """

    credential: str = field(repr=False)
    problem: Reason
    headers_left: Headers = field(repr=False)


def take_credential(headers: Iterable[tuple[bytes, bytes]], places: Places) -> Presented:
    """Finds the credential of a request, and takes it off the headers.

    Args:
        headers: names in lower case, as ASGI has them.
    """
    found: list[list[str]] = []
    left: Headers = []
    by_name: dict[str, list[str]] = {}
    cookies: list[str] = []
    is_clear = True
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name in places.headers or (places.bearer and name == "authorization"):
            by_name.setdefault(name, []).append(value)
        elif places.cookie and name == "cookie":
            taken, rest = _split_cookies(value, places.cookie)
            cookies += taken
            if rest or not taken:
                left.append((raw_name, rest.encode("latin-1") if taken else raw_value))
        else:
            left.append((raw_name, raw_value))
    for name, values in by_name.items():
        is_clear = is_clear and len(values) == 1 and "," not in values[0]
        if name == "authorization" and name not in places.headers:
            is_clear = is_clear and all(_is_bearer(value) or not value for value in values)
            values = [value[len(_BEARER) :].strip(" ") for value in values]  # noqa: PLW2901
        found.append(values)
    is_clear = is_clear and len(cookies) <= 1
    found.append(cookies)
    credentials = {value for values in found for value in values if value}
    if not is_clear or len(credentials) > 1:
        return Presented("", Reason.CREDENTIAL_MALFORMED, left)
    if not credentials:
        return Presented("", Reason.CREDENTIAL_MISSING, left)
    (credential,) = credentials
    if not credential.isascii() or not credential.isprintable() or " " in credential:
        # No key and no session looks like this, and it could not be sent on.
        return Presented("", Reason.CREDENTIAL_MALFORMED, left)
    return Presented(credential, Reason.OK, left)


def _is_bearer(value: str) -> bool:
    return value[: len(_BEARER)].lower() == _BEARER


def _split_cookies(line: str, name: str) -> tuple[list[str], str]:
    """The values of the cookies of this name, and the line without them."""
    taken: list[str] = []
    left: list[str] = []
    for pair in filter(None, map(str.strip, line.split(";"))):
        key, separator, value = pair.partition("=")
        if separator and key.strip() == name:
            taken.append(value.strip().strip('"'))
        else:
            left.append(pair)
    return taken, "; ".join(left)
