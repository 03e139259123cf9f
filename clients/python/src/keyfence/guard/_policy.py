"""The rules for calls of an RPC, and the errors of refused calls.

The rule comes from the RPC's own descriptor, the key from the call's metadata, the
verdict from Keyfence. Both interceptors ask here, so that they cannot differ. This
module must not know of servers or threads.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from keyfence import errors
from keyfence._batching import MAX_BATCH_CHECKS
from keyfence.results import Authentication, CheckResult, FailedCheck, Principal, Reason, ScopeCheck
from keyfence.v1 import options_pb2

_log: Final = logging.getLogger("keyfence.guard")


@dataclass(frozen=True, slots=True)
class Refusal:
    """The error of a call that is refused. The message is for end users."""

    code: grpc.StatusCode
    message: str


# One answer for a key that is missing, malformed, unknown, revoked, expired, disabled or
# used from the wrong address: which keys exist is not to be told by the answer.
NO_GOOD_KEY: Final = Refusal(grpc.StatusCode.UNAUTHENTICATED, "a valid API key is required")
NOT_OPEN: Final = Refusal(grpc.StatusCode.PERMISSION_DENIED, "this method is not open to callers")
TOO_MANY: Final = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests")
AWAY: Final = Refusal(
    grpc.StatusCode.UNAVAILABLE, "authorization is unavailable at the moment; try again"
)
BROKEN: Final = Refusal(grpc.StatusCode.INTERNAL, "authorization is not set up correctly")


class Policy:
    """The decision that both interceptors share.

    Args:
        keyspace, unguarded, names_missing_scopes, client_address: those of the interceptors.
    """

    def __init__(
        self,
        keyspace: str,
        unguarded: Collection[str],
        names_missing_scopes: bool,
        client_address: Callable[[Any], str | None],
    ) -> None:
        if not keyspace:
            # An empty one would accept the keys of every product.
            raise errors.ConfigurationError("a guard needs the keyspace whose keys it accepts")
        if isinstance(unguarded, str):
            raise TypeError("unguarded takes a list of names, not a string")
        self._keyspace = keyspace
        self._unguarded = frozenset(unguarded)
        self._names_missing_scopes = names_missing_scopes
        self._client_address = client_address
        self._required_scopes: dict[str, str | None] = {}

    def is_unguarded(self, path: str) -> bool:
        """Whether callers need no key for the method."""
        return path in self._unguarded or _split(path)[0] in self._unguarded

    def question(self, path: str, context: Any) -> ScopeCheck | Refusal:
        """What to ask Keyfence about a call, or why the call is refused without asking. A question
        without scopes asks whether the key is good."""
        scope = self._required_scope(path)
        if scope is None:
            return NOT_OPEN
        api_key = find_presented_key(context.invocation_metadata() or ())
        if api_key is None:
            return NO_GOOD_KEY
        return ScopeCheck(
            api_key=api_key,
            required_scopes=(scope,) if scope else (),
            keyspace=self._keyspace,
            client_address=self._client_address(context),
        )

    def _required_scope(self, path: str) -> str | None:
        if path not in self._required_scopes:
            method = _find_method(path)
            if method is None:
                # Not remembered: clients can send any number of such paths.
                _log.error("refused %r: no descriptor of it is loaded", path)
                return None
            self._required_scopes[path] = _required_scope_of(method)
            if self._required_scopes[path] is None:
                _log.error("every call of %s is refused: it declares no required scope", path)
        return self._required_scopes[path]

    def survey(self, services: Collection[str]) -> tuple[list[str], list[list[ScopeCheck]]]:
        """What is wrong with the declarations of the services, and batches of checks that tell
        whether the keyspace registers the scopes that their guarded methods require. The checks ask
        about no key, which needs no more than the scope "keys:check": the server looks at the
        scopes first.

        Args:
            services: full names, such as "package.Service".

        Raises:
            ConfigurationError: there is no service to look at.
        """
        if not services:
            raise errors.ConfigurationError("name the services whose methods are guarded")
        wrong: list[str] = []
        scopes: set[str] = set()
        for service in services:
            described = _find_service(service)
            if described is None:
                wrong.append(f"no descriptor of the service {service!r} is loaded")
                continue
            for method in described.methods:
                path = f"/{described.full_name}/{method.name}"
                if self.is_unguarded(path):
                    continue
                scope = _required_scope_of(method)
                if scope is None:
                    wrong.append(f"{path} declares no required_scope and is not unguarded")
                elif scope:
                    scopes.add(scope)
        checks = [
            ScopeCheck(api_key="", required_scopes=(scope,), keyspace=self._keyspace)
            for scope in sorted(scopes)
        ]
        starts = range(0, len(checks), MAX_BATCH_CHECKS)
        return wrong, [checks[start : start + MAX_BATCH_CHECKS] for start in starts]

    def judge(self, result: Authentication | CheckResult) -> Principal | Refusal:
        """The caller, if the call may go on."""
        if result and result.principal is not None:
            return result.principal
        if result.reason is Reason.SCOPE_MISSING and isinstance(result, CheckResult):
            message = "the API key lacks a required scope"
            if self._names_missing_scopes and result.missing_scopes:
                message = f"the API key lacks: {', '.join(result.missing_scopes)}"
            return Refusal(grpc.StatusCode.PERMISSION_DENIED, message)
        if result.reason is Reason.RATE_LIMITED:
            return TOO_MANY
        return NO_GOOD_KEY


def unregistered(
    checks: Sequence[ScopeCheck], answers: Sequence[CheckResult | FailedCheck]
) -> list[str]:
    """What is wrong with the scopes of a batch of `Policy.survey`."""
    return [
        f"scope {check.required_scopes[0]!r} of keyspace {check.keyspace!r}: {answer.error.message}"
        for check, answer in zip(checks, answers, strict=True)
        if isinstance(answer, FailedCheck)
    ]


def require_none(wrong: Sequence[str]) -> None:
    """Raises `ConfigurationError` if anything is wrong, with all of it."""
    if wrong:
        raise errors.ConfigurationError(f"the guard is not set up correctly: {'; '.join(wrong)}")


def _required_scope_of(method: MethodDescriptor) -> str | None:
    """The scope that the method's options require. Empty: any valid key. None: they declare
    nothing, so every call is refused. Of two contradicting options, the stricter one counts."""
    extensions = method.GetOptions().Extensions
    has_access = extensions[options_pb2.access] == options_pb2.ACCESS_ANY_CREDENTIAL
    return extensions[options_pb2.required_scope] or ("" if has_access else None)


def refusal_for(error: Exception, path: str) -> Refusal:
    """The error without a verdict. It never says that the call was denied."""
    is_foreign = not isinstance(error, errors.KeyfenceError)
    _log.error("no verdict for a call of %s: %s", path, error, exc_info=is_foreign)
    passing = (errors.Unavailable, errors.DeadlineExceeded, errors.ResourceExhausted)
    return AWAY if isinstance(error, passing) else BROKEN


def find_presented_key(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """The one key in `authorization: Bearer` or `x-api-key`.

    None if there is none, or more than one: where a gateway and a service read different
    ones of two credentials, one of them guards nothing.
    """
    presented = [
        (name, value) for name, value in metadata if name in ("authorization", "x-api-key")
    ]
    if len(presented) != 1:
        return None
    name, value = presented[0]
    if not isinstance(value, str):
        return None
    if name == "x-api-key":
        return value or None
    scheme, _, key = value.partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def peer_address(context: Any) -> str | None:
    """The address at the other end of the connection; None if it has none.

    Behind a proxy this is the proxy's: give the guard a function that knows better.
    """
    scheme, _, rest = str(context.peer()).partition(":")
    if scheme not in ("ipv4", "ipv6"):
        return None
    host = unquote(rest).rpartition(":")[0].strip("[]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _split(path: str) -> tuple[str, str]:
    """Service and method of a path; empty, if it is not one."""
    parts = path.split("/")
    if len(parts) != 3 or parts[0]:
        return "", ""
    return parts[1], parts[2]


def _find_method(path: str) -> MethodDescriptor | None:
    service, name = _split(path)
    found = _find_service(service)
    return None if found is None else found.methods_by_name.get(name)


def _find_service(name: str) -> ServiceDescriptor | None:
    try:
        return descriptor_pool.Default().FindServiceByName(name)
    except KeyError:
        return None
