"""Accounts and sessions, and the requests about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from keyfence.v1 import account_service_pb2
from keyfence_server.application.read_accounts import AccountListing
from keyfence_server.application.update_account import AccountUpdate
from keyfence_server.convert.fields import fields_for
from keyfence_server.convert.times import timestamp_of
from keyfence_server.domain.accounts import Account, AccountState
from keyfence_server.domain.secrets import Plaintext
from keyfence_server.domain.sessions import Session

_STATE_NUMBERS: Final[Mapping[AccountState, account_service_pb2.AccountState.ValueType]] = {
    state: account_service_pb2.AccountState.Value(f"ACCOUNT_STATE_{state.name}")
    for state in AccountState
}


def account_of(
    account: Account,
    make: Callable[..., account_service_pb2.Account] = account_service_pb2.Account,
) -> account_service_pb2.Account:
    """An account's record.

    Args:
        make: makes the message, by itself or in an answer.
    """
    return make(
        account_id=account.account_id,
        keyspace=account.keyspace,
        email=account.email.text,
        display_name=account.display_name,
        plan=account.plan,
        state=_STATE_NUMBERS[account.state],
        labels=account.labels,
        create_time=timestamp_of(account.create_time),
        update_time=timestamp_of(account.update_time),
        disable_time=timestamp_of(account.disable_time),
        revision=account.revision,
    )


def session_of(session: Session) -> account_service_pb2.Session:
    """A session's record."""
    return account_service_pb2.Session(
        session_id=session.session_id,
        account_id=session.account_id,
        keyspace=session.keyspace,
        create_time=timestamp_of(session.create_time),
        expire_time=timestamp_of(session.expire_time),
    )


def account_update_from(request: account_service_pb2.UpdateAccountRequest) -> AccountUpdate:
    """How an account should become."""
    account = fields_for(AccountUpdate, request.account)
    values = fields_for(AccountUpdate, request)
    passwords = {
        "new_password": Plaintext(request.new_password),
        "current_password": Plaintext(request.current_password),
    }
    fields = frozenset(request.update_mask.paths)
    return AccountUpdate(**account | values | passwords, fields=fields)


def account_listing_from(request: account_service_pb2.ListAccountsRequest) -> AccountListing:
    """Which accounts to list."""
    values = fields_for(AccountListing, request)
    state = AccountState(values["state"]) if values["state"] else None
    return AccountListing(**values | {"state": state})
