"""What a system's keys leave behind in a PostgreSQL, row by row."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import pytest

from keyfence.results import Reason
from support.systems import SYSTEMS, Authority

pytestmark = pytest.mark.postgres


async def dump(url: str) -> str:
    """Every row of every table, as text."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT quote_ident(table_name) AS name FROM information_schema.tables "
            "WHERE table_schema = 'public'"
        )
        assert tables
        rows = [
            row["text"]
            for table in tables
            for row in await connection.fetch(f"SELECT t::text AS text FROM {table['name']} t")
        ]
    finally:
        await connection.close()
    return "\n".join(rows)


async def test_the_plaintext_is_in_no_row_and_no_log_line(
    authority_on_postgresql: Authority, postgres_url: str
) -> None:
    authority, operator = authority_on_postgresql, authority_on_postgresql.operator
    plaintexts = []
    for name in SYSTEMS:
        await authority.apply(name)
        created = await operator.create_key(keyspace=name, account_id="a")
        rotated = await operator.rotate_key(created.key.key_id, overlap=timedelta(hours=1))
        assert await authority.reason(created.api_key, name) is Reason.OK
        await operator.revoke_key(created.key.key_id)
        assert await authority.reason(created.api_key, name) is Reason.KEY_REVOKED
        assert await authority.reason(rotated.api_key, name) is Reason.OK
        plaintexts += [created.api_key, rotated.api_key]

    rows = await dump(postgres_url)
    logged = (await authority.stop_and_read_everything()).decode(errors="replace")
    assert created.key.key_id in rows, "the search would find nothing anyway"
    for plaintext in plaintexts:
        body = plaintext[-20:]
        # PostgreSQL shows bytes as hex.
        assert body not in rows
        assert body.encode().hex() not in rows
        assert body not in logged
