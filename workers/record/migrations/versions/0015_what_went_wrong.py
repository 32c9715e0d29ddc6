"""The status of a batch: indexes of the payouts that failed or came back, and of those held"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TURNED_DOWN = "state IN ('failed', 'returned')"
WORDS = "length(coalesce(failure_code, '')) + length(coalesce(failure_reason, ''))"
INDEXES = {
    "payouts_held": (["batch_id", "row"], "state = 'held'"),
    "payouts_turned_down": (
        ["batch_id", "failure_code", "failure_reason", "state"],
        f"{TURNED_DOWN} AND {WORDS} <= 500",
    ),
    "payouts_turned_down_at_length": (["batch_id", "state"], f"{TURNED_DOWN} AND {WORDS} > 500"),
}


def upgrade() -> None:
    for name, (columns, which) in INDEXES.items():
        where = sa.text(which)
        op.create_index(name, "payouts", columns, postgresql_where=where, sqlite_where=where)
