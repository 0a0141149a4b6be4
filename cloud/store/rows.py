"""The rows of one group commit: collected while batches are read, then written table by table."""

from __future__ import annotations

from cloud.store.engine import Insert, Writer
from wire.clock import ClockAnchor
from wire.messages import Lane

LANE_NUMBER = {Lane.URGENT: 0, Lane.ROUTINE: 1, Lane.BULK: 2}
LANES = {number: lane for lane, number in LANE_NUMBER.items()}

NumericRow = tuple[int, int, int, int, int, str, int, int, int, float | None, str | None]
WaveformRow = tuple[int, int, int, int, int, int, int, int, int, int, str, bytes | None, bytes]
EntryRow = tuple[str, str, str, str, int, bytes, int, int, int, int, int, int, int, bytes]
BatchRow = tuple[int, int, int, int, int, bytes]
UnreadRow = tuple[int, int, int, int, str, bytes]
ConflictRow = tuple[str, bytes, int, int, bytes, str, int, bytes]
DeadLetterRow = tuple[bytes, str, str, str, int, bytes | None, int | None, str | None, str | None, bytes]

_NUMERIC = Insert(
    "numeric",
    (
        "series_id",
        "time_us",
        "mono_us",
        "placed",
        "quality",
        "reason",
        "epoch_id",
        "lane",
        "seq",
        "value",
        "reported_time",
    ),
)
_WAVEFORM = Insert(
    "waveform",
    (
        "stream_id",
        "first_index",
        "sample_count",
        "start_us",
        "epoch_id",
        "lane",
        "seq",
        "mono_us",
        "placed",
        "quality",
        "reason",
        "acquisition",
        "data",
    ),
)
_ENTRY = Insert(
    "entry",
    (
        "kind",
        "gateway",
        "device_id",
        "session_id",
        "origin",
        "boot_id",
        "time_us",
        "placed",
        "received_us",
        "epoch_id",
        "lane",
        "seq",
        "mono_us",
        "body",
    ),
)
_UNREAD = Insert("unread", ("epoch_id", "lane", "seq", "received_us", "why", "record"))
_BATCH = Insert("batch", ("epoch_id", "lane", "first_seq", "last_seq", "received_us", "digests"))
_CONFLICT = Insert(
    "conflict", ("gateway", "epoch", "lane", "seq", "digest", "why", "received_us", "record"), is_once=True
)
_DEAD_LETTER = Insert(
    "dead_letter",
    ("digest", "gateway", "subject", "reason", "received_us", "epoch", "lane", "first_seq", "last_seq", "payload"),
    is_once=True,
)
_ANCHOR = Insert("anchor", ("boot_id", "mono_us", "wall_us", "uncertainty_us", "synchronised"), is_once=True)


class Rows:
    """Rows waiting for the end of the transaction."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.numeric: list[NumericRow] = []
        self.waveform: list[WaveformRow] = []
        self.entry: list[EntryRow] = []
        self.unread: list[UnreadRow] = []
        self.batch: list[BatchRow] = []
        self.conflict: list[ConflictRow] = []
        self.dead_letter: list[DeadLetterRow] = []
        self.anchor: dict[tuple[bytes, int], ClockAnchor] = {}
        self.counts: dict[str, int] = {}

    def count(self, name: str, count: int = 1) -> None:
        """Adds to a counter that is reported only if the transaction commits."""
        self.counts[name] = self.counts.get(name, 0) + count

    def flush_batches(self) -> None:
        """Writes the batch log so far, for a batch that overlaps an earlier one of the same group."""
        if self.batch:
            self.writer.insert(_BATCH, self.batch)
            self.batch.clear()

    def flush_anchors(self) -> None:
        """Writes the clock anchors so far, for a record that has to be placed by one."""
        values = [
            (anchor.boot_id, anchor.mono_us, anchor.wall_us, anchor.uncertainty_us, int(anchor.synchronised))
            for anchor in self.anchor.values()
        ]
        self.anchor.clear()
        if values:
            self.writer.insert(_ANCHOR, values)

    def flush(self) -> None:
        """Writes everything."""
        self.flush_anchors()
        self.flush_batches()
        for into, rows in (
            (_NUMERIC, self.numeric),
            (_WAVEFORM, self.waveform),
            (_ENTRY, self.entry),
            (_UNREAD, self.unread),
            (_CONFLICT, self.conflict),
            (_DEAD_LETTER, self.dead_letter),
        ):
            if rows:
                self.count(f"{into.table}_rows_stored", self.writer.insert(into, rows))
