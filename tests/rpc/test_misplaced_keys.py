"""A key in a field that is not for one is neither kept nor said back."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from keyfence_server.domain.redaction import REDACTED
from support.serving import METHODS, PASSWORD, Refusal, Served

FOREIGN = "sk_live_51H8xkQp0Zr7TnV3mLwYbC2d"
"""A key of another system, in a form that no keyspace here declares."""

MISPLACED: list[tuple[str, dict[str, Any]]] = [
    ("GetKey", {"key_id": "{}"}),
    ("GetKeyUsage", {"key_id": "{}"}),
    ("RevokeKey", {"key_id": "{}"}),
    ("RotateKey", {"key_id": "{}"}),
    ("UpdateKey", {"key": {"key_id": "{}"}, "update_mask": {"paths": ["labels"]}}),
    ("UpdateKey", {"key": {"key_id": "key_1"}, "update_mask": {"paths": ["{}"]}}),
    ("ListKeys", {"keyspace": "{}"}),
    ("ListKeys", {"keyspace": "demo", "page_token": "{}"}),
    ("CreateKey", {"keyspace": "{}", "account_id": "a"}),
    ("CreateKey", {"keyspace": "demo", "account_id": "a", "scopes": ["{}"]}),
    ("CreateKey", {"keyspace": "demo", "account_id": "a", "preset": "{}"}),
    ("CreateKey", {"keyspace": "demo", "account_id": "a", "parent_key_id": "{}"}),
    ("CreateKey", {"keyspace": "demo", "account_id": "a", "allowed_addresses": ["{}"]}),
    ("CreateKey", {"keyspace": "demo", "account_id": "a", "labels": {" {}": "x"}}),
    ("CreateKey", {"keyspace": "system", "account_id": "a", "bound_keyspaces": ["{}"]}),
    ("GetKeyspace", {"name": "{}"}),
    ("ExplainScope", {"keyspace": "demo", "scope": "{}"}),
    ("ApplyKeyspace", {"keyspace": {"name": "{}"}}),
    ("ApplyKeyspace", {"keyspace": {"name": "other", "scopes": [{"name": "{}"}]}}),
    ("ApplyKeyspace", {"keyspace": {"name": "other", "format": {"template": "{}"}}}),
    ("GetAccount", {"account_id": "{}"}),
    ("DisableAccount", {"account_id": "{}"}),
    ("RegisterAccount", {"keyspace": "{}", "email": "a@example.com", "password": PASSWORD}),
    ("RegisterAccount", {"keyspace": "demo", "email": "{}", "password": PASSWORD}),
    ("LogIn", {"keyspace": "{}", "email": "a@example.com", "password": PASSWORD}),
    ("LogIn", {"keyspace": "demo", "email": "{}", "password": PASSWORD}),
    ("ListAuditEvents", {"page_token": "{}"}),
    ("Authenticate", {"api_key": "x", "keyspace": "{}"}),
    ("Authenticate", {"api_key": "x", "client_address": "{}"}),
    ("CheckScope", {"api_key": "x", "keyspace": "demo", "required_scopes": ["{}"]}),
]
KEPT: list[tuple[str, dict[str, Any]]] = [
    ("RevokeKey", {"comment": "leaked: {}."}),
    ("UpdateKey", {"update_mask": {"paths": ["display_name"]}, "key": {"display_name": "{}"}}),
    ("UpdateKey", {"update_mask": {"paths": ["labels"]}, "key": {"labels": {"was": "{}"}}}),
    ("UpdateKey", {"update_mask": {"paths": ["labels"]}, "key": {"labels": {"{}": "was"}}}),
    ("CreateKey", {"keyspace": "demo", "account_id": "{}"}),
    ("CreateKey", {"keyspace": "demo", "account_id": "a", "display_name": "{}"}),
    ("CreateKey", {"keyspace": "demo", "account_id": "a", "labels": {"was": "-{}-"}}),
    ("CreateKey", {"keyspace": "demo", "account_id": "a", "request_id": "{}"}),
    ("RotateKey", {"request_id": "{}"}),
    ("ApplyKeyspace", {"keyspace": {"name": "other", "description": "like {}"}}),
    ("RegisterAccount",
     {"keyspace": "demo", "email": "a@example.com", "password": PASSWORD, "display_name": "{}"}),
]  # fmt: skip


def filled(value: Any, text: str) -> Any:
    """The value with the text in place of every "{}"."""
    if isinstance(value, str):
        return value.replace("{}", text)
    if isinstance(value, dict):
        return {filled(name, text): filled(item, text) for name, item in value.items()}
    if isinstance(value, list):
        return [filled(item, text) for item in value]
    return value


def shown(refusal: Refusal) -> str:
    """Everything that the error says."""
    return f"{refusal.message} {refusal.metadata} {refusal.violations}"


@pytest.fixture
async def open_demo(served: Served) -> Served:
    await served.client.apply(accounts={"registration": "REGISTRATION_OPEN"})
    return served


async def test_no_error_says_a_key_back(open_demo: Served) -> None:
    """Neither a key of this server nor one of another system, in any field."""
    client = open_demo.client
    ours = (await client.make_key()).api_key
    for rpc, fields in MISPLACED:
        for secret in (ours, ours[:-3], client.root, FOREIGN):
            refusal = await client.refusal(rpc, **filled(fields, secret))
            assert secret[8:] not in shown(refusal), (rpc, fields)
            assert refusal.code is not grpc.StatusCode.INTERNAL


async def test_no_check_of_a_batch_says_a_key_back(served: Served) -> None:
    check = {"api_key": "x", "keyspace": "demo", "required_scopes": [FOREIGN]}
    answer = await served.client.call("BatchCheckScope", checks=[check])
    assert answer.results[0].error.reason == "UNKNOWN_SCOPE"
    assert FOREIGN[8:] not in str(answer)
    assert REDACTED in answer.results[0].error.message


async def test_what_is_kept_is_refused_with_a_key_in_it(open_demo: Served) -> None:
    """And the error says in which field it was."""
    client = open_demo.client
    made = await client.make_key()
    for rpc, fields in KEPT:
        for secret in (made.api_key, made.api_key[:-6], client.root):
            wanted = filled(fields, secret)
            if rpc in {"RevokeKey", "RotateKey"}:
                wanted["key_id"] = made.key.key_id
            if rpc == "UpdateKey":
                wanted["key"]["key_id"] = made.key.key_id
            refusal = await client.refusal(rpc, **wanted)
            assert refusal.reason == "INVALID_FIELD", rpc
            ((path, _),) = refusal.violations
            assert path.split(".")[-1] in str(fields)
            assert secret[8:] not in shown(refusal)


async def test_it_says_what_a_key_is_known_by(served: Served) -> None:
    made = await served.client.make_key()
    refusal = await served.client.refusal("RevokeKey", key_id=made.api_key)
    assert refusal.reason == "INVALID_FIELD"
    assert refusal.violations[0][0] == "key_id"
    assert "by its id, which begins with key_" in refusal.message


async def test_what_is_no_id_is_not_said_back(served: Served) -> None:
    for rpc, reason in (("GetKey", "KEY_NOT_FOUND"), ("GetAccount", "ACCOUNT_NOT_FOUND")):
        field = "key_id" if rpc == "GetKey" else "account_id"
        refusal = await served.client.refusal(rpc, **{field: "hunter2"})
        assert refusal.reason == reason
        assert "hunter2" not in shown(refusal)
    refusal = await served.client.refusal("GetKey", key_id="key_0")
    assert "key_0" in refusal.message
    assert refusal.metadata == {"key_id": "key_0"}


async def test_names_and_ids_stay_in_errors(served: Served) -> None:
    name = "customer-portal-production-eu1"
    refusal = await served.client.refusal("GetKeyspace", name=name)
    assert name in refusal.message
    made = await served.client.make_key(request_id="once")
    refusal = await served.client.refusal(
        "CreateKey", keyspace="demo", account_id="acct_1", request_id="once"
    )
    assert made.key.key_id in refusal.message


async def test_a_longer_word_with_the_prefix_of_a_key_is_no_key(served: Served) -> None:
    form = {"template": "kk_{body}", "body": {"alphabet": "base62", "length": 25}}
    await served.client.apply("short", format=form)
    made = await served.client.make_key("short", labels={"build": "kk_keepthisasitis"})
    await served.client.call("GetKey", key_id=made.key.key_id)
    for text in (made.api_key, f"it was {made.api_key}, no doubt"):
        refusal = await served.client.refusal("RevokeKey", key_id=made.key.key_id, comment=text)
        assert refusal.reason == "INVALID_FIELD"
    await served.client.call("RevokeKey", key_id=made.key.key_id, comment="k" * 60)


async def test_forms_of_keyspaces_out_of_reach_change_no_request(served: Served) -> None:
    """Else one keyspace's declaration would refuse the requests of another."""
    form = {"template": "acme_{body}", "body": {"alphabet": "hex", "length": 32}}
    await served.client.apply("evil", format=form)
    await served.client.apply("victim")
    victim = await served.client.make_operator("keys:write", bound=["victim"])
    account = "acme_" + "0123456789abcdef" * 2
    await served.client.call("CreateKey", credential=victim, keyspace="victim", account_id=account)
    refusal = await served.client.refusal("CreateKey", keyspace="victim", account_id=account)
    assert refusal.reason == "INVALID_FIELD"


async def test_pages_go_on_whatever_their_tokens_look_like(served: Served) -> None:
    form = {"template": "kfa_{body}", "body": {"alphabet": "base62", "length": 25}}
    await served.client.apply("short", format=form)
    for _ in range(3):
        await served.client.make_key("short")
    token = ""
    for _ in range(3):
        page = await served.client.call("ListKeys", keyspace="short", page_size=1, page_token=token)
        token = page.next_page_token
    assert not token


@pytest.mark.parametrize("template", ["key_{body}", "usr_{body}{checksum}", "srv_{body}"])
async def test_no_key_begins_like_an_id(served: Served, template: str) -> None:
    """It would be shown wherever ids are."""
    refusal = await served.client.refusal(
        "ApplyKeyspace",
        keyspace={
            "name": "other",
            "format": {"template": template, "body": {"alphabet": "base62", "length": 25}},
            "key_types": [{"name": "secret", "marker": "key"}],
        },
    )
    assert refusal.reason == "INVALID_KEYSPACE"
    assert "Keyfence's own ids begin with" in refusal.message


@pytest.mark.parametrize("template", ["acme-live-{body}", "acme_{body}"])
async def test_a_key_is_no_request_id(served: Served, template: str) -> None:
    """It is replaced, whatever its form."""
    form = {"template": template, "body": {"alphabet": "base62", "length": 25}}
    await served.client.apply("acme", format=form)
    made = await served.client.make_key("acme")
    sent = [("x-request-id", made.api_key)]
    refusal = await served.client.refusal("GetKey", key_id="key_0", metadata=sent)
    assert refusal.request_id not in ("", made.api_key)
    await served.client.call("RevokeKey", key_id=made.key.key_id, metadata=sent)
    events = (await served.client.call("ListAuditEvents", keyspace="acme")).events
    assert events
    assert made.api_key not in str(events)


@pytest.mark.parametrize(
    "request_id",
    [
        "5f1c0a4b5f1c0a4b5f1c0a4b5f1c0a4b",
        "123e4567-e89b-12d3-a456-426614174000",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "nightly-clean-up-20261127-retry-2",
    ],
)
async def test_an_id_of_a_usual_form_is_kept(served: Served, request_id: str) -> None:
    sent = [("x-request-id", request_id)]
    refusal = await served.client.refusal("GetKey", key_id="key_0", metadata=sent)
    assert refusal.request_id == request_id


def test_every_field_for_a_secret_is_marked_as_one() -> None:
    """Keys are kept out of all other fields, so an unmarked one would refuse what it is for."""
    unmarked = {
        f"{name}.{field.name}"
        for name, method in METHODS.items()
        for field in method.input_type.fields
        if field.name in {"api_key", "password", "new_password", "current_password"}
        and not field.GetOptions().debug_redact
    }
    assert not unmarked
