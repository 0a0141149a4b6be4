"""What the agent itself does beside putting its parts together."""

from __future__ import annotations

from pathlib import Path

from edge.agent import name_unreadable
from edge.outbox import Source
from edge.spool import Chunk
from tests.conftest import FakeClock
from tests.edge.test_outbox import bodies_in, running
from wire.messages import Lane
from wire.readings import Gap, GapReason, Origin

BOX = Source("", "s1", Origin.DEMO)


def gaps_in(chunks: list[Chunk]) -> list[tuple[GapReason, str]]:
    return [(body.reason, body.lane) for _lane, _seq, body in bodies_in(chunks) if isinstance(body, Gap)]


async def test_every_segment_set_aside_is_named_once_also_after_a_kill(tmp_path: Path, clock: FakeClock) -> None:
    async with running(tmp_path, clock):
        pass
    # Set aside, and the box was killed before it could say so.
    (tmp_path / "bulk" / "0000000001.quarantined").touch()
    (tmp_path / "bulk" / "0000000001.quarantined-wal").touch()
    async with running(tmp_path, clock) as (outbox, spool, committed):
        await name_unreadable(spool, outbox, clock, BOX)
        await name_unreadable(spool, outbox, clock, BOX)
        assert gaps_in(committed) == [(GapReason.DISK, Lane.BULK)]
    # A lane that comes before the one already named is named too.
    (tmp_path / "urgent" / "0000000001.quarantined").touch()
    async with running(tmp_path, clock) as (outbox, spool, committed):
        await name_unreadable(spool, outbox, clock, BOX)
        assert gaps_in(committed) == [(GapReason.DISK, Lane.URGENT)]
