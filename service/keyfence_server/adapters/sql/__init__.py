"""The store on SQL: SQLite in a file beside the server, or PostgreSQL.

`open_store` is the way in. What it returns implements the `Store` port; the conformance
suite in `tests/store_contract` holds both databases to it.
"""

from keyfence_server.adapters.sql.engines import StoreOptions
from keyfence_server.adapters.sql.errors import ConstraintViolated, StoreFault
from keyfence_server.adapters.sql.migrations import (
    SchemaMismatch,
    current_revision,
    is_outdated,
    require_current,
    upgrade,
)
from keyfence_server.adapters.sql.store import SqlStore, open_store
from keyfence_server.adapters.sql.urls import InvalidDatabaseUrl
