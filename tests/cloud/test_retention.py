"""Each class of readings is kept as long as the site says, on both databases, and what is removed never comes back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import sqlalchemy as sa

from cloud.api.audit import Audit
from cloud.consumers import boards_consumer
from cloud.counters import Counters
from cloud.retention_config import RetentionConfig
from cloud.retention_keeper import RetentionKeeper
from cloud.store import schema
from cloud.store.append import Appender, Incoming
from cloud.store.database import Database
from cloud.store.location import StoreLocation
from cloud.store.reader import StoreReader
from tests.cloud.api.apps import audited
from tests.cloud.cloud_frames import NOW_US, FakeClock, frame, record
from wire.messages import Lane
from wire.readings import (
    Alert,
    AlertKind,
    AlertPhase,
    Body,
    Numeric,
    Origin,
    Priority,
    SampleBlock,
    SessionEvent,
    SessionKind,
    SessionPhase,
    WaveformBlock,
)
from wire.vocabulary import Metric
from wire.waveform import encode

DAY_US = 86_400_000_000
ORIGINS = (Origin.REAL, Origin.TEST, Origin.DEMO)


@pytest.fixture
def database(location: StoreLocation) -> Iterator[Database]:
    opened = Database(location)
    yield opened
    opened.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def frames_of(origin: Origin, at_us: int, first_seq: int) -> list[bytes]:
    """A session with five values, three blocks, an alert that is over and one that stands."""
    name = f"{origin.name}-{first_seq}"

    def of(body: Body) -> bytes:
        return record(body, session_id=name, origin=origin)

    def step(alert_id: str, phase: AlertPhase) -> bytes:
        kind, priority = AlertKind.PHYSIOLOGICAL, Priority.HIGH
        return of(Alert(f"{alert_id}-{name}", "spo2_low", kind, priority, phase, at_us, at_us))

    def block(first_index: int) -> bytes:
        samples = np.arange(100, dtype=np.int32).reshape(50, 2)
        counts = SampleBlock("ecg", ("I", "II"), samples, 500.0, (0.001,) * 2, (0.0,) * 2, first_index, at_us)
        return of(WaveformBlock("ecg", encode(counts)))

    urgent = [of(SessionEvent(name, SessionKind.MISSION, SessionPhase.OPENED, at_us, "A1"))]
    urgent += [step("over", AlertPhase.RAISED), step("over", AlertPhase.CLEARED)]
    return [
        frame(urgent, first_seq, lane=Lane.URGENT),
        frame([of(Numeric(Metric.HEART_RATE, 60 + n, at_us + n)) for n in range(5)], first_seq),
        frame([block(50 * n) for n in range(3)], first_seq, lane=Lane.BULK),
    ]


async def store(database: Database, clock: FakeClock, frames: list[bytes]) -> dict[str, int]:
    receipts = Appender(database, clock).append([Incoming("vw.1.gw-1.up.x", one) for one in frames])
    await boards_consumer(database, Counters(), lambda session_id: None).catch_up()
    assert len(receipts.receipts) == len(frames)
    return rows(database)


def rows(database: Database) -> dict[str, int]:
    tables = (schema.numeric, schema.waveform, schema.entry, schema.alert)
    return database.read_now(
        lambda connection: {
            table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0 for table in tables
        }
    )


def left(database: Database) -> dict[str, tuple[int, int]]:
    """Values and blocks that a reader still finds, by session."""
    reader = StoreReader(database)
    found = {}
    for session in reader.sessions(most=20):
        values = reader.numerics(session.session_id, metric="", from_us=0, to_us=1 << 60, most=100)
        found[session.session_id] = (len(values), len(list(reader.blocks(session.session_id, "ecg", most=100))))
    return found


async def heard(database: Database, clock: FakeClock) -> None:
    """Somebody's box speaks today, so that the cloud's clock is believed."""
    appender = Appender(database, clock)
    epoch = clock.us.to_bytes(16)
    today = frame(
        [record(Numeric(Metric.HEART_RATE, 60, clock.us), session_id="today", origin=Origin.REAL)], epoch=epoch
    )
    assert appender.append([Incoming("vw.1.gw-2.up.x", today)]).receipts


def keeper(database: Database, clock: FakeClock, config: RetentionConfig) -> RetentionKeeper:
    return RetentionKeeper(database, Audit(database, clock), clock, Counters(), config)


async def test_each_class_goes_by_its_own_age_and_patients_stay(database: Database, clock: FakeClock) -> None:
    frames = [frames_of(origin, NOW_US, 1 + 10 * n) for n, origin in enumerate(ORIGINS)]
    before = await store(database, clock, [one for each in frames for one in each])
    assert before == {"numeric": 15, "waveform": 9, "entry": 9, "alert": 3}
    config = RetentionConfig(demo_days=10, test_days=20)
    assert await keeper(database, clock, config).sweep() == 0
    clock.us += 11 * DAY_US
    young = await store(database, clock, frames_of(Origin.DEMO, clock.us, 51))
    assert young["numeric"] == 20
    assert await keeper(database, clock, config).sweep() == 5 + 3 + 3 + 1
    whole, none = (5, 3), (0, 0)
    assert left(database) == {"REAL-1": whole, "TEST-11": whole, "DEMO-21": none, "DEMO-51": whole}
    clock.us += 11 * DAY_US
    await heard(database, clock)
    await keeper(database, clock, config).sweep()
    # The newest log entry stays whatever its age: its number is never given again.
    assert left(database) == {"REAL-1": whole, "TEST-11": none, "DEMO-21": none, "DEMO-51": none}
    assert rows(database) == {"numeric": 5 + 1, "waveform": 3, "entry": 3 + 1, "alert": 1}
    clock.us += 3000 * DAY_US
    await heard(database, clock)
    assert await keeper(database, clock, config).sweep() == 0
    removed = [(row[1], row[2], row[4]) for row in audited(database)]
    assert removed == [("remove readings", name, "allowed") for name in ("demo", "demo", "test")]


async def test_waveforms_may_go_before_values(database: Database, clock: FakeClock) -> None:
    await store(database, clock, frames_of(Origin.REAL, NOW_US, 1))
    clock.us += 367 * DAY_US
    await heard(database, clock)
    await keeper(database, clock, RetentionConfig(waveform_years=1, reading_years=2)).sweep()
    assert left(database) == {"REAL-1": (5, 0)}


async def test_what_was_removed_and_is_offered_again_is_received_and_stays_away(
    database: Database, clock: FakeClock
) -> None:
    frames = frames_of(Origin.DEMO, NOW_US, 1)
    await store(database, clock, frames)
    clock.us += 31 * DAY_US
    await heard(database, clock)
    await keeper(database, clock, RetentionConfig()).sweep()
    after = rows(database)
    assert await store(database, clock, frames) == after
    # Numbers of the log go on where they were, so that nobody reading after a cursor misses what is new.
    assert (await store(database, clock, frames_of(Origin.DEMO, clock.us, 100)))["alert"] == 1


async def test_a_standing_alert_keeps_its_log(database: Database, clock: FakeClock) -> None:
    frames = frames_of(Origin.DEMO, NOW_US, 1)
    kind, priority = AlertKind.PHYSIOLOGICAL, Priority.HIGH
    stands = Alert("stands", "hr_high", kind, priority, AlertPhase.RAISED, NOW_US, NOW_US)
    frames.append(frame([record(stands, session_id="DEMO-1")], 50, lane=Lane.URGENT))
    await store(database, clock, [*frames, *frames_of(Origin.REAL, NOW_US, 60)])
    clock.us += 31 * DAY_US
    await heard(database, clock)
    await keeper(database, clock, RetentionConfig()).sweep()
    kinds = sa.select(schema.entry.c.kind).where(schema.entry.c.session_id == "DEMO-1")
    assert set(database.read_now(lambda connection: connection.scalars(kinds).all())) == {"alert"}
    names = sa.select(schema.alert.c.alert_id).where(schema.alert.c.session_id == "DEMO-1")
    assert database.read_now(lambda connection: connection.scalars(names).all()) == ["stands"]


async def test_rows_that_were_never_placed_in_time_have_no_age(database: Database, clock: FakeClock) -> None:
    await store(database, clock, frames_of(Origin.DEMO, 5_000_000, 1))
    before = rows(database)
    clock.us += 400 * DAY_US
    await heard(database, clock)
    await keeper(database, clock, RetentionConfig()).sweep()
    assert rows(database)["numeric"] == before["numeric"] + 1 == 6


async def test_a_wrong_clock_makes_nothing_old(database: Database, clock: FakeClock) -> None:
    """The cloud's is doubted when nobody has spoken for days by it, a box's when what it says came just now."""
    config = RetentionConfig(reading_years=3, waveform_years=3)
    await store(database, clock, frames_of(Origin.REAL, NOW_US - 1830 * DAY_US, 1))
    assert await keeper(database, clock, config).sweep() == 0
    clock.us += 100 * 366 * DAY_US
    assert await keeper(database, clock, config).sweep() == 0
    await heard(database, clock)
    assert await keeper(database, clock, config).sweep() > 0
