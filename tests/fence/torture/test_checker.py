"""The checker itself: what it must notice, and what it must let pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from fence.torture import broken, guards
from fence.torture.history import (
    KEYSPACE,
    NEVER,
    Answer,
    Mutation,
    Probe,
    Question,
    State,
    Verdict,
    check,
    read_probes,
)

HOLDER = 0
KEYSPACE_FROM_THE_START = Mutation(KEYSPACE, State(), 0, 1)


def judge(
    mutations: list[Mutation],
    began: int,
    returned: int,
    answer: Answer,
    question: Question = Question.WHOSE,
) -> Verdict:
    probe = Probe(began, returned, 0, HOLDER, question, answer)
    history = mutations
    if not any(one.subject == KEYSPACE for one in mutations):
        history = [KEYSPACE_FROM_THE_START, *mutations]
    return check(history, [probe])


MADE_AND_REVOKED = [
    Mutation(0, State(writes=True), 10, 20),
    Mutation(0, State(passes=False), 100, 200),
]


@pytest.mark.parametrize(
    ("began", "returned", "answer", "violations"),
    [
        (30, 40, Answer.ACCEPTED, 0),
        (30, 40, Answer.REFUSED, 1),  # a new key must work from its OK on
        (99, 101, Answer.REFUSED, 0),  # the revocation has begun before the answer came
        (150, 160, Answer.ACCEPTED, 0),  # between its beginning and its OK both may be
        (150, 160, Answer.REFUSED, 0),
        (199, 900, Answer.ACCEPTED, 0),  # however late the answer of a check from before it
        (200, 201, Answer.ACCEPTED, 0),  # at the same moment, both answers are right
        (201, 202, Answer.ACCEPTED, 1),
        (201, 202, Answer.REFUSED, 0),
        (201, 202, Answer.NONE, 0),  # no answer is no lie
    ],
)
def test_only_the_order_of_calls_and_returns_counts(
    began: int, returned: int, answer: Answer, violations: int
) -> None:
    assert len(judge(MADE_AND_REVOKED, began, returned, answer).violations) == violations


def test_a_violation_says_how_late_it_was() -> None:
    (found,) = judge(MADE_AND_REVOKED, 250, 260, Answer.ACCEPTED).violations
    assert found.is_stale_accept
    assert found.late_ns == 50


def test_a_mutation_without_an_ok_may_or_may_not_have_happened() -> None:
    history = [MADE_AND_REVOKED[0], Mutation(0, State(passes=False), 100, NEVER)]
    for answer in Answer:
        assert not judge(history, 10_000, 10_001, answer).violations


def test_a_later_ok_speaks_for_what_came_before_it() -> None:
    history = [
        Mutation(0, State(writes=True), 10, 20),
        Mutation(0, State(), 100, NEVER),
        Mutation(0, State(writes=True, reads=True), 200, 300),
    ]
    assert not judge(history, 250, 260, Answer.REFUSED, Question.WRITE).violations
    assert judge(history, 301, 302, Answer.REFUSED, Question.WRITE).violations


def test_scopes_are_told_apart() -> None:
    history = [Mutation(0, State(writes=True), 10, 20)]
    assert not judge(history, 30, 40, Answer.ACCEPTED, Question.WRITE).violations
    assert judge(history, 30, 40, Answer.ACCEPTED, Question.READ).violations


def test_the_keyspace_s_states_count_for_all_its_keys() -> None:
    history = [
        Mutation(KEYSPACE, State(implies=True), 0, 1),
        Mutation(KEYSPACE, State(implies=False), 100, 200),
        Mutation(0, State(writes=True), 10, 20),
    ]
    assert not judge(history, 30, 40, Answer.ACCEPTED, Question.READ).violations
    assert not judge(history, 150, 160, Answer.ACCEPTED, Question.READ).violations
    assert judge(history, 201, 202, Answer.ACCEPTED, Question.READ).violations


def test_records_survive_being_written_and_a_writer_that_was_killed(tmp_path: Path) -> None:
    probe = Probe(1, 2**62, 7, 3, Question.READ, Answer.ACCEPTED)
    kept = tmp_path / "records"
    kept.write_bytes(probe.to_bytes() * 2 + probe.to_bytes()[:5])
    assert list(read_probes(kept)) == [probe, probe]
    mutation = MADE_AND_REVOKED[1]
    assert Mutation.from_line(mutation.to_line()) == mutation


@pytest.mark.parametrize("name", broken.BUILDS)
def test_every_broken_build_takes_out_something_that_is_there(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build whose guard was renamed would break nothing. A build whose guard has got other
    parameters would fail, and not show the bug."""
    taken_out: list[str] = []

    def look(owner: object, attribute: str, what: object) -> None:
        guards.require_fit(owner, attribute, what)
        taken_out.append(attribute)

    monkeypatch.setattr(guards, "_put", look)
    broken.BUILDS[name].take_out()
    assert taken_out
