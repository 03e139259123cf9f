"""Accounts and sessions over gRPC: who may do what with which credential, and who finds
out what."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from keyfence.v1 import account_service_pb2, keyspace_pb2, reason_pb2
from keyfence_server.adapters.files.secret_lines import parse_versioned_secrets
from keyfence_server.adapters.session_tokens import TYPE, SessionKeys
from support.clock import FrozenClock
from support.serving import METHODS, PASSWORD, Refusal, Served, start_for_test

OPEN = keyspace_pb2.Accounts(registration=keyspace_pb2.REGISTRATION_OPEN)


@pytest.fixture
async def served(serve: Any) -> Served:
    served: Served = await serve()
    await served.client.apply(accounts=OPEN)
    return served


async def log_in_refusal(served: Served, email: str, password: str, **more: Any) -> Refusal:
    return await served.client.refusal(
        "LogIn",
        keyspace="demo",
        email=email,
        password=password,
        credential=None,
        **more,
    )


class TestRegistration:
    async def test_any_caller_registers_where_registration_is_open(self, served: Served) -> None:
        account = await served.client.register("Anna@Example.com", display_name="Anna")
        assert account.account_id.startswith("usr_")
        assert (account.email, account.display_name) == ("Anna@Example.com", "Anna")
        assert account.state == account_service_pb2.ACCOUNT_STATE_ACTIVE

    async def test_operators_alone_register_where_it_is_closed(self, served: Served) -> None:
        await served.client.apply(accounts=keyspace_pb2.Accounts(default_plan="free"))
        wanted: dict[str, Any] = {
            "keyspace": "demo",
            "email": "a@example.com",
            "password": PASSWORD,
        }
        key = await served.client.make_key()
        for credential in (None, key.api_key):
            refusal = await served.client.refusal(
                "RegisterAccount", credential=credential, **wanted
            )
            assert refusal.reason == "REGISTRATION_CLOSED"
        lacking = await served.client.make_operator("accounts:read", "keys:write")
        refusal = await served.client.refusal("RegisterAccount", credential=lacking, **wanted)
        assert refusal.reason == "SCOPE_REQUIRED"
        await served.client.apply("other")
        elsewhere = await served.client.make_operator("accounts:write", bound=["other"])
        refusal = await served.client.refusal("RegisterAccount", credential=elsewhere, **wanted)
        assert refusal.reason == "KEYSPACE_NOT_BOUND"
        made = await served.client.call("RegisterAccount", **wanted)
        assert made.account.plan == "free"

    async def test_a_keyspace_without_accounts_is_none_to_strangers(self, served: Served) -> None:
        """They cannot find out which keyspaces there are."""
        await served.client.apply("without")
        refusals = []
        for rpc in ("RegisterAccount", "LogIn"):
            for name in ("without", "never-was"):
                refusal = await served.client.refusal(
                    rpc, keyspace=name, email="a@example.com", password=PASSWORD, credential=None
                )
                assert refusal.reason == "KEYSPACE_NOT_FOUND"
                refusals.append(refusal.message.replace(name, ""))
        assert len(set(refusals)) == 1

    async def test_what_the_product_decides_by_is_not_a_registrant_s_to_say(
        self, served: Served
    ) -> None:
        for field, value in (("plan", "enterprise"), ("labels", {"role": "admin"})):
            refusal = await served.client.refusal(
                "RegisterAccount",
                keyspace="demo",
                email="a@example.com",
                password=PASSWORD,
                credential=None,
                **{field: value},
            )
            assert [path for path, _ in refusal.violations] == [field]

    async def test_each_keyspace_has_its_own_accounts(self, served: Served) -> None:
        await served.client.apply("other", accounts=OPEN)
        here = await served.client.register()
        there = await served.client.register(keyspace="other")
        assert here.account_id != there.account_id
        token = await served.client.log_in(keyspace="other")
        refusal = await served.client.refusal(
            "GetAccount", account_id=here.account_id, credential=token
        )
        assert refusal.reason == "ACCOUNT_NOT_FOUND"


class TestSessions:
    async def test_a_session_manages_its_own_account_and_keys(self, served: Served) -> None:
        account = await served.client.register()
        token = await served.client.log_in("ANNA@example.com")
        me = (await served.client.call("WhoAmI", credential=token)).principal
        assert (me.account_id, me.keyspace) == (account.account_id, "demo")
        assert me.session_id.startswith("ses_")
        assert me.key_id == ""
        made = await served.client.call("CreateKey", scopes=["vps:write"], credential=token)
        assert made.key.account_id == account.account_id
        assert made.key.created_by_key_id == me.session_id
        listed = await served.client.call("ListKeys", credential=token)
        assert [key.key_id for key in listed.keys] == [made.key.key_id]
        rotated = await served.client.call("RotateKey", key_id=made.key.key_id, credential=token)
        await served.client.call("RevokeKey", key_id=rotated.key.key_id, credential=token)
        check = await served.client.call("Authenticate", api_key=rotated.api_key)
        assert check.reason == reason_pb2.REASON_KEY_REVOKED

    async def test_and_nothing_else(self, served: Served) -> None:
        """What is another account's is not there; what is an operator's is refused."""
        await served.client.register()
        other = await served.client.register("bert@example.com")
        theirs = await served.client.make_key(account=other.account_id)
        foreign = await served.client.make_key(account="an-operator-s-own-id")
        token = await served.client.log_in()
        for key_id in (theirs.key.key_id, foreign.key.key_id):
            for rpc in ("GetKey", "RotateKey", "RevokeKey"):
                refusal = await served.client.refusal(rpc, key_id=key_id, credential=token)
                assert refusal.reason == "KEY_NOT_FOUND"
        for rpc in ("GetAccount", "UpdateAccount", "LogOut"):
            which: dict[str, Any] = {"account_id": other.account_id}
            if rpc == "UpdateAccount":
                which = {
                    "account": account_service_pb2.Account(**which, display_name="x"),
                    "update_mask": FieldMask(paths=["display_name"]),
                }
            refusal = await served.client.refusal(rpc, credential=token, **which)
            assert refusal.reason == "ACCOUNT_NOT_FOUND"
        for rpc in ("DisableAccount", "EnableAccount", "ListAccounts", "GetKeyspace"):
            refusal = await served.client.refusal(rpc, credential=token)
            assert refusal.reason == "SCOPE_REQUIRED"
        refusal = await served.client.refusal(
            "CreateKey", account_id=other.account_id, credential=token
        )
        assert [path for path, _ in refusal.violations] == ["account_id"]

    async def test_a_session_is_not_a_key(self, served: Served) -> None:
        """A service that is handed one by mistake does not let it pass."""
        await served.client.register()
        token = await served.client.log_in()
        check = await served.client.call("CheckScope", api_key=token, required_scopes=["vps:read"])
        assert check.reason == reason_pb2.REASON_CREDENTIAL_MALFORMED

    async def test_log_out_ends_the_session_at_once_and_no_other(self, served: Served) -> None:
        await served.client.register()
        first, second = await served.client.log_in(), await served.client.log_in()
        await served.client.call("WhoAmI", credential=first)
        await served.client.call("LogOut", credential=first)
        refusal = await served.client.refusal("WhoAmI", credential=first)
        assert refusal.reason == "CREDENTIAL_REJECTED"
        await served.client.call("WhoAmI", credential=second)

    async def test_all_sessions_of_an_account_can_be_ended(self, served: Served) -> None:
        account = await served.client.register()
        await served.client.register("bert@example.com")
        bystander = await served.client.log_in("bert@example.com")
        for credential in ("its own", "an operator's"):
            tokens = [await served.client.log_in() for _ in range(2)]
            if credential == "its own":
                await served.client.call("LogOut", all_sessions=True, credential=tokens[0])
            else:
                await served.client.call("LogOut", account_id=account.account_id, all_sessions=True)
            for token in tokens:
                refusal = await served.client.refusal("WhoAmI", credential=token)
                assert refusal.reason == "CREDENTIAL_REJECTED"
        await served.client.call("WhoAmI", credential=bystander)

    async def test_an_operator_says_that_all_are_meant(self, served: Served) -> None:
        account = await served.client.register()
        refusal = await served.client.refusal("LogOut", account_id=account.account_id)
        assert [path for path, _ in refusal.violations] == ["all_sessions"]

    async def test_a_session_ends_by_time(self, serve: Any) -> None:
        clock = FrozenClock()
        served = await serve(clock=clock)
        lifetime = Duration(seconds=3600)
        accounts = keyspace_pb2.Accounts(
            registration=keyspace_pb2.REGISTRATION_OPEN, session_lifetime=lifetime
        )
        await served.client.apply(accounts=accounts)
        await served.client.register()
        token = await served.client.log_in()
        clock.advance(timedelta(seconds=3599))
        await served.client.call("WhoAmI", credential=token)
        clock.advance(timedelta(seconds=1))
        refusal = await served.client.refusal("WhoAmI", credential=token)
        assert refusal.reason == "CREDENTIAL_REJECTED"

    async def test_sessions_outlive_the_server(self, serve: Any, served: Served) -> None:
        await served.client.register()
        token = await served.client.log_in()
        await served.server.stop()
        again = await serve(data_dir=served.data_dir)
        await again.client.call("WhoAmI", credential=token)

    async def test_taking_accounts_away_stops_sessions_until_they_are_back(
        self, served: Served
    ) -> None:
        await served.client.register()
        token = await served.client.log_in()
        await served.client.apply()
        refusal = await served.client.refusal("WhoAmI", credential=token)
        assert refusal.reason == "CREDENTIAL_REJECTED"
        await served.client.apply(accounts=OPEN)
        await served.client.call("WhoAmI", credential=token)

    async def test_what_a_session_may_grant_is_declared(self, served: Served) -> None:
        accounts = keyspace_pb2.Accounts(
            registration=keyspace_pb2.REGISTRATION_OPEN, grantable_scopes=["vps:write"]
        )
        await served.client.apply(accounts=accounts)
        await served.client.register()
        token = await served.client.log_in()
        made = await served.client.call(
            "CreateKey", scopes=["vps:read", "vps:write"], credential=token
        )
        for scopes in (["vps:create"], ["vps:*"], ["*"]):
            refusal = await served.client.refusal("CreateKey", scopes=scopes, credential=token)
            assert refusal.reason == "EXCEEDS_MAKER"
            assert refusal.metadata == {"exceeds": "scopes"}
        # An operator may give more; a session cannot get at it by a new plaintext.
        account_id = made.key.account_id
        broader = await served.client.make_key(account=account_id, scopes=["*"])
        refusal = await served.client.refusal(
            "RotateKey", key_id=broader.key.key_id, credential=token
        )
        assert refusal.reason == "EXCEEDS_MAKER"
        await served.client.call("RevokeKey", key_id=broader.key.key_id, credential=token)

    async def test_a_key_does_not_manage_its_account(self, served: Served) -> None:
        account = await served.client.register()
        key = await served.client.make_key(account=account.account_id, scopes=["*"])
        for rpc in ("GetAccount", "UpdateAccount", "LogOut"):
            refusal = await served.client.refusal(rpc, credential=key.api_key)
            assert refusal.reason == "SESSION_REQUIRED"


@pytest.mark.asyncio(loop_scope="class")
class TestForgedTokens:
    """Threats: `alg: none`, a key of one algorithm used for another, an audience or a type that is
    not checked.

    One session is enough for all of them: no forgery changes anything.
    """

    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def served(cls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
        served = await start_for_test(tmp_path_factory.mktemp("forged") / "data")
        for keyspace in ("demo", "other"):
            await served.client.apply(keyspace, accounts=OPEN)
        yield served
        await served.client.channel.close()
        await served.server.stop()

    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def token(cls, served: Served) -> str:
        await served.client.register()
        token = await served.client.log_in()
        await served.client.call("WhoAmI", credential=token)
        return token

    async def assert_refused(self, served: Served, *tokens: str) -> None:
        for token in tokens:
            refusal = await served.client.refusal("WhoAmI", credential=token)
            assert refusal.reason == "CREDENTIAL_REJECTED"
            assert refusal.code is grpc.StatusCode.UNAUTHENTICATED

    @staticmethod
    def signing_keys(served: Served) -> SessionKeys:
        text = (served.data_dir / "session.key").read_text()
        return SessionKeys(parse_versioned_secrets(text))

    @staticmethod
    def claims(token: str) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        return claims

    def signed(self, served: Served, claims: dict[str, Any], **header: Any) -> str:
        """A token that is signed with the right key, whatever it says."""
        headers = {"typ": TYPE, "kid": "1", **header}
        return jwt.encode(claims, self.signing_keys(served).signing_key, "EdDSA", headers)

    async def test_a_token_is_what_it_should_be(self, served: Served, token: str) -> None:
        """So that the forgeries below differ in one thing each."""
        assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "typ": TYPE, "kid": "1"}
        assert self.signed(served, self.claims(token)) == token
        await served.client.call("WhoAmI", credential=self.signed(served, self.claims(token)))

    async def test_none_is_no_algorithm(self, served: Served, token: str) -> None:
        payload = token.split(".")[1]
        for name in ("none", "None", "NONE", ""):
            header = encoded({"alg": name, "typ": TYPE, "kid": "1"})
            signature = token.split(".")[2]
            await self.assert_refused(
                served, f"{header}.{payload}.", f"{header}.{payload}.{signature}"
            )

    async def test_the_public_key_is_no_shared_secret(self, served: Served, token: str) -> None:
        """HS/RS confusion: an attacker signs with the public key as if it were a secret."""
        public = self.signing_keys(served).verifying_keys["1"]
        payload = token.split(".")[1]
        header = encoded({"alg": "HS256", "typ": TYPE, "kid": "1"})
        for material in (
            public.public_bytes(Encoding.Raw, PublicFormat.Raw),
            public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        ):
            mac = hmac.new(material, f"{header}.{payload}".encode(), hashlib.sha256).digest()
            signature = base64.urlsafe_b64encode(mac).decode().rstrip("=")
            await self.assert_refused(served, f"{header}.{payload}.{signature}")

    async def test_another_s_signature_is_none(self, served: Served, token: str) -> None:
        other = SessionKeys({1: b"x" * 32}).signing_key
        claims = self.claims(token)
        headers = {"typ": TYPE, "kid": "1"}
        await self.assert_refused(served, jwt.encode(claims, other, "EdDSA", headers))

    async def test_the_key_s_version_must_be_known(self, served: Served, token: str) -> None:
        claims = self.claims(token)
        tokens = [self.signed(served, claims, kid=kid) for kid in ("2", "0", "", "../1")]
        await self.assert_refused(served, *tokens)

    async def test_a_token_of_another_type_is_none(self, served: Served, token: str) -> None:
        claims = self.claims(token)
        tokens = [self.signed(served, claims, typ=typ) for typ in ("JWT", "at+jwt", "")]
        await self.assert_refused(served, *tokens, self.signed(served, claims, crit=["exp"]))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"aud": "other"},
            {"iss": "other"},
            {"aud": "other", "iss": "other"},
            {"aud": ["demo", "other"]},
            {"aud": "system", "iss": "system"},
            {"sub": "usr_00000000000000000000000000"},
            {"jti": "ses_00000000000000000000000000"},
            {"exp": 4_102_444_800},
            {"scope": "*"},
        ],
        ids=str,
    )
    async def test_what_it_says_must_be_what_the_record_says(
        self, served: Served, token: str, wrong: dict[str, Any]
    ) -> None:
        """Even where the signature is good, as if the signing key had leaked into a tool that
        signs other things."""
        await self.assert_refused(served, self.signed(served, {**self.claims(token), **wrong}))

    @pytest.mark.parametrize("missing", ["iss", "aud", "sub", "jti", "iat", "exp"])
    async def test_nothing_may_be_left_out(self, served: Served, token: str, missing: str) -> None:
        claims = self.claims(token)
        del claims[missing]
        await self.assert_refused(served, self.signed(served, claims))

    async def test_a_token_is_not_repaired(self, served: Served, token: str) -> None:
        await self.assert_refused(
            served, token[:-4], token + "A" * 1000, token.replace(".", "..", 1), f"{token}.x"
        )


def encoded(value: object) -> str:
    """JSON in base64url, as a token's parts are."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


class TestDisabling:
    async def test_a_disabled_account_s_keys_and_sessions_stop_at_once(
        self, served: Served
    ) -> None:
        account = await served.client.register()
        bert = await served.client.register("bert@example.com")
        token = await served.client.log_in()
        bystander = await served.client.log_in("bert@example.com")
        secret = await served.client.call("CreateKey", scopes=["vps:write"], credential=token)
        child = await served.client.call(
            "CreateKey", parent_key_id=secret.key.key_id, credential=secret.api_key
        )
        others = await served.client.make_key(account=bert.account_id)
        for key in (secret, child, others):
            assert (await served.client.call("Authenticate", api_key=key.api_key)).authenticated
        disabled = await served.client.call("DisableAccount", account_id=account.account_id)
        assert disabled.account.state == account_service_pb2.ACCOUNT_STATE_DISABLED
        for key in (secret, child):
            verdict = await served.client.call("Authenticate", api_key=key.api_key)
            assert verdict.reason == reason_pb2.REASON_ACCOUNT_DISABLED
        for credential in (token, secret.api_key):
            refusal = await served.client.refusal("WhoAmI", credential=credential)
            assert refusal.reason == "CREDENTIAL_REJECTED"
        assert (await served.client.call("Authenticate", api_key=others.api_key)).authenticated
        await served.client.call("WhoAmI", credential=bystander)
        refusal = await log_in_refusal(served, account.email, PASSWORD)
        assert refusal.reason == "ACCOUNT_IS_DISABLED"
        refusal = await served.client.refusal(
            "CreateKey", keyspace="demo", account_id=account.account_id
        )
        assert refusal.reason == "ACCOUNT_IS_DISABLED"

    async def test_enabling_brings_the_keys_back_and_no_session(self, served: Served) -> None:
        account = await served.client.register()
        token = await served.client.log_in()
        key = await served.client.make_key(account=account.account_id)
        await served.client.call("DisableAccount", account_id=account.account_id)
        await served.client.call("DisableAccount", account_id=account.account_id)
        enabled = await served.client.call("EnableAccount", account_id=account.account_id)
        assert not enabled.account.HasField("disable_time")
        assert (await served.client.call("Authenticate", api_key=key.api_key)).authenticated
        refusal = await served.client.refusal("WhoAmI", credential=token)
        assert refusal.reason == "CREDENTIAL_REJECTED"
        await served.client.log_in()

    async def test_a_namesake_in_another_keyspace_works_on(self, served: Served) -> None:
        """An operator may use any text as an account's id, that of another keyspace's
        registered account too."""
        account = await served.client.register()
        await served.client.apply("other")
        namesake = await served.client.make_key("other", account=account.account_id)
        await served.client.call("DisableAccount", account_id=account.account_id)
        check = await served.client.call("Authenticate", api_key=namesake.api_key)
        assert check.authenticated


class TestUpdates:
    async def change(self, served: Served, *paths: str, **arguments: Any) -> Any:
        arguments.setdefault("update_mask", FieldMask(paths=paths))
        return await served.client.call("UpdateAccount", **arguments)

    async def test_an_owner_changes_name_address_and_password(self, served: Served) -> None:
        await served.client.register()
        token = await served.client.log_in()
        other = await served.client.log_in()
        wanted = account_service_pb2.Account(display_name="Anna B", email="b@example.com")
        changed = await self.change(
            served,
            "display_name",
            "email",
            account=wanted,
            new_password="another good one",
            current_password=PASSWORD,
            credential=token,
        )
        assert (changed.account.display_name, changed.account.email) == ("Anna B", "b@example.com")
        await served.client.call("WhoAmI", credential=token)
        refusal = await served.client.refusal("WhoAmI", credential=other)
        assert refusal.reason == "CREDENTIAL_REJECTED"
        for email, password in (
            ("anna@example.com", PASSWORD),
            ("anna@example.com", "another good one"),
            ("b@example.com", PASSWORD),
        ):
            assert (await log_in_refusal(served, email, password)).reason == "LOG_IN_FAILED"
        await served.client.log_in("b@example.com", password="another good one")

    @pytest.mark.parametrize("current", ["", "wrong"])
    async def test_a_stolen_session_is_not_the_account(self, served: Served, current: str) -> None:
        await served.client.register()
        token = await served.client.log_in()
        for arguments in (
            {"new_password": "another good one"},
            {
                "account": account_service_pb2.Account(email="thief@example.com"),
                "update_mask": FieldMask(paths=["email"]),
            },
        ):
            refusal = await served.client.refusal(
                "UpdateAccount", current_password=current, credential=token, **arguments
            )
            assert refusal.reason == "PASSWORD_REJECTED"
        await served.client.log_in()

    async def test_plan_and_labels_are_an_operator_s(self, served: Served) -> None:
        account = await served.client.register()
        token = await served.client.log_in()
        wanted: list[tuple[str, Any]] = [
            ("plan", "pro"),
            ("labels", {"role": "admin"}),
            ("state", 2),
        ]
        for field, value in wanted:
            record = account_service_pb2.Account(account_id=account.account_id, **{field: value})
            refusal = await served.client.refusal(
                "UpdateAccount",
                account=record,
                update_mask=FieldMask(paths=[field]),
                credential=token,
            )
            assert refusal.reason == "INVALID_FIELD"
        record = account_service_pb2.Account(
            account_id=account.account_id, plan="pro", labels={"tier": "1"}
        )
        changed = await self.change(served, "plan", "labels", account=record)
        assert (changed.account.plan, dict(changed.account.labels)) == ("pro", {"tier": "1"})

    async def test_an_operator_sets_a_forgotten_password(self, served: Served) -> None:
        account = await served.client.register()
        token = await served.client.log_in()
        record = account_service_pb2.Account(account_id=account.account_id)
        await served.client.call("UpdateAccount", account=record, new_password="set by support")
        refusal = await served.client.refusal("WhoAmI", credential=token)
        assert refusal.reason == "CREDENTIAL_REJECTED"
        await served.client.log_in(password="set by support")

    async def test_an_address_that_is_taken_stays_with_its_owner(self, served: Served) -> None:
        await served.client.register()
        bert = await served.client.register("bert@example.com")
        record = account_service_pb2.Account(account_id=bert.account_id, email="ANNA@example.com")
        refusal = await served.client.refusal(
            "UpdateAccount", account=record, update_mask=FieldMask(paths=["email"])
        )
        assert refusal.reason == "EMAIL_TAKEN"

    async def test_an_update_for_another_revision_is_refused(self, served: Served) -> None:
        account = await served.client.register()
        record = account_service_pb2.Account(account_id=account.account_id, plan="pro")
        refusal = await served.client.refusal(
            "UpdateAccount",
            account=record,
            update_mask=FieldMask(paths=["plan"]),
            if_revision=account.revision + 1,
        )
        assert refusal.reason == "REVISION_CHANGED"

    async def test_an_update_whose_answer_was_lost_can_be_made_again(self, served: Served) -> None:
        account = await served.client.register()
        update: dict[str, Any] = {
            "account": account_service_pb2.Account(account_id=account.account_id, plan="pro"),
            "update_mask": FieldMask(paths=["plan"]),
            "if_revision": account.revision,
        }
        first = await served.client.call("UpdateAccount", **update)
        assert await served.client.call("UpdateAccount", **update) == first


class TestListing:
    async def test_operators_list_accounts_in_pages_and_by_address(self, served: Served) -> None:
        made = [await served.client.register(f"a{n}@example.com") for n in range(5)]
        await served.client.call("DisableAccount", account_id=made[1].account_id)
        found, token = [], ""
        while True:
            page = await served.client.call(
                "ListAccounts", keyspace="demo", page_size=2, page_token=token
            )
            found += [account.account_id for account in page.accounts]
            token = page.next_page_token
            if not token:
                break
        assert found == [account.account_id for account in made]
        one = await served.client.call("ListAccounts", keyspace="demo", email="A3@example.com")
        assert [account.email for account in one.accounts] == ["a3@example.com"]
        disabled = await served.client.call(
            "ListAccounts", keyspace="demo", state=account_service_pb2.ACCOUNT_STATE_DISABLED
        )
        assert [account.account_id for account in disabled.accounts] == [made[1].account_id]

    async def test_only_those_of_keyspaces_that_they_are_bound_to(self, served: Served) -> None:
        account = await served.client.register()
        await served.client.apply("other")
        elsewhere = await served.client.make_operator("accounts:write", bound=["other"])
        refusal = await served.client.refusal("ListAccounts", keyspace="demo", credential=elsewhere)
        assert refusal.reason == "KEYSPACE_NOT_BOUND"
        for rpc in ("GetAccount", "DisableAccount", "LogOut"):
            refusal = await served.client.refusal(
                rpc, account_id=account.account_id, credential=elsewhere
            )
            assert refusal.reason == "ACCOUNT_NOT_FOUND"


class TestThrottling:
    async def test_wrong_passwords_are_throttled_and_say_when_to_come_back(
        self, serve: Any
    ) -> None:
        clock = FrozenClock()
        served = await serve(clock=clock, trusted_proxies="127.0.0.1")
        await served.client.apply(accounts=OPEN)
        await served.client.register()
        here = [("x-forwarded-for", "192.0.2.1")]
        for _ in range(10):
            refusal = await log_in_refusal(served, "anna@example.com", "wrong", metadata=here)
            assert refusal.reason == "LOG_IN_FAILED"
        refusal = await log_in_refusal(served, "anna@example.com", PASSWORD, metadata=here)
        assert refusal.reason == "TOO_MANY_ATTEMPTS"
        clock.advance(timedelta(seconds=int(refusal.metadata["retry_after_seconds"])))
        await served.client.log_in(metadata=here)

    async def test_no_client_locks_an_owner_out(self, serve: Any) -> None:
        """A client that fails from another address uses up the attempts of that address."""
        served = await serve(trusted_proxies="127.0.0.1")
        await served.client.apply(accounts=OPEN)
        await served.client.register()
        attackers = [[("x-forwarded-for", f"198.51.100.{n}")] for n in range(3)]
        for attacker in attackers:
            for _ in range(11):
                refusal = await log_in_refusal(
                    served, "anna@example.com", "wrong", metadata=attacker
                )
            assert refusal.reason == "TOO_MANY_ATTEMPTS"
        await served.client.log_in(metadata=[("x-forwarded-for", "192.0.2.1")])

    async def test_no_client_locks_an_owner_out_where_no_address_is_known(
        self, served: Served, log: io.StringIO
    ) -> None:
        """The test's own connection is loopback, which tells nothing of whose it is."""
        await served.client.register()
        for _ in range(11):
            refusal = await log_in_refusal(served, "anna@example.com", "wrong")
            assert refusal.reason == "LOG_IN_FAILED"
        await served.client.log_in()
        assert log.getvalue().count("log_ins_not_throttled") == 1

    async def test_an_untrusted_peer_cannot_claim_another_address(self, served: Served) -> None:
        for n in range(20):
            made_up = [("x-forwarded-for", f"198.51.100.{n}")]
            await served.client.register(f"a{n}@example.com", metadata=made_up)
        refusal = await served.client.refusal(
            "RegisterAccount",
            keyspace="demo",
            email="b@example.com",
            password=PASSWORD,
            credential=None,
            metadata=[("x-forwarded-for", "192.0.2.1")],
        )
        assert refusal.reason == "TOO_MANY_ATTEMPTS"

    async def test_an_account_that_is_not_there_is_throttled_alike(self, serve: Any) -> None:
        served = await serve(trusted_proxies="127.0.0.1")
        await served.client.apply(accounts=OPEN)
        here = [("x-forwarded-for", "192.0.2.1")]
        for _ in range(11):
            refusal = await log_in_refusal(served, "nobody@example.com", "wrong", metadata=here)
        assert refusal.reason == "TOO_MANY_ATTEMPTS"

    async def test_an_account_finds_out_no_more_addresses_than_a_stranger(
        self, served: Served
    ) -> None:
        """By changing its own address: taken and free ones count alike, and together with
        what is registered from where it is."""
        await served.client.register()
        await served.client.register("bert@example.com")
        token = await served.client.log_in("bert@example.com")

        async def change(email: str, password: str = PASSWORD) -> str:
            try:
                await served.client.call(
                    "UpdateAccount",
                    account=account_service_pb2.Account(email=email),
                    update_mask=FieldMask(paths=["email"]),
                    current_password=password,
                    credential=token,
                )
            except grpc.aio.AioRpcError as error:
                return Refusal.of(error).reason
            return "OK"

        outcomes = []
        for n in range(15):
            outcomes.append(await change("anna@example.com"))
            outcomes.append(await change(f"free{n}@example.com"))
        assert outcomes == ["EMAIL_TAKEN", "OK"] * 9 + ["TOO_MANY_ATTEMPTS"] * 12
        assert await change("c@example.com", "wrong") == "PASSWORD_REJECTED"
        refusal = await served.client.refusal(
            "RegisterAccount",
            keyspace="demo",
            email="c@example.com",
            password=PASSWORD,
            credential=None,
        )
        assert refusal.reason == "TOO_MANY_ATTEMPTS"
        account = (await served.client.call("GetAccount", credential=token)).account
        await served.client.call(
            "UpdateAccount",
            account=account_service_pb2.Account(
                account_id=account.account_id, email="by-an-operator@example.com"
            ),
            update_mask=FieldMask(paths=["email"]),
        )

    async def test_checks_go_on_while_log_ins_flood(self, serve: Any) -> None:
        """More at once than the server takes: some are told so, and checks do not wait."""
        served = await serve(password_memory_mib=32, password_passes=1)
        await served.client.apply(accounts=OPEN)
        key = await served.client.make_key()
        flood = [
            asyncio.ensure_future(
                # Passwords are hashed at a low priority, which on a busy machine takes long.
                log_in_refusal(served, f"a{n}@example.com", "x" * 12, deadline_seconds=240)
            )
            for n in range(40)
        ]
        answered = 0
        while not all(one.done() for one in flood):
            await served.client.call("Authenticate", api_key=key.api_key, deadline_seconds=60)
            answered += 1
        reasons = {one.result().reason for one in flood}
        assert answered > len(flood)
        assert "LIMIT_REACHED" in reasons
        assert reasons <= {"LIMIT_REACHED", "LOG_IN_FAILED"}


class TestSecrecy:
    async def test_an_unknown_address_and_a_wrong_password_have_one_answer(
        self, served: Served
    ) -> None:
        await served.client.register()
        unknown = await log_in_refusal(served, "nobody@example.com", "wrong")
        wrong = await log_in_refusal(served, "anna@example.com", "wrong")
        assert (unknown.reason, unknown.message, unknown.metadata) == (
            wrong.reason,
            wrong.message,
            wrong.metadata,
        )

    async def test_no_secret_is_written_anywhere(
        self, serve: Any, log: io.StringIO, tmp_path: Path
    ) -> None:
        """Passwords and tokens, right and wrong, in the log, in the audit log, in the files."""
        served = await serve()
        await served.client.apply(accounts=OPEN)
        secrets = ["canary-password-1", "canary-password-2", "canary-password-3"]
        await served.client.register(password=secrets[0])
        await log_in_refusal(served, "anna@example.com", secrets[1])
        await log_in_refusal(served, "nobody@example.com", secrets[1])
        token = await served.client.log_in(password=secrets[0])
        await served.client.call(
            "UpdateAccount",
            new_password=secrets[2],
            current_password=secrets[0],
            credential=token,
        )
        await served.client.call("Authenticate", api_key=token)
        await served.client.call("LogOut", credential=token)
        await served.client.refusal("WhoAmI", credential=token)
        events = await served.client.call("ListAuditEvents", keyspace="demo")
        await served.server.stop()
        sinks = log.getvalue() + str(events)
        for path in served.data_dir.iterdir():
            if path.is_file():
                sinks += path.read_bytes().decode("latin-1")
        for secret in (*secrets, token, token.split(".")[2]):
            assert secret not in sinks

    def test_requests_and_responses_hide_them_in_debug_output(self) -> None:
        for name, field in (
            ("RegisterAccount", "password"),
            ("LogIn", "password"),
            ("UpdateAccount", "new_password"),
            ("UpdateAccount", "current_password"),
        ):
            found = METHODS[name].input_type.fields_by_name[field]
            assert found.GetOptions().debug_redact
        token = METHODS["LogIn"].output_type.fields_by_name["session_token"]
        assert token.GetOptions().debug_redact

    async def test_failed_log_ins_are_in_the_audit_log_put_together(
        self, serve: Any, served: Served
    ) -> None:
        account = await served.client.register()
        for _ in range(3):
            await log_in_refusal(served, account.email, "wrong")
        await log_in_refusal(served, "canary@example.com", "wrong")
        await served.server.stop()
        again = await serve(data_dir=served.data_dir)
        page = await again.client.call("ListAuditEvents", action_prefix="account.log_in_denied")
        assert {event.account_id: event.details["count"] for event in page.events} == {
            account.account_id: 3,
            "": 1,
        }
        assert "canary" not in str(page)

    async def test_sessions_that_do_not_pass_are_in_the_audit_log_put_together(
        self, serve: Any
    ) -> None:
        """Of a made-up token nothing is known, whatever it says of itself."""
        clock = FrozenClock()
        served = await serve(clock=clock)
        await served.client.apply(accounts=OPEN)
        account = await served.client.register()
        ended, expiring = await served.client.log_in(), await served.client.log_in()
        header, claims, _ = ended.split(".")
        await served.client.call("LogOut", credential=ended)
        for _ in range(3):
            await served.client.refusal("WhoAmI", credential=ended)
            await served.client.refusal("WhoAmI", credential=f"{header}.{claims}.{'A' * 86}")
        clock.advance(timedelta(days=2))
        await served.client.refusal("WhoAmI", credential=expiring)
        await served.server.stop()
        again = await serve(data_dir=served.data_dir, clock=clock)
        page = await again.client.call("ListAuditEvents", action_prefix="check.denied")
        told = [
            (one.details["reason"], one.keyspace, one.account_id, one.details["count"])
            for one in page.events
        ]
        assert told == [
            ("KEY_REVOKED", "demo", account.account_id, 3),
            ("KEY_UNKNOWN", "system", "", 3),
            ("KEY_EXPIRED", "demo", account.account_id, 1),
        ]
        subjects = [one.subject for one in page.events]
        assert [bool(one) for one in subjects] == [True, False, True]
        assert subjects[0] != subjects[2]
        assert all(one.details["address"] == "127.0.0.1" for one in page.events)

    async def test_what_was_done_is_in_the_audit_log(self, served: Served) -> None:
        account = await served.client.register()
        token = await served.client.log_in()
        me = (await served.client.call("WhoAmI", credential=token)).principal
        await served.client.call("LogOut", credential=token)
        await served.client.call("DisableAccount", account_id=account.account_id, comment="spam")
        await served.client.call("EnableAccount", account_id=account.account_id)
        page = await served.client.call("ListAuditEvents", account_id=account.account_id)
        events = {event.action: event for event in page.events}
        assert set(events) == {
            "account.register",
            "account.log_in",
            "account.log_out",
            "account.disable",
            "account.enable",
        }
        assert events["account.log_in"].subject == me.session_id
        assert events["account.log_out"].actor_id == me.session_id
        assert events["account.register"].actor_id == ""
        assert "anna@example.com" not in str(page)
