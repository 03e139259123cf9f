"""Accounts and their sessions.

The log of changes names two more kinds of things that change. SQLite cannot alter a
CHECK, so there the table is made anew, with its rows.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
TIME = sa.Text().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    """Makes the tables, and lets changes be about what is in them."""
    _create_accounts()
    _create_sessions()
    with op.batch_alter_table("changes") as changes:
        changes.drop_constraint(op.f("ck_changes_kind"), type_="check")
        changes.create_check_constraint(
            op.f("ck_changes_kind"), "kind IN ('key', 'keyspace', 'account', 'session')"
        )


def _create_accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("keyspace", TEXT, nullable=False),
        sa.Column("email", TEXT, nullable=False),
        sa.Column("email_identity", TEXT, nullable=False),
        sa.Column("display_name", TEXT, nullable=False),
        sa.Column("password_hash", TEXT, nullable=False),
        sa.Column("pepper_version", sa.Integer, nullable=False),
        sa.Column("plan", TEXT, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("update_time", TIME, nullable=False),
        sa.Column("disable_time", TIME),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account_id", name="pk_accounts"),
        sa.CheckConstraint("state IN ('active', 'disabled')", name=op.f("ck_accounts_state")),
        sa.CheckConstraint(
            "(state = 'disabled') = (disable_time IS NOT NULL)",
            name=op.f("ck_accounts_disable_time"),
        ),
        sa.CheckConstraint("pepper_version >= 0", name=op.f("ck_accounts_pepper_version")),
        sa.CheckConstraint("revision >= 1", name=op.f("ck_accounts_revision")),
        comment="The registered accounts. Their passwords are hashed, under a pepper.",
    )
    op.create_index(
        "ix_accounts_keyspace_email_identity",
        "accounts",
        ["keyspace", "email_identity"],
        unique=True,
    )
    op.create_index("ix_accounts_keyspace_account_id", "accounts", ["keyspace", "account_id"])


def _create_sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("session_id", TEXT, nullable=False),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("keyspace", TEXT, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("expire_time", TIME, nullable=False),
        sa.Column("end_time", TIME),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_sessions"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name="fk_sessions_account_id"
        ),
        sa.CheckConstraint("revision >= 1", name=op.f("ck_sessions_revision")),
        comment="The accounts' sessions. The tokens of their holders point here.",
    )
    op.create_index("ix_sessions_account_id", "sessions", ["account_id"])
    op.create_index("ix_sessions_expire_time", "sessions", ["expire_time"])
