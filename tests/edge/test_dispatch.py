"""What leaves next, with a real spool and a clock moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.budget import Budget
from edge.dispatch import Dispatch
from edge.spool import Chunk, Facts, Spool, SpoolConfig
from edge.window import Sent
from tests.conftest import START_US, FakeClock
from wire.clock import anchor
from wire.messages import Batch, Lane, Receipt, decode_frame

EPOCH = b"e" * 16
RECORD = b"\xa5hello"  # any encoded value does: nobody here looks inside


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    spool = Spool(tmp_path / "spool", SpoolConfig(reserve_mib=0))
    await spool.open()
    yield spool
    await spool.close()


def make_dispatch(spool: Spool, clock: FakeClock, *, bulk_per_h: int | None = None, leads: bool = True) -> Dispatch:
    budgets = {lane: Budget(bulk_per_h if lane is Lane.BULK else None) for lane in Lane}
    return Dispatch(
        spool, clock, window_bytes=64 * 1024, budgets=budgets, may_backfill=lambda: leads, cloud_said=lambda *_: None
    )


async def committed(spool: Spool, clock: FakeClock, first: int, *, lane: Lane = Lane.ROUTINE, count: int = 1) -> Chunk:
    chunk = Chunk(EPOCH, lane, first, (RECORD,) * count, anchor(clock))
    await spool.commit([chunk], Facts())
    return chunk


async def soon(dispatch: Dispatch, lane: Lane = Lane.ROUTINE) -> Sent | None:
    """What leaves now, None when nothing does."""
    try:
        async with asyncio.timeout(0.2):
            return await dispatch.next(lane)
    except TimeoutError:
        return None


def receipt(sent: Sent, lane: Lane = Lane.ROUTINE) -> Receipt:
    return Receipt(b"s" * 16, sent.epoch, lane, sent.first_seq, sent.last_seq, 0)


async def test_live_leaves_before_backlog(spool: Spool, clock: FakeClock) -> None:
    dispatch = make_dispatch(spool, clock)
    for first in range(3):
        await committed(spool, clock, first)
    dispatch.offer(await committed(spool, clock, 3), is_connected=True)
    live, backlog = await soon(dispatch), await soon(dispatch)
    assert live is not None
    assert backlog is not None
    assert (live.first_seq, live.last_seq, live.is_backlog) == (3, 3, False)
    assert (backlog.first_seq, backlog.last_seq, backlog.is_backlog) == (0, 2, True)
    assert decode_frame(backlog.frame, Batch).first_seq == 0
    assert await soon(dispatch) is None


async def test_what_is_receipted_is_not_offered_again(spool: Spool, clock: FakeClock) -> None:
    dispatch = make_dispatch(spool, clock)
    await committed(spool, clock, 0, count=4)
    sent = await soon(dispatch)
    assert sent is not None
    assert await dispatch.settle(receipt(sent))
    dispatch.forget_link()
    assert await soon(dispatch) is None
    assert (await spool.holdings())[Lane.ROUTINE].pending_records == 0


async def test_what_is_not_receipted_in_time_leaves_again_as_the_same_bytes(spool: Spool, clock: FakeClock) -> None:
    dispatch = make_dispatch(spool, clock)
    await committed(spool, clock, 0)
    sent = await soon(dispatch)
    assert sent is not None
    frame = sent.frame
    clock.advance_s(3)
    again = await soon(dispatch)
    assert again is not None
    assert (again.frame, again.tries) == (frame, 2)
    assert dispatch.counts["batches_resent"] == 1


async def test_a_receipt_of_another_box_settles_nothing(spool: Spool, clock: FakeClock) -> None:
    dispatch = make_dispatch(spool, clock)
    await committed(spool, clock, 0)
    foreign = Receipt(b"s" * 16, b"f" * 16, Lane.ROUTINE, 0, 0, 0)
    assert not await dispatch.settle(foreign)
    assert await soon(dispatch) is not None


async def test_a_spent_budget_holds_waveforms_but_not_alerts(spool: Spool, clock: FakeClock) -> None:
    dispatch = make_dispatch(spool, clock, bulk_per_h=500)
    for first in range(4):
        for lane in (Lane.BULK, Lane.URGENT):
            dispatch.offer(await committed(spool, clock, first, lane=lane), is_connected=True)
    bulk = [await soon(dispatch, Lane.BULK) for _ in range(4)]
    assert sum(one is not None for one in bulk) == 1
    assert all([await soon(dispatch, Lane.URGENT) for _ in range(4)])
    clock.advance_s(3600)
    assert await soon(dispatch, Lane.BULK) is not None


async def test_an_uplink_that_does_not_lead_leaves_the_backlog_alone(spool: Spool, clock: FakeClock) -> None:
    dispatch = make_dispatch(spool, clock, leads=False)
    await committed(spool, clock, 0)
    dispatch.offer(await committed(spool, clock, 1), is_connected=True)
    live = await soon(dispatch)
    assert live is not None
    assert live.first_seq == 1
    assert await soon(dispatch) is None


async def test_nothing_waits_in_memory_while_the_link_is_away(spool: Spool, clock: FakeClock) -> None:
    dispatch = make_dispatch(spool, clock)
    for first in range(100):
        dispatch.offer(await committed(spool, clock, first), is_connected=False)
    sent = await soon(dispatch)
    assert sent is not None
    assert (sent.first_seq, sent.last_seq, sent.is_backlog) == (0, 99, True)


async def test_an_alert_of_the_backlog_waits_behind_no_waveform(spool: Spool, clock: FakeClock) -> None:
    dispatch = make_dispatch(spool, clock)
    for first in range(0, 20_000, 1000):
        await committed(spool, clock, first, lane=Lane.BULK, count=1000)
    while await soon(dispatch, Lane.BULK) is not None:
        pass
    await committed(spool, clock, 0, lane=Lane.URGENT)
    dispatch.look_for_backlog()
    assert await soon(dispatch, Lane.BULK) is None, "the share of the backlog is spent"
    assert await soon(dispatch, Lane.URGENT) is not None


async def test_a_backlog_tells_the_clock_before_and_after_it_was_set(spool: Spool, clock: FakeClock) -> None:
    dispatch = make_dispatch(spool, clock)
    told = []
    for first, (wall_us, synchronised) in enumerate(
        [(5_000_000, False), (6_000_000, False), (START_US, False), (START_US + 5, True), (START_US + 6, True)]
    ):
        clock.wall_us, clock.synchronised = wall_us, synchronised
        told.append((await committed(spool, clock, first)).anchor)
        clock.mono_us += 1_000_000
    sent = await soon(dispatch)
    assert sent is not None
    assert (sent.first_seq, sent.last_seq) == (0, 4)
    assert decode_frame(sent.frame, Batch).anchors == (told[1], told[2], told[4])
