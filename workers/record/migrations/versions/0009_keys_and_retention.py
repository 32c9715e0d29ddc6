"""Data protection: the key that a rotation is on its way to, and what was purged when"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("installation", sa.Column("next_key_id", sa.Text()))
    op.add_column("batches", sa.Column("purged_at", sa.DateTime(timezone=True)))
    op.add_column("payouts", sa.Column("purged_at", sa.DateTime(timezone=True)))
