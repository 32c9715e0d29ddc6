"""Large files: fingerprints alone in their index, and no draft among what is not paid"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

FINGERPRINTED = sa.text("fingerprint <> ''")


def upgrade() -> None:
    op.drop_index("payouts_fingerprint", table_name="payouts")
    op.create_index(
        "payouts_fingerprint",
        "payouts",
        ["fingerprint"],
        postgresql_where=FINGERPRINTED,
        sqlite_where=FINGERPRINTED,
    )
    if op.get_bind().dialect.name != "postgresql":
        return
    op.drop_index("payouts_batch_unpaid", table_name="payouts")
    op.create_index(
        "payouts_batch_unpaid",
        "payouts",
        ["batch_id", "state", "account"],
        postgresql_where=sa.text("state NOT IN ('draft', 'paid')"),
    )
