"""The first tables.

A migration says what was made at its time, so it shares nothing with the schema of
today, which goes on changing.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = None

TEXT = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
TIME = Text().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

HEAD = Table(
    "head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="single_row"),
    CheckConstraint("revision >= 0", name="revision"),
    comment="The revision of the last mutation. Locking its row is the right to mutate.",
)

Table(
    "keyspaces",
    METADATA,
    Column("name", TEXT, primary_key=True),
    Column("declaration", JSON, nullable=False),
    Column("previous_formats", JSON, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", TIME, nullable=False),
    Column("update_time", TIME, nullable=False),
    CheckConstraint("revision >= 1", name="revision"),
    comment="The declared keyspaces. The built-in one is not among them.",
)

Table(
    "keys",
    METADATA,
    Column("key_id", TEXT, primary_key=True),
    Column("keyspace", TEXT, nullable=False),
    Column("account_id", TEXT, nullable=False),
    Column("display_name", TEXT, nullable=False),
    Column("key_type", TEXT, nullable=False),
    Column("environment", TEXT, nullable=False),
    Column("granted_scopes", JSON, nullable=False),
    Column("preset", TEXT),
    Column("digest", LargeBinary, nullable=False),
    Column("pepper_version", Integer, nullable=False),
    Column("display_prefix", TEXT, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("create_time", TIME, nullable=False),
    Column("update_time", TIME, nullable=False),
    Column("expire_time", TIME),
    Column("revoke_time", TIME),
    Column("allowed_addresses", JSON, nullable=False),
    Column("bound_keyspaces", JSON, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("parent_key_id", TEXT, ForeignKey("keys.key_id")),
    Column("rotated_from_key_id", TEXT),
    Column("rotated_to_key_id", TEXT),
    Column("created_by_key_id", TEXT),
    Column("revision", BigInteger, nullable=False),
    Column("rate_limit", TEXT),
    Column("first_key_id", TEXT),
    Column("disabled_by_operator", Boolean, nullable=False, server_default=false()),
    CheckConstraint("state IN ('active', 'disabled', 'revoked')", name="state"),
    CheckConstraint("(state = 'revoked') = (revoke_time IS NOT NULL)", name="revoke_time"),
    CheckConstraint("length(digest) = 32", name="digest"),
    CheckConstraint("pepper_version >= 0", name="pepper_version"),
    CheckConstraint("revision >= 1", name="revision"),
    Index(None, "digest", unique=True),
    Index(None, "keyspace", "key_id"),
    Index(None, "keyspace", "account_id", "key_id"),
    Index(None, "keyspace", "state", "key_id"),
    Index(None, "keyspace", "key_type", "key_id"),
    Index(None, "keyspace", "environment", "key_id"),
    Index(None, "keyspace", "display_prefix", "key_id"),
    Index(None, "keyspace", "expire_time", "key_id"),
    Index(None, "keyspace", "parent_key_id", "key_id"),
    comment="The keys' records. Nothing here lets anyone pass.",
)

Table(
    "slow_hashes",
    METADATA,
    Column("key_id", TEXT, ForeignKey("keys.key_id"), primary_key=True),
    Column("keyspace", TEXT, nullable=False),
    Column("prefix", TEXT, nullable=False),
    Column("hash", TEXT, nullable=False),
    Index(None, "keyspace", "prefix"),
    comment="Slow hashes of imported keys that were not used yet. docs/how-to/import-keys.md.",
)

Table(
    "replaced_digests",
    METADATA,
    Column("digest", LargeBinary, primary_key=True),
    Column("pepper_version", Integer, nullable=False),
    Column("key_id", TEXT, ForeignKey("keys.key_id"), nullable=False),
    comment="What was kept of imported keys before their first use, so that they are there already "
    "if their file is imported again.",
)

Table(
    "changes",
    METADATA,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("kind", TEXT, nullable=False),
    Column("subject", TEXT, nullable=False),
    Column("keyspace", TEXT, nullable=False),
    Column("created", Boolean, nullable=False),
    CheckConstraint("kind IN ('key', 'keyspace', 'account', 'session')", name="kind"),
    CheckConstraint("revision >= 1", name="revision"),
    CheckConstraint("position >= 0", name="position"),
    comment="What each mutation changed: what caches must forget.",
)

Table(
    "audit_events",
    METADATA,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", TEXT, nullable=False),
    Column("revision", BigInteger),
    Column("time", TIME, nullable=False),
    Column("action", TEXT, nullable=False),
    Column("actor_key_id", TEXT),
    Column("keyspace", TEXT, nullable=False),
    Column("account_id", TEXT),
    Column("subject", TEXT, nullable=False),
    Column("request_id", TEXT),
    Column("details", JSON, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    CheckConstraint("sequence >= 1", name="sequence"),
    CheckConstraint("revision >= 1", name="revision"),
    CheckConstraint("length(hash) = 32", name="hash"),
    UniqueConstraint("event_id"),
    UniqueConstraint("revision"),
    Index(None, "keyspace", "sequence"),
    Index(None, "subject", "sequence"),
    Index(None, "actor_key_id", "sequence"),
    comment="Who did what, each event with a hash of itself and of the one before.",
)

AUDIT_HEAD = Table(
    "audit_head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("event_count", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    CheckConstraint("id = 1", name="single_row"),
    CheckConstraint("event_count >= 0", name="event_count"),
    CheckConstraint("length(hash) = 32", name="hash"),
    comment="How many audit events there are, and the last one's hash: a cut shows by it.",
)

AUDIT_CUT = Table(
    "audit_cut",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("exported_count", BigInteger, nullable=False),
    Column("exported_hash", LargeBinary, nullable=False),
    Column("removed_count", BigInteger, nullable=False),
    Column("removed_hash", LargeBinary, nullable=False),
    Column("removal_sequence", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="single_row"),
    CheckConstraint("exported_count >= 0", name="exported_count"),
    CheckConstraint("length(exported_hash) = 32", name="exported_hash"),
    CheckConstraint("removed_count >= 0", name="removed_count"),
    CheckConstraint("length(removed_hash) = 32", name="removed_hash"),
    CheckConstraint("removal_sequence >= 0", name="removal_sequence"),
    comment="How far the audit events were exported, and how far they were removed.",
)

Table(
    "key_uses",
    METADATA,
    Column("key_id", TEXT, primary_key=True),
    Column("last_used_time", TIME, nullable=False),
    Column("last_used_address", TEXT, nullable=False),
    Column("use_count", BigInteger, nullable=False),
    CheckConstraint("use_count >= 1", name="use_count"),
    comment="How keys are used. Written behind, apart from the keys' records.",
)

Table(
    "key_use_days",
    METADATA,
    Column("key_id", TEXT, primary_key=True),
    Column("day", TEXT, primary_key=True),
    Column("use_count", BigInteger, nullable=False),
    CheckConstraint("use_count >= 1", name="use_count"),
    Index(None, "day"),
    comment="How often keys were used, by day (UTC).",
)

Table(
    "accounts",
    METADATA,
    Column("account_id", TEXT, primary_key=True),
    Column("keyspace", TEXT, nullable=False),
    Column("email", TEXT, nullable=False),
    Column("email_identity", TEXT, nullable=False),
    Column("display_name", TEXT, nullable=False),
    Column("password_hash", TEXT, nullable=False),
    Column("pepper_version", Integer, nullable=False),
    Column("plan", TEXT, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("create_time", TIME, nullable=False),
    Column("update_time", TIME, nullable=False),
    Column("disable_time", TIME),
    Column("revision", BigInteger, nullable=False),
    CheckConstraint("state IN ('active', 'disabled')", name="state"),
    CheckConstraint("(state = 'disabled') = (disable_time IS NOT NULL)", name="disable_time"),
    CheckConstraint("pepper_version >= 0", name="pepper_version"),
    CheckConstraint("revision >= 1", name="revision"),
    Index(None, "keyspace", "email_identity", unique=True),
    Index(None, "keyspace", "account_id"),
    comment="The registered accounts. Their passwords are hashed, under a pepper.",
)

Table(
    "sessions",
    METADATA,
    Column("session_id", TEXT, primary_key=True),
    Column("account_id", TEXT, ForeignKey("accounts.account_id"), nullable=False),
    Column("keyspace", TEXT, nullable=False),
    Column("create_time", TIME, nullable=False),
    Column("expire_time", TIME, nullable=False),
    Column("end_time", TIME),
    Column("revision", BigInteger, nullable=False),
    CheckConstraint("revision >= 1", name="revision"),
    Index(None, "account_id"),
    Index(None, "expire_time"),
    comment="The accounts' sessions. The tokens of their holders point here.",
)

Table(
    "requests",
    METADATA,
    Column("caller_key_id", TEXT, primary_key=True),
    Column("request_id", TEXT, primary_key=True),
    Column("key_id", TEXT, ForeignKey("keys.key_id"), nullable=False),
    Column("time", TIME, nullable=False),
    Index(None, "time"),
    comment="What creating requests made, for a day, so that a repetition is recognised.",
)

Table(
    "first_start",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    CheckConstraint("id = 1", name="single_row"),
    comment="Has its row when the first start is over.",
)

Table(
    "compatibility",
    METADATA,
    Column("schema_version", TEXT, primary_key=True),
    Column("oldest_program", TEXT, nullable=False),
    comment="The oldest program that may use this schema, by the schema that it was made for.",
)

Table(
    "peppers",
    METADATA,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("fingerprint", LargeBinary),
    CheckConstraint("version >= 1", name="version"),
    CheckConstraint("length(fingerprint) = 32", name="fingerprint"),
    comment="What tells each pepper from another that is given in its place.",
)

Table(
    "processes",
    METADATA,
    Column("process_id", TEXT, primary_key=True),
    Column("display_name", TEXT, nullable=False),
    Column("renewals", BigInteger, nullable=False),
    Column("acknowledged", BigInteger, nullable=False),
    Column("lease_seconds", Double, nullable=False),
    Column("clock_drift", Double, nullable=False),
    Column("join_time", TIME, nullable=False),
    CheckConstraint("renewals >= 0", name="renewals"),
    CheckConstraint("acknowledged >= 0", name="acknowledged"),
    comment="The server processes that may answer from memory. docs/fence.md explains it.",
)

Table(
    "settled_epochs",
    METADATA,
    Column("epoch", TEXT, primary_key=True),
    comment="Timelines before which no lease is alive any more. docs/fence.md explains it.",
)


def upgrade() -> None:
    """Makes all tables. There are no revisions and no audit events yet."""
    METADATA.create_all(op.get_bind(), checkfirst=False)
    nothing = bytes(32)
    op.bulk_insert(HEAD, [{"id": 1, "revision": 0}])
    op.bulk_insert(AUDIT_HEAD, [{"id": 1, "event_count": 0, "hash": nothing}])
    cut = {"exported_count": 0, "exported_hash": nothing}
    cut |= {"removed_count": 0, "removed_hash": nothing, "removal_sequence": 0}
    op.bulk_insert(AUDIT_CUT, [{"id": 1, **cut}])
    if op.get_bind().dialect.name == "postgresql":
        # No process has had a lease on these tables, so this timeline is settled.
        op.execute(
            "INSERT INTO settled_epochs SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
        )
