"""Long lists of names in little memory are equal to what they stand for."""

from __future__ import annotations

from keyfence_server.domain.compact_names import CompactNames, NameTable


def test_they_are_equal_to_the_names() -> None:
    table = NameTable(["a", "b", "c"], 2)
    names = ("c", "gone", "a", "x:*")
    compact = table.compact(names)
    assert isinstance(compact, CompactNames)
    assert compact == names
    assert names == compact
    assert hash(compact) == hash(names)
    assert (len(compact), compact[1], compact[-1], compact[1:3]) == (4, "gone", "x:*", names[1:3])
    assert list(compact) == list(names)
    assert "gone" in compact
    assert compact == table.compact(names)
    assert compact != table.compact(names[::-1])
    assert compact == NameTable([], 10).compact(names)


def test_a_table_that_is_full_leaves_names_as_they_are() -> None:
    """Otherwise grants of names that are gone would grow it without end."""
    table = NameTable(["a"], 1)
    table.compact(("a", "b"))
    more = ("a", "c")
    assert table.compact(more) is more
    assert table.names == ["a", "b"]
