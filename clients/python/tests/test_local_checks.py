"""What a client's cache answers, and of which revision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from keyfence import Reason
from keyfence.holder.facts import Entry
from keyfence.holder.lease import HolderLease
from keyfence.holder.local_checks import LocalChecks
from keyfence.holder.memory import Memory
from keyfence.v1 import principal_pb2, reason_pb2
from keyfence.v1 import replication_service_pb2 as messages

REVOKED_AT = 6


class Interrupted(Memory):
    """Another thread applies the next revision right after this one has found its entry."""

    is_interrupted = False

    def find(self, digest: bytes) -> Entry | None:
        found = super().find(digest)
        if self.is_interrupted:
            self.apply(revoked("key_1"))
        return found


def revoked(key_id: str) -> messages.RevisionChanges:
    change = messages.SubjectChange(key_id=key_id)
    return messages.RevisionChanges(revision=REVOKED_AT, changes=[change])


def checks_over(memory: Memory) -> LocalChecks:
    """Checks under a lease that lasts."""
    lease = HolderLease()
    lease.grant(lease.request(0.0), 1e9, 5, "epoch")
    memory.forget_everything(5, "epoch")
    return LocalChecks(memory, lease, lambda: 1.0, without_lease=lambda: None)


def facts_of(key_id: str) -> messages.KeyFacts:
    return messages.KeyFacts(
        principal=principal_pb2.Principal(
            key_id=key_id, keyspace="acme", account_id="usr_1", effective_scopes=["vps:read"]
        ),
        standing=reason_pb2.REASON_OK,
        depends_on=[f"key:{key_id}", "key:key_parent", "keyspace:acme", "account:usr_1"],
    )


def learn(checks: LocalChecks, api_key: str, key_id: str) -> None:
    fill = checks.begin_fill(api_key)
    assert fill is not None
    response = messages.FetchFactsResponse(facts=facts_of(key_id), revision=5, epoch="epoch")
    checks.end_fill(fill, api_key, response)


def test_an_answer_is_of_the_revision_that_it_names() -> None:
    """What is applied between finding a key and answering must not pass for a part of the
    answer: it would be told as of a revision that it does not show."""
    memory = Interrupted(10)
    checks = checks_over(memory)
    learn(checks, "kf_a", "key_1")
    memory.is_interrupted = True
    check = checks.check_scope("kf_a", ("vps:read",), None, None, 0)
    assert check is not None
    assert (check.allowed, check.revision) == (True, 5)


@pytest.mark.parametrize(
    "ask",
    [
        lambda checks: checks.authenticate("kf_a", None, None, REVOKED_AT),
        lambda checks: checks.check_scope("kf_a", ("vps:read",), None, None, REVOKED_AT),
    ],
)
def test_a_check_that_demands_a_revision_is_not_answered_from_before_it(
    ask: Callable[[LocalChecks], object],
) -> None:
    """Not even when it is applied between finding the key and answering."""
    memory = Interrupted(10)
    checks = checks_over(memory)
    learn(checks, "kf_a", "key_1")
    memory.is_interrupted = True
    assert ask(checks) is None


def test_room_is_made_by_forgetting_a_key_that_was_not_asked_for_lately() -> None:
    checks = checks_over(Memory(3))
    for name in ("a", "b", "c", "d"):
        learn(checks, f"kf_{name}", f"key_{name}")
    # The first to come has gone, and everyone's second chance with it.
    assert checks.authenticate("kf_b", None, None, 0) is not None
    learn(checks, "kf_e", "key_e")
    known = [
        name
        for name in "abcde"
        if checks.memory.find(checks.memory.digest(f"kf_{name}")) is not None
    ]
    assert known == ["b", "d", "e"]


def test_a_key_that_was_just_learnt_is_not_the_one_to_go() -> None:
    """Otherwise the next check of it would have to load it again."""
    checks = checks_over(Memory(2))
    for name in ("a", "b"):
        learn(checks, f"kf_{name}", f"key_{name}")
        checks.authenticate(f"kf_{name}", None, None, 0)
    learn(checks, "kf_c", "key_c")
    answer = checks.authenticate("kf_c", None, None, 0)
    assert answer is not None
    assert answer.reason is Reason.OK


@pytest.mark.parametrize("address", ["10.1.2", "fe80::1%eth0", "nowhere"])
def test_an_address_that_is_none_is_left_to_the_server(address: str) -> None:
    """It says what is wrong. A key without an allow-list does not need the address, and an
    asking service would hear of its mistake now and then: whenever the key is not known here."""
    checks = checks_over(Memory(10))
    learn(checks, "kf_a", "key_1")
    assert checks.authenticate("kf_a", None, address, 0) is None
    assert checks.check_scope("kf_a", ("vps:read",), None, address, 0) is None


def test_what_was_on_its_way_before_memory_was_made_anew_is_not_taken() -> None:
    """As in a process that was forked, which hears of no change until it has its own lease."""
    checks = checks_over(Memory(2))
    fill = checks.begin_fill("kf_a")
    assert fill is not None
    lease = HolderLease()
    lease.grant(lease.request(0.0), 1e9, 5, "epoch")
    checks.begin(Memory(2), lease)
    checks.forget_everything(5, "epoch")
    response = messages.FetchFactsResponse(facts=facts_of("key_1"), revision=5, epoch="epoch")
    checks.end_fill(fill, "kf_a", response)
    assert checks.authenticate("kf_a", None, None, 0) is None


@pytest.mark.parametrize(
    "change",
    [
        {"key_id": "key_1"},
        {"key_id": "key_parent"},
        {"keyspace": "acme"},
        {"account_id": "usr_1"},
    ],
)
def test_what_facts_depend_on_drops_them(change: dict[str, str]) -> None:
    checks = checks_over(Memory(10))
    learn(checks, "kf_a", "key_1")
    other = messages.RevisionChanges(revision=6, changes=[messages.SubjectChange(key_id="usr_1")])
    checks.apply(other)
    assert checks.authenticate("kf_a", None, None, 0) is not None
    subject: Any = change
    told = messages.RevisionChanges(revision=7, changes=[messages.SubjectChange(**subject)])
    checks.apply(told)
    assert checks.authenticate("kf_a", None, None, 0) is None


def test_a_change_of_an_unknown_kind_makes_everything_be_forgotten() -> None:
    """A server of a later version names something that this one cannot read."""
    checks = checks_over(Memory(10))
    learn(checks, "kf_a", "key_1")
    fill = checks.memory.begin_fill()
    checks.apply(messages.RevisionChanges(revision=6, changes=[messages.SubjectChange()]))
    assert checks.acknowledged() == 6
    assert checks.authenticate("kf_a", None, None, 0) is None
    response = messages.FetchFactsResponse(facts=facts_of("key_1"), revision=6, epoch="epoch")
    assert not checks.memory.end_fill(fill, b"digest", response)
