"""The server's secrets: first credential, peppers, session keys; how passwords are hashed."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from keyfence_server.adapters.passwords import MEMORY_MIB, PASSES, WORKERS
from keyfence_server.config.group import SettingsGroup


class CredentialSettings(SettingsGroup):
    """The server's secrets."""

    root_key: SecretStr | None = None
    pepper: SecretStr | None = None
    pepper_file: Path | None = None
    session_key: SecretStr | None = None
    session_key_file: Path | None = None
    import_secret_file: Path | None = None
    password_memory_mib: int = Field(default=MEMORY_MIB, ge=8, le=4096)
    password_passes: int = Field(default=PASSES, ge=1, le=100)
    password_workers: int = Field(default=WORKERS, ge=1, le=64)
