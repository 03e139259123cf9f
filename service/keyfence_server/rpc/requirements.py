"""What an RPC demands of its caller, read off its descriptor when the server starts.

An RPC that declares nothing keeps the server from starting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor

from keyfence.v1 import options_pb2
from keyfence_server.application.callers import Caller, Operator
from keyfence_server.domain.system import SYSTEM_KEYSPACE

_ACCESS_WITHOUT_SCOPE: Final = (options_pb2.ACCESS_ANY_CREDENTIAL, options_pb2.ACCESS_PUBLIC)

Authorize = Callable[[Caller], None]


class UndeclaredAccess(Exception):
    """An RPC does not say who may call it, or says what cannot be."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """What an RPC demands of its caller, as its descriptor says.

    Attributes:
        scope: the scope of keyspace `system` that an operator needs; None for none.
        has_side_effects: whether the call changes anything.
        access: who may call besides, as `keyfence.v1.Access` has it.
    """

    scope: str | None
    has_side_effects: bool
    access: int = options_pb2.ACCESS_UNSPECIFIED

    @property
    def needs_credential(self) -> bool:
        """Whether a call without a credential is refused."""
        return self.access != options_pb2.ACCESS_PUBLIC

    def authorizer(self, method: str) -> Authorize:
        """What raises `Forbidden` for a caller that may not call the RPC of this name."""
        scope = self.scope
        if scope is None or not self.needs_credential:
            return lambda _: None
        if self.access == options_pb2.ACCESS_OPERATOR_OR_ACCOUNT:
            return lambda caller: caller.require_key_management(scope, method=method)
        if self.access == options_pb2.ACCESS_OPERATOR_OR_SESSION:
            return lambda caller: caller.require_account_management(scope, method=method)
        wanted = SYSTEM_KEYSPACE.catalog.required_mask([scope])

        def authorize(caller: Caller) -> None:
            # The common case in a few instructions; `require_scope` finds the error to raise.
            if not (type(caller) is Operator and caller.facts.effective & wanted):
                caller.require_scope(scope, method=method)

        return authorize


def read_requirement(method: MethodDescriptor) -> Requirement:
    """Reads what an RPC demands.

    Raises:
        UndeclaredAccess: nothing, or a scope that keyspace `system` does not register.
    """
    options = method.GetOptions()
    scope = options.Extensions[options_pb2.required_scope] or None
    access = options.Extensions[options_pb2.access]
    if scope is None and access not in _ACCESS_WITHOUT_SCOPE:
        raise UndeclaredAccess(f"{method.full_name} declares neither a scope nor open access")
    if scope is not None and scope not in SYSTEM_KEYSPACE.catalog:
        raise UndeclaredAccess(f'{method.full_name} requires "{scope}", which is not registered')
    return Requirement(
        scope=scope,
        has_side_effects=(
            options.idempotency_level != descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
        ),
        access=access,
    )
