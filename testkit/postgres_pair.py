"""Two PostgreSQL servers of which one follows the other, synchronously, and can replace it.

A commit returns when the standby has it too, so a failover loses nothing that was
acknowledged. A primary never does without: while it has no standby, its commits wait.
So one that was replaced cannot commit either.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from testkit.postgres import PostgresServer

_NAME: Final = "standby"
_SETTINGS: Final = (
    "wal_level=replica",
    "max_wal_senders=4",
    # Else a standby that was cut off for long could never catch up.
    "wal_keep_size=512MB",
    "wal_retrieve_retry_interval=200ms",
    "wal_receiver_timeout=3s",
    "wal_sender_timeout=3s",
)


class PostgresPair:
    """A primary, and from `replicate` on its standby.

    Args:
        way: the directory where the standby finds the socket of whichever is the primary.
            The caller keeps it up to date.
        environment: variables that the servers are started with besides our own.
    """

    def __init__(self, way: Path, environment: Mapping[str, str] | None = None) -> None:
        self._way = way
        self.primary = PostgresServer(settings=_SETTINGS, environment=environment)
        self._binaries_of = self.primary
        self.standby = PostgresServer(
            settings=_SETTINGS, environment=environment, copy_of=self.primary
        )

    def replicate(self) -> None:
        """Adds the standby. From now on commits wait for it, or for its successors."""
        self.primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{_NAME}'")
        self.primary.execute("SELECT pg_reload_conf()")
        self.add_standby()

    def add_standby(self) -> None:
        """Makes the server that is not the primary a standby of it, whatever it was before."""
        self.standby.kill()
        self.standby.follow(self.primary, self._way, _NAME)
        self.standby.start()

    def promote(self) -> None:
        """Makes the standby the primary. What was the primary is not touched: it may be
        dead, or hang, but must never go on."""
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def close(self) -> None:
        """Stops both and removes their files."""
        for server in (self.primary, self.standby):
            server.kill()
        # The other one runs from this one's binaries.
        for server in sorted((self.primary, self.standby), key=lambda it: it is self._binaries_of):
            server.close()
