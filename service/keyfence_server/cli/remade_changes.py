"""Makes the restrictive changes since a backup again, in the restored database.

A server does it that runs in this process and that only this process reaches. So it ends when
the restore ends, however that happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Final

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure, failing
from keyfence_server.cli.offline import open_for_recovery
from keyfence_server.cli.output import note

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyfence import Client
    from keyfence_server.cli.old_log import OldEvent, OldLog
    from keyfence_server.cli.restrictive_changes import Step
    from keyfence_server.config import Settings
    from keyfence_server.domain.keys import Key
    from keyfence_server.domain.secrets import Plaintext

_START_SECONDS: Final = 180
_CALL_SECONDS: Final = 60


def make_again(settings: Settings, log: OldLog, *, disable_instead: bool) -> list[str]:
    """Makes the changes again, with a credential that is revoked afterwards. Where a change cannot
    be made again, `disable_instead` says to disable its key or account.

    Returns what an operator has to do, each in a line. Raises `Failure` if a change cannot be made
    again, or the log is of another database.
    """
    key, credential = asyncio.run(_make_credential(settings))
    with TemporaryDirectory(prefix="kf") as directory:
        target = f"unix:{directory}/restore.sock"
        private = settings.model_copy(
            update={"listen": target, "metrics_listen": None, "workers": 1}
        )
        with _serving(private):
            events, found = _make_each_again(
                target, credential, log, disable_instead=disable_instead
            )
    asyncio.run(_withdraw_credential(settings, key))
    note(f"{len(events)} events since the backup; {len(found)} of them change what is valid.")
    note(f"Made again: {sum(bool(step.commands) for step in found)}.")
    return [
        f"BY HAND: {step.event.action} {step.event.subject}: {step.by_hand}"
        for step in found
        if step.by_hand
    ]


def _make_each_again(
    target: str, credential: Plaintext, log: OldLog, *, disable_instead: bool
) -> tuple[list[OldEvent], list[Step]]:
    from keyfence import Client, KeyfenceError
    from keyfence_server.cli.restrictive_changes import events_since_backup, steps

    with (
        failing(ExitCode.CONFLICT, KeyfenceError, about="the changes were not made again"),
        Client(target, token=credential.reveal(), timeout_seconds=_CALL_SECONDS) as own,
    ):
        events = events_since_backup(own, log)
        found = []
        for step in steps(events, log.keys, datetime.now(UTC)):
            is_made = _carry_out(step, target, credential)
            if not is_made and not disable_instead:
                raise _undone(step)
            found.append(step if is_made else _disabled_instead(step, own))
    return events, found


def _carry_out(step: Step, target: str, credential: Plaintext) -> bool:
    """Runs the commands of a step, up to the first one that fails. What is wrong is on standard
    error then. Returns whether all of them succeeded."""
    from keyfence_server.cli.app import run

    # A file would win over the variable.
    os.environ.pop("KEYFENCE_TOKEN_FILE", None)
    os.environ["KEYFENCE_TARGET"], os.environ["KEYFENCE_TOKEN"] = target, credential.reveal()
    for command in step.commands:
        with contextlib.redirect_stdout(StringIO()):
            code = run([*command])
        if code == ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        if code != ExitCode.OK:
            return False
    return True


def _undone(step: Step) -> Failure:
    return Failure(
        f"the restore was undone: {_described(step)} could not be made again. The reason is "
        "above. Correct it and restore again, or restore with --disable-instead, which disables "
        "the key or account of such a change",
        ExitCode.FAULT,
    )


def _disabled_instead(step: Step, own: Client) -> Step:
    """Disables the key or account of a change that could not be made again. Returns the step, with
    what an operator must do. Raises what the client raises."""
    from keyfence import NotFound
    from keyfence.results import KeyState

    subject = step.event.subject
    is_account = step.event.action.startswith("account.")
    try:
        if is_account:
            own.disable_account(step.event.account_id or subject)
        elif own.get_key(subject).state is not KeyState.REVOKED:
            own.update_key(subject, state=KeyState.DISABLED)
    except NotFound:
        said = "it could not be made again, and its subject is unknown in the backup"
    else:
        kind = "account" if is_account else "key"
        said = (
            f"it could not be made again, so the {kind} is disabled; make the change, then enable "
            f"the {kind}"
        )
    return replace(
        step, commands=(), by_hand="; ".join(part for part in (said, step.by_hand) if part)
    )


def _described(step: Step) -> str:
    event = step.event
    return f"{event.action} {event.subject} of {event.time:%Y-%m-%d %H:%M} UTC"


async def _make_credential(settings: Settings) -> tuple[Key, Plaintext]:
    async with open_for_recovery(settings) as operators:
        return await operators.recover("Restore", purpose="restore")


async def _withdraw_credential(settings: Settings, key: Key) -> None:
    async with open_for_recovery(settings) as operators:
        await operators.withdraw(key)


@contextlib.contextmanager
def _serving(settings: Settings) -> Iterator[None]:
    """Runs a server in a thread of this process."""
    from keyfence_server.composition.server import start
    from keyfence_server.provisioning import CannotStart

    begun: Future[Callable[[], object]] = Future()
    started: Future[None] = Future()

    async def serve() -> None:
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        begun.set_result(lambda: loop.call_soon_threadsafe(told.set))
        try:
            server = await start(settings)
        except BaseException as error:  # noqa: BLE001 - the other thread raises it
            started.set_exception(error)
            return
        started.set_result(None)
        await told.wait()
        await server.stop()

    thread = Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    stop = begun.result()
    try:
        try:
            started.result(_START_SECONDS)
        except (CannotStart, TimeoutError) as error:
            raise Failure(
                "the server on the restored database did not start: "
                f"{error or f'not within {_START_SECONDS} seconds'}",
                ExitCode.CONFLICT,
            ) from None
        yield
    finally:
        # Closed, if the server did not start.
        with contextlib.suppress(RuntimeError):
            stop()
        thread.join()
