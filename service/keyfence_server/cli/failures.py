"""Expected failures: what to say, and how to end.

Everything that a person can cause or mend ends in a `Failure`, which is one message and an exit
code, never a traceback. The SDK's errors become failures here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.targets import DEFAULT_TARGET, ConnectionOptions, why_unreachable

if TYPE_CHECKING:
    from keyfence.errors import CallFailed, KeyfenceError

_CODE_BY_STATUS: Final = {
    "INVALID_ARGUMENT": ExitCode.WRONG_INPUT,
    "OUT_OF_RANGE": ExitCode.WRONG_INPUT,
    "NOT_FOUND": ExitCode.NOT_FOUND,
    "UNAUTHENTICATED": ExitCode.NOT_PERMITTED,
    "PERMISSION_DENIED": ExitCode.NOT_PERMITTED,
    "ALREADY_EXISTS": ExitCode.CONFLICT,
    "FAILED_PRECONDITION": ExitCode.CONFLICT,
    "ABORTED": ExitCode.CONFLICT,
    "UNIMPLEMENTED": ExitCode.WRONG_INPUT,
    "UNAVAILABLE": ExitCode.UNAVAILABLE,
    "DEADLINE_EXCEEDED": ExitCode.UNAVAILABLE,
    "RESOURCE_EXHAUSTED": ExitCode.UNAVAILABLE,
}


_ADVICE_BY_STATUS: Final = {
    "UNIMPLEMENTED": "A sidecar answers checks alone. Name a server with KEYFENCE_TARGET or "
    "--target.",
    "UNAUTHENTICATED": "Put a good credential into KEYFENCE_TOKEN, or name the file that holds it "
    "with --token-file.",
    "PERMISSION_DENIED": "`keyfence whoami` says what your credential may do.",
}

_OPTION_BY_FIELD: Final = {
    "account_id": "--account",
    "allowed_addresses": "--allow-address",
    "bound_keyspaces": "--bind",
    "display_name": "--name",
    "display_prefix": "--prefix",
    "environment": "--environment",
    "expire_time": "--expires-in or --expires-at",
    "expiring_before_time": "--expiring-within",
    "granted_scopes": "--scope",
    "key_type": "--type",
    "keyspace": "--keyspace",
    "labels": "--label",
    "overlap": "--overlap",
    "parent_key_id": "--parent",
    "preset": "--preset",
    "rate_limit": "--rate-limit",
    "request_id": "--request-id",
    "scopes": "--scope",
    "unused_since_time": "--unused-since",
}


class Failure(Exception):
    """The command cannot do what was asked.

    Attributes:
        message: what is wrong and what to do, in one or more lines. Never a secret.
        code: how the command ends.
        details: what a script could ask of it, such as the error's reason.
    """

    def __init__(
        self, message: str, code: ExitCode, details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.details = details or {}


@contextmanager
def failing(code: ExitCode, *kinds: type[Exception], about: object = "") -> Iterator[None]:
    """Makes failures of errors of these kinds, which say what is wrong and what to do. `about` goes
    before the error's own words, such as a file."""
    try:
        yield
    except kinds as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise Failure(f"{about}: {said}" if about else str(said), code) from None


def failure_from(
    error: KeyfenceError, options: ConnectionOptions, *, diagnoses: bool = True
) -> Failure:
    """What an error of the SDK means on the command line. `diagnoses` says whether to find out why
    no server can be reached, which takes a moment."""
    from keyfence import errors

    if isinstance(error, errors.CallFailed):
        code = _CODE_BY_STATUS.get(error.status, ExitCode.FAULT)
        details = {
            "status": error.status,
            "reason": error.reason,
            "request_id": error.request_id,
            "violations": [
                {"field": one.field, "description": one.description} for one in error.violations
            ],
        }
        is_unreachable = error.status == "UNAVAILABLE" and not error.reason
        if is_unreachable and diagnoses:
            return Failure(_unreachable(error, options), code, details)
        return Failure(_explained(error, options), code, details)
    if isinstance(error, errors.ConfigurationError):
        return Failure(error.message, ExitCode.WRONG_INPUT)
    return Failure(error.message, ExitCode.FAULT)


def _explained(error: CallFailed, options: ConnectionOptions) -> str:
    lines = [error.message]
    if error.status == "UNIMPLEMENTED":
        lines = [f"{options.target} does not offer this call: {error.message}"]
    if error.violations:
        lines = [f"{_option_of(one.field)}: {one.description}" for one in error.violations]
    if error.status == "DEADLINE_EXCEEDED":
        late = f"{options.target} did not answer in time."
        lines.append(f"{late} The change may have been made nevertheless.")
    elif (advice := _ADVICE_BY_STATUS.get(error.status)) is not None:
        lines.append(advice)
    if error.status not in _CODE_BY_STATUS and error.request_id:
        lines.append(f"The server's log has the rest under request id {error.request_id}.")
    return "\n".join(lines)


def _unreachable(error: CallFailed, options: ConnectionOptions) -> str:
    """Why no server can be reached. gRPC's own words tell a refused connection from a certificate
    that is not accepted only by chance."""
    lines = [
        f"No Keyfence answers at {options.target}: {why_unreachable(options)}.",
        f"gRPC says: {error.message}",
    ]
    if options.target == DEFAULT_TARGET:
        lines.insert(1, "To start one here: `keyfence serve`.")
    return "\n".join(lines)


def _option_of(field: str) -> str:
    """The option that sets a field of a request, and the field; the field where none does."""
    name = re.sub(r"^(key|account)\.|[\[.].*$", "", field)
    option = _OPTION_BY_FIELD.get(name)
    return f"{option} ({field})" if option is not None else field
