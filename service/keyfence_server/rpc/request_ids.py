"""Ids that tie a call to its lines in the logs.

A caller may bring its own in `x-request-id`, so that one id goes through all the
services of a request; otherwise one is made. It is bounded and plain, since it ends
up in logs, in the audit trail and in answers.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Final

from keyfence_server.domain.redaction import looks_like_a_key

HEADER: Final = "x-request-id"

PLAIN: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,64}")


def find_request_id(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """The caller's request id, if it brought a plain one."""
    for name, value in metadata:
        if name == HEADER and isinstance(value, str):
            # A key in the wrong header would be kept for good.
            is_plain = PLAIN.fullmatch(value) and not looks_like_a_key(value)
            return value if is_plain else None
    return None


def new_request_id() -> str:
    """A new request id."""
    return secrets.token_hex(16)
