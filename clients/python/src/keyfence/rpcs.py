"""The RPCs that the clients call, and which of them may be sent twice.

Whether an RPC may be repeated is read off the API's own descriptors, so that no table
here can disagree with it: it has no side effects, or it declares itself idempotent, or
its request carries a `request_id` under which the server does it once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

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


def _rpc(request: type[Request], response: type[Response]) -> Rpc[Request, Response]:
    # An RPC is named after its request, and each file declares one service.
    described = request.DESCRIPTOR
    (service,) = described.file.services_by_name.values()
    method = service.methods_by_name[described.name.removesuffix("Request")]
    level = method.GetOptions().idempotency_level
    return Rpc(
        service=service.full_name,
        name=method.name,
        is_repeatable=level in (MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT)
        or "request_id" in described.fields_by_name,
        serialize=request.SerializeToString,
        deserialize=response.FromString,
    )


AUTHENTICATE: Final = _rpc(authorization.AuthenticateRequest, authorization.AuthenticateResponse)
CHECK_SCOPE: Final = _rpc(authorization.CheckScopeRequest, authorization.CheckScopeResponse)
BATCH_CHECK_SCOPE: Final = _rpc(
    authorization.BatchCheckScopeRequest, authorization.BatchCheckScopeResponse
)
WHO_AM_I: Final = _rpc(authorization.WhoAmIRequest, authorization.WhoAmIResponse)
CREATE_KEY: Final = _rpc(keys.CreateKeyRequest, keys.CreateKeyResponse)
IMPORT_KEYS: Final = _rpc(keys.ImportKeysRequest, keys.ImportKeysResponse)
GET_KEY: Final = _rpc(keys.GetKeyRequest, keys.GetKeyResponse)
GET_KEY_USAGE: Final = _rpc(keys.GetKeyUsageRequest, keys.GetKeyUsageResponse)
LIST_KEYS: Final = _rpc(keys.ListKeysRequest, keys.ListKeysResponse)
UPDATE_KEY: Final = _rpc(keys.UpdateKeyRequest, keys.UpdateKeyResponse)
ROTATE_KEY: Final = _rpc(keys.RotateKeyRequest, keys.RotateKeyResponse)
REVOKE_KEY: Final = _rpc(keys.RevokeKeyRequest, keys.RevokeKeyResponse)
APPLY_KEYSPACE: Final = _rpc(keyspaces.ApplyKeyspaceRequest, keyspaces.ApplyKeyspaceResponse)
GET_KEYSPACE: Final = _rpc(keyspaces.GetKeyspaceRequest, keyspaces.GetKeyspaceResponse)
LIST_KEYSPACES: Final = _rpc(keyspaces.ListKeyspacesRequest, keyspaces.ListKeyspacesResponse)
EXPLAIN_SCOPE: Final = _rpc(keyspaces.ExplainScopeRequest, keyspaces.ExplainScopeResponse)
FETCH_FACTS: Final = _rpc(replication.FetchFactsRequest, replication.FetchFactsResponse)
FETCH_KEYSPACES: Final = _rpc(replication.FetchKeyspacesRequest, replication.FetchKeyspacesResponse)
REPORT_USES: Final = _rpc(replication.ReportUsesRequest, replication.ReportUsesResponse)
LIST_REPLICAS: Final = _rpc(replication.ListReplicasRequest, replication.ListReplicasResponse)
LIST_AUDIT_EVENTS: Final = _rpc(audit.ListAuditEventsRequest, audit.ListAuditEventsResponse)
VERIFY_AUDIT_EVENTS: Final = _rpc(audit.VerifyAuditEventsRequest, audit.VerifyAuditEventsResponse)
EXPORT_AUDIT_EVENTS: Final = _rpc(audit.ExportAuditEventsRequest, audit.ExportAuditEventsResponse)
RECORD_AUDIT_EXPORT: Final = _rpc(audit.RecordAuditExportRequest, audit.RecordAuditExportResponse)
REGISTER_ACCOUNT: Final = _rpc(accounts.RegisterAccountRequest, accounts.RegisterAccountResponse)
LOG_IN: Final = _rpc(accounts.LogInRequest, accounts.LogInResponse)
LOG_OUT: Final = _rpc(accounts.LogOutRequest, accounts.LogOutResponse)
GET_ACCOUNT: Final = _rpc(accounts.GetAccountRequest, accounts.GetAccountResponse)
LIST_ACCOUNTS: Final = _rpc(accounts.ListAccountsRequest, accounts.ListAccountsResponse)
UPDATE_ACCOUNT: Final = _rpc(accounts.UpdateAccountRequest, accounts.UpdateAccountResponse)
DISABLE_ACCOUNT: Final = _rpc(accounts.DisableAccountRequest, accounts.DisableAccountResponse)
ENABLE_ACCOUNT: Final = _rpc(accounts.EnableAccountRequest, accounts.EnableAccountResponse)

ALL: Final = tuple(rpc for rpc in globals().values() if isinstance(rpc, Rpc))
