"""The first tables"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("paused_kind", sa.Text(), nullable=True),
        sa.Column("paused_reason", sa.Text(), nullable=True),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("probe_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("probes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("paced_us", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("blocked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("approvals", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("file_hash", sa.Text(), nullable=False),
        sa.Column("columns", sa.JSON(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "decision IN ('draft', 'approved', 'rejected', 'paused', 'cancelled')",
            name="batches_decision_known",
        ),
        sa.CheckConstraint("rows > 0", name="batches_not_empty"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "batches_content_once",
        "batches",
        ["content_hash"],
        unique=True,
        postgresql_where=sa.text("decision NOT IN ('rejected', 'cancelled')"),
        sqlite_where=sa.text("decision NOT IN ('rejected', 'cancelled')"),
    )
    op.create_index("batches_file", "batches", ["file_hash"], unique=False)
    op.create_table(
        "installation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "payouts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("reference_id", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("currency_exponent", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("sealed_data", sa.LargeBinary(), nullable=False),
        sa.Column("seal", sa.Text(), nullable=True),
        sa.Column("beneficiary", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("replaces", sa.Text(), nullable=False),
        sa.Column("fee_expected_minor", sa.BigInteger(), nullable=False),
        sa.Column("provider_payout_id", sa.Text(), nullable=True),
        sa.Column("provider_status", sa.Text(), nullable=True),
        sa.Column("failure_code", sa.Text(), nullable=True),
        sa.Column("failure_reason", sa.Text(), nullable=True),
        sa.Column("fee_minor", sa.BigInteger(), nullable=True),
        sa.Column("fee_currency", sa.Text(), nullable=True),
        sa.Column("processed_minor", sa.BigInteger(), nullable=True),
        sa.Column("processed_currency", sa.Text(), nullable=True),
        sa.Column("exchange_rate", sa.Text(), nullable=True),
        sa.Column("warning", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts_excused", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lookups", sa.Integer(), server_default="0", nullable=False),
        sa.Column("polls", sa.Integer(), server_default="0", nullable=False),
        sa.Column("releases", sa.Integer(), server_default="0", nullable=False),
        sa.Column("refusal_first", sa.Text(), nullable=True),
        sa.Column("refusal_last", sa.Text(), nullable=True),
        sa.Column("doubt", sa.Text(), nullable=True),
        sa.Column("claim_no", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claims_silent", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("announced_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('draft', 'queued', 'creating', "
            "'unknown', 'created', 'processing', 'paid', 'returned', "
            "'failed', 'cancelled', 'held')",
            name="payouts_state_known",
        ),
        sa.CheckConstraint("amount_minor > 0", name="payouts_amount_positive"),
        sa.CheckConstraint("currency_exponent BETWEEN 0 AND 4", name="payouts_exponent_known"),
        sa.CheckConstraint("fee_expected_minor >= 0", name="payouts_fee_not_negative"),
        sa.CheckConstraint("length(reference_id) > 0", name="payouts_reference_given"),
        sa.ForeignKeyConstraint(
            ["account"],
            ["accounts.name"],
        ),
        sa.ForeignKeyConstraint(
            ["batch_id"],
            ["batches.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "payouts_announced",
        "payouts",
        ["announced_until"],
        unique=False,
        postgresql_where=sa.text("announced_until IS NOT NULL"),
        sqlite_where=sa.text("announced_until IS NOT NULL"),
    )
    op.create_index("payouts_batch_row", "payouts", ["batch_id", "row"], unique=True)
    op.create_index("payouts_batch_state", "payouts", ["batch_id", "state"], unique=False)
    op.create_index(
        "payouts_due",
        "payouts",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
        sqlite_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("payouts_fingerprint", "payouts", ["fingerprint", "created_at"], unique=False)
    op.create_index(
        "payouts_promised",
        "payouts",
        ["account", "currency"],
        unique=False,
        postgresql_where=sa.text(
            "state NOT IN ('draft', 'paid', 'returned', 'failed', 'cancelled')"
        ),
        sqlite_where=sa.text("state NOT IN ('draft', 'paid', 'returned', 'failed', 'cancelled')"),
    )
    op.create_index(
        "payouts_reference_once",
        "payouts",
        ["account", "reference_id"],
        unique=True,
        postgresql_where=sa.text("state <> 'cancelled' OR attempts > 0"),
        sqlite_where=sa.text("state <> 'cancelled' OR attempts > 0"),
    )
    op.create_index(
        "payouts_replaces_once",
        "payouts",
        ["account", "replaces"],
        unique=True,
        postgresql_where=sa.text("replaces <> '' AND state NOT IN ('failed', 'cancelled')"),
        sqlite_where=sa.text("replaces <> '' AND state NOT IN ('failed', 'cancelled')"),
    )
    op.create_table(
        "payout_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "payout_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("from_state", sa.Text(), nullable=False),
        sa.Column("to_state", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("provider_code", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["payout_id"],
            ["payouts.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("payout_events_payout", "payout_events", ["payout_id", "id"], unique=False)
