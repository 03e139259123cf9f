"""Between the API's messages and `keyfence.results`, both ways.

Must not know of channels or clients. Where the two sides could disagree about an
allow, the conversion takes the denial.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from keyfence import results
from keyfence._failures import error_from_check
from keyfence.errors import InternalError
from keyfence.v1 import (
    account_service_pb2,
    audit_service_pb2,
    explanation_pb2,
    key_service_pb2,
    keyspace_pb2,
    keyspace_service_pb2,
    principal_pb2,
    rate_limit_pb2,
    reason_pb2,
)
from keyfence.v1 import authorization_service_pb2 as authorization
from keyfence.v1 import replication_service_pb2 as replication

_HOLDER_KINDS: Final = {
    replication.HOLDER_KIND_SERVER: results.HolderKind.SERVER,
    replication.HOLDER_KIND_SIDECAR: results.HolderKind.SIDECAR,
    replication.HOLDER_KIND_SDK: results.HolderKind.SDK,
}
_REASONS: Final[Mapping[int, results.Reason]] = {
    number: results.Reason(name.removeprefix("REASON_"))
    for name, number in reason_pb2.Reason.items()
    if name.removeprefix("REASON_") in results.Reason.__members__
}
_SUBJECTS: Final[Mapping[int, results.RateLimitSubject]] = {
    rate_limit_pb2.RATE_LIMIT_SUBJECT_KEY: results.RateLimitSubject.KEY,
    rate_limit_pb2.RATE_LIMIT_SUBJECT_ACCOUNT: results.RateLimitSubject.ACCOUNT,
}
_COUNTS: Final[Mapping[int, results.RateLimitCount]] = {
    rate_limit_pb2.RATE_LIMIT_COUNT_WHOLE: results.RateLimitCount.WHOLE,
    rate_limit_pb2.RATE_LIMIT_COUNT_LOCAL: results.RateLimitCount.LOCAL,
    rate_limit_pb2.RATE_LIMIT_COUNT_NONE: results.RateLimitCount.NONE,
}
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_STATES: Final[Mapping[int, results.KeyState]] = {
    key_service_pb2.KEY_STATE_ACTIVE: results.KeyState.ACTIVE,
    key_service_pb2.KEY_STATE_DISABLED: results.KeyState.DISABLED,
    key_service_pb2.KEY_STATE_REVOKED: results.KeyState.REVOKED,
}
_STATE_NUMBERS: Final[Mapping[results.KeyState, key_service_pb2.KeyState.ValueType]] = {
    results.KeyState.ACTIVE: key_service_pb2.KEY_STATE_ACTIVE,
    results.KeyState.DISABLED: key_service_pb2.KEY_STATE_DISABLED,
    results.KeyState.REVOKED: key_service_pb2.KEY_STATE_REVOKED,
}


# --- to messages ---------------------------------------------------------------------


def texts(name: str, values: Iterable[str]) -> list[str]:
    """The values as a list. A single text is a mistake: it would be taken letter by letter."""
    if isinstance(values, str):
        raise TypeError(f"{name} takes several texts, not one: put it into a list")
    return list(values)


def presented(api_key: str) -> str:
    """The key as it can be sent.

    Half a surrogate pair, which a header can smuggle into a text, cannot be UTF-8. It
    becomes a character that is in no key, so that the answer is "malformed" instead of an
    exception that carries the whole text.
    """
    return api_key if api_key.isascii() else _SURROGATES.sub("\ufffd", api_key)


def timestamp(name: str, value: datetime | None) -> Timestamp | None:
    """Converts an aware time to a message. A naive time does not name an instant: refused."""
    if value is None:
        return None
    if value.utcoffset() is None:
        raise ValueError(f"{name} needs a time zone, for example datetime.now(UTC)")
    message = Timestamp()
    message.FromDatetime(value.astimezone(UTC))
    return message


def duration(value: timedelta | None) -> Duration | None:
    """The span as a message."""
    if value is None:
        return None
    message = Duration()
    message.FromTimedelta(value)
    return message


def state_number(state: results.KeyState | None) -> key_service_pb2.KeyState.ValueType:
    """The state as the API numbers it. None: unspecified."""
    if state is None:
        return key_service_pb2.KEY_STATE_UNSPECIFIED
    try:
        return _STATE_NUMBERS[state]
    except KeyError:
        raise ValueError(f"{state!r} is not a state that can be asked for") from None


def check_request(check: results.ScopeCheck) -> authorization.CheckScopeRequest:
    """The request of one check."""
    return authorization.CheckScopeRequest(
        api_key=presented(check.api_key),
        required_scopes=texts("required_scopes", check.required_scopes),
        keyspace=check.keyspace or "",
        client_address=check.client_address or "",
        at_least_revision=check.at_least_revision,
        explain=check.explain,
        # One is what the server takes where nothing is said.
        cost=check.cost if check.cost != 1 else None,
    )


def rate_limit(value: results.RateLimit | None) -> rate_limit_pb2.RateLimit | None:
    """The limit as a message."""
    if value is None:
        return None
    return rate_limit_pb2.RateLimit(requests=value.requests, window=duration(value.window))


def key_to_import(value: results.KeyToImport) -> key_service_pb2.KeyToImport:
    """The key as a message. Raises `ValueError` unless it has one secret."""
    names = ("api_key", "sha256", "sha512", "hmac_sha256", "password_hash")
    given = {name: secret for name in names if (secret := getattr(value, name)) is not None}
    if len(given) != 1:
        raise ValueError(f"a key to import needs one of {', '.join(names)}")
    if (value.prefix is None) != (value.password_hash is None):
        raise ValueError("a key to import has a prefix if it has a password_hash")
    message = key_service_pb2.KeyToImport(
        account_id=value.account_id,
        display_name=value.display_name or "",
        scopes=texts("scopes", value.scopes),
        preset=value.preset or "",
        key_type=value.key_type or "",
        environment=value.environment or "",
        expire_time=timestamp("expire_time", value.expire_time),
        allowed_addresses=texts("allowed_addresses", value.allowed_addresses),
        labels=value.labels,
        rate_limit=rate_limit(value.rate_limit),
    )
    for name, secret in given.items():
        if name == "password_hash":
            message.password_hash.prefix = value.prefix or ""
            message.password_hash.hash = secret
        else:
            setattr(message, name, secret)
    return message


# --- from messages -------------------------------------------------------------------


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)


def _reason(number: int) -> results.Reason:
    return _REASONS.get(number, results.Reason.UNRECOGNIZED)


def principal(message: principal_pb2.Principal) -> results.Principal:
    """Whose key it is."""
    return results.Principal(
        key_id=message.key_id,
        account_id=message.account_id,
        keyspace=message.keyspace,
        key_type=message.key_type,
        environment=message.environment,
        display_name=message.display_name,
        granted_scopes=tuple(message.granted_scopes),
        effective_scopes=tuple(message.effective_scopes),
        expire_time=_time(message.expire_time) if message.HasField("expire_time") else None,
        display_prefix=message.display_prefix,
        parent_key_id=message.parent_key_id,
        labels=dict(message.labels),
        bound_keyspaces=tuple(message.bound_keyspaces),
        session_id=message.session_id,
        effective_scopes_truncated=message.effective_scopes_truncated,
    )


_ACCOUNT_STATES: Final[Mapping[int, results.AccountState]] = {
    account_service_pb2.ACCOUNT_STATE_ACTIVE: results.AccountState.ACTIVE,
    account_service_pb2.ACCOUNT_STATE_DISABLED: results.AccountState.DISABLED,
}


def account_state_number(
    state: results.AccountState | None,
) -> account_service_pb2.AccountState.ValueType:
    """The state of a filter. None: any."""
    if state is None:
        return account_service_pb2.ACCOUNT_STATE_UNSPECIFIED
    for number, known in _ACCOUNT_STATES.items():
        if known is state:
            return account_service_pb2.AccountState.ValueType(number)
    raise ValueError(f"{state!r} is not a state that can be asked for")


def account(message: account_service_pb2.Account) -> results.Account:
    """An account's record."""
    has_disable_time = message.HasField("disable_time")
    return results.Account(
        account_id=message.account_id,
        keyspace=message.keyspace,
        email=message.email,
        display_name=message.display_name,
        plan=message.plan,
        state=_ACCOUNT_STATES.get(message.state, results.AccountState.UNRECOGNIZED),
        labels=dict(message.labels),
        create_time=_time(message.create_time) if message.HasField("create_time") else None,
        update_time=_time(message.update_time) if message.HasField("update_time") else None,
        disable_time=_time(message.disable_time) if has_disable_time else None,
        revision=message.revision,
    )


def logged_in(message: account_service_pb2.LogInResponse) -> results.LoggedIn:
    """A session that has begun."""
    session = message.session
    return results.LoggedIn(
        session_token=message.session_token,
        session=results.Session(
            session_id=session.session_id,
            account_id=session.account_id,
            keyspace=session.keyspace,
            create_time=_time(session.create_time) if session.HasField("create_time") else None,
            expire_time=_time(session.expire_time) if session.HasField("expire_time") else None,
        ),
        account=account(message.account),
        revision=message.revision,
    )


def _rate_limit(message: rate_limit_pb2.RateLimit) -> results.RateLimit:
    return results.RateLimit(message.requests, message.window.ToTimedelta())


def _rate_limit_status(message: rate_limit_pb2.RateLimitStatus) -> results.RateLimitStatus:
    has_retry_after = message.HasField("retry_after")
    return results.RateLimitStatus(
        limit=message.limit,
        remaining=message.remaining,
        reset_time=_time(message.reset_time),
        retry_after=message.retry_after.seconds if has_retry_after else None,
        window=message.window.ToTimedelta(),
        subject=_SUBJECTS.get(message.subject, results.RateLimitSubject.UNRECOGNIZED),
        count=_COUNTS.get(message.count, results.RateLimitCount.UNRECOGNIZED),
    )


def replicas(message: replication.ListReplicasResponse) -> results.Replicas:
    """The answer to `ListReplicas`."""
    return results.Replicas(
        items=tuple(map(_replica, message.replicas)), head_revision=message.head_revision
    )


def _replica(message: replication.Replica) -> results.Replica:
    return results.Replica(
        holder_id=message.holder_id,
        kind=_HOLDER_KINDS.get(message.kind, results.HolderKind.UNRECOGNIZED),
        display_name=message.display_name,
        grantor_id=message.grantor_id,
        applied_revision=message.applied_revision,
        lease_age=message.lease_age.ToTimedelta() if message.HasField("lease_age") else None,
        join_time=_time(message.join_time) if message.HasField("join_time") else None,
    )


def authentication(message: authorization.AuthenticateResponse) -> results.Authentication:
    """The answer to `Authenticate`."""
    reason = _reason(message.reason)
    return results.Authentication(
        authenticated=message.authenticated and reason is results.Reason.OK,
        reason=reason,
        principal=principal(message.principal) if message.HasField("principal") else None,
        revision=message.revision,
        rate_limit=(
            _rate_limit_status(message.rate_limit) if message.HasField("rate_limit") else None
        ),
        stale=message.stale,
    )


def check_result(message: authorization.CheckScopeResponse) -> results.CheckResult:
    """The answer to `CheckScope`."""
    reason = _reason(message.reason)
    return results.CheckResult(
        allowed=message.allowed and reason is results.Reason.OK,
        reason=reason,
        missing_scopes=tuple(message.missing_scopes),
        principal=principal(message.principal) if message.HasField("principal") else None,
        revision=message.revision,
        explanation=(
            _explanation(message.explanation) if message.HasField("explanation") else None
        ),
        rate_limit=(
            _rate_limit_status(message.rate_limit) if message.HasField("rate_limit") else None
        ),
        stale=message.stale,
    )


def batch_results(
    message: authorization.BatchCheckScopeResponse, asked: Sequence[results.ScopeCheck]
) -> tuple[results.CheckResult | results.FailedCheck, ...]:
    """The answers to a batch, one for each check, in their order.

    Raises:
        InternalError: there are more or fewer, so that none can be told to belong to any.
    """
    if len(message.results) != len(asked):
        raise InternalError(f"the server answered {len(message.results)} checks of {len(asked)}")
    return tuple(
        _batch_result(result, check.api_key)
        for result, check in zip(message.results, asked, strict=True)
    )


def _batch_result(
    message: authorization.BatchCheckScopeResult, api_key: str
) -> results.CheckResult | results.FailedCheck:
    if message.WhichOneof("result") == "response":
        return check_result(message.response)
    error = message.error
    return results.FailedCheck(
        error_from_check(error.code, error.reason, error.message, error.metadata, [api_key])
    )


def _paths(messages: Iterable[explanation_pb2.ScopePath]) -> tuple[results.ScopePath, ...]:
    return tuple(
        results.ScopePath(message.scope, message.granted, tuple(message.path))
        for message in messages
    )


def _explanation(message: explanation_pb2.ScopeExplanation) -> results.ScopeExplanation:
    return results.ScopeExplanation(
        held=_paths(message.held),
        sufficient_grants=tuple(message.sufficient_grants),
        capped=tuple(
            results.CappedScope(capped.scope, capped.capped_by) for capped in message.capped
        ),
    )


def identity(message: authorization.WhoAmIResponse) -> results.Identity:
    """The answer to `WhoAmI`."""
    return results.Identity(principal=principal(message.principal), revision=message.revision)


def key(message: key_service_pb2.Key) -> results.Key:
    """A key's record."""

    def time(name: str) -> datetime | None:
        return _time(getattr(message, name)) if message.HasField(name) else None  # type: ignore[arg-type]

    return results.Key(
        key_id=message.key_id,
        keyspace=message.keyspace,
        account_id=message.account_id,
        display_name=message.display_name,
        granted_scopes=tuple(message.granted_scopes),
        effective_scopes=tuple(message.effective_scopes),
        state=_STATES.get(message.state, results.KeyState.UNRECOGNIZED),
        expire_time=time("expire_time"),
        key_type=message.key_type,
        environment=message.environment,
        display_prefix=message.display_prefix,
        preset=message.preset,
        create_time=time("create_time"),
        update_time=time("update_time"),
        revoke_time=time("revoke_time"),
        revision=message.revision,
        allowed_addresses=tuple(message.allowed_addresses),
        parent_key_id=message.parent_key_id,
        rotated_from_key_id=message.rotated_from_key_id,
        rotated_to_key_id=message.rotated_to_key_id,
        created_by_key_id=message.created_by_key_id,
        labels=dict(message.labels),
        bound_keyspaces=tuple(message.bound_keyspaces),
        rate_limit=_rate_limit(message.rate_limit) if message.HasField("rate_limit") else None,
        last_used_time=time("last_used_time"),
        last_used_address=message.last_used_address,
        use_count=message.use_count,
        effective_scopes_truncated=message.effective_scopes_truncated,
    )


def usage_day(message: key_service_pb2.KeyUsageDay) -> results.KeyUsageDay:
    """How often a key was used on a day."""
    return results.KeyUsageDay(date.fromisoformat(message.day), message.use_count)


def audit_event(message: audit_service_pb2.AuditEvent) -> results.AuditEvent:
    """Converts an audit event."""
    return results.AuditEvent(
        event_id=message.event_id,
        time=_time(message.time),
        action=message.action,
        keyspace=message.keyspace,
        account_id=message.account_id,
        subject=message.subject,
        actor_id=message.actor_id,
        request_id=message.request_id,
        details=json_format.MessageToDict(message.details),
        sequence=message.sequence,
        revision=message.revision,
        hash=message.hash,
    )


def keyspace(message: keyspace_pb2.Keyspace) -> results.Keyspace:
    """A keyspace, with the message itself as its declaration."""
    return results.Keyspace(
        name=message.name,
        declaration=message,
        revision=message.revision,
        create_time=_time(message.create_time) if message.HasField("create_time") else None,
        update_time=_time(message.update_time) if message.HasField("update_time") else None,
    )


def applied_keyspace(
    message: keyspace_service_pb2.ApplyKeyspaceResponse,
) -> results.AppliedKeyspace:
    """The answer to `ApplyKeyspace`."""
    diff = message.diff
    return results.AppliedKeyspace(
        keyspace=keyspace(message.keyspace),
        diff=results.KeyspaceDiff(
            created=diff.created,
            added_scopes=tuple(diff.added_scopes),
            removed_scopes=tuple(diff.removed_scopes),
            changed_scopes=tuple(diff.changed_scopes),
            changed_fields=tuple(diff.changed_fields),
            affected_keys=tuple(map(_key_scope_change, diff.affected_keys)),
            affected_key_count=diff.affected_key_count,
            dropped_formats=tuple(diff.dropped_formats),
            cut_off_keys=tuple(map(_cut_off_key, diff.cut_off_keys)),
            cut_off_key_count=diff.cut_off_key_count,
        ),
        revision=message.revision,
    )


def _cut_off_key(message: keyspace_service_pb2.CutOffKey) -> results.CutOffKey:
    return results.CutOffKey(
        key_id=message.key_id,
        account_id=message.account_id,
        display_name=message.display_name,
        display_prefix=message.display_prefix,
    )


def _key_scope_change(message: keyspace_service_pb2.KeyScopeChange) -> results.KeyScopeChange:
    return results.KeyScopeChange(
        key_id=message.key_id,
        account_id=message.account_id,
        display_name=message.display_name,
        gained_scopes=tuple(message.gained_scopes),
        lost_scopes=tuple(message.lost_scopes),
    )


def explained_scope(message: keyspace_service_pb2.ExplainScopeResponse) -> results.ExplainedScope:
    """The answer to `ExplainScope`."""
    return results.ExplainedScope(
        scope=message.scope,
        description=message.description,
        implies=_paths(message.implies),
        implied_by=_paths(message.implied_by),
        presets=tuple(message.presets),
        capped_key_types=tuple(message.capped_key_types),
        active_key_count=message.active_key_count,
        implies_count=message.implies_count,
        implied_by_count=message.implied_by_count,
    )
