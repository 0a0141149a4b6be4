from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from cloud.store.database import Database, StoreTooNew
from cloud.store.location import StoreLocation
from cloud.store.schema import metadata


def test_the_steps_lead_to_the_tables_the_code_uses(location: StoreLocation) -> None:
    database = Database(location)
    differences = database.read_now(
        lambda connection: compare_metadata(MigrationContext.configure(connection), metadata)
    )
    assert differences == []
    database.close()


def test_the_store_id_is_minted_once(location: StoreLocation) -> None:
    first, second = (Database(location) for _ in range(2))
    assert len(first.store_id) == 16
    assert first.store_id == second.store_id
    first.transaction(lambda connection: connection.execute(sa.delete(metadata.tables["meta"])))
    third = Database(location)
    assert third.store_id != first.store_id
    for database in (first, second, third):
        database.close()


def test_a_store_of_a_newer_version_is_left_alone(location: StoreLocation) -> None:
    database = Database(location)
    say = sa.text("UPDATE alembic_version SET version_num = :revision")
    known = database.read_now(lambda connection: MigrationContext.configure(connection).get_current_revision())
    database.transaction(lambda connection: connection.execute(say, {"revision": "from-the-future"}))
    try:
        with pytest.raises(StoreTooNew, match="from-the-future"):
            Database(location)
    finally:
        database.transaction(lambda connection: connection.execute(say, {"revision": known}))
        database.close()
