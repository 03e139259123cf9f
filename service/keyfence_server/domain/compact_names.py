"""Long lists of names, kept as numbers of two bytes.

A key may be granted 256 scopes. As a tuple they take eight bytes each, and more where the names
are not shared, for each of a hundred thousand keys in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Final, overload

_MOST: Final = 65_536  # what two bytes can tell apart


class NameTable:
    """Numbers names. Names are never forgotten, so a table has a most.

    Args:
        names: the first of the table's names.
        most_more: how many further names it takes.
    """

    __slots__ = ("_most", "_numbers", "names")

    def __init__(self, names: Sequence[str], most_more: int) -> None:
        self.names: Final = list(names)
        self._numbers: Final = {name: number for number, name in enumerate(names)}
        self._most: Final = min(len(names) + most_more, _MOST)

    def compact(self, names: Sequence[str]) -> Sequence[str]:
        """An equal sequence that takes less memory; the same one, if the table is full."""
        numbers = array("H")
        for name in names:
            number = self._numbers.get(name)
            if number is None:
                number = len(self.names)
                if number >= self._most:
                    return names
                self._numbers[name] = number
                self.names.append(name)
            numbers.append(number)
        return CompactNames(self.names, numbers.tobytes())


class CompactNames(Sequence[str]):
    """Names by their numbers in a table. Equal to a tuple of the same names.

    Attributes:
        numbers: two bytes for each name. Equal numbers are equal names of the same table.
    """

    __slots__ = ("_names", "numbers")

    def __init__(self, names: list[str], numbers: bytes) -> None:
        self._names = names
        self.numbers: Final = numbers

    def __len__(self) -> int:
        return len(self.numbers) // 2

    def __iter__(self) -> Iterator[str]:
        return map(self._names.__getitem__, memoryview(self.numbers).cast("H"))

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, CompactNames) and other._names is self._names:
            return other.numbers == self.numbers
        return isinstance(other, tuple | CompactNames) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))
