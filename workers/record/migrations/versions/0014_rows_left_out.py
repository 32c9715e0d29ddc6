"""Nightly settlement: how many rows of a file were left out of its batch"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("schedule_files", sa.Column("left_out", sa.Integer()))
