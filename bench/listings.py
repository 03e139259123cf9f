"""Pages of listings by every filter, on a store of many keys, and what parts of a page take."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import uvloop
from google.protobuf.timestamp_pb2 import Timestamp

from bench.large_store import KEYSPACE, LABEL, LargeStore
from bench.report import Report, Table
from bench.scale_servers import Server, Site, Sizes, postgresql_sites, sqlite_sites
from keyfence.v1 import key_service_pb2 as of_keys
from keyfence_server.adapters.sql.records import row_to_key
from keyfence_server.application.read_keys import ListedKey
from keyfence_server.convert.keys import ListedKeys
from keyfence_server.domain.keys import Key

PAGE: Final = 1_000
PAGES: Final = 10
"""How often a page is asked for in a round: the system counts hundredths of a second."""

_QUANTITY: Final = "ListKeys, ms of processor a page"
_ROWS: Final = "SELECT * FROM keys WHERE keyspace = ? ORDER BY key_id LIMIT ?"


def measure(report: Report, sizes: Sizes) -> None:
    """Measures on SQLite and on PostgreSQL."""
    table = report.table("listings", f"Pages of {PAGE:,} of {sizes.keys:,} keys")
    with tempfile.TemporaryDirectory(prefix="kfb-") as name:
        for kind in (sqlite_sites, postgresql_sites):
            with kind(Path(name), sizes) as (large, _):
                with large.served() as server:
                    uvloop.run(measure_pages(table, server, sizes.rounds))
                if large.database is None:
                    _measure_parts(table, large, sizes.rounds)


async def measure_pages(table: Table, server: Server, rounds: int) -> None:
    """Measures a page by each filter."""
    store = server.site.store
    for name, fields in _filters(store).items():
        spent: list[float] = []
        count = 0
        for _ in range(rounds):
            request = of_keys.ListKeysRequest(keyspace=KEYSPACE, page_size=PAGE, **fields)
            used, answers = await server.send(
                "KeyService/ListKeys", [request.SerializeToString()] * PAGES, in_flight=1
            )
            spent.append(used / 1000)
            count = len(of_keys.ListKeysResponse.FromString(answers[0]).keys)
        what = f"by {name}, {count:,} keys"
        table.add(what, _QUANTITY, spent, group=server.site.name, at_most=15)


def _measure_parts(table: Table, site: Site, rounds: int) -> None:
    """Measures what a page cannot do without, in this process: its rows, the records that are made
    of them, and the messages, without uses."""
    path = Path(site.settings["KEYFENCE_DATA_DIR"]) / "keyfence.db"
    clock = time.thread_time
    moments: list[list[float]] = []
    with closing(sqlite3.connect(path)) as connection:
        for _ in range(rounds * PAGES):
            began = clock()
            rows = connection.execute(_ROWS, (KEYSPACE, PAGE)).fetchall()
            read = clock()
            keys = [row_to_key(row) for row in rows]
            made = clock()
            _encode(keys)
            moments.append([began, read, made, clock()])
    parts = "the driver's rows alone", "records of the rows", "the messages, encoded"
    for number, what in enumerate(parts):
        spent = [(one[number + 1] - one[number]) * 1000 for one in moments]
        table.add(what, _QUANTITY, spent, group=site.name)


def _encode(keys: Sequence[Key]) -> bytes:
    answer, write = of_keys.ListKeysResponse(), ListedKeys().write
    for key in keys:
        listed = ListedKey(key, key.state, tuple(key.granted_scopes), is_cut=False, use=None)
        write(listed, answer.keys.add)
    return answer.SerializeToString()


def _filters(store: LargeStore) -> dict[str, dict[str, Any]]:
    now = time.time()
    week_ago = Timestamp(seconds=int(now - timedelta(days=7).total_seconds()))
    in_a_month = Timestamp(seconds=int(now + timedelta(days=30).total_seconds()))
    return {
        "keyspace": {},
        "account": {"account_id": store.an_account},
        "state": {"state": of_keys.KEY_STATE_REVOKED},
        "parent": {"parent_key_id": store.a_parent},
        "type": {"key_type": "publishable"},
        "environment": {"environment": "test"},
        "prefix": {"display_prefix": store.a_prefix},
        "label": {"labels": [f"{LABEL}=b"]},
        "scope": {"scope": "dns:read"},
        "unused since": {"unused_since_time": week_ago},
        "never used": {"never_used": True},
        "expiring before": {"expiring_before_time": in_a_month},
    }
