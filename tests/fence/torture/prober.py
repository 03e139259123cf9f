"""A process that asks: through caches of its own, and by calls.

    python -m fence.torture.prober CONFIG.json

It learns of keys from a file to which the writer appends them, and writes down each probe
with the times at which it began and returned.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fence.torture.broken import break_this_process
from fence.torture.history import Answer, Question, now_ns, pack
from fence.torture.twice import repeat_messages
from keyfence import AsyncClient, Cache, CheckResult, Client, KeyfenceError, ScopeCheck
from scenarios.clients import Program

SCOPES: Final = {Question.READ: "vps:read", Question.WRITE: "vps:write"}
_QUESTIONS: Final = tuple(Question)
_RECENT: Final = 40
_NEWEST: Final = 6
_CALLS_AT_ONCE: Final = 6
_SHARE_OF_BATCHES: Final = 0.3
_BATCH: Final = 12
_FLUSH_SECONDS: Final = 0.1
_CHECK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One holder to ask.

    Attributes:
        number: of the holder, in the records.
        kind: "cache" and "threads" ask through a cache, "program" through a program that has
            one, "calls" through none.
        burst: probes in a row, before `pause` seconds.
        command: what starts the program.
    """

    number: int
    kind: str
    target: str
    burst: int
    pause: float
    command: Sequence[str] = ()


class Prober:
    """Asks about the keys that were made last."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._token: str = config["token"]
        self._asked = [Asked(**one) for one in config["asked"]]
        self._keys_file = Path(config["keys"]).open(encoding="ascii")  # noqa: SIM115
        self._records = Path(config["records"]).open("wb")  # noqa: SIM115
        self._keys: deque[tuple[int, str]] = deque(maxlen=_RECENT)
        self._random = random.Random(config["seed"])
        self._stopping = threading.Event()

    async def run(self) -> None:
        """Asks until it is told to stop."""
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        stopping = asyncio.create_task(stop.wait())
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self._learn())]
        threads: list[asyncio.Task[None]] = []
        for one in self._asked:
            if one.kind in ("threads", "program"):
                ask = self._ask_in_thread if one.kind == "threads" else self._ask_program
                threads.append(asyncio.create_task(asyncio.to_thread(ask, one)))
            else:
                at_once = 1 if one.kind == "cache" else _CALLS_AT_ONCE
                tasks += [asyncio.create_task(self._ask(one)) for _ in range(at_once)]
        # None of the others ends unless it fails.
        ended, _ = await asyncio.wait(
            [stopping, *tasks, *threads], return_when=asyncio.FIRST_COMPLETED
        )
        self._stopping.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *threads, return_exceptions=True)
        self._records.close()
        for task in ended:
            task.result()

    async def _learn(self) -> None:
        partial = ""
        flushed_at = 0.0
        while True:
            *lines, partial = (partial + self._keys_file.read()).split("\n")
            for line in lines:
                number, api_key = line.split()
                self._keys.append((int(number), api_key))
            if time.monotonic() - flushed_at > _FLUSH_SECONDS:
                self._records.flush()
                flushed_at = time.monotonic()
            await asyncio.sleep(0.002)

    def _choose(self) -> tuple[int, str, Question] | None:
        if not self._keys:
            return None
        # Those that were made last are changed most.
        newest = min(_NEWEST, len(self._keys))
        at = self._random.randrange(newest if self._random.random() < 0.5 else len(self._keys))
        number, api_key = self._keys[-1 - at]
        return number, api_key, self._random.choice(_QUESTIONS)

    async def _ask(self, asked: Asked) -> None:
        cache = Cache() if asked.kind == "cache" else None
        async with AsyncClient(
            asked.target, token=self._token, cache=cache, check_timeout_seconds=_CHECK_SECONDS
        ) as client:
            while True:
                for _ in range(asked.burst):
                    chosen = self._choose()
                    if chosen is None:
                        continue
                    if asked.kind == "calls" and self._random.random() < _SHARE_OF_BATCHES:
                        await self._probe_many(client, asked.number)
                    else:
                        await self._probe(client, asked.number, *chosen)
                await asyncio.sleep(asked.pause)

    async def _probe(
        self, client: AsyncClient, holder: int, number: int, api_key: str, question: Question
    ) -> None:
        began = now_ns()
        try:
            if question is Question.WHOSE:
                passed = (await client.authenticate(api_key, keyspace="torture")).authenticated
            else:
                passed = (await client.check_scope(api_key, SCOPES[question])).allowed
            answer = Answer.ACCEPTED if passed else Answer.REFUSED
        except KeyfenceError:
            answer = Answer.NONE
        self._records.write(pack(began, now_ns(), number, holder, question, answer))

    async def _probe_many(self, client: AsyncClient, holder: int) -> None:
        """Asks several questions at once: each is answered by itself, and is a probe."""
        chosen = (self._choose() for _ in range(_BATCH))
        some = [one for one in chosen if one is not None and one[2] in SCOPES]
        began = now_ns()
        try:
            results = await client.batch_check_scope(
                ScopeCheck(api_key=api_key, required_scopes=(SCOPES[question],))
                for _, api_key, question in some
            )
        except KeyfenceError:
            results = ()
        returned = now_ns()
        for (number, _, question), result in itertools.zip_longest(some, results):
            answer = Answer.NONE
            if isinstance(result, CheckResult):
                answer = Answer.ACCEPTED if result.allowed else Answer.REFUSED
            self._records.write(pack(began, returned, number, holder, question, answer))

    def _ask_in_thread(self, asked: Asked) -> None:
        with Client(
            asked.target, token=self._token, cache=Cache(), check_timeout_seconds=_CHECK_SECONDS
        ) as client:
            while not self._stopping.wait(asked.pause):
                for _ in range(asked.burst):
                    chosen = self._choose()
                    if chosen is not None and not self._stopping.is_set():
                        self._probe_in_thread(client, asked.number, *chosen)

    def _ask_program(self, asked: Asked) -> None:
        """Asks a client of another language. Its checks begin when they are sent to it, so a check
        that it reads late, because it was stopped, has begun before all the same."""
        program = Program(asked.command, asked.target, self._token, "cached")
        while not self._stopping.wait(asked.pause):
            for _ in range(asked.burst):
                chosen = self._choose()
                if chosen is None or self._stopping.is_set():
                    continue
                number, api_key, question = chosen
                began = now_ns()
                if question is Question.WHOSE:
                    told = program("authenticate", api_key=api_key, keyspace="torture")
                else:
                    told = program("check", api_key=api_key, scopes=[SCOPES[question]])
                answer = Answer.NONE
                if "error" not in told:
                    answer = Answer.ACCEPTED if told["allowed"] else Answer.REFUSED
                self._records.write(pack(began, now_ns(), number, asked.number, question, answer))
        program.close()

    def _probe_in_thread(
        self, client: Client, holder: int, number: int, api_key: str, question: Question
    ) -> None:
        began = now_ns()
        try:
            if question is Question.WHOSE:
                passed = client.authenticate(api_key, keyspace="torture").authenticated
            else:
                passed = client.check_scope(api_key, SCOPES[question]).allowed
            answer = Answer.ACCEPTED if passed else Answer.REFUSED
        except KeyfenceError:
            answer = Answer.NONE
        self._records.write(pack(began, now_ns(), number, holder, question, answer))


def main() -> None:
    """Asks until it is told to stop."""
    config: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    break_this_process(config["broken"])
    if config["twice"]:
        repeat_messages()
    asyncio.run(Prober(config).run())


if __name__ == "__main__":
    main()
