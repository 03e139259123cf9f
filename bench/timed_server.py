"""`keyfence serve` that writes down how long each commit and each fence took.

    python -m bench.timed_server FILE serve

A fence is measured where it is waited for, from the moment that the commit has returned
to the moment that the caller can be told OK. The product is patched from here, so that it
carries no clock for the benchmark's sake.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from keyfence_server.application.mutations import Mutations
from keyfence_server.cli import main as command
from keyfence_server.coherence.shared_fence import SharedFence
from keyfence_server.coherence.sole_fence import SoleFence


def main() -> None:
    """Serves, and appends a line to the file for each commit and each fence."""
    times = Path(sys.argv.pop(1)).open("a", buffering=1, encoding="ascii")  # noqa: SIM115

    def timed(
        what: str, work: Callable[..., Awaitable[Any]], revision: Callable[[Any], int]
    ) -> Callable[..., Awaitable[Any]]:
        async def measured(self: Any, argument: Any) -> Any:
            began = time.perf_counter()
            result = await work(self, argument)
            took = time.perf_counter() - began
            times.write(f"{what} {revision(argument)} {took:.9f}\n")
            return result

        return measured

    for owner in (SharedFence, SoleFence):
        setattr(owner, "wait", timed("fence", owner.wait, lambda made: made[-1].number))  # noqa: B010
    commit = timed("commit", Mutations._commit, lambda transaction: transaction.revision - 1)  # noqa: SLF001
    setattr(Mutations, "_commit", commit)  # noqa: B010
    command()


if __name__ == "__main__":
    main()
