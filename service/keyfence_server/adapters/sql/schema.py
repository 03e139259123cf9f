"""The tables, as the code of this version wants them.

The migrations make them; a test compares the two. Documents (declarations, labels,
scopes) are kept as JSON text and not as PostgreSQL's `jsonb`, which would forget the
order of a mapping, and an order is part of a declaration.
"""

from __future__ import annotations

from typing import Final

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
    UniqueConstraint,
    false,
)

from keyfence_server.adapters.sql.types import ExactText, JsonText, UtcTime

metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

head: Final = Table(
    "head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="single_row"),
    CheckConstraint("revision >= 0", name="revision"),
    comment="The revision of the last mutation. Locking its row is the right to mutate.",
)

keyspaces: Final = Table(
    "keyspaces",
    metadata,
    Column("name", ExactText, primary_key=True),
    Column("declaration", JsonText, nullable=False),
    Column("previous_formats", JSON, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", UtcTime, nullable=False),
    Column("update_time", UtcTime, nullable=False),
    CheckConstraint("revision >= 1", name="revision"),
    comment="The declared keyspaces. The built-in one is not among them.",
)

keys: Final = Table(
    "keys",
    metadata,
    Column("key_id", ExactText, primary_key=True),
    Column("keyspace", ExactText, nullable=False),
    Column("account_id", ExactText, nullable=False),
    Column("display_name", ExactText, nullable=False),
    Column("key_type", ExactText, nullable=False),
    Column("environment", ExactText, nullable=False),
    Column("granted_scopes", JSON, nullable=False),
    Column("preset", ExactText),
    Column("digest", LargeBinary, nullable=False),
    Column("pepper_version", Integer, nullable=False),
    Column("display_prefix", ExactText, nullable=False),
    Column("state", ExactText, nullable=False),
    Column("create_time", UtcTime, nullable=False),
    Column("update_time", UtcTime, nullable=False),
    Column("expire_time", UtcTime),
    Column("revoke_time", UtcTime),
    Column("allowed_addresses", JSON, nullable=False),
    Column("bound_keyspaces", JSON, nullable=False),
    Column("labels", JSON, nullable=False),
    # A child without its parent would be a key that is not revoked with its parent.
    Column("parent_key_id", ExactText, ForeignKey("keys.key_id")),
    Column("rotated_from_key_id", ExactText),
    Column("rotated_to_key_id", ExactText),
    Column("created_by_key_id", ExactText),
    Column("revision", BigInteger, nullable=False),
    Column("rate_limit", ExactText),
    Column("first_key_id", ExactText),
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

slow_hashes: Final = Table(
    "slow_hashes",
    metadata,
    Column("key_id", ExactText, ForeignKey("keys.key_id"), primary_key=True),
    Column("keyspace", ExactText, nullable=False),
    Column("prefix", ExactText, nullable=False),
    Column("hash", ExactText, nullable=False),
    Index(None, "keyspace", "prefix"),
    comment="Slow hashes of imported keys that were not used yet. docs/how-to/import-keys.md.",
)

replaced_digests: Final = Table(
    "replaced_digests",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("pepper_version", Integer, nullable=False),
    Column("key_id", ExactText, ForeignKey("keys.key_id"), nullable=False),
    comment="What was kept of imported keys before their first use, so that they are there already "
    "if their file is imported again.",
)

changes: Final = Table(
    "changes",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("kind", ExactText, nullable=False),
    Column("subject", ExactText, nullable=False),
    Column("keyspace", ExactText, nullable=False),
    Column("created", Boolean, nullable=False),
    CheckConstraint("kind IN ('key', 'keyspace', 'account', 'session')", name="kind"),
    CheckConstraint("revision >= 1", name="revision"),
    CheckConstraint("position >= 0", name="position"),
    comment="What each mutation changed: what caches must forget.",
)

audit_events: Final = Table(
    "audit_events",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", ExactText, nullable=False),
    # What is no mutation, such as attempts that failed, has none.
    Column("revision", BigInteger),
    Column("time", UtcTime, nullable=False),
    Column("action", ExactText, nullable=False),
    Column("actor_key_id", ExactText),
    Column("keyspace", ExactText, nullable=False),
    Column("account_id", ExactText),
    Column("subject", ExactText, nullable=False),
    Column("request_id", ExactText),
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

audit_head: Final = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("event_count", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    CheckConstraint("id = 1", name="single_row"),
    CheckConstraint("event_count >= 0", name="event_count"),
    CheckConstraint("length(hash) = 32", name="hash"),
    comment="How many audit events there are, and the last one's hash: a cut shows by it.",
)

audit_cut: Final = Table(
    "audit_cut",
    metadata,
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

key_uses: Final = Table(
    "key_uses",
    metadata,
    Column("key_id", ExactText, primary_key=True),
    Column("last_used_time", UtcTime, nullable=False),
    Column("last_used_address", ExactText, nullable=False),
    Column("use_count", BigInteger, nullable=False),
    CheckConstraint("use_count >= 1", name="use_count"),
    comment="How keys are used. Written behind, apart from the keys' records.",
)

key_use_days: Final = Table(
    "key_use_days",
    metadata,
    Column("key_id", ExactText, primary_key=True),
    Column("day", ExactText, primary_key=True),
    Column("use_count", BigInteger, nullable=False),
    CheckConstraint("use_count >= 1", name="use_count"),
    Index(None, "day"),
    comment="How often keys were used, by day (UTC).",
)

accounts: Final = Table(
    "accounts",
    metadata,
    Column("account_id", ExactText, primary_key=True),
    Column("keyspace", ExactText, nullable=False),
    Column("email", ExactText, nullable=False),
    Column("email_identity", ExactText, nullable=False),
    Column("display_name", ExactText, nullable=False),
    Column("password_hash", ExactText, nullable=False),
    Column("pepper_version", Integer, nullable=False),
    Column("plan", ExactText, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("state", ExactText, nullable=False),
    Column("create_time", UtcTime, nullable=False),
    Column("update_time", UtcTime, nullable=False),
    Column("disable_time", UtcTime),
    Column("revision", BigInteger, nullable=False),
    CheckConstraint("state IN ('active', 'disabled')", name="state"),
    CheckConstraint("(state = 'disabled') = (disable_time IS NOT NULL)", name="disable_time"),
    CheckConstraint("pepper_version >= 0", name="pepper_version"),
    CheckConstraint("revision >= 1", name="revision"),
    Index(None, "keyspace", "email_identity", unique=True),
    Index(None, "keyspace", "account_id"),
    comment="The registered accounts. Their passwords are hashed, under a pepper.",
)

sessions: Final = Table(
    "sessions",
    metadata,
    Column("session_id", ExactText, primary_key=True),
    Column("account_id", ExactText, ForeignKey("accounts.account_id"), nullable=False),
    Column("keyspace", ExactText, nullable=False),
    Column("create_time", UtcTime, nullable=False),
    Column("expire_time", UtcTime, nullable=False),
    Column("end_time", UtcTime),
    Column("revision", BigInteger, nullable=False),
    CheckConstraint("revision >= 1", name="revision"),
    Index(None, "account_id"),
    Index(None, "expire_time"),
    comment="The accounts' sessions. The tokens of their holders point here.",
)

requests: Final = Table(
    "requests",
    metadata,
    Column("caller_key_id", ExactText, primary_key=True),
    Column("request_id", ExactText, primary_key=True),
    Column("key_id", ExactText, ForeignKey("keys.key_id"), nullable=False),
    Column("time", UtcTime, nullable=False),
    Index(None, "time"),
    comment="What creating requests made, for a day, so that a repetition is recognised.",
)

first_start: Final = Table(
    "first_start",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    CheckConstraint("id = 1", name="single_row"),
    comment="Has its row when the first start is over.",
)

compatibility: Final = Table(
    "compatibility",
    metadata,
    Column("schema_version", ExactText, primary_key=True),
    Column("oldest_program", ExactText, nullable=False),
    comment="The oldest program that may use this schema, by the schema that it was made for.",
)

peppers: Final = Table(
    "peppers",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("fingerprint", LargeBinary),
    CheckConstraint("version >= 1", name="version"),
    CheckConstraint("length(fingerprint) = 32", name="fingerprint"),
    comment="What tells each pepper from another that is given in its place.",
)

processes: Final = Table(
    "processes",
    metadata,
    Column("process_id", ExactText, primary_key=True),
    Column("display_name", ExactText, nullable=False),
    Column("renewals", BigInteger, nullable=False),
    Column("acknowledged", BigInteger, nullable=False),
    Column("lease_seconds", Double, nullable=False),
    Column("clock_drift", Double, nullable=False),
    Column("join_time", UtcTime, nullable=False),
    CheckConstraint("renewals >= 0", name="renewals"),
    CheckConstraint("acknowledged >= 0", name="acknowledged"),
    comment="The server processes that may answer from memory. docs/fence.md explains it.",
)

settled_epochs: Final = Table(
    "settled_epochs",
    metadata,
    Column("epoch", ExactText, primary_key=True),
    comment="Timelines before which no lease is alive any more. docs/fence.md explains it.",
)
