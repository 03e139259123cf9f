"""The process that changes things: keys live a short and eventful life, the keyspace flips.

    python -m fence.torture.writer CONFIG.json

Every subject has one writer, and every change names the revision that it is made on, so
that an attempt which was given up cannot take effect behind a later one. A change whose
answer was lost is repeated, at whichever server, until an OK says that it holds.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from fence.torture.history import KEYSPACE, NEVER, Mutation, State, now_ns
from keyfence import AsyncClient, CallFailed, KeyState, RevisionChanged
from keyfence.v1 import keyspace_pb2

_KEYS_AT_ONCE: Final = 5
_ATTEMPT_SECONDS: Final = 5.0
_AFTER_FAILURE_SECONDS: Final = 0.05


class Writer:
    """Changes keys and their keyspace, and writes down when."""

    def __init__(self, config: dict[str, Any], clients: list[AsyncClient]) -> None:
        self._clients = clients
        self._random = random.Random(config["seed"])
        self._share_of_hasty = 0.9 if config["hasty"] else 0.3
        self._keys_file = Path(config["keys"]).open("a", encoding="ascii")  # noqa: SIM115
        self._history = Path(config["history"]).open("a", encoding="ascii")  # noqa: SIM115
        self._numbers = itertools.count()

    async def run(self) -> None:
        """Works until it is cancelled; what is unfinished then is written down as such."""
        try:
            revision = await self._make_keyspace()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._flip_keyspace(revision))
                for _ in range(_KEYS_AT_ONCE):
                    group.create_task(self._live())
        finally:
            self._history.close()
            self._keys_file.close()

    def _anywhere(self) -> AsyncClient:
        return self._random.choice(self._clients)

    def _patience(self) -> float:
        # Sometimes too little, so that what was committed is repeated before its fence is up.
        if self._random.random() < self._share_of_hasty:
            return self._random.uniform(0.02, 0.5)
        return _ATTEMPT_SECONDS

    async def _mutate(
        self, subject: int, state: State, attempt: Callable[[], Awaitable[None]]
    ) -> None:
        """Repeats an attempt until it returns, and writes down how long that took."""
        began, returned = now_ns(), NEVER
        try:
            while returned == NEVER:
                try:
                    await attempt()
                    returned = now_ns()
                except CallFailed:
                    await asyncio.sleep(_AFTER_FAILURE_SECONDS)
        finally:
            self._history.write(Mutation(subject, state, began, returned).to_line())
            self._history.flush()

    async def _live(self) -> None:
        while True:
            state = State(reads=self._random.random() < 0.5, writes=self._random.random() < 0.7)
            began = now_ns()
            try:
                made = await self._anywhere().create_key(
                    keyspace="torture",
                    account_id="acme",
                    scopes=_scopes(state),
                    timeout_seconds=_ATTEMPT_SECONDS,
                )
            except CallFailed:
                # No prober knows this key, so it does not matter whether it exists.
                continue
            number = next(self._numbers)
            self._history.write(Mutation(number, state, began, now_ns()).to_line())
            self._keys_file.write(f"{number} {made.api_key}\n")
            self._keys_file.flush()
            revision = made.key.revision
            for _ in range(self._random.randrange(4)):
                await asyncio.sleep(self._random.uniform(0.0, 0.6))
                state = self._another(state)
                revision = await self._update(number, made.key.key_id, state, revision)
            await asyncio.sleep(self._random.uniform(0.0, 0.8))
            await self._revoke(number, made.key.key_id)

    def _another(self, state: State) -> State:
        if not state.passes:
            return State(True, state.reads, state.writes)
        match self._random.randrange(3):
            case 0:
                return State(False, state.reads, state.writes)
            case 1:
                return State(True, not state.reads, state.writes)
            case _:
                return State(True, state.reads, not state.writes)

    async def _update(self, number: int, key_id: str, state: State, revision: int) -> int:
        async def attempt() -> None:
            nonlocal revision
            client = self._anywhere()
            try:
                changed = await client.update_key(
                    key_id,
                    granted_scopes=_scopes(state),
                    state=KeyState.ACTIVE if state.passes else KeyState.DISABLED,
                    if_revision=revision,
                    timeout_seconds=self._patience(),
                )
            except RevisionChanged:
                # An attempt whose answer was lost has made it: again, for its fence.
                found = await client.get_key(key_id, timeout_seconds=_ATTEMPT_SECONDS)
                revision = max(revision, found.revision)
                raise
            revision = changed.key.revision

        await self._mutate(number, state, attempt)
        return revision

    async def _revoke(self, number: int, key_id: str) -> None:
        async def attempt() -> None:
            await self._anywhere().revoke_key(key_id, timeout_seconds=self._patience())

        await self._mutate(number, State(passes=False), attempt)

    async def _make_keyspace(self) -> int:
        revision = 0

        async def attempt() -> None:
            nonlocal revision
            answer = await self._anywhere().apply_keyspace(
                declaration(implies=False), timeout_seconds=_ATTEMPT_SECONDS
            )
            revision = answer.keyspace.revision

        await self._mutate(KEYSPACE, State(implies=False), attempt)
        return revision

    async def _flip_keyspace(self, revision: int) -> None:
        implies = True

        async def attempt() -> None:
            nonlocal revision
            client = self._anywhere()
            try:
                answer = await client.apply_keyspace(
                    declaration(implies=implies),
                    if_revision=revision,
                    timeout_seconds=self._patience(),
                )
            except RevisionChanged:
                found = await client.get_keyspace("torture", timeout_seconds=_ATTEMPT_SECONDS)
                revision = max(revision, found.revision)
                raise
            revision = answer.keyspace.revision

        while True:
            await self._mutate(KEYSPACE, State(implies=implies), attempt)
            await asyncio.sleep(self._random.uniform(0.5, 2.0))
            implies = not implies


def declaration(*, implies: bool) -> keyspace_pb2.Keyspace:
    """The keyspace, with or without the one implication."""
    return keyspace_pb2.Keyspace(
        name="torture",
        scopes=[
            keyspace_pb2.Scope(name="vps:read"),
            keyspace_pb2.Scope(name="vps:write", implies=["vps:read"] if implies else []),
        ],
    )


def _scopes(state: State) -> list[str]:
    return ["vps:read"] * state.reads + ["vps:write"] * state.writes


async def _run(config: dict[str, Any]) -> None:
    clients = [AsyncClient(target, token=config["token"]) for target in config["targets"]]
    work = asyncio.create_task(Writer(config, clients).run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    await asyncio.gather(work, return_exceptions=True)
    for client in clients:
        await client.close()
    if not work.cancelled() and (error := work.exception()) is not None:
        raise error


def main() -> None:
    """Works until it is told to stop."""
    asyncio.run(_run(json.loads(Path(sys.argv[1]).read_text())))


if __name__ == "__main__":
    main()
