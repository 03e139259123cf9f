"""Where the data is: the directory, the database, and what the first start puts into it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

from pydantic import Field, SecretStr

from keyfence_server.config.group import CommaSeparated, SettingsGroup

DATABASE_FILE: Final = "keyfence.db"


class StoreSettings(SettingsGroup):
    """Where the data is."""

    data_dir: Path = Path(".keyfence")
    database_url: SecretStr | None = None
    database_connections: int = Field(default=10, ge=2, le=1_000)
    database_wait_seconds: float = Field(default=120, ge=0, le=86_400)
    max_clock_skew_seconds: float = Field(default=30, ge=1, le=86_400)
    bootstrap_keyspaces: Annotated[tuple[Path, ...], *CommaSeparated] = ()
    usage_flush_seconds: float = Field(default=5, gt=0, le=60)
    usage_days: int = Field(default=400, ge=1, le=36_500)
    audit_days: int | None = Field(default=None, ge=1, le=36_500)
    audit_remove_unexported: bool = False
    changes_kept: int = Field(default=10_000, ge=1_000, le=100_000_000)

    def is_embedded(self) -> bool:
        """Whether the store is a SQLite file, and not a PostgreSQL server."""
        return self.store_url().startswith("sqlite")

    def store_url(self) -> str:
        """Where the store is. May hold a password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        # As bytes: a directory's name need not be UTF-8.
        return f"sqlite:///{quote(os.fsencode(self.data_dir.absolute() / DATABASE_FILE))}"
