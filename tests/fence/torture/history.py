"""What happened, and whether it may have: the checker.

It knows nothing of leases, revisions or servers, only when calls began and returned, all
by one clock (`CLOCK_MONOTONIC`, which the processes of a machine share). Each subject, a
key or a keyspace, has one writer, so its states follow one another:

- From the moment that a mutation's call begins, its state may show.
- From the moment that its OK has returned, no check that begins later may show an
  earlier state: neither accept what was taken away, nor refuse what was given.

A mutation that never returned OK may or may not have happened, at any time.
"""

from __future__ import annotations

import json
import struct
import time
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final

NEVER: Final = 2**63 - 1
KEYSPACE: Final = -1
"""The subject that is not a key: the keyspace that all keys belong to."""

_RECORD: Final = struct.Struct("<qqiHBB")
_SOON_NS: Final = 2_000_000_000


def now_ns() -> int:
    """The one clock."""
    return time.monotonic_ns()


class Question(IntEnum):
    """What a probe asks."""

    READ = 0
    WRITE = 1
    WHOSE = 2


class Answer(IntEnum):
    """What it is told. `NONE`: no answer came, which is never a violation."""

    REFUSED = 0
    ACCEPTED = 1
    NONE = 2


@dataclass(frozen=True, slots=True)
class State:
    """What a key may do, or, of a keyspace, whether writing implies reading there."""

    passes: bool = True
    reads: bool = False
    writes: bool = False
    implies: bool = False

    def accepts(self, question: Question, keyspace: State) -> bool:
        """Whether a key in this state passes."""
        match question:
            case Question.READ:
                return self.passes and (self.reads or (self.writes and keyspace.implies))
            case Question.WRITE:
                return self.passes and self.writes
            case Question.WHOSE:
                return self.passes


@dataclass(frozen=True, slots=True)
class Mutation:
    """A subject's next state: from when it may show, and from when it must."""

    subject: int
    state: State
    began: int
    returned: int = NEVER

    def to_line(self) -> str:
        """As it is kept."""
        state = [self.state.passes, self.state.reads, self.state.writes, self.state.implies]
        return json.dumps([self.subject, state, self.began, self.returned]) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Mutation:
        """As it was kept."""
        subject, state, began, returned = json.loads(line)
        return cls(subject, State(*state), began, returned)


@dataclass(frozen=True, slots=True)
class Probe:
    """One check: of a key, at a holder."""

    began: int
    returned: int
    subject: int
    holder: int
    question: Question
    answer: Answer

    def to_bytes(self) -> bytes:
        """As it is kept."""
        return pack(
            self.began, self.returned, self.subject, self.holder, self.question, self.answer
        )


pack = _RECORD.pack


def read_probes(path: Path) -> Iterator[Probe]:
    """The probes of a file. The last one may be cut off, if its writer was killed."""
    with path.open("rb") as file:
        while len(record := file.read(_RECORD.size)) == _RECORD.size:
            began, returned, subject, holder, question, answer = _RECORD.unpack(record)
            yield Probe(began, returned, subject, holder, Question(question), Answer(answer))


@dataclass(frozen=True, slots=True)
class Violation:
    """An answer that no state could have given that the subject may have had by then."""

    probe: Probe
    late_ns: int

    @property
    def is_stale_accept(self) -> bool:
        """Whether something was accepted that must not be; else, refused that must not be."""
        return self.probe.answer is Answer.ACCEPTED

    def __str__(self) -> str:
        what = "accepted" if self.is_stale_accept else "refused"
        return (
            f"key {self.probe.subject} was {what} ({self.probe.question.name}) at holder "
            f"{self.probe.holder} by a check that began {self.late_ns / 1e6:.3f} ms after the OK"
        )


@dataclass(slots=True)
class Verdict:
    """What the checker has found.

    Attributes:
        probes: by holder and answer.
        soon: probes, by holder, that began within two seconds after an OK that changed what
            they ask: those that could show something.
        before_first: probes that had returned when the first violation did.
        seconds_before_first: how long that was after the first probe.
    """

    runs: int = 0

    probes: Counter[tuple[int, Answer]] = field(default_factory=Counter)
    soon: Counter[int] = field(default_factory=Counter)
    mutations: int = 0
    unanswered_mutations: int = 0
    violations: list[Violation] = field(default_factory=list)
    before_first: int = 0
    seconds_before_first: float = 0.0

    @property
    def total(self) -> int:
        """How many probes there were."""
        return self.probes.total()

    def add(self, other: Verdict) -> None:
        """Takes other runs' in."""
        self.runs += other.runs
        self.probes += other.probes
        self.soon += other.soon
        self.mutations += other.mutations
        self.unanswered_mutations += other.unanswered_mutations
        self.violations += other.violations


class _Timeline:
    """One subject's states, in order."""

    __slots__ = ("began", "returned", "states")

    def __init__(self, mutations: Iterable[Mutation]) -> None:
        ordered = sorted(mutations, key=lambda one: one.began)
        self.states = [one.state for one in ordered]
        self.began = [one.began for one in ordered]
        # From when on this state or a later one must show: never later than its successors.
        self.returned = [one.returned for one in ordered]
        for index in range(len(ordered) - 2, -1, -1):
            self.returned[index] = min(self.returned[index], self.returned[index + 1])

    def possible(self, began: int, returned: int) -> tuple[int, int]:
        """The states, first and behind the last, that a check may show."""
        first = max(0, bisect_left(self.returned, began) - 1)
        return first, max(first + 1, bisect_right(self.began, returned))


def check(mutations: Iterable[Mutation], probes: Iterable[Probe]) -> Verdict:
    """Judges every probe."""
    by_subject: dict[int, list[Mutation]] = {}
    verdict = Verdict(runs=1)
    for mutation in mutations:
        by_subject.setdefault(mutation.subject, []).append(mutation)
        verdict.mutations += mutation.returned != NEVER
        verdict.unanswered_mutations += mutation.returned == NEVER
    timelines = {subject: _Timeline(them) for subject, them in by_subject.items()}
    keyspace = timelines.pop(KEYSPACE)
    returned = array("q")
    for probe in probes:
        returned.append(probe.returned)
        verdict.probes[probe.holder, probe.answer] += 1
        if probe.answer is not Answer.NONE:
            _judge(probe, timelines[probe.subject], keyspace, verdict)
    if verdict.violations:
        first = min(violation.probe.returned for violation in verdict.violations)
        verdict.before_first = sum(one < first for one in returned)
        verdict.seconds_before_first = (first - min(returned)) / 1e9
    return verdict


def _judge(probe: Probe, key: _Timeline, keyspace: _Timeline, verdict: Verdict) -> None:
    first, behind = key.possible(probe.began, probe.returned)
    if 0 <= probe.began - key.returned[first] <= _SOON_NS:
        verdict.soon[probe.holder] += 1
    first_of_keyspace, behind_of_keyspace = keyspace.possible(probe.began, probe.returned)
    accepted = probe.answer is Answer.ACCEPTED
    for state in key.states[first:behind]:
        for around in keyspace.states[first_of_keyspace:behind_of_keyspace]:
            if state.accepts(probe.question, around) == accepted:
                return
    since = max(key.returned[first], keyspace.returned[first_of_keyspace])
    verdict.violations.append(Violation(probe, probe.began - since))
