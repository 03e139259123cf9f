"""What somebody says about a keyspace, before anyone has asked whether it makes sense.

These are plain values, one for each message of `keyspace.proto`, with its field
names and meanings. `keyspaces.compile_keyspace` turns a declaration into a
`Keyspace`, or names everything that is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

from keyfence_server.domain.limits import Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatDeclaration:
    """How keys look. See `keyfence.v1.KeyFormat` and `KeyBody`."""

    template: str
    alphabet: str
    length: int
    shown: int
    templates_by_key_type: Mapping[str, str] = field(default_factory=dict)


DEFAULT_FORMAT = FormatDeclaration(
    template="kf_{environment}_{body}{checksum}", alphabet="base62", length=32, shown=6
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeDeclaration:
    """A permission's name and what it brings with it."""

    name: str
    description: str = ""
    implies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelDeclaration:
    """One level of access to a resource."""

    name: str
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceDeclaration:
    """A resource with ordered levels, the weakest first."""

    name: str
    display_name: str = ""
    levels: tuple[LevelDeclaration, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetDeclaration:
    """A named bundle of scopes."""

    name: str
    display_name: str = ""
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTypeDeclaration:
    """A kind of key. An empty `scope_cap` caps nothing; an empty `marker` is the name."""

    name: str
    description: str = ""
    marker: str = ""
    scope_cap: tuple[str, ...] = ()
    manages_keys: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentDeclaration:
    """A place that keys are for. An empty `marker` is the name."""

    name: str
    description: str = ""
    marker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDefaults:
    """What a key gets whose maker does not say. Empty strings as in the proto."""

    display_name: str = ""
    key_type: str = ""
    environment: str = ""
    preset: str = ""
    lifetime: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsDeclaration:
    """How often keys may be used, where nobody has said otherwise of a key. None: without
    limit."""

    per_key: Rate | None = None
    per_account: Rate | None = None


class Registration(Enum):
    """Who may register accounts."""

    CLOSED = "closed"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsDeclaration:
    """The accounts that people can have. An empty `grantable_scopes` caps nothing."""

    registration: Registration = Registration.CLOSED
    password_min_length: int = 12
    session_lifetime: timedelta = timedelta(hours=24)
    default_plan: str = ""
    grantable_scopes: tuple[str, ...] = ()


DEFAULT_ACCOUNTS = AccountsDeclaration()
DEFAULT_KEY_TYPES = (KeyTypeDeclaration(name="secret", manages_keys=True),)
DEFAULT_ENVIRONMENTS = (EnvironmentDeclaration(name="live"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialsDeclaration:
    """Where callers may put their credentials. An empty `cookie` is none."""

    bearer: bool = False
    headers: tuple[str, ...] = ()
    cookie: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerDeclaration:
    """The answer for one cause. What is empty is as in the more general answer."""

    cause: str
    status: int = 0
    code: str = ""
    message: str = ""
    body: str = ""
    www_authenticate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitHeadersDeclaration:
    """The names of headers. An empty one is not sent."""

    limit: str = ""
    remaining: str = ""
    reset: str = ""


DEFAULT_CREDENTIALS = CredentialsDeclaration(bearer=True, headers=("X-API-Key",))
DEFAULT_RATE_LIMIT_HEADERS = RateLimitHeadersDeclaration(
    limit="X-RateLimit-Limit", remaining="X-RateLimit-Remaining", reset="X-RateLimit-Reset"
)
DEFAULT_CONTENT_TYPE = "application/json"
DEFAULT_BODY = '{"error": "{code}", "error_description": "{message}"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpDeclaration:
    """What callers of the product's HTTP API send and get. See `keyfence.v1.HttpAnswers`."""

    credentials: CredentialsDeclaration = DEFAULT_CREDENTIALS
    answers: tuple[AnswerDeclaration, ...] = ()
    content_type: str = DEFAULT_CONTENT_TYPE
    body: str = DEFAULT_BODY
    rate_limit_headers: RateLimitHeadersDeclaration = DEFAULT_RATE_LIMIT_HEADERS


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyspaceDeclaration:
    """The key system of one product, as declared."""

    name: str
    display_name: str = ""
    description: str = ""
    format: FormatDeclaration = DEFAULT_FORMAT
    scopes: tuple[ScopeDeclaration, ...] = ()
    resources: tuple[ResourceDeclaration, ...] = ()
    presets: tuple[PresetDeclaration, ...] = ()
    key_types: tuple[KeyTypeDeclaration, ...] = DEFAULT_KEY_TYPES
    environments: tuple[EnvironmentDeclaration, ...] = DEFAULT_ENVIRONMENTS
    defaults: KeyDefaults = field(default_factory=KeyDefaults)
    max_lifetime: timedelta | None = None
    accounts: AccountsDeclaration | None = None
    http: HttpDeclaration = field(default_factory=HttpDeclaration)
    limits: LimitsDeclaration = field(default_factory=LimitsDeclaration)
