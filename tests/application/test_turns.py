"""The order in which mutations and heavy work are served."""

from __future__ import annotations

import pytest

from keyfence_server.application.turns import MOST_RESTRICTIVE_IN_A_ROW, Place, Queue


class Entry:
    """What waits, until its caller has gone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.has_gone = False

    def done(self) -> bool:
        return self.has_gone


def add(
    queue: Queue[Entry], name: str, place: Place = ("acme", "anna"), *, restrictive: bool = False
) -> Entry:
    entry = Entry(name)
    queue.add(place, entry, restrictive=restrictive)
    return entry


def served(queue: Queue[Entry]) -> list[str]:
    names = []
    while (entry := queue.take()) is not None:
        names.append(entry.name)
    return names


def taken(queue: Queue[Entry], *, only_restrictive: bool) -> str | None:
    entry = queue.take(only_restrictive=only_restrictive)
    return entry.name if entry is not None else None


def test_a_revocation_overtakes_what_another_account_has_under_way() -> None:
    queue = Queue[Entry]()
    for number in range(400):
        add(queue, f"create {number}", ("acme", "greedy"))
    add(queue, "revoke", ("acme", "victim"), restrictive=True)
    assert served(queue)[0] == "revoke"


@pytest.mark.parametrize("place", [("acme", "victim"), ("other", "greedy"), ("system", "key_1")])
def test_a_caller_waits_for_one_mutation_of_a_greedy_one(place: Place) -> None:
    queue = Queue[Entry]()
    for number in range(400):
        add(queue, f"create {number}", ("acme", "greedy"))
    add(queue, "other", place)
    assert served(queue).index("other") <= 1


def test_many_accounts_of_a_keyspace_are_one_to_another_keyspace() -> None:
    queue = Queue[Entry]()
    for number in range(400):
        add(queue, f"create {number}", ("acme", f"account {number}"))
    add(queue, "first", ("other", "victim"))
    add(queue, "second", ("other", "victim"))
    order = served(queue)
    assert [order.index(name) for name in ("first", "second")] == [1, 3]


def test_one_callers_mutations_keep_their_order() -> None:
    queue = Queue[Entry]()
    for number in range(5):
        add(queue, str(number))
    assert served(queue) == list("01234")


def test_restrictive_changes_do_not_stop_the_others() -> None:
    queue = Queue[Entry]()
    for number in range(400):
        add(queue, f"revoke {number}", ("acme", "greedy"), restrictive=True)
    add(queue, "create", ("acme", "victim"))
    assert served(queue).index("create") == MOST_RESTRICTIVE_IN_A_ROW


def test_a_mutation_whose_caller_has_gone_is_passed_over() -> None:
    queue = Queue[Entry]()
    gone = add(queue, "gone")
    add(queue, "next")
    gone.has_gone = True
    assert served(queue) == ["next"]


def test_what_is_put_back_is_the_next_again() -> None:
    queue = Queue[Entry]()
    for place in (("acme", "anna"), ("acme", "ben"), ("other", "carl")):
        add(queue, place[1], place)
    first = queue.take()
    assert first is not None
    queue.put_back(("acme", "anna"), first, restrictive=False)
    assert served(queue)[0] == "anna"


def test_a_group_with_a_restrictive_change_is_joined_by_restrictive_changes_alone() -> None:
    queue = Queue[Entry]()
    add(queue, "create")
    add(queue, "revoke", restrictive=True)
    assert taken(queue, only_restrictive=True) == "revoke"
    assert taken(queue, only_restrictive=True) is None
    assert served(queue) == ["create"]


def test_a_group_ends_where_it_is_the_turn_of_another_change() -> None:
    queue = Queue[Entry]()
    for number in range(MOST_RESTRICTIVE_IN_A_ROW + 1):
        add(queue, f"revoke {number}", restrictive=True)
    add(queue, "create")
    for number in range(MOST_RESTRICTIVE_IN_A_ROW):
        assert taken(queue, only_restrictive=True) == f"revoke {number}"
    assert taken(queue, only_restrictive=True) is None
    assert served(queue) == ["create", f"revoke {MOST_RESTRICTIVE_IN_A_ROW}"]
