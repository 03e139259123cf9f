"""Whose key the current call was made with."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from keyfence.results import Principal

_principal: Final[ContextVar[Principal]] = ContextVar("keyfence_principal")


def current_principal() -> Principal:
    """Whose key the current call was made with.

    Raises:
        LookupError: no guarded call is under way here.
    """
    return _principal.get()


def find_principal() -> Principal | None:
    """Like `current_principal`; None if no guarded call is under way."""
    return _principal.get(None)


def remember(principal: Principal) -> None:
    """Records the caller for the rest of the current call.

    The record needs no reset: gRPC runs each call in its own context.
    """
    _principal.set(principal)
