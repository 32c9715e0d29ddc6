"""Large files: fingerprints in an index by hash on PostgreSQL"""

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
        postgresql_using="hash",
        postgresql_where=FINGERPRINTED,
        sqlite_where=FINGERPRINTED,
    )
