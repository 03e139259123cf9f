"""The fuzzer, for as long as a gate has time. `make fuzz` runs it for a million messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fuzz.fuzzing import fuzz
from fuzz.target import Target, prepare
from support.serving import start_for_test

MESSAGES = 2_500
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))]


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Target]:
    """A server with two tenants."""
    served = await start_for_test(tmp_path / "data")
    yield await prepare(served.client)
    await served.client.channel.close()
    await served.server.stop()


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_request_breaks_a_rule(target: Target, seed: int) -> None:
    findings = await fuzz(target, seed, MESSAGES)
    assert not findings.faults
    # Requests that are all refused would find nothing.
    assert len(findings.reached()) >= 20, sorted(findings.reached())


async def test_an_accepted_key_of_another_tenant_would_show(target: Target) -> None:
    """The same requests by a caller who may see everything break the rules."""
    target.credentials["operator"] = target.client.root
    findings = await fuzz(target, seed=1, messages=600)
    assert [fault for fault in findings.faults if "tells" in fault or "accepted" in fault]
