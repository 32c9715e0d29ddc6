"""The tables of nightly settlement: schedules, their runs, and what became of each file.

Part of the same metadata as `tables`; a module of its own because only settlement writes to them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    Table,
    Text,
    text,
)

from workers.record.tables import UtcDateTime, metadata

__all__ = [
    "FATES",
    "PLACES",
    "RUN_OUTCOMES",
    "metadata",
    "schedule_files",
    "schedule_runs",
    "schedules",
]

# Which worker has a schedule, and until when.
schedules = Table(
    "schedules",
    metadata,
    Column("name", Text, primary_key=True),
    # Runs that were due before are nobody's.
    Column("known_since", UtcDateTime, nullable=False),
    Column("claim_no", Integer, nullable=False, server_default="0"),
    Column("claimed_until", UtcDateTime),
)

# A run belongs to one business date, and the key says that there is one.
RUN_OUTCOMES = ("open", "finished", "missed", "failed")
_RUN_OUTCOMES = ", ".join(f"'{outcome}'" for outcome in RUN_OUTCOMES)
schedule_runs = Table(
    "schedule_runs",
    metadata,
    Column("schedule", Text, ForeignKey("schedules.name"), primary_key=True),
    Column("business_date", Date, primary_key=True),
    # As the settings had it when the run was due.
    Column("due_at", UtcDateTime, nullable=False),
    Column("takes_until", UtcDateTime, nullable=False),
    Column("watched_until", UtcDateTime, nullable=False),
    Column("outcome", Text, nullable=False),
    # It was begun too late, and takes what was there in time all the same.
    Column("caught_up", Boolean, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    # When its inbox was last gone through to the end.
    Column("looked_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    # What keeps it from going on; or why it failed or was missed.
    Column("problem", Text),
    # When all of its payouts were final for the first time: paid ones are still watched.
    Column("settled_at", UtcDateTime),
    # Of its reports: what the last ones told, when they were written, whether anything may change.
    Column("report_digest", Text),
    Column("reported_at", UtcDateTime),
    Column("report_final", Boolean, nullable=False),
    CheckConstraint(f"outcome IN ({_RUN_OUTCOMES})", name="schedule_runs_outcome_known"),
)
_UNREPORTED = text("NOT report_final")
Index(
    "schedule_runs_unreported",
    schedule_runs.c.schedule,
    postgresql_where=_UNREPORTED,
    sqlite_where=_UNREPORTED,
)

# taken: being checked; storing: its batch may be there already; waiting: stored, not approved;
# approved; the others were not stored, or were turned down.
FATES = ("taken", "storing", "waiting", "approved", "refused", "delivered_twice", "rejected")
PLACES = ("inbox", "done", "refused", "waiting", "gone")
_FATES = ", ".join(f"'{fate}'" for fate in FATES)
_PLACES = ", ".join(f"'{place}'" for place in PLACES)
schedule_files = Table(
    "schedule_files",
    metadata,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("schedule", Text, nullable=False),
    Column("business_date", Date, nullable=False),
    Column("name", Text, nullable=False),
    # Of its bytes; and what the inbox told of it then, so that another file of that name is seen.
    Column("content_hash", Text, nullable=False),
    Column("stamp", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("taken_at", UtcDateTime, nullable=False),
    Column("fate", Text, nullable=False),
    # In words for a person; and what a stored batch waits for: its turn, money, or a person.
    Column("reason", Text),
    Column("waits_for", Text),
    # The hash of the rows that are being stored: by it the batch is found again after a crash.
    Column("plan_hash", Text),
    Column("batch_id", Text, ForeignKey("batches.id"), unique=True),
    # The batch that has the same content already.
    Column("twin_of", Text, ForeignKey("batches.id")),
    # Where it lies: moved, or still to be moved to where its fate belongs.
    Column("place", Text, nullable=False),
    # Rows with faults that are not in its batch, noted before that is stored; NULL: nobody has
    # come so far, or it was stored before revision 0014.
    Column("left_out", Integer),
    ForeignKeyConstraint(
        ["schedule", "business_date"], ["schedule_runs.schedule", "schedule_runs.business_date"]
    ),
    CheckConstraint(f"fate IN ({_FATES})", name="schedule_files_fate_known"),
    CheckConstraint(f"place IN ({_PLACES})", name="schedule_files_place_known"),
)
Index("schedule_files_run", schedule_files.c.schedule, schedule_files.c.business_date)
Index("schedule_files_content", schedule_files.c.content_hash)
# One file of a name can lie in an inbox.
_IN_INBOX = text("place = 'inbox'")
Index(
    "schedule_files_inbox",
    schedule_files.c.schedule,
    schedule_files.c.name,
    unique=True,
    postgresql_where=_IN_INBOX,
    sqlite_where=_IN_INBOX,
)
_WAITING = text("fate = 'waiting'")
Index(
    "schedule_files_waiting",
    schedule_files.c.schedule,
    postgresql_where=_WAITING,
    sqlite_where=_WAITING,
)
