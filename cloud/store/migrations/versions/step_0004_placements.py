"""When boots of boxes without a clock were, once that is known."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Empty at first: anchors that come from now on place what waits."""
    op.create_table(
        "placement",
        sa.Column("boot_id", sa.LargeBinary(), nullable=False),
        sa.Column("shift_us", sa.BigInteger(), nullable=False),
        sa.Column("uncertainty_us", sa.BigInteger(), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("boot_id"),
    )
