"""Standard input: what is piped to a command, and what a person types without showing it."""

from __future__ import annotations

import getpass
import sys
from typing import BinaryIO, Final

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure

STANDARD_INPUT: Final = "-"
"""The argument that means standard input."""
_MAX_KEY_SIZE: Final = 4096


def standard_input() -> BinaryIO:
    """The bytes of standard input. Raises `Failure` if it is closed."""
    if sys.stdin is None:
        raise Failure(
            "standard input is closed; pipe the input to the command", ExitCode.WRONG_INPUT
        )
    return sys.stdin.buffer


def is_terminal() -> bool:
    """Whether a person can answer a question on standard input."""
    return sys.stdin is not None and sys.stdin.isatty()


def read_secret(prompt: str, most_bytes: int) -> str:
    """A line of standard input, without its end; empty at the end of the input.

    A terminal shows the prompt, and not what is typed. Raises `Failure` if standard input is
    closed, or the line is too long or is not UTF-8.
    """
    if is_terminal():
        return getpass.getpass(f"{prompt}: ")
    line = standard_input().readline(most_bytes + 2)
    content = line.rstrip(b"\r\n")
    if len(content) > most_bytes:
        raise Failure(
            f"{prompt}: the line on standard input is longer than {most_bytes} bytes",
            ExitCode.WRONG_INPUT,
        )
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Failure(
            f"{prompt}: the line on standard input is not UTF-8", ExitCode.WRONG_INPUT
        ) from None


def read_api_key() -> str:
    """A key, without blanks around it. Raises as `read_secret`."""
    return read_secret("API key", _MAX_KEY_SIZE).strip()
