"""Checks that are answered from memory are told to the server, as often as they passed."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from clients.python.tests.test_local_checks import checks_over, facts_of, learn, revoked
from keyfence.holder import reporting
from keyfence.holder.local_checks import LocalChecks
from keyfence.holder.memory import Memory
from keyfence.holder.uses import Use
from keyfence.v1 import replication_service_pb2 as messages

NOON = 1_900_000_000.0
DAY = 86_400.0


@dataclass
class Server:
    """Takes reports in, or does not."""

    answers: bool = True
    told: list[list[messages.ReportedUse]] = field(default_factory=list)

    async def tell(self, request: messages.ReportUsesRequest) -> bool:
        self.told.append(list(request.uses))
        return self.answers

    def counts(self) -> dict[str, int]:
        return {use.key_id: use.count for uses in self.told for use in uses}


@pytest.fixture
def checks() -> LocalChecks:
    checks = checks_over(Memory(2))
    learn(checks, "kf_a", "key_a")
    return checks


def use(checks: LocalChecks, times: int, *, address: str | None = None, scope: str = "") -> None:
    for _ in range(times):
        if scope:
            checks.check_scope("kf_a", (scope,), None, address, 0)
        else:
            checks.authenticate("kf_a", None, address, 0)


async def test_what_has_passed_is_reported_once_and_with_the_last_address(
    checks: LocalChecks,
) -> None:
    server = Server()
    use(checks, 2, address="192.0.2.1")
    use(checks, 3, address="::ffff:192.0.2.2", scope="vps:read")
    await reporting.report(checks.memory, server.tell)
    [[told]] = server.told
    assert (told.key_id, told.count, told.last_used_address) == ("key_a", 5, "192.0.2.2")
    assert told.last_used_time.ToDatetime().date().isoformat() == told.day
    await reporting.report(checks.memory, server.tell)
    assert len(server.told) == 1
    assert checks.memory.uses == 5


async def test_a_check_that_is_denied_is_no_use(checks: LocalChecks) -> None:
    server = Server()
    keyspace = messages.FetchKeyspacesResponse(revision=5, epoch="epoch")
    keyspace.keyspaces.add(name="acme").scopes.add(name="vps:write")
    checks.memory.end_keyspaces_fill(checks.memory.begin_fill(), keyspace)
    use(checks, 3, scope="vps:write")
    await reporting.report(checks.memory, server.tell)
    assert server.told == []
    assert (checks.denials, checks.memory.uses) == (3, 0)


async def test_what_could_not_be_told_is_told_with_what_came_since(checks: LocalChecks) -> None:
    server = Server(answers=False)
    use(checks, 2)
    await reporting.report(checks.memory, server.tell)
    server.answers = True
    use(checks, 3)
    await reporting.report(checks.memory, server.tell)
    assert server.counts() == {"key_a": 5}


async def test_what_is_forgotten_was_used_all_the_same(checks: LocalChecks) -> None:
    """A key may be changed, make room for another one, be learnt twice at once, or go with
    the lease."""
    server = Server()
    use(checks, 1)
    learn_twice(checks)
    use(checks, 2)
    for name in "bcd":
        learn(checks, f"kf_{name}", f"key_{name}")
        checks.authenticate(f"kf_{name}", None, None, 0)
    checks.apply(revoked("key_d"))
    checks.forget_everything(0, "")
    await reporting.report(checks.memory, server.tell)
    assert server.counts() == {"key_a": 3, "key_b": 1, "key_c": 1, "key_d": 1}


def learn_twice(checks: LocalChecks) -> None:
    fill = checks.memory.begin_fill()
    response = messages.FetchFactsResponse(facts=facts_of("key_a"), revision=5, epoch="epoch")
    checks.end_fill(fill, "kf_a", response)


async def test_a_check_from_an_address_that_is_none_is_no_use(checks: LocalChecks) -> None:
    """It is left to the server, which would refuse all of a report with such an address."""
    server = Server()
    use(checks, 1, address="x" * 1000)
    await reporting.report(checks.memory, server.tell)
    assert server.told == []


async def test_a_report_is_no_larger_than_a_server_takes(
    checks: LocalChecks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_IN_A_REPORT", 2)
    server = Server()
    checks.memory.put_back_uses([Use(f"key_{n}", NOON, "", 1) for n in range(5)])
    await reporting.report(checks.memory, server.tell)
    assert [len(uses) for uses in server.told] == [2, 2, 1]


async def test_each_day_is_told_apart(checks: LocalChecks) -> None:
    server = Server()
    checks.memory.put_back_uses(
        [
            Use("key_a", NOON, "192.0.2.1", 1),
            Use("key_a", NOON - 1, "192.0.2.2", 2),
            Use("key_a", NOON - DAY, "", 4),
        ]
    )
    await reporting.report(checks.memory, server.tell)
    told = [(one.day, one.count, one.last_used_address) for one in server.told[0]]
    assert told == [("2030-03-17", 3, "192.0.2.1"), ("2030-03-16", 4, "")]
