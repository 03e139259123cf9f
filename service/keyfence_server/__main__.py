"""`python -m keyfence_server`: serves by the settings of the environment."""

from __future__ import annotations

import sys

from keyfence_server.config import InvalidSettings, load_settings
from keyfence_server.provisioning import CannotStart
from keyfence_server.workers import run


def main() -> int:
    """Serves. Returns the process's exit code: 0 after a stop that was asked for."""
    try:
        run(load_settings())
    except InvalidSettings as error:
        for problem in error.problems:
            sys.stderr.write(f"{problem}\n")
        return 2
    except CannotStart as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
