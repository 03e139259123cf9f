"""quicksrv's page, from its first command to its last, against the running application."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from products.pages import Command, Page
from products.running import Applications, Product

PAGE: Final = Page("quicksrv")

BY_BEARER, BY_HEADER, WHO_AM_I = PAGE.command(0), PAGE.command(1), PAGE.command(2)
PLACEHOLDER: Final = "qsk_live_xxxxxxxxxxxxxxxxxxxxxxxx"

UNAUTHORIZED: Final = {"error": {"code": "unauthorized", "message": "Unauthorized"}}


@pytest.fixture(scope="module")
def product(applications: Applications) -> Product:
    return applications.product("quicksrv")


def new_key(product: Product, *scopes: str, **fields: Any) -> dict[str, Any]:
    wanted = {"name": "integration", "scopes": scopes, **fields}
    made = product.panel("POST", "/panel/api-keys", wanted)
    assert made.status == 201, made.body
    data: dict[str, Any] = made.json()
    return data


@PAGE.says(
    "Send the key as a Bearer token:",
    "Alternatively, use the X-API-Key header:",
    "There are no separate client IDs or OAuth flows — a key fully identifies and authorises "
    "the request.",
    "Terminal window",
)
@pytest.mark.parametrize("command", [BY_BEARER, BY_HEADER], ids=["bearer", "header"])
def test_the_commands_list_instances(product: Product, command: Command) -> None:
    key = new_key(product, "vps:create")["key"]
    order = {"plan": "s", "name": "web"}
    made = product.call("POST", "/api/v1/instances", order, key=key)
    listed = product.run(command, {PLACEHOLDER: key})
    assert (made.status, listed.status) == (201, 200)
    assert listed.header("content-type") == "application/json"
    assert made.json()["instance"] in listed.json()["instances"]


@PAGE.says(
    "A missing, malformed, revoked or expired key returns 401 Unauthorized.",
    "• Keys can optionally be given an expiry.",
    "Expired keys are rejected with 401.",
    "• Revoke a key any time in Account → API keys.",
    "Revocation takes effect immediately.",
    "If you lose it, revoke the key and create a new one.",
    "• Use a separate key per integration so you can revoke one without disrupting others.",
)
def test_keys_that_are_not_good_get_401(product: Product) -> None:
    other = new_key(product, "vps:read")["key"]
    revoked = new_key(product, "vps:read")
    end = datetime.now(UTC) + timedelta(seconds=2)
    expired = new_key(product, "vps:read", expires_at=end.isoformat())
    for made in (revoked, expired):
        assert product.run(BY_BEARER, {PLACEHOLDER: made["key"]}).status == 200
    assert product.panel("DELETE", f"/panel/api-keys/{revoked['id']}").status == 204
    time.sleep(max(0, (end - datetime.now(UTC)).total_seconds()))
    for wrong in (revoked["key"], expired["key"], PLACEHOLDER, "x"):
        for command in (BY_BEARER, BY_HEADER):
            answer = product.run(command, {PLACEHOLDER: wrong})
            assert (answer.status, answer.json()) == (401, UNAUTHORIZED)
    missing = product.call("GET", BY_BEARER.path)
    assert (missing.status, missing.json()) == (401, UNAUTHORIZED)
    assert product.run(BY_BEARER, {PLACEHOLDER: other}).status == 200


@PAGE.says(
    "The quicksrv API authenticates with API keys that you generate in your panel.",
    "• Keys look like qsk_live_ followed by a random string.",
    "The plaintext is shown once, at creation.",
    "• Each key shows a short non-secret prefix (e.g. qsk_live_a1b2c3) in the panel so you can "
    "tell keys apart.",
)
def test_keys_are_made_in_the_panel_and_shown_once(product: Product) -> None:
    made = new_key(product, "vps:read")
    assert re.fullmatch(r"qsk_live_[0-9A-Za-z]{24}", made["key"])
    listed = product.panel("GET", "/panel/api-keys")
    (shown,) = [one for one in listed.json() if one["id"] == made["id"]]
    assert shown["prefix"] == made["key"][: len("qsk_live_a1b2c3")]
    assert made["key"].encode() not in listed.body
    for method in ("GET", "POST"):
        stranger = product.call(method, "/panel/api-keys", {"name": "x", "scopes": []})
        assert stranger.status == 401
    assert product.call("POST", "/panel/api-keys", {}, key=made["key"]).status in {400, 401}


@PAGE.says(
    "Keys are scoped.",
    "ScopeGrants",
    "vps:readList and inspect instances, status, metrics, plans, snapshots, etc.",
    "vps:writeLifecycle and management actions (start/stop/reinstall/resize/rDNS/…).",
    "vps:createDeploy new instances (charges your wallet).",
    "Scopes are hierarchical: vps:create implies vps:write, which implies vps:read.",
    "A key with only vps:read that calls a write endpoint receives 403 Forbidden with a message "
    "naming the missing scope.",
)
def test_scopes_are_hierarchical_and_a_403_names_the_missing_one(product: Product) -> None:
    ladder = ["vps:read", "vps:write", "vps:create"]
    owner = new_key(product, "vps:create")["key"]
    order = {"plan": "s", "name": "web"}
    made = product.call("POST", "/api/v1/instances", order, key=owner).json()["instance"]
    requests = [
        ("GET", "/api/v1/instances", None, 200),
        ("POST", f"/api/v1/instances/{made['id']}/stop", {}, 200),
        ("POST", "/api/v1/instances", order, 201),
    ]
    for held, scope in enumerate(ladder):
        key = new_key(product, scope)["key"]
        for asked, (method, path, body, status) in enumerate(requests):
            answer = product.call(method, path, body, key=key)
            if asked <= held:
                assert answer.status == status, (scope, path)
            else:
                message = f"Forbidden: the key lacks the scope {ladder[asked]}"
                assert answer.status == 403
                assert answer.json() == {"error": {"code": "forbidden", "message": message}}


@PAGE.says("Inspect a key’s effective identity and scopes with:")  # noqa: RUF001
def test_who_am_i(product: Product) -> None:
    made = new_key(product, "vps:write")
    answer = product.run(WHO_AM_I, {PLACEHOLDER: made["key"]})
    assert answer.status == 200
    assert answer.json() == {
        "account": "acct_demo",
        "key": {"id": made["id"], "name": "integration", "prefix": made["prefix"]},
        "scopes": ["vps:read", "vps:write"],
        "expires_at": None,
    }


def test_what_the_page_does_not_know_is_answered_in_its_style(product: Product) -> None:
    key = new_key(product, "vps:write")["key"]
    for path, method, status, code in (
        ("/api/v1/nowhere", "GET", 404, "not_found"),
        ("/api/v1/whoami", "POST", 405, "method_not_allowed"),
        ("/api/v1/instances/i-0/stop", "POST", 404, "not_found"),
    ):
        answer = product.call(method, path, key=key)
        assert (answer.status, answer.json()["error"]["code"]) == (status, code)


PAGE.shown_by(
    "systems/test_every_system.py::test_the_plaintext_is_shown_once_and_kept_nowhere",
    "• We store only a hash of your key.",
)
PAGE.promises_nothing(
    "Skip to content",
    "Authentication",
    "Pick the least privilege your integration needs:",
    "• Treat keys like passwords.",
    "Never commit them to source control or ship them in client-side code.",
    "• Prefer narrowly scoped keys (e.g. a monitoring job only needs vps:read).",
    "Next: Creating a VPS →",
)
