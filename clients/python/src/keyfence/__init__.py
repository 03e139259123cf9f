"""The Python client of Keyfence, the API-key authorization service.

`Client` and `AsyncClient` ask whose key it is and what it may do, and manage keys.
`keyfence.guard` has the interceptors for gRPC services of your own, `keyfence.errors`
the errors, `keyfence.v1` the messages of the API.
"""

from keyfence._async.client import AsyncClient
from keyfence._async.listing import AsyncListing
from keyfence._connection import Tls
from keyfence._holder.cached import Cache, CacheStatus
from keyfence._sync.client import Client
from keyfence._sync.listing import Listing
from keyfence._unchanged import UNCHANGED
from keyfence.errors import (
    Aborted,
    AlreadyExists,
    CallFailed,
    ClientClosed,
    ConfigurationError,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InternalError,
    InvalidKeyspace,
    InvalidRequest,
    KeyfenceError,
    NotFound,
    PermissionDenied,
    RequestAlreadyDone,
    ResourceExhausted,
    RevisionChanged,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    UnknownScope,
)
from keyfence.results import (
    Authentication,
    CappedScope,
    ChangedKey,
    CheckResult,
    CreatedKey,
    ExplainedScope,
    FailedCheck,
    Identity,
    Key,
    KeyState,
    Page,
    Principal,
    Reason,
    RotatedKey,
    ScopeCheck,
    ScopeExplanation,
    ScopePath,
)

__all__ = [
    "UNCHANGED",
    "Aborted",
    "AlreadyExists",
    "AsyncClient",
    "AsyncListing",
    "Authentication",
    "Cache",
    "CacheStatus",
    "CallFailed",
    "CappedScope",
    "ChangedKey",
    "CheckResult",
    "Client",
    "ClientClosed",
    "ConfigurationError",
    "CreatedKey",
    "DeadlineExceeded",
    "ExplainedScope",
    "FailedCheck",
    "FailedPrecondition",
    "FieldViolation",
    "Identity",
    "InternalError",
    "InvalidKeyspace",
    "InvalidRequest",
    "Key",
    "KeyState",
    "KeyfenceError",
    "Listing",
    "NotFound",
    "Page",
    "PermissionDenied",
    "Principal",
    "Reason",
    "RequestAlreadyDone",
    "ResourceExhausted",
    "RevisionChanged",
    "RotatedKey",
    "ScopeCheck",
    "ScopeExplanation",
    "ScopePath",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UnknownScope",
]
