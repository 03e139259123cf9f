"""The wall clock is wrong: the server says so, is not ready and makes no keys, and it heals."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from incidents.conftest import METRICS, Host, eventually
from keyfence_server.application.ports import StoreUnavailable
from keyfence_server.clock_watch import ClockWatch
from support.clock import START, FrozenClock
from support.served import Served

SHIFTED = (sys.executable, "-m", "support.shifted_clock")
DAYS_400 = str(400 * 86_400)


class Boot:
    """A clock that no administrator sets."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    async def sleep_until(self, when: float) -> None:
        self.time = when


async def no_clock() -> datetime | None:
    return None


def watch(
    clock: FrozenClock,
    boot: Boot,
    database_time: Callable[[], Awaitable[datetime | None]] = no_clock,
    not_before: datetime | None = None,
) -> ClockWatch:
    return ClockWatch(clock, boot, 30, database_time, not_before)


async def test_a_step_of_the_clock_is_told_from_the_passing_of_time() -> None:
    clock, boot = FrozenClock(), Boot()
    watched = watch(clock, boot)
    clock.advance(timedelta(hours=9))
    boot.time += 9 * 3600
    await watched.compare()
    assert watched.problem() is None
    clock.advance(timedelta(days=400))
    await watched.compare()
    assert "400 days, 0:00:00 ahead of" in (watched.problem() or "")
    clock.advance(timedelta(days=-400))
    await watched.compare()
    assert watched.problem() is None


async def test_a_clock_before_the_last_use_of_the_directory_is_wrong() -> None:
    clock, boot = FrozenClock(), Boot()
    watched = watch(clock, boot, not_before=START + timedelta(minutes=5))
    await watched.compare()
    assert "behind the last time" in (watched.problem() or "")


@pytest.mark.parametrize(
    ("ahead", "is_wrong"), [(29, False), (31, True), (-29, False), (-31, True)]
)
async def test_the_database_s_clock_counts_where_there_is_one(ahead: float, is_wrong: bool) -> None:
    clock, boot = FrozenClock(), Boot()

    async def theirs() -> datetime | None:
        return START - timedelta(seconds=ahead)

    watched = watch(clock, boot, theirs)
    await watched.compare()
    assert (watched.problem() is not None) is is_wrong
    assert watched.skew_seconds == ahead


async def test_a_slow_answer_does_not_look_like_a_wrong_clock() -> None:
    """The database is frozen for two minutes before or after it reads its clock."""
    clock, boot = FrozenClock(), Boot()

    async def late() -> datetime | None:
        clock.advance(timedelta(minutes=2))
        return clock.now()

    async def early() -> datetime | None:
        now = clock.now()
        clock.advance(timedelta(minutes=2))
        return now

    for slow in (late, early):
        watched = watch(clock, boot, slow)
        await watched.compare()
        assert watched.problem() is None


async def test_a_database_that_is_away_changes_nothing() -> None:
    async def away() -> datetime | None:
        raise StoreUnavailable

    watched = watch(FrozenClock(), Boot(), away)
    await watched.compare()
    assert watched.problem() is None


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", pytest.param("pg", marks=pytest.mark.postgres)])
def test_a_clock_far_ahead_makes_no_keys_until_it_is_set_right(
    host: Host, database: str, request: pytest.FixtureRequest
) -> None:
    """Without the guard, keys would be made that expire in a wrong year."""
    offset = host.directory / "offset"
    more = {"PYTHONPATH": str(Path(__file__).parents[1])}
    if database == "pg":
        more["KEYFENCE_DATABASE_URL"] = request.getfixturevalue("postgres_url")
        more["KEYFENCE_PEPPER"] = "1:" + "A" * 43 + "="
    offset.write_text("0")
    server = host.start(more, command=(*SHIFTED, str(offset)))
    host.run("keyspaces", "apply", "-f", str(keyspace_file(host)))
    made = host.run("keys", "create", "-k", "demo", "-a", "acme", "-s", "vps:read", "-q").stdout
    listed = host.run("keys", "list", "-k", "demo", "-q").stdout.strip()
    assert server.get("/readyz") == (200, "ready\n")

    offset.write_text(DAYS_400)
    output = server.wait_for("clock_wrong")
    assert "400 days" in output
    eventually(lambda: server.get("/readyz")[0] == 503, "not ready")
    assert "400 days, 0:00:00 ahead of" in server.get("/readyz")[1]
    host.run("health", expect=1)
    refused = host.run("keys", "create", "-k", "demo", "-a", "acme", expect=6)
    assert "the clock of this server is 400 days" in refused.stderr
    # What takes something away is done all the same.
    host.run("keys", "revoke", listed)

    offset.write_text("0")
    server.wait_for("clock_right")
    eventually(lambda: server.get("/readyz")[0] == 200, "ready")
    host.run("keys", "create", "-k", "demo", "-a", "acme")
    host.run("check", made.strip(), "-k", "demo", expect=1)


@pytest.mark.slow
def test_a_clock_that_went_back_while_the_server_was_down_is_noticed_at_the_start(
    host: Host,
) -> None:
    offset = host.directory / "offset"
    more = {"PYTHONPATH": str(Path(__file__).parents[1])}
    offset.write_text("0")
    host.start(more, command=(*SHIFTED, str(offset))).stop()
    offset.write_text(str(-10 * 86_400))
    server = host.start(more, command=(*SHIFTED, str(offset)))
    server.wait_for("clock_wrong")
    assert "behind the last time at which a server used" in server.get("/readyz")[1]
    offset.write_text("0")
    eventually(lambda: server.get("/readyz")[0] == 200, "ready")


@pytest.mark.slow
def test_a_sidecar_whose_clock_is_not_that_of_its_server_is_not_ready_until_it_is(
    host: Host,
) -> None:
    """It would accept expired keys, or refuse good ones."""
    server = host.start()
    created = host.run(
        *("keys", "create", "-k", "system", "-a", "host-1", "-p", "sidecar", "--bind", "*", "-q")
    )
    offset, beside = host.directory / "offset", host.directory / "beside"
    offset.write_text(DAYS_400)
    beside.mkdir()
    sidecar = Served(
        beside,
        {
            **METRICS,
            "KEYFENCE_UPSTREAM": server.target,
            "KEYFENCE_UPSTREAM_TOKEN": created.stdout.strip(),
            "PYTHONPATH": str(Path(__file__).parents[1]),
        },
        subcommand="sidecar",
        command=(*SHIFTED, str(offset)),
    )
    try:
        sidecar.wait_for("clock_wrong")
        eventually(lambda: sidecar.get("/readyz")[0] == 503, "not ready")
        why = "400 days, 0:00:00 ahead of the clock of the server upstream"
        assert why in sidecar.get("/readyz")[1]
        offset.write_text("0")
        sidecar.wait_for("clock_right")
        eventually(lambda: sidecar.get("/readyz")[0] == 200, "ready")
    finally:
        sidecar.stop()


def keyspace_file(host: Host) -> Path:
    file = host.directory / "demo.yaml"
    file.write_text("keyspace: demo\nscopes:\n  vps:read: Look\n")
    return file
