"""Sitequest's page, from its first command to its last, against the running application."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from products.pages import Page, assert_as_printed
from products.running import Applications, Product
from support.edge.http import Answer

PAGE: Final = Page("sitequest")

UNAUTHORIZED = PAGE.json(0)

REQUESTS: Final = {
    "vps:read": ("GET", "/v1/servers", None),
    "vps:write": ("POST", "/v1/servers/reboot", None),
    "vps:manage": ("POST", "/v1/servers", {"name": "web"}),
    "domains:read": ("GET", "/v1/domains", None),
    "domains:write": ("PUT", "/v1/domains", {"name": "example.com", "record": "A"}),
    "domains:manage": ("POST", "/v1/domains", {"name": "example.com"}),
}
LIMIT_HEADERS: Final = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


@pytest.fixture(scope="module")
def product(applications: Applications) -> Product:
    return applications.product("sitequest")


def new_key(product: Product, *scopes: str, **fields: Any) -> dict[str, Any]:
    wanted = {"name": "CI/CD", "scopes": scopes, **fields}
    made = product.panel("POST", "/dashboard/api-keys", wanted)
    assert made.status == 201, made.body
    data: dict[str, Any] = made.json()
    return data


def ask(product: Product, scope: str, key: str) -> Answer:
    method, path, body = REQUESTS[scope]
    return product.call(method, path, body, key=key)


@PAGE.says(
    "The Sitequest API uses Bearer token authentication with API keys.",
    "Include your key in every request via the Authorization header:",
    "Authorization: Bearer sq_live_xxxxx...",
    "API keys use the prefix sq_live_ followed by a 64-character hex string.",
)
def test_the_header_of_the_page_is_the_only_place_for_a_key(product: Product) -> None:
    key = new_key(product, "vps:read")["key"]
    assert re.fullmatch(r"sq_live_[0-9a-f]{64}", key)
    (line,) = [line for line in PAGE.text.splitlines() if line.startswith("Authorization: ")]
    name, _, value = line.replace("sq_live_xxxxx...", key).partition(": ")
    assert product.call("GET", "/v1/servers", headers=[(name, value)]).status == 200
    for elsewhere in (("X-API-Key", key), ("Cookie", f"session_token={key}")):
        assert product.call("GET", "/v1/servers", headers=[elsewhere]).status == 401


@PAGE.says(
    "Create API keys in your Dashboard under Settings > API / MCP.",
    "Each key can be configured with a name, expiry date, and specific permission scopes.",
    "- Rotate keys regularly and revoke unused ones.",
    "- Set an expiry date for keys used in CI/CD pipelines.",
    "Missing, invalid, revoked, or expired API key |",
    "| 401 | UNAUTHORIZED |",
    "Authentication errors return a JSON body:",
)
def test_missing_invalid_revoked_and_expired_keys_get_what_the_page_prints(
    product: Product,
) -> None:
    end = datetime.now(UTC) + timedelta(seconds=3)
    expiring = new_key(product, "vps:read", expiresAt=end.isoformat())
    assert expiring["expiresAt"] == end.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert expiring["name"] == "CI/CD"
    revoked = new_key(product, "vps:read")
    for key in (expiring["key"], revoked["key"]):
        assert ask(product, "vps:read", key).status == 200
    gone = product.panel("DELETE", f"/dashboard/api-keys/{revoked['id']}")
    assert gone.status == 204
    time.sleep(max(0, (end - datetime.now(UTC)).total_seconds()))
    for key in ("", "sq_live_x", revoked["key"], expiring["key"]):
        answer = ask(product, "vps:read", key)
        assert answer.status == UNAUTHORIZED["status"]
        assert_as_printed(answer.json(), UNAUTHORIZED, {})
        assert answer.header("content-type") == "application/json"


@PAGE.says(
    "Each API key is assigned one or more scopes that control what it can access.",
    *("| Scope | Description |", "|---|---|"),
    *("vps:read |", "List servers, view status and metrics |"),
    *("vps:write |", "Start, stop, reboot, reinstall, mount ISO, SSH execution |"),
    *("vps:manage |", "Create, upgrade, and delete servers |"),
    *("domains:read |", "List domains and view DNS records |"),
    *("domains:write |", "Edit DNS records and domain settings |"),
    *("domains:manage |", "Register, transfer, and delete domains |"),
    "When creating a key you can choose Full access (all scopes), Read only (vps:read + "
    "domains:read), or Custom (pick individual scopes).",
    *("| 403 | INSUFFICIENT_SCOPE |", "API key lacks the required scope(s) |"),
    "- Use the narrowest scopes possible.",
)
def test_a_key_may_what_its_scopes_allow(product: Product) -> None:
    chosen: list[tuple[dict[str, Any], set[str]]] = [
        (new_key(product, preset="full-access"), set(REQUESTS)),
        (new_key(product, preset="read-only"), {"vps:read", "domains:read"}),
        *((new_key(product, scope), {scope}) for scope in REQUESTS),
    ]
    for made, held in chosen:
        assert set(made["scopes"]) == held
        for scope in reversed(REQUESTS):
            answer = ask(product, scope, made["key"])
            if scope in held:
                assert answer.status in {200, 201, 404}
            else:
                expected = {
                    "error": "API key lacks the required scope(s)",
                    "code": "INSUFFICIENT_SCOPE",
                    "status": 403,
                }
                assert (answer.status, answer.json()) == (403, expected)
    reader = chosen[1][0]["key"]
    assert product.call("GET", "/v1/overview", key=reader).status == 200
    assert product.call("GET", "/v1/overview", key=chosen[2][0]["key"]).status == 403


@PAGE.says(
    "API requests are rate-limited to 60 requests per minute per API key.",
    "Every response includes rate limit headers:",
    "| Header | Description |",
    *("X-RateLimit-Limit |", "Maximum requests allowed per window |"),
    *("X-RateLimit-Remaining |", "Requests remaining in the current window |"),
    *("X-RateLimit-Reset |", "Unix timestamp when the window resets |"),
    "When the rate limit is exceeded the API returns 429 Too Many Requests.",
    *(
        "| Status | Code | Meaning |",
        "|---|---|---|",
        "| 429 | RATE_LIMITED |",
        "Too many requests |",
    ),
)
def test_sixty_requests_a_minute_for_each_key(product: Product) -> None:
    key, other = (new_key(product, "vps:read")["key"] for _ in range(2))
    before = product.authority.clock.timestamp()
    answers = [ask(product, "vps:read", key) for _ in range(61)]
    after = product.authority.clock.timestamp()
    assert [answer.status for answer in answers] == [200] * 60 + [429]
    for index, answer in enumerate(answers):
        limit, remaining, reset = (int(answer.header(name) or -1) for name in LIMIT_HEADERS)
        assert (limit, remaining) == (60, max(59 - index, 0))
        assert before <= reset <= after + 61
    limited = answers[-1]
    assert limited.json() == {"error": "Too many requests", "code": "RATE_LIMITED", "status": 429}
    assert 1 <= int(limited.header("Retry-After") or 0) <= 61
    lacking = ask(product, "vps:write", other)
    assert (lacking.status, lacking.header("X-RateLimit-Limit")) == (403, "60")
    assert ask(product, "vps:read", other).status == 200


def test_what_the_page_does_not_know_is_answered_in_its_style(product: Product) -> None:
    answer = product.call("GET", "/v1/nowhere", key=new_key(product, "vps:read")["key"])
    expected = {"error": "Not Found", "code": "NOT_FOUND", "status": 404}
    assert (answer.status, answer.json()) == (404, expected)
    stranger = product.call("GET", "/dashboard/api-keys")
    assert (stranger.status, stranger.json()["code"]) == (401, "UNAUTHORIZED")


PAGE.promises_nothing(
    "Authorization",
    "API Keys",
    "Scopes",
    "Use the principle of least privilege — only grant the scopes your integration needs.",
    "Rate Limiting",
    "Error Responses",
    "Security Tips",
    "- Never commit API keys to version control.",
)
