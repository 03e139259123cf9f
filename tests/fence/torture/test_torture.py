"""Real servers, sidecars and clients under faults: a short form of `make torture`."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from typing import Final

import pytest

from conformance.programs import LANGUAGES
from fence.torture.history import Answer, Verdict
from fence.torture.programs import built_programs, missing_tools
from fence.torture.run import torture

pytestmark = [pytest.mark.slow, pytest.mark.postgres]


_MOST_RUNS: Final = 3
_MOST_RUNS_OF_A_BROKEN_BUILD: Final = 6


@pytest.fixture(autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One torture at a time: each starts some fifteen processes, and beside another one on two
    cores its clients have hardly started when it is over."""
    with (tmp_path_factory.getbasetemp().parent / "torture.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize("sqlite", [False, True], ids=["postgresql", "sqlite-workers"])
def test_nothing_stale_is_answered_whatever_is_killed_stopped_or_cut_off(sqlite: bool) -> None:
    """Each guard's absence shows in a longer run: `python -m fence.torture --every-broken`.

    A run that a busy machine has slowed down shows little, and is followed by another one.
    """
    verdict = Verdict()
    for seed in range(4, 4 + _MOST_RUNS):
        outcome = torture(seed=seed, seconds=20, sqlite=sqlite)
        verdict.add(outcome.verdict)
        assert not verdict.violations, "\n".join(map(str, verdict.violations[:10]))
        assert outcome.faults.total() > 5
        languages = {holder.language for holder in outcome.holders}
        assert languages == {"python", *LANGUAGES} - set(missing_tools())
        if not sqlite:
            assert any(kind.startswith("failover") for kind in outcome.faults)
        if _shows_enough(verdict, len(outcome.holders)):
            return
    pytest.fail(f"so little was answered that it shows nothing: {verdict.probes}")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_a_client_among_the_holders(language: str) -> None:
    if tool := missing_tools().get(language):
        pytest.skip(f"there is no client in {language}, since there is no {tool}")
    assert built_programs()[language]


def _shows_enough(verdict: Verdict, holders: int) -> bool:
    """Whether every holder was asked and has answered, and enough was changed meanwhile."""
    return verdict.mutations > 20 and all(
        verdict.probes[number, answer] > 0
        for number in range(holders)
        for answer in (Answer.ACCEPTED, Answer.REFUSED)
    )


@pytest.mark.parametrize("broken", ["I3-sidecar", "I3-sdk"])
def test_the_torture_notices_a_broken_build(broken: str) -> None:
    # On a busy machine a run may change too little to show it.
    for seed in range(1, 1 + _MOST_RUNS_OF_A_BROKEN_BUILD):
        outcome = torture(seed=seed, seconds=8, broken=broken, with_faults=False)
        if any(one.is_stale_accept for one in outcome.verdict.violations):
            return
    pytest.fail("the broken build was not noticed")
