"""Between the API's messages and `keyfence.results`, both ways.

Must not know of channels or clients. Where the two sides could disagree about an
allow, the conversion takes the denial.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from keyfence import results
from keyfence._failures import error_from_check
from keyfence._unchanged import UNCHANGED
from keyfence.errors import InternalError
from keyfence.v1 import (
    account_service_pb2,
    audit_service_pb2,
    key_service_pb2,
    keyspace_pb2,
    rate_limit_pb2,
)
from keyfence.v1 import authorization_service_pb2 as authorization
from keyfence.v1 import replication_service_pb2 as replication

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_OK: Final = results.Reason.OK
_STRUCT: Final = Struct.DESCRIPTOR.full_name
T = TypeVar("T")


# --- to messages ---------------------------------------------------------------------


def texts(name: str, values: Iterable[str]) -> list[str]:
    """The values as a list. A single text is a mistake: it would be taken letter by letter."""
    if isinstance(values, str):
        raise TypeError(f"{name} takes a list of strings, not a string")
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


def key_state_number(state: results.KeyState | None) -> key_service_pb2.KeyState.ValueType:
    """The state as the API numbers it. None: unspecified."""
    numbers = key_service_pb2.KeyState.DESCRIPTOR
    return key_service_pb2.KeyState.ValueType(_number(numbers, state))


def account_state_number(
    state: results.AccountState | None,
) -> account_service_pb2.AccountState.ValueType:
    """The state of a filter. None: any."""
    numbers = account_service_pb2.AccountState.DESCRIPTOR
    return account_service_pb2.AccountState.ValueType(_number(numbers, state))


def _number(enum: EnumDescriptor, value: StrEnum | None) -> int:
    if value is None:
        return 0
    found = enum.values_by_name.get(f"{_prefix_of(enum)}{value.name}")
    if found is None:
        raise ValueError(f"{value!r} is not a state that can be asked for")
    return found.number


def _prefix_of(enum: EnumDescriptor) -> str:
    """What the names of the enum's values begin with: "KEY_STATE_" for `KeyState`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper() + "_"


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


def set_changed(record: Message, **changes: object) -> FieldMask:
    """Sets the record's fields of these names, except those that are `UNCHANGED`, and names those
    that it set. None leaves a field empty."""
    paths = [name for name, value in changes.items() if value is not UNCHANGED]
    for name in paths:
        value: Any = changes[name]
        target = getattr(record, name)
        if isinstance(value, Mapping):
            target.update(value)
        elif record.DESCRIPTOR.fields_by_name[name].is_repeated:
            target.extend(texts(name, value))
        elif isinstance(value, datetime):
            target.CopyFrom(timestamp(name, value))
        elif isinstance(value, results.RateLimit):
            target.CopyFrom(rate_limit(value))
        elif isinstance(value, results.KeyState):
            setattr(record, name, key_state_number(value))
        elif value is not None:
            setattr(record, name, value)
    return FieldMask(paths=paths)


# --- from messages -------------------------------------------------------------------


def result(kind: type[T], message: Message) -> T:
    """The result of a message: each field from the message's field of the same name.

    A field's type says how it is read. Enums have a value for what this version does not know.
    """
    by_hand = _BY_HAND.get(kind)
    if by_hand is not None:
        return cast("T", by_hand(message))
    return _from_fields(kind, message)


def page(kind: type[T], messages: Iterable[Message], next_page_token: str) -> results.Page[T]:
    """A page of results."""
    return results.Page(tuple(result(kind, message) for message in messages), next_page_token)


def _from_fields(kind: type[T], message: Message) -> T:
    return cast("T", _builder(cast("Hashable", kind), message.DESCRIPTOR)(message))


@cache
def _builder(kind: Any, descriptor: Descriptor) -> Callable[[Message], object]:
    """What makes a result of a message, by the fields that both have."""
    readers = tuple(
        (name, _reader(hint, descriptor.fields_by_name[name]))
        for name, hint in get_type_hints(kind).items()
    )
    return lambda message: kind(**{name: read(message) for name, read in readers})


def _reader(hint: Any, field: FieldDescriptor) -> Callable[[Message], object]:
    name = field.name
    get = operator.attrgetter(name)
    types = [one for one in get_args(hint) if one is not NoneType]
    if get_origin(hint) in (Union, UnionType):
        convert = _converter(types[0], field)
        return lambda message: convert(get(message)) if message.HasField(name) else None
    if get_origin(hint) is tuple:
        convert = _converter(types[0], field)
        return lambda message: tuple(map(convert, get(message)))
    convert = _converter(get_origin(hint) or hint, field)
    return get if convert is _as_it_is else lambda message: convert(get(message))


def _converter(kind: Any, field: FieldDescriptor) -> Callable[[Any], object]:
    """How one value of a field becomes a value of this type."""
    if isinstance(kind, type) and is_dataclass(kind):
        return _BY_HAND.get(kind) or _builder(kind, field.message_type)
    if field.enum_type is not None:
        prefix = _prefix_of(field.enum_type)
        known = {
            value.number: kind.__members__.get(value.name.removeprefix(prefix), kind.UNRECOGNIZED)
            for value in field.enum_type.values
        }
        return lambda number: known.get(number, kind.UNRECOGNIZED)
    if kind is int and field.message_type is not None:
        return operator.attrgetter("seconds")
    if (
        kind is Mapping
        and field.message_type is not None
        and field.message_type.full_name == _STRUCT
    ):
        return json_format.MessageToDict
    return _CONVERTERS.get(kind, _as_it_is)


def _as_it_is(value: object) -> object:
    return value


_CONVERTERS: Final[Mapping[object, Callable[[Any], object]]] = {
    datetime: lambda message: message.ToDatetime(tzinfo=UTC),
    timedelta: Duration.ToTimedelta,
    date: date.fromisoformat,
    Mapping: dict,
}


def seconds_of(message: Duration | Timestamp) -> float:
    """A length of time in seconds, or a time in seconds since the epoch."""
    return message.ToNanoseconds() / 1e9


def authentication(message: authorization.AuthenticateResponse) -> results.Authentication:
    """The answer to `Authenticate`."""
    answer = _from_fields(results.Authentication, message)
    return answer if answer.reason is _OK else replace(answer, authenticated=False)


def check_result(message: authorization.CheckScopeResponse) -> results.CheckResult:
    """The answer to `CheckScope`."""
    answer = _from_fields(results.CheckResult, message)
    return answer if answer.reason is _OK else replace(answer, allowed=False)


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


def audit_verification(
    message: audit_service_pb2.VerifyAuditEventsResponse,
) -> results.AuditVerification:
    """The answer to `VerifyAuditEvents`."""
    answer = _from_fields(results.AuditVerification, message)
    return replace(answer, complete=answer.complete and not answer.problem)


def replicas(message: replication.ListReplicasResponse) -> results.Replicas:
    """The answer to `ListReplicas`."""
    found = page(results.Replica, message.replicas, "")
    return results.Replicas(items=found.items, head_revision=message.head_revision)


def keyspace(message: keyspace_pb2.Keyspace) -> results.Keyspace:
    """A keyspace, with the message itself as its declaration."""
    created, updated = message.create_time, message.update_time
    return results.Keyspace(
        name=message.name,
        declaration=message,
        revision=message.revision,
        create_time=created.ToDatetime(tzinfo=UTC) if message.HasField("create_time") else None,
        update_time=updated.ToDatetime(tzinfo=UTC) if message.HasField("update_time") else None,
    )


_BY_HAND: Final[Mapping[type[object], Callable[[Any], object]]] = {
    results.Authentication: authentication,
    results.CheckResult: check_result,
    results.Keyspace: keyspace,
    results.Replicas: replicas,
}
"""The results that are more than a message's fields."""
