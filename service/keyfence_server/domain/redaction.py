"""Hides what has the form of a key, in a text whose author may not have been careful.

It is the second line of defence, for what is logged and for what an error repeats to its
caller. The first is that no key is written there. A text without names and ids would help
no reader, so those stay: ids have known prefixes or well-known forms, and names have no
long run of letters and digits, which every key has. The signature of a session's token may
have none, because base64url has "-" and "_" too; it is recognised by its length.
"""

from __future__ import annotations

import re
from typing import Final

REDACTED: Final = "[redacted]"

ID_PREFIXES: Final = ("key_", "usr_", "ses_", "evt_", "srv_", "sdc_", "sdk_")
"""What the ids of keys, accounts, sessions, events and processes begin with. No keyspace may
begin its keys so."""

# The greater part of the shortest body: 128 bits are 22 letters and digits.
BODY: Final = re.compile(r"[A-Za-z0-9]{17,}")
_OUR_ID: Final = re.compile(f"(?:{'|'.join(ID_PREFIXES)})[0-9a-z]{{1,32}}")
ID: Final = re.compile(
    rf"{_OUR_ID.pattern}"
    r"|[0-7][0-9A-HJKMNP-TV-Z]{25}|[0-7][0-9a-hjkmnp-tv-z]{25}"  # ULIDs
    r"|[0-9a-f]{32}"  # ids of requests and traces
    r"|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"  # UUIDs
)
# A signature, and a good part of it, has letters of both cases and digits. It has 86 characters.
_SIGNATURE: Final = re.compile(r"(?=.*[A-Z])(?=.*[a-z])(?=.*[0-9]).{43,}")
# A prefix is hidden with its body.
_WORD: Final = re.compile(r"[A-Za-z0-9_-]{17,}")
# The name of an RPC may have as many letters as a body.
_OUR_RPCS: Final = "/keyfence.v1."
_RPC_OR_WORD: Final = re.compile(
    rf"{re.escape(_OUR_RPCS)}[A-Za-z]{{1,32}}/[A-Za-z]{{1,32}}(?![A-Za-z0-9_-])|{_WORD.pattern}"
)
# Names of classes, by the words that they end with, and times in nanoseconds. Of a thousand
# million random bodies hardly one is like this; a body of digits alone has at least 39.
_NOT_A_BODY: Final = re.compile(
    r"[A-Za-z]+(?:Error|Exception|Warning|Servicer?|Stub|Request|Response|Callable|Interceptor)"
    r"|[0-9]{17,20}"
)


def hide_keys(text: str) -> str:
    """The text, with everything hidden that has the form of a key."""
    return _RPC_OR_WORD.sub(_hidden, text)


def looks_like_a_key(text: str) -> bool:
    """Whether anything in the text has the form of a key."""
    return any(not _is_harmless(found.group()) for found in _WORD.finditer(text))


def is_an_id(text: str) -> bool:
    """Whether a text has the form of one of Keyfence's ids, which are not secret."""
    return _OUR_ID.fullmatch(text) is not None


def id_prefix_of(text: str) -> str | None:
    """What an id of ours begins with that the text begins with too; None for nothing."""
    return next((prefix for prefix in ID_PREFIXES if text.startswith(prefix)), None)


def _hidden(found: re.Match[str]) -> str:
    word = found.group()
    if word.startswith(_OUR_RPCS):
        return word
    return word if _is_harmless(word) else REDACTED


def _is_harmless(word: str) -> bool:
    if ID.fullmatch(word):
        return True
    return not _SIGNATURE.fullmatch(word) and all(map(_NOT_A_BODY.fullmatch, BODY.findall(word)))
