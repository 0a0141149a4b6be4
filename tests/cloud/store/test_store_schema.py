from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from cloud.store.database import Database
from cloud.store.schema import metadata


def test_the_steps_lead_to_the_tables_the_code_uses(tmp_path: Path) -> None:
    database = Database(tmp_path / "store.sqlite")
    differences = database.read_now(
        lambda connection: compare_metadata(MigrationContext.configure(connection), metadata)
    )
    assert differences == []
    database.close()


def test_the_store_id_is_minted_once(tmp_path: Path) -> None:
    first, second = (Database(tmp_path / "store.sqlite") for _ in range(2))
    other = Database(tmp_path / "other.sqlite")
    assert len(first.store_id) == 16
    assert first.store_id == second.store_id != other.store_id
    for database in (first, second, other):
        database.close()
