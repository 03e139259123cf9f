"""What the command's exit codes mean. Scripts rely on them, so they only ever grow.

Only an allowed check exits with 0, so `keyfence check ... && deploy` is safe. Only a
negative verdict exits with 1, so scripts can tell a denial from a fault.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """Why the command ended, as `EXIT_CODES_HELP` says."""

    OK = 0
    DENIED = 1
    WRONG_INPUT = 2
    NOT_FOUND = 3
    NOT_PERMITTED = 4
    CONFLICT = 5
    UNAVAILABLE = 6
    FAULT = 70
    OUTPUT_LOST = 74
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
- 70: a bug in Keyfence, here or in the server
- 74: the answer could not be written
- 130: interrupted
"""
