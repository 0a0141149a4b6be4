"""The audit trail becomes a chain that the database itself lets nobody change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from alembic import op

from wire.clock import SystemClock

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TEXTS = ("principal", "role", "action", "object", "source", "result", "reason")
_ROWS_AT_ONCE = 5_000

# A row is added behind the last one only. It also keeps INSERT OR REPLACE, which fires no other trigger, from changing.
_SQLITE = (
    """
    CREATE TRIGGER audit_added BEFORE INSERT ON audit
    WHEN NEW.audit_id IS NOT (SELECT coalesce(max(audit_id), 0) + 1 FROM audit)
        OR NEW.previous IS NOT coalesce((SELECT hash FROM audit ORDER BY audit_id DESC LIMIT 1), zeroblob(32))
    BEGIN SELECT RAISE(ABORT, 'audit rows are only added, each behind the last one'); END
    """,
    """
    CREATE TRIGGER audit_changed BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END
    """,
    # What the newest row itself says was removed, and only if 184 days old: that is retention, and nothing else is.
    """
    CREATE TRIGGER audit_removed BEFORE DELETE ON audit
    WHEN NOT EXISTS (
        SELECT 1 FROM (SELECT * FROM audit ORDER BY audit_id DESC LIMIT 1) AS newest
        WHERE newest.role = 'store' AND newest.action = 'remove audit rows'
            AND CAST(newest.object AS INTEGER) >= OLD.audit_id AND newest.at_us - OLD.at_us > 15897600000000
    )
    BEGIN SELECT RAISE(ABORT, 'audit rows are removed only by retention'); END
    """,
)
_POSTGRESQL = (
    """
    CREATE FUNCTION audit_guard() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE newest audit;
    BEGIN
        IF TG_OP IN ('UPDATE', 'TRUNCATE') THEN
            RAISE EXCEPTION 'audit rows are never changed' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        SELECT * INTO newest FROM audit ORDER BY audit_id DESC LIMIT 1;
        IF TG_OP = 'INSERT' THEN
            IF NEW.audit_id <> coalesce(newest.audit_id, 0) + 1
                OR NEW.previous <> coalesce(newest.hash, decode(repeat('00', 32), 'hex')) THEN
                RAISE EXCEPTION 'audit rows are only added, each behind the last one'
                    USING ERRCODE = 'integrity_constraint_violation';
            END IF;
            RETURN NEW;
        END IF;
        IF newest.role = 'store' AND newest.action = 'remove audit rows'
            AND split_part(newest.object, ' ', 1) ~ '^[0-9]{1,18}$' THEN
            IF CAST(split_part(newest.object, ' ', 1) AS bigint) >= OLD.audit_id
                AND newest.at_us - OLD.at_us > 15897600000000 THEN
                RETURN OLD;
            END IF;
        END IF;
        RAISE EXCEPTION 'audit rows are removed only by retention'
            USING ERRCODE = 'integrity_constraint_violation';
    END $$
    """,
    """
    CREATE TRIGGER audit_guard BEFORE INSERT OR UPDATE OR DELETE ON audit
        FOR EACH ROW EXECUTE FUNCTION audit_guard()
    """,
    """
    CREATE TRIGGER audit_guard_all BEFORE TRUNCATE ON audit
        FOR EACH STATEMENT EXECUTE FUNCTION audit_guard()
    """,
)


def upgrade() -> None:
    """Chains what is there as it is, numbered anew from 1 without holes, and says in a row of its own that it did."""
    op.rename_table("audit", "audit_unchained")
    op.create_table(
        "audit",
        sa.Column(
            "audit_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in _TEXTS),
        sa.Column("previous", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
    )
    _chain(op.get_bind())
    op.drop_table("audit_unchained")
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in _SQLITE if is_sqlite else _POSTGRESQL:
        op.get_bind().exec_driver_sql(statement)


def _chain(connection: sa.Connection) -> None:
    """Copies in pieces: half a year of a large site's rows need not fit into memory."""
    audit = sa.table("audit", *map(sa.column, ("audit_id", "at_us", *_TEXTS, "previous", "hash")))
    number, previous = 0, bytes(32)
    for part in _unchained(connection):
        linked = []
        for values in part:
            number += 1
            digest = _digest(number, values, previous)
            linked.append(dict(zip(audit.c.keys(), (number, *values, previous, digest), strict=True)))
            previous = digest
        connection.execute(audit.insert(), linked)


def _unchained(connection: sa.Connection) -> Iterator[Sequence[tuple[int | str, ...]]]:
    names = ("audit_id", "at_us", *_TEXTS[:-1])
    old = sa.table("audit_unchained", *map(sa.column, names))
    after = count = 0
    query = sa.select(*(old.c[name] for name in names)).order_by(old.c.audit_id).limit(_ROWS_AT_ONCE)
    while part := connection.execute(query.where(old.c.audit_id > after)).all():
        yield [(*row[1:], "") for row in part]
        after, count = part[-1][0], count + len(part)
    if count:
        what = ("vitalwire", "store", "begin audit chain", f"1-{count}", "", "done", "older rows, chained as they were")
        yield [(SystemClock().now_us(), *what)]


def _digest(number: int, values: tuple[int | str, ...], previous: bytes) -> bytes:
    """As cloud.store.audit.chain at this step: a step never changes with the code."""
    parts = [
        b"vitalwire audit 1\n",
        previous,
        number.to_bytes(8, "big"),
        int(values[0]).to_bytes(8, "big", signed=True),
    ]
    for text in values[1:]:
        encoded = str(text).encode()
        parts += len(encoded).to_bytes(4, "big"), encoded
    return hashlib.sha256(b"".join(parts)).digest()
