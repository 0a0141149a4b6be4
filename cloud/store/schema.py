"""The tables of the store. Times are integer µs UTC; a row's time never changes once written.

Readings are keyed by where they came from, (epoch, lane, seq); series and streams carry what repeats in every row.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData()

# SQLite numbers rows by itself only in a column declared INTEGER.
_RowId = BigInteger().with_variant(Integer(), "sqlite")

meta = Table(
    "meta",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

# A process start of a box. An epoch belongs to the gateway that used it first.
epoch = Table(
    "epoch",
    metadata,
    Column("epoch_id", _RowId, primary_key=True),
    Column("epoch", LargeBinary, nullable=False, unique=True),
    Column("gateway", String, nullable=False),
    Column("received_us", BigInteger, nullable=False),
)

# What is stored, as merged runs: the "once" of the promise.
run = Table(
    "run",
    metadata,
    Column("epoch_id", BigInteger, ForeignKey("epoch.epoch_id"), primary_key=True),
    Column("lane", SmallInteger, primary_key=True),
    Column("first_seq", BigInteger, primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Every stretch that arrived, with 4 bytes of digest a record, so that a different record under a used number is seen.
batch = Table(
    "batch",
    metadata,
    Column("position", _RowId, primary_key=True),
    Column("epoch_id", BigInteger, ForeignKey("epoch.epoch_id"), nullable=False),
    Column("lane", SmallInteger, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("digests", LargeBinary, nullable=False),
    Index("batch_by_seq", "epoch_id", "lane", "first_seq"),
)

anchor = Table(
    "anchor",
    metadata,
    Column("boot_id", LargeBinary, primary_key=True),
    Column("mono_us", BigInteger, primary_key=True),
    Column("wall_us", BigInteger, nullable=False),
    Column("uncertainty_us", BigInteger, nullable=False),
    Column("synchronised", SmallInteger, nullable=False),
    sqlite_with_rowid=False,
)


# Rows of this boot that are not placed belong `shift_us` later than they say. Written once, never changed.
placement = Table(
    "placement",
    metadata,
    Column("boot_id", LargeBinary, primary_key=True),
    Column("shift_us", BigInteger, nullable=False),
    Column("uncertainty_us", BigInteger, nullable=False),
    Column("received_us", BigInteger, nullable=False),
)


def _source_columns() -> list[Column[object]]:
    return [
        Column("gateway", String, nullable=False),
        Column("device_id", String, nullable=False),
        Column("session_id", String, nullable=False),
        Column("origin", SmallInteger, nullable=False),
        Column("boot_id", LargeBinary, nullable=False),
    ]


_SOURCE = ("gateway", "device_id", "session_id", "origin", "boot_id")


def _reading_columns() -> list[Column[object]]:
    return [
        Column("epoch_id", BigInteger, nullable=False),
        Column("lane", SmallInteger, nullable=False),
        Column("seq", BigInteger, nullable=False),
        Column("mono_us", BigInteger, nullable=False),
        # 0: the box had no clock when it captured this; shown once its boot has a placement.
        Column("placed", SmallInteger, nullable=False),
        Column("quality", SmallInteger, nullable=False),
        Column("reason", String, nullable=False),
    ]


series = Table(
    "series",
    metadata,
    Column("series_id", _RowId, primary_key=True),
    *_source_columns(),
    Column("metric", String, nullable=False),
    UniqueConstraint(*_SOURCE, "metric"),
    Index("series_by_session", "session_id", "metric"),
)

numeric = Table(
    "numeric",
    metadata,
    Column("series_id", BigInteger, ForeignKey("series.series_id"), primary_key=True),
    Column("time_us", BigInteger, primary_key=True),
    *(column for column in _reading_columns() if column.name not in ("epoch_id", "lane", "seq")),
    Column("epoch_id", BigInteger, primary_key=True),
    Column("lane", SmallInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("value", Float),  # a value that is not a number is kept as missing
    Column("reported_time", String),
    sqlite_with_rowid=False,
)

stream = Table(
    "stream",
    metadata,
    Column("stream_id", _RowId, primary_key=True),
    *_source_columns(),
    Column("stream", String, nullable=False),
    UniqueConstraint(*_SOURCE, "stream"),
    Index("stream_by_session", "session_id", "stream"),
)

waveform = Table(
    "waveform",
    metadata,
    Column("block_id", _RowId, primary_key=True),
    Column("stream_id", BigInteger, ForeignKey("stream.stream_id"), nullable=False),
    Column("first_index", BigInteger, nullable=False),
    Column("sample_count", Integer, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    *_reading_columns(),
    Column("acquisition", LargeBinary),
    Column("data", LargeBinary, nullable=False),
    Index("waveform_by_index", "stream_id", "first_index"),
    Index("waveform_by_time", "start_us"),
)

# Everything else, in the order it was committed: what consumers read after their cursor.
entry = Table(
    "entry",
    metadata,
    Column("position", _RowId, primary_key=True),
    Column("kind", String, nullable=False),
    *_source_columns(),
    Column("time_us", BigInteger, nullable=False),
    Column("placed", SmallInteger, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("epoch_id", BigInteger, nullable=False),
    Column("lane", SmallInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("mono_us", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("entry_by_session", "session_id", "kind", "position"),
)

# Records of a newer box: kept as they came until a version that knows them reads them.
unread = Table(
    "unread",
    metadata,
    Column("unread_id", _RowId, primary_key=True),
    Column("epoch_id", BigInteger, nullable=False),
    Column("lane", SmallInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("why", String, nullable=False),
    Column("record", LargeBinary, nullable=False),
)

# A record under a number that was already used for another one: kept aside, never dropped.
conflict = Table(
    "conflict",
    metadata,
    Column("conflict_id", _RowId, primary_key=True),
    Column("gateway", String, nullable=False),
    Column("epoch", LargeBinary, nullable=False),
    Column("lane", SmallInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("why", String, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("record", LargeBinary, nullable=False),
    UniqueConstraint("gateway", "epoch", "lane", "seq", "digest"),
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("dead_letter_id", _RowId, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("gateway", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("epoch", LargeBinary),
    Column("lane", SmallInteger),
    Column("first_seq", String),  # as text: a number too large to store is one way to be a dead letter
    Column("last_seq", String),
    Column("payload", LargeBinary, nullable=False),
)

cursor = Table(
    "cursor",
    metadata,
    Column("consumer", String, primary_key=True),
    Column("position", BigInteger, nullable=False),
)

session = Table(
    "session",
    metadata,
    Column("session_id", String, primary_key=True),
    Column("gateway", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("label", String, nullable=False),
    Column("origin", SmallInteger, nullable=False),
    Column("token", String, nullable=False),
    Column("opened_us", BigInteger, nullable=False),
    Column("closed_us", BigInteger),
    Column("stored_us", BigInteger, nullable=False),
    Index("session_by_opened", "opened_us"),
)

alert = Table(
    "alert",
    metadata,
    Column("gateway", String, primary_key=True),
    Column("alert_id", String, primary_key=True),
    Column("session_id", String, nullable=False),
    Column("device_id", String, nullable=False),
    Column("origin", SmallInteger, nullable=False),
    Column("phase", String, nullable=False),
    Column("onset_us", BigInteger, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("delayed", SmallInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("alert_by_session", "session_id", "phase"),
)

# A box as its newest stored heartbeat tells it; empty of one until the first is stored.
gateway_board = Table(
    "gateway_board",
    metadata,
    Column("gateway", String, primary_key=True),
    Column("status", LargeBinary),
    Column("boot_id", LargeBinary),
    Column("mono_us", BigInteger),
    Column("time_us", BigInteger),
    Column("received_us", BigInteger),
    Column("session_id", String, nullable=False),
    Column("gaps", BigInteger, nullable=False),
    Column("lost_records", BigInteger, nullable=False),
    Column("last_gap_us", BigInteger, nullable=False),
)

# What boxes were asked to do. A row changes once: when the answer is stored, or expiry comes first.
command = Table(
    "command",
    metadata,
    Column("command_id", String, primary_key=True),
    Column("gateway", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("issued_by", String, nullable=False),
    Column("issued_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("detail", String, nullable=False),
    Column("answered_us", BigInteger),
    Index("command_by_gateway", "gateway", "issued_us"),
    Index("command_by_state", "state", "issued_us"),
)

# One-time codes: the secret is kept as its hash alone. A code is open once, and then used or burnt for good.
enrolment_code = Table(
    "enrolment_code",
    metadata,
    Column("code_id", String, primary_key=True),
    Column("gateway", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("minted_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("tries", SmallInteger, nullable=False),
    Column("state", String, nullable=False),
)

# Every certificate a box was given; only the valid ones are users of the broker.
certificate = Table(
    "certificate",
    metadata,
    Column("serial", String, primary_key=True),
    Column("gateway", String, nullable=False),
    Column("pem", String, nullable=False),
    Column("issued_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Index("certificate_by_gateway", "gateway", "state"),
)

# A chain (store/audit/): `audit_id` counts without holes, `hash` covers the row and `previous`, the hash of the one
# before. Triggers of migration 0005 refuse every change, and every removal but retention's.
audit = Table(
    "audit",
    metadata,
    Column("audit_id", _RowId, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("principal", String, nullable=False),
    Column("role", String, nullable=False),
    Column("action", String, nullable=False),
    Column("object", String, nullable=False),
    Column("source", String, nullable=False),
    Column("result", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("previous", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)
