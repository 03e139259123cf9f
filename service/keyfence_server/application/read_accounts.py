"""Reading accounts."""

from __future__ import annotations

from dataclasses import dataclass

from keyfence_server.application.account_inputs import get_accounts_keyspace, read_email
from keyfence_server.application.callers import Caller
from keyfence_server.application.pages import Page, PageRequest, Paging
from keyfence_server.application.ports import Snapshot, Store
from keyfence_server.domain.accounts import Account, AccountId, AccountState
from keyfence_server.domain.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountListing(PageRequest):
    """Which accounts to list. Fields and defaults as in `ListAccountsRequest`."""

    keyspace: str
    state: AccountState | None = None
    email: str = ""


async def get_for_caller(snapshot: Snapshot, caller: Caller, account_id: str) -> Account:
    """The account that a caller means; none named is the caller's own.

    Raises:
        InvalidInput: none is named, and the caller has none.
        NotFound: there is none, or the caller may not know of it.
    """
    if not account_id:
        if caller.own_account is None:
            raise InvalidInput.field("account_id", "name the account")
        account_id = caller.own_account.account_id
    return caller.require_account(account_id, await snapshot.find_account(AccountId(account_id)))


@dataclass(frozen=True, slots=True)
class ReadAccounts:
    """Answers questions about accounts, from the store."""

    _store: Store

    async def get(self, caller: Caller, account_id: str) -> Account:
        """An account. Raises `Forbidden`, `InvalidInput`, `NotFound`."""
        caller.require_account_management("accounts:read")
        async with self._store.snapshot() as snapshot:
            return await get_for_caller(snapshot, caller, account_id)

    async def list(self, caller: Caller, listing: AccountListing) -> Page[Account]:
        """Accounts, in the order of their ids.

        Raises:
            InvalidInput: a filter, the page's size or its token is wrong.
            Forbidden, NotFound: the keyspace is not for this caller, or has no accounts.
        """
        caller.require_scope("accounts:read")
        if not listing.keyspace:
            raise InvalidInput.field("keyspace", "name the keyspace whose accounts to list")
        caller.require_reach(listing.keyspace)
        email = read_email("email", listing.email) if listing.email else None
        state = listing.state
        paging = Paging.read(caller, listing)
        async with self._store.snapshot() as snapshot:
            await get_accounts_keyspace(snapshot, listing.keyspace)
            if email is not None:
                one = await snapshot.find_account_by_email(listing.keyspace, email.identity)
                fits = one is not None and state in (None, one.state)
                found = [one] if one is not None and fits else []
            else:
                found = await snapshot.list_accounts(
                    listing.keyspace,
                    state,
                    after=AccountId(paging.after) if paging.after else None,
                    limit=paging.limit + 1,
                )
        return paging.page(found, lambda one: one.account_id)
