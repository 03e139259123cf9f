"""Accounts and their sessions."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from keyfence_server.application.ports import (
    Change,
    ChangeKind,
    Store,
)
from keyfence_server.domain.accounts import AccountId, AccountState, Email, PasswordHash
from keyfence_server.domain.sessions import SessionId
from store_contract.harness import Topic
from store_contract.values import (
    HOSTILE,
    everything_about,
    revision_of,
)
from support.builders import (
    KEYSPACE,
    account_change,
    commit_one,
    insert_accounts,
    insert_sessions,
    make_account,
    make_event,
    make_session,
    update_accounts,
)
from support.clock import START


class AccountsContract(Topic):
    """Accounts and their sessions."""

    async def test_an_account_comes_back_as_it_went_in(self, store: Store) -> None:
        plain = make_account()
        full = make_account(
            email=Email("Anna.O'Neill+1@Example.COM"),
            display_name=HOSTILE[0],
            password=PasswordHash("$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA", 7),
            state=AccountState.DISABLED,
            create_time=START,
            update_time=START + timedelta(microseconds=1),
            disable_time=START + timedelta(seconds=2),
            plan="pro",
            labels={"z": HOSTILE[5], "a": ""},
        )
        await insert_accounts(store, plain, full)
        async with store.snapshot() as snapshot:
            for account in (plain, full):
                stored = replace(account, revision=1)
                assert await snapshot.find_account(account.account_id) == stored
                by_email = snapshot.find_account_by_email(KEYSPACE, account.email.identity)
                assert await by_email == stored
            assert await snapshot.find_account(AccountId("usr_0")) is None
            assert await snapshot.find_account(AccountId("usr\0")) is None
            assert await snapshot.find_account_by_email("other", plain.email.identity) is None
            assert await snapshot.find_account_by_email(KEYSPACE, "\0") is None

    @pytest.mark.parametrize("text", HOSTILE)
    async def test_an_address_that_looks_like_sql_is_only_text(
        self, store: Store, text: str
    ) -> None:
        await insert_accounts(store, make_account())
        async with store.snapshot() as snapshot:
            assert await snapshot.find_account_by_email(KEYSPACE, text) is None
            assert await snapshot.find_account_by_email(text, "a@example.com") is None
            assert await snapshot.find_session(SessionId(text)) is None

    async def test_a_keyspace_has_one_account_for_an_address(self, store: Store) -> None:
        first = make_account(email=Email("a@example.com"))
        second = make_account(email=Email("b@example.com"))
        elsewhere = make_account(email=Email("A@example.com"), keyspace="other")
        await insert_accounts(store, first, second, elsewhere)
        for twin in (
            make_account(email=Email("A@example.com")),
            make_account(first.account_id),
        ):
            with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
                await insert_accounts(store, twin)
            assert "argon2id" not in everything_about(caught.value)
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is
            await update_accounts(store, replace(second, email=Email("A@example.com")))
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 1
            found = await snapshot.find_account_by_email(KEYSPACE, "b@example.com")
            assert found == replace(second, revision=1)

    async def test_accounts_are_listed_by_state_and_in_pages(self, store: Store) -> None:
        disabled = {"state": AccountState.DISABLED, "disable_time": START}
        accounts = [make_account(f"usr_{n}", **(disabled if n % 3 == 0 else {})) for n in range(7)]
        await insert_accounts(store, *accounts, make_account("usr_x", keyspace="other"))
        async with store.snapshot() as snapshot:
            for state in (None, *AccountState):
                wanted = [one.account_id for one in accounts if state in (None, one.state)]
                found: list[str] = []
                after: AccountId | None = None
                while page := await snapshot.list_accounts(KEYSPACE, state, after=after, limit=2):
                    found += [one.account_id for one in page]
                    after = page[-1].account_id
                assert found == wanted
            assert await snapshot.list_accounts("a\0b", after=None, limit=9) == []

    async def test_updating_an_account_touches_it_alone(self, store: Store) -> None:
        account, bystander = make_account(), make_account()
        await insert_accounts(store, account, bystander)
        changed = replace(account, plan="pro", email=Email("new@example.com"))
        await update_accounts(store, changed)
        async with store.snapshot() as snapshot:
            found = await snapshot.find_account(account.account_id)
            assert found == replace(changed, revision=2)
            untouched = await snapshot.find_account(bystander.account_id)
            assert untouched == replace(bystander, revision=1)
            old = await snapshot.find_account_by_email(KEYSPACE, account.email.identity)
            assert old is None
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is
            await update_accounts(store, make_account())

    async def test_a_session_comes_back_as_it_went_in(self, store: Store) -> None:
        account = make_account()
        await insert_accounts(store, account)
        session = make_session(account, expire_time=START + timedelta(microseconds=1))
        ended = make_session(account, end_time=START)
        await insert_sessions(store, session, ended)
        async with store.snapshot() as snapshot:
            for one in (session, ended):
                assert await snapshot.find_session(one.session_id) == replace(one, revision=2)
            assert await snapshot.find_session(SessionId("ses_0")) is None
        async with store.transaction() as transaction:
            await transaction.update_session(replace(session, end_time=START))
            await commit_one(
                transaction,
                [Change(ChangeKind.SESSION, session.session_id, KEYSPACE)],
                make_event("s"),
            )
        async with store.snapshot() as snapshot:
            found = await snapshot.find_session(session.session_id)
            assert found == replace(session, end_time=START, revision=3)
            untouched = await snapshot.find_session(ended.session_id)
            assert untouched == replace(ended, revision=2)

    async def test_a_session_needs_an_account(self, store: Store) -> None:
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is
            await insert_sessions(store, make_session(make_account()))
        assert await revision_of(store) == 0

    async def test_ending_sessions_ends_those_of_the_account_that_are_open(
        self, store: Store
    ) -> None:
        account, bystander = make_account(), make_account()
        await insert_accounts(store, account, bystander)
        now = START + timedelta(minutes=30)
        opened = [make_session(account) for _ in range(3)]
        others = [
            make_session(account, end_time=START),
            make_session(account, expire_time=now),
            make_session(bystander),
        ]
        await insert_sessions(store, *opened, *others)
        async with store.transaction() as transaction:
            ended = await transaction.end_sessions(
                account.account_id, now, but=opened[0].session_id
            )
            assert ended == 2
            assert await transaction.end_sessions(AccountId("usr_0"), now) == 0
            await commit_one(transaction, [account_change(account)], make_event(account.account_id))
        async with store.snapshot() as snapshot:
            for one in opened[1:]:
                found = await snapshot.find_session(one.session_id)
                assert found == replace(one, end_time=now, revision=3)
            for one in (opened[0], *others):
                assert await snapshot.find_session(one.session_id) == replace(one, revision=2)

    async def test_the_oldest_sessions_of_an_account_end_and_no_others(self, store: Store) -> None:
        account, bystander = make_account(), make_account()
        await insert_accounts(store, account, bystander)
        now = START + timedelta(minutes=30)
        usable = [
            make_session(account, create_time=START + timedelta(seconds=number))
            for number in range(4)
        ]
        others = [
            make_session(account, end_time=START),
            make_session(account, expire_time=now),
            make_session(bystander),
        ]
        await insert_sessions(store, *others, *reversed(usable))
        async with store.transaction() as transaction:
            ended = await transaction.end_oldest_sessions(account.account_id, now, keep=2)
            assert set(ended) == {one.session_id for one in usable[:2]}
            assert not await transaction.end_oldest_sessions(account.account_id, now, keep=2)
            await commit_one(transaction, [account_change(account)], make_event(account.account_id))
        async with store.snapshot() as snapshot:
            for one in usable[:2]:
                found = await snapshot.find_session(one.session_id)
                assert found == replace(one, end_time=now, revision=3)
            for one in (*usable[2:], *others):
                assert await snapshot.find_session(one.session_id) == replace(one, revision=2)

    async def test_of_sessions_that_are_over_only_the_newest_of_an_account_stay(
        self, store: Store
    ) -> None:
        account, bystander = make_account(), make_account()
        await insert_accounts(store, account, bystander)
        over = [
            make_session(account, create_time=START + timedelta(seconds=number), end_time=START)
            for number in range(102)
        ]
        others = [make_session(account), make_session(bystander, end_time=START)]
        await insert_sessions(store, *others, *over)
        await insert_sessions(store, make_session(account))
        async with store.snapshot() as snapshot:
            kept = [await snapshot.find_session(one.session_id) is not None for one in over]
            assert kept == [False, False, *[True] * 100]
            for one in others:
                assert await snapshot.find_session(one.session_id) is not None
