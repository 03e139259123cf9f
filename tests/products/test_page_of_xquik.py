"""Xquik's page, from its first command to its last, against the running application."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Final

import pytest

from products.pages import MILLISECONDS, Format, Page, assert_as_printed
from products.running import Applications, Product
from support.edge.http import Answer

PAGE: Final = Page("xquik")

CREATE = PAGE.command(0)
CREATE_BY_COOKIE = PAGE.command(1)
PRINTED = PAGE.json(0)

FORMATS: Final = {
    # The page's "42" is a unique identifier; this is Keyfence's.
    "id": Format(r"key_[0-9a-z]+", r"\d+"),
    "fullKey": Format(r"xq_[0-9A-Za-z]{32}", r"xq_\w+"),
    # "First 8 characters of the key including the xq_ prefix"; the example has 7.
    "prefix": Format(r"xq_[0-9A-Za-z]{5}", r"xq_[0-9a-z]{4}"),
    "createdAt": MILLISECONDS,
}


@pytest.fixture(scope="module")
def product(applications: Applications) -> Product:
    return applications.product("xquik")


@pytest.fixture(scope="module")
def session(product: Product) -> str:
    operator = product.authority.operator
    operator.register_account("xquik", "a@example.com", "correct horse battery")
    return operator.log_in("xquik", "a@example.com", "correct horse battery").session_token


def by_cookie(product: Product, session: str) -> Answer:
    return product.run(CREATE_BY_COOKIE, {"YOUR_SESSION_TOKEN": session})


@PAGE.says(
    "Headers",
    "Dashboard session cookie.",
    "Format: session_token=YOUR_SESSION_TOKEN.",
    "Response",
    "id",
    "Unique identifier for the API key.",
    "fullKey",
    "The complete API key including the xq_ prefix.",
    "prefix",
    'First 8 characters of the key including the xq_ prefix (e.g. "xq_a1b2").',
    "name",
    "Display name of the key.",
    "createdAt",
    "ISO 8601 creation timestamp.",
    "string",
)
def test_the_command_with_the_cookie_makes_a_key(product: Product, session: str) -> None:
    answer = by_cookie(product, session)
    assert answer.status == 201
    assert answer.header("content-type") == "application/json"
    made = answer.json()
    assert_as_printed(made, PRINTED, FORMATS)
    assert made["prefix"] == made["fullKey"][:8]
    assert made["name"] == json.loads(CREATE_BY_COOKIE.body)["name"] == PRINTED["name"]
    assert product.call("GET", "/api/v1/account", key=made["fullKey"]).status == 200


@PAGE.says(
    "POST",
    "/",
    "api-keys",
    "Create API key",
    "Body",
    "Display name for the key.",
    'Defaults to "Default" if omitted.',
)
def test_the_first_command_makes_a_key_with_a_credential_and_none_without(
    product: Product, session: str
) -> None:
    filled = {"<content-type>": "application/json", "<string>": "Mine"}
    assert product.run(CREATE, filled).status == 401
    asked = CREATE.filled(filled)
    body = json.loads(asked.body)
    made = product.call(asked.method, asked.path, body, key=session)
    assert (made.status, made.json()["name"]) == (201, "Mine")
    unnamed = product.call(asked.method, asked.path, {}, key=session)
    assert (unnamed.status, unnamed.json()["name"]) == (201, "Default")


@PAGE.says(
    "x-api-key",
    "API key for the same account.",
    "Use this instead of Cookie for automated key rotation.",
    "Authorization",
    "OAuth bearer token for the same account.",
    "Format: Bearer YOUR_TOKEN.",
    "Use a dashboard session cookie to create the first API key.",
    "Existing API keys and OAuth bearer tokens can create additional keys for the same account."
    "Related: List API Keys · Revoke API Key",
)
def test_all_three_credentials_make_keys_of_one_account(product: Product, session: str) -> None:
    first = by_cookie(product, session).json()
    second = product.call(
        "POST", "/api/v1/api-keys", {"name": "b"}, headers=[("x-api-key", first["fullKey"])]
    ).json()
    third = product.call("POST", "/api/v1/api-keys", {"name": "c"}, key=session).json()
    listed = product.call("GET", "/api/v1/api-keys", key=third["fullKey"]).json()
    assert {one["id"] for one in listed} >= {one["id"] for one in (first, second, third)}
    path = f"/api/v1/api-keys/{first['id']}"
    gone = product.call("DELETE", path, headers=[("x-api-key", second["fullKey"])])
    assert gone.status == 204
    assert product.call("GET", "/api/v1/account", key=first["fullKey"]).status == 401
    two = [("x-api-key", second["fullKey"])]
    assert product.call("POST", "/api/v1/api-keys", {}, two, key=session).status == 401


@PAGE.says("Content-Type", "required", "Must be application/json.")
def test_the_body_must_be_declared_to_be_json(product: Product, session: str) -> None:
    filled = CREATE_BY_COOKIE.filled({"YOUR_SESSION_TOKEN": session})
    headers = [one for one in filled.headers if one[0] != "Content-Type"]
    assert len(headers) == 1
    for more in ([], [("Content-Type", "text/plain")]):
        answer = product.call("POST", filled.path, None, [*headers, *more])
        assert answer.status == 400


@PAGE.says(
    "Store fullKey immediately and log only id and prefix.",
    "full_key=$(jq -r '.fullKey' <<<\"$response\")",
    "key_id=$(jq -r '.id' <<<\"$response\")",
    "key_prefix=$(jq -r '.prefix' <<<\"$response\")",
    "# Store $full_key in your secret manager; do not print it in logs.",
    'printf \'Created API key %s (%s)\\n\' "$key_id" "$key_prefix"',
)
def test_what_the_script_reads_from_the_answer_is_there(product: Product, session: str) -> None:
    made = by_cookie(product, session).json()
    script = [line for line in PAGE.text.splitlines() if line.startswith(("key_", "full_key"))]
    read = {line.partition("=")[0]: line.partition("'.")[2].partition("'")[0] for line in script}
    assert {name: made[field][:3] for name, field in read.items()} == {
        "full_key": "xq_",
        "key_id": "key",
        "key_prefix": "xq_",
    }
    (line,) = [line for line in PAGE.text.splitlines() if line.startswith("printf")]
    printed = subprocess.run(
        ["bash", "-c", line],
        env={"key_id": made["id"], "key_prefix": made["prefix"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed == f"Created API key {made['id']} ({made['prefix']})\n"


@PAGE.says(
    "The fullKey is returned only once.", "Store it securely.", "It cannot be retrieved again."
)
def test_the_key_is_in_one_answer(product: Product, session: str) -> None:
    made: dict[str, Any] = by_cookie(product, session).json()
    listed = product.call("GET", "/api/v1/api-keys", key=session)
    (again,) = [one for one in listed.json() if one["id"] == made["id"]]
    assert again == {name: value for name, value in made.items() if name != "fullKey"}
    assert made["fullKey"].encode() not in listed.body


PAGE.promises_nothing(
    "Skip to main content",
    "Documentation Index",
    "Fetch the complete documentation index at: https://docs.xquik.com/llms.txt",
    "Use this file to discover all available pages before exploring further.",
    # The product's own accounting.
    "Free - does not consume credits",
    "Last modified on May 17, 2026",
)
