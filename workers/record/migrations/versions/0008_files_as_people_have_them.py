"""Files as people have them: the columns' own names, and quick answers about replacements"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("mapping", sa.JSON()))
    op.create_index(
        "payouts_replaces",
        "payouts",
        ["account", "replaces"],
        postgresql_where=sa.text("replaces <> ''"),
        sqlite_where=sa.text("replaces <> ''"),
    )
