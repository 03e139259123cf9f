"""Rate limits, usage and the audit log, through both clients."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from clients.python.tests.authority import (
    NOON,
    Authority,
    a_key,
    allowed,
    an_event,
    denied,
    timestamp,
)
from clients.python.tests.conftest import Caller
from keyfence import (
    ExportedAuditEvent,
    KeyUsageDay,
    RateLimit,
    RateLimitCount,
    RateLimitStatus,
    RateLimitSubject,
    Reason,
    ScopeCheck,
)
from keyfence.v1 import (
    audit_service_pb2,
    authorization_service_pb2,
    key_service_pb2,
    rate_limit_pb2,
    reason_pb2,
)

MINUTE = timedelta(minutes=1)


def a_status(**fields: object) -> rate_limit_pb2.RateLimitStatus:
    defaults: dict[str, object] = {
        "limit": 60,
        "remaining": 0,
        "reset_time": timestamp(NOON),
        "retry_after": Duration(seconds=7),
        "window": Duration(seconds=60),
        "subject": rate_limit_pb2.RATE_LIMIT_SUBJECT_KEY,
        "count": rate_limit_pb2.RATE_LIMIT_COUNT_WHOLE,
    }
    return rate_limit_pb2.RateLimitStatus(**{**defaults, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(("cost", "sent"), [(1, None), (0, 0), (25, 25)])
async def test_a_checks_cost_is_sent_where_it_is_not_the_usual_one(
    call: Caller, authority: Authority, cost: int, sent: int | None
) -> None:
    await call("authenticate", "k", cost=cost)
    assert authority.last.request == authorization_service_pb2.AuthenticateRequest(
        api_key="k", cost=sent
    )
    await call("check_scope", "k", "a:b", cost=cost)
    assert authority.last.request == authorization_service_pb2.CheckScopeRequest(
        api_key="k", required_scopes=["a:b"], cost=sent
    )
    await call("batch_check_scope", [ScopeCheck(api_key="k", required_scopes=("a:b",), cost=cost)])
    assert authority.last.request.checks[0].HasField("cost") is (sent is not None)


async def test_where_a_limit_stands_comes_with_the_answer(
    call: Caller, authority: Authority
) -> None:
    limited = denied(reason_pb2.REASON_RATE_LIMITED)
    limited.rate_limit.CopyFrom(a_status())
    authority.answer("CheckScope", limited, allowed(), allowed(rate_limit=a_status(count=99)))
    result = await call("check_scope", "k", "a:b")
    assert not result
    assert result.reason is Reason.RATE_LIMITED
    assert result.rate_limit == RateLimitStatus(
        limit=60,
        remaining=0,
        reset_time=NOON,
        retry_after=7,
        window=MINUTE,
        subject=RateLimitSubject.KEY,
        count=RateLimitCount.WHOLE,
    )
    assert (await call("check_scope", "k", "a:b")).rate_limit is None
    unknown = await call("check_scope", "k", "a:b")
    assert unknown.rate_limit.count is RateLimitCount.UNRECOGNIZED


async def test_a_keys_own_limit_is_sent_changed_and_taken_away(
    call: Caller, authority: Authority
) -> None:
    sixty = rate_limit_pb2.RateLimit(requests=60, window=Duration(seconds=60))
    await call("create_key", keyspace="demo", rate_limit=RateLimit(60, MINUTE))
    assert authority.last.request.rate_limit == sixty
    await call("update_key", "key_1", rate_limit=RateLimit(60, MINUTE))
    assert authority.last.request.key.rate_limit == sixty
    assert list(authority.last.request.update_mask.paths) == ["rate_limit"]
    await call("update_key", "key_1", rate_limit=None)
    assert not authority.last.request.key.HasField("rate_limit")
    assert list(authority.last.request.update_mask.paths) == ["rate_limit"]


async def test_a_record_says_how_the_key_was_used(call: Caller, authority: Authority) -> None:
    authority.answer(
        "GetKey",
        key_service_pb2.GetKeyResponse(
            key=a_key(
                last_used_time=timestamp(NOON),
                last_used_address="192.0.2.1",
                use_count=12,
                rate_limit=rate_limit_pb2.RateLimit(requests=5, window=Duration(seconds=1)),
            )
        ),
    )
    key = await call("get_key", "key_1")
    assert (key.last_used_time, key.last_used_address, key.use_count) == (NOON, "192.0.2.1", 12)
    assert key.rate_limit == RateLimit(5, timedelta(seconds=1))
    unused = await call("get_key", "key_1")
    assert (unused.last_used_time, unused.use_count, unused.rate_limit) == (None, 0, None)


async def test_days_of_use_are_asked_for_and_come_as_days(
    call: Caller, authority: Authority
) -> None:
    days = await call("get_key_usage", "key_1", first_day=date(2030, 1, 1))
    assert authority.last.request == key_service_pb2.GetKeyUsageRequest(
        key_id="key_1", first_day="2030-01-01"
    )
    assert days == (KeyUsageDay(date(2030, 1, 1), 3),)


async def test_audit_events_are_filtered_and_listed_page_by_page(
    call: Caller, authority: Authority
) -> None:
    details = Struct()
    details.update({"count": 2, "scopes": ["a:b"]})
    authority.answer(
        "ListAuditEvents",
        audit_service_pb2.ListAuditEventsResponse(events=[an_event()], next_page_token="more"),
        audit_service_pb2.ListAuditEventsResponse(events=[an_event(details=details)]),
    )
    listing = call.client.list_audit_events(
        keyspace="demo",
        account_id="acme",
        subject="key_1",
        actor_id="key_2",
        action_prefix="key.",
        start_time=NOON,
        end_time=datetime(2031, 1, 1, tzinfo=UTC),
        newest_first=True,
        after_event_id="evt_4",
    )
    _, event = await call.all_of(listing)
    assert event.details == {"count": 2, "scopes": ["a:b"]}
    assert event.time == NOON
    assert authority.last.request == audit_service_pb2.ListAuditEventsRequest(
        keyspace="demo",
        account_id="acme",
        subject="key_1",
        actor_id="key_2",
        action_prefix="key.",
        start_time=timestamp(NOON),
        end_time=timestamp(datetime(2031, 1, 1, tzinfo=UTC)),
        newest_first=True,
        after_event_id="evt_4",
        page_token="more",
    )


async def test_a_log_with_a_problem_is_never_complete(call: Caller, authority: Authority) -> None:
    authority.answer(
        "VerifyAuditEvents",
        audit_service_pb2.VerifyAuditEventsResponse(sequence=3, complete=True, problem="missing"),
    )
    assert not (await call("verify_audit_events")).complete
    assert (await call("verify_audit_events", after_sequence=3, after_hash=bytes(32))).complete


async def test_the_audit_log_is_exported_and_that_is_recorded(
    call: Caller, authority: Authority
) -> None:
    page = await call("export_audit_events", after_sequence=4, page_size=7)
    assert authority.last.request == audit_service_pb2.ExportAuditEventsRequest(
        after_sequence=4, page_size=7
    )
    assert page.events == (ExportedAuditEvent("{}", b"5" * 32),)
    assert (page.previous_sequence, page.previous_hash) == (4, b"4" * 32)
    assert await call("record_audit_export", 4, 5, b"5" * 32) == 5
    assert authority.last.request == audit_service_pb2.RecordAuditExportRequest(
        after_sequence=4, sequence=5, hash=b"5" * 32
    )
