"""`keyfence.v1.AccountService`: accounts and their sessions."""

from __future__ import annotations

from dataclasses import dataclass

from keyfence.v1 import account_service_pb2 as messages
from keyfence_server.application.callers import Caller
from keyfence_server.application.disable_account import DisableAccount
from keyfence_server.application.log_in import LogIn
from keyfence_server.application.log_out import LogOut
from keyfence_server.application.read_accounts import ReadAccounts
from keyfence_server.application.register_account import NewAccount, RegisterAccount
from keyfence_server.application.update_account import UpdateAccount
from keyfence_server.convert.accounts import (
    account_listing_from,
    account_of,
    account_update_from,
    session_of,
)
from keyfence_server.convert.fields import value_from
from keyfence_server.domain.secrets import Plaintext
from keyfence_server.rpc.answer_sizes import add_fitting
from keyfence_server.rpc.pipeline import Service


@dataclass(frozen=True, slots=True)
class AccountService:
    """Asks the use cases of accounts."""

    _register_account: RegisterAccount
    _log_in: LogIn
    _log_out: LogOut
    _read_accounts: ReadAccounts
    _update_account: UpdateAccount
    _disable_account: DisableAccount

    def service(self) -> Service:
        return Service(
            messages.DESCRIPTOR.services_by_name["AccountService"],
            self,
            one_at_a_time=frozenset({"ListAccounts"}),
        )

    async def register_account(
        self, request: messages.RegisterAccountRequest, caller: Caller
    ) -> messages.RegisterAccountResponse:
        new = value_from(NewAccount, request, password=Plaintext(request.password))
        done = await self._register_account.register(caller, new)
        return messages.RegisterAccountResponse(
            account=account_of(done.value), revision=done.revision
        )

    async def log_in(
        self, request: messages.LogInRequest, caller: Caller
    ) -> messages.LogInResponse:
        done = await self._log_in.log_in(
            caller, request.keyspace, request.email, Plaintext(request.password)
        )
        return messages.LogInResponse(
            session_token=done.value.token.reveal(),
            session=session_of(done.value.session),
            account=account_of(done.value.account),
            revision=done.revision,
        )

    async def log_out(
        self, request: messages.LogOutRequest, caller: Caller
    ) -> messages.LogOutResponse:
        done = await self._log_out.log_out(
            caller,
            request.account_id,
            all_sessions=request.all_sessions,
            revoke_keys=request.revoke_keys,
        )
        return messages.LogOutResponse(revision=done.revision, revoked_key_count=done.value)

    async def get_account(
        self, request: messages.GetAccountRequest, caller: Caller
    ) -> messages.GetAccountResponse:
        account = await self._read_accounts.get(caller, request.account_id)
        return messages.GetAccountResponse(account=account_of(account))

    async def list_accounts(
        self, request: messages.ListAccountsRequest, caller: Caller
    ) -> messages.ListAccountsResponse:
        page = await self._read_accounts.list(caller, account_listing_from(request))
        answer = messages.ListAccountsResponse()
        answer.next_page_token = await add_fitting(page, account_of, answer.accounts)
        return answer

    async def update_account(
        self, request: messages.UpdateAccountRequest, caller: Caller
    ) -> messages.UpdateAccountResponse:
        done = await self._update_account.update(caller, account_update_from(request))
        return messages.UpdateAccountResponse(
            account=account_of(done.value.account),
            revision=done.revision,
            revoked_key_count=done.value.revoked_keys,
        )

    async def disable_account(
        self, request: messages.DisableAccountRequest, caller: Caller
    ) -> messages.DisableAccountResponse:
        done = await self._disable_account.disable(
            caller, request.account_id, comment=request.comment
        )
        return messages.DisableAccountResponse(
            account=account_of(done.value), revision=done.revision
        )

    async def enable_account(
        self, request: messages.EnableAccountRequest, caller: Caller
    ) -> messages.EnableAccountResponse:
        done = await self._disable_account.enable(
            caller, request.account_id, comment=request.comment
        )
        return messages.EnableAccountResponse(
            account=account_of(done.value), revision=done.revision
        )
