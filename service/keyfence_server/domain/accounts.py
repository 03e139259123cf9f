"""Registered accounts, which own keys: an e-mail address, a password, a state.

Keyfence draws an account's id at random. Keys may also belong to account ids that operators choose.
Such an owner is only a name: it can neither log in nor be disabled.

The password itself is never here. Its hash is opaque to this module.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, NewType

from keyfence_server.domain.declarations import AccountsDeclaration
from keyfence_server.domain.errors import Problem
from keyfence_server.domain.secrets import Plaintext

AccountId = NewType("AccountId", str)

MAX_EMAIL: Final = 254
MAX_PASSWORD_BYTES: Final = 1024
SHORTEST_MINIMUM: Final = 8
LONGEST_MINIMUM: Final = 128
SHORTEST_SESSION: Final = timedelta(minutes=1)
LONGEST_SESSION: Final = timedelta(days=90)
PLAN_RULE: Final = "up to 63 lower-case letters, digits, '-' and '_'"

_PLAN: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
# What browsers take for an address (https://html.spec.whatwg.org/#valid-e-mail-address),
# without the dots that mail servers refuse.
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL: Final = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")


class AccountState(Enum):
    """Whether an account works."""

    ACTIVE = "active"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Email:
    """An e-mail address as it was given. Made by `parse_email`."""

    text: str

    @property
    def identity(self) -> str:
        """What distinguishes it from other addresses: the whole text, in lower case.

        Nothing else is folded. An address may contain only ASCII, in which a mail server confuses
        no two letters. Otherwise two people's addresses could count as the same one.
        """
        return self.text.lower()


def parse_email(text: str) -> Email:
    """Reads an address.

    Raises:
        ValueError: it is none. The message does not repeat it.
    """
    if not text.isascii():
        raise ValueError(
            'only ASCII characters are allowed; write the domain in its ASCII form ("xn--...")'
        )
    if len(text) > MAX_EMAIL or not _EMAIL.fullmatch(text):
        raise ValueError("is not an e-mail address")
    return Email(text)


def is_plan(text: str) -> bool:
    """Whether a text can name a plan. The empty one names none."""
    return not text or _PLAN.fullmatch(text) is not None


def accounts_problems(declared: AccountsDeclaration) -> Iterator[Problem]:
    """Everything that is wrong with a declaration of accounts, its scopes aside."""
    if not SHORTEST_MINIMUM <= declared.password_min_length <= LONGEST_MINIMUM:
        path = ("accounts", "password_min_length")
        yield Problem(path, f"from {SHORTEST_MINIMUM} to {LONGEST_MINIMUM}")
    lifetime = declared.session_lifetime
    if not SHORTEST_SESSION <= lifetime <= LONGEST_SESSION:
        yield Problem(("accounts", "session_lifetime"), "must be from one minute to 90 days")
    elif lifetime.microseconds:
        yield Problem(("accounts", "session_lifetime"), "must be whole seconds")
    if not is_plan(declared.default_plan):
        yield Problem(("accounts", "default_plan"), PLAN_RULE)


def normalized_password(password: Plaintext) -> Plaintext:
    """The password as it is hashed, the same however a keyboard composes its characters.

    NFC, as in the OpaqueString profile of RFC 8265.

    Raises:
        ValueError: it is too long to be looked at.
    """
    text = password.reveal()
    if len(text) > MAX_PASSWORD_BYTES or len(text.encode()) > MAX_PASSWORD_BYTES:
        raise ValueError(f"at most {MAX_PASSWORD_BYTES} bytes")
    return Plaintext(unicodedata.normalize("NFC", text))


def password_problem(password: Plaintext, *, min_length: int, email: Email) -> str | None:
    """What keeps a normalized password from being chosen; None for nothing."""
    text = password.reveal()
    if len(text) < min_length:
        return f"at least {min_length} characters"
    if len(set(text)) < 3:
        return "more than two different characters"
    if text.lower() in (email.identity, email.identity.partition("@")[0]):
        return "must not be the e-mail address"
    return None


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """The hash of a password.

    Attributes:
        text: in the format of the adapter that made it.
        pepper_version: the version of the pepper that it was made under.
    """

    text: str
    pepper_version: int

    def __repr__(self) -> str:
        return f"PasswordHash(redacted, pepper_version={self.pepper_version})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A registered account. Times are aware and in UTC, with microseconds.

    Attributes:
        plan: may be empty.
        revision: the revision at which this record was written.
    """

    account_id: AccountId
    keyspace: str
    email: Email
    display_name: str
    password: PasswordHash
    create_time: datetime
    update_time: datetime
    state: AccountState = AccountState.ACTIVE
    disable_time: datetime | None = None
    plan: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0

    @property
    def is_disabled(self) -> bool:
        """Whether the account, and with it everything that it has, does not work."""
        return self.state is AccountState.DISABLED

    def disabled(self, now: datetime) -> Account:
        """The account, not working for now. A disabled account stays as it was."""
        if self.is_disabled:
            return self
        return replace(self, state=AccountState.DISABLED, disable_time=now, update_time=now)

    def enabled(self, now: datetime) -> Account:
        """The account, working again. An active account stays as it was."""
        if not self.is_disabled:
            return self
        return replace(self, state=AccountState.ACTIVE, disable_time=None, update_time=now)
