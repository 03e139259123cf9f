"""What has the look of a key, in a text whose author is not known to be careful.

It is the second line of defence, for what is logged and for what an error says back to
whoever caused it. The first is that nobody writes a key there. This one would rather hide
a harmless word than show a key, but a text out of which every name and id is gone would
help nobody, so names and ids stay.
"""

from __future__ import annotations

import re
from typing import Final

REDACTED: Final = "[redacted]"

# A key has 128 bits of entropy out of at most 64 characters, so at least 22 of these.
# Underscores and hyphens belong to keys: a prefix is hidden with its body.
WORD: Final = re.compile(r"[A-Za-z0-9_-]{22,}")
# Ids are no secrets: our own, ULIDs, request and trace ids, UUIDs. No key is as short as
# these are and made of these characters alone.
_OUR_IDS: Final = ("key_", "usr_", "ses_", "evt_")
_OUR_ID: Final = re.compile(f"(?:{'|'.join(_OUR_IDS)})[0-9a-z]{{1,26}}")
ID: Final = re.compile(
    rf"{_OUR_ID.pattern}"
    r"|[0-7][0-9A-HJKMNP-TV-Z]{25}|[0-7][0-9a-hjkmnp-tv-z]{25}"
    r"|[0-9a-f]{32}"
    r"|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
)
# Names are made of words and small numbers. A random body hardly ever is, not even one
# without digits: its capitals stand too close, or its letters go on for too long, or nobody
# could say them.
_NAME: Final = re.compile(
    r"(?!.*[b-df-hj-np-tv-xzB-DF-HJ-NP-TV-XZ]{6})"
    r"(?:[a-z]{1,17}|[A-Z]{1,17}|[a-z]{0,17}(?:[A-Z][a-z]{3,17})+)[0-9]{0,4}|[0-9]{1,8}"
)
_BETWEEN_NAMES: Final = re.compile(r"[_-]+")


def hide_keys(text: str) -> str:
    """The text, with everything hidden that looks like a key."""
    return WORD.sub(_hidden, text)


def looks_like_a_key(text: str) -> bool:
    """Whether anything in the text looks like a key."""
    return any(not _is_harmless(found.group()) for found in WORD.finditer(text))


def is_an_id(text: str) -> bool:
    """Whether a text has the form of an id of ours, so that it may be shown to anybody. No key
    has it: no keyspace may begin its keys like that."""
    return _OUR_ID.fullmatch(text) is not None


def begins_like_an_id(text: str) -> bool:
    """Whether a key that begins like this could be taken for an id."""
    return text.startswith(_OUR_IDS)


def _hidden(found: re.Match[str]) -> str:
    word = found.group()
    return word if _is_harmless(word) else REDACTED


def _is_harmless(word: str) -> bool:
    if ID.fullmatch(word):
        return True
    return all(_NAME.fullmatch(part) for part in _BETWEEN_NAMES.split(word) if part)
