"""Validates the properties of an account in a request."""

from __future__ import annotations

from keyfence_server.application.key_inputs import read_display_name
from keyfence_server.application.ports import FactSource, Snapshot
from keyfence_server.domain.accounts import (
    PLAN_RULE,
    Email,
    is_plan,
    normalized_password,
    parse_email,
    password_problem,
)
from keyfence_server.domain.declarations import AccountsDeclaration
from keyfence_server.domain.errors import InvalidInput, NotFound
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.secrets import Plaintext


def read_email(path: str, text: str) -> Email:
    """An e-mail address."""
    try:
        return parse_email(text)
    except ValueError as error:
        raise InvalidInput.field(path, str(error)) from None


def read_password(path: str, password: Plaintext) -> Plaintext:
    """A password to be checked. It need not meet the rules for new passwords."""
    if not password.reveal():
        raise InvalidInput.field(path, "is missing")
    try:
        return normalized_password(password)
    except ValueError as error:
        raise InvalidInput.field(path, str(error)) from None


def read_new_password(
    path: str, password: Plaintext, declared: AccountsDeclaration, email: Email
) -> Plaintext:
    """A new password, which must meet the rules."""
    normalized = read_password(path, password)
    problem = password_problem(normalized, min_length=declared.password_min_length, email=email)
    if problem:
        raise InvalidInput.field(path, problem)
    return normalized


def read_account_display_name(path: str, text: str) -> str:
    """What people call an account, if they call it anything."""
    return read_display_name(path, text) if text else ""


def read_plan(path: str, text: str) -> str:
    """A plan; empty for none."""
    if not is_plan(text):
        raise InvalidInput.field(path, PLAN_RULE)
    return text


async def get_accounts_keyspace(
    source: FactSource | Snapshot, name: str
) -> tuple[Keyspace, AccountsDeclaration]:
    """The keyspace, and what it says of accounts.

    Raises:
        NotFound: there is none that has accounts. Strangers may ask, and do not learn
            whether there is one that has none.
    """
    keyspace = await source.find_keyspace(name)
    if keyspace is None or keyspace.declaration.accounts is None:
        raise NotFound.keyspace(name, that=" that has accounts")
    return keyspace, keyspace.declaration.accounts
