"""People: what they did with each batch, and batches that correct the lines of others"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Written out: Alembic would copy the whole table on SQLite to add a reference.
    op.execute("ALTER TABLE batches ADD COLUMN child_of TEXT REFERENCES batches (id)")
    op.create_index("batches_child_of", "batches", ["child_of"])
    op.create_table(
        "batch_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("batch_id", sa.Text(), sa.ForeignKey("batches.id"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("note", sa.Text()),
    )
    op.create_index("batch_events_batch", "batch_events", ["batch_id", "id"])
