"""The credential of a call, in its metadata."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from keyfence_server.domain.errors import Unauthenticated

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]

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
