"""Grants that arrive late, as the torture makes them: else it would not have tried them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from fence.torture.broken import break_this_process
from fence.torture.faults import Faults
from keyfence.holder.lease import HolderLease
from testkit.links import Links
from testkit.proxy import Mode

LATE_SECONDS: Final = 0.2
LEASE_SECONDS: Final = 1.0


@dataclass
class Grantor:
    """Grants what it hears, at the other end of a link."""

    links: Links
    door: str
    has_heard: asyncio.Event

    @asynccontextmanager
    async def connected(
        self, *, late_seconds: float
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A holder's connection by the link, which is late from before the connection on."""
        self.links.set("holder-grantor", Mode.LATE, late_seconds)
        reader, writer = await asyncio.open_unix_connection(self.door)
        try:
            yield reader, writer
        finally:
            writer.close()


@pytest.fixture
async def grantor(tmp_path: Path) -> AsyncIterator[Grantor]:
    has_heard, is_over = asyncio.Event(), asyncio.Event()

    async def grant(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            has_heard.set()
            writer.write(line)
        writer.close()
        is_over.set()

    ends = str(tmp_path / "link"), str(tmp_path / "grantor")
    async with await asyncio.start_unix_server(grant, ends[1]):
        with Links({"holder-grantor": ends}) as links:
            yield Grantor(links, ends[0], has_heard)
        await is_over.wait()


async def test_a_grant_is_late_and_the_request_for_it_is_not(grantor: Grantor) -> None:
    async with grantor.connected(late_seconds=1_000) as (reader, writer):
        writer.write(b"renew\n")
        async with asyncio.timeout(30):
            await grantor.has_heard.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(LATE_SECONDS):
                await reader.readline()


@pytest.mark.parametrize(("broken", "too_long"), [(None, 0.0), ("I2-sent", LATE_SECONDS)])
async def test_a_lease_is_as_much_too_long_as_its_grant_is_late_where_it_counts_from_the_receipt(
    grantor: Grantor, monkeypatch: pytest.MonkeyPatch, broken: str | None, too_long: float
) -> None:
    # So that what the broken build puts in its place is taken away again.
    monkeypatch.setattr(HolderLease, "grant", HolderLease.grant)
    break_this_process(broken)
    lease = HolderLease()
    async with grantor.connected(late_seconds=LATE_SECONDS) as (reader, writer):
        sent = time.clock_gettime(time.CLOCK_BOOTTIME)
        writer.write(b"%d\n" % lease.request(sent))
        nonce = int(await reader.readline())
        assert lease.grant(nonce, LEASE_SECONDS, 1, "epoch")
    excess = lease.until - (sent + LEASE_SECONDS)
    assert excess >= too_long if broken else excess == 0


class Everything:
    """A fleet, and a process of it, in which nothing runs. It records what links are made."""

    name = "server0"
    has_ended = False
    sidecars = clients = clocks = ()
    postgres = None
    links = ("async-server0", "rust-sidecar1", "server1-database")

    def __init__(self) -> None:
        self.servers = [self]
        self.was_set: set[tuple[str, Mode]] = set()

    def set_link(self, name: str, mode: Mode, _seconds: float = 0.0) -> None:
        self.was_set.add((name, mode))

    def nothing(self, *_: object) -> None: ...

    signal = kill = start = start_anew = nothing


def test_every_link_is_late_some_time_in_a_run_of_the_product() -> None:
    """Were late grants kept for the build that they show best in, no other run would meet them."""
    fleet: Any = Everything()
    faults = Faults(fleet, random.Random(1), LEASE_SECONDS)
    for tick in range(2_000):
        faults.go_on(float(tick))
    assert fleet.was_set == {(name, mode) for name in fleet.links for mode in Mode}
