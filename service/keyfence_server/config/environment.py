"""Reads the settings from the environment, and reports all their faults together."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from keyfence_server.config.group import PREFIX
from keyfence_server.config.kubernetes import is_service_variable
from keyfence_server.config.settings import Settings

_OF_CLIENTS: Final = frozenset(
    PREFIX + name for name in ("TARGET", "TOKEN", "TOKEN_FILE", "CA_FILE", "TRACEBACK")
)
# `keyfence gateway` checks these.
_OF_GATEWAY: Final = f"{PREFIX}GATEWAY_"
_NEVER_EMPTY: Final = frozenset(
    PREFIX + name
    for name in (
        "ROOT_KEY",
        "PEPPER",
        "PEPPER_FILE",
        "SESSION_KEY",
        "SESSION_KEY_FILE",
        "DATABASE_URL",
        "RATE_LIMIT_URL",
        "TLS_CERT_FILE",
        "TLS_KEY_FILE",
        "TLS_CLIENT_CA_FILE",
    )
)
"""Settings whose empty value is probably a variable that was not filled in."""


class InvalidSettings(Exception):
    """The server cannot start with these settings.

    Attributes:
        problems: each names its variable, what is wrong and what to do.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings from the process's environment.

    Args:
        environment: the variables to search for misspelt ones; by default those of the
            process. Values are always the process's.

    Raises:
        InvalidSettings: with every problem.
    """
    problems = _name_problems(os.environ if environment is None else environment)
    try:
        settings = Settings()
    except ValidationError as error:
        problems += map(_describe, error.errors(include_input=False, include_url=False))
        raise InvalidSettings(*problems) from None
    if problems:
        raise InvalidSettings(*problems)
    return settings


def _name_problems(environment: Mapping[str, str]) -> list[str]:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    problems = []
    for name, value in sorted(environment.items()):
        upper = name.upper()
        if not upper.startswith(PREFIX) or name in _OF_CLIENTS or upper.startswith(_OF_GATEWAY):
            continue
        if upper in known:
            if not value and upper in _NEVER_EMPTY:
                problems.append(f"{name}: is set, but empty; unset it, or give it a value")
        elif not is_service_variable(name, value):
            problems.append(f"{name}: there is no such setting{_nearest(upper, known)}")
    return problems


def _nearest(name: str, known: set[str]) -> str:
    rests = [one.removeprefix(PREFIX) for one in known]
    nearest = difflib.get_close_matches(name.removeprefix(PREFIX), rests, n=1)
    return f"; did you mean {PREFIX}{nearest[0]}?" if nearest else ""


def _describe(error: Mapping[str, object]) -> str:
    location = error["loc"]
    message = str(error["msg"]).removeprefix("Value error, ")
    if isinstance(location, tuple) and location:
        return f"{PREFIX}{str(location[0]).upper()}: {message}"
    return message
