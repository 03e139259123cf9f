# Generated from keyfence/_async/client.py by tools/generate_sync.py. Do not edit.
"""The client: one method an RPC. Arguments in, one call, results out.

It must not know of channels; the transport beside it does.
"""

from __future__ import annotations

import copy
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import Final, Self

from keyfence import _convert, results, rpcs
from keyfence._batching import Batching, may_share, was_left_out
from keyfence._sync.batching import Batcher
from keyfence._sync.listing import Listing
from keyfence._sync.transport import Transport
from keyfence._tokens import Token
from keyfence._unchanged import UNCHANGED, Unchanged
from keyfence.connection import (
    CALL_TIMEOUT_SECONDS,
    CHECK_TIMEOUT_SECONDS,
    Connection,
    Tls,
    checked_timeout,
)
from keyfence.errors import CallFailed, ResourceExhausted
from keyfence.holder.background import BackgroundCache, Cache, CacheStatus
from keyfence.rpcs import Request, Response, Rpc
from keyfence.v1 import account_service_pb2 as accounts
from keyfence.v1 import audit_service_pb2 as audit
from keyfence.v1 import authorization_service_pb2 as authorization
from keyfence.v1 import key_service_pb2 as keys
from keyfence.v1 import keyspace_pb2
from keyfence.v1 import keyspace_service_pb2 as keyspaces
from keyfence.v1 import replication_service_pb2 as replication

_SHORTEST_TIMEOUT_SECONDS: Final = 0.001


class Client:
    """Talks to Keyfence. Make one, share it, close it.

    The connection opens at the first call, so a client can be made anywhere, before a
    fork too. From then on it stays where it was opened.

    Every call has a deadline, `timeout_seconds` for all its attempts together. If the
    server is unavailable, the client repeats calls that are safe to repeat; see the README.

    Args:
        target: where the server is, in gRPC's syntax: "host:port", "unix:/path",
            "dns:///host:port". None: the environment's `KEYFENCE_TARGET`.
        token: the client's own credential: the text, a path of a file that holds it, or
            a function that returns it. None: `KEYFENCE_TOKEN`, or else no credential.
        tls: how to do TLS. None: with the usual certificate authorities, except over
            loopback and Unix sockets, which are plaintext.
        insecure_plaintext: do without TLS over a network, which then can read the token
            and every key. For networks that encrypt by themselves, such as a mesh.
        check_timeout_seconds: the deadline of checks that name none.
        timeout_seconds: the deadline of other calls that name none.
        cache: answer checks on known keys from memory, under a lease: what the server
            has revoked is never accepted, and what is not known is asked of it.
        batching: send calls of `check_scope` that are under way at the same time in shared
            messages. They cost the server less than calls of their own.

    Raises:
        ConfigurationError: the arguments do not make a connection.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        token: Token | None = None,
        tls: Tls | None = None,
        insecure_plaintext: bool = False,
        check_timeout_seconds: float = CHECK_TIMEOUT_SECONDS,
        timeout_seconds: float = CALL_TIMEOUT_SECONDS,
        cache: Cache | None = None,
        batching: Batching | None = None,
    ) -> None:
        self._connection = Connection.resolve(
            target,
            token=token,
            tls=tls,
            insecure_plaintext=insecure_plaintext,
            check_timeout_seconds=check_timeout_seconds,
            timeout_seconds=timeout_seconds,
        )
        self._transport = Transport(self._connection)
        self._cache = (
            None
            if cache is None
            else BackgroundCache(self._connection, cache, self._transport.may_be_used)
        )
        self._local = None if self._cache is None else self._cache.checks
        self._batcher = None if batching is None else Batcher(self._transport, batching.max_checks)

    def __repr__(self) -> str:
        security = "plaintext" if self._connection.tls is None else "tls"
        return f"Client({self._connection.target!r}, {security})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and the calls under way. Closing twice is fine."""
        if self._cache is not None:
            self._transport.wait_for(self._cache.close)
        self._transport.close()

    def acting_as(self, token: Token | None, *, client_address: str | None = None) -> Client:
        """A client on the same connection that presents another credential, or none.

        For an application that manages accounts and keys in its caller's name: Keyfence
        decides what the caller may do. The client has neither cache nor batches, and needs no
        closing. It can be used until the client that it was made from is closed.

        Args:
            token: as for the client. None: no credential, whatever the environment has.
            client_address: where the caller is. The server believes it if the application is
                among its `KEYFENCE_TRUSTED_PROXIES`.
        """
        acting = copy.copy(self)
        # Without the cache and the batches of the first client: both ask with its credential.
        acting.__dict__.update(
            _transport=self._transport.acting_as(token, client_address),
            _cache=None,
            _local=None,
            _batcher=None,
        )
        return acting

    def cache_status(self) -> CacheStatus | None:
        """How the cache is doing; None if the client has none."""
        return None if self._cache is None else self._cache.status()

    # --- checks ----------------------------------------------------------------------

    def authenticate(
        self,
        api_key: str,
        *,
        keyspace: str | None = None,
        client_address: str | None = None,
        at_least_revision: int = 0,
        cost: int = 1,
        timeout_seconds: float | None = None,
    ) -> results.Authentication:
        """Asks whose key it is. A key that is not good is an answer, and not an error.

        Args:
            api_key: what a caller presented, without "Bearer".
            keyspace: the keyspace that the key must belong to. None: any keyspace that
                the token is bound to.
            client_address: where the key was presented from, for keys with an allow-list.
            at_least_revision: answer from no older a state than this, for example the
                revision of a mutation.
            cost: what it counts for against the key's rate limits. Zero: for nothing, and
                no limit stops it.
        """
        if self._local is not None:
            known = self._local.authenticate(api_key, keyspace, client_address, at_least_revision)
            if known is None and self._fill(api_key, timeout_seconds):
                known = self._local.authenticate(
                    api_key, keyspace, client_address, at_least_revision
                )
            if known is not None:
                return known
        request = authorization.AuthenticateRequest(
            api_key=_convert.presented(api_key),
            keyspace=keyspace or "",
            client_address=client_address or "",
            at_least_revision=at_least_revision,
            cost=cost if cost != 1 else None,
        )
        return _convert.authentication(
            self._check(rpcs.AUTHENTICATE, request, timeout_seconds, (api_key,))
        )

    def check_scope(
        self,
        api_key: str,
        *required_scopes: str,
        keyspace: str | None = None,
        client_address: str | None = None,
        at_least_revision: int = 0,
        explain: bool = False,
        cost: int = 1,
        timeout_seconds: float | None = None,
    ) -> results.CheckResult:
        """Asks whether the key may do what needs all of the scopes.

        Args:
            api_key, keyspace, client_address, at_least_revision, cost: as in
                `authenticate`.
            required_scopes: one or more registered scopes.
            explain: whether to say which grants led to the answer.

        Raises:
            UnknownScope: the keyspace registers no such scope.
        """
        if self._local is not None and not explain:
            known = self._local.check_scope(
                api_key, required_scopes, keyspace, client_address, at_least_revision
            )
            if known is None and self._fill(api_key, timeout_seconds):
                known = self._local.check_scope(
                    api_key, required_scopes, keyspace, client_address, at_least_revision
                )
            if known is not None:
                return known
        check = results.ScopeCheck(
            api_key=api_key,
            required_scopes=required_scopes,
            keyspace=keyspace,
            client_address=client_address,
            at_least_revision=at_least_revision,
            explain=explain,
            cost=cost,
        )
        request = _convert.check_request(check)
        if self._batcher is not None and may_share(request):
            timeout_seconds = self._checked_timeout(timeout_seconds)
            deadline = time.monotonic() + timeout_seconds
            try:
                return self._batcher.check(check, request, timeout_seconds)
            except ResourceExhausted as error:
                if not was_left_out(error):
                    raise
            timeout_seconds = max(_SHORTEST_TIMEOUT_SECONDS, deadline - time.monotonic())
        return _convert.check_result(
            self._check(rpcs.CHECK_SCOPE, request, timeout_seconds, (api_key,))
        )

    def batch_check_scope(
        self, checks: Iterable[results.ScopeCheck], *, timeout_seconds: float | None = None
    ) -> tuple[results.CheckResult | results.FailedCheck, ...]:
        """Asks several questions at once: up to 256, answered each by itself, in order."""
        asked = tuple(checks)
        request = authorization.BatchCheckScopeRequest(
            checks=[_convert.check_request(check) for check in asked]
        )
        secrets = tuple(check.api_key for check in asked)
        response = self._check(rpcs.BATCH_CHECK_SCOPE, request, timeout_seconds, secrets)
        return _convert.batch_results(response, asked)

    def who_am_i(self, *, timeout_seconds: float | None = None) -> results.Identity:
        """Asks whose token the client has.

        Raises:
            Unauthenticated: the token is not valid.
        """
        request = authorization.WhoAmIRequest()
        response = self._check(rpcs.WHO_AM_I, request, timeout_seconds, ())
        return _convert.result(results.Identity, response)

    # --- keys ------------------------------------------------------------------------

    def create_key(
        self,
        *,
        keyspace: str | None = None,
        account_id: str | None = None,
        display_name: str | None = None,
        scopes: Iterable[str] = (),
        preset: str | None = None,
        key_type: str | None = None,
        environment: str | None = None,
        expire_time: datetime | None = None,
        allowed_addresses: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        parent_key_id: str | None = None,
        bound_keyspaces: Iterable[str] = (),
        rate_limit: results.RateLimit | None = None,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> results.CreatedKey:
        """Makes a key. Its plaintext is in the result and nowhere else, ever.

        What is not given, the keyspace decides.

        Args:
            keyspace, account_id: whose key it is to be. An account's own key may leave
                them out: its own.
            scopes, preset: what it may do. They can be combined.
            expire_time: when it stops working. Aware.
            allowed_addresses: the only addresses, single or CIDR, that it works from.
            parent_key_id: the key to delegate from.
            bound_keyspaces: for operator credentials, where they may act.
            rate_limit: the key's own. None: what the keyspace says.
            request_id: at most one key is made for it. None: a new one. It makes
                repeating the call harmless, and the client repeats it by itself.

        Raises:
            RequestAlreadyDone: an earlier attempt made the key, but its answer was lost.
        """
        request = keys.CreateKeyRequest(
            keyspace=keyspace or "",
            account_id=account_id or "",
            display_name=display_name or "",
            scopes=_convert.texts("scopes", scopes),
            preset=preset or "",
            key_type=key_type or "",
            environment=environment or "",
            expire_time=_convert.timestamp("expire_time", expire_time),
            request_id=request_id or uuid.uuid4().hex,
            allowed_addresses=_convert.texts("allowed_addresses", allowed_addresses),
            labels=labels or {},
            parent_key_id=parent_key_id or "",
            bound_keyspaces=_convert.texts("bound_keyspaces", bound_keyspaces),
            rate_limit=_convert.rate_limit(rate_limit),
        )
        response = self._call(rpcs.CREATE_KEY, request, timeout_seconds)
        return _convert.result(results.CreatedKey, response)

    def import_keys(
        self,
        keyspace: str,
        to_import: Sequence[results.KeyToImport],
        *,
        validate_only: bool = False,
        timeout_seconds: float | None = None,
    ) -> results.ImportedKeys:
        """Imports keys that another program has made. A key that is there already is left as it
        is, so the call can be repeated.

        Args:
            to_import: 1 to 500 keys.
            validate_only: says what would be imported, and imports nothing.
        """
        request = keys.ImportKeysRequest(
            keyspace=keyspace,
            keys=map(_convert.key_to_import, to_import),
            validate_only=validate_only,
        )
        response = self._call(rpcs.IMPORT_KEYS, request, timeout_seconds)
        return _convert.result(results.ImportedKeys, response)

    def get_key(self, key_id: str, *, timeout_seconds: float | None = None) -> results.Key:
        """Reads a key's record.

        Raises:
            NotFound: there is none, or the token may not know of it.
        """
        request = keys.GetKeyRequest(key_id=key_id)
        response = self._call(rpcs.GET_KEY, request, timeout_seconds)
        return _convert.result(results.Key, response.key)

    def find_key(self, api_key: str, *, timeout_seconds: float | None = None) -> results.Key | None:
        """Looks a key up by its plaintext, without counting a use.

        The token needs the scope `replication:sync`.

        Returns:
            None if there is no such key, or the token may not know of it.
        """
        request = replication.FetchFactsRequest(api_key=api_key)
        found = self._call(rpcs.FETCH_FACTS, request, timeout_seconds)
        return _convert.result(results.Key, found.lineage[0]) if found.lineage else None

    def get_key_usage(
        self,
        key_id: str,
        *,
        first_day: date | None = None,
        last_day: date | None = None,
        timeout_seconds: float | None = None,
    ) -> tuple[results.KeyUsageDay, ...]:
        """Asks how often a key was used on each day, those without use left out.

        Args:
            first_day: None: 30 days before the last.
            last_day: None: today.
        """
        request = keys.GetKeyUsageRequest(
            key_id=key_id,
            first_day=first_day.isoformat() if first_day is not None else "",
            last_day=last_day.isoformat() if last_day is not None else "",
        )
        response = self._call(rpcs.GET_KEY_USAGE, request, timeout_seconds)
        return tuple(_convert.result(results.KeyUsageDay, day) for day in response.days)

    def list_replicas(self, *, timeout_seconds: float | None = None) -> results.Replicas:
        """Lists who answers checks from memory, and how far behind each of them is.

        The token needs the scope `replication:read`. A server knows all the servers on its
        store, and the sidecars and SDK caches that are connected to itself.

        Raises:
            Unavailable: the store cannot be asked.
        """
        request = replication.ListReplicasRequest()
        return _convert.replicas(self._call(rpcs.LIST_REPLICAS, request, timeout_seconds))

    def list_keys(
        self,
        *,
        keyspace: str | None = None,
        account_id: str | None = None,
        state: results.KeyState | None = None,
        parent_key_id: str | None = None,
        key_type: str | None = None,
        environment: str | None = None,
        display_prefix: str | None = None,
        labels: Mapping[str, str] | None = None,
        scope: str | None = None,
        unused_since_time: datetime | None = None,
        never_used: bool = False,
        expiring_before_time: datetime | None = None,
        page_size: int = 0,
        page_token: str = "",
        timeout_seconds: float | None = None,
    ) -> Listing[results.Key]:
        """Lists keys, oldest first. Fetches pages as they are consumed.

        Args:
            keyspace: an account's own key may leave it out: its own.
            account_id, state, parent_key_id, key_type, environment, display_prefix: only keys
                that fit.
            labels: only keys with all of these labels.
            scope: only keys whose effective scopes include this one.
            unused_since_time: only keys that were created before this time and not used from
                it on.
            never_used: only keys that were never used.
            expiring_before_time: only keys that have not expired and will expire before this
                time.
            page_size: at most so many keys in one page. Zero: the server's choice.
            page_token: where to start. Empty: at the beginning.
            timeout_seconds: for each page.
        """

        def fetch(token: str) -> results.Page[results.Key]:
            request = keys.ListKeysRequest(
                keyspace=keyspace or "",
                account_id=account_id or "",
                page_size=page_size,
                page_token=token,
                state=_convert.key_state_number(state),
                parent_key_id=parent_key_id or "",
                key_type=key_type or "",
                environment=environment or "",
                display_prefix=display_prefix or "",
                labels=[f"{name}={value}" for name, value in (labels or {}).items()],
                scope=scope or "",
                unused_since_time=_convert.timestamp("unused_since_time", unused_since_time),
                never_used=never_used,
                expiring_before_time=_convert.timestamp(
                    "expiring_before_time", expiring_before_time
                ),
            )
            response = self._call(rpcs.LIST_KEYS, request, timeout_seconds)
            return _convert.page(results.Key, response.keys, response.next_page_token)

        return Listing(fetch, page_token)

    def update_key(
        self,
        key_id: str,
        *,
        display_name: str | Unchanged = UNCHANGED,
        granted_scopes: Iterable[str] | Unchanged = UNCHANGED,
        state: results.KeyState | Unchanged = UNCHANGED,
        expire_time: datetime | Unchanged | None = UNCHANGED,
        allowed_addresses: Iterable[str] | Unchanged = UNCHANGED,
        labels: Mapping[str, str] | Unchanged = UNCHANGED,
        rate_limit: results.RateLimit | Unchanged | None = UNCHANGED,
        if_revision: int = 0,
        timeout_seconds: float | None = None,
    ) -> results.ChangedKey:
        """Changes the given fields of a key's record, and no others.

        The client does not repeat this call: a second attempt could undo another
        caller's change in between.

        Args:
            state: active or disabled.
            expire_time: None: never, by time.
            rate_limit: None: what the keyspace says.
            if_revision: change it only if the record's revision is still this one.
                Zero: in any case.

        Raises:
            RevisionChanged: the record has another revision by now.
        """
        record = keys.Key(key_id=key_id)
        mask = _convert.set_changed(
            record,
            display_name=display_name,
            granted_scopes=granted_scopes,
            state=state,
            expire_time=expire_time,
            allowed_addresses=allowed_addresses,
            labels=labels,
            rate_limit=rate_limit,
        )
        request = keys.UpdateKeyRequest(key=record, update_mask=mask, if_revision=if_revision)
        response = self._call(rpcs.UPDATE_KEY, request, timeout_seconds)
        return _convert.result(results.ChangedKey, response)

    def rotate_key(
        self,
        key_id: str,
        *,
        overlap: timedelta | None = None,
        expire_time: datetime | None = None,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> results.RotatedKey:
        """Makes a successor with the same grants. Its plaintext is in the result alone.

        Args:
            overlap: how long the old key still works. None: it is revoked at once.
            expire_time: when the successor stops working. None: when the old key did.
            request_id: as in `create_key`.

        Raises:
            RequestAlreadyDone: as in `create_key`.
        """
        request = keys.RotateKeyRequest(
            key_id=key_id,
            overlap=_convert.duration(overlap),
            expire_time=_convert.timestamp("expire_time", expire_time),
            request_id=request_id or uuid.uuid4().hex,
        )
        response = self._call(rpcs.ROTATE_KEY, request, timeout_seconds)
        return _convert.result(results.RotatedKey, response)

    def revoke_key(
        self, key_id: str, *, comment: str | None = None, timeout_seconds: float | None = None
    ) -> results.ChangedKey:
        """Revokes a key and every key that was delegated from it. Final.

        When this returns, no process accepts the key. If it raises `DeadlineExceeded` or
        `Unavailable`, the key may or may not be revoked: call it again, which is harmless.

        Args:
            comment: why, for the audit log.
        """
        request = keys.RevokeKeyRequest(key_id=key_id, comment=comment or "")
        response = self._call(rpcs.REVOKE_KEY, request, timeout_seconds)
        return _convert.result(results.ChangedKey, response)

    # --- accounts --------------------------------------------------------------------

    def register_account(
        self,
        keyspace: str,
        email: str,
        password: str,
        *,
        display_name: str | None = None,
        plan: str | None = None,
        labels: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> results.ChangedAccount:
        """Makes an account. Needs a token only where the keyspace's registration is closed.

        Args:
            plan, labels: for operators. None: the keyspace's default plan.

        Raises:
            AlreadyExists: another account has the address.
            ResourceExhausted: too many were registered from here. `metadata` says when to
                come back.
        """
        request = accounts.RegisterAccountRequest(
            keyspace=keyspace,
            email=email,
            password=password,
            display_name=display_name or "",
            plan=plan or "",
            labels=labels or {},
        )
        response = self._call(rpcs.REGISTER_ACCOUNT, request, timeout_seconds, (password,))
        return _convert.result(results.ChangedAccount, response)

    def log_in(
        self, keyspace: str, email: str, password: str, *, timeout_seconds: float | None = None
    ) -> results.LoggedIn:
        """Begins a session. What manages the account is another client, with the session's
        token. Needs no token itself.

        Raises:
            Unauthenticated: no account has this address and this password.
            FailedPrecondition: the account is disabled.
            ResourceExhausted: too many have failed from here. `metadata` says when to come
                back.
        """
        request = accounts.LogInRequest(keyspace=keyspace, email=email, password=password)
        response = self._call(rpcs.LOG_IN, request, timeout_seconds, (password,))
        return _convert.result(results.LoggedIn, response)

    def log_out(
        self,
        account_id: str | None = None,
        *,
        all_sessions: bool = False,
        revoke_keys: bool = False,
        timeout_seconds: float | None = None,
    ) -> int:
        """Ends the session whose token the client has, or all sessions of an account.

        When this returns, nothing anywhere accepts them.

        Args:
            account_id: None: the session's own account.
            all_sessions: operators must say so.
            revoke_keys: also revokes the keys that were made in the session; with
                `all_sessions`, in any session of the account.

        Returns:
            The revision of the mutation.
        """
        request = accounts.LogOutRequest(
            account_id=account_id or "", all_sessions=all_sessions, revoke_keys=revoke_keys
        )
        return (self._call(rpcs.LOG_OUT, request, timeout_seconds)).revision

    def get_account(
        self, account_id: str | None = None, *, timeout_seconds: float | None = None
    ) -> results.Account:
        """Reads an account. None: that of the session whose token the client has.

        Raises:
            NotFound: there is none, or the token may not know of it.
        """
        request = accounts.GetAccountRequest(account_id=account_id or "")
        response = self._call(rpcs.GET_ACCOUNT, request, timeout_seconds)
        return _convert.result(results.Account, response.account)

    def list_accounts(
        self,
        keyspace: str,
        *,
        state: results.AccountState | None = None,
        email: str | None = None,
        page_size: int = 0,
        page_token: str = "",
        timeout_seconds: float | None = None,
    ) -> Listing[results.Account]:
        """Lists accounts, oldest first. See `list_keys`.

        Args:
            state, email: only accounts that fit.
        """

        def fetch(token: str) -> results.Page[results.Account]:
            request = accounts.ListAccountsRequest(
                keyspace=keyspace,
                page_size=page_size,
                page_token=token,
                state=_convert.account_state_number(state),
                email=email or "",
            )
            response = self._call(rpcs.LIST_ACCOUNTS, request, timeout_seconds)
            return _convert.page(results.Account, response.accounts, response.next_page_token)

        return Listing(fetch, page_token)

    def update_account(
        self,
        account_id: str | None = None,
        *,
        email: str | Unchanged = UNCHANGED,
        display_name: str | Unchanged = UNCHANGED,
        plan: str | Unchanged = UNCHANGED,
        labels: Mapping[str, str] | Unchanged = UNCHANGED,
        new_password: str | None = None,
        current_password: str | None = None,
        revoke_keys: bool = False,
        if_revision: int = 0,
        timeout_seconds: float | None = None,
    ) -> results.ChangedAccount:
        """Changes what is given of an account, and nothing else. See `update_key`.

        Args:
            account_id: None: that of the session whose token the client has.
            plan, labels: for operators.
            new_password: ends all sessions of the account but the one that asks.
            current_password: what a session needs to change the address or the password.
            revoke_keys: with `new_password`: also revokes the keys that were made in any
                other session of the account.

        Raises:
            PermissionDenied: the current password is missing or wrong.
            AlreadyExists: another account has the address.
        """
        record = accounts.Account(account_id=account_id or "")
        mask = _convert.set_changed(
            record, email=email, display_name=display_name, plan=plan, labels=labels
        )
        request = accounts.UpdateAccountRequest(
            account=record,
            update_mask=mask,
            if_revision=if_revision,
            new_password=new_password or "",
            current_password=current_password or "",
            revoke_keys=revoke_keys,
        )
        secrets = tuple(one for one in (new_password, current_password) if one)
        response = self._call(rpcs.UPDATE_ACCOUNT, request, timeout_seconds, secrets)
        return _convert.result(results.ChangedAccount, response)

    def disable_account(
        self, account_id: str, *, comment: str | None = None, timeout_seconds: float | None = None
    ) -> results.ChangedAccount:
        """Stops an account's keys and ends its sessions.

        When this returns, nothing anywhere accepts any of them.

        Args:
            comment: why, for the audit log.
        """
        request = accounts.DisableAccountRequest(account_id=account_id, comment=comment or "")
        response = self._call(rpcs.DISABLE_ACCOUNT, request, timeout_seconds)
        return _convert.result(results.ChangedAccount, response)

    def enable_account(
        self, account_id: str, *, comment: str | None = None, timeout_seconds: float | None = None
    ) -> results.ChangedAccount:
        """Lets a disabled account and its keys work again. Its sessions do not come back.

        Args:
            comment: why, for the audit log.
        """
        request = accounts.EnableAccountRequest(account_id=account_id, comment=comment or "")
        response = self._call(rpcs.ENABLE_ACCOUNT, request, timeout_seconds)
        return _convert.result(results.ChangedAccount, response)

    # --- keyspaces -------------------------------------------------------------------

    def apply_keyspace(
        self,
        keyspace: keyspace_pb2.Keyspace,
        *,
        validate_only: bool = False,
        if_revision: int = 0,
        drop_previous_formats: Iterable[str] = (),
        timeout_seconds: float | None = None,
    ) -> results.AppliedKeyspace:
        """Makes a keyspace as declared, or changes it to that; says what changed.

        Args:
            keyspace: the declaration.
            validate_only: only say what would change.
            if_revision: apply only if the keyspace's revision is still this one. Zero: in
                any case.
            drop_previous_formats: templates of earlier formats that are no longer
                recognised, or "*" for all of them. Their keys stop working.

        Raises:
            InvalidKeyspace: the declaration contradicts itself. `violations` says where.
            RevisionChanged: the keyspace has another revision by now.
        """
        request = keyspaces.ApplyKeyspaceRequest(
            keyspace=keyspace,
            validate_only=validate_only,
            if_revision=if_revision,
            drop_previous_formats=drop_previous_formats,
        )
        response = self._call(rpcs.APPLY_KEYSPACE, request, timeout_seconds)
        return _convert.result(results.AppliedKeyspace, response)

    def get_keyspace(self, name: str, *, timeout_seconds: float | None = None) -> results.Keyspace:
        """Reads a keyspace. Its `declaration` can be changed and applied again.

        Raises:
            NotFound: there is none, or the token may not know of it.
        """
        request = keyspaces.GetKeyspaceRequest(name=name)
        response = self._call(rpcs.GET_KEYSPACE, request, timeout_seconds)
        return _convert.keyspace(response.keyspace)

    def list_keyspaces(
        self, *, page_size: int = 0, page_token: str = "", timeout_seconds: float | None = None
    ) -> Listing[results.Keyspace]:
        """Lists the keyspaces that the token is bound to, by name. See `list_keys`."""

        def fetch(token: str) -> results.Page[results.Keyspace]:
            request = keyspaces.ListKeyspacesRequest(page_size=page_size, page_token=token)
            response = self._call(rpcs.LIST_KEYSPACES, request, timeout_seconds)
            return _convert.page(results.Keyspace, response.keyspaces, response.next_page_token)

        return Listing(fetch, page_token)

    def explain_scope(
        self, keyspace: str, scope: str, *, timeout_seconds: float | None = None
    ) -> results.ExplainedScope:
        """Asks what a scope implies and what implies it.

        Raises:
            UnknownScope: the keyspace registers no such scope.
        """
        request = keyspaces.ExplainScopeRequest(keyspace=keyspace, scope=scope)
        response = self._call(rpcs.EXPLAIN_SCOPE, request, timeout_seconds)
        return _convert.result(results.ExplainedScope, response)

    # --- audit log -------------------------------------------------------------------

    def list_audit_events(
        self,
        *,
        keyspace: str | None = None,
        account_id: str | None = None,
        subject: str | None = None,
        actor_id: str | None = None,
        action_prefix: str | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        newest_first: bool = False,
        after_event_id: str = "",
        page_size: int = 0,
        page_token: str = "",
        timeout_seconds: float | None = None,
    ) -> Listing[results.AuditEvent]:
        """Lists audit events, the oldest first unless asked otherwise. See `list_keys`.

        Args:
            keyspace: None: every one that the token is bound to.
            account_id, subject, actor_id, action_prefix: only events that fit.
            start_time, end_time: only events from the one on, and before the other. Aware.
            after_event_id: only events behind this one. To follow the log, ask again with
                the last `event_id` that was seen.
        """

        def fetch(token: str) -> results.Page[results.AuditEvent]:
            request = audit.ListAuditEventsRequest(
                keyspace=keyspace or "",
                account_id=account_id or "",
                subject=subject or "",
                actor_id=actor_id or "",
                action_prefix=action_prefix or "",
                start_time=_convert.timestamp("start_time", start_time),
                end_time=_convert.timestamp("end_time", end_time),
                newest_first=newest_first,
                after_event_id=after_event_id,
                page_size=page_size,
                page_token=token,
            )
            response = self._call(rpcs.LIST_AUDIT_EVENTS, request, timeout_seconds)
            return _convert.page(results.AuditEvent, response.events, response.next_page_token)

        return Listing(fetch, page_token)

    def verify_audit_events(
        self,
        *,
        after_sequence: int = 0,
        after_hash: bytes = b"",
        max_events: int = 0,
        timeout_seconds: float | None = None,
    ) -> results.AuditVerification:
        """Goes along a part of the chain of audit events, and says how far it holds.

        Args:
            after_sequence, after_hash: behind which event to begin, and its hash. Zero: at
                the first one.
            max_events: how many to go along. Zero: as many as there can be in one call. If
                the result is not `complete` and has no `problem`, go on from there.
        """
        request = audit.VerifyAuditEventsRequest(
            after_sequence=after_sequence, after_hash=after_hash, max_events=max_events
        )
        response = self._call(rpcs.VERIFY_AUDIT_EVENTS, request, timeout_seconds)
        return _convert.audit_verification(response)

    def export_audit_events(
        self, *, after_sequence: int = 0, page_size: int = 0, timeout_seconds: float | None = None
    ) -> results.AuditExport:
        """Returns a part of the audit log of all keyspaces, for an archive.

        Args:
            after_sequence: behind which event to begin. Zero: at the first one that the
                database holds.
            page_size: how many events at most: 1 to 1000. Zero: 100.
        """
        request = audit.ExportAuditEventsRequest(after_sequence=after_sequence, page_size=page_size)
        response = self._call(rpcs.EXPORT_AUDIT_EVENTS, request, timeout_seconds)
        return _convert.result(results.AuditExport, response)

    def record_audit_export(
        self,
        after_sequence: int,
        sequence: int,
        event_hash: bytes,
        *,
        timeout_seconds: float | None = None,
    ) -> int:
        """Records that events are in an archive, so that servers may remove them. It can be
        repeated.

        Args:
            after_sequence: the event before the first one in the archive's last part.
            sequence, event_hash: the last event in the archive, and its hash.

        Returns:
            The last event that is recorded as exported.
        """
        request = audit.RecordAuditExportRequest(
            after_sequence=after_sequence, sequence=sequence, hash=event_hash
        )
        response = self._call(rpcs.RECORD_AUDIT_EXPORT, request, timeout_seconds)
        return response.sequence

    # --- sending ---------------------------------------------------------------------

    def _fill(self, api_key: str, timeout_seconds: float | None) -> bool:
        """Fetches what is known of a key into the cache. Says whether that may help."""
        local = self._local
        api_key = _convert.presented(api_key)
        fill = local.begin_fill(api_key) if local is not None else None
        if local is None or fill is None:
            return False
        try:
            response = self._check(
                rpcs.FETCH_FACTS, local.fill_request(fill, api_key), timeout_seconds, (api_key,)
            )
        except BaseException as error:
            local.drop_fill(fill)
            if not isinstance(error, CallFailed):
                raise
            return False
        return local.end_fill(fill, api_key, response)

    def _check(
        self,
        rpc: Rpc[Request, Response],
        request: Request,
        timeout_seconds: float | None,
        secrets: tuple[str, ...],
    ) -> Response:
        timeout_seconds = self._checked_timeout(timeout_seconds)
        return self._transport.call(rpc, request, timeout_seconds, secrets)

    def _checked_timeout(self, timeout_seconds: float | None) -> float:
        """How long a check may take."""
        if timeout_seconds is None:
            return self._connection.check_timeout_seconds
        return checked_timeout("timeout_seconds", timeout_seconds)

    def _call(
        self,
        rpc: Rpc[Request, Response],
        request: Request,
        timeout_seconds: float | None,
        secrets: tuple[str, ...] = (),
    ) -> Response:
        if timeout_seconds is None:
            timeout_seconds = self._connection.timeout_seconds
        checked_timeout("timeout_seconds", timeout_seconds)
        return self._transport.call(rpc, request, timeout_seconds, secrets)
