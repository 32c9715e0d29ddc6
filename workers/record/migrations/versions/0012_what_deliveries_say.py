"""Deliveries: the word that each says, so that one which tells nothing new has nobody asked"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("webhooks", sa.Column("status", sa.Text()))
