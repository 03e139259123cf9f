"""The cache does what every holder must do: spec/vectors/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from keyfence import results
from keyfence.holder.lease import HolderLease
from keyfence.holder.local_checks import LocalChecks
from keyfence.holder.memory import Memory
from keyfence.v1 import keyspace_pb2, principal_pb2, reason_pb2
from keyfence.v1 import replication_service_pb2 as messages

_VECTORS: Final = Path(__file__).parents[3] / "spec" / "vectors"
_KEY: Final = "kf_live_key"


def _read(name: str) -> Any:
    return json.loads((_VECTORS / name).read_text())


def _named(one: dict[str, Any]) -> str:
    return str(one["name"])


@pytest.mark.parametrize("case", _read("leases.json"), ids=_named)
def test_leases_count_as_the_vectors_say(case: dict[str, Any]) -> None:
    lease = HolderLease()
    for step in case["steps"]:
        got: object = None
        want: object = None
        match step["do"]:
            case "request":
                got, want = lease.request(step["now"]), step["nonce"]
            case "grant":
                got = lease.grant(step["nonce"], step["ttl"], step["head"], step["epoch"])
                want = step["forget"]
            case "advance":
                lease.advance_to(step["revision"])
            case "abandon":
                lease.abandon()
            case "live":
                got, want = lease.is_live(step["now"]), step["is"]
            case "applied":
                got, want = lease.applied, step["is"]
            case unknown:
                raise AssertionError(f"there is no step {unknown}")
        assert got == want, step


def _facts(told: dict[str, Any], revision: int, epoch: str) -> messages.FetchFactsResponse:
    """The facts as the server tells them."""
    facts = messages.KeyFacts(
        principal=principal_pb2.Principal(
            key_id="key_1",
            keyspace=told["keyspace"],
            account_id=told["account_id"],
            effective_scopes=told["scopes"],
        ),
        standing=reason_pb2.Reason.Value(f"REASON_{told['standing']}"),
        address_lists=[messages.AddressList(networks=one) for one in told["allow_lists"]],
        is_counted=told["is_counted"],
        depends_on=["key:key_1", f"keyspace:{told['keyspace']}", f"account:{told['account_id']}"],
    )
    if told["expires_at"] is not None:
        facts.expire_time.FromSeconds(told["expires_at"])
    return messages.FetchFactsResponse(
        facts=facts, revision=revision, epoch=epoch, well_formed=True
    )


_DECISIONS: Final = _read("decisions.json")


@pytest.mark.parametrize("case", _DECISIONS["cases"], ids=_named)
def test_checks_are_answered_as_the_vectors_say(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = _DECISIONS["good"]["facts"] | case.get("facts", {})
    question = _DECISIONS["good"]["question"] | case.get("question", {})
    monkeypatch.setattr("time.time", lambda: float(question["now"]))
    memory, lease = Memory(10), HolderLease()
    checks = LocalChecks(memory, lease, lambda: 1.0, lambda: None)
    lease.grant(lease.request(1.0), 1.0, 10, "a")
    memory.forget_everything(10, "a")
    scopes = [keyspace_pb2.Scope(name=name) for name in told["registered"]]
    memory.end_keyspaces_fill(
        memory.begin_fill(),
        messages.FetchKeyspacesResponse(
            keyspaces=[keyspace_pb2.Keyspace(name=told["keyspace"], scopes=scopes)],
            revision=10,
            epoch="a",
        ),
    )
    checks.end_fill(memory.begin_fill(), _KEY, _facts(told, 10, "a"))

    answer = checks.check_scope(
        _KEY,
        question["required_scopes"],
        question["keyspace"],
        question["client_address"],
        question["at_least_revision"],
    )

    if case["answer"] is None:
        assert answer is None
    else:
        assert answer is not None
        assert answer.reason is results.Reason[case["answer"]["reason"]]
        assert list(answer.missing_scopes) == case["answer"].get("missing_scopes", [])


@pytest.mark.parametrize("case", _read("fills.json"), ids=_named)
def test_fills_are_kept_as_the_vectors_say(case: dict[str, Any]) -> None:
    memory = Memory(10)
    fill = memory.begin_fill()
    good = _DECISIONS["good"]["facts"]
    for step in case["steps"]:
        match step.pop("do"):
            case "start":
                memory.forget_everything(step["head"], step["epoch"])
            case "begin":
                fill = memory.begin_fill()
            case "end":
                facts = _facts(good, step["revision"], step["epoch"])
                assert memory.end_fill(fill, memory.digest(_KEY), facts) is step["kept"]
            case "known":
                assert (memory.find(memory.digest(_KEY)) is not None) is step["is"]
            case "change":
                revision = step.pop("revision")
                changes = messages.RevisionChanges(
                    revision=revision, changes=[messages.SubjectChange(**step)]
                )
                memory.apply(changes)
            case unknown:
                raise AssertionError(f"there is no step {unknown}")
