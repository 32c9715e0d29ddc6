"""Nightly settlement: a run of each schedule, once for each business date, whoever asks.

Beat and the command line only say "now": what is due is found here, and that a run is made once is
a fact of the database. One worker at a time has a schedule; when it dies, another carries on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from batches.control_totals import SUFFIX
from batches.folders import Entry, open_folder
from batches.intake import Intake, Working, forget_rooms, unseen
from batches.places import PLACE_OF
from batches.settlement_report import Reporter
from workers import calendars
from workers.errors import (
    AccountFault,
    InboxUnreachable,
    OperatorError,
    ProviderUnreachable,
    StaleState,
    UsageError,
)
from workers.record.runs import File, Run, RunBook
from workers.runtime import Runtime
from workers.schedules import Schedule

log = logging.getLogger(__name__)

# A worker that is not heard of for so long has died: another carries on.
CLAIM_S = 30
RENEW_S = 8
NO_SCHEDULES = "there are no [[schedules]] in the settings; docs/settlement.md tells of them"
# What one look takes; the next one takes the rest.
FILES_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What one look at a schedule came to."""

    schedule: Schedule
    # Another worker has it: nothing was done here.
    busy: bool = False
    runs: Sequence[Run] = ()
    # The files whose fate or place changed.
    files: Sequence[File] = ()
    # Files that are still being written, or may be.
    unripe: int = 0


def schedules_named(name: str | None, runtime: Runtime) -> Sequence[Schedule]:
    """The schedule of that name, or all.

    Raises:
        UsageError: there is none.
    """
    found = [one for one in runtime.settings.schedules if name in (None, one.name)]
    if not runtime.settings.schedules:
        raise UsageError(NO_SCHEDULES)
    if not found:
        known = ", ".join(one.name for one in runtime.settings.schedules)
        raise UsageError(f"no schedule {name!r} in [[schedules]] of the settings: {known}")
    return found


def settle(
    schedule: Schedule, runtime: Runtime, day: date | None = None, working: Working = unseen
) -> Settled:
    """Do what is due of a schedule now; safe to be asked for at any time, by anybody.

    Args:
        day: make the run of this business date too, whatever was missed of it.
        working: shows a person the work that takes long.

    Raises:
        UsageError: that date is no business date, or its time has not come.
        OperatorError: the inbox's address cannot be used at all.
    """
    book = RunBook(runtime.database)
    now = runtime.clock.now()
    since = book.known_since(schedule.name, now)
    if not book.claim(schedule.name, now, claim_s=CLAIM_S):
        return Settled(schedule=schedule, busy=True)
    with _kept(book, schedule.name, runtime):
        try:
            return _Settlement(schedule, runtime, book, working).made(since, day)
        except StaleState:
            # This process slept for so long that another one has carried on.
            return Settled(schedule=schedule, busy=True)


@contextmanager
def _kept(book: RunBook, name: str, runtime: Runtime) -> Iterator[None]:
    """Keep the claim for as long as this process lives and works; then give it back."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEW_S):
            try:
                if not book.renew(name, runtime.clock.now() + timedelta(seconds=CLAIM_S)):
                    return
            except Exception:
                log.exception("claim not renewed", extra={"schedule": name})

    keeper = threading.Thread(target=renew, name="paybatch-claim", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()
        book.renew(name, None)


@dataclass(slots=True)
class _Settlement:
    """One look at a schedule, by the worker that has it."""

    schedule: Schedule
    runtime: Runtime
    book: RunBook
    working: Working
    files: dict[int, File] = field(default_factory=dict)
    unripe: int = 0

    def made(self, since: datetime, day: date | None) -> Settled:
        self._begin(since, day)
        forget_rooms(self.runtime.clock.now())
        runs: list[Run] = []
        try:
            intake = self._intake()
            self._carry_on(intake)
        except InboxUnreachable as error:
            runs = [self._troubled(run, str(error)) for run in self.book.open(self.schedule.name)]
        else:
            for run in self.book.open(self.schedule.name):
                runs.append(self._work(run, intake))
                if runs[-1].outcome == "open":
                    # Its time lasts, so none after it has begun.
                    break
        reporter = Reporter(self.schedule, self.runtime, self.book)
        for run in self.book.unreported(self.schedule.name):
            reporter.keep_up(run)
        return Settled(
            schedule=self.schedule,
            runs=[self.book.run(run.schedule, run.business_date) or run for run in runs],
            files=list(self.files.values()),
            unripe=self.unripe,
        )

    # --- which runs ---

    def _begin(self, since: datetime, day: date | None) -> None:
        """Note each run that is due and was not known."""
        name, now = self.schedule.name, self.runtime.clock.now()
        latest = self.book.latest(name)
        after = latest[0].business_date if latest else None
        for one in calendars.due(self.schedule, after=after, since=since, now=now):
            missed = now > one.takes_until
            catches_up = missed and self.schedule.missed == "catch_up"
            outcome = "missed" if missed and not catches_up else "open"
            if self.book.begin(name, one, now, outcome=outcome, caught_up=catches_up):
                log.info("run begun", extra={"schedule": name, "outcome": outcome})
        if day is not None:
            self._begin_again(day, now)

    def _begin_again(self, day: date, now: datetime) -> None:
        """Make the run of a date that a person names."""
        if not calendars.is_business_date(day, self.schedule):
            raise UsageError(f"{day} is no business date of schedule {self.schedule.name}")
        one = calendars.occasion(day, self.schedule)
        if one.due_at > now:
            raise UsageError(
                f"the run of {day} of schedule {self.schedule.name} is due at"
                f" {one.due_at:%Y-%m-%d %H:%M} UTC; it is not made before"
            )
        run = self.book.run(self.schedule.name, day)
        if run is None:
            late = now > one.takes_until
            self.book.begin(self.schedule.name, one, now, outcome="open", caught_up=late)
        elif run.outcome in ("missed", "failed"):
            self.book.change(
                run,
                outcome="open",
                caught_up=True,
                problem=None,
                finished_at=None,
                report_final=False,
            )

    def _work(self, run: Run, intake: Intake) -> Run:
        """Look at the inbox for a run, and end the run when its time is over."""
        now = self.runtime.clock.now()
        if run.looked_at is None and now > run.takes_until and not run.caught_up:
            # It was begun in time, and whoever had begun it did not get through.
            if self.schedule.missed == "report":
                why = run.problem or "it was begun, and not carried through in time"
                return self.book.change(run, outcome="failed", finished_at=now, problem=why)
            run = self.book.change(run, caught_up=True)
        try:
            problem = self._look(run, intake)
        except InboxUnreachable as error:
            problem = str(error)
        if problem is not None:
            return self._troubled(run, problem)
        run = self.book.change(run, looked_at=self.runtime.clock.now(), problem=None)
        lasts = self.schedule.cut_off is not None and not run.caught_up
        if self.unripe == 0 and not lasts:
            return self._end(run, intake)
        return self._end(run, intake) if self._is_over(run) else run

    def _troubled(self, run: Run, problem: str) -> Run:
        """Note what keeps a run from going on; it failed when its time is over."""
        log.warning("run in trouble", extra={"schedule": run.schedule, "reason": problem})
        if self._is_over(run):
            now = self.runtime.clock.now()
            return self.book.change(run, outcome="failed", finished_at=now, problem=problem)
        return self.book.change(run, problem=problem)

    def _is_over(self, run: Run) -> bool:
        """Whether nobody waits any longer for what may still come; a run that is made late lasts
        until it was made.
        """
        return not run.caught_up and self.runtime.clock.now() > run.watched_until

    def _end(self, run: Run, intake: Intake) -> Run:
        if self.schedule.after_cut_off == "person":
            for file in self.book.waiting(run.schedule):
                if file.waits_for != "person":
                    self._note(intake.put_before_person(file))
        return self.book.change(run, outcome="finished", finished_at=self.runtime.clock.now())

    # --- files ---

    def _intake(self) -> Intake:
        account = self.schedule.account or self.runtime.settings.usual_account
        if account is None:
            raise InboxUnreachable(
                f"schedule {self.schedule.name} names no account, and the settings have several:"
                " set its account, or default_account"
            )
        return Intake(
            schedule=self.schedule,
            account=account,
            runtime=self.runtime,
            book=self.book,
            inbox=open_folder(self.schedule.inbox),
            working=self.working,
        )

    def _carry_on(self, intake: Intake) -> None:
        """Finish what a crash left half done, and follow what people decided since."""
        for file in self.book.unplaced(self.schedule.name, PLACE_OF):
            found = intake.recover(file) if file.fate == "storing" else file
            self._note(intake.place(found))
        for file in self.book.waiting(self.schedule.name):
            followed = intake.follow(file)
            if followed is not file:
                self._note(intake.place(followed))

    def _look(self, run: Run, intake: Intake) -> str | None:
        """Take what is complete, and approve what needs nobody; what kept a file from it."""
        self.unripe = 0
        for file in self.book.waiting(run.schedule):
            self._note(self._approved(file, run, intake))
        ripe, problems = self._with_totals(self._ripe(intake))
        self.unripe += max(0, len(ripe) - FILES_MAX)
        for at, entry in enumerate(ripe[:FILES_MAX]):
            if self.runtime.clock.stopping:
                self.unripe += len(ripe) - at
                break
            if not _is_text(entry.name):
                problems.append(f"a file's name is no UTF-8: {entry.name!a}; rename it")
                continue
            late = self._is_late(entry, run)
            if late and self.schedule.after_cut_off == "next_day":
                continue
            if run.caught_up and late:
                # It belongs to a later date.
                continue
            problem = self._take(entry, run, intake, late=late)
            if problem is not None:
                problems.append(problem)
        return "; ".join(dict.fromkeys(problems)) or None

    def _with_totals(self, ripe: Sequence[Entry]) -> tuple[Sequence[Entry], list[str]]:
        """The files that have all that they need beside them, and what the others lack."""
        if not self.schedule.control_totals:
            return ripe, []
        names = {entry.name for entry in ripe}
        files = [entry for entry in ripe if not entry.name.endswith(SUFFIX)]
        lacking = [entry.name for entry in files if entry.name + SUFFIX not in names]
        told = [f"{name} waits for its control totals, {name}{SUFFIX}" for name in lacking]
        return [entry for entry in files if entry.name not in lacking], told

    def _take(self, entry: Entry, run: Run, intake: Intake, *, late: bool) -> str | None:
        try:
            file = intake.take(run, entry, late=late)
        except (InboxUnreachable, StaleState):
            raise
        except (AccountFault, ProviderUnreachable, UsageError, OperatorError) as error:
            left = self.book.in_inbox(run.schedule, entry.name)
            if left is not None:
                self._note(self.book.note(left, reason=str(error)))
            return f"{entry.name} could not be checked: {error}"
        except Exception:
            # One file must not keep the others from being paid.
            log.exception("file not taken", extra={"schedule": run.schedule})
            return f"{entry.name} could not be taken: an internal error, which the log describes"
        if file is None:
            self.unripe += 1
        else:
            self._note(self._approved(file, run, intake))
        return None

    def _miss(self, names: Collection[str]) -> None:
        """Note files that somebody took out of the inbox before they were stored."""
        for file in self.book.left(self.schedule.name):
            if file.name not in names:
                reason = "was taken out of the inbox before it was stored; nothing was paid"
                self._note(self.book.note(file, place="gone", reason=reason))

    def _approved(self, file: File, run: Run, intake: Intake) -> File:
        return intake.place(intake.approve(file, run))

    def _note(self, file: File) -> None:
        self.files[file.id] = file

    def _is_late(self, entry: Entry, run: Run) -> bool:
        now = self.runtime.clock.now()
        if not run.takes(now):
            return True
        # A wrong clock may have given it a time that has not come yet: it is here by now.
        return min(entry.modified_at or now, now) > run.takes_until

    def _ripe(self, intake: Intake) -> Sequence[Entry]:
        """The files that are complete: nothing of them has changed for a while."""
        quiet_s, clock = self.schedule.quiet_s, self.runtime.clock
        first = intake.inbox.entries()
        self._miss({each.name for each in first})
        now = clock.now()
        # Where nobody tells when a file was changed, or a wrong clock does, it is looked at twice.
        if any(each.modified_at is None or each.modified_at > now for each in first):
            clock.sleep(quiet_s)
            again = set(intake.inbox.entries())
            unsure = [each for each in first if not _has_age(each, now, quiet_s)]
            ripe = [each for each in first if _has_age(each, now, quiet_s)]
            ripe += [each for each in unsure if each in again]
        else:
            ripe = [each for each in first if _has_age(each, now, quiet_s)]
        self.unripe += len(first) - len(ripe)
        return ripe


def _has_age(entry: Entry, now: datetime, quiet_s: float) -> bool:
    if entry.modified_at is None:
        return False
    return entry.modified_at <= now - timedelta(seconds=quiet_s)


def _is_text(name: str) -> bool:
    """Whether a file's name can be stored, shown and sent: any bytes may be one on a disk."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
