"""Real servers, sidecars and clients under faults: a short form of `make torture`."""

from __future__ import annotations

import pytest

from fence.torture.history import Answer
from fence.torture.run import torture

pytestmark = [pytest.mark.slow, pytest.mark.postgres]


@pytest.mark.parametrize("sqlite", [False, True], ids=["postgresql", "sqlite-workers"])
def test_nothing_stale_is_answered_whatever_is_killed_stopped_or_cut_off(sqlite: bool) -> None:
    """Each guard's absence shows in a longer run: `python -m fence.torture --every-broken`."""
    outcome = torture(seed=4, seconds=20, sqlite=sqlite)
    verdict = outcome.verdict
    assert not verdict.violations, "\n".join(map(str, verdict.violations[:10]))
    assert verdict.mutations > 20
    assert outcome.faults.total() > 5
    if not sqlite:
        assert any(kind.startswith("failover") for kind in outcome.faults)
    for number, holder in enumerate(outcome.holders):
        for answer in (Answer.ACCEPTED, Answer.REFUSED):
            assert verdict.probes[number, answer] > 0, f"{holder.name} was hardly asked"


@pytest.mark.parametrize("broken", ["sidecar-does-not-apply", "sdk-does-not-apply"])
def test_the_torture_notices_a_broken_build(broken: str) -> None:
    outcome = torture(seed=1, seconds=6, broken=broken, with_faults=False)
    assert any(one.is_stale_accept for one in outcome.verdict.violations)
