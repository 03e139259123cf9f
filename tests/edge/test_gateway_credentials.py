"""Where the gateway takes a credential from, and when it takes none."""

from __future__ import annotations

import pytest

from support.edge.authority import Authority
from support.edge.gateway import Gateway
from support.edge.http import Headers, bearer

CREATE = {"displayName": "From a page"}
JSON = b'{"displayName": "From a page"}'
FOREIGN = "https://evil.example.com"


@pytest.fixture
def other_key(authority: Authority) -> str:
    """Another good key of the same keyspace."""
    return authority.make_key("xquik")


@pytest.fixture
def cookie(account_key: str) -> tuple[str, str]:
    """What a browser with a session sends along."""
    return ("Cookie", f"theme=dark; session_token={account_key}")


def test_the_scheme_is_bearer_in_any_case_as_at_the_edge(
    gateway: Gateway, account_key: str
) -> None:
    for scheme in ("Bearer ", "bearer ", "BEARER   "):
        headers = [("Authorization", scheme + account_key)]
        assert gateway.send("GET", "/v1/whoami", headers).status == 200, scheme


def test_two_credentials_are_refused(gateway: Gateway, account_key: str, other_key: str) -> None:
    """If one of them were picked, something in between could have picked the other."""
    for one, two in ((account_key, other_key), (other_key, account_key), (account_key,) * 2):
        for headers in (
            [bearer(one), bearer(two)],
            [bearer(one), ("X-API-Key", two)],
            [bearer(one), ("Cookie", f"session_token={two}")],
            [("X-API-Key", one), ("X-API-Key", two)],
            [("X-API-Key", f"{one},{two}")],
            [("X-API-Key", one), ("Cookie", f"a=b; session_token={two}")],
            [("Cookie", f"session_token={one}; session_token={two}")],
            [("Cookie", f"session_token={one};a=b;session_token = {two}")],
            [("Cookie", f"session_token={one}"), ("Cookie", f"session_token={two}")],
            [("Cookie", f"session_token={one}"), ("Cookie", f"a=b; session_token={two}")],
            [("Authorization", f"Bearer {one}, Bearer {two}")],
        ):
            answer = gateway.send("GET", "/v1/whoami", headers)
            assert answer.status == 400, headers
            assert answer.json()["message"] == "send one credential"


def test_other_cookies_are_no_credentials(gateway: Gateway, cookie: tuple[str, str]) -> None:
    for value in (f"{cookie[1]}; a=b", f"my_session_token=x; {cookie[1]}; session_tokens=y"):
        assert gateway.send("GET", "/v1/whoami", [("Cookie", value)]).status == 200, value
    assert gateway.send("GET", "/v1/whoami", [("Cookie", "session_token=")]).status == 401
    assert gateway.send("GET", "/v1/whoami", [("Cookie", "session_tokens=a")]).status == 401


def test_a_page_of_another_origin_cannot_act_with_a_users_cookie(
    gateway: Gateway, cookie: tuple[str, str]
) -> None:
    """Browsers send cookies along with requests that pages of other origins make. Each of
    these is something that a browser would send for such a page."""
    form = ("Content-Type", "application/x-www-form-urlencoded")
    plain = ("Content-Type", "text/plain;charset=UTF-8")
    json_too = ("Content-Type", "application/json")
    referer = ("Referer", f"{FOREIGN}/page")
    for headers in (
        [json_too, ("Origin", FOREIGN)],
        [json_too, ("Origin", f"http://127.0.0.1.example.com:{gateway.port}")],
        [json_too, ("Origin", f"http://127.0.0.1:{gateway.port + 1}")],
        # A sandboxed frame, or a page that keeps its address to itself.
        [json_too, ("Origin", "null")],
        [plain, ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")],
        [plain, referer],
        [json_too, referer],
        [json_too, ("Sec-Fetch-Site", "cross-site")],
        [json_too, ("Sec-Fetch-Site", "same-site")],
        [json_too, ("Sec-Fetch-Site", "none")],
        # A form out of a browser so old that it says nothing.
        [form],
        [plain],
        [("Content-Type", "multipart/form-data; boundary=a")],
        [("Content-Type", "text/plain; application/json")],
        [],
    ):
        answer = gateway.send("POST", "/v1/keys", [cookie, *headers], JSON)
        assert answer.status == 403, headers
    for method in ("PATCH", "DELETE", "PUT"):
        answer = gateway.send(method, "/v1/keys/key_x", [cookie, ("Origin", FOREIGN)])
        assert answer.status == 403, method


def test_a_page_of_the_own_origin_can(gateway: Gateway, cookie: tuple[str, str]) -> None:
    own = f"http://127.0.0.1:{gateway.port}"
    for headers in ([("Origin", own)], [("Referer", f"{own}/page")]):
        marked = [cookie, *headers, ("Sec-Fetch-Site", "same-origin")]
        assert gateway.call("POST", "/v1/keys", CREATE, headers=marked).status == 200, headers
    assert gateway.send("GET", "/v1/whoami", [cookie, ("Origin", FOREIGN)]).status == 200


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_a_cookie_works_without_a_browser(
    gateway: Gateway, authority: Authority, cookie: tuple[str, str], method: str
) -> None:
    """Scripts send what a page documents for them: no browser, no origin."""
    key_id = authority.key_id_of(authority.make_key("xquik"), "xquik")
    bodies = {
        "POST": ("/v1/keys", CREATE),
        "PATCH": (f"/v1/keys/{key_id}", {"key": CREATE, "updateMask": "displayName"}),
        "DELETE": (f"/v1/keys/{key_id}", None),
    }
    path, body = bodies[method]

    answer = gateway.call(method, path, body, headers=[cookie])

    assert answer.status == 200, answer.body


def test_the_command_of_xquiks_page_makes_a_key(gateway: Gateway, authority: Authority) -> None:
    """What curl sends for it, with a session as the page has it; but for the names of paths
    and fields, which are Keyfence's."""
    account = {"keyspace": "xquik", "email": "e@example.com", "password": "correct horse e"}
    gateway.call("POST", "/v1/accounts:register", account, token=authority.root_key)
    session = gateway.call("POST", "/v1/accounts:logIn", account).json()["sessionToken"]
    headers = [
        ("User-Agent", "curl/8.14.1"),
        ("Accept", "*/*"),
        ("Cookie", f"session_token={session}"),
        ("Content-Type", "application/json"),
    ]

    answer = gateway.send("POST", "/v1/keys", headers, b'{"displayName": "Production"}')

    assert answer.status == 200
    assert answer.json()["apiKey"].startswith("xq_")


def test_a_preflight_of_another_origin_is_granted_nothing(
    gateway: Gateway, cookie: tuple[str, str]
) -> None:
    """What protects where a script would send JSON, or another method than POST."""
    headers: Headers = [
        cookie,
        ("Origin", FOREIGN),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", "content-type"),
    ]
    answer = gateway.send("OPTIONS", "/v1/keys", headers)

    assert answer.status >= 400
    assert not [name for name, _ in answer.headers if name.startswith("access-control")]
