"""How keys look: made from a template, and recognised by it.

A key is a prefix, a random body and, if the keyspace wants one, a checksum:

    qsk_live_ a1b2c3…        prefix, body
    kf_live_  7Hq2…  0Zk3Tq  prefix, body, checksum

The prefix is the template's literal text with the markers of the key's type and
environment. The checksum is the CRC32 of all before it, in six base62 digits: it
keeps no secret, but a mistyped or made-up key is turned away without asking the
store, and a secret scanner can tell a key from noise.
"""

from __future__ import annotations

import math
import re
import secrets
import string
import zlib
from collections.abc import Iterable, Mapping
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

_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
ALPHABETS: Final[Mapping[str, str]] = {
    "base62": _BASE62,
    "base58": "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz",
    "base36": string.digits + string.ascii_lowercase,
    "hex": "0123456789abcdef",
}

_TELLING_PREFIX: Final = 3
_KEY_CHARACTERS: Final = re.compile(r"[A-Za-z0-9_-]*")
_PLACEHOLDER: Final = re.compile(r"\{([a-z]*)\}")
_TEMPLATE_RULE: Final = (
    'a template is literal text of letters, digits, "_" and "-" with {type} and {environment}, '
    "then {body}, then, if wanted, {checksum}"
)


@dataclass(frozen=True, slots=True)
class KeyForm:
    """How the keys of one type and environment look.

    Attributes:
        prefix: what every such key starts with.
        alphabet: the characters of the body.
        length: how many of them the body has.
        shown: how many of them the display prefix shows.
        has_checksum: whether six digits of checksum follow.
    """

    prefix: str
    alphabet: str
    length: int
    shown: int
    has_checksum: bool

    def mint(self) -> Plaintext:
        """A new key, drawn from the system's source of randomness."""
        text = self.prefix + "".join(secrets.choice(self.alphabet) for _ in range(self.length))
        return Plaintext(text + checksum(text) if self.has_checksum else text)

    def display_prefix(self, plaintext: Plaintext) -> str:
        """The start of a key that tells it from its sisters and is no secret."""
        return plaintext.reveal()[: len(self.prefix) + self.shown]

    def as_declaration(self) -> FormatDeclaration:
        """The same form, declared with its markers written out."""
        names = {characters: name for name, characters in ALPHABETS.items()}
        return FormatDeclaration(
            template=f"{self.prefix}{{body}}{'{checksum}' if self.has_checksum else ''}",
            body=BodyDeclaration(
                alphabet=names.get(self.alphabet, self.alphabet),
                length=self.length,
                shown=self.shown,
            ),
        )

    def total_length(self) -> int:
        """The length of every key of this form, in characters."""
        return len(self.prefix) + self.length + (CHECKSUM_LENGTH if self.has_checksum else 0)


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
    return KeyForm(
        prefix=head.replace("{type}", type_marker).replace("{environment}", environment_marker),
        alphabet=ALPHABETS.get(declaration.body.alphabet, declaration.body.alphabet),
        length=declaration.body.length,
        shown=declaration.body.shown,
        has_checksum=tail == "{checksum}",
    )


def format_problems(declaration: FormatDeclaration) -> list[Problem]:
    """Everything that is wrong with a declared format, paths from `format`."""
    problems = _template_problems(("format", "template"), declaration.template)
    for key_type, template in declaration.templates_by_key_type.items():
        problems += _template_problems(
            ("format", "templates_by_key_type", Name(key_type)), template
        )
    alphabet = ALPHABETS.get(declaration.body.alphabet, declaration.body.alphabet)
    if len(set(alphabet)) != len(alphabet):
        problems.append(Problem(("format", "body", "alphabet"), "a character stands in it twice"))
    elif len(alphabet) < 2 or not _KEY_CHARACTERS.fullmatch(alphabet):
        names = ", ".join(ALPHABETS)
        problems.append(
            Problem(
                ("format", "body", "alphabet"),
                f'name one of {names}, or give at least two letters, digits, "_" or "-"',
            )
        )
    elif not 1 <= declaration.body.length <= MAX_BODY_LENGTH:
        problems.append(
            Problem(("format", "body", "length"), f"a body has 1 to {MAX_BODY_LENGTH} characters")
        )
    else:
        problems += _entropy_problems(declaration.body.length, len(alphabet))
    if not 0 <= declaration.body.shown <= min(MAX_SHOWN, max(declaration.body.length, 0)):
        problems.append(
            Problem(
                ("format", "body", "shown"), f"0 to {MAX_SHOWN} characters of the body may be shown"
            )
        )
    return problems


def _entropy_problems(length: int, alphabet_size: int) -> list[Problem]:
    bits_each = math.log2(alphabet_size)
    if length * bits_each >= MINIMUM_ENTROPY_BITS:
        return []
    needed = math.ceil(MINIMUM_ENTROPY_BITS / bits_each)
    return [
        Problem(
            ("format", "body", "length"),
            f"{length} characters out of {alphabet_size} are {length * bits_each:.0f} bits of "
            f"entropy; at least {MINIMUM_ENTROPY_BITS} are needed, which is a length of {needed}",
        )
    ]


def _template_problems(path: Path, template: str) -> list[Problem]:
    names = _PLACEHOLDER.findall(template)
    unknown = sorted(set(names) - {"type", "environment", "body", "checksum"})
    if unknown:
        return [Problem(path, f"unknown placeholder {{{unknown[0]}}}; {_TEMPLATE_RULE}")]
    head, _, tail = template.partition("{body}")
    literal = _PLACEHOLDER.sub("", template)
    if names.count("body") != 1 or tail not in ("", "{checksum}") or "{checksum}" in head:
        return [Problem(path, _TEMPLATE_RULE)]
    if not _KEY_CHARACTERS.fullmatch(literal):
        return [Problem(path, _TEMPLATE_RULE)]
    if not literal or len(head) > MAX_PREFIX_LENGTH:
        return [
            Problem(
                path,
                f"literal text of 1 to {MAX_PREFIX_LENGTH} characters must stand before {{body}}, "
                "so that people and secret scanners can tell whose key it is",
            )
        ]
    return []


def _anywhere(form: KeyForm) -> re.Pattern[str]:
    """What finds keys of the form within a text."""
    prefix, alphabet = re.escape(form.prefix), f"[{re.escape(form.alphabet)}]"
    if len(form.prefix) >= _TELLING_PREFIX:
        return re.compile(f"{prefix}{alphabet}{{{form.length - form.length // 4}}}")
    # Any long word may go on like this behind a letter or two: only a whole one counts.
    ending = f"[{_BASE62}]{{{CHECKSUM_LENGTH}}}" if form.has_checksum else ""
    return re.compile(
        f"(?<![A-Za-z0-9_-]){prefix}{alphabet}{{{form.length}}}{ending}(?![A-Za-z0-9_-])"
    )


class Recogniser:
    """Tells which keyspaces' keys a text could be, without asking anyone.

    Args:
        forms_by_keyspace: every form that a keyspace has or had.
    """

    __slots__ = ("_anywhere", "_by_prefix", "_prefix_lengths")

    def __init__(self, forms_by_keyspace: Mapping[str, Iterable[KeyForm]]) -> None:
        by_prefix: dict[str, list[tuple[str, KeyForm, re.Pattern[str]]]] = {}
        for keyspace, forms in forms_by_keyspace.items():
            for form in dict.fromkeys(forms):
                body = re.compile(f"[{re.escape(form.alphabet)}]{{{form.length}}}")
                by_prefix.setdefault(form.prefix, []).append((keyspace, form, body))
        self._by_prefix: Final = by_prefix
        self._prefix_lengths: Final = sorted({len(prefix) for prefix in by_prefix}, reverse=True)
        self._anywhere: list[re.Pattern[str]] | None = None

    def keyspaces_of(self, text: str) -> frozenset[str]:
        """The keyspaces whose keys look like this text. Empty: it is malformed."""
        if len(text) > MAX_KEY_LENGTH or not text.isascii():
            return frozenset()
        return frozenset(
            keyspace
            for prefix_length in self._prefix_lengths
            for keyspace, form, body in self._by_prefix.get(text[:prefix_length], ())
            if self._fits(text, form, body)
        )

    def display_prefix_of(self, text: str, keyspace: str) -> str:
        """What may be shown of a text that looks like a key of this keyspace; empty for any
        other text."""
        if len(text) > MAX_KEY_LENGTH or not text.isascii():
            return ""
        for prefix_length in self._prefix_lengths:
            for name, form, body in self._by_prefix.get(text[:prefix_length], ()):
                if name == keyspace and self._fits(text, form, body):
                    return form.display_prefix(Plaintext(text))
        return ""

    def finds_a_key_in(self, text: str) -> bool:
        """Whether a key stands anywhere in the text, or the greater part of one: what is left
        of it could be guessed, and a checksum can be worked out."""
        if self._anywhere is None:
            forms = {form for known in self._by_prefix.values() for _, form, _ in known}
            self._anywhere = [_anywhere(form) for form in forms]
        return any(pattern.search(text) for pattern in self._anywhere)

    @staticmethod
    def _fits(text: str, form: KeyForm, body: re.Pattern[str]) -> bool:
        body_end = len(form.prefix) + form.length
        if len(text) != form.total_length() or not body.fullmatch(text, len(form.prefix), body_end):
            return False
        return not form.has_checksum or text[body_end:] == checksum(text[:body_end])
