"""Files of keys, hostile ones too: each line is read, or refused with its number."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import threading
from collections.abc import Mapping
from typing import Any, cast

import pytest

from keyfence import Client
from keyfence.results import ImportedKeys, KeyToImport, RateLimit, RefusedImport
from keyfence_server.application.import_keys import MAX_IMPORTED
from keyfence_server.cli.import_files import Form, Layout, Line, read_lines
from keyfence_server.cli.import_sources import Source
from keyfence_server.cli.imports import BATCH, CALLS_AT_ONCE, Progress, Sums, import_lines

KEY = "canary_live_7Hq2kfP0sWz8NbVt3RxJc5Ly"
GOOD = {"account_id": "a1", "api_key": KEY}


def lines_of(text: str | bytes, layout: Layout | None = None) -> list[Line]:
    raw = text if isinstance(text, bytes) else text.encode()
    return list(read_lines(io.BytesIO(raw), layout or Layout()))


def key_of(fields: Mapping[str, Any], source: Source = Source.KEYFENCE) -> KeyToImport:
    [line] = lines_of(json.dumps(fields), Layout(source=source))
    assert line.key is not None, line.problem
    return line.key


def problem_of(fields: Mapping[str, Any], source: Source = Source.KEYFENCE) -> str:
    [line] = lines_of(json.dumps(fields), Layout(source=source))
    assert line.key is None
    return line.problem


DEEP = b'{"labels":' + b'{"a":' * 9_000 + b"1" + b"}" * 9_000 + b"}"

HOSTILE = [
    (b'{"account_id": "a1", "api_key": "' + b"x" * 300_000 + b'"}', "longer than 65536 bytes"),
    (bytes(range(128, 256)), "not UTF-8"),
    (b"\x00\x01\x02", "not JSON"),
    (DEEP, "not JSON"),
    (b"[" * 60_000, "not JSON"),
    (b'{"account_id": "a1", "account_id": "a2", "sha256": ""}', "a name twice"),
    (b'"text"', "not a JSON object"),
    (json.dumps(GOOD | {"expire_time": KEY}).encode(), "expire_time: write a time"),
    (json.dumps(GOOD | {"expire_time": "99999-01-01"}).encode(), "expire_time: write a time"),
    (json.dumps(GOOD | {"expire_time": "0001-01-01T00:00:00+14:00"}).encode(), "expire_time"),
    (json.dumps(GOOD | {"expire_time": 4_000_000_000}).encode(), "expire_time: a text"),
    (json.dumps(GOOD | {"rate_limit": KEY}).encode(), "rate_limit: write a rate"),
    (json.dumps(GOOD | {KEY: "x"}).encode(), "there is no field of another name"),
    (
        json.dumps(GOOD | {"labels": {"a": ["x"]}}).encode(),
        "labels: an object whose values are strings",
    ),
    (json.dumps(GOOD | {"scopes": KEY}).encode(), "scopes: a list of strings"),
    (json.dumps(GOOD | {"display_name": "\ud800"}).encode(), "display_name: a text"),
    (json.dumps(GOOD | {"sha256": "ab"}).encode(), "one of api_key"),
    (b'{"account_id": "a1", "sha256": "' + KEY.encode() + b'"}', "sha256: 32 bytes"),
    (b'{"account_id": "a1", "hmac_sha256": "zz"}', "hmac_sha256: 32 bytes"),
]


def test_a_call_has_as_many_keys_as_a_server_takes() -> None:
    assert BATCH == MAX_IMPORTED


@pytest.mark.parametrize(("line", "why"), HOSTILE)
def test_a_hostile_line_is_refused_and_spoils_no_other(line: bytes, why: str) -> None:
    good = json.dumps(GOOD).encode()
    first, bad, last = lines_of(good + b"\n" + line + b"\n\n" + good)
    assert (first.number, bad.number, last.number) == (1, 2, 4)
    assert first.key is not None
    assert last.key is not None
    assert bad.key is None
    assert why in bad.problem
    assert KEY not in bad.problem


def test_a_line_of_csv_spoils_no_other() -> None:
    file = (
        "account_id,api_key,scopes,labels\n"
        f'a1,"{KEY}\n'
        f"a2,{KEY},vps:read dns:read,team=x env=y\n"
        f"a3,{KEY},,,{KEY}\n"
        f"a4,{KEY}\n"
    )
    unclosed, good, too_long, short = lines_of(file, Layout(Form.CSV))
    assert (unclosed.number, unclosed.problem) == (2, "the line is not CSV")
    assert good.key == KeyToImport(
        account_id="a2",
        api_key=KEY,
        scopes=("vps:read", "dns:read"),
        labels={"team": "x", "env": "y"},
    )
    assert "more fields" in too_long.problem
    assert short.key == KeyToImport(account_id="a4", api_key=KEY)


def test_a_file_of_csv_without_names_shows_none_of_its_keys() -> None:
    lines = lines_of(f"a1,{KEY}\na2,{KEY}\n", Layout(Form.CSV))
    assert [line.key for line in lines] == [None]
    assert KEY not in lines[0].problem


def test_columns_are_renamed_and_missing_fields_filled_in() -> None:
    layout = Layout(
        Form.CSV,
        names={"owner": "account_id", "digest": "sha256"},
        absent={"account_id": "shop", "preset": "read-only"},
    )
    digest = hashlib.sha256(KEY.encode())
    text = base64.b64encode(digest.digest()).decode()
    first, second = lines_of(f"owner,digest\na1,{digest.hexdigest()}\n,{text}\n", layout)
    assert first.key == KeyToImport(account_id="a1", sha256=digest.digest(), preset="read-only")
    assert second.key == KeyToImport(account_id="shop", sha256=digest.digest(), preset="read-only")


def test_a_key_of_unkey() -> None:
    digest = hashlib.sha256(KEY.encode()).digest()
    key = key_of(
        {
            "keyId": "key_1",
            "start": "canary_7H",
            "hash": {"value": base64.b64encode(digest).decode(), "variant": "sha256_base64"},
            "name": "CI",
            "identity": {"id": "id_1", "externalId": "acct_1"},
            "meta": {"plan": "pro", "seats": 3, "trial": False},
            "permissions": ["vps:read"],
            "roles": [],
            "enabled": True,
            "createdAt": 1_700_000_000_000,
            "expires": 4_102_444_800_000,
            "credits": None,
            "ratelimits": [{"name": "requests", "limit": 100, "duration": 60_000}],
        },
        Source.UNKEY,
    )
    assert (key.sha256, key.account_id, key.display_name) == (digest, "acct_1", "CI")
    assert key.labels == {"plan": "pro", "seats": "3", "trial": "false"}
    assert key.scopes == ("vps:read",)
    assert key.expire_time is not None
    assert key.expire_time.isoformat() == "2100-01-01T00:00:00+00:00"
    assert isinstance(key.rate_limit, RateLimit)
    assert (key.rate_limit.requests, key.rate_limit.window.total_seconds()) == (100, 60)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"enabled": False}, "enabled: the key is disabled there"),
        ({"credits": {"remaining": 5}}, "credits: Keyfence has no such field"),
        ({"remaining": 0}, "remaining: Keyfence has no such field"),
        ({"roles": ["admin"]}, "roles: Keyfence has no such field"),
        ({"expires": 10**30}, "expires: milliseconds"),
        ({"expires": "2030"}, "expires: milliseconds"),
        ({"meta": {"a": {"b": 1}}}, "meta: an object of strings"),
        ({"ratelimits": [{"limit": 1, "duration": 1000}] * 2}, "one rate limit"),
        ({"ratelimits": [{"limit": 1, "duration": 1500}]}, "whole seconds"),
        ({"hash": {"value": "aa", "variant": "md5"}}, "hash.variant"),
        ({"hash": None}, "hash: it is missing"),
        ({KEY: 1}, "a field: Keyfence has no such field"),
    ],
)
def test_a_key_of_unkey_that_would_mean_something_else_is_refused(
    more: Mapping[str, Any], why: str
) -> None:
    digest = base64.b64encode(hashlib.sha256(KEY.encode()).digest()).decode()
    problem = problem_of({"hash": digest, "ownerId": "a1", **more}, Source.UNKEY)
    assert why in problem
    assert KEY not in problem


def test_a_row_of_djangorestframework_api_key() -> None:
    row = {"prefix": "Nk3hT9aQ", "hashed_key": "pbkdf2_sha256$1$s$aa", "name": "CI"}
    more = {"revoked": False, "created": "2024-01-01T00:00:00Z", "expiry_date": None}
    dumped = {"model": "rest_framework_api_key.apikey", "pk": "x", "fields": row | more}
    layout = Layout(source=Source.DJANGO, absent={"account_id": "shop"})
    [line] = lines_of(json.dumps(dumped), layout)
    expected = KeyToImport(
        account_id="shop",
        password_hash="pbkdf2_sha256$1$s$aa",
        prefix="Nk3hT9aQ",
        display_name="CI",
    )
    assert line.key == expected
    csv = "id,prefix,hashed_key,name,revoked,expiry_date\n" + "".join(
        f"x,Nk3hT9aQ,pbkdf2_sha256$1$s$aa,CI,{revoked},\n" for revoked in ("False", "t", "0")
    )
    kept, revoked, also = lines_of(csv, Layout(Form.CSV, Source.DJANGO, {}, layout.absent))
    assert kept.key == also.key == expected
    assert "revoked: the key is revoked there" in revoked.problem


class Recorded:
    """A client that imports nothing, and refuses what a test says."""

    def __init__(self, refused: Mapping[int, str]) -> None:
        self.sizes: list[int] = []
        self._refused = refused

    def import_keys(
        self, _keyspace: str, keys: list[KeyToImport], *, validate_only: bool
    ) -> ImportedKeys:
        assert not validate_only
        first = sum(self.sizes)
        self.sizes.append(len(keys))
        refused = [
            RefusedImport(index=place - first, reason="UNKNOWN_SCOPE", message=message)
            for place, message in self._refused.items()
            if first <= place < first + len(keys)
        ]
        return ImportedKeys(
            imported_count=len(keys) - len(refused),
            present_count=0,
            refused=tuple(refused),
            revision=1,
        )


def import_recorded(
    lines: list[str], refused: Mapping[int, str]
) -> tuple[Recorded, Sums, list[tuple[int, str]]]:
    client = Recorded(refused)
    return client, *import_with(client, lines)


def import_with(client: Recorded, lines: list[str]) -> tuple[Sums, list[tuple[int, str]]]:
    told: list[tuple[int, str]] = []
    sums = import_lines(
        cast("Client", client),
        "shop",
        lines_of("\n".join(lines)),
        dry_run=False,
        refuse=lambda number, why: told.append((number, why)),
        progress=lambda _: None,
    )
    return sums, told


def test_refused_keys_have_the_numbers_of_their_lines_in_every_batch() -> None:
    good = json.dumps(GOOD)
    lines = ["{", *[good] * BATCH, "[]", good, good]
    client, sums, told = import_recorded(lines, {0: f'no "{KEY}"', BATCH: "no"})
    assert sum(client.sizes) == BATCH + 2
    assert max(client.sizes) <= BATCH
    assert [number for number, _ in told] == [1, 2, BATCH + 2, BATCH + 3]
    assert KEY not in str(told)
    assert (sums.imported, sums.refused) == (BATCH, 4)


def batches_of(lines: list[dict[str, str]]) -> list[str]:
    """These lines, each the first of a batch."""
    others = ({"account_id": "a1", "api_key": f"{KEY}{number}"} for number in itertools.count())
    return [
        json.dumps(line)
        for first in lines
        for line in (first, *itertools.islice(others, BATCH - 1))
    ]


class Counted(Recorded):
    """A client that notes how many calls are under way at once."""

    def __init__(self, expected: int) -> None:
        super().__init__({})
        self.most_at_once = 0
        self._under_way = 0
        self._lock = threading.Lock()
        self._expected = threading.Barrier(expected)

    def import_keys(
        self, keyspace: str, keys: list[KeyToImport], *, validate_only: bool
    ) -> ImportedKeys:
        with self._lock:
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        # None ends before so many are there.
        self._expected.wait()
        with self._lock:
            self._under_way -= 1
            return super().import_keys(keyspace, keys, validate_only=validate_only)


@pytest.mark.parametrize("repeats", [False, True])
def test_several_calls_are_under_way_unless_they_have_a_key_in_common(*, repeats: bool) -> None:
    """Of two lines with the same key the first counts."""
    names = ["same"] * CALLS_AT_ONCE if repeats else [str(one) for one in range(CALLS_AT_ONCE)]
    expected = 1 if repeats else CALLS_AT_ONCE
    client = Counted(expected)
    sums, _ = import_with(
        client, batches_of([{"account_id": "a1", "api_key": f"{KEY}_{one}"} for one in names])
    )
    assert sums.imported == CALLS_AT_ONCE * BATCH
    assert client.most_at_once == expected


def test_long_lines_make_small_batches() -> None:
    long_line = json.dumps(GOOD | {"display_name": "x" * 60_000})
    client, sums, _ = import_recorded([long_line] * 20, {})
    assert client.sizes == [8, 8, 4]
    assert sums.imported == 20


class Terminal(io.StringIO):
    """A standard error that is a terminal, or none."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_a_line_of_a_terminal_and_of_nothing_else(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Terminal(is_terminal=is_terminal)
    monkeypatch.setattr("sys.stderr", stream)
    progress = Progress()
    progress.show(Sums(imported=499, refused=1, done=500))
    progress.show(Sums(imported=9, done=9))
    progress.clear()
    written = stream.getvalue()
    assert ("500 lines: 499 imported, 0 there already, 1 refused" in written) is is_terminal
    assert "\n" not in written
    assert (written == "") is not is_terminal
