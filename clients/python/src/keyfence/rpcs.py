"""The RPCs that the clients call, and which of them may be sent twice.

Whether an RPC may be repeated is read off the API's own descriptors, so that no table
here can disagree with it: it has no side effects, or it declares itself idempotent, or
its request carries a `request_id` under which the server does it once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from keyfence.v1 import account_service_pb2 as accounts
from keyfence.v1 import audit_service_pb2 as audit
from keyfence.v1 import authorization_service_pb2 as authorization
from keyfence.v1 import key_service_pb2 as keys
from keyfence.v1 import keyspace_service_pb2 as keyspaces
from keyfence.v1 import replication_service_pb2 as replication

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class Rpc(Generic[Request, Response]):
    """A unary RPC.

    Attributes:
        service: its full name, for example "keyfence.v1.KeyService".
        name: the method's name.
        is_repeatable: whether sending the same request again does no harm.
    """

    service: str
    name: str
    is_repeatable: bool
    serialize: Callable[[Request], bytes]
    deserialize: Callable[[bytes], Response]

    @property
    def path(self) -> str:
        """The path on the wire."""
        return f"/{self.service}/{self.name}"


def _is_repeatable(method: MethodDescriptor) -> bool:
    level = method.GetOptions().idempotency_level
    return (
        level in (MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT)
        or "request_id" in method.input_type.fields_by_name
    )


def _rpc(
    service: ServiceDescriptor, name: str, request: type[Request], response: type[Response]
) -> Rpc[Request, Response]:
    return Rpc(
        service=service.full_name,
        name=name,
        is_repeatable=_is_repeatable(service.methods_by_name[name]),
        serialize=request.SerializeToString,
        deserialize=response.FromString,
    )


_AUTHORIZATION: Final = authorization.DESCRIPTOR.services_by_name["AuthorizationService"]
_KEYS: Final = keys.DESCRIPTOR.services_by_name["KeyService"]
_REPLICATION: Final = replication.DESCRIPTOR.services_by_name["ReplicationService"]
_ACCOUNTS: Final = accounts.DESCRIPTOR.services_by_name["AccountService"]
_AUDIT: Final = audit.DESCRIPTOR.services_by_name["AuditService"]
_KEYSPACES: Final = keyspaces.DESCRIPTOR.services_by_name["KeyspaceService"]

AUTHENTICATE: Final = _rpc(
    _AUTHORIZATION,
    "Authenticate",
    authorization.AuthenticateRequest,
    authorization.AuthenticateResponse,
)
CHECK_SCOPE: Final = _rpc(
    _AUTHORIZATION,
    "CheckScope",
    authorization.CheckScopeRequest,
    authorization.CheckScopeResponse,
)
BATCH_CHECK_SCOPE: Final = _rpc(
    _AUTHORIZATION,
    "BatchCheckScope",
    authorization.BatchCheckScopeRequest,
    authorization.BatchCheckScopeResponse,
)
WHO_AM_I: Final = _rpc(
    _AUTHORIZATION, "WhoAmI", authorization.WhoAmIRequest, authorization.WhoAmIResponse
)
CREATE_KEY: Final = _rpc(_KEYS, "CreateKey", keys.CreateKeyRequest, keys.CreateKeyResponse)
IMPORT_KEYS: Final = _rpc(_KEYS, "ImportKeys", keys.ImportKeysRequest, keys.ImportKeysResponse)
GET_KEY: Final = _rpc(_KEYS, "GetKey", keys.GetKeyRequest, keys.GetKeyResponse)
GET_KEY_USAGE: Final = _rpc(_KEYS, "GetKeyUsage", keys.GetKeyUsageRequest, keys.GetKeyUsageResponse)
LIST_KEYS: Final = _rpc(_KEYS, "ListKeys", keys.ListKeysRequest, keys.ListKeysResponse)
UPDATE_KEY: Final = _rpc(_KEYS, "UpdateKey", keys.UpdateKeyRequest, keys.UpdateKeyResponse)
ROTATE_KEY: Final = _rpc(_KEYS, "RotateKey", keys.RotateKeyRequest, keys.RotateKeyResponse)
REVOKE_KEY: Final = _rpc(_KEYS, "RevokeKey", keys.RevokeKeyRequest, keys.RevokeKeyResponse)
APPLY_KEYSPACE: Final = _rpc(
    _KEYSPACES, "ApplyKeyspace", keyspaces.ApplyKeyspaceRequest, keyspaces.ApplyKeyspaceResponse
)
GET_KEYSPACE: Final = _rpc(
    _KEYSPACES, "GetKeyspace", keyspaces.GetKeyspaceRequest, keyspaces.GetKeyspaceResponse
)
LIST_KEYSPACES: Final = _rpc(
    _KEYSPACES, "ListKeyspaces", keyspaces.ListKeyspacesRequest, keyspaces.ListKeyspacesResponse
)
EXPLAIN_SCOPE: Final = _rpc(
    _KEYSPACES, "ExplainScope", keyspaces.ExplainScopeRequest, keyspaces.ExplainScopeResponse
)
FETCH_FACTS: Final = _rpc(
    _REPLICATION, "FetchFacts", replication.FetchFactsRequest, replication.FetchFactsResponse
)
FETCH_KEYSPACES: Final = _rpc(
    _REPLICATION,
    "FetchKeyspaces",
    replication.FetchKeyspacesRequest,
    replication.FetchKeyspacesResponse,
)
REPORT_USES: Final = _rpc(
    _REPLICATION, "ReportUses", replication.ReportUsesRequest, replication.ReportUsesResponse
)
LIST_REPLICAS: Final = _rpc(
    _REPLICATION,
    "ListReplicas",
    replication.ListReplicasRequest,
    replication.ListReplicasResponse,
)
LIST_AUDIT_EVENTS: Final = _rpc(
    _AUDIT, "ListAuditEvents", audit.ListAuditEventsRequest, audit.ListAuditEventsResponse
)
VERIFY_AUDIT_EVENTS: Final = _rpc(
    _AUDIT, "VerifyAuditEvents", audit.VerifyAuditEventsRequest, audit.VerifyAuditEventsResponse
)
EXPORT_AUDIT_EVENTS: Final = _rpc(
    _AUDIT, "ExportAuditEvents", audit.ExportAuditEventsRequest, audit.ExportAuditEventsResponse
)
RECORD_AUDIT_EXPORT: Final = _rpc(
    _AUDIT, "RecordAuditExport", audit.RecordAuditExportRequest, audit.RecordAuditExportResponse
)

REGISTER_ACCOUNT: Final = _rpc(
    _ACCOUNTS, "RegisterAccount", accounts.RegisterAccountRequest, accounts.RegisterAccountResponse
)
LOG_IN: Final = _rpc(_ACCOUNTS, "LogIn", accounts.LogInRequest, accounts.LogInResponse)
LOG_OUT: Final = _rpc(_ACCOUNTS, "LogOut", accounts.LogOutRequest, accounts.LogOutResponse)
GET_ACCOUNT: Final = _rpc(
    _ACCOUNTS, "GetAccount", accounts.GetAccountRequest, accounts.GetAccountResponse
)
LIST_ACCOUNTS: Final = _rpc(
    _ACCOUNTS, "ListAccounts", accounts.ListAccountsRequest, accounts.ListAccountsResponse
)
UPDATE_ACCOUNT: Final = _rpc(
    _ACCOUNTS, "UpdateAccount", accounts.UpdateAccountRequest, accounts.UpdateAccountResponse
)
DISABLE_ACCOUNT: Final = _rpc(
    _ACCOUNTS, "DisableAccount", accounts.DisableAccountRequest, accounts.DisableAccountResponse
)
ENABLE_ACCOUNT: Final = _rpc(
    _ACCOUNTS, "EnableAccount", accounts.EnableAccountRequest, accounts.EnableAccountResponse
)

ALL: Final[tuple[Rpc[Message, Message], ...]] = (
    AUTHENTICATE,
    CHECK_SCOPE,
    BATCH_CHECK_SCOPE,
    WHO_AM_I,
    CREATE_KEY,
    IMPORT_KEYS,
    GET_KEY,
    GET_KEY_USAGE,
    LIST_KEYS,
    UPDATE_KEY,
    ROTATE_KEY,
    REVOKE_KEY,
    APPLY_KEYSPACE,
    GET_KEYSPACE,
    LIST_KEYSPACES,
    EXPLAIN_SCOPE,
    FETCH_FACTS,
    FETCH_KEYSPACES,
    REPORT_USES,
    LIST_REPLICAS,
    LIST_AUDIT_EVENTS,
    VERIFY_AUDIT_EVENTS,
    EXPORT_AUDIT_EVENTS,
    RECORD_AUDIT_EXPORT,
    REGISTER_ACCOUNT,
    LOG_IN,
    LOG_OUT,
    GET_ACCOUNT,
    LIST_ACCOUNTS,
    UPDATE_ACCOUNT,
    DISABLE_ACCOUNT,
    ENABLE_ACCOUNT,
)  # type: ignore[assignment]
