"""The cluster: due work by account and purpose, restored databases, counts of calls"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("installation", sa.Column("identity", sa.Text()))
    op.add_column("installation", sa.Column("swept_at", sa.DateTime(timezone=True)))
    op.add_column("accounts", sa.Column("restored_at", sa.DateTime(timezone=True)))
    op.add_column("accounts", sa.Column("reconciled_at", sa.DateTime(timezone=True)))
    op.drop_index("payouts_due", table_name="payouts")
    op.drop_index("payouts_announced", table_name="payouts")
    for name, columns, where in (
        (
            "payouts_due_send",
            ["account", "due_at", "id", "batch_id"],
            "due_at IS NOT NULL AND state = 'queued'",
        ),
        (
            "payouts_due_ask",
            ["account", "due_at", "id"],
            "due_at IS NOT NULL AND state <> 'queued'",
        ),
        ("payouts_out", ["account", "announced_until"], "announced_until IS NOT NULL"),
        ("payouts_creating", ["claimed_until"], "state = 'creating'"),
        (
            "payouts_open_since",
            ["account", "state", "sent_at", "created_at"],
            "state NOT IN ('draft', 'paid', 'returned', 'failed', 'cancelled')",
        ),
        ("payouts_claimed", ["claimed_until"], "claimed_until IS NOT NULL"),
    ):
        op.create_index(
            name,
            "payouts",
            columns,
            postgresql_where=sa.text(where),
            sqlite_where=sa.text(where),
        )
    op.create_table(
        "calls",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("up_to_ms", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("total_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.name"]),
        sa.PrimaryKeyConstraint("account", "step", "answer", "up_to_ms"),
    )
