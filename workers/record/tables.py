"""The tables of the record: columns, constraints and indexes, the same on SQLite and PostgreSQL.

What must never happen (a second reference id, an unknown state, an amount of nothing) is made
impossible here, not only avoided by the code. `migrations/` brings an older database up to this.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TextClause,
    TypeDecorator,
    text,
)

from workers.record.status import State


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in and out; SQLite, which knows no zones, keeps the UTC wall time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        utc = value.astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002 - the signature is SQLAlchemy's
    ) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite numbers rows by itself only for INTEGER; PostgreSQL needs room for more than two billion.
_Id = BigInteger().with_variant(Integer(), "sqlite")
_STATES = ", ".join(f"'{state}'" for state in State)
DECISIONS = ("draft", "approved", "rejected", "paused", "cancelled")
_DECISIONS = ", ".join(f"'{decision}'" for decision in DECISIONS)

metadata = MetaData()


def _on_sqlite(column: str, refers_to: str) -> ForeignKeyConstraint:
    """A key that SQLite checks, by one look-up. On PostgreSQL it would be a query and a lock for
    each row, for which a million rows wait longer than for all else. There, triggers (revision
    0010) keep what is referred to from being removed, and a payout from being moved elsewhere; a
    new one is only stored together with its batch, and claimed only where both are found.
    """
    return ForeignKeyConstraint([column], [refers_to]).ddl_if(dialect="sqlite")


def _partial(name: str, which: TextClause, *columns: Column[Any], unique: bool = False) -> None:
    """An index of some rows alone: the others cost it nothing."""
    Index(name, *columns, unique=unique, postgresql_where=which, sqlite_where=which)


installation = Table(
    "installation",
    metadata,
    Column("id", Integer, primary_key=True),
    # Which key closed the data: a wrong key is told at once, not payout by payout.
    Column("key_id", Text, nullable=False),
    # The key that a rotation is on its way to: everything new is closed with that one.
    Column("next_key_id", Text),
    # Which database this is: another one with the same rows is a restored copy.
    Column("identity", Text),
    # When a sweep last went all the way through.
    Column("swept_at", UtcDateTime),
)

accounts = Table(
    "accounts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("provider", Text, nullable=False),
    # Why nothing is sent for this account now: fault, balance, outage, person or restore; null: it
    # is open.
    Column("paused_kind", Text),
    Column("paused_reason", Text),
    Column("paused_at", UtcDateTime),
    Column("probe_at", UtcDateTime),
    Column("probes", Integer, nullable=False, server_default="0"),
    # The account's pace: when the calls let through so far are used up, in microseconds since 1970.
    Column("paced_us", BigInteger, nullable=False, server_default="0"),
    # No call before this: the provider's Retry-After.
    Column("blocked_until", UtcDateTime),
    # Counts approvals, so that two of them cannot both have seen the same balance.
    Column("approvals", Integer, nullable=False, server_default="0"),
    # The record was put back to an earlier state then: the provider may have what it does not
    # know, so every first create is preceded by a look-up. Null: not so, or cleared by reconciling.
    Column("restored_at", UtcDateTime),
    # When the account was last compared with the provider's list.
    Column("reconciled_at", UtcDateTime),
)

batches = Table(
    "batches",
    metadata,
    Column("id", Text, primary_key=True),
    Column("file_name", Text, nullable=False),
    # Of the normalised rows; and of the file's bytes with the options it was read with.
    Column("content_hash", Text, nullable=False),
    Column("file_hash", Text, nullable=False),
    # The header of the input, for the file of rows to correct.
    Column("columns", JSON, nullable=False),
    # The input's own names of columns, to ours; NULL: it has ours.
    Column("mapping", JSON),
    Column("rows", Integer, nullable=False),
    Column("decision", Text, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    Column("decided_by", Text),
    Column("decided_at", UtcDateTime),
    Column("note", Text),
    # The batch whose lines these correct or pay again.
    Column("child_of", Text, ForeignKey("batches.id")),
    # When the data of its beneficiaries was removed.
    Column("purged_at", UtcDateTime),
    # The last decision has been carried out on the rows up to this one; null: on all of them.
    Column("carried_to", Integer),
    CheckConstraint(f"decision IN ({_DECISIONS})", name="batches_decision_known"),
    CheckConstraint("rows > 0", name="batches_not_empty"),
)
# The same content is stored once, unless it was turned down before anything was sent.
_partial(
    "batches_content_once",
    text("decision NOT IN ('rejected', 'cancelled')"),
    batches.c.content_hash,
    unique=True,
)

Index("batches_file", batches.c.file_hash)
Index("batches_child_of", batches.c.child_of)
# Few at any time: every sweep looks here for decisions that are still to be carried out.
_CARRYING = text("carried_to IS NOT NULL")
_partial("batches_carrying", _CARRYING, batches.c.id)

# Append-only: what people did with a batch. Who made it and who approved it is decided from here.
batch_events = Table(
    "batch_events",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("batch_id", Text, ForeignKey("batches.id"), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    # stored, allowed (an override), approved, rejected, paused, resumed, cancelled, retried, ...
    Column("action", Text, nullable=False),
    Column("actor", Text, nullable=False),
    # From where: the machine and program, or the address of a browser.
    Column("origin", Text, nullable=False),
    Column("note", Text),
)
Index("batch_events_batch", batch_events.c.batch_id, batch_events.c.id)

payouts = Table(
    "payouts",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("batch_id", Text, nullable=False),
    Column("row", Integer, nullable=False),
    Column("reference_id", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("currency_exponent", Integer, nullable=False),
    Column("state", Text, nullable=False),
    # What was sent: closed by the vault, sealed at approval, and masked for the eye.
    Column("sealed_data", LargeBinary, nullable=False),
    Column("seal", Text),
    Column("beneficiary", Text, nullable=False),
    # Of who is paid how much, by which `fingerprints` has it. Null: the data was removed.
    Column("fingerprint", BigInteger),
    Column("description", Text, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("replaces", Text, nullable=False),
    Column("fee_expected_minor", BigInteger, nullable=False),
    # What the provider says.
    Column("provider_payout_id", Text),
    Column("provider_status", Text),
    Column("failure_code", Text),
    Column("failure_reason", Text),
    Column("fee_minor", BigInteger),
    Column("fee_currency", Text),
    Column("processed_minor", BigInteger),
    Column("processed_currency", Text),
    Column("exchange_rate", Text),
    Column("warning", Text),
    # Times of its life.
    Column("created_at", UtcDateTime, nullable=False),
    Column("sent_at", UtcDateTime),
    Column("last_sent_at", UtcDateTime),
    Column("released_at", UtcDateTime),
    Column("settled_at", UtcDateTime),
    # Counts against limits.
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("attempts_excused", Integer, nullable=False, server_default="0"),
    Column("lookups", Integer, nullable=False, server_default="0"),
    Column("polls", Integer, nullable=False, server_default="0"),
    Column("releases", Integer, nullable=False, server_default="0"),
    Column("refusal_first", Text),
    Column("refusal_last", Text),
    Column("doubt", Text),
    # Creates before a person had it tried anew; when one was first left open; how often it was
    # refused for lack of money, before any doubt.
    Column("attempts_base", Integer, nullable=False, server_default="0"),
    Column("doubted_at", UtcDateTime),
    Column("key_no", Integer, nullable=False, server_default="0"),
    # Where sending again needs the same key: until when. Through whom, in what shape it was sent.
    Column("repeat_until", UtcDateTime),
    Column("shape", Text),
    # The one provider payout id that was told, when asked, to go ahead.
    Column("confirmed_id", Text),
    # Work: who has it and until when, when the next step may run, and whether a message is out.
    Column("claim_no", Integer, nullable=False, server_default="0"),
    # Claims in a row that ended without a word: many of them hold the payout.
    Column("claims_silent", Integer, nullable=False, server_default="0"),
    Column("claimed_until", UtcDateTime),
    Column("due_at", UtcDateTime),
    Column("announced_until", UtcDateTime),
    # When news of the provider last made it due.
    Column("woken_at", UtcDateTime),
    # When its beneficiary's data was removed: what is not null there is then empty.
    Column("purged_at", UtcDateTime),
    CheckConstraint(f"state IN ({_STATES})", name="payouts_state_known"),
    CheckConstraint("amount_minor > 0", name="payouts_amount_positive"),
    CheckConstraint("fee_expected_minor >= 0", name="payouts_fee_not_negative"),
    CheckConstraint("currency_exponent BETWEEN 0 AND 4", name="payouts_exponent_known"),
    CheckConstraint("length(reference_id) > 0", name="payouts_reference_given"),
    _on_sqlite("batch_id", "batches.id"),
    _on_sqlite("account", "accounts.name"),
)
# A reference id is for life; one that was withdrawn before any send never reached the provider.
_REFERENCE_TAKEN = text("state <> 'cancelled' OR attempts > 0")
# For questions, which must say it as the index does to be answered by it.
REFERENCE_TAKEN = text(f"({_REFERENCE_TAKEN})")
_partial(
    "payouts_reference_once",
    _REFERENCE_TAKEN,
    payouts.c.account,
    payouts.c.reference_id,
    unique=True,
)
# A failed payout is paid again once, not twice.
_REPLACES = text("replaces <> '' AND state NOT IN ('failed', 'cancelled')")
_partial("payouts_replaces_once", _REPLACES, payouts.c.account, payouts.c.replaces, unique=True)
# Who pays again for whom: most payouts are nobody's successor.
_SUCCEEDS = text("replaces <> ''")
_partial("payouts_successors", _SUCCEEDS, payouts.c.account, payouts.c.replaces)
_partial("payouts_successors_batch", _SUCCEEDS, payouts.c.batch_id, payouts.c.id)
# What the status of a batch is made from, so that counting a million rows reads an index alone. On
# PostgreSQL it stands beside the row's number, whose entries come in order, and an index by state
# has what is not paid. SQLite has one index for both: first what is grouped by; then the row.
_COUNTED = (
    payouts.c.state,
    payouts.c.account,
    payouts.c.currency,
    payouts.c.currency_exponent,
    payouts.c.fee_currency,
    payouts.c.amount_minor,
    payouts.c.fee_minor,
    payouts.c.sent_at,
    payouts.c.due_at,
)
Index(
    "payouts_batch_row",
    payouts.c.batch_id,
    payouts.c.row,
    unique=True,
    postgresql_include=[column.name for column in _COUNTED],
)
_UNPAID = text("state NOT IN ('draft', 'paid')")
Index(
    "payouts_batch_unpaid",
    payouts.c.batch_id,
    payouts.c.state,
    payouts.c.account,
    postgresql_where=_UNPAID,
).ddl_if(dialect="postgresql")
Index(
    "payouts_batch_state",
    payouts.c.batch_id,
    *_COUNTED[:5],
    payouts.c.row,
    *_COUNTED[5:],
).ddl_if(dialect="sqlite")
_WARNED = text("warning IS NOT NULL")
_partial("payouts_warned", _WARNED, payouts.c.batch_id, payouts.c.row)
# The first that need a person, and why others failed or came back, are found among them alone. An
# index of PostgreSQL takes 2,704 bytes and no more: what is told at greater length has its own. For
# questions too, which must say it as the index does to be answered by it.
HELD = text("state = 'held'")
_partial("payouts_held", HELD, payouts.c.batch_id, payouts.c.row)
_TURNED_DOWN = "state IN ('failed', 'returned')"
_WORDS = "length(coalesce(failure_code, '')) + length(coalesce(failure_reason, ''))"
TOLD_BRIEFLY = text(f"{_TURNED_DOWN} AND {_WORDS} <= 500")
TOLD_AT_LENGTH = text(f"{_TURNED_DOWN} AND {_WORDS} > 500")
_partial(
    "payouts_turned_down",
    TOLD_BRIEFLY,
    payouts.c.batch_id,
    payouts.c.failure_code,
    payouts.c.failure_reason,
    # Without it SQLite reads the table here, and takes another index for the next one.
    payouts.c.state,
)
_partial("payouts_turned_down_at_length", TOLD_AT_LENGTH, payouts.c.batch_id, payouts.c.state)
# What may be sent, and what is to be asked about, each in the order in which it is due.
_TO_SEND = text("due_at IS NOT NULL AND state = 'queued'")
_partial(
    "payouts_due_send",
    _TO_SEND,
    payouts.c.account,
    payouts.c.due_at,
    payouts.c.id,
    # So that what a paused batch has waiting is passed over without reading it.
    payouts.c.batch_id,
)
_TO_ASK = text("due_at IS NOT NULL AND state <> 'queued'")
_partial("payouts_due_ask", _TO_ASK, payouts.c.account, payouts.c.due_at, payouts.c.id)
_OUT = text("announced_until IS NOT NULL")
_partial("payouts_out", _OUT, payouts.c.account, payouts.c.announced_until)
# Few at any time: the sweep looks here for those whose worker is not heard of any more.
_IN_DOUBT = text("state = 'creating'")
_partial("payouts_creating", _IN_DOUBT, payouts.c.claimed_until)
# What is promised per account and currency.
_OPEN = text("state NOT IN ('draft', 'paid', 'returned', 'failed', 'cancelled')")
_partial("payouts_promised", _OPEN, payouts.c.account, payouts.c.currency)
# For monitoring: the oldest of each open state; and claims, of which few are there at any time.
_partial(
    "payouts_open_since",
    _OPEN,
    payouts.c.account,
    payouts.c.state,
    payouts.c.sent_at,
    payouts.c.created_at,
)
_CLAIMED = text("claimed_until IS NOT NULL")
_partial("payouts_claimed", _CLAIMED, payouts.c.claimed_until)
# Who was paid the same before: the payouts that have a fingerprint, in its order.
fingerprints = Table(
    "fingerprints",
    metadata,
    Column("fingerprint", BigInteger, primary_key=True, autoincrement=False),
    Column("batch_id", Text, primary_key=True),
    Column("row", Integer, primary_key=True),
    sqlite_with_rowid=False,
)

payout_events = Table(
    "payout_events",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("payout_id", _Id, ForeignKey("payouts.id"), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("from_state", Text, nullable=False),
    Column("to_state", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("provider_code", Text),
    Column("note", Text),
)
# What one person would have become of a held payout, until another one says the same.
proposals = Table(
    "proposals",
    metadata,
    Column("payout_id", _Id, ForeignKey("payouts.id"), primary_key=True),
    # The event that held it: a proposal counts for no later one.
    Column("held_event", _Id, nullable=False),
    Column("target", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
)
# Where news and questions of providers find their payout.
_AT_PROVIDER = text("provider_payout_id IS NOT NULL")
_partial("payouts_provider_id", _AT_PROVIDER, payouts.c.account, payouts.c.provider_payout_id)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("account", Text, ForeignKey("accounts.name"), nullable=False),
    # The same for a repeated delivery: it is stored once.
    Column("key", Text, nullable=False),
    Column("provider_payout_id", Text),
    Column("reference_id", Text),
    # The provider's word for where the payout stands; null: not known.
    Column("status", Text),
    Column("received_at", UtcDateTime, nullable=False),
    Column("times", Integer, nullable=False, server_default="1"),
    # As it came, closed by the vault: evidence.
    Column("sealed_body", LargeBinary, nullable=False),
    # When it last woke its payout, or was put by; and whether it still has to.
    Column("applied_at", UtcDateTime),
    Column("pending", Boolean, nullable=False),
)
Index("webhooks_once", webhooks.c.account, webhooks.c.key, unique=True)
# For questions too: SQLite, which has no truth values, finds the index by these words alone.
PENDING = text("pending")
_partial("webhooks_pending", PENDING, webhooks.c.received_at)
# Every sweep looks for applied ones that are old: most often there are none.
PUT_BY = text("NOT pending")
_partial("webhooks_old", PUT_BY, webhooks.c.received_at)

tokens = Table(
    "tokens",
    metadata,
    Column("account", Text, ForeignKey("accounts.name"), primary_key=True),
    Column("name", Text, primary_key=True),
    # The token, closed by the vault; null while the first one is being fetched.
    Column("sealed_token", LargeBinary),
    Column("usable_until", UtcDateTime),
    # A worker is fetching a new one until then.
    Column("fetching_until", UtcDateTime),
)
Index("tokens_old", tokens.c.usable_until)

Index("payout_events_payout", payout_events.c.payout_id, payout_events.c.id)

# How the provider's calls went, counted up for ever: one row for each kind of answer and each
# range of times, so that many workers can add to it.
calls = Table(
    "calls",
    metadata,
    Column("account", Text, ForeignKey("accounts.name"), primary_key=True),
    Column("step", Text, primary_key=True),
    # 2xx, 4xx, 429, 5xx, or how no answer came.
    Column("answer", Text, primary_key=True),
    # The upper end of the range of times, in milliseconds; 0: longer than all of them.
    Column("up_to_ms", Integer, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("total_us", BigInteger, nullable=False),
)
