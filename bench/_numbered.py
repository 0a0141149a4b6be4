"""Records that bear their number into the store, and the verdict over them: which came, which came twice.

Independent of the sequence numbers by which spool and store tell records apart: a numeric carries its number as the
device's reported time, a waveform block as its place in its stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench._ambulances import FIRST_INDEX, Template
from cloud.store import account
from cloud.store.database import Database
from cloud.store.reader import StoreReader
from vitalwire.judge import accepted_runs, missing_records
from wire.messages import Lane
from wire.readings import Numeric, WaveformBlock
from wire.vocabulary import Metric

DEVICE = "monitor"
STREAM = "ecg"
# A 12-lead monitor sends two blocks a second beside its numerics; each weighs as much as thirty of those.
BLOCK_EVERY = 20
_METRICS = (
    Metric.HEART_RATE,
    Metric.SPO2,
    Metric.PULSE_RATE,
    Metric.RESPIRATORY_RATE,
    Metric.NIBP_SYSTOLIC,
    Metric.NIBP_DIASTOLIC,
    Metric.TEMPERATURE,
)


class Numbered:
    """Makes record N of a box."""

    def __init__(self) -> None:
        self._template = Template()

    @property
    def sample_count(self) -> int:
        """Samples in a block of each lead."""
        return self._template.sample_count

    def body(self, number: int, time_us: int) -> Numeric | WaveformBlock:
        """The reading that bears this number."""
        if number % BLOCK_EVERY == 0:
            return self._template.block(number * self.sample_count, time_us)
        return Numeric(_METRICS[number % len(_METRICS)], 80.0, time_us, reported_time=str(number))

    @staticmethod
    def lane(number: int) -> Lane:
        """The lane it travels in."""
        return Lane.BULK if number % BLOCK_EVERY == 0 else Lane.ROUTINE

    def stored(self, database: Database, gateway: str, session_id: str) -> Counter[int]:
        """How often each number is in the store."""
        found: Counter[int] = Counter()
        for said, count in account.said_numerics(database, gateway, DEVICE).items():
            if said.reported_time is not None:
                found[int(said.reported_time)] += count
        for block in StoreReader(database).blocks(session_id, STREAM):
            found[(block.first_index - FIRST_INDEX) // self.sample_count] += 1
        return found


@dataclass(frozen=True)
class Delivered:
    """Of the numbers accepted: how many came, how many copies too many, how many never. `ledger_lost` is the judge's
    word on the box's ledger."""

    accepted: int
    delivered: int
    duplicates: int
    lost: int
    ledger_lost: int


def deliveries(store: Path, gateway: str, session_id: str, accepted: Iterable[int], ledger: Path) -> Delivered:
    """The verdict over a store that nobody writes to any more.

    A record may be stored and not be in `accepted`: its box was killed between the commit and the account.
    """
    numbers = set(accepted)
    database = Database(store)
    try:
        stored = Numbered().stored(database, gateway, session_id)
        ledger_lost = missing_records(accepted_runs([ledger]), database)
    finally:
        database.close()
    return Delivered(
        accepted=len(numbers),
        delivered=len(stored),
        duplicates=stored.total() - len(stored),
        lost=len(numbers - stored.keys()),
        ledger_lost=ledger_lost,
    )
