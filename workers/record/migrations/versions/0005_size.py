"""Size: what the status of a batch is counted from in one index, and fewer entries a new row"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("payouts_batch_state", table_name="payouts")
    op.create_index(
        "payouts_batch_state",
        "payouts",
        [
            *("batch_id", "state", "account", "currency", "currency_exponent", "fee_currency"),
            *("row", "amount_minor", "fee_minor", "sent_at", "due_at"),
        ],
    )
    told = sa.text("warning IS NOT NULL")
    op.create_index(
        "payouts_warned",
        "payouts",
        ["batch_id", "row"],
        postgresql_where=told,
        sqlite_where=told,
    )
    known = sa.text("provider_payout_id IS NOT NULL")
    op.drop_index("payouts_provider_id", table_name="payouts")
    op.create_index(
        "payouts_provider_id",
        "payouts",
        ["account", "provider_payout_id"],
        postgresql_where=known,
        sqlite_where=known,
    )
    if op.get_bind().dialect.name == "postgresql":
        # An index answers by itself only for pages that were vacuumed since they were written. By
        # default that waits until a fifth of the whole table has changed.
        op.execute(
            "ALTER TABLE payouts SET (autovacuum_vacuum_scale_factor = 0.02,"
            " autovacuum_vacuum_insert_scale_factor = 0.02)"
        )
