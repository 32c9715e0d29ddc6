"""Schedules' runs and files as the record keeps them: one run for each business date, one worker
for each schedule, one row for each file.

What was done with a file is noted before and after each step, so that whoever carries on knows what
may have happened. No file and no provider is touched here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, case, func, insert, literal, or_, select, update
from sqlalchemy.exc import IntegrityError

from workers.calendars import Occasion
from workers.errors import StaleState
from workers.record.database import Database
from workers.record.schedule_tables import schedule_files, schedule_runs, schedules
from workers.record.tables import UtcDateTime, batches

# A schedule that is met for the first time so soon after its time is not late.
FIRST_LOOK_S = 3_600
# Turned down before anything was sent: the same content may come again.
_TURNED_DOWN = ("rejected", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One business date of a schedule."""

    schedule: str
    business_date: date
    due_at: datetime
    takes_until: datetime
    watched_until: datetime
    # open, finished, missed or failed.
    outcome: str
    caught_up: bool
    started_at: datetime
    looked_at: datetime | None
    finished_at: datetime | None
    problem: str | None
    settled_at: datetime | None
    report_digest: str | None
    reported_at: datetime | None
    report_final: bool

    def takes(self, now: datetime) -> bool:
        """Whether files are still taken and paid on this date."""
        return self.outcome == "open" and (self.caught_up or now <= self.takes_until)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of an inbox, and what became of it."""

    id: int
    schedule: str
    business_date: date
    name: str
    content_hash: str
    stamp: str
    bytes: int
    taken_at: datetime
    fate: str
    reason: str | None
    waits_for: str | None
    plan_hash: str | None
    batch_id: str | None
    twin_of: str | None
    place: str
    # Of what is stored, or was about to be; None: nobody noted it.
    left_out: int | None

    @property
    def rows_left_out(self) -> int:
        """The rows with faults that the file's batch does not have."""
        return (self.left_out or 0) if self.batch_id else 0


class RunBook:
    """The tables of nightly settlement."""

    def __init__(self, database: Database) -> None:
        self.database = database
        # The claim under which this worker writes; None: it has none.
        self._claim_no: int | None = None

    # --- schedules ---

    def known_since(self, schedule: str, now: datetime) -> datetime:
        """Since when the schedule's runs are somebody's: noted when it is first asked for."""
        known = self.first_known(schedule)
        if known is None:
            since = now - timedelta(seconds=FIRST_LOOK_S)
            try:
                with self.database.write() as connection:
                    connection.execute(insert(schedules).values(name=schedule, known_since=since))
            except IntegrityError:
                return self.known_since(schedule, now)
            return since
        return known

    def first_known(self, schedule: str) -> datetime | None:
        """Since when its runs are somebody's; None: nobody has asked yet."""
        with self.database.read() as connection:
            which = schedules.c.name == schedule
            return connection.execute(
                select(schedules.c.known_since).where(which)
            ).scalar_one_or_none()

    def claim(self, schedule: str, now: datetime, *, claim_s: int) -> bool:
        """Take a schedule for this worker, for so long; False: another worker has it."""
        until = now + timedelta(seconds=claim_s)
        free = or_(schedules.c.claimed_until.is_(None), schedules.c.claimed_until < now)
        with self.database.write() as connection:
            self._claim_no = connection.execute(
                update(schedules)
                .where(schedules.c.name == schedule, free)
                .values(claimed_until=until, claim_no=schedules.c.claim_no + 1)
                .returning(schedules.c.claim_no)
            ).scalar_one_or_none()
        return self._claim_no is not None

    def renew(self, schedule: str, until: datetime | None) -> bool:
        """Have our claim last at least until then, or end it (None); False: another worker has it
        by now.
        """
        ours = and_(schedules.c.name == schedule, schedules.c.claim_no == self._claim_no)
        known, wanted = schedules.c.claimed_until, literal(until, UtcDateTime)
        longer = case((known > wanted, known), else_=wanted) if until is not None else None
        with self.database.write() as connection:
            changed = connection.execute(
                update(schedules).where(ours).values(claimed_until=longer)
            ).rowcount
        return bool(changed)

    def _ours(self, schedule: str) -> ColumnElement[bool]:
        """Whoever lost its claim while it slept writes nothing any more."""
        which = and_(schedules.c.name == schedule, schedules.c.claim_no == self._claim_no)
        return select(schedules.c.name).where(which).exists()

    # --- runs ---

    def begin(
        self, schedule: str, one: Occasion, now: datetime, *, outcome: str, caught_up: bool = False
    ) -> bool:
        """Note that a run is begun, or missed; False: that business date has its run already."""
        ended = None if outcome == "open" else now
        try:
            with self.database.write() as connection:
                connection.execute(
                    insert(schedule_runs).values(
                        schedule=schedule,
                        business_date=one.business_date,
                        due_at=one.due_at,
                        takes_until=one.takes_until,
                        watched_until=one.watched_until,
                        outcome=outcome,
                        caught_up=caught_up,
                        started_at=now,
                        finished_at=ended,
                        problem=None if outcome == "open" else "nobody was there to begin it",
                        report_final=False,
                    )
                )
        except IntegrityError:
            return False
        return True

    def change(self, run: Run, **values: Any) -> Run:
        """Note something of a run; the run as it is then.

        Raises:
            StaleState: another worker has the schedule by now.
        """
        with self.database.write() as connection:
            row = connection.execute(
                update(schedule_runs)
                .where(_is(run.schedule, run.business_date), self._ours(run.schedule))
                .values(**values)
                .returning(*schedule_runs.c)
            ).one_or_none()
        if row is None:
            raise StaleState(f"schedule {run.schedule}: another worker has it by now")
        return _run(row)

    def run(self, schedule: str, business_date: date) -> Run | None:
        """The run of that date; None: there is none yet."""
        found = self._runs(_is(schedule, business_date), limit=1)
        return found[0] if found else None

    def latest(self, schedule: str, limit: int = 1) -> Sequence[Run]:
        """The newest runs first."""
        return self._runs(schedule_runs.c.schedule == schedule, limit=limit)

    def open(self, schedule: str) -> Sequence[Run]:
        """The runs that are not over, the oldest first."""
        which = and_(schedule_runs.c.schedule == schedule, schedule_runs.c.outcome == "open")
        return self._runs(which, limit=None)[::-1]

    def unreported(self, schedule: str) -> Sequence[Run]:
        """The runs whose reports may still change, the oldest first."""
        which = and_(schedule_runs.c.schedule == schedule, ~schedule_runs.c.report_final)
        return self._runs(which, limit=None)[::-1]

    def _runs(self, which: ColumnElement[bool], *, limit: int | None) -> Sequence[Run]:
        asked = select(schedule_runs).where(which)
        with self.database.read() as connection:
            rows = connection.execute(
                asked.order_by(schedule_runs.c.business_date.desc()).limit(limit)
            )
            return [_run(row) for row in rows]

    # --- files ---

    def take(self, run: Run, name: str, now: datetime, **values: Any) -> File:
        """The row of a file that lies in the inbox: the one that a crash left, or a new one."""
        left = self.in_inbox(run.schedule, name)
        if left is not None:
            return self.note(left, business_date=run.business_date, **values)
        with self.database.write() as connection:
            row = connection.execute(
                insert(schedule_files)
                .values(
                    schedule=run.schedule,
                    business_date=run.business_date,
                    name=name,
                    taken_at=now,
                    fate="taken",
                    place="inbox",
                    **values,
                )
                .returning(*schedule_files.c)
            ).one()
        return _file(row)

    def note(self, file: File, **values: Any) -> File:
        """Note something of a file; the file as it is then.

        Raises:
            StaleState: another worker has the schedule by now.
        """
        with self.database.write() as connection:
            row = connection.execute(
                update(schedule_files)
                .where(schedule_files.c.id == file.id, self._ours(file.schedule))
                .values(**values)
                .returning(*schedule_files.c)
            ).one_or_none()
        if row is None:
            raise StaleState(f"schedule {file.schedule}: another worker has it by now")
        return _file(row)

    def in_inbox(self, schedule: str, name: str) -> File | None:
        """The row of the file of that name that was not moved yet."""
        which = and_(
            schedule_files.c.schedule == schedule,
            schedule_files.c.name == name,
            schedule_files.c.place == "inbox",
        )
        found = self._files(which)
        return found[0] if found else None

    def left(self, schedule: str) -> Sequence[File]:
        """The files that were begun to be checked and are not stored: they lie in the inbox, or did
        when they were last seen.
        """
        return self._files(
            and_(
                schedule_files.c.schedule == schedule,
                schedule_files.c.fate == "taken",
                schedule_files.c.place == "inbox",
            )
        )

    def unplaced(self, schedule: str, place_of: Mapping[str, str]) -> Sequence[File]:
        """The files that do not lie where their fate belongs, and those that were being stored.

        Args:
            place_of: each fate's place; a fate without one is still under way.
        """
        elsewhere = [
            and_(schedule_files.c.fate == fate, schedule_files.c.place.not_in([place, "gone"]))
            for fate, place in place_of.items()
        ]
        which = or_(schedule_files.c.fate == "storing", *elsewhere)
        return self._files(and_(schedule_files.c.schedule == schedule, which))

    def waiting(self, schedule: str) -> Sequence[File]:
        """The files whose batches are stored and not approved, as far as it is noted."""
        return self._files(
            and_(schedule_files.c.schedule == schedule, schedule_files.c.fate == "waiting")
        )

    def of(self, run: Run) -> Sequence[File]:
        """The files of a run, in the order in which they were taken."""
        return self._files(
            and_(
                schedule_files.c.schedule == run.schedule,
                schedule_files.c.business_date == run.business_date,
            )
        )

    def twin(self, file: File) -> str | None:
        """The batch that another file of the same bytes became, unless that was turned down."""
        with self.database.read() as connection:
            return connection.execute(
                select(schedule_files.c.batch_id)
                .join(batches, batches.c.id == schedule_files.c.batch_id)
                .where(
                    schedule_files.c.content_hash == file.content_hash,
                    schedule_files.c.id != file.id,
                    batches.c.decision.not_in(_TURNED_DOWN),
                )
                .limit(1)
            ).scalar_one_or_none()

    def owner(self, batch_id: str) -> int | None:
        """The file that a batch was made of."""
        with self.database.read() as connection:
            return connection.execute(
                select(schedule_files.c.id).where(schedule_files.c.batch_id == batch_id)
            ).scalar_one_or_none()

    def _files(self, which: ColumnElement[bool]) -> Sequence[File]:
        with self.database.read() as connection:
            rows = connection.execute(
                select(schedule_files).where(which).order_by(schedule_files.c.id)
            )
            return [_file(row) for row in rows]

    # --- for monitoring ---

    def waiting_count(self, schedule: str) -> int:
        """How many files' batches wait for money or a person."""
        which = and_(schedule_files.c.schedule == schedule, schedule_files.c.fate == "waiting")
        with self.database.read() as connection:
            return connection.execute(select(func.count()).where(which)).scalar_one()


def _is(schedule: str, business_date: date) -> ColumnElement[bool]:
    return and_(
        schedule_runs.c.schedule == schedule, schedule_runs.c.business_date == business_date
    )


def _run(row: Row[Any]) -> Run:
    return Run(**row._mapping)


def _file(row: Row[Any]) -> File:
    return File(**row._mapping)
