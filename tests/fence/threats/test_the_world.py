"""Threats 25 and 27: the database goes away and comes back; the wall clock jumps."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

import grpc
import pytest

from fence.threats.conftest import LEASE_SECONDS, Assemble, DistantDatabase, Together
from keyfence import AsyncClient, CallFailed, KeyfenceError
from keyfence.holder.clock import SystemBootClock
from support.serving import Client

pytestmark = pytest.mark.postgres

LONG_LEASE_SECONDS: Final = 6.0
"""Of which enough is left for some calls, however busy the machine is."""


async def answer(together: Together, name: str, api_key: str) -> bool | str:
    """What a holder says, or by what error it says nothing."""
    try:
        return (await together.holders[name].check_scope(api_key, "vps:read")).allowed
    except KeyfenceError as error:
        return type(error).__name__


async def is_stale_or_silent(client: AsyncClient, api_key: str) -> bool:
    """Whether no answer is to be had that the promise holds for."""
    try:
        return (await client.check_scope(api_key, "vps:read")).stale
    except KeyfenceError:
        return True


@pytest.mark.slow
async def test_25_while_the_database_is_away_checks_go_on_for_a_lease_and_then_fail_closed(
    assemble: Assemble, distant: DistantDatabase
) -> None:
    """Without the lease, memory would be answered from for ever; without failing closed, a
    key that was revoked elsewhere would be accepted; without healing, somebody would have
    to do something by hand."""
    together = await assemble(distant.url, lease_seconds=LONG_LEASE_SECONDS)
    made = await together.here.create_key(
        keyspace="torture", account_id="acme", scopes=["vps:write"]
    )
    await together.warm(made.api_key)
    head = (await together.here.get_key(made.key.key_id)).revision
    distant.go_away()
    assert await answer(together, "two", made.api_key) is True
    assert await answer(together, "cache at one", made.api_key) is True
    with pytest.raises(CallFailed):
        await together.here.revoke_key(made.key.key_id, timeout_seconds=0.5)
    await asyncio.sleep(LONG_LEASE_SECONDS)
    for name in together.holders:
        assert await answer(together, name, made.api_key) in {"Unavailable", "DeadlineExceeded"}
    distant.come_back()
    for name in together.holders:
        async with asyncio.timeout(30):
            while await answer(together, name, made.api_key) is not True:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    # What was refused was refused whole: neither the key nor the log knows of it.
    assert (await together.here.get_key(made.key.key_id)).revision == head
    await together.here.revoke_key(made.key.key_id)
    assert not any((await together.answers(made.api_key)).values())


async def test_25_an_answer_that_cannot_be_given_says_so(
    assemble: Assemble, distant: DistantDatabase, tmp_path: Path
) -> None:
    """Not as a refusal of the key: a caller must be able to tell broken from denied."""
    together = await assemble(distant.url)
    made = await together.here.create_key(keyspace="torture", account_id="acme")
    distant.go_away()
    await asyncio.sleep(LEASE_SECONDS)
    # Past the SDK, which would try again for as long as its caller has time.
    for whom in ("one", "two", "sidecar"):
        async with grpc.aio.insecure_channel(
            f"unix:{tmp_path}/{whom}.sock", options=[("grpc.enable_retries", 0)]
        ) as channel:
            client = Client(channel, together.root)
            refusal = await client.refusal("Authenticate", api_key=made.api_key)
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        assert refusal.reason == "STORE_UNAVAILABLE"


@pytest.mark.slow
async def test_25_stale_answers_are_checks_alone(
    assemble: Assemble, distant: DistantDatabase, tmp_path: Path
) -> None:
    """Whose credential may be revoked can check, where that was asked for, and change nothing:
    neither now nor when the database is back in the middle of the call."""
    together = await assemble(distant.url, stale_if_error="1h")
    made = await together.here.create_key(
        keyspace="torture", account_id="acme", scopes=["vps:write"]
    )
    await together.warm(made.api_key)
    distant.go_away()
    await asyncio.sleep(LEASE_SECONDS)
    for whom in ("one", "two"):
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/{whom}.sock") as channel:
            client = Client(channel, together.root)
            async with asyncio.timeout(20):
                while not (await client.call("Authenticate", api_key=made.api_key)).stale:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            for rpc, fields in (
                ("RevokeKey", {"key_id": made.key.key_id}),
                ("GetKey", {"key_id": made.key.key_id}),
                ("WhoAmI", {}),
            ):
                refusal = await client.refusal(rpc, **fields)
                assert refusal.reason == "STORE_UNAVAILABLE", rpc
            assert (await client.call("Authenticate", api_key=made.api_key)).authenticated
    distant.come_back()
    for holder in together.holders.values():
        async with asyncio.timeout(30):
            while await is_stale_or_silent(holder, made.api_key):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    await together.here.revoke_key(made.key.key_id)
    assert not any((await together.answers(made.api_key)).values())


async def test_27_no_lease_is_stretched_or_cut_by_the_wall_clock(
    together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were leases measured by the time of day, a clock that is set back would keep memory
    in use long after its lease."""
    made = await together.here.create_key(
        keyspace="torture", account_id="acme", scopes=["vps:write"]
    )
    await together.warm(made.api_key)
    status = together.holders["cache at one"].cache_status
    real = time.time
    for jump in (timedelta(days=-1), timedelta(days=1)):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump.total_seconds())
        before = status()
        assert before is not None
        assert before.is_live
        assert before.lease_seconds_left <= LEASE_SECONDS
        await together.servers["one"].stop() if jump.days > 0 else None
    await asyncio.sleep(LEASE_SECONDS)
    after = status()
    assert after is not None
    assert not after.is_live


def test_27_leases_are_measured_by_a_clock_that_counts_suspended_time() -> None:
    """By `CLOCK_MONOTONIC` a machine that slept for a minute would wake with all its leases."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    now = SystemBootClock().now()
    assert before <= now <= time.clock_gettime(time.CLOCK_BOOTTIME)
