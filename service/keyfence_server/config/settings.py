"""All settings, and the checks across groups of settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationInfo, field_validator, model_validator

from keyfence_server.config.credentials import CredentialSettings
from keyfence_server.config.group import PREFIX
from keyfence_server.config.leases import LeaseSettings
from keyfence_server.config.limits import LimitSettings
from keyfence_server.config.store import StoreSettings
from keyfence_server.config.upstream import UpstreamSettings
from keyfence_server.domain.redaction import looks_like_a_key
from keyfence_server.telemetry.logs import LogFormat, LogLevel

_OF_AUTHORITIES: Final = (
    "database_url",
    "bootstrap_keyspaces",
    "pepper",
    "pepper_file",
    "root_key",
)
_VERSIONED_SECRET: Final = re.compile(r"[0-9]+:")


class Settings(LimitSettings, StoreSettings, CredentialSettings, UpstreamSettings, LeaseSettings):
    """Everything that can be set. The variable of a field is `KEYFENCE_` and its name."""

    drain_seconds: float = Field(default=20, ge=0, le=3_600)
    drain_delay_seconds: float = Field(default=0, ge=0, le=3_600)
    log_format: LogFormat = "auto"
    log_level: LogLevel = "info"

    @field_validator("*")
    @classmethod
    def _check_files(cls, value: object, info: ValidationInfo) -> object:
        # A message would repeat it as a missing file's name, in the log of every start.
        is_file = (info.field_name or "").endswith("_file")
        if is_file and isinstance(value, Path) and _may_be_a_secret(value):
            raise ValueError("must be the path of a file, not its content")
        return value

    @model_validator(mode="after")
    def _check_secrets(self) -> Settings:
        for name in ("pepper", "session_key", "upstream_token"):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                variable = PREFIX + name.upper()
                raise ValueError(f"{variable} and {variable}_FILE: set one of them")
        return self

    @model_validator(mode="after")
    def _check_sidecar(self) -> Settings:
        if self.upstream is None:
            return self
        given = [name for name in _OF_AUTHORITIES if getattr(self, name)]
        if self.workers > 1:
            given.append("workers")
        if given:
            names = ", ".join(PREFIX + name.upper() for name in given)
            raise ValueError(
                f"{names}: a sidecar has no store, no secrets of its own and one process; unset "
                "it, or unset KEYFENCE_UPSTREAM to run a server"
            )
        return self


def _may_be_a_secret(path: Path) -> bool:
    """Whether a path is rather a PEM text, a versioned secret or a credential."""
    text = str(path)
    if "\n" in text or _VERSIONED_SECRET.match(text):
        return True
    return len(path.parts) == 1 and looks_like_a_key(text) and not path.exists()
