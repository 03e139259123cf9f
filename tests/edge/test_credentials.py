"""Where a credential may be, that there is only one, and that it ends at the edge."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.edge.authority import Authority
from support.edge.configuration import connection_manager, edge_config
from support.edge.envoy import StartEnvoy
from support.edge.http import bearer
from support.edge.sites import ROUTES, Site
from support.edge.upstream import Upstream

IDENTITY = ("key-id", "account-id", "keyspace", "key-type", "environment", "scopes")


@pytest.fixture
def quicksrv(site_of: Callable[[str], Site]) -> Site:
    return site_of("quicksrv")


@pytest.fixture
def xquik(site_of: Callable[[str], Site]) -> Site:
    return site_of("xquik")


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("Authorization", "Bearer "),
        ("authorization", "bearer "),
        ("AUTHORIZATION", "BEARER  "),
        ("X-API-Key", ""),
        ("x-api-key", ""),
    ],
)
def test_a_key_is_taken_from_either_header_in_any_case(
    quicksrv: Site, name: str, prefix: str
) -> None:
    key = quicksrv.usual_key()

    assert quicksrv.usual([(name, prefix + key)]).status == 200


def test_the_credential_never_reaches_the_upstream(site: Site) -> None:
    key = site.usual_key()

    assert site.usual([bearer(key), ("Accept", "text/x-kept")]).status == 200

    (arrived,) = site.upstream.take()
    assert arrived.value("accept") == "text/x-kept"
    assert arrived.values("authorization") == []
    assert all(key not in value for _, value in arrived.headers)
    assert key not in arrived.target


def test_both_headers_with_the_same_key_are_one_credential(quicksrv: Site) -> None:
    key = quicksrv.usual_key()

    assert quicksrv.usual([bearer(key), ("X-API-Key", key)]).status == 200

    (arrived,) = quicksrv.upstream.take()
    assert all(key not in value for _, value in arrived.headers)


def test_two_credentials_are_none(quicksrv: Site) -> None:
    """If one of them were picked, something behind the edge could pick the other."""
    key, other = quicksrv.usual_key(), quicksrv.usual_key()

    for headers in (
        [bearer(key), ("X-API-Key", other)],
        [("X-API-Key", other), bearer(key)],
        [bearer(key), ("X-API-Key", "made-up")],
        [bearer(key), bearer(other)],
        [bearer(key), bearer(key)],
        [("X-API-Key", key), ("x-api-key", key)],
        [("Authorization", f"Bearer {key}, Bearer {other}")],
        [("Authorization", f"Bearer {key},{key}")],
        [("X-API-Key", f"{key},{other}")],
        [("Authorization", f"Bearer {key}"), ("Authorization", "Basic YTpi")],
        [("Authorization", "Basic YTpi"), ("X-API-Key", key)],
        [("Authorization", key), ("X-API-Key", key)],
    ):
        assert quicksrv.usual(headers).status == 401, headers
    assert quicksrv.upstream.take() == []


def test_what_is_no_key_is_no_credential(quicksrv: Site) -> None:
    key = quicksrv.usual_key()

    for value in ("", "Bearer", "Bearer ", f"Token {key}", key, f"Bearer {key} {key}"):
        assert quicksrv.usual([("Authorization", value)]).status == 401, value
    for value in ("", f"Bearer {key}", key[:-1], key + "x", key.upper(), "x" * 20_000, "ä" * 40):
        answer = quicksrv.usual([("X-API-Key", value.encode("utf-8").decode("latin-1"))])
        assert answer.status == 401, value[:50]
    assert quicksrv.upstream.take() == []


PLACES = {
    "quicksrv": {"bearer", "header"},
    "sitequest": {"bearer"},
    "quantumsafe": {"bearer"},
    "supascale": {"bearer"},
    "xquik": {"bearer", "header", "cookie"},
}


def test_a_key_is_taken_where_the_page_says_and_nowhere_else(site: Site) -> None:
    key = site.usual_key()
    headers = {
        "bearer": bearer(key),
        "header": ("X-API-Key", key),
        "cookie": ("Cookie", f"session_token={key}"),
    }

    taken = {place for place, header in headers.items() if site.usual([header]).status == 200}

    assert taken == PLACES[site.name]


def test_a_declared_cookie_carries_the_credential_and_leaves_the_others(xquik: Site) -> None:
    key = xquik.usual_key()

    answer = xquik.usual([("Cookie", f"theme=dark; session_token={key}; lang=en")])

    assert answer.status == 200
    (arrived,) = xquik.upstream.take()
    assert arrived.value("cookie") == "theme=dark; lang=en"


@pytest.mark.parametrize("others", [b"\xe9", b"\xc3\xa9", b"\xc3\xa9\xff\x80", b"\xf0\x9f\x94\x91"])
def test_the_bytes_of_other_cookies_stay_as_they_are(xquik: Site, others: bytes) -> None:
    """A browser sends whatever bytes a page has set, in no known encoding."""
    text = others.decode("latin-1")

    answer = xquik.usual([("Cookie", f"a={text}; session_token={xquik.usual_key()}; b=1")])

    assert answer.status == 200
    (arrived,) = xquik.upstream.take()
    assert arrived.value("cookie") == f"a={text}; b=1"
    assert arrived.values("x-keyfence-cookie") == []


def test_without_the_script_of_the_example_they_are_lost_and_not_changed(
    authority: Authority, upstream: Upstream, start_envoy: StartEnvoy
) -> None:
    config = edge_config(
        keyfence_port=authority.port,
        upstream_port=upstream.port,
        keyspace="xquik",
        routes=ROUTES["xquik"],
    )
    filters = connection_manager(config)["http_filters"]
    (script,) = (one for one in filters if one["name"] == "keyfence.cookies")
    filters.remove(script)
    envoy = start_envoy(config, authority.edge_token("xquik"))
    site = Site("xquik", authority, envoy, upstream)

    assert site.usual([("Cookie", f"a=\xe9; session_token={site.usual_key()}")]).status == 200

    (arrived,) = upstream.take()
    assert arrived.values("cookie") == []


def test_a_client_does_not_set_cookies_as_keyfence_does(xquik: Site) -> None:
    key = ("x-api-key", xquik.usual_key())

    assert xquik.usual([key, ("X-Keyfence-Cookie", "a=1"), ("Cookie", "b=2")]).status == 200

    (arrived,) = xquik.upstream.take()
    assert arrived.value("cookie") == "b=2"
    assert arrived.values("x-keyfence-cookie") == []


def test_a_cookie_header_of_nothing_but_the_credential_is_removed(xquik: Site) -> None:
    key = xquik.usual_key()

    assert xquik.usual([("Cookie", f"session_token={key}")]).status == 200

    (arrived,) = xquik.upstream.take()
    assert arrived.values("cookie") == []


def test_cookies_without_the_credential_are_left_alone(xquik: Site) -> None:
    key = xquik.usual_key()

    assert xquik.usual([("x-api-key", key), ("Cookie", "theme=dark;lang=en")]).status == 200

    (arrived,) = xquik.upstream.take()
    assert arrived.value("cookie") == "theme=dark;lang=en"


def test_a_cookie_twice_or_beside_another_credential_is_none(xquik: Site) -> None:
    """A cookie set for a parent domain comes beside the real one: either could be first."""
    key, other = xquik.usual_key(), xquik.usual_key()

    for headers in (
        [("Cookie", f"session_token={key}; session_token={other}")],
        [("Cookie", f"session_token={key}; session_token={key}")],
        [("Cookie", f"session_token={key}"), ("Cookie", f"session_token={other}")],
        [("Cookie", f"session_token={key}"), ("x-api-key", other)],
        [("Cookie", f"session_token={key}"), bearer(other)],
    ):
        assert xquik.usual(headers).status == 401, headers
    assert xquik.upstream.take() == []


def test_the_upstream_is_told_whose_key_it_is(quicksrv: Site) -> None:
    made = quicksrv.authority.operator.create_key(
        keyspace="quicksrv", account_id="acct_42", scopes=["vps:write"]
    )

    assert quicksrv.usual([bearer(made.api_key)]).status == 200

    (arrived,) = quicksrv.upstream.take()
    assert {name: arrived.value(f"x-keyfence-{name}") for name in IDENTITY} == {
        "key-id": made.key.key_id,
        "account-id": "acct_42",
        "keyspace": "quicksrv",
        "key-type": "secret",
        "environment": "live",
        "scopes": "vps:read vps:write",
    }


def test_identity_headers_of_the_client_are_stripped(quicksrv: Site) -> None:
    """Otherwise a client could claim any identity."""
    made = quicksrv.authority.operator.create_key(
        keyspace="quicksrv", account_id="acct_42", scopes=["vps:read"]
    )
    forged = [(f"X-Keyfence-{name}", "forged") for name in (*IDENTITY, "admin", "Account-Id")]

    assert quicksrv.usual([*forged, bearer(made.api_key), *forged]).status == 200

    (arrived,) = quicksrv.upstream.take()
    assert arrived.value("x-keyfence-account-id") == "acct_42"
    assert arrived.value("x-keyfence-key-id") == made.key.key_id
    assert all("forged" not in value for _, value in arrived.headers)
    assert arrived.values("x-keyfence-admin") == []


def test_a_header_without_a_value_of_ours_is_removed_all_the_same(
    site_of: Callable[[str], Site],
) -> None:
    """A key without scopes has no header of scopes: not even the client's."""
    quantumsafe = site_of("quantumsafe")
    key = quantumsafe.usual_key()

    assert quantumsafe.usual([bearer(key), ("x-keyfence-scopes", "*")]).status == 200

    (arrived,) = quantumsafe.upstream.take()
    assert arrived.values("x-keyfence-scopes") == []


def test_headers_that_some_programs_take_for_others_are_refused(quicksrv: Site) -> None:
    """CGI and WSGI turn X_Keyfence_Key_Id and X-Keyfence-Key-Id into one variable."""
    key = quicksrv.usual_key()

    for name in ("X_Keyfence_Key_Id", "x-keyfence-key_id", "X_API_Key"):
        assert quicksrv.usual([bearer(key), (name, "forged")]).status == 400, name
    assert quicksrv.upstream.take() == []
