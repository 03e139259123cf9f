"""A revocation by the page's own command holds everywhere when it is answered.

A stream of requests goes through each product's application, which answers from its own cache,
through an Envoy, and to a sidecar. The key is revoked in the middle of it. No request that starts
after the answer to the revocation may be let through, by any of the three.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from keyfence import Client, HolderKind, KeyfenceError
from products.running import Applications, Product
from support.edge.authority import Authority
from support.edge.configuration import edge_config
from support.edge.envoy import Envoy
from support.edge.http import bearer, send
from support.edge.sites import ANY_GOOD_KEY, ROUTES
from support.edge.upstream import Upstream
from support.systems import SYSTEMS

_PAUSE_SECONDS: Final = 0.03
_PATIENCE_SECONDS: Final = 30
_BEFORE: Final = 3
_AFTER: Final = 10

KEYS_AT: Final = {
    "quantumsafe": "/v1/auth/api-keys",
    "quicksrv": "/panel/api-keys",
    "sitequest": "/dashboard/api-keys",
    "supascale": "/settings/api-keys",
    "xquik": "/api/v1/api-keys",
}


@pytest.fixture(scope="module")
def edge(authority: Authority) -> Iterator[dict[str, int]]:
    """One Envoy with a listener for each of the five: their ports."""
    upstream = Upstream()
    whole: dict[str, Any] = {}
    for name in SYSTEMS:
        config = edge_config(
            keyfence_port=authority.port,
            upstream_port=upstream.port,
            keyspace=name,
            routes=ROUTES[name],
        )
        (listener,) = copy.deepcopy(config["static_resources"]["listeners"])
        listener["name"] = name
        whole = whole or {**config, "static_resources": {**config["static_resources"]}}
        listeners = whole["static_resources"]["listeners"] if name != SYSTEMS[0] else []
        whole["static_resources"]["listeners"] = [*listeners, listener]
    envoy = Envoy(whole, {"KEYFENCE_EDGE_TOKEN": authority.edge_token(*SYSTEMS)})
    yield envoy.ports
    envoy.stop()
    upstream.close()


@pytest.fixture(scope="module")
def sidecar(authority: Authority) -> Iterator[Client]:
    """A client of a sidecar in a process of its own."""
    made = authority.operator.create_key(
        keyspace="system",
        account_id="sidecar",
        scopes=["replication:sync"],
        bound_keyspaces=SYSTEMS,
    )
    with tempfile.TemporaryDirectory(prefix="kf") as directory:
        target = f"unix:{Path(directory) / 'sidecar.sock'}"
        settings = {
            "KEYFENCE_LISTEN": target,
            "KEYFENCE_UPSTREAM": f"127.0.0.1:{authority.port}",
            "KEYFENCE_UPSTREAM_TOKEN": made.api_key,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "keyfence_server", "sidecar"],
            env={**os.environ, **settings},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with Client(target, token=made.api_key) as client:
                until(lambda: answers(client))
                yield client
        finally:
            process.terminate()
            process.wait(30)


def answers(client: Client) -> bool:
    try:
        client.who_am_i(timeout_seconds=1)
    except KeyfenceError:
        return False
    return True


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@dataclass
class Stream:
    """Requests one after another, in a thread.

    Attributes:
        ask: sends one, and says how it ended: "ok", or as what it was refused.
        outcomes: when each began, and how it ended.
    """

    name: str
    ask: Callable[[], str]
    outcomes: list[tuple[float, str]] = field(default_factory=list)

    def run(self, is_over: threading.Event) -> None:
        while not is_over.is_set():
            began = time.monotonic()
            self.outcomes.append((began, self.ask()))
            time.sleep(_PAUSE_SECONDS)

    def count(self, outcome: str) -> int:
        return sum(1 for _, one in list(self.outcomes) if one == outcome)

    def since(self, moment: float) -> list[str]:
        return [outcome for began, outcome in list(self.outcomes) if began > moment]


def made_key(product: Product, scopes: tuple[str, ...]) -> tuple[str, str, Callable[[], int]]:
    """A key made as the page says: its plaintext, its id, and its revocation as the page says."""
    path = KEYS_AT[product.name]
    if product.name in {"quantumsafe", "xquik"}:
        account = (product.name, f"{product.name}@example.com", "correct horse battery")
        with product.authority.client(product.authority.root_key) as operator:
            operator.register_account(*account)
            session = operator.log_in(*account).session_token
        wanted = {"name": "stream"}
        if product.name == "quantumsafe":
            wanted |= {"type": "secret", "environment": "live"}
        made = product.call("POST", path, wanted, key=session).json()
        made = made.get("data", made)
        return (
            made.get("key", made.get("fullKey")),
            made["id"],
            lambda: product.call("DELETE", f"{path}/{made['id']}", key=session).status,
        )
    chosen = {"name": "stream", "scopes": list(scopes), "permissions": list(scopes)}
    made = product.panel("POST", path, chosen).json()
    return (
        made["key"],
        made["id"],
        lambda: product.panel("DELETE", f"{path}/{made['id']}").status,
    )


@pytest.mark.parametrize("name", SYSTEMS)
def test_nothing_is_let_through_that_starts_after_the_answer(
    name: str, applications: Applications, edge: dict[str, int], sidecar: Client
) -> None:
    product = applications.product(name)
    method, path, scopes = ANY_GOOD_KEY[name]
    key, _, revoke = made_key(product, scopes)

    def by_http(port: int) -> str:
        answer = send(port, method, path, [bearer(key)])
        if answer.status == 200:
            return "ok"
        assert answer.status == 401, answer.body
        if name == "quantumsafe":
            assert answer.json()["error"]["code"] == "AUTH_002"
        return "refused"

    def by_sidecar() -> str:
        return "ok" if sidecar.authenticate(key, keyspace=name) else "refused"

    streams = [
        Stream("application", lambda: by_http(product.port)),
        Stream("application too", lambda: by_http(product.port)),
        Stream("edge", lambda: by_http(edge[name])),
        Stream("sidecar", by_sidecar),
    ]
    is_over = threading.Event()
    threads = [threading.Thread(target=stream.run, args=(is_over,)) for stream in streams]
    for thread in threads:
        thread.start()
    try:
        until(lambda: all(stream.count("ok") >= _BEFORE for stream in streams))
        holders = {one.kind for one in product.authority.operator.list_replicas().items}
        assert holders >= {HolderKind.SDK, HolderKind.SIDECAR}
        status = revoke()
        revoked = time.monotonic()
        assert status == 204
        until(lambda: all(len(stream.since(revoked)) >= _AFTER for stream in streams))
    finally:
        is_over.set()
        for thread in threads:
            thread.join(_PATIENCE_SECONDS)

    late = {stream.name: stream.since(revoked).count("ok") for stream in streams}
    assert set(late.values()) == {0}, late
