"""Records that never change, of which a page or a load makes thousands.

A dataclass with `frozen=True` assigns each of its fields by a function call. A key with its 26
fields would be made in four times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def frozen(*, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
    """Makes a dataclass with slots. The type checker refuses assignments to its fields."""
    return dataclass(slots=True, kw_only=kw_only, unsafe_hash=True)
