"""What lies on disk can be read with its key, at its place, and no other way."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from edge.spool import Chunk, Facts
from edge.spool.cipher import Cipher, Forged, KeyMissing, key_id_of, load_cipher, new_key
from edge.spool.lane import LaneSpool
from tests.conftest import FakeClock
from tests.edge.test_spool import chunk, open_lane
from wire.configuration import ConfigError
from wire.runs import RunSet

OLD, NEW = b"o" * 32, b"n" * 32
EPOCH = b"e" * 16
NOTHING_BUSY: dict[bytes, RunSet] = {}


def offered(spool: LaneSpool) -> list[Chunk]:
    return spool.backlog(NOTHING_BUSY, 1 << 30)


def filled(folder: Path, clock: FakeClock, cipher: Cipher, first_seq: int = 0) -> None:
    spool = open_lane(folder, cipher=cipher)
    spool.commit([chunk(EPOCH, first_seq, 3, clock, 50)], Facts((("alarm/m/spo2_low", b"secret state"),)))
    spool.close()


def everything_on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_what_is_written_is_read_back_at_its_place_alone() -> None:
    cipher = Cipher((NEW, OLD))
    stored = cipher.encrypt(b"plain", b"here")
    assert b"plain" not in stored
    assert cipher.decrypt(stored, b"here") == b"plain"
    assert key_id_of(stored) == key_id_of(cipher.encrypt(b"other", b"there"))
    with pytest.raises(Forged, match="not what was written here"):
        cipher.decrypt(stored, b"there")
    for position in range(8, len(stored)):
        damaged = bytearray(stored)
        damaged[position] ^= 1
        with pytest.raises(Forged):
            cipher.decrypt(bytes(damaged), b"here")


def test_nothing_of_a_reading_or_an_alarm_lies_open(tmp_path: Path, clock: FakeClock) -> None:
    filled(tmp_path, clock, Cipher())
    assert b"secret state" in everything_on_disk(tmp_path)
    assert chunk(EPOCH, 0, 1, clock, 50).records[0] in everything_on_disk(tmp_path)
    other = tmp_path / "other"
    filled(other, clock, Cipher((NEW,)))
    assert b"secret state" not in everything_on_disk(other)
    assert chunk(EPOCH, 0, 1, clock, 50).records[0] not in everything_on_disk(other)


def test_keys_are_rotated_without_rewriting(tmp_path: Path, clock: FakeClock) -> None:
    filled(tmp_path, clock, Cipher((OLD,)))
    filled(tmp_path, clock, Cipher((NEW, OLD)), first_seq=3)
    spool = open_lane(tmp_path, cipher=Cipher((NEW, OLD)))
    assert [one.first_seq for one in offered(spool)] == [0, 3]
    assert spool.memos == {"alarm/m/spo2_low": b"secret state"}
    spool.close()


def test_a_spool_from_before_the_key_goes_on(tmp_path: Path, clock: FakeClock) -> None:
    filled(tmp_path, clock, Cipher())
    filled(tmp_path, clock, Cipher((NEW,)), first_seq=3)
    spool = open_lane(tmp_path, cipher=Cipher((NEW,)))
    assert [one.first_seq for one in offered(spool)] == [0, 3]
    spool.close()


@pytest.mark.parametrize("wrong", [Cipher(), Cipher((NEW,))])
def test_a_missing_key_stops_the_box_and_sets_nothing_aside(tmp_path: Path, clock: FakeClock, wrong: Cipher) -> None:
    filled(tmp_path, clock, Cipher((OLD,)))
    with pytest.raises(KeyMissing, match=r"key [0-9a-f]{8} is needed"):
        open_lane(tmp_path, cipher=wrong)
    assert [path.name for path in tmp_path.glob("*.quarantined")] == []
    assert len(offered(open_lane(tmp_path, cipher=Cipher((OLD,))))) == 1


def test_a_chunk_moved_to_another_place_is_set_aside(tmp_path: Path, clock: FakeClock) -> None:
    filled(tmp_path, clock, Cipher((NEW,)))
    with sqlite3.connect(tmp_path / "0000000001.sqlite") as database:
        database.execute("UPDATE chunk SET first_seq = 100")
    spool = open_lane(tmp_path, cipher=Cipher((NEW,)))
    assert offered(spool) == []
    assert [path.name for path in spool.corrupt] == ["0000000001.quarantined"]
    spool.close()


def test_keys_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VITALWIRE_SPOOL_KEY", raising=False)
    assert load_cipher(None).encrypt(b"x", b"") == b"x"
    first, second = new_key(), new_key()
    file = tmp_path / "spool.key"
    file.write_text(f"{first}\n{second}\n")
    monkeypatch.setenv("VITALWIRE_SPOOL_KEY", second)
    assert load_cipher(str(file)).decrypt(load_cipher(None).encrypt(b"x", b""), b"") == b"x"


@pytest.mark.parametrize(("text", "said"), [("", "holds no key"), ("abcd", "key 1 is not 64 hexadecimal digits")])
def test_a_key_file_that_is_none_is_said(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "spool.key"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_cipher(str(file))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_cipher(str(tmp_path / "none"))
