"""Whether an operator disabled a key, so that its account cannot enable it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Keys that are disabled already were disabled by an operator, as far as is known."""
    op.add_column(
        "keys",
        sa.Column("disabled_by_operator", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.execute("UPDATE keys SET disabled_by_operator = true WHERE state = 'disabled'")
