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
    """Where the data is.

    Attributes:
        data_dir: the directory of the embedded database, the pepper, the first credential
            and the lock.
        database_url: "postgresql://…", or "sqlite:///…". Not set: a file in `data_dir`.
        database_connections: the most connections to the database.
        database_wait_seconds: how long a server that starts waits for a PostgreSQL
            database that is away. Until then it does not listen.
        max_clock_skew_seconds: by how much this machine's clock may differ from the
            database's, or may be set while the server runs. Beyond it the server is not
            ready and makes no keys.
        bootstrap_keyspaces: keyspace files, separated by commas, that the first start
            applies, and no later start.
        usage_flush_seconds: how often the use of keys and failed attempts are written to
            the database. What was noted since is lost if the process is killed.
        usage_days: for how many days the daily use of each key is kept.
        audit_days: for how many days audit events are kept in the database. Only exported
            events are removed. Not set: for ever.
        audit_remove_unexported: whether audit events are also removed that were not exported.
        changes_kept: for how many of the newest mutations the change log is kept. Servers read
            it when they have missed a notification.
    """

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
