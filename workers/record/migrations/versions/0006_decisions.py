"""Decisions: carried out row by row, proposed by one person and confirmed by another"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_SUCCEEDS = sa.text("replaces <> ''")
_CARRYING = sa.text("carried_to IS NOT NULL")


def upgrade() -> None:
    op.add_column("batches", sa.Column("carried_to", sa.Integer()))
    _index("batches_carrying", "batches", ["id"], _CARRYING)
    _index("payouts_successors", "payouts", ["account", "replaces"], _SUCCEEDS)
    _index("payouts_successors_batch", "payouts", ["batch_id", "id"], _SUCCEEDS)
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "proposals",
        sa.Column("payout_id", number, sa.ForeignKey("payouts.id"), primary_key=True),
        sa.Column("held_event", number, nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
    )
    # The history of batches that are older than it: who made each, and who decided.
    for action, at, actor, known in (
        ("'stored'", "made_at", "made_by", "made_by IS NOT NULL"),
        ("decision", "decided_at", "decided_by", "decision IN ('approved', 'rejected')"),
    ):
        op.execute(
            "INSERT INTO batch_events (batch_id, at, action, actor, origin)"  # noqa: S608 - ours
            f" SELECT id, {at}, {action}, {actor}, 'before the history began' FROM batches"
            f" WHERE {known} AND {at} IS NOT NULL AND {actor} IS NOT NULL AND NOT EXISTS"
            f" (SELECT 1 FROM batch_events e WHERE e.batch_id = batches.id"
            f" AND e.action = {action})"
        )


def _index(name: str, table: str, columns: list[str], where: sa.TextClause) -> None:
    op.create_index(name, table, columns, postgresql_where=where, sqlite_where=where)
