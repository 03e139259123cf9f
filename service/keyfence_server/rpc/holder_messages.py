"""What a server tells the holders downstream about keys, and what it reads in their reports."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from typing import Final

from keyfence.v1 import replication_service_pb2
from keyfence_server.application.failed_attempts import Attempt, ReportedAttempts
from keyfence_server.application.ports import MAX_USE_COUNT, KeyUse, UseToAdd
from keyfence_server.convert.checks import REASON_NUMBERS, REASONS, principal_of_facts
from keyfence_server.convert.times import time_from, timestamp_of
from keyfence_server.domain.addresses import find_address, parse_address
from keyfence_server.domain.errors import InvalidInput
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.keys import KeyId
from keyfence_server.domain.reasons import Reason
from keyfence_server.domain.redaction import is_an_id
from keyfence_server.rpc.metadata import REQUEST_ID, find_request_id

_NAME: Final = re.compile(r"[\x21-\x7e]{0,128}")


def facts_of(facts: KeyFacts) -> replication_service_pb2.KeyFacts:
    """What a holder needs to answer checks of a key."""
    key = facts.key
    principal = principal_of_facts(facts)
    if principal.effective_scopes_truncated:
        # Holders decide by the list.
        principal.effective_scopes[:] = facts.effective_scopes
        principal.effective_scopes_truncated = False
    message = replication_service_pb2.KeyFacts(
        principal=principal,
        standing=REASON_NUMBERS[facts.lasting_reason],
        expire_time=timestamp_of(facts.expire_time),
        is_counted=bool(facts.limits),
        depends_on=[
            *(f"key:{one.key_id}" for one in facts.lineage),
            f"keyspace:{key.keyspace}",
            f"account:{key.account_id}",
        ],
    )
    for networks in facts.allow_lists:
        message.address_lists.add(networks=map(str, networks))
    return message


def uses_from(
    messages: Iterable[replication_service_pb2.ReportedUse], *, first: int = 0
) -> list[UseToAdd]:
    """Uses that were reported, the first of them at this place. Raises `InvalidInput`."""
    uses = []
    for index, one in enumerate(messages, first):
        if not is_an_id(one.key_id):
            raise InvalidInput.field(f"uses[{index}].key_id", "must be the id of a key")
        try:
            day = date.fromisoformat(one.day)
        except ValueError:
            raise InvalidInput.field(f"uses[{index}].day", "is not a day like 2026-01-31") from None
        last = time_from(one.last_used_time, f"uses[{index}].last_used_time")
        if not 1 <= one.count <= MAX_USE_COUNT:
            raise InvalidInput.field(f"uses[{index}].count", f"must be 1 to {MAX_USE_COUNT}")
        if one.last_used_address and find_address(one.last_used_address) is None:
            raise InvalidInput.field(
                f"uses[{index}].last_used_address", "must be an IPv4 or IPv6 address"
            )
        use = KeyUse(last, one.last_used_address, one.count)
        uses.append(UseToAdd(KeyId(one.key_id), day, use))
    return uses


def attempts_from(
    message: replication_service_pb2.ReportedAttempt, reported_by: str
) -> ReportedAttempts | None:
    """Failed attempts that were reported; None for some that cannot be."""
    reason = REASONS.get(message.reason)
    try:
        first = time_from(message.first_time, "first_time").timestamp()
        last = time_from(message.last_time, "last_time").timestamp()
        address = str(parse_address(message.address)) if message.address else ""
    except (ValueError, InvalidInput):
        return None
    if (
        reason in (None, Reason.OK, Reason.CREDENTIAL_MISSING)
        or not 1 <= message.count <= MAX_USE_COUNT
        or not 0 <= first <= last
        or not _NAME.fullmatch(message.account_id)
        or not _NAME.fullmatch(message.subject)
    ):
        return None
    return ReportedAttempts(
        Attempt(
            message.keyspace,
            reason.name,
            message.account_id,
            message.subject,
            address,
            reported_by=reported_by,
        ),
        message.count,
        first,
        last,
        find_request_id([(REQUEST_ID, message.request_id)]),
    )
