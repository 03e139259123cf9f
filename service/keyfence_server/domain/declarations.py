"""What a keyspace declares: the language of keyspace files and of the API, field by field.

Beside `keyspace.proto` and docs/keyspaces.md, these classes are the only statement of the
language. A field's type says what a document may hold there and how it is written, so
`documents` and the conversion of the API's messages need no list of fields.

An object that is made in Python is not validated. `keyspaces.compile_keyspace` finds what
makes no sense and names every fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from keyfence_server.domain.declared_types import (
    NAME_IN_DOCUMENT,
    NOTHING_IS_EMPTY,
    OMIT_IF_EMPTY,
    Body,
    Duration,
    Flag,
    ItemsByName,
    Number,
    OptionalDuration,
    OptionalNumber,
    OptionalRate,
    Section,
    Text,
    Texts,
    unless_empty,
)
from keyfence_server.domain.limits import Rate

ItemName = Annotated[Text, Field(alias=NAME_IN_DOCUMENT)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyDeclaration(Section):
    """The random part of a key. See `keyfence.v1.KeyBody`."""

    alphabet: Text = "base62"
    length: Number = 32
    shown: Number = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatDeclaration(Section):
    """How keys look. See `keyfence.v1.KeyFormat`."""

    template: Text = "kf_{environment}_{body}{checksum}"
    body: BodyDeclaration = field(default_factory=BodyDeclaration)
    templates_by_key_type: Annotated[
        Mapping[str, Text], Field(alias="templates"), OMIT_IF_EMPTY
    ] = field(default_factory=dict)


DEFAULT_FORMAT: Final = FormatDeclaration()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeDeclaration(Section):
    """A permission's name and the scopes that it implies."""

    name: ItemName
    description: Text = ""
    implies: Texts = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelDeclaration(Section):
    """One level of access to a resource."""

    name: ItemName
    description: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceDeclaration(Section):
    """A resource with ordered levels, the weakest first."""

    name: ItemName
    display_name: Text = ""
    levels: Annotated[tuple[LevelDeclaration, ...], ItemsByName("description"), OMIT_IF_EMPTY] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetDeclaration(Section):
    """A named bundle of scopes."""

    name: ItemName
    display_name: Text = ""
    scopes: Texts = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTypeDeclaration(Section):
    """A kind of key. An empty `scope_cap` caps nothing; an empty `marker` is the name."""

    name: ItemName
    description: Text = ""
    marker: Text = ""
    scope_cap: Texts = ()
    manages_keys: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentDeclaration(Section):
    """An environment that keys are for. An empty `marker` is the name."""

    name: ItemName
    description: Text = ""
    marker: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDefaults(Section):
    """What a key gets where the request does not say. Empty strings as in the proto."""

    display_name: Text = ""
    key_type: Text = ""
    environment: Text = ""
    preset: Text = ""
    lifetime: OptionalDuration = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsDeclaration(Section):
    """How often keys may be used that have no limit of their own, and the quotas of accounts.

    Attributes:
        per_key: None: without limit, as `per_account`.
        keys_per_account: 0 for `DEFAULT_KEYS_PER_ACCOUNT`.
        changes_per_account: None for `DEFAULT_CHANGES_PER_ACCOUNT`.
    """

    per_key: OptionalRate = None
    per_account: OptionalRate = None
    keys_per_account: OptionalNumber = 0
    changes_per_account: OptionalRate = None


DEFAULT_KEYS_PER_ACCOUNT: Final = 1000
DEFAULT_CHANGES_PER_ACCOUNT: Final = Rate(120, timedelta(minutes=1))


class Registration(StrEnum):
    """Who may register accounts."""

    CLOSED = "closed"
    OPEN = "open"


_A_DAY: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsDeclaration(Section):
    """The accounts that people can have.

    Attributes:
        grantable_scopes: the most that a session may grant; empty for everything, as
            `grantable_key_types` and `grantable_environments`.
        keys_end_with_session: whether a key that a session makes expires no later than the
            session and is revoked with it.
    """

    registration: Annotated[Registration, unless_empty(Registration.CLOSED)] = Registration.CLOSED
    password_min_length: Annotated[Number, unless_empty(12)] = 12
    session_lifetime: Annotated[Duration, unless_empty(_A_DAY)] = _A_DAY
    default_plan: Text = ""
    grantable_scopes: Texts = ()
    grantable_key_types: Texts = ()
    grantable_environments: Texts = ()
    keys_end_with_session: Flag = False


DEFAULT_KEY_TYPES: Final = (KeyTypeDeclaration(name="secret", manages_keys=True),)
DEFAULT_ENVIRONMENTS: Final = (EnvironmentDeclaration(name="live"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialsDeclaration(Section):
    """Where callers may put their credentials. An empty `cookie` is none."""

    bearer: Flag = False
    headers: Texts = ()
    cookie: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerDeclaration(Section):
    """The answer for one cause. An empty field is as in the more general answer."""

    cause: ItemName
    status: OptionalNumber = 0
    code: Text = ""
    message: Text = ""
    body: Body = ""
    www_authenticate: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitHeadersDeclaration(Section):
    """The names of headers. An empty one is not sent."""

    limit: Text = ""
    remaining: Text = ""
    reset: Text = ""


DEFAULT_CREDENTIALS: Final = CredentialsDeclaration(bearer=True, headers=("X-API-Key",))
DEFAULT_RATE_LIMIT_HEADERS: Final = RateLimitHeadersDeclaration(
    limit="X-RateLimit-Limit", remaining="X-RateLimit-Remaining", reset="X-RateLimit-Reset"
)
DEFAULT_CONTENT_TYPE: Final = "application/json"
DEFAULT_BODY: Final = '{"error": "{code}", "error_description": "{message}"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpDeclaration(Section):
    """What callers of the product's HTTP API send and get. See `keyfence.v1.HttpAnswers`."""

    credentials: Annotated[CredentialsDeclaration, Field(exclude_if=DEFAULT_CREDENTIALS.__eq__)] = (
        DEFAULT_CREDENTIALS
    )
    answers: Annotated[tuple[AnswerDeclaration, ...], ItemsByName(""), OMIT_IF_EMPTY] = ()
    content_type: Annotated[Text, unless_empty(DEFAULT_CONTENT_TYPE)] = DEFAULT_CONTENT_TYPE
    body: Annotated[Body, unless_empty(DEFAULT_BODY)] = DEFAULT_BODY
    rate_limit_headers: Annotated[
        RateLimitHeadersDeclaration, Field(exclude_if=DEFAULT_RATE_LIMIT_HEADERS.__eq__)
    ] = DEFAULT_RATE_LIMIT_HEADERS


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyspaceDeclaration(Section):
    """The key system of one product, as declared."""

    name: Annotated[Text, Field(alias="keyspace", min_length=1)]
    display_name: Text = ""
    description: Text = ""
    format: FormatDeclaration = DEFAULT_FORMAT
    scopes: Annotated[tuple[ScopeDeclaration, ...], ItemsByName("description"), OMIT_IF_EMPTY] = ()
    resources: Annotated[tuple[ResourceDeclaration, ...], ItemsByName("levels"), OMIT_IF_EMPTY] = ()
    presets: Annotated[tuple[PresetDeclaration, ...], ItemsByName("scopes"), OMIT_IF_EMPTY] = ()
    key_types: Annotated[
        tuple[KeyTypeDeclaration, ...], ItemsByName("description"), unless_empty(DEFAULT_KEY_TYPES)
    ] = DEFAULT_KEY_TYPES
    environments: Annotated[
        tuple[EnvironmentDeclaration, ...],
        ItemsByName("description"),
        unless_empty(DEFAULT_ENVIRONMENTS),
    ] = DEFAULT_ENVIRONMENTS
    defaults: Annotated[KeyDefaults, Field(exclude_if=KeyDefaults().__eq__)] = KeyDefaults()
    max_lifetime: OptionalDuration = None
    accounts: Annotated[AccountsDeclaration | None, NOTHING_IS_EMPTY, OMIT_IF_EMPTY] = None
    http: Annotated[HttpDeclaration, Field(exclude_if=HttpDeclaration().__eq__)] = HttpDeclaration()
    limits: Annotated[LimitsDeclaration, Field(exclude_if=LimitsDeclaration().__eq__)] = (
        LimitsDeclaration()
    )
