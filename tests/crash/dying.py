"""A server that stops for ever at one step of a group of mutations, for a test that kills it there.

    python -m crash.dying STEP serve

STEP is "before-commit", or "before-fence": the group is durable, and no holder has acknowledged it.
The process says `group_at_step` and how many mutations the group has. Groups of one mutation are
carried out as always. The step is put into this process's classes: the product has no switch for
it.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Final

from keyfence_server.application.mutations import Mutations

BEFORE_COMMIT: Final = "before-commit"
BEFORE_FENCE: Final = "before-fence"
AT_STEP: Final = "group_at_step"


def stop_at(step: str) -> None:
    """Lets this process stop at the first group of several mutations that comes to the step."""
    commit, acknowledge = Mutations._commit, Mutations._wait_and_tell

    async def committed(self: Any, transaction: Any) -> None:
        if step == BEFORE_COMMIT:
            _stop_if_several(len(transaction._kept))
        await commit(self, transaction)

    async def acknowledged(self: Any, group: Any) -> None:
        if step == BEFORE_FENCE and group.is_committed:
            _stop_if_several(len(group.revisions))
        await acknowledge(self, group)

    mutations: Any = Mutations
    mutations._commit = committed
    mutations._wait_and_tell = acknowledged


def _stop_if_several(mutations: int) -> None:
    if mutations > 1:
        os.write(1, f"{AT_STEP} {mutations}\n".encode())
        while True:
            time.sleep(60)


def main() -> None:
    """Runs the command."""
    from keyfence_server.cli import main as command  # noqa: PLC0415

    stop_at(sys.argv.pop(1))
    command()


if __name__ == "__main__":
    main()
