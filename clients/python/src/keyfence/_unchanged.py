"""The value of an argument that was not given, where None means something itself."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, TypeAlias


class _Unchanged(Enum):
    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = _Unchanged.UNCHANGED
"""Leaves a field as it is."""

Unchanged: TypeAlias = Literal[_Unchanged.UNCHANGED]
