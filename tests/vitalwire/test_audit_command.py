"""`vitalwire audit` beside a store that is in use."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cloud.store.audit import table
from cloud.store.audit.chain import Head
from cloud.store.audit.head import head_file
from cloud.store.backup import back_up
from cloud.store.database import Database
from tests.cloud.store.audit.chains import add, entry, stored, unguarded
from vitalwire.__main__ import main

# The first command of a run imports the whole cloud.
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    """Open all the time, as a running cloud's."""
    opened = Database(path)
    head_file(path, path).write(add(opened, [entry(n) for n in range(5)]))
    yield opened
    opened.close()


def audit(path: Path, *arguments: str) -> int:
    return main(["audit", *arguments, "--store", str(path)])


def test_a_whole_chain_is_verified(database: Database, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(file.name for file in path.parent.iterdir())
    assert audit(path, "verify") == 0
    head = database.read_now(table.newest)
    said = capsys.readouterr().out
    assert f"5 rows are as they were written, from 1 on; the head is {head}" in said
    assert "compared with 1 noted rows" in said
    assert sorted(file.name for file in path.parent.iterdir()) == before
    assert main(["audit", "verify", "--store", f"sqlite:///{path}"]) == 0
    head_file(path, path).path.unlink()
    capsys.readouterr()
    assert audit(path, "verify") == 0
    assert "had the end been cut off" in capsys.readouterr().out


def test_the_first_wrong_row_is_named_with_why(
    database: Database, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unguarded(database, "UPDATE audit SET result = 'allowed' WHERE audit_id IN (3, 5)")
    assert audit(path, "verify") == 1
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "row 3: its content is not what its hash was made of"


def test_a_cut_end_shows_in_the_head_file_or_in_a_head_noted_elsewhere(
    database: Database, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(path, "head") == 0
    noted = capsys.readouterr().out.strip()
    unguarded(database, "DELETE FROM audit WHERE audit_id > 3")
    assert audit(path, "verify") == 1
    assert "row 4: it is missing: row 5 was noted, but the chain ends with row 3" in capsys.readouterr().out
    head_file(path, path).path.unlink()
    assert audit(path, "verify") == 0
    assert audit(path, "verify", "--noted", noted) == 1
    assert audit(path, "verify", "--noted", "5") == 2


def test_a_person_accepts_with_a_reason(database: Database, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(path, "head", "--accept", "--reason", "why not") == 2
    heads = head_file(path, path)
    missed = Head(9, bytes(32))
    heads.write(missed)
    assert audit(path, "head", "--accept") == 2
    assert "--reason" in capsys.readouterr().err
    assert audit(path, "head", "--accept", "--reason", "the backup of Monday was restored") == 0
    row = stored(database)[-1]
    assert (row.number, row.entry.action, row.entry.object) == (6, "accept audit chain", str(missed))
    assert row.entry.reason == "the backup of Monday was restored"
    assert heads.read() == [str(database.read_now(table.newest))]
    assert audit(path, "verify") == 0


def test_an_exported_chain_verifies_alone(
    database: Database, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "trail.jsonl"
    assert audit(path, "export", str(out)) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines[1]["principal"] == "王医生1"
    assert lines[1]["previous"] == lines[0]["hash"]
    head = str(database.read_now(table.newest))
    assert lines[-1] == {"rows": 5, "head": head}
    assert main(["audit", "verify", str(out), "--noted", head]) == 0
    assert main(["audit", "verify", str(out), "--noted", f"5:{'0' * 64}"]) == 1
    out.write_text(out.read_text().replace("allowed 2", "refused 2"))
    capsys.readouterr()
    assert main(["audit", "verify", str(out)]) == 1
    assert capsys.readouterr().out.startswith("row 3: its content")
    assert audit(path, "export", str(out)) == 2
    assert main(["audit", "verify", str(tmp_path / "nowhere")]) == 2


def test_a_broken_chain_is_exported_as_it_is(database: Database, path: Path, tmp_path: Path) -> None:
    unguarded(database, "UPDATE audit SET principal = CAST(x'ff' AS TEXT) WHERE audit_id = 2")
    out = tmp_path / "trail.jsonl"
    assert audit(path, "export", str(out)) == 1
    assert len(out.read_text().splitlines()) == 6
    assert main(["audit", "verify", str(out)]) == 1


def test_a_backup_is_verified_where_it_lies_and_stays_as_it_is(database: Database, path: Path, tmp_path: Path) -> None:
    made = back_up(path, tmp_path / "backup")
    whole = made.path.read_bytes()
    assert audit(made.path, "verify") == 0
    assert made.path.read_bytes() == whole


def test_restoring_an_older_store_tells_what_is_missing(
    database: Database, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = back_up(path, tmp_path / "backup")
    assert main(["restore", str(made.path), "--store", str(tmp_path / "whole.sqlite")]) == 0
    assert "audit" not in capsys.readouterr().out
    head_file(path, path).write(add(database, [entry(5)]))
    database.close()
    assert main(["restore", str(made.path), "--store", str(path)]) == 0
    said = capsys.readouterr().out
    assert "row 6: it is missing: row 6 was noted, but the chain ends with row 5" in said
    assert f"vitalwire account list --store {path}\n" in said
    assert f"vitalwire audit head --accept --reason TEXT --store {path}\n" in said
    assert audit(path, "verify") == 1
    assert f"vitalwire audit head --accept --reason TEXT --store {path}\n" in capsys.readouterr().out
    assert audit(path, "verify") == 1
    assert audit(path, "head", "--accept", "--reason", "Monday's backup") == 0
    assert audit(path, "verify") == 0


def test_what_is_no_chained_store_is_named(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(path, "verify") == 2
    path.write_bytes(b"nothing of the kind" * 100)
    assert audit(path, "verify") == 2
    path.unlink()
    with closing(sqlite3.connect(path)) as older, older:
        older.execute("CREATE TABLE audit (audit_id INTEGER)")
    assert audit(path, "verify") == 2
    assert "an older version wrote it" in capsys.readouterr().err
    assert main(["audit", "head", "--store", "mysql://somewhere/else"]) == 2


def test_rows_are_kept_at_least_as_long_as_the_law_asks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "cloud.toml"
    config.write_text('audit_keep_days = 183\n[access]\nmode = "demo"\n')
    assert main(["check", str(config)]) == 2
    assert "Cybersecurity Law" in capsys.readouterr().err
