"""The fake's state, and what it answers. It knows messages, and neither sockets nor threads of its
own.

The answers are those of the real server: `tests/scenarios` compares them.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any, Final

import grpc

from keyfence._batching import MAX_BATCH_CHECKS
from keyfence.holder.facts import Address, address_of
from keyfence.testing._failure import Failure, invalid
from keyfence.testing._holders import EPOCH, Holders
from keyfence.testing._records import change_of, facts_of, fits, principal_of, time_of
from keyfence.testing._scopes import effective, require_registered
from keyfence.v1 import authorization_service_pb2 as authorization
from keyfence.v1 import key_service_pb2 as keys
from keyfence.v1 import keyspace_pb2, principal_pb2, reason_pb2
from keyfence.v1 import keyspace_service_pb2 as keyspaces
from keyfence.v1 import replication_service_pb2 as replication

TOKEN: Final = "kf_system_fakefakefakefakefakefake"
"""The only credential that the fake accepts. It may do everything."""

_KEY_PREFIX: Final = "kf_live_"
_SHOWN: Final = 4
"""Characters of a key's body in its display prefix."""
_MOST_SCOPES: Final = 64
_USUAL_PAGE: Final = 50
_LARGEST_PAGE: Final = 1000

_CHANGEABLE: Final = ("state", "expire_time", "allowed_addresses", "display_name", "labels")


@dataclass(slots=True)
class Planned:
    """Calls that are to fail.

    Attributes:
        after: whether the call is carried out before, so that only its answer is lost.
    """

    method: str
    failure: Failure
    times: int
    after: bool


class Fake:
    """Keyspaces, keys and holders.

    Attributes:
        lock: to be held for every call of a method.
        planned: the calls that are to fail.
    """

    def __init__(self, declared: Iterable[keyspace_pb2.Keyspace]) -> None:
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.calls: Counter[str] = Counter()
        self.uses: Counter[str] = Counter()
        self.lock: Final = threading.Condition()
        self.planned: list[Planned] = []
        self._keyspaces = {one.name: one for one in declared}
        self._keys: dict[str, keys.Key] = {}
        """By plaintext, in the order of their creation."""
        self._requests: dict[str, str] = {}
        self.holders: Final = Holders(self.lock, revision=len(self._keyspaces))

    def fail_as_planned(self, method: str, *, after: bool) -> None:
        """Raises the `Failure` that is planned for the call, if there is one."""
        for one in self.planned:
            if one.method == method and one.after is after and one.times > 0:
                one.times -= 1
                raise one.failure

    # --- checks ----------------------------------------------------------------------

    def authenticate(
        self, request: authorization.AuthenticateRequest
    ) -> authorization.AuthenticateResponse:
        """Answers as the server does."""
        self._require_revision(request.at_least_revision)
        key, reason = self._judge(request)
        return authorization.AuthenticateResponse(
            authenticated=reason == reason_pb2.REASON_OK,
            reason=reason,
            principal=principal_of(key),
            revision=self.holders.revision,
        )

    def check_scope(
        self, request: authorization.CheckScopeRequest
    ) -> authorization.CheckScopeResponse:
        """Answers as the server does, without explanations."""
        required = list(dict.fromkeys(request.required_scopes))
        if not 1 <= len(request.required_scopes) <= _MOST_SCOPES:
            raise invalid("required_scopes", f"1 to {_MOST_SCOPES} scopes")
        self._require_revision(request.at_least_revision)
        key, reason = self._judge(request)
        declared = self._keyspaces.get(key.keyspace if key is not None else request.keyspace)
        if declared is not None:
            require_registered(declared, required)
        missing: list[str] = []
        if key is not None and reason == reason_pb2.REASON_OK:
            missing = [scope for scope in required if scope not in key.effective_scopes]
            reason = reason_pb2.REASON_SCOPE_MISSING if missing else reason
        return authorization.CheckScopeResponse(
            allowed=reason == reason_pb2.REASON_OK,
            reason=reason,
            missing_scopes=missing,
            principal=principal_of(key),
            revision=self.holders.revision,
        )

    def batch_check_scope(
        self, request: authorization.BatchCheckScopeRequest
    ) -> authorization.BatchCheckScopeResponse:
        """Answers as the server does."""
        if not 1 <= len(request.checks) <= MAX_BATCH_CHECKS:
            raise invalid("checks", f"1 to {MAX_BATCH_CHECKS} checks")
        response = authorization.BatchCheckScopeResponse()
        for check in request.checks:
            result = response.results.add()
            try:
                result.response.CopyFrom(self.check_scope(check))
            except Failure as failure:
                result.error.code = failure.status.value[0]
                result.error.reason = failure.reason
                result.error.message = failure.message
                result.error.metadata.update(failure.metadata)
        return response

    def who_am_i(self, _request: authorization.WhoAmIRequest) -> authorization.WhoAmIResponse:
        """Says whose the only credential is."""
        principal = principal_pb2.Principal(
            key_id="key_fake",
            keyspace="system",
            account_id="operators",
            bound_keyspaces=["*"],
            granted_scopes=["*"],
        )
        return authorization.WhoAmIResponse(principal=principal, revision=self.holders.revision)

    def _judge(
        self, request: authorization.AuthenticateRequest | authorization.CheckScopeRequest
    ) -> tuple[keys.Key | None, reason_pb2.Reason.ValueType]:
        """The key, and why it does not pass, scopes aside."""
        address = _address(request.client_address)
        if request.keyspace:
            self._keyspace(request.keyspace)
        if not request.api_key:
            return None, reason_pb2.REASON_CREDENTIAL_MISSING
        key = self._keys.get(request.api_key)
        if key is None:
            is_well_formed = request.api_key.startswith(_KEY_PREFIX)
            return None, (
                reason_pb2.REASON_KEY_UNKNOWN
                if is_well_formed
                else reason_pb2.REASON_CREDENTIAL_MALFORMED
            )
        if request.keyspace and key.keyspace != request.keyspace:
            return None, reason_pb2.REASON_KEYSPACE_MISMATCH
        return key, self._standing(key, address)

    def _standing(self, key: keys.Key, address: Address | None) -> reason_pb2.Reason.ValueType:
        if key.state == keys.KEY_STATE_REVOKED:
            return reason_pb2.REASON_KEY_REVOKED
        if key.HasField("expire_time") and self.now() >= time_of(key.expire_time):
            return reason_pb2.REASON_KEY_EXPIRED
        if key.state == keys.KEY_STATE_DISABLED:
            return reason_pb2.REASON_KEY_DISABLED
        networks = [ip_network(text) for text in key.allowed_addresses]
        if networks and not any(address is not None and address in one for one in networks):
            return reason_pb2.REASON_ADDRESS_NOT_ALLOWED
        return reason_pb2.REASON_OK

    def _require_revision(self, at_least: int) -> None:
        if at_least > self.holders.revision:
            raise Failure(
                grpc.StatusCode.UNAVAILABLE,
                f"revision {at_least} is not reached yet",
                "REVISION_NOT_REACHED",
                {"revision": str(self.holders.revision)},
            )

    # --- keys ------------------------------------------------------------------------

    def create_key(self, request: keys.CreateKeyRequest) -> keys.CreateKeyResponse:
        """Makes a key, once for each request id."""
        declared = self._keyspace(request.keyspace)
        require_registered(declared, [one for one in request.scopes if "*" not in one])
        self._require_new(request.request_id)
        key = keys.Key(
            key_id=f"key_{secrets.token_hex(8)}",
            keyspace=request.keyspace,
            account_id=request.account_id,
            display_name=request.display_name,
            granted_scopes=request.scopes,
            key_type=request.key_type,
            environment=request.environment,
            allowed_addresses=_networks(request.allowed_addresses),
            labels=request.labels,
            parent_key_id=request.parent_key_id,
        )
        if request.HasField("expire_time"):
            key.expire_time.CopyFrom(request.expire_time)
        plaintext = self._add(key, request.request_id)
        return keys.CreateKeyResponse(key=key, api_key=plaintext, revision=key.revision)

    def rotate_key(self, request: keys.RotateKeyRequest) -> keys.RotateKeyResponse:
        """Makes a successor. The key expires after the overlap; without one it is revoked."""
        previous = self._find(request.key_id)
        self._require_new(request.request_id)
        if previous.state == keys.KEY_STATE_REVOKED:
            raise Failure(
                grpc.StatusCode.FAILED_PRECONDITION, "the key is revoked", "KEY_IS_REVOKED"
            )
        key = keys.Key()
        key.CopyFrom(previous)
        key.key_id, key.rotated_from_key_id = f"key_{secrets.token_hex(8)}", previous.key_id
        if request.HasField("expire_time"):
            key.expire_time.CopyFrom(request.expire_time)
        previous.rotated_to_key_id = key.key_id
        if overlap := request.overlap.ToTimedelta():
            previous.expire_time.FromDatetime(self.now() + overlap)
        else:
            self._revoke(previous)
        previous.revision = self.holders.commit(change_of(previous))
        plaintext = self._add(key, request.request_id)
        return keys.RotateKeyResponse(
            key=key, api_key=plaintext, previous_key=previous, revision=key.revision
        )

    def get_key(self, request: keys.GetKeyRequest) -> keys.GetKeyResponse:
        """Reads a key's record."""
        return keys.GetKeyResponse(key=self._find(request.key_id))

    def list_keys(self, request: keys.ListKeysRequest) -> keys.ListKeysResponse:
        """Lists the keys that fit, in the order of their creation."""
        found = [key for key in self._keys.values() if fits(key, request)]
        page, token = _page(found, request.page_size, request.page_token)
        return keys.ListKeysResponse(keys=page, next_page_token=token)

    def update_key(self, request: keys.UpdateKeyRequest) -> keys.UpdateKeyResponse:
        """Changes the scopes, the state, the expiry, the addresses, the name or the labels."""
        key = self._find(request.key.key_id)
        if request.if_revision and request.if_revision != key.revision:
            raise Failure(
                grpc.StatusCode.ABORTED,
                "the key was changed meanwhile",
                "REVISION_CHANGED",
                {"revision": str(key.revision)},
            )
        for path in request.update_mask.paths:
            if path not in {"granted_scopes", *_CHANGEABLE}:
                raise invalid("update_mask", f"the fake does not change {path!r}")
        request.update_mask.MergeMessage(
            request.key, key, replace_message_field=True, replace_repeated_field=True
        )
        self._compile(key)
        key.update_time.FromDatetime(self.now())
        key.revision = self.holders.commit(change_of(key))
        return keys.UpdateKeyResponse(key=key, revision=key.revision)

    def revoke_key(self, request: keys.RevokeKeyRequest) -> keys.RevokeKeyResponse:
        """Revokes a key. When this returns, no cache accepts it."""
        key = self._find(request.key_id)
        self._revoke(key)
        key.revision = self.holders.commit(change_of(key))
        return keys.RevokeKeyResponse(key=key, revision=key.revision)

    def _revoke(self, key: keys.Key) -> None:
        if key.state != keys.KEY_STATE_REVOKED:
            key.state = keys.KEY_STATE_REVOKED
            key.revoke_time.FromDatetime(self.now())

    def _add(self, key: keys.Key, request_id: str) -> str:
        plaintext = _KEY_PREFIX + secrets.token_hex(16)
        key.display_prefix = plaintext[: len(_KEY_PREFIX) + _SHOWN]
        key.state = keys.KEY_STATE_ACTIVE
        key.create_time.FromDatetime(self.now())
        self._compile(key)
        self._keys[plaintext] = key
        if request_id:
            self._requests[request_id] = key.key_id
        key.revision = self.holders.commit(change_of(key, created=True))
        return plaintext

    def _compile(self, key: keys.Key) -> None:
        del key.effective_scopes[:]
        key.effective_scopes.extend(effective(self._keyspaces[key.keyspace], key.granted_scopes))

    def _find(self, key_id: str) -> keys.Key:
        for key in self._keys.values():
            if key.key_id == key_id:
                return key
        raise Failure(grpc.StatusCode.NOT_FOUND, f"there is no key {key_id!r}", "KEY_NOT_FOUND")

    def _require_new(self, request_id: str) -> None:
        if request_id and request_id in self._requests:
            raise Failure(
                grpc.StatusCode.ALREADY_EXISTS,
                "the request has made a key before",
                "REQUEST_ALREADY_DONE",
                {"key_id": self._requests[request_id]},
            )

    # --- keyspaces -------------------------------------------------------------------

    def apply_keyspace(
        self, request: keyspaces.ApplyKeyspaceRequest
    ) -> keyspaces.ApplyKeyspaceResponse:
        """Declares a keyspace."""
        declared = keyspace_pb2.Keyspace()
        declared.CopyFrom(request.keyspace)
        is_new = declared.name not in self._keyspaces
        if not request.validate_only:
            self._keyspaces[declared.name] = declared
            for key in self._keys.values():
                if key.keyspace == declared.name:
                    self._compile(key)
            self.holders.commit(replication.SubjectChange(keyspace=declared.name))
        return keyspaces.ApplyKeyspaceResponse(
            keyspace=declared,
            diff=keyspaces.KeyspaceDiff(created=is_new),
            revision=self.holders.revision,
        )

    def get_keyspace(self, request: keyspaces.GetKeyspaceRequest) -> keyspaces.GetKeyspaceResponse:
        """Reads a keyspace's declaration."""
        return keyspaces.GetKeyspaceResponse(keyspace=self._keyspace(request.name))

    def list_keyspaces(
        self, request: keyspaces.ListKeyspacesRequest
    ) -> keyspaces.ListKeyspacesResponse:
        """Lists the keyspaces by name."""
        found = [self._keyspaces[name] for name in sorted(self._keyspaces)]
        page, token = _page(found, request.page_size, request.page_token)
        return keyspaces.ListKeyspacesResponse(keyspaces=page, next_page_token=token)

    def explain_scope(
        self, request: keyspaces.ExplainScopeRequest
    ) -> keyspaces.ExplainScopeResponse:
        """Says that a scope is registered, and nothing more."""
        require_registered(self._keyspace(request.keyspace), [request.scope])
        return keyspaces.ExplainScopeResponse(scope=request.scope)

    def _keyspace(self, name: str) -> keyspace_pb2.Keyspace:
        if name not in self._keyspaces:
            raise Failure(
                grpc.StatusCode.NOT_FOUND, f"there is no keyspace {name!r}", "KEYSPACE_NOT_FOUND"
            )
        return self._keyspaces[name]

    # --- holders ---------------------------------------------------------------------

    def fetch_facts(self, request: replication.FetchFactsRequest) -> replication.FetchFactsResponse:
        """Tells a cache what there is to know about a key."""
        key = self._keys.get(request.api_key)
        response = replication.FetchFactsResponse(
            revision=self.holders.revision, epoch=EPOCH, well_formed=key is not None
        )
        if key is not None:
            response.facts.CopyFrom(facts_of(key))
        return response

    def fetch_keyspaces(
        self, request: replication.FetchKeyspacesRequest
    ) -> replication.FetchKeyspacesResponse:
        """Tells a cache which scopes are registered. A page has one keyspace, so that caches have
        to ask for the next page."""
        left = sorted(name for name in self._keyspaces if name > request.page_token)
        return replication.FetchKeyspacesResponse(
            keyspaces=[self._keyspaces[name] for name in left[:1]],
            next_page_token=left[0] if len(left) > 1 else "",
            revision=self.holders.revision,
            epoch=EPOCH,
        )

    def report_uses(self, request: replication.ReportUsesRequest) -> replication.ReportUsesResponse:
        """Counts what caches report."""
        for use in request.uses:
            self.uses[use.key_id] += use.count
        return replication.ReportUsesResponse()


def _page(found: Sequence[Any], size: int, token: str) -> tuple[Sequence[Any], str]:
    """A page, and the token of the next one."""
    start = int(token or "0")
    end = start + (min(size, _LARGEST_PAGE) or _USUAL_PAGE)
    return found[start:end], str(end) if end < len(found) else ""


def _address(text: str) -> Address | None:
    if not text:
        return None
    try:
        return address_of(text)
    except ValueError:
        raise invalid("client_address", f"{text!r} is not an IP address") from None


def _networks(texts: Iterable[str]) -> list[str]:
    try:
        return [str(ip_network(text)) for text in texts]
    except ValueError as error:
        raise invalid("allowed_addresses", str(error)) from None
