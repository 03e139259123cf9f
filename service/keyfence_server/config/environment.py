"""Reads the settings from the environment, and reports all their faults together."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from keyfence_server.config.group import PREFIX
from keyfence_server.config.settings import Settings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

S = TypeVar("S", bound=BaseSettings)

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


_OF_SERVICE: Final = re.compile(
    r"KEYFENCE_([A-Z0-9_]+_)?"
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_PORT_OF_SERVICE: Final = re.compile(r"KEYFENCE_([A-Z0-9_]+_)?PORT")
_URL_OF_PORT: Final = re.compile(r"(tcp|udp|sctp)://\S+")


class InvalidSettings(Exception):
    """The process cannot start with these settings.

    Attributes:
        problems: each names its variable, what is wrong and what to do.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load_settings() -> Settings:
    """Reads the server's settings. Raises what `read_settings` does."""
    return read_settings(
        Settings, lambda name: name in _OF_CLIENTS or name.upper().startswith(_OF_GATEWAY)
    )


def read_settings(kind: type[S], is_of_others: Callable[[str], bool] = lambda name: False) -> S:
    """Reads settings of a kind from the process's environment.

    Args:
        is_of_others: whether a variable with the prefix belongs to another program.

    Raises:
        InvalidSettings: with every problem.
    """
    prefix = kind.model_config.get("env_prefix", "")
    problems = []
    known = {prefix + name.upper() for name in kind.model_fields}
    for name, value in sorted(os.environ.items()):
        if not name.upper().startswith(prefix) or is_of_others(name):
            continue
        if name.upper() in known:
            if not value and name.upper() in _NEVER_EMPTY:
                problems.append(f"{name}: is set, but empty; unset it, or give it a value")
        elif not _is_of_kubernetes(name, value):
            problems.append(_no_such_setting(name, known, prefix))
    try:
        settings = kind()
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        raise InvalidSettings(*problems, *(_described(one, prefix) for one in faults)) from None
    if problems:
        raise InvalidSettings(*problems)
    return settings


def _is_of_kubernetes(name: str, value: str) -> bool:
    """Whether Kubernetes sets this variable in every container for a Service of the namespace, for
    example `KEYFENCE_GATEWAY_SERVICE_HOST` or `KEYFENCE_GATEWAY_PORT=tcp://10.0.0.1:8080`. The
    value is looked at only for `..._PORT`, which could also be a misspelt setting."""
    if _OF_SERVICE.fullmatch(name):
        return True
    return bool(_PORT_OF_SERVICE.fullmatch(name) and _URL_OF_PORT.fullmatch(value))


def _no_such_setting(name: str, known: Collection[str], prefix: str) -> str:
    rests = [one.removeprefix(prefix) for one in known]
    nearest = difflib.get_close_matches(name.upper().removeprefix(prefix), rests, n=1)
    hint = f"; did you mean {prefix}{nearest[0]}?" if nearest else ""
    return f"{name}: there is no such setting{hint}"


def _described(error: ErrorDetails, prefix: str) -> str:
    message = error["msg"].removeprefix("Value error, ")
    return f"{prefix}{str(error['loc'][0]).upper()}: {message}" if error["loc"] else message
