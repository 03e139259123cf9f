"""What Alembic executes to migrate. The connection comes from `migrations.upgrade`."""

from alembic import context

from keyfence_server.adapters.sql.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite's DDL is part of its transactions too, which Alembic does not count on.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
