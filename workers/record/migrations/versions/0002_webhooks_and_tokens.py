"""Webhooks and tokens"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "payouts", sa.Column("attempts_base", sa.Integer(), server_default="0", nullable=False)
    )
    op.add_column("payouts", sa.Column("doubted_at", sa.DateTime(timezone=True)))
    op.add_column("payouts", sa.Column("key_no", sa.Integer(), server_default="0", nullable=False))
    op.add_column("payouts", sa.Column("repeat_until", sa.DateTime(timezone=True)))
    op.add_column("payouts", sa.Column("shape", sa.Text()))
    op.add_column("payouts", sa.Column("confirmed_id", sa.Text()))
    op.add_column("payouts", sa.Column("woken_at", sa.DateTime(timezone=True)))
    op.drop_index("payouts_batch_state", table_name="payouts")
    op.create_index("payouts_batch_state", "payouts", ["batch_id", "state", "account"])
    op.create_index("payouts_provider_id", "payouts", ["account", "provider_payout_id"])
    op.create_table(
        "webhooks",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("provider_payout_id", sa.Text(), nullable=True),
        sa.Column("reference_id", sa.Text(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("times", sa.Integer(), server_default="1", nullable=False),
        sa.Column("sealed_body", sa.LargeBinary(), nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("pending", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.name"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("webhooks_once", "webhooks", ["account", "key"], unique=True)
    op.create_index(
        "webhooks_pending",
        "webhooks",
        ["received_at"],
        postgresql_where=sa.text("pending"),
        sqlite_where=sa.text("pending"),
    )
    op.create_index(
        "webhooks_old",
        "webhooks",
        ["received_at"],
        postgresql_where=sa.text("NOT pending"),
        sqlite_where=sa.text("NOT pending"),
    )
    op.create_table(
        "tokens",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sealed_token", sa.LargeBinary(), nullable=True),
        sa.Column("usable_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fetching_until", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account"], ["accounts.name"]),
        sa.PrimaryKeyConstraint("account", "name"),
    )
    op.create_index("tokens_old", "tokens", ["usable_until"])
