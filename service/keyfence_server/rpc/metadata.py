"""What the metadata of a call say: its credential and its request id.

A request id ties a call to its lines in the logs. A caller may bring its own in `x-request-id`, so
that one id goes through all the services of a request; otherwise one is made. It is bounded and
plain, since it ends up in logs, in the audit trail and in answers.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Final, TypeAlias

from keyfence_server.domain.errors import Unauthenticated
from keyfence_server.domain.redaction import looks_like_a_key

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]

REQUEST_ID: Final = "x-request-id"
PLAIN: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,64}")

_BEARER: Final = "bearer "


def carries_credential(metadata: Metadata) -> bool:
    """Whether a call carries a credential, valid or not."""
    return any(name == "authorization" for name, _ in metadata)


def credential_in(metadata: Metadata) -> str:
    """The credential of a call; empty if there is none.

    Raises:
        Unauthenticated: there are several. Which of them some other program in the way
            has looked at cannot be known, so none of them counts.
    """
    credential = ""
    found = False
    for name, value in metadata:
        if name == "authorization":
            if found:
                raise Unauthenticated(
                    "the call carries more than one credential; send one", cause="SEVERAL"
                )
            found = True
            if isinstance(value, str) and value[: len(_BEARER)].lower() == _BEARER:
                # As at the edge: RFC 9110 has at least one space there.
                credential = value[len(_BEARER) :].strip(" ")
    return credential


def find_request_id(metadata: Metadata) -> str | None:
    """The caller's request id, if it brought a plain one."""
    for name, value in metadata:
        if name == REQUEST_ID and isinstance(value, str):
            # A key in the wrong header would be kept for good.
            is_plain = PLAIN.fullmatch(value) and not looks_like_a_key(value)
            return value if is_plain else None
    return None


def new_request_id() -> str:
    """A new request id."""
    return secrets.token_hex(16)
