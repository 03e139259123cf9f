"""No path, header or framing gets a request to the upstream without its route's scopes.

The upstream of these tests is read as the most careless program would read it: it decodes
twice, drops `;` and what follows, folds case, resolves dots, and believes every header
that overrides the method. If a request that arrives there means, so read, more than its
key may do, the edge has let it through on a misunderstanding.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from urllib.parse import unquote

import pytest

from support.edge.http import bearer, send_raw
from support.edge.http2 import exchange, exchange_all, request
from support.edge.sites import Site
from support.edge.upstream import Arrived

HIERARCHY = {"vps:read": 0, "vps:write": 1, "vps:create": 2, "denied": 3}
OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")
REWRITES = ("x-original-url", "x-rewrite-url")


def needed(arrived: Arrived) -> str:
    """What a careless upstream would be made to do, as the scope that this needs."""
    method = next((arrived.value(n) for n in OVERRIDES if arrived.values(n)), arrived.method)
    target = next((arrived.value(n) for n in REWRITES if arrived.values(n)), arrived.target)
    path = unquote(unquote(str(target).partition("?")[0])).replace("\\", "/").lower()
    path = posixpath.normpath(re.sub(r";[^/]*", "", re.sub(r"/+", "/", path)))
    if path == "/api/v1/whoami" and method == "GET":
        return "vps:read"
    if path.startswith("/api/v1/instances/") or path == "/api/v1/instances":
        if method in {"GET", "HEAD"}:
            return "vps:read"
        action = path.rpartition("/")[2]
        return "vps:write" if action in {"start", "stop", "reinstall", "resize"} else "vps:create"
    return "denied"


INSTANCES = "/api/v1/instances"
PATHS = [
    INSTANCES,
    INSTANCES + "/",
    INSTANCES + "/i-1",
    INSTANCES + "?x=1",
    INSTANCES + "/i-1/../../billing",
    INSTANCES + "/../billing",
    INSTANCES + "/./../billing",
    INSTANCES + "/%2e%2e/billing",
    INSTANCES + "/%2E%2E/%2e%2e/admin",
    INSTANCES + "/.%2e/billing",
    INSTANCES + "/..%2fbilling",
    INSTANCES + "/..%2Fbilling",
    INSTANCES + "/%2e%2e%2fbilling",
    INSTANCES + "/..%5cbilling",
    INSTANCES + "/..\\billing",
    INSTANCES + "/%252e%252e/billing",
    INSTANCES + "/%252e%252e%252fbilling",
    INSTANCES + "/..;/billing",
    INSTANCES + "/..;x=y/billing",
    INSTANCES + "/%2e%2e;/billing",
    INSTANCES + "/..%3b/billing",
    INSTANCES + "/;/../billing",
    INSTANCES + ";/../billing",
    INSTANCES + "/%00/../billing",
    INSTANCES + "/i-1%00",
    INSTANCES + "//..//billing",
    "//api/v1/instances/../billing",
    "//billing",
    "///",
    "/api//v1///instances",
    "/api/v1/instances%2f..%2fbilling",
    "/api/v1%2finstances",
    "/api/v1/billing",
    "/API/V1/INSTANCES",
    "/Api/v1/Instances/../Billing",
    "/%61pi/v1/instances",
    "/api/v1/%69nstances/../billing",
    "/api/v1/instances2",
    "/api/v1/instances-admin",
    "/api/v1/instances.json",
    "/api/v1/whoami",
    "/api/v1/whoami/../billing",
    "/api/v1/whoami%2f..%2fbilling",
    "/api/v1/whoami/x",
    "/api/v1/whoami?/../billing",
    "/api/v1/instances#/../billing",
    "/api/v1/instances?/../../billing",
    "api/v1/instances",
    "*",
    "",
    "http://other/api/v1/billing",
    "http://other/api/v1/instances/../billing",
    "https://127.0.0.1/api/v1/instances/%2e%2e/billing",
    "/api/v1/instances/" + "a" * 9_000,
    "/api/v1/instances/" + "../" * 500 + "billing",
    "/api/v1/instances/\u00e4/../billing",
    "/api/v1/instances/\x7f/../billing",
    "/api/v1/instances /../billing",
    "/api/v1/instances\t/../billing",
]
PATHS_OF_HTTP2 = [
    "api/v1/instances/../billing",
    "\\api\\v1\\billing",
    "/api/v1/instances HTTP/1.1\r\nHost: x\r\n\r\nPOST /api/v1/instances",
    "/api/v1/instances\r\nX-HTTP-Method-Override: DELETE",
    "/api/v1/instances\n",
    "/api/v1/instances\x00/../billing",
]
METHODS = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get"]
METHODS += ["GETT", "PROPFIND", "G\u00cbT", "POST "]


@pytest.fixture
def quicksrv(site_of: Callable[[str], Site]) -> Site:
    return site_of("quicksrv")


def deliver(site: Site, head: str, body: str = "", *, silence: float = 5) -> bytes:
    """Sends a request as written here, lines ended as HTTP has it."""
    text = head.replace("\n", "\r\n") + "\r\n\r\n" + body
    return send_raw(site.port, text.encode(), silence=silence)


def require_nothing_beyond(site: Site, scope: str | None) -> list[Arrived]:
    """Fails if something has arrived that needs more than the scope; None: anything."""
    arrived = site.upstream.take()
    for one in arrived:
        assert scope is not None, f"{one.method} {one.target[:80]} arrived without a key"
        assert HIERARCHY[needed(one)] <= HIERARCHY[scope], f"{one.method} {one.target[:80]}"
    return arrived


@pytest.mark.parametrize("scope", [None, "vps:read", "vps:write"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_paths(quicksrv: Site, method: str, scope: str | None) -> None:
    credential = f"\nAuthorization: Bearer {quicksrv.key(scope)}" if scope else ""
    arrived = []
    for path in PATHS:
        deliver(
            quicksrv,
            f"{method} {path} HTTP/1.1\nHost: x\nContent-Length: 0\nConnection: close{credential}",
        )
        arrived += require_nothing_beyond(quicksrv, scope)
    # The corpus would prove nothing if the edge refused everything.
    assert bool(arrived) == (scope is not None and method == "GET")


@pytest.mark.parametrize("scope", [None, "vps:read", "vps:write"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_paths_over_http2(quicksrv: Site, method: str, scope: str | None) -> None:
    """The same, where a path is a field of its own and can be anything: one without a slash,
    or with a line's end in it."""
    credential = [("authorization", f"Bearer {quicksrv.key(scope)}")] if scope else []
    paths = [*PATHS, *PATHS_OF_HTTP2]

    statuses = exchange_all(quicksrv.port, [request(method, path, *credential) for path in paths])

    arrived = require_nothing_beyond(quicksrv, scope)
    assert bool(arrived) == (scope is not None and method == "GET")
    for path, status in zip(paths, statuses, strict=True):
        if not path.startswith("/") and "://" not in path:
            assert status != 200, path


def test_methods(quicksrv: Site) -> None:
    key = quicksrv.key("vps:read")
    for method in METHODS:
        for path in (INSTANCES, INSTANCES + "/i-1/start", "/api/v1/whoami"):
            deliver(
                quicksrv,
                f"{method} {path} HTTP/1.1\nHost: x\nContent-Length: 0\nConnection: close\n"
                f"Authorization: Bearer {key}",
            )
            require_nothing_beyond(quicksrv, "vps:read")
    heads = [
        request(method, path, ("authorization", f"Bearer {key}"))
        for method in METHODS
        for path in (INSTANCES, INSTANCES + "/i-1/start", "/api/v1/whoami")
    ]
    exchange_all(quicksrv.port, heads)
    require_nothing_beyond(quicksrv, "vps:read")


# What a field list has instead of the one of `request`, or besides it.
HEADS = {
    "two paths": [
        *request("GET", INSTANCES),
        (":path", "/api/v1/billing"),
    ],
    "two paths, the other way round": [
        (":path", "/api/v1/billing"),
        *request("GET", INSTANCES),
    ],
    "two methods": [*request("GET", INSTANCES), (":method", "POST")],
    "two authorities": [*request("GET", INSTANCES), (":authority", "y")],
    "no path": [(":method", "GET"), (":scheme", "http"), (":authority", "x")],
    "no method": [(":scheme", "http"), (":path", INSTANCES), (":authority", "x")],
    "a path behind the headers": [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "x"),
        ("x-a", "b"),
        (":path", INSTANCES),
    ],
    "a status": [*request("GET", INSTANCES), (":status", "200")],
    "an unknown pseudo-header": [*request("GET", INSTANCES), (":admin", "true")],
    "a protocol": [*request("CONNECT", INSTANCES), (":protocol", "websocket")],
    "a name in mixed case": request("GET", INSTANCES, ("X-Keyfence-Key-Id", "forged")),
    "a credential's name in mixed case": request("GET", INSTANCES, ("Authorization", "Bearer x")),
    "a connection's header": request("GET", INSTANCES, ("connection", "authorization")),
    "a coding": request("POST", INSTANCES, ("transfer-encoding", "chunked")),
    "a name with a colon": request("GET", INSTANCES, ("x-a: b\r\nx-c", "d")),
    "a name with a blank": request("GET", INSTANCES, ("x-a ", "b")),
    "no name": request("GET", INSTANCES, ("", "b")),
    "a value with a line's end": request("GET", INSTANCES, ("x-a", "b\r\nx-http-method: DELETE")),
    "a value with a request": request(
        "GET", INSTANCES, ("x-a", "b\r\n\r\nPOST /api/v1/instances HTTP/1.1\r\nHost: x\r\n\r\n")
    ),
    "a value with a null": request("GET", INSTANCES, ("x-a", "b\x00c")),
    "a length that is none": request("GET", INSTANCES, ("content-length", "-1")),
    "two lengths": request("POST", INSTANCES, ("content-length", "0"), ("content-length", "5")),
    "a host besides the authority": request("GET", INSTANCES, ("host", "y")),
}
HARMLESS = {"a host besides the authority"}


@pytest.mark.parametrize("head", HEADS)
def test_what_is_no_head_of_http2_is_refused(quicksrv: Site, head: str) -> None:
    credential = ("authorization", f"Bearer {quicksrv.key('vps:read')}")

    status = exchange(quicksrv.port, [*HEADS[head], credential])

    arrived = require_nothing_beyond(quicksrv, "vps:read")
    assert (status == 200, len(arrived)) == ((True, 1) if head in HARMLESS else (False, 0)), status
    # The edge is as it was.
    assert exchange(quicksrv.port, request("GET", INSTANCES, credential)) == 200


def test_a_body_that_is_longer_than_its_length_is_no_second_request(quicksrv: Site) -> None:
    key = quicksrv.key("vps:read")
    smuggled = b"POST /api/v1/instances HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    head = request("GET", INSTANCES, ("authorization", f"Bearer {key}"), ("content-length", "0"))

    exchange(quicksrv.port, head, smuggled)

    require_nothing_beyond(quicksrv, "vps:read")


def test_two_credentials_are_none_over_http2(quicksrv: Site) -> None:
    key, other = quicksrv.key("vps:read"), quicksrv.key("vps:read")

    for more in (
        [("authorization", f"Bearer {key}"), ("authorization", f"Bearer {other}")],
        [("authorization", f"Bearer {key}"), ("authorization", f"Bearer {key}")],
        [("authorization", f"Bearer {key}"), ("x-api-key", other)],
    ):
        assert exchange(quicksrv.port, request("GET", INSTANCES, *more)) == 401
    assert quicksrv.upstream.take() == []


def test_a_cookie_in_crumbs_is_one_cookie_header(site_of: Callable[[str], Site]) -> None:
    """HTTP/2 lets a client send each cookie by itself."""
    xquik = site_of("xquik")
    key, other = xquik.usual_key(), xquik.usual_key()
    path = "/api/v1/account"
    crumbs = [("cookie", "theme=dark"), ("cookie", f"session_token={key}"), ("cookie", "lang=en")]

    assert exchange(xquik.port, request("GET", path, *crumbs)) == 200
    (arrived,) = xquik.upstream.take()
    assert arrived.value("cookie") == "theme=dark; lang=en"
    twice = [*crumbs, ("cookie", f"session_token={other}")]
    assert exchange(xquik.port, request("GET", path, *twice)) == 401
    assert xquik.upstream.take() == []


@pytest.mark.parametrize("name", [*OVERRIDES, *REWRITES])
def test_headers_that_would_change_method_or_path_do_not_arrive(quicksrv: Site, name: str) -> None:
    key = quicksrv.key("vps:read")
    value = "DELETE" if name in OVERRIDES else "/api/v1/billing"

    answer = quicksrv.send("GET", INSTANCES, [bearer(key), (name, value), (name.upper(), value)])

    assert answer.status == 200
    (arrived,) = require_nothing_beyond(quicksrv, "vps:read")
    assert arrived.values(name) == []


FRAMES = {
    "length and chunks": (
        "POST /api/v1/whoami HTTP/1.1\nHost: x\nContent-Length: 6\nTransfer-Encoding: chunked{key}",
        "0\r\n\r\n{smuggled}",
    ),
    "two lengths": (
        "POST /api/v1/whoami HTTP/1.1\nHost: x\nContent-Length: 0\nContent-Length: 60{key}",
        "{smuggled}",
    ),
    "obscure coding": (
        (
            "GET /api/v1/instances HTTP/1.1\nHost: x\nTransfer-Encoding: xchunked\n"
            "Content-Length: 4{key}"
        ),
        "0\r\n\r\n{smuggled}",
    ),
    "coding with a space": (
        "GET /api/v1/instances HTTP/1.1\nHost: x\nTransfer-Encoding : chunked{key}",
        "0\r\n\r\n{smuggled}",
    ),
    "negative length": (
        "GET /api/v1/instances HTTP/1.1\nHost: x\nContent-Length: -1{key}",
        "{smuggled}",
    ),
    "folded header": (
        "GET /api/v1/instances HTTP/1.1\nHost: x\nX-A: b\n Authorization: Bearer x{key}",
        "{smuggled}",
    ),
    "bare line feeds": ("GET /api/v1/instances HTTP/1.1\nHost: x{key}", "{smuggled_bare}"),
    "chunk with an extension": (
        "GET /api/v1/instances HTTP/1.1\nHost: x\nTransfer-Encoding: chunked{key}",
        "1;a=\n\r\nx\r\n0\r\n\r\n{smuggled}",
    ),
    "old version": ("GET /api/v1/instances HTTP/1.0{key}", "{smuggled}"),
    "no version": ("GET /api/v1/instances{key}", "{smuggled}"),
    "two hosts": ("GET /api/v1/instances HTTP/1.1\nHost: x\nHost: y{key}", "{smuggled}"),
    "upgrade": (
        "GET /api/v1/instances HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: websocket{key}",
        "{smuggled}",
    ),
    "hop by hop": (
        (
            "GET /api/v1/instances HTTP/1.1\nHost: x\n"
            "Connection: close, x-keyfence-key-id, authorization{key}"
        ),
        "",
    ),
    "upgrade to HTTP/2": (
        (
            "GET /api/v1/instances HTTP/1.1\nHost: x\nConnection: Upgrade, HTTP2-Settings\n"
            "Upgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA{key}"
        ),
        "",
    ),
}


@pytest.mark.parametrize("frame", FRAMES)
def test_a_request_inside_another_is_checked_by_itself_or_never_seen(
    quicksrv: Site, frame: str
) -> None:
    head, body = FRAMES[frame]
    key = quicksrv.key("vps:read")
    smuggled = (
        "POST /api/v1/instances HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
        "Connection: close\r\n\r\n"
    )
    body = body.replace("{smuggled}", smuggled)
    body = body.replace("{smuggled_bare}", smuggled.replace("\r\n", "\n"))

    # Some of these leave Envoy waiting for more.
    deliver(quicksrv, head.replace("{key}", f"\nAuthorization: Bearer {key}"), body, silence=0.5)

    require_nothing_beyond(quicksrv, "vps:read")


def test_requests_on_one_connection_do_not_lend_each_other_their_key(quicksrv: Site) -> None:
    """A second request without a credential, right behind one with: it is denied."""
    key = quicksrv.key("vps:read")
    first = f"GET {INSTANCES} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
    second = f"GET {INSTANCES} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    raw = send_raw(quicksrv.port, (first + second).encode())

    assert re.findall(rb"HTTP/1.1 (\d+)", raw) == [b"200", b"401"]
    assert len(quicksrv.upstream.take()) == 1


def test_headers_beyond_all_measure_are_refused(quicksrv: Site) -> None:
    key = quicksrv.key("vps:read")

    for headers in (
        [("X-Long", "a" * 60_000)],
        [(f"X-Many-{number}", "a") for number in range(150)],
    ):
        answer = quicksrv.send("GET", INSTANCES, [bearer(key), *headers])
        assert answer.status == 431, answer.status
    assert quicksrv.upstream.take() == []
