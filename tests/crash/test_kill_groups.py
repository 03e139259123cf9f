"""`kill -9` of a server in the middle of a group of mutations.

Between the commit and the fence round of a group, what is durable is known to no other process,
and no caller was told of it. The callers repeat their calls at a server that is left.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import keyfence
from crash.dying import AT_STEP, BEFORE_COMMIT, BEFORE_FENCE
from crash.evidence import verify
from crash.load import Acknowledgement
from crash.places import Place, Rpcs
from crash.reading import read_postgresql_in_use
from keyfence import errors
from support.builders import KEYSPACE
from support.served import COMMAND, Served

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
REVOKED = 4
MADE = 6
SCOPES = ("vps:read",)


class Server:
    """A server in a directory of its own, and a client of it."""

    def __init__(self, served: Served, client: keyfence.AsyncClient) -> None:
        self.served = served
        self.client = client
        self.rpcs = Rpcs(client)

    async def accepts(self, api_key: str) -> bool:
        return (await self.client.authenticate(api_key, keyspace=KEYSPACE)).authenticated


@asynccontextmanager
async def serving(
    directory: Path, place: Place, root_key: str = "", step: str = ""
) -> AsyncIterator[Server]:
    """A server, which stops at the step if one is named."""
    await asyncio.to_thread(directory.mkdir, exist_ok=True)
    command = (sys.executable, "-m", "crash.dying", step) if step else COMMAND
    settings = {
        **place.settings,
        "KEYFENCE_LISTEN": f"unix:{directory}/{step or 'whole'}.sock",
        # Long enough for a busy machine to renew.
        "KEYFENCE_LEASE_SECONDS": "2",
    }
    paths = os.pathsep.join([str(TESTS), *sys.path])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", paths)
        served = await asyncio.to_thread(Served, directory, settings, command=command)
    try:
        async with keyfence.AsyncClient(
            served.target, token=root_key or served.root_key, timeout_seconds=20
        ) as client:
            yield Server(served, client)
    finally:
        await asyncio.to_thread(served.stop)


async def killed_at_its_step(server: Server, calls: list[Coroutine[Any, Any, Any]]) -> Any:
    """Makes the calls together, and kills the server when it is at its step.

    Returns:
        How many mutations the group had, and what came of the calls.
    """
    working = asyncio.gather(*calls, return_exceptions=True)
    said = await asyncio.to_thread(server.served.wait_for, AT_STEP)
    os.kill(server.served.pid, signal.SIGKILL)
    found = re.search(rf"{AT_STEP} ([0-9]+)", said)
    assert found is not None
    return int(found[1]), await working


@pytest.mark.parametrize("step", [BEFORE_COMMIT, BEFORE_FENCE])
async def test_a_group_that_was_cut_off_is_whole_or_absent_and_can_be_repeated(
    tmp_path: Path, place: Place, step: str
) -> None:
    request_ids = [f"req-{number}" for number in range(MADE)]
    async with AsyncExitStack() as servers:
        dying = await servers.enter_async_context(serving(tmp_path, place, step=step))
        root_key = dying.served.root_key
        left = None
        read = place.read
        if place.has_several:
            read = read_postgresql_in_use
            left = await servers.enter_async_context(serving(tmp_path / "left", place, root_key))
        # One after the other, so that they are no group.
        known = [
            await (left or dying).rpcs.create(SCOPES, f"known-{number}")
            for number in range(REVOKED)
        ]
        assert all([await (left or dying).accepts(one.plaintext) for one in known])

        size, answers = await killed_at_its_step(
            dying,
            [
                *(dying.rpcs.revoke(one.made, "") for one in known),
                *(dying.rpcs.create(SCOPES, request_id) for request_id in request_ids),
            ],
        )
        failed = [one for one in answers if isinstance(one, BaseException)]
        assert all(isinstance(one, errors.CallFailed) for one in failed), failed
        acknowledged: list[Acknowledgement] = [
            one for one in answers if isinstance(one, Acknowledgement)
        ]
        assert len(failed) >= size
        async with read(place.url) as query:
            states = await verify(query, [*known, *acknowledged])
            requests = {row[0] for row in await query("SELECT request_id FROM requests")}
        revoked = [one for one in known if states[one.made] == "revoked"]
        happened = len(revoked) + len(requests & set(request_ids))
        if step == BEFORE_FENCE:
            assert happened - len(acknowledged) >= size
        else:
            assert len(answers) - happened >= size

        if left is None:
            left = await servers.enter_async_context(serving(tmp_path, place))
        for one in known:
            await left.rpcs.revoke(one.made, "")
            assert not await left.accepts(one.plaintext)
        for request_id in request_ids:
            if request_id in requests:
                with pytest.raises(errors.RequestAlreadyDone):
                    await left.rpcs.create(SCOPES, request_id)
            else:
                await left.rpcs.create(SCOPES, request_id)
        assert (await left.client.verify_audit_events()).complete
        async with read(place.url) as query:
            states = await verify(query, [*known, *acknowledged])
    assert sorted(states.values()) == ["active"] * (MADE + 1) + ["revoked"] * REVOKED
