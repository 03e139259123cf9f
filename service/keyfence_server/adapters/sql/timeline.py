"""The timeline of a PostgreSQL cluster, which changes at a failover."""

from __future__ import annotations

from typing import Final

# Where the primary writes its log is the one thing that tells this at once: what its
# control file says of it can be as old as the last checkpoint.
TIMELINE: Final = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
