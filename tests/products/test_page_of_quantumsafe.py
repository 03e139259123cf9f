"""QuantumSafe's page, from its first command to its last, against the running application."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import pytest

from products.pages import SECONDS, Format, Page, assert_as_printed
from products.running import Applications, Product
from support.edge.http import Answer

PAGE: Final = Page("quantumsafe")

REGISTER, REGISTERED = PAGE.json(0), PAGE.json(1)
LOG_IN, LOGGED_IN = PAGE.json(2), PAGE.json(3)
CREATE, CREATED = PAGE.json(4), PAGE.json(5)
LISTED = PAGE.json(6)
DELETE = PAGE.command(0)

USER: Final = Format(r"usr_[0-9a-z]+")
KEY: Final = Format(r"key_[0-9a-z]+")
NEW_KEY: Final = Format(r"qs_sec_live_sk_[0-9A-Za-z]{32}", r"qs_sec_live_sk_[0-9A-Za-z]+\.\.\.")


@dataclass
class Story:
    """The page's calls, made in the order in which they stand."""

    product: Product
    registered: Answer
    logged_in: Answer
    created: Answer
    second: Answer

    @property
    def session(self) -> str:
        return str(self.logged_in.json()["data"]["token"])

    @property
    def key(self) -> str:
        return str(self.created.json()["data"]["key"])


@pytest.fixture(scope="module")
def story(applications: Applications) -> Story:
    product = applications.product("quantumsafe")
    registered = product.call("POST", "/v1/auth/register", REGISTER)
    logged_in = product.call("POST", "/v1/auth/login", LOG_IN)
    session = logged_in.json()["data"]["token"]
    created = product.call("POST", "/v1/auth/api-keys", CREATE, key=session)
    scanner = {"name": "Frontend Scanner", "type": "publishable", "environment": "live"}
    key = created.json()["data"]["key"]
    second = product.call("POST", "/v1/auth/api-keys", scanner, key=key)
    return Story(product, registered, logged_in, created, second)


def time_of(text: str) -> datetime:
    return datetime.fromisoformat(text)


def refusal(answer: Answer) -> tuple[int, str]:
    assert_as_printed(
        answer.json()["meta"],
        REGISTERED["meta"],
        {"requestId": Format(r"req_\w+"), "timestamp": SECONDS},
    )
    return answer.status, answer.json()["error"]["code"]


def new_key(story: Story, **fields: str) -> dict[str, Any]:
    made = story.product.call("POST", "/v1/auth/api-keys", {**CREATE, **fields}, key=story.session)
    data: dict[str, Any] = made.json()["data"]
    return data


@PAGE.says(
    "POST /v1/auth/register",
    "Create a new QuantumSafe account.",
    "Authentication: None required",
    "Request",
    "Response 201 Created",
)
def test_register(story: Story) -> None:
    assert story.registered.status == 201
    assert_as_printed(
        story.registered.json(),
        REGISTERED,
        {
            "data.id": USER,
            "data.createdAt": SECONDS,
            "meta.requestId": Format(r"req_\w+"),
            "meta.timestamp": SECONDS,
        },
    )
    assert story.registered.header("content-type") == "application/json"


@PAGE.says(
    "FieldTypeRequiredDescription",
    "emailstringYesAccount email address",
    "passwordstringYesMinimum 12 characters",
    "namestringNoDisplay name",
)
def test_the_fields_of_a_registration(story: Story) -> None:
    whole = {"email": "b@example.com", "password": "twelve-chars"}
    for name in whole:
        without = {key: value for key, value in whole.items() if key != name}
        for wrong in (without, {**whole, name: 12}):
            answer = story.product.call("POST", "/v1/auth/register", wrong)
            assert refusal(answer) == (400, "INVALID_REQUEST")
            assert name in answer.json()["error"]["message"]
    short = story.product.call("POST", "/v1/auth/register", {**whole, "password": "elevenchars"})
    assert refusal(short) == (400, "INVALID_REQUEST")
    made = story.product.call("POST", "/v1/auth/register", whole)
    assert (made.status, made.json()["data"]["name"]) == (201, None)
    again = story.product.call("POST", "/v1/auth/register", whole)
    assert refusal(again) == (409, "ACCOUNT_EXISTS")


@PAGE.says("POST /v1/auth/login", "Authenticate and receive a session token.", "Response 200 OK")
def test_log_in(story: Story) -> None:
    assert story.logged_in.status == 200
    assert_as_printed(
        story.logged_in.json(),
        LOGGED_IN,
        {
            "data.token": Format(r"eyJhbGciOiJFZERTQSIs[\w.-]+", r"eyJhbGciOiJFZERTQSIs\.\.\."),
            "data.expiresAt": SECONDS,
            "data.user.id": USER,
        },
    )
    printed = time_of(LOGGED_IN["data"]["expiresAt"]) - time_of(REGISTERED["data"]["createdAt"])
    begun = time_of(story.registered.json()["data"]["createdAt"])
    lived = time_of(story.logged_in.json()["data"]["expiresAt"]) - begun
    assert printed <= lived < printed + timedelta(minutes=1)
    wrong = story.product.call("POST", "/v1/auth/login", {**LOG_IN, "password": "x" * 12})
    assert refusal(wrong) == (401, "AUTH_001")


@PAGE.says(
    "The session token is used for dashboard access.", "For API access, use API keys instead."
)
def test_a_session_is_not_for_the_api(story: Story) -> None:
    assert refusal(story.product.call("POST", "/v1/scan", key=story.session)) == (401, "AUTH_002")
    assert story.product.call("POST", "/v1/scan", key=story.key).status == 200


@PAGE.says(
    "POST /v1/auth/api-keys",
    "Create a new API key.",
    "Authentication: Bearer token (from login) or existing Secret API key",
)
def test_create_a_key(story: Story) -> None:
    assert story.created.status == 201
    formats = {"data.id": KEY, "data.createdAt": SECONDS, "data.key": NEW_KEY}
    assert_as_printed(story.created.json(), CREATED, formats)
    assert story.created.header("cache-control") == "no-store"
    assert story.second.status == 201
    assert refusal(story.product.call("POST", "/v1/auth/api-keys", CREATE)) == (401, "AUTH_002")
    operator = story.product.authority.root_key
    answer = story.product.call("POST", "/v1/auth/api-keys", CREATE, key=operator)
    assert refusal(answer) == (401, "AUTH_002")
    publishable = story.second.json()["data"]["key"]
    answer = story.product.call("POST", "/v1/auth/api-keys", CREATE, key=publishable)
    assert refusal(answer) == (403, "FORBIDDEN")


@PAGE.says(
    "FieldTypeRequiredValues",
    "namestringYesHuman-readable label",
    "typestringYespublishable or secret",
    "environmentstringYestest or live",
)
def test_the_fields_of_a_new_key(story: Story) -> None:
    for name in CREATE:
        for wrong in ({key: CREATE[key] for key in CREATE if key != name}, {**CREATE, name: 1}):
            answer = story.product.call("POST", "/v1/auth/api-keys", wrong, key=story.session)
            assert refusal(answer) == (400, "INVALID_REQUEST")
            assert answer.json()["error"]["message"].startswith(f"{name}:")
    for name in ("type", "environment"):
        wrong = {**CREATE, name: "other"}
        answer = story.product.call("POST", "/v1/auth/api-keys", wrong, key=story.session)
        assert refusal(answer) == (400, "INVALID_REQUEST")
        assert answer.json()["error"]["message"].startswith(f"{name}:")
    for kind, marks in (("secret", ("sec", "sk")), ("publishable", ("pub", "pk"))):
        for environment in ("test", "live"):
            made = new_key(story, type=kind, environment=environment)
            pattern = f"qs_{marks[0]}_{environment}_{marks[1]}_[0-9A-Za-z]{{32}}"
            assert re.fullmatch(pattern, made["key"])


@PAGE.says(
    "The full API key is only returned once at creation time.",
    "Store it securely.",
    "You cannot retrieve it again.",
    "GET /v1/auth/api-keys",
    "List all API keys for the authenticated account.",
    "Authentication: Bearer token or Secret API key",
    "The full key is never returned in list responses.",
    "Only the prefix is shown for identification.",
)
def test_list_keys(story: Story) -> None:
    first, second = story.created.json()["data"], story.second.json()["data"]
    for made in (first, second):
        assert story.product.call("POST", "/v1/scan", key=made["key"]).status == 200
        story.product.authority.key_once_used(made["id"], 1)
    by_session = story.product.call("GET", "/v1/auth/api-keys", key=story.session)
    by_key = story.product.call("GET", "/v1/auth/api-keys", key=story.key)
    assert (by_session.status, by_key.status) == (200, 200)
    formats: dict[str, Format] = {}
    for index, shown in enumerate(("qs_sec_live_sk_", "qs_pub_live_pk_")):
        formats |= {
            f"data[{index}].id": KEY,
            f"data[{index}].prefix": Format(rf"{shown}\w{{4}}\.\.\."),
            f"data[{index}].lastUsedAt": SECONDS,
            f"data[{index}].createdAt": SECONDS,
        }
    for answer in (by_session, by_key):
        listed = answer.json()
        assert {one["id"] for one in listed["data"]} >= {first["id"], second["id"]}
        assert_as_printed({**listed, "data": listed["data"][:2]}, LISTED, formats)
        for made in (first, second):
            assert made["key"].encode() not in answer.body
    prefixes = [one["prefix"] for one in by_key.json()["data"][:2]]
    assert prefixes == [f"{made['key'][:19]}..." for made in (first, second)]


def test_a_key_that_was_never_used_says_so(story: Story) -> None:
    made = new_key(story)
    listed = story.product.call("GET", "/v1/auth/api-keys", key=story.session).json()["data"]
    assert [one["lastUsedAt"] for one in listed if one["id"] == made["id"]] == [None]


@PAGE.says(
    "DELETE /v1/auth/api-keys/",
    "Delete (revoke) an API key.",
    "Takes effect immediately.",
    "Path Parameters",
    "ParameterTypeDescription",
    "idstringThe API key ID (e.g., key_def456)",
    "Response 204 No Content",
    "No response body.",
    "Key deletion is instant and irreversible.",
    "Any requests using the deleted key will immediately receive AUTH_002.",
)
def test_delete_a_key(story: Story) -> None:
    made = new_key(story)
    assert story.product.call("POST", "/v1/scan", key=made["key"]).status == 200
    deleted = story.product.run(
        DELETE, {"key_def456": made["id"], "qs_sec_live_sk_abc123...": story.key}
    )
    assert (deleted.status, deleted.body) == (204, b"")
    assert deleted.header("content-type") is None
    for method, path in (("POST", "/v1/scan"), ("GET", "/v1/auth/api-keys")):
        answer = story.product.call(method, path, key=made["key"])
        assert refusal(answer) == (401, "AUTH_002")
    listed = story.product.call("GET", "/v1/auth/api-keys", key=story.key).json()["data"]
    assert made["id"] not in {one["id"] for one in listed}
    by_session = story.product.call(
        "DELETE", f"/v1/auth/api-keys/{new_key(story)['id']}", key=story.session
    )
    assert by_session.status == 204
    unknown = story.product.call("DELETE", "/v1/auth/api-keys/key_none", key=story.session)
    assert refusal(unknown) == (404, "NOT_FOUND")


def test_what_the_page_does_not_know_is_answered_in_its_style(story: Story) -> None:
    assert refusal(story.product.call("GET", "/v1/nowhere")) == (404, "NOT_FOUND")
    assert refusal(story.product.call("GET", "/v1/scan")) == (405, "METHOD_NOT_ALLOWED")


PAGE.promises_nothing("Auth Endpoints", "Manage accounts and API keys.")
