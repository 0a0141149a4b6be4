"""Boxes that boot in 1970, over real processes: what they record ends where the simulated devices' truth has it.

The strap (home-01) has no clock: that its readings find their place is its box's doing alone. The monitor (amb-07) has
one, and it is right: its box takes from it how far its readings lie apart, and never the date.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from cloud.export import export_wfdb
from cloud.store import account, schema
from cloud.store.database import Database
from cloud.store.reader import StoredSession, StoreReader
from firmware_sim.truth import StreamTruth, Truth
from tests.system.boots import AMBULANCE, HOME, BootStage, Learn, Played, boot_id, play, until
from tests.system.row_versions import RowKey, not_as_before, row_versions, update_one
from vitalwire.judge import judge
from vitalwire.stage import MONITOR_ID
from wire.clock import EARLIEST_PLAUSIBLE_US, MICROSECONDS
from wire.readings import AlertPhase
from wire.vocabulary import Metric

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

MOST_ERROR_MS = 50.0
# A packet says how long beats lasted and not when they were: the driver puts the first ones up to a beat too late.
LONGEST_BEAT_MS = 60_000 / 72
BUSY_S = 0.4
RAISED = ("nibp_systolic_low", AlertPhase.RAISED)


async def by_receipts(stage: BootStage, _deaf: str) -> None:
    """Their own clocks stay in 1970, and the screens say so of the alert that is there. The cloud is busy when links
    come back: the first receipts say the time to within 200 ms, later ones better."""

    def shown() -> list[bool]:
        return [one["alert"]["placed"] for one in httpx.get(f"{stage.url}/api/v1/alerts").json()["alerts"]]

    await until(lambda: shown() == [False])
    stage.slow_ingest(1.0, BUSY_S)
    for box in (AMBULANCE, HOME):
        stage.mend_link(box)
    await until(lambda: stage.count("entry WHERE kind = 'session'") == 2)
    await asyncio.sleep(2 * BUSY_S)  # the receipts that are on their way are in by then
    stage.hurry_ingest()


async def by_the_network(stage: BootStage, deaf: str) -> None:
    """Both clocks are set: the deaf box needs no receipt for its place, the other's batches hold both times by now."""
    for box in (AMBULANCE, HOME):
        stage.set_clock(box)
    await until(lambda: stage.is_placed(deaf))
    await until(lambda: any(one.event == "leads_on" for one in Truth.read(stage.truth / "monitor").events))
    for box in (AMBULANCE, HOME):
        stage.mend_link(box)


@pytest.mark.parametrize(("learn", "deaf"), [(by_receipts, AMBULANCE), (by_the_network, HOME)])
def test_what_was_recorded_in_1970_ends_in_its_place_and_no_row_changes(
    tmp_path: Path, learn: Learn, deaf: str, record_property: pytest.RecordProperty
) -> None:
    played = play(tmp_path, deaf, learn)
    store = played.stage.store_file
    assert not_as_before(played.before, row_versions(store)) == set()
    assert_an_update_is_noticed(played, tmp_path / "updated.sqlite")
    database = Database(store)
    try:
        truths = {AMBULANCE: Truth.read(played.stage.truth / "monitor"), HOME: strap_truth(played, database)}
        assert_once(played, database, truths)
        assert_alert(database, truths[AMBULANCE])
        worst_ms = {
            f"{box} {what}": max(found, key=abs)
            for box, truth in truths.items()
            for what, found in errors_ms(database, played, box, truth, tmp_path / "export").items()
        }
    finally:
        database.close()
    print({what: round(error_ms, 1) for what, error_ms in worst_ms.items()})
    for what, error_ms in worst_ms.items():
        record_property(what, error_ms)
        latest_ms = MOST_ERROR_MS + (LONGEST_BEAT_MS if Metric.RR_INTERVAL in what else 0)
        assert -MOST_ERROR_MS <= error_ms <= latest_ms, (what, worst_ms)


def assert_an_update_is_noticed(played: Played, copy: Path) -> None:
    """The comparison of row versions would see one row of a table marked as placed."""
    with closing(sqlite3.connect(played.stage.store_file)) as stored, closing(sqlite3.connect(copy)) as target:
        stored.backup(target)
    some = {row.table: row for row in played.before if row.table in ("numeric", "waveform", "entry")}
    updated: set[RowKey] = set()
    for row in some.values():
        update_one(copy, row)
        updated.add(row)
        assert not_as_before(played.before, row_versions(copy)) == updated
    assert updated


def assert_once(played: Played, database: Database, truths: dict[str, Truth]) -> None:
    """Every sample and numeric that was sent is stored, once."""
    for box, device, accepted in ((AMBULANCE, MONITOR_ID, played.accepted), (HOME, "strap", {})):
        verdict = judge(database, accepted, {box: truths[box]}, device)
        assert (verdict.lost, verdict.duplicates, verdict.findings) == (0, 0, [])
        assert verdict.truth_numerics > 5
    assert played.simulator_exit == 0
    assert StoreReader(database).counts()["dead_letter"] == 0


def assert_alert(database: Database, truth: Truth) -> None:
    """It rang with a time of 1970, once, and is shown with the time of the measurement."""
    steps = [one.alert for one in account.alert_steps(database) if (one.alert.condition, one.alert.phase) == RAISED]
    assert [alert.time_us < EARLIEST_PLAUSIBLE_US for alert in steps] == [True]
    alerts = StoreReader(database).alerts(cleared_since_us=0, most=10)
    (shown,) = (one for one in alerts if (one.alert.condition, one.alert.phase) == RAISED)
    (measured_us,) = (one.time_us for one in truth.numerics if one.metric == Metric.NIBP_SYSTOLIC)
    assert shown.placed
    assert abs(shown.alert.onset_us - measured_us) <= MOST_ERROR_MS * 1000


def session_of(reader: StoreReader, box: str) -> StoredSession:
    (session,) = (one for one in reader.sessions(most=10) if one.gateway == box)
    assert session.opened_us >= EARLIEST_PLAUSIBLE_US
    return session


def strap_truth(played: Played, database: Database) -> Truth:
    """What the strap said; its last packet may have met a radio that had just gone off."""
    truth = Truth.read(played.stage.truth / HOME)
    packets = [number for number, one in enumerate(truth.numerics) if one.metric == Metric.HEART_RATE]
    said = account.said_numerics(database, HOME, "strap")
    stored = sum(count for one, count in said.items() if one.metric == Metric.HEART_RATE)
    return truth._replace(numerics=truth.numerics[: packets[-1]]) if stored == len(packets) - 1 else truth


def errors_ms(database: Database, played: Played, box: str, truth: Truth, folder: Path) -> dict[str, list[float]]:
    """Place minus truth of everything readers give of a box, by what it is; `clock` is the placement's own part."""
    reader = StoreReader(database)
    session_id = session_of(reader, box).session_id
    shift_us = sa.select(schema.placement.c.shift_us).where(schema.placement.c.boot_id == boot_id(box))
    placed_us = database.read_now(lambda connection: connection.execute(shift_us).scalar_one())
    found = {"clock": [(placed_us + played.stage.offset_us) / 1000]}
    for metric in {one.metric for one in truth.numerics}:
        found[metric] = list(numeric_errors_ms(reader, session_id, metric, truth))
    for name, stream in truth.streams.items():
        blocks = reader.blocks(session_id, name)
        found[name] = [(one.start_us - time_at(stream, one.first_index)) / 1000 for one in blocks]
    if truth.streams:
        found["export"] = [(exported_us(reader, session_id, folder) - truth.streams["ecg"].start_us) / 1000]
    return found


def numeric_errors_ms(reader: StoreReader, session_id: str, metric: str, truth: Truth) -> Iterator[float]:
    """In the order of time the same values as sent, each with how far it lies beside its time."""
    sent = sorted((one.time_us, one.value) for one in truth.numerics if one.metric == metric)
    stored = reader.numerics(session_id, metric=metric, from_us=0, to_us=1 << 60, most=10_000)
    assert [one.value for one in stored] == [value for _time_us, value in sent]
    for one, (time_us, _value) in zip(stored, sent, strict=True):
        yield (one.time_us - time_us) / 1000


def time_at(stream: StreamTruth, index: int) -> int:
    """When a sample was truly taken."""
    return stream.start_us + round((index - stream.first_index) * MICROSECONDS / stream.sample_rate_hz)


def exported_us(reader: StoreReader, session_id: str, folder: Path) -> int:
    """When an exported ECG begins."""
    headers = [path.read_text() for path in export_wfdb(reader, session_id, folder) if "_ecg_" in path.name]
    return min(int(text.split("start_us ")[1].split()[0]) for text in headers)
