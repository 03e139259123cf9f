"""The server's secrets: first credential, peppers, session keys; how passwords are hashed."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from keyfence_server.adapters.passwords import MEMORY_MIB, PASSES, WORKERS
from keyfence_server.config.group import SettingsGroup


class CredentialSettings(SettingsGroup):
    """The server's secrets.

    Attributes:
        root_key: the first operator credential. Not set: one is made at first start, and
            written to `root.key` in `data_dir`.
        pepper: peppers, a line for each: "1:BASE64" of at least 32 bytes.
        pepper_file: a file with such lines, instead of `pepper`.
        session_key: keys that sign sessions, a line for each: "1:BASE64" of 32 bytes. Not
            set: with an embedded database, a file in `data_dir`; with PostgreSQL accounts
            cannot log in.
        session_key_file: a file with such lines, instead of `session_key`.
        import_secret_file: a file with the secrets under which other programs have made HMACs of
            keys that are imported by them, a line for each: "KEYSPACE:BASE64". At most four for a
            keyspace. A secret is needed until the keys that were imported by it have been used.
        password_memory_mib: memory that hashing one password takes.
        password_passes: passes over that memory. A password that was hashed with less is
            hashed anew when its owner next logs in.
        password_workers: how many passwords are hashed at once.
    """

    root_key: SecretStr | None = None
    pepper: SecretStr | None = None
    pepper_file: Path | None = None
    session_key: SecretStr | None = None
    session_key_file: Path | None = None
    import_secret_file: Path | None = None
    password_memory_mib: int = Field(default=MEMORY_MIB, ge=8, le=4096)
    password_passes: int = Field(default=PASSES, ge=1, le=100)
    password_workers: int = Field(default=WORKERS, ge=1, le=64)
