"""Rate limits on the wire: what answers say, and that each check of a batch counts."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from keyfence.v1 import (
    authorization_service_pb2,
    key_service_pb2,
    keyspace_pb2,
    rate_limit_pb2,
    reason_pb2,
)
from rpc.conftest import Serve
from support.clock import FrozenClock
from support.serving import Served, read_metrics

MINUTE = Duration(seconds=60)
THREE = rate_limit_pb2.RateLimit(requests=3, window=MINUTE)


@pytest.fixture
async def limited(serve: Serve, clock: FrozenClock) -> Served:
    """A server with a frozen clock and three checks a minute for each key."""
    served = await serve(clock=clock)
    await served.client.apply(limits=keyspace_pb2.Limits(per_key=THREE))
    return served


async def test_every_answer_says_where_the_limit_stands(
    limited: Served, clock: FrozenClock
) -> None:
    client = limited.client
    made = await client.make_key(scopes=["vps:read"])
    reset = int(clock.timestamp()) + 61
    for left in (2, 1):
        answer = await client.call("Authenticate", api_key=made.api_key)
        assert answer.rate_limit == rate_limit_pb2.RateLimitStatus(
            limit=3,
            remaining=left,
            reset_time=Timestamp(seconds=reset),
            window=MINUTE,
            subject=rate_limit_pb2.RATE_LIMIT_SUBJECT_KEY,
            count=rate_limit_pb2.RATE_LIMIT_COUNT_WHOLE,
        )
    allowed = await client.call("CheckScope", api_key=made.api_key, required_scopes=["vps:read"])
    assert (allowed.allowed, allowed.rate_limit.remaining) == (True, 0)
    stopped = await client.call("CheckScope", api_key=made.api_key, required_scopes=["vps:read"])
    assert (stopped.allowed, stopped.reason) == (False, reason_pb2.REASON_RATE_LIMITED)
    assert stopped.rate_limit.retry_after == MINUTE
    assert stopped.principal.key_id == made.key.key_id
    lacking = await client.call("CheckScope", api_key=made.api_key, required_scopes=["vps:write"])
    assert lacking.reason == reason_pb2.REASON_SCOPE_MISSING
    assert lacking.rate_limit.limit == 3


async def test_a_key_without_a_limit_has_nothing_to_say_of_one(served: Served) -> None:
    made = await served.client.make_key(scopes=["vps:read"])
    answer = await served.client.call("Authenticate", api_key=made.api_key)
    assert answer.authenticated
    assert not answer.HasField("rate_limit")


async def test_each_check_of_a_batch_counts_in_order(limited: Served) -> None:
    made = await limited.client.make_key(scopes=["vps:read"])
    check = authorization_service_pb2.CheckScopeRequest(
        api_key=made.api_key, required_scopes=["vps:read"]
    )
    peek = authorization_service_pb2.CheckScopeRequest(
        api_key=made.api_key, required_scopes=["vps:read"], cost=0
    )
    answer = await limited.client.call(
        "BatchCheckScope", checks=[check, peek, check, check, check, peek]
    )
    responses = [result.response for result in answer.results]
    assert [one.allowed for one in responses] == [True, True, True, True, False, True]
    assert [one.rate_limit.remaining for one in responses] == [2, 2, 1, 0, 0, 0]


async def test_a_wrong_cost_spoils_its_own_check_of_a_batch_alone(limited: Served) -> None:
    made = await limited.client.make_key(scopes=["vps:read"])
    good = authorization_service_pb2.CheckScopeRequest(
        api_key=made.api_key, required_scopes=["vps:read"]
    )
    bad = authorization_service_pb2.CheckScopeRequest(
        api_key=made.api_key, required_scopes=["vps:read"], cost=-1
    )
    answer = await limited.client.call("BatchCheckScope", checks=[bad, good])
    assert answer.results[0].error.reason == "INVALID_FIELD"
    assert answer.results[1].response.rate_limit.remaining == 2


async def test_a_keys_own_limit_is_made_changed_and_taken_away(limited: Served) -> None:
    client = limited.client
    five = rate_limit_pb2.RateLimit(requests=5, window=MINUTE)
    made = await client.make_key(rate_limit=five)
    assert made.key.rate_limit == five
    changed = await client.call(
        "UpdateKey",
        key=key_service_pb2.Key(key_id=made.key.key_id),
        update_mask=FieldMask(paths=["rate_limit"]),
    )
    assert not changed.key.HasField("rate_limit")
    found = await client.call("GetKey", key_id=made.key.key_id)
    assert not found.key.HasField("rate_limit")
    refused = await client.refusal("CreateKey", keyspace="demo", account_id="a", rate_limit={})
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [path for path, _ in refused.violations] == ["rate_limit"]


async def test_declared_limits_come_back_as_they_were_applied(limited: Served) -> None:
    limits = keyspace_pb2.Limits(
        per_key=THREE,
        per_account=rate_limit_pb2.RateLimit(requests=1_000, window=Duration(seconds=90)),
    )
    await limited.client.apply(limits=limits)
    found = await limited.client.call("GetKeyspace", name="demo")
    assert found.keyspace.limits == limits
    again = await limited.client.call("ApplyKeyspace", keyspace=found.keyspace)
    assert not again.diff.changed_fields


async def test_a_shared_counter_that_is_away_is_an_error_if_that_is_set(serve: Serve) -> None:
    """The caller can tell "broken" from "denied", and the operator can see it."""
    served = await serve(
        rate_limit_url="redis://127.0.0.1:1/0",
        rate_limit_on_failure="deny",
        metrics_listen="127.0.0.1:0",
    )
    await served.client.apply(limits=keyspace_pb2.Limits(per_key=THREE))
    made = await served.client.make_key(scopes=["vps:read"])
    refused = await served.client.refusal("Authenticate", api_key=made.api_key)
    assert refused.code is grpc.StatusCode.UNAVAILABLE
    assert refused.reason == "RATE_LIMITS_UNAVAILABLE"
    metrics = read_metrics(served)
    assert "keyfence_rate_limit_counter_away 1.0" in metrics
    assert "keyfence_rate_limit_checks_without_counter_total 1.0" in metrics


async def test_an_answer_without_the_shared_counter_says_so(serve: Serve) -> None:
    served = await serve(rate_limit_url="redis://127.0.0.1:1/0")
    await served.client.apply(limits=keyspace_pb2.Limits(per_key=THREE))
    made = await served.client.make_key(scopes=["vps:read"])
    answer = await served.client.call("Authenticate", api_key=made.api_key)
    assert answer.authenticated
    assert answer.rate_limit.count == rate_limit_pb2.RATE_LIMIT_COUNT_LOCAL
