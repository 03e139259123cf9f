"""The second line of defence against secrets in logs.

The first line is that no code logs a secret. This module filters every log line: it redacts fields
by their names, and text that has the form of a key. In doubt it redacts a harmless word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from keyfence_server.domain.redaction import REDACTED, hide_keys

_SECRET_FIELD: Final = re.compile(
    r"authorization|api_?key|token|password|passwd|pepper|secret|credential|plaintext"
    r"|root_key|database_url|cookie",
    re.IGNORECASE,
)
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+\S+")
_URL_PASSWORD: Final = re.compile(r"(://[^\s/:@]*):[^\s/@]+@")
_MAX_DEPTH: Final = 8


def redact_event(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor that redacts every text that has the form of a secret."""
    for name, value in event.items():
        event[name] = REDACTED if _names_a_secret(name) else _redact(value, 0)
    return event


def redact_text(text: str) -> str:
    """The text, with every part redacted that has the form of a credential."""
    text = _BEARER.sub(rf"\1 {REDACTED}", text)
    text = _URL_PASSWORD.sub(rf"\1:{REDACTED}@", text)
    return hide_keys(text)


def _names_a_secret(name: str) -> bool:
    # `key_id`, `actor_key_id` and the like are names of ids.
    return not name.endswith("_id") and _SECRET_FIELD.search(name) is not None


def _redact(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth == _MAX_DEPTH:
        return REDACTED
    if isinstance(value, bytes):
        return redact_text(value.decode("ascii", "backslashreplace"))
    if isinstance(value, Mapping):
        return {
            redact_text(str(name)): (
                REDACTED if _names_a_secret(str(name)) else _redact(item, depth + 1)
            )
            for name, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact(item, depth + 1) for item in value]
    return redact_text(repr(value))
