"""The audit log on the wire, request ids end to end, and no secret in any of it."""

from __future__ import annotations

import io
import sqlite3
from typing import Any

import grpc
import pytest

from keyfence.v1 import key_service_pb2
from rpc.conftest import Serve
from support.clock import FrozenClock
from support.serving import Served, read_metrics


async def events_of(served: Served, **fields: Any) -> list[Any]:
    return list((await served.client.call("ListAuditEvents", **fields)).events)


async def test_one_request_id_is_in_the_log_the_audit_and_the_answer(
    served: Served, log: io.StringIO
) -> None:
    method = "/keyfence.v1.KeyService/CreateKey"
    call = served.client.channel.unary_unary(method)(
        key_service_pb2.CreateKeyRequest(keyspace="demo", account_id="a").SerializeToString(),
        metadata=(
            ("authorization", f"Bearer {served.client.root}"),
            ("x-request-id", "from-afar-1"),
        ),
    )
    await call
    assert dict(await call.trailing_metadata())["x-request-id"] == "from-afar-1"
    assert '"request_id": "from-afar-1"' in log.getvalue()
    event = (await events_of(served, newest_first=True))[0]
    assert (event.action, event.request_id) == ("key.create", "from-afar-1")


async def test_a_failed_attempt_keeps_the_request_id_that_it_came_with(
    serve: Serve, clock: FrozenClock
) -> None:
    served = await serve(clock=clock)
    await served.client.apply()
    await served.client.call(
        "Authenticate", api_key="made-up", metadata=[("x-request-id", "from-afar-2")]
    )
    await served.server.stop()
    again = await serve(clock=clock)
    (event,) = await events_of(again, action_prefix="check.denied")
    assert event.request_id == "from-afar-2"
    assert event.details["reason"] == "CREDENTIAL_MALFORMED"
    assert event.details["count"] == 1


async def test_what_a_credential_may_not_do_is_in_the_audit_log(
    serve: Serve, clock: FrozenClock
) -> None:
    """Who has found a credential tries it, and what it tried can be looked up by the
    credential."""
    served = await serve(clock=clock)
    client = served.client
    await client.apply()
    key = await client.make_key(scopes=["vps:read"])
    reader = await client.make_operator("keys:read", bound=["demo"])
    me = (await client.call("WhoAmI", credential=reader)).principal
    for _ in range(3):
        await client.refusal(
            "CreateKey", scopes=["vps:write"], credential=key.api_key, account_id="acct_1"
        )
    await client.refusal("RevokeKey", key_id=key.key.key_id, credential=reader)
    await client.refusal("GetKeyspace", name="other", credential=reader)
    await client.refusal("GetKey", key_id="key_0", credential=reader)
    checker = await client.make_operator("keys:check", bound=["demo"])
    checks = [{"api_key": "x", "keyspace": "system", "required_scopes": ["keys:read"]}] * 5
    await client.call("BatchCheckScope", checks=checks, credential=checker)
    checking = (await client.call("WhoAmI", credential=checker)).principal
    await served.server.stop()
    again = await serve(clock=clock)
    events = await events_of(again, action_prefix="call.denied")
    found = {
        (one.actor_id, one.details["method"].rsplit("/")[-1], one.details["reason"]): one
        for one in events
    }
    assert found.keys() == {
        (key.key.key_id, "CreateKey", "EXCEEDS_MAKER"),
        (me.key_id, "RevokeKey", "SCOPE_REQUIRED"),
        (me.key_id, "GetKeyspace", "SCOPE_REQUIRED"),
        (checking.key_id, "BatchCheckScope", "KEYSPACE_NOT_BOUND"),
    }
    exceeded = found[key.key.key_id, "CreateKey", "EXCEEDS_MAKER"]
    assert exceeded.details["count"] == 3
    assert (exceeded.keyspace, exceeded.account_id) == ("demo", "acct_1")
    assert exceeded.details["address"] == "127.0.0.1"
    required = found[me.key_id, "RevokeKey", "SCOPE_REQUIRED"]
    assert (required.keyspace, required.account_id) == ("system", "operators")
    assert [one.event_id for one in await events_of(again, actor_id=me.key_id)] == [
        one.event_id for one in events if one.actor_id == me.key_id
    ]


async def test_what_was_noted_is_written_down_when_the_server_stops(serve: Serve) -> None:
    served = await serve()
    await served.client.apply()
    made = await served.client.make_key()
    await served.client.call("Authenticate", api_key=made.api_key, client_address="192.0.2.1")
    await served.server.stop()
    again = await serve()
    key = (await again.client.call("GetKey", key_id=made.key.key_id)).key
    assert (key.use_count, key.last_used_address) == (1, "192.0.2.1")
    assert key.HasField("last_used_time")
    listed = (await again.client.call("ListKeys", keyspace="demo")).keys
    assert [one.use_count for one in listed] == [1]
    days = (await again.client.call("GetKeyUsage", key_id=made.key.key_id)).days
    assert [day.use_count for day in days] == [1]


async def test_the_chain_is_verified_over_the_wire(served: Served) -> None:
    await served.client.make_key()
    answer = await served.client.call("VerifyAuditEvents")
    assert answer.complete
    assert answer.sequence == len(await events_of(served))
    assert answer.hash == (await events_of(served, newest_first=True))[0].hash
    part = await served.client.call("VerifyAuditEvents", max_events=1)
    assert (part.complete, part.sequence, part.problem) == (False, 1, "")
    rest = await served.client.call("VerifyAuditEvents", after_sequence=1, after_hash=part.hash)
    assert rest.complete
    wrong = await served.client.call("VerifyAuditEvents", after_sequence=1, after_hash=bytes(32))
    assert not wrong.complete
    assert "event 2" in wrong.problem


@pytest.mark.parametrize("rpc", ["ListAuditEvents", "VerifyAuditEvents"])
async def test_reading_the_audit_log_needs_the_scope_for_it(served: Served, rpc: str) -> None:
    checker = await served.client.make_operator("keys:*", "keyspaces:*")
    refused = await served.client.refusal(rpc, credential=checker)
    assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_REQUIRED")
    auditor = await served.client.make_operator("audit:read")
    await served.client.call(rpc, credential=auditor)


async def test_no_account_verifies_what_is_not_its_own(served: Served) -> None:
    made = await served.client.make_key(scopes=["*"])
    assert await served.client.call("ListAuditEvents", credential=made.api_key)
    refused = await served.client.refusal("VerifyAuditEvents", credential=made.api_key)
    assert refused.code is grpc.StatusCode.PERMISSION_DENIED


async def test_no_secret_is_in_any_sink(serve: Serve, log: io.StringIO) -> None:
    """Keys that pass, that fail, that are in the wrong field: in no log, table or metric."""
    served = await serve(metrics_listen="127.0.0.1:0")
    client = served.client
    await client.apply()
    made = await client.make_key(scopes=["vps:read"])
    gone = await client.make_key()
    await client.call("RevokeKey", key_id=gone.key.key_id, comment="lost")
    unknown = made.api_key[:-12] + "A" * 12
    password = "correct-horse-battery-staple-1"
    for text in (made.api_key, gone.api_key, unknown, password):
        await client.call("Authenticate", api_key=text, metadata=[("x-request-id", text[:64])])
        await client.refusal("WhoAmI", credential="x" + text)
        await client.refusal("GetKey", key_id=text)
    metrics = read_metrics(served)
    answers = repr(await client.call("ListAuditEvents"))
    await served.server.stop()
    database = sqlite3.connect(served.data_dir / "keyfence.db")
    dump = "\n".join(database.iterdump())
    database.close()
    for sink in (log.getvalue(), metrics, answers, dump):
        for secret in (made.api_key, gone.api_key, unknown, password, client.root):
            body = secret[-20:]
            assert body not in sink
