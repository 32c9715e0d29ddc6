"""Nightly settlement: schedules, their runs, and what became of each file"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("known_since", _TIME, nullable=False),
        sa.Column("claim_no", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("claimed_until", _TIME),
    )
    op.create_table(
        "schedule_runs",
        sa.Column("schedule", sa.Text(), sa.ForeignKey("schedules.name"), primary_key=True),
        sa.Column("business_date", sa.Date(), primary_key=True),
        sa.Column("due_at", _TIME, nullable=False),
        sa.Column("takes_until", _TIME, nullable=False),
        sa.Column("watched_until", _TIME, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("caught_up", sa.Boolean(), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("looked_at", _TIME),
        sa.Column("finished_at", _TIME),
        sa.Column("problem", sa.Text()),
        sa.Column("settled_at", _TIME),
        sa.Column("report_digest", sa.Text()),
        sa.Column("reported_at", _TIME),
        sa.Column("report_final", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('open', 'finished', 'missed', 'failed')",
            name="schedule_runs_outcome_known",
        ),
    )
    _index("schedule_runs_unreported", "schedule_runs", ["schedule"], "NOT report_final")
    op.create_table(
        "schedule_files",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("business_date", sa.Date(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("stamp", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("taken_at", _TIME, nullable=False),
        sa.Column("fate", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("waits_for", sa.Text()),
        sa.Column("plan_hash", sa.Text()),
        sa.Column("batch_id", sa.Text(), sa.ForeignKey("batches.id"), unique=True),
        sa.Column("twin_of", sa.Text(), sa.ForeignKey("batches.id")),
        sa.Column("place", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["schedule", "business_date"],
            ["schedule_runs.schedule", "schedule_runs.business_date"],
        ),
        sa.CheckConstraint(
            "fate IN ('taken', 'storing', 'waiting', 'approved', 'refused', 'delivered_twice',"
            " 'rejected')",
            name="schedule_files_fate_known",
        ),
        sa.CheckConstraint(
            "place IN ('inbox', 'done', 'refused', 'waiting', 'gone')",
            name="schedule_files_place_known",
        ),
    )
    op.create_index("schedule_files_run", "schedule_files", ["schedule", "business_date"])
    op.create_index("schedule_files_content", "schedule_files", ["content_hash"])
    inbox = "place = 'inbox'"
    _index("schedule_files_inbox", "schedule_files", ["schedule", "name"], inbox, unique=True)
    _index("schedule_files_waiting", "schedule_files", ["schedule"], "fate = 'waiting'")


def _index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    op.create_index(
        name,
        table,
        columns,
        unique=unique,
        postgresql_where=sa.text(where),
        sqlite_where=sa.text(where),
    )
