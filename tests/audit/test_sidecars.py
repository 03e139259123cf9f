"""Attempts that a sidecar denies: in the audit log of its server, as its own are."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from keyfence.v1 import rate_limit_pb2, reason_pb2
from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.application.failed_attempts import KEPT_OF_HOLDER
from support.clock import START, FrozenClock
from support.serving import ROOT, Client, Refusal, Served, server_and_sidecar, start_for_test

REPORT_USES = "/keyfence.v1.ReplicationService/ReportUses"
QUICKLY = 0.02


async def denials(client: Client, clock: FrozenClock, count: int) -> list[Any]:
    """The denied attempts in the audit log, once there are so many. Each process writes
    its own down when their minute is over."""
    async with asyncio.timeout(30):
        while True:
            clock.advance(timedelta(minutes=1))
            page = await client.call("ListAuditEvents", action_prefix="check.denied")
            if len(page.events) >= count:
                return list(page.events)
            await asyncio.sleep(QUICKLY)


async def test_what_a_sidecar_denies_is_in_the_audit_log(clock: FrozenClock) -> None:
    """Once each, with whom it was reported by. What a limit stopped was counted upstream."""
    async with server_and_sidecar(clock=clock, usage_flush_seconds=QUICKLY) as (server, sidecar):
        once = rate_limit_pb2.RateLimit(requests=1, window=Duration(seconds=86_400))
        gone = await server.client.make_key(allowed_addresses=["192.0.2.1"])
        used_up = await server.client.make_key(rate_limit=once)
        await server.client.call("RevokeKey", key_id=gone.key.key_id)
        ask = sidecar.client.call
        for _ in range(3):
            await ask("Authenticate", api_key=gone.api_key, client_address="198.51.100.7")
        await ask("Authenticate", api_key="made up")
        for _ in range(3):
            await ask("Authenticate", api_key=used_up.api_key)
        lacking = await ask("CheckScope", api_key=used_up.api_key, required_scopes=["vps:read"])
        assert lacking.reason == reason_pb2.REASON_SCOPE_MISSING
        await sidecar.client.refusal("Authenticate", api_key=gone.api_key, credential="made up")

        events = await denials(server.client, clock, 5)
        made = await server.client.call(
            "ListAuditEvents", keyspace="system", action_prefix="key.create", newest_first=True
        )

    reporter = made.events[0].subject
    told = {
        (one.details["reason"], one.keyspace): (
            one.account_id,
            one.subject,
            one.details["count"],
            one.details.fields["reported_by"].string_value,
        )
        for one in events
    }
    assert len(events) == len(told) == 5
    key_id, limited = gone.key.key_id, used_up.key.key_id
    assert told == {
        ("KEY_REVOKED", "demo"): ("acct_1", key_id, 3, reporter),
        ("CREDENTIAL_MALFORMED", ""): ("", "", 1, reporter),
        ("RATE_LIMITED", "demo"): ("acct_1", limited, 2, ""),
        ("SCOPE_MISSING", "demo"): ("acct_1", limited, 1, reporter),
        ("CREDENTIAL_MALFORMED", "system"): ("", "", 1, reporter),
    }
    (revoked,) = [one for one in events if one.details["reason"] == "KEY_REVOKED"]
    assert revoked.details["address"] == "198.51.100.7"
    assert revoked.time.ToDatetime(tzinfo=UTC) == START


@pytest.fixture
async def served(tmp_path: Any, clock: FrozenClock) -> Any:
    served = await start_for_test(tmp_path / "data", clock=clock, usage_flush_seconds=QUICKLY)
    await served.client.apply()
    await served.client.apply("other")
    yield served
    await served.client.channel.close()
    await served.server.stop()


def attempt(**fields: Any) -> messages.ReportedAttempt:
    """One that is in order, but for these fields."""
    now = Timestamp(seconds=int(START.timestamp()))
    usual: dict[str, Any] = {
        "keyspace": "demo",
        "reason": reason_pb2.REASON_KEY_REVOKED,
        "subject": "key_1",
        "first_time": now,
        "last_time": now,
        "count": 1,
    }
    return messages.ReportedAttempt(**{**usual, **fields})


async def report(
    served: Served, *attempts: messages.ReportedAttempt, credential: object = ROOT
) -> int:
    """How many are refused."""
    request = messages.ReportUsesRequest(attempts=attempts)
    raw = await served.client.call_raw(
        REPORT_USES, request.SerializeToString(), credential=credential
    )
    return messages.ReportUsesResponse.FromString(raw).refused_attempts


async def test_what_cannot_be_or_is_not_to_be_known_is_refused_and_the_rest_counts(
    served: Served, clock: FrozenClock
) -> None:
    sidecar = await served.client.make_operator("replication:sync", bound=["demo"])
    everywhere = await served.client.make_operator("replication:sync", bound=["*"])
    later = Timestamp(seconds=int(START.timestamp()) + 60)
    wrong = [
        attempt(keyspace="other"),
        attempt(keyspace="nothing"),
        attempt(reason=reason_pb2.REASON_OK),
        attempt(reason=reason_pb2.REASON_CREDENTIAL_MISSING),
        attempt(reason=reason_pb2.REASON_UNSPECIFIED),
        attempt(count=0),
        attempt(count=-5),
        attempt(count=2**60),
        attempt(first_time=later),
        attempt(last_time=Timestamp(seconds=-(10**12))),
        attempt(address="somewhere"),
        attempt(subject="x" * 129),
        attempt(subject="two words"),
        attempt(account_id="line\nbreak"),
    ]
    for one in wrong:
        assert await report(served, one, credential=sidecar) == 1, one
    assert await report(served, attempt(keyspace="nothing"), credential=everywhere) == 1
    assert await report(served, attempt(count=7), *wrong, credential=sidecar) == len(wrong)

    (event,) = await denials(served.client, clock, 1)
    assert (event.keyspace, event.subject, event.details["count"]) == ("demo", "key_1", 7)


async def test_a_report_with_a_key_in_it_is_refused_whole(served: Served) -> None:
    """It would be kept. A sidecar names keys by their ids, or by their display prefixes."""
    key = (await served.client.make_key()).api_key
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await report(served, attempt(subject=key))
    assert Refusal.of(caught.value).reason == "INVALID_FIELD"


async def test_a_report_needs_the_scope_for_it(served: Served) -> None:
    checker = await served.client.make_operator("keys:check", bound=["demo"])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await report(served, attempt(), credential=checker)
    assert Refusal.of(caught.value).reason == "SCOPE_REQUIRED"


async def test_a_report_is_bounded_and_so_is_what_becomes_of_it(
    served: Served, clock: FrozenClock
) -> None:
    """A flood at a sidecar fills the log no more than one at the server."""
    many = [attempt(subject=f"key_{number}", count=3) for number in range(10_000)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await report(served, *many, attempt())
    assert Refusal.of(caught.value).reason == "INVALID_FIELD"
    assert await report(served, *many) == 0

    clock.advance(timedelta(minutes=1))
    await denials(served.client, clock, 1)
    listed = await served.client.call(
        "ListAuditEvents", action_prefix="check.denied", page_size=1_000
    )
    assert not listed.next_page_token
    assert len(listed.events) == KEPT_OF_HOLDER + 1
    assert sum(one.details["count"] for one in listed.events) == 30_000


async def test_a_clock_that_is_ahead_tells_of_nothing_that_is_to_come(
    served: Served, clock: FrozenClock
) -> None:
    ahead = Timestamp(seconds=int(START.timestamp()) + 86_400)
    assert await report(served, attempt(last_time=ahead)) == 0
    (event,) = await denials(served.client, clock, 1)
    assert event.time.ToDatetime(tzinfo=UTC) == START


async def report_uses(served: Served, *uses: messages.ReportedUse, credential: object) -> None:
    request = messages.ReportUsesRequest(uses=uses)
    await served.client.call_raw(REPORT_USES, request.SerializeToString(), credential=credential)


def use(key_id: str, **fields: Any) -> messages.ReportedUse:
    now = Timestamp(seconds=int(START.timestamp()))
    told = {"day": START.date().isoformat(), "count": 1, "last_used_time": now, **fields}
    return messages.ReportedUse(key_id=key_id, **told)


async def test_no_holder_reports_uses_of_keys_that_it_may_not_know(served: Served) -> None:
    """Otherwise a holder could make a key of another keyspace look used, for ever if it reports a
    use in a hundred years."""
    client = served.client
    demo = await client.make_operator("replication:sync", bound=["demo"])
    elsewhere = await client.make_operator("replication:sync", bound=["other"])
    made = (await client.make_key()).key
    later = Timestamp(seconds=int(START.timestamp()) + 10**9)
    unknown = "key_" + "0" * 26
    await report_uses(served, use(made.key_id, last_used_time=later), credential=elsewhere)
    mine = use(made.key_id, last_used_time=later, day="2999-01-01")
    await report_uses(served, mine, use(unknown), credential=demo)
    async with asyncio.timeout(30):
        while True:
            found = (await client.call("GetKey", key_id=made.key_id)).key
            if found.use_count:
                break
            await asyncio.sleep(QUICKLY)
    assert found.use_count == 1
    assert found.last_used_time.seconds == int(START.timestamp())


@pytest.mark.parametrize(
    "wrong",
    [
        use("key_\0"),
        use("kf_live_1"),
        use("key_1", last_used_address="there\0"),
        use("key_1", count=0),
    ],
)
async def test_what_could_not_be_written_down_is_not_taken(
    served: Served, wrong: messages.ReportedUse
) -> None:
    """It would keep all other uses from being written down, too."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await report_uses(served, wrong, credential=ROOT)
    assert Refusal.of(caught.value).reason == "INVALID_FIELD"
