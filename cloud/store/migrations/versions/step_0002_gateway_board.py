"""The newest stored heartbeat of each box, and the gaps it named."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Empty at first: its consumer reads the log from the start."""
    op.create_table(
        "gateway_board",
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("status", sa.LargeBinary(), nullable=True),
        sa.Column("boot_id", sa.LargeBinary(), nullable=True),
        sa.Column("mono_us", sa.BigInteger(), nullable=True),
        sa.Column("time_us", sa.BigInteger(), nullable=True),
        sa.Column("received_us", sa.BigInteger(), nullable=True),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("gaps", sa.BigInteger(), nullable=False),
        sa.Column("lost_records", sa.BigInteger(), nullable=False),
        sa.Column("last_gap_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("gateway"),
    )
