"""How keys look: made from a template, and recognised by it.

A key is a prefix, a random body and, if the keyspace wants one, a checksum:

    qsk_live_ a1b2c3…        prefix, body
    kf_live_  7Hq2…  0Zk3Tq  prefix, body, checksum

A key may also be two random parts, as djangorestframework-api-key makes them:

    Nk3hT9aQ.  Q7f2…   look-up part and point, body

The look-up part is no secret. The display prefix shows it.

The prefix is the template's literal text with the markers of the key's type and
environment. It starts with two letters or digits that the template says literally, and
ends with a separator; the body has no separator. So nothing that is no secret has the
form of a key: no UUID, no hash, no name made of words.

The checksum is the CRC32 of all before it, in six base62 digits. It is not secret: a
mistyped or made-up key is refused without a look into the store, and a secret scanner can
tell a key from noise.
"""

from __future__ import annotations

import functools
import math
import re
import secrets
import string
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from keyfence_server.domain.declarations import BodyDeclaration, FormatDeclaration
from keyfence_server.domain.errors import Name, Path, Problem
from keyfence_server.domain.secrets import Plaintext

MINIMUM_ENTROPY_BITS: Final = 128
MAX_KEY_LENGTH: Final = 512
MAX_PREFIX_LENGTH: Final = 64
MAX_BODY_LENGTH: Final = 256
MAX_SHOWN: Final = 8
CHECKSUM_LENGTH: Final = 6
LOOKUP_LENGTH: Final = 8
LOOKUP_END: Final = "."

MIN_SLOW_PREFIX: Final = 7
MAX_SLOW_PREFIX: Final = 64
"""By how much of its beginning a key is found of which a slow hash is kept, in characters."""
_FOUND_BY: Final = 4

_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
ALPHABETS: Final[Mapping[str, str]] = {
    "base62": _BASE62,
    "base58": "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz",
    "base36": string.digits + string.ascii_lowercase,
    "hex": "0123456789abcdef",
}

SEPARATORS: Final = "_-"

_SHORTER_IN_BASE58: Final = 3
"""Other programs write random bytes in base58, like a number, without zeros in front: 16 bytes most
often in 22 characters, but one time in thirty in 21."""

_KEY_CHARACTERS: Final = re.compile(r"[A-Za-z0-9_-]*")
_ALPHANUMERIC: Final = re.compile(r"[A-Za-z0-9]*")
_LITERAL_START: Final = re.compile(r"[A-Za-z][A-Za-z0-9]")
# 128 bits are at least 22 letters and digits, of which 17 are the greater part.
_BODY_RUN: Final = re.compile(r"[A-Za-z0-9]{17,}")
_LOOKUP_TEMPLATE: Final = f"{{lookup}}{LOOKUP_END}{{body}}"
_LOOKUP: Final = re.compile(rf"[A-Za-z0-9]{{{LOOKUP_LENGTH}}}{re.escape(LOOKUP_END)}")
_PLACEHOLDER: Final = re.compile(r"\{([a-z]*)\}")
_TEMPLATE_RULE: Final = (
    'a template is literal text of letters, digits, "_" and "-" with {type} and {environment}, '
    'then {body}, then, if wanted, {checksum}; or it is "{lookup}.{body}"'
)


def _drawn(alphabet: str, length: int) -> str:
    """Random characters, each as likely as any other. They come from the system's source in one
    call: a call for each character takes longer than the rest of making a key."""
    letters, surplus = _letters_of(alphabet)
    drawn = b""
    while len(drawn) < length:
        drawn += secrets.token_bytes(2 * length).translate(letters, surplus)
    return drawn[:length].decode("ascii")


@functools.lru_cache(maxsize=64)
def _letters_of(alphabet: str) -> tuple[bytes, bytes]:
    """The letter for each byte, and the bytes that would make some letters more likely."""
    letters = alphabet.encode("ascii")
    whole = 256 - 256 % len(letters)
    return bytes(letters[byte % len(letters)] for byte in range(256)), bytes(range(whole, 256))


@dataclass(frozen=True, slots=True)
class KeyForm:
    """How the keys of one type and environment look.

    Attributes:
        prefix: what every such key starts with.
        alphabet: the characters of the body.
        length: how many of them the body has.
        shown: how many of them the display prefix shows.
        has_checksum: whether six digits of checksum follow.
        has_lookup: whether a look-up part stands where others have a prefix.
    """

    prefix: str
    alphabet: str
    length: int
    shown: int
    has_checksum: bool
    has_lookup: bool = False

    def mint(self) -> Plaintext:
        """A new key, drawn from the system's source of randomness."""
        text = self.prefix
        if self.has_lookup:
            text = _drawn(_BASE62, LOOKUP_LENGTH) + LOOKUP_END
        text += _drawn(self.alphabet, self.length)
        return Plaintext(text + checksum(text) if self.has_checksum else text)

    def display_prefix(self, plaintext: Plaintext) -> str:
        """The start of a key that tells it from its sisters and is no secret."""
        return plaintext.reveal()[: self.body_start + self.shown]

    @property
    def body_start(self) -> int:
        """Where the body begins, in characters."""
        return LOOKUP_LENGTH + len(LOOKUP_END) if self.has_lookup else len(self.prefix)

    def unknown_prefix(self) -> str:
        """A display prefix for a key of which nothing else is known."""
        start = _BASE62[0] * LOOKUP_LENGTH + LOOKUP_END if self.has_lookup else self.prefix
        return start + self.alphabet[0] * self.shown

    def starts(self, text: str) -> bool:
        """Whether a text starts as every key of this form does."""
        return bool(_LOOKUP.match(text)) if self.has_lookup else text.startswith(self.prefix)

    def has_body(self, text: str) -> bool:
        """Whether a text consists of characters of the body's alphabet."""
        return not text.strip(self.alphabet)

    @property
    def _most_missing(self) -> int:
        """By how many characters a key of another program may be shorter than one that is made
        here."""
        is_of_bytes = self.alphabet == ALPHABETS["base58"] and not self.has_checksum
        return _SHORTER_IN_BASE58 if is_of_bytes else 0

    def tells_apart(self, start: str) -> bool:
        """Whether keys of this form can start so, and so few of them do that they can be found by
        it."""
        if not MIN_SLOW_PREFIX <= len(start) <= min(MAX_SLOW_PREFIX, self.total_length()):
            return False
        if self.has_lookup:
            return self.starts(start if len(start) > LOOKUP_LENGTH else start + LOOKUP_END)
        body = start[self.body_start :]
        return self.starts(start) and len(body) >= _FOUND_BY and self.has_body(body[: self.length])

    def fits(self, text: str) -> bool:
        """Whether a text that `starts` so has the form of a key."""
        start = self.body_start
        body_end = start + self.length
        missing = self.total_length() - len(text)
        if not 0 <= missing <= self._most_missing or not self.has_body(text[start:body_end]):
            return False
        return not self.has_checksum or text[body_end:] == checksum(text[:body_end])

    def shows(self, display_prefix: str) -> bool:
        """Whether a key of this form could have the display prefix."""
        return (
            len(display_prefix) == self.body_start + self.shown
            and self.starts(display_prefix)
            and self.has_body(display_prefix[self.body_start :])
        )

    def as_declaration(self) -> FormatDeclaration:
        """The same form, declared with its markers written out."""
        names = {characters: name for name, characters in ALPHABETS.items()}
        template = f"{self.prefix}{{body}}{'{checksum}' if self.has_checksum else ''}"
        return FormatDeclaration(
            template=_LOOKUP_TEMPLATE if self.has_lookup else template,
            body=BodyDeclaration(
                alphabet=names.get(self.alphabet, self.alphabet),
                length=self.length,
                shown=self.shown,
            ),
        )

    def total_length(self) -> int:
        """The length of every key of this form, in characters."""
        return self.body_start + self.length + (CHECKSUM_LENGTH if self.has_checksum else 0)


def checksum(text: str) -> str:
    """The CRC32 (IEEE 802.3) of an ASCII text, as six base62 digits, the highest first."""
    number = zlib.crc32(text.encode("ascii"))
    digits = []
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))


def compile_form(
    declaration: FormatDeclaration, *, key_type: str, type_marker: str, environment_marker: str
) -> KeyForm:
    """The form that a valid declaration gives to the keys of a type and environment."""
    template = declaration.templates_by_key_type.get(key_type, declaration.template)
    head, _, tail = template.partition("{body}")
    has_lookup = template == _LOOKUP_TEMPLATE
    prefix = head.replace("{type}", type_marker).replace("{environment}", environment_marker)
    return KeyForm(
        prefix="" if has_lookup else prefix,
        alphabet=ALPHABETS.get(declaration.body.alphabet, declaration.body.alphabet),
        length=declaration.body.length,
        shown=declaration.body.shown,
        has_checksum=tail == "{checksum}",
        has_lookup=has_lookup,
    )


def format_problems(declaration: FormatDeclaration) -> Iterator[Problem]:
    """Everything that is wrong with a declared format, paths from `format`."""
    yield from _template_problems(("format", "template"), declaration.template)
    for key_type, template in declaration.templates_by_key_type.items():
        path = ("format", "templates_by_key_type", Name(key_type))
        yield from _template_problems(path, template)
    yield from _body_problems(("format", "body"), declaration.body)


def _body_problems(path: Path, body: BodyDeclaration) -> Iterator[Problem]:
    alphabet = ALPHABETS.get(body.alphabet, body.alphabet)
    if len(set(alphabet)) != len(alphabet):
        yield Problem((*path, "alphabet"), "it has a character twice")
    elif len(alphabet) < 2 or not _ALPHANUMERIC.fullmatch(alphabet):
        yield Problem(
            (*path, "alphabet"),
            f"name one of {', '.join(ALPHABETS)}, or give at least two letters or digits; "
            "other characters are not allowed, since a body must be distinguishable from "
            "its prefix and from names",
        )
    elif not 1 <= body.length <= MAX_BODY_LENGTH:
        yield Problem((*path, "length"), f"a body has 1 to {MAX_BODY_LENGTH} characters")
    elif (bits := body.length * math.log2(len(alphabet))) < MINIMUM_ENTROPY_BITS:
        needed = math.ceil(MINIMUM_ENTROPY_BITS / math.log2(len(alphabet)))
        yield Problem(
            (*path, "length"),
            f"{body.length} characters out of {len(alphabet)} are {bits:.0f} bits of entropy; at "
            f"least {MINIMUM_ENTROPY_BITS} are needed, which is a length of {needed}",
        )
    if not 0 <= body.shown <= min(MAX_SHOWN, max(body.length, 0)):
        yield Problem((*path, "shown"), f"0 to {MAX_SHOWN} characters of the body may be shown")


def _template_problems(path: Path, template: str) -> Iterator[Problem]:
    if template == _LOOKUP_TEMPLATE:
        return
    names = _PLACEHOLDER.findall(template)
    unknown = sorted(set(names) - {"type", "environment", "body", "checksum"})
    head, _, tail = template.partition("{body}")
    literal = _PLACEHOLDER.sub("", template)
    if unknown:
        yield Problem(path, f"unknown placeholder {{{unknown[0]}}}; {_TEMPLATE_RULE}")
    elif (
        names.count("body") != 1
        or tail not in ("", "{checksum}")
        or "{checksum}" in head
        or not _KEY_CHARACTERS.fullmatch(literal)
    ):
        yield Problem(path, _TEMPLATE_RULE)
    elif not _LITERAL_START.match(head) or not head.endswith(tuple(SEPARATORS)):
        yield Problem(
            path,
            "a template starts with a letter and another letter or digit, and has "
            '"_" or "-" right before {body}, like "acme_{body}": without such a prefix, '
            "ids and names could be taken for keys",
        )


class Recogniser:
    """Tells which keyspaces' keys a text could be, without the store.

    Every prefix ends with a separator and no body has one, so the prefix of a presented key
    is found by its last separator: one look-up, however many forms there are. Keys with a look-up
    part have a point instead.

    Args:
        forms_by_keyspace: every form that a keyspace has or had.
    """

    __slots__ = ("_by_prefix", "_prefix_lengths")

    def __init__(self, forms_by_keyspace: Mapping[str, Iterable[KeyForm]]) -> None:
        by_prefix: dict[str, dict[KeyForm, list[str]]] = {}
        for keyspace, forms in forms_by_keyspace.items():
            for form in dict.fromkeys(forms):
                by_prefix.setdefault(form.prefix, {}).setdefault(form, []).append(keyspace)
        # The forms with a prefix, and the keyspaces that have each of them.
        self._by_prefix: Final = {prefix: [*forms.items()] for prefix, forms in by_prefix.items()}
        self._prefix_lengths: Final = sorted({len(prefix) for prefix in by_prefix if prefix})

    def keyspaces_of(self, text: str) -> frozenset[str]:
        """The keyspaces whose keys have the form of this text. Empty: it is malformed."""
        return frozenset(name for _, keyspaces in self._forms_of(text) for name in keyspaces)

    def display_prefix_of(self, text: str, keyspace: str) -> str:
        """What may be shown of a text that has the form of a key of this keyspace; empty for
        any other text."""
        for form, keyspaces in self._forms_of(text):
            if keyspace in keyspaces:
                return form.display_prefix(Plaintext(text))
        return ""

    def search(self, reaches: Callable[[str], bool]) -> KeySearch:
        """A search for keys of the keyspaces that a caller reaches."""
        return KeySearch(self, reaches)

    def forms_ending_at(self, text: str, end: int) -> Iterator[tuple[KeyForm, list[str]]]:
        """The forms whose prefix stands in the text, up to this place, as a word's start, with
        their keyspaces."""
        lookup_start = max(end - LOOKUP_LENGTH - len(LOOKUP_END), 0)
        if _LOOKUP.fullmatch(text, lookup_start, end):
            yield from self._by_prefix.get("", ())
        for length in self._prefix_lengths:
            start = end - length
            if start < 0:
                return
            if start and text[start - 1].isalnum():
                continue
            yield from self._by_prefix.get(text[start:end], ())

    def _forms_of(self, text: str) -> Iterator[tuple[KeyForm, list[str]]]:
        if len(text) > MAX_KEY_LENGTH or not text.isascii():
            return
        # Forms with a look-up part have no prefix.
        prefix = "" if _LOOKUP.match(text) else text[: max(map(text.rfind, SEPARATORS)) + 1]
        for form, keyspaces in self._by_prefix.get(prefix, ()):
            if form.starts(text) and form.fits(text):
                yield form, keyspaces


class KeySearch:
    """Finds keys in texts, in time that is linear in the text's length.

    Only the forms of keyspaces within the caller's reach count, so that what one keyspace
    declares changes no request of another keyspace's callers.
    """

    __slots__ = ("_is_reached", "_reaches", "_recogniser")

    def __init__(self, recogniser: Recogniser, reaches: Callable[[str], bool]) -> None:
        self._recogniser = recogniser
        self._reaches = reaches
        self._is_reached: dict[KeyForm, bool] = {}

    def finds_a_key_in(self, text: str) -> bool:
        """Whether a key stands anywhere in the text, or the greater part of one: what is left
        of it could be guessed, and a checksum can be worked out."""
        for run in _BODY_RUN.finditer(text):
            for form, keyspaces in self._recogniser.forms_ending_at(text, run.start()):
                needed = form.length - form.length // 4
                if len(run[0]) < needed or not form.has_body(run[0][:needed]):
                    continue
                if form not in self._is_reached:
                    self._is_reached[form] = any(map(self._reaches, keyspaces))
                if self._is_reached[form]:
                    return True
        return False
