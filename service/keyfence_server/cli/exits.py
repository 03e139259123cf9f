"""What the command's exit codes mean. Scripts rely on them, so they only ever grow.

Only an allowed check exits with 0, so `keyfence check ... && deploy` is safe. Only a
negative verdict exits with 1, so scripts can tell a denial from a fault.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """Why the command ended."""

    OK = 0
    DENIED = 1
    """`check`: the key may not. `health`: the server does not serve. `audit verify`: the
    log was changed."""
    WRONG_INPUT = 2
    """The command line, a file or a field is wrong. Nothing was changed."""
    NOT_FOUND = 3
    NOT_PERMITTED = 4
    """The credential is missing, not accepted, or may not do this."""
    CONFLICT = 5
    """The present state does not allow it, or it has changed meanwhile."""
    UNAVAILABLE = 6
    """No answer, or not in time. Trying again may help."""
    FAULT = 70
    """A bug in Keyfence, here or in the server."""
    OUTPUT_LOST = 74
    """The answer was there and could not be written."""
    INTERRUPTED = 130


EXIT_CODES_HELP: Final = """\
**Exit codes**

- 0: done; `check`: the key is good and has every scope
- 1: `check`: denied; `health`: not serving; `audit verify`: changed
- 2: the command line, a file or a field is wrong
- 3: there is no such key or keyspace
- 4: the credential is missing, not accepted, or not allowed to do this
- 5: the present state does not allow it, or it has changed meanwhile
- 6: no answer, or not in time; trying again may help
- 70: a bug in Keyfence
- 74: the answer could not be written
- 130: interrupted
"""
