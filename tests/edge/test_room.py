from pathlib import Path

from edge.spool.room import Room

MIB = 1024 * 1024


class Disk:
    """Says how much is free, and counts who asks."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.looks = 0

    def read(self, _folder: Path) -> int:
        self.looks += 1
        return self.free


def test_what_would_eat_the_reserve_waits_and_goes_on_once_there_is_room() -> None:
    disk = Disk(10 * MIB)
    room = Room(Path(), 10 * MIB, disk.read)
    assert not room.takes(2 * MIB)
    assert room.is_spent()
    assert room.short_bytes() == 2 * MIB, "what waits needs more than the margin"
    disk.free += 1500
    assert room.takes(1000)
    assert not room.takes(501 + 1000), "asked again, the disk says what is left"
    assert room.is_spent(), "the larger one waits still"
    disk.free += 2 * MIB
    assert room.takes(2 * MIB)
    assert not room.is_spent()


def test_the_disk_is_looked_at_once_a_mebibyte_while_there_is_room() -> None:
    disk = Disk(1000 * MIB)
    room = Room(Path(), 10 * MIB, disk.read)
    for _commit in range(10 * 1024):
        assert room.takes(1024)
    assert disk.looks == 10


def test_lanes_give_way_before_they_have_to_wait() -> None:
    disk = Disk(10 * MIB)
    room = Room(Path(), 8 * MIB, disk.read)
    assert room.short_bytes() == 0
    disk.free = 8 * MIB
    assert room.short_bytes() == 1 * MIB
    assert room.takes(0)


def test_no_reserve_asks_for_nothing() -> None:
    disk = Disk(0)
    room = Room(Path(), 0, disk.read)
    assert room.takes(MIB)
    assert room.short_bytes() == 0
    assert disk.looks == 1
