"""Alembic's entry: runs the steps on the connection that cloud.store.database hands over."""

from __future__ import annotations

from alembic import context

from cloud.store import access_tables

# The same metadata as cloud.store.schema, with every table in it.
context.configure(connection=context.config.attributes["connection"], target_metadata=access_tables.account.metadata)
with context.begin_transaction():
    context.run_migrations()
