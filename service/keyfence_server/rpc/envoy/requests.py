"""What a request contains: its headers, its credential, its client's address.

Several programs on the way of a request could each use another credential in it. So a request
has one credential or none: two different ones, or one header twice, count as none. The edge
removes the credential, so that no program behind it can read it differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from keyfence_server.domain.addresses import find_address
from keyfence_server.domain.declarations import CredentialsDeclaration
from keyfence_server.domain.http_answers import HttpRules

IDENTITY_PREFIX: Final = "x-keyfence-"
COOKIE_AS_LATIN_1: Final = f"{IDENTITY_PREFIX}cookie"
"""The header that carries a `Cookie` which is not UTF-8 to Envoy: see `answers`."""
CLIENT_ADDRESS: Final = "x-keyfence-client-address"
"""The metadata by which Envoy says, with each question, where its request came from."""

_AUTHORIZATION: Final = "authorization"
_COOKIE: Final = "cookie"
_BEARER: Final = "bearer "

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Presented:
    """The credential of a request.

    Attributes:
        credential: empty for none.
        is_ambiguous: there is more than one, or one that cannot be read.
        cookies_left: what remains of the header `Cookie` without the credential, as Latin-1;
            None if no credential was in it.
    """

    credential: str
    is_ambiguous: bool = False
    cookies_left: str | None = None

    def __repr__(self) -> str:
        return f"Presented(credential redacted, is_ambiguous={self.is_ambiguous})"


def headers_of(http: Any) -> Headers:
    """The headers of an `AttributeContext.HttpRequest`: names in lower case, values as Latin-1,
    in which each character is one byte.

    Envoy sends each line of a header by itself if `encode_raw_headers` is set. Otherwise it has
    joined the lines of one name with commas, and cannot say which.
    """
    raw = http.header_map.headers
    if raw:
        return [
            (one.key.lower(), (one.raw_value or one.value.encode()).decode("latin-1"))
            for one in raw
        ]
    return [
        (name.lower(), value.encode().decode("latin-1")) for name, value in http.headers.items()
    ]


def presented_in(headers: Headers, rules: HttpRules) -> Presented:
    """The credential that a request presents, in the places that the keyspace accepts."""
    accepted = rules.declaration.credentials
    found: list[str] = []
    ambiguous = False
    for place in (*((_AUTHORIZATION,) if accepted.bearer else ()), *rules.header_names):
        values = [value for name, value in headers if name == place]
        if len(values) > 1 or any("," in value for value in values):
            ambiguous = True
        for value in values:
            if place != _AUTHORIZATION:
                found.append(value)
            elif value[: len(_BEARER)].lower() == _BEARER:
                found.append(value[len(_BEARER) :].strip(" "))
            elif value:
                ambiguous = True
    cookies_left = None
    if accepted.cookie:
        in_cookies, cookies_left = _take_cookie(headers, accepted)
        ambiguous = ambiguous or len(in_cookies) > 1
        found += in_cookies
    credentials = {one for one in found if one}
    if ambiguous or len(credentials) > 1:
        return Presented("", is_ambiguous=True, cookies_left=cookies_left)
    return Presented(next(iter(credentials), ""), cookies_left=cookies_left)


def claimed_identity(headers: Headers) -> list[str]:
    """The names of the client's headers that look like identity headers, which only the edge may
    set. Some programs take an underscore for a hyphen.
    """
    return sorted(
        {name for name, _ in headers if name.replace("_", "-").startswith(IDENTITY_PREFIX)}
    )


def is_grpc(headers: Headers) -> bool:
    """Whether a request is a call of gRPC, and gets gRPC's errors."""
    return any(
        name == "content-type" and value.startswith("application/grpc") for name, value in headers
    )


def client_address_of(attributes: Any, metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The address that the request came from; empty for unknown.

    Behind trusted proxies only Envoy knows it, and says it in the metadata of its question. A
    client cannot write into these. The question's `attributes` always have the other end of the
    connection, which is the last proxy. They count if the metadata have no address.
    """
    told = [value for name, value in metadata if name == CLIENT_ADDRESS]
    if not told:
        connected: str = attributes.source.address.socket_address.address
        return connected
    # A Unix socket, for example, has no address.
    address = find_address(str(told[0])) if len(told) == 1 else None
    return str(address) if address is not None else ""


def _take_cookie(
    headers: Headers, accepted: CredentialsDeclaration
) -> tuple[list[str], str | None]:
    taken: list[str] = []
    left: list[str] = []
    for pair in _cookies(headers):
        name, separator, value = pair.partition("=")
        if separator and name.strip() == accepted.cookie:
            taken.append(value.strip().strip('"'))
        else:
            left.append(pair)
    return taken, "; ".join(left) if taken else None


def _cookies(headers: Headers) -> Iterable[str]:
    for name, value in headers:
        if name == _COOKIE:
            for pair in value.split(";"):
                if stripped := pair.strip():
                    yield stripped
