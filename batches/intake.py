"""One file of an inbox: fetched, checked, stored as a batch, approved, moved to its place.

Each step is noted before it is made where a crash in the middle could not be told apart from one
before it, and after it otherwise; `Intake.recover` carries on from any of them. The same content is
stored once, and a batch belongs to one file: whatever is delivered twice is refused, not paid.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from batches import approval, results
from batches.control_totals import BYTES_MAX, SUFFIX, read_totals
from batches.dispatch import dispatch
from batches.faultbook import FaultBook
from batches.folders import Entry, Folder
from batches.loading import Limits
from batches.places import ERRORS, FIRST_PLACE, PLACE_OF, REASON, cut, placed_name
from batches.preflight import Options, Plan, Preflight
from workers.errors import (
    AccountFault,
    ApprovalRefused,
    BatchBusy,
    BatchExists,
    BrokerUnreachable,
    FileRefused,
    FileUnreadable,
    InboxUnreachable,
    PaybatchError,
    ProviderUnreachable,
)
from workers.record.batches import Batch, BatchBook
from workers.record.history import Action, Deed, History
from workers.record.model import Actor
from workers.record.money import Money
from workers.record.runs import File, Run, RunBook
from workers.runtime import Runtime
from workers.schedules import Schedule
from workers.words import number_of

log = logging.getLogger(__name__)


class Working(Protocol):
    """What shows work that may take long: it is given its name and how much there is of it, and is
    then told how much is done.
    """

    def __call__(
        self, what: str, total: int | None = None, *, unit: str = "rows"
    ) -> AbstractContextManager[Callable[[int], None]]: ...


# A remote file that is not here by then is tried again at the next look.
FETCH_S_MAX = 600
FAULTS_TOLD_MAX = 50
# A file that is being checked lies in a private folder of this name; what a dead worker left there
# is of no use to anybody.
_ROOM = "paybatch-intake-"
_ROOM_KEPT_S = 86_400
# While so many rows are stored or sealed in one transaction, SQLite lets nobody renew a claim.
_ROWS_QUICK = 20_000
_LONG_S = 600
_AUTOMATIC = ("automatic", "money")


@contextlib.contextmanager
def unseen(
    what: str, total: int | None = None, *, unit: str = "rows"
) -> Iterator[Callable[[int], None]]:
    """For work that nobody looks at."""
    del what, total, unit
    yield lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What takes the files of one schedule, for the worker that has the schedule's claim."""

    schedule: Schedule
    account: str
    runtime: Runtime
    book: RunBook
    inbox: Folder
    working: Working = unseen

    # --- a file that lies in the inbox ---

    def take(self, run: Run, entry: Entry, *, late: bool) -> File | None:
        """Check a complete file, and store it or refuse it; None: it is not there any more, or it
        or the encryption key was changed meanwhile, so the next look takes it.

        Args:
            late: it came after the cut-off, and a person decides about it.

        Raises:
            AccountFault, ProviderUnreachable, UsageError: it could not be checked, and stays.
            InboxUnreachable: the inbox cannot be used.
        """
        bytes_max = self.runtime.settings.bytes_max
        with tempfile.TemporaryDirectory(prefix=_ROOM) as room:
            path = Path(room) / cut(entry.name)
            if entry.bytes > bytes_max:
                file = self._row(run, entry, content_hash="")
                reason = f"has {entry.bytes:,} bytes, more than {bytes_max:,} (bytes_max)"
                return self._refuse(file, f"{entry.name} {reason}", Path(room))
            fetched = self._fetched(entry, path)
            if fetched is None:
                return None
            file = self._row(run, entry, content_hash=fetched)
            twin = self.book.twin(file)
            if twin is not None:
                return self._twin(file, twin, Path(room))
            try:
                count, sums = self._totals(entry.name, Path(room))
            except FileRefused as error:
                return self._refuse(file, str(error), Path(room))
            return self._check(file, path, count, sums, late=late)

    def _fetched(self, entry: Entry, to: Path) -> str | None:
        """Copy a file out of the inbox; the SHA-256 of its bytes, None as `Folder.fetch`."""
        clock = self.runtime.clock
        started = clock.monotonic()
        with self.working("Fetching", entry.bytes, unit="bytes") as show:

            def came(done: int) -> None:
                if clock.monotonic() - started > FETCH_S_MAX:
                    raise InboxUnreachable(
                        f"{entry.name} took too long to be fetched; it is tried again"
                    )
                show(done)

            return self.inbox.fetch(entry, to, came)

    def _totals(self, name: str, room: Path) -> tuple[int | None, tuple[Money, ...]]:
        """The control totals beside a file, where it must have some."""
        if not self.schedule.control_totals:
            return None, ()
        beside = self.inbox.find(name + SUFFIX)
        path = room / f"{cut(name)}{SUFFIX}"
        if beside is None or beside.bytes > BYTES_MAX:
            raise FileRefused(f"{name}{SUFFIX} is gone, or is too large for control totals")
        if self._fetched(beside, path) is None:
            raise FileRefused(f"{name}{SUFFIX} was changed while it was read")
        return read_totals(path)

    def _row(self, run: Run, entry: Entry, *, content_hash: str) -> File:
        return self.book.take(
            run,
            entry.name,
            self.runtime.clock.now(),
            content_hash=content_hash,
            stamp=entry.stamp,
            bytes=entry.bytes,
            reason=None,
        )

    def _check(
        self, file: File, path: Path, count: int | None, sums: tuple[Money, ...], *, late: bool
    ) -> File | None:
        options = Options(
            account=self.account,
            valid_rows_only=self.schedule.valid_rows_only,
            allow_repeats=self.schedule.allow_repeats,
            mapping=self.runtime.settings.mappings.get(self.schedule.mapping or "", {}),
            expect_count=count,
            expect_totals=sums,
        )
        preflight = Preflight(self.runtime, options, self.runtime.clock.now())
        try:
            with self.working("Checking", None) as progress:
                plan = preflight.examine(path, progress)
        except FileUnreadable as error:
            return self._refuse(file, str(error), path.parent)
        if plan.known_as is not None:
            return self._known(file, plan.known_as, plan, late=late)
        if plan.faults:
            mark = preflight.mark(path)
            self._put_faulty(file, plan, mark, FIRST_PLACE if plan.is_payable else "refused")
        if not plan.is_payable:
            return self._refuse(file, _why_refused(plan), path.parent, plan.faults)
        return self._store(file, plan, preflight, late=late)

    def _store(self, file: File, plan: Plan, preflight: Preflight, *, late: bool) -> File | None:
        left_out = plan.rows - plan.valid
        file = self.book.note(file, fate="storing", plan_hash=plan.content_hash, left_out=left_out)
        self._have_time(plan.valid)
        try:
            with self.working("Storing", plan.valid) as progress:
                batch_id = approval.store(plan, preflight, self._actor, progress)
        except BatchExists as exists:
            batch = approval.find(exists.batch_id, preflight.book)
            return self._known(file, batch, plan, late=late)
        except FileRefused as error:
            return self._refuse(file, str(error), plan.path.parent)
        return self._stored(file, batch_id, late=late)

    def _have_time(self, rows: int) -> None:
        """Keep the claim through one long transaction."""
        if rows > _ROWS_QUICK:
            until = self.runtime.clock.now() + timedelta(seconds=_LONG_S)
            self.book.renew(self.schedule.name, until)

    def _stored(self, file: File, batch_id: str, *, late: bool) -> File:
        """Note a file's batch, and have it approved if that needs nobody.

        What a person turned down is not paid by itself because it came once more.
        """
        waits_for, reason = "person", "waits for approval"
        before = self._turned_down(batch_id)
        if late:
            reason = "came after the cut-off, and waits for approval"
        elif before is not None:
            reason = f"was {before.decision} before, as batch {before.id}, and waits for approval"
        elif self.schedule.approval == "automatic":
            waits_for, reason = "automatic", "waits for its automatic approval"
        return self.book.note(
            file, fate="waiting", batch_id=batch_id, waits_for=waits_for, reason=reason
        )

    def _turned_down(self, batch_id: str) -> Batch | None:
        batches = BatchBook(self.runtime.store)
        batch = approval.find(batch_id, batches)
        return batches.turned_down(batch.content_hash, batch.file_hash)

    def _known(self, file: File, batch: Batch, plan: Plan, *, late: bool) -> File:
        """A file whose content is stored: by us, and a crash kept us from noting it; or twice."""
        if batch.made_by == self.schedule.actor and self.book.owner(batch.id) is None:
            file = self.book.note(file, left_out=plan.rows - batch.rows)
            return self._stored(file, batch.id, late=late)
        return self._twin(file, batch.id, plan.path.parent)

    def _twin(self, file: File, batch_id: str, room: Path) -> File:
        reason = f"was delivered twice: its content is batch {batch_id} already; nothing was paid"
        return self._refuse(
            file, f"{file.name} {reason}", room, fate="delivered_twice", twin_of=batch_id
        )

    @property
    def _actor(self) -> Actor:
        """Who stores and approves what is approved automatically."""
        return Actor(self.schedule.actor, f"schedule {socket.gethostname()} pid {os.getpid()}")

    # --- refusing ---

    def _refuse(
        self,
        file: File,
        reason: str,
        room: Path,
        faults: FaultBook | None = None,
        *,
        fate: str = "refused",
        twin_of: str | None = None,
    ) -> File:
        """Put the reason beside where the file goes, note it, and move the file there."""
        self._put_reason(file, _lines(reason, faults or FaultBook()), room)
        log.warning("file refused", extra={"schedule": file.schedule, "reason": fate})
        file = self.book.note(file, fate=fate, reason=reason, twin_of=twin_of)
        return self.place(file)

    def _put_reason(self, file: File, lines: Sequence[str], room: Path) -> None:
        text = room / "reason.txt"
        text.write_text("\n".join([*lines, ""]), encoding="utf-8", errors="replace")
        self.inbox.put(text, f"refused/{placed_name(file)}{REASON}", private=True)

    def _put_faulty(self, file: File, plan: Plan, mark: str, place: str) -> None:
        """Have the rows that are left out, with reasons, where the file goes or will be met."""
        out = plan.path.parent / "errors.csv"
        with self.working("Writing", plan.rows) as progress:
            results.write_faulty(plan, Limits.of(self.runtime.settings), mark, out, progress)
        self.inbox.put(out, f"{place}/{placed_name(file)}{ERRORS}", private=True)

    # --- a file that is stored ---

    def approve(self, file: File, run: Run) -> File:
        """Approve the batch of a waiting file, if nobody is needed for it and its time has not
        passed; the file as it is then.
        """
        waits = file.fate == "waiting" and file.waits_for in _AUTOMATIC
        if not waits or file.batch_id is None or not run.takes(self.runtime.clock.now()):
            return file
        batch = BatchBook(self.runtime.store).get(file.batch_id)
        rows = batch.rows if batch is not None else 0
        self._have_time(rows)
        try:
            with self.working("Approving", rows) as progress:
                approval.approve(file.batch_id, self.runtime, self._actor, progress)
        except (AccountFault, ProviderUnreachable) as error:
            return self._waits(file, "money", str(error))
        except BatchBusy as error:
            # Whoever it is, is no reason to have a person decide: the next look tries it again.
            log.warning("approval waits", extra={"schedule": file.schedule, "reason": error})
            return file
        except ApprovalRefused as error:
            decided = self.follow(file)
            return decided if decided.fate != "waiting" else self._waits(file, "person", str(error))
        except PaybatchError as error:
            return self._waits(file, "person", str(error))
        file = self.follow(file)
        self._announce(file)
        return file

    def _waits(self, file: File, waits_for: str, reason: str) -> File:
        if (file.waits_for, file.reason) == (waits_for, reason):
            return file
        return self.book.note(file, waits_for=waits_for, reason=reason)

    def _announce(self, file: File) -> None:
        if file.batch_id is None or self.runtime.settings.embedded:
            return
        try:
            dispatch(file.batch_id, self.runtime)
        except BrokerUnreachable as error:
            # The sweep announces them once the broker is back.
            log.warning("broker unreachable", extra={"reason": error})

    def follow(self, file: File) -> File:
        """Note what was decided about the batch of a waiting file."""
        batch = BatchBook(self.runtime.store).get(file.batch_id or "")
        if batch is None or batch.decision == "draft":
            return file
        by = f"by {batch.decided_by}" if batch.decided_by else ""
        if batch.decision in ("rejected", "cancelled"):
            reason = f"batch {batch.id} was {batch.decision} {by}".strip()
            return self.book.note(file, fate="rejected", waits_for=None, reason=reason)
        return self.book.note(
            file, fate="approved", waits_for=None, reason=f"approved {by}".strip()
        )

    def put_before_person(self, file: File) -> File:
        """Have a batch that was not approved in time wait for a person."""
        reason = f"was not approved before the cut-off: {file.reason or 'no time was left'}"
        return self.book.note(file, waits_for="person", reason=reason)

    # --- after a crash ---

    def recover(self, file: File) -> File:
        """Carry on with a file that was being stored: find its batch, or have it taken anew."""
        batches = BatchBook(self.runtime.store)
        batch = batches.by_content(file.plan_hash) if file.plan_hash else None
        if batch is None and file.plan_hash:
            # A person may have turned it down meanwhile: then it is not stored anew.
            batch = batches.turned_down(file.plan_hash)
        ours = batch is not None and batch.made_by == self.schedule.actor
        if batch is None or not ours or self.book.owner(batch.id) is not None:
            return self.book.note(file, fate="taken", plan_hash=None)
        return self._stored(file, batch.id, late=False)

    def place(self, file: File) -> File:
        """Move a file, and what lies beside it, to where its fate belongs; done already, nothing
        happens. The place is noted last, so what a crash leaves half moved is moved by the next.
        """
        wanted = PLACE_OF.get(file.fate)
        if wanted is None or file.place in (wanted, "gone"):
            return file
        if file.fate == "rejected":
            self._tell_turned_down(file)
        in_inbox = file.place == "inbox"
        source = file.name if in_inbox else f"{file.place}/{placed_name(file)}"
        moved = self.inbox.move(
            source, f"{wanted}/{placed_name(file)}", file.stamp if in_inbox else None
        )
        if moved == "moved":
            self._bring_companions(file, source, wanted)
            return self.book.note(file, place=wanted)
        why = "was not there any more" if moved == "absent" else "was replaced by another file"
        log.warning("file not moved", extra={"schedule": file.schedule, "reason": why})
        told = f"{file.reason or file.fate}; the file itself {why} when it was to be moved"
        return self.book.note(file, place="gone", reason=told)

    def _bring_companions(self, file: File, source: str, wanted: str) -> None:
        """Have what lay beside a file, or waited for it, where it lies now."""
        moves_on = file.place != "inbox"
        target = f"{wanted}/{placed_name(file)}"
        if self.schedule.control_totals or moves_on:
            self.inbox.move(source + SUFFIX, target + SUFFIX, None)
        if file.left_out or moves_on:
            # Those of files that were stored before revision 0014 may lie in any of them.
            for place in (FIRST_PLACE, *sorted({*PLACE_OF.values()} - {FIRST_PLACE})):
                if place != wanted:
                    lies = f"{place}/{placed_name(file)}{ERRORS}"
                    self.inbox.move(lies, target + ERRORS, None)

    def _tell_turned_down(self, file: File) -> None:
        """Have a text in `refused/` that says who turned the batch down, when and why."""
        batch = BatchBook(self.runtime.store).get(file.batch_id or "")
        if batch is None:
            return
        action = Action.REJECTED if batch.decision == "rejected" else Action.CANCELLED
        deed = History(self.runtime.database).last(batch.id, action)
        with tempfile.TemporaryDirectory(prefix=_ROOM) as room:
            self._put_reason(file, _lines_of_decision(file, batch, deed), Path(room))


def forget_rooms(now: datetime) -> int:
    """Remove the copies of files that workers of this user left on this machine when they died; how
    many there were.
    """
    forgotten = 0
    for room in Path(tempfile.gettempdir()).glob(f"{_ROOM}*"):
        with contextlib.suppress(OSError):
            found = room.lstat()
            old = now.timestamp() - found.st_mtime > _ROOM_KEPT_S
            if old and stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
                shutil.rmtree(room)
                forgotten += 1
    return forgotten


def _why_refused(plan: Plan) -> str:
    if plan.contradictions:
        return f"{plan.path.name}: {'; '.join(plan.contradictions)}"
    lines = sum(1 for _ in plan.faults.lines())
    counted = ", ".join(map(str, plan.faults.counts))
    return f"{plan.path.name} has faults in {lines:,} of {number_of(plan.rows, 'row')}: {counted}"


def _lines(reason: str, faults: FaultBook) -> Sequence[str]:
    """The plain text that lies beside a refused file; values are masked."""
    lines = [f"{reason}.", "Nothing of it was stored and nothing was paid.", ""]
    for fault in faults.first(FAULTS_TOLD_MAX):
        where = f"line {fault.line}" + (f", {fault.column}" if fault.column else "")
        found = f" (found {fault.value})" if fault.value else ""
        lines.append(f"{where}: expected {fault.expected}{found}")
    if len(faults) > FAULTS_TOLD_MAX:
        lines.append(f"... and {len(faults) - FAULTS_TOLD_MAX:,} more.")
    if faults:
        lines.append("The .errors.csv beside this text has all faulty rows, to be corrected.")
    return lines


def _lines_of_decision(file: File, batch: Batch, deed: Deed | None) -> Sequence[str]:
    """The same for a file whose batch a person turned down."""
    by = deed.actor.name if deed else batch.decided_by
    at = deed.at if deed else batch.decided_at
    lines = [
        f"{file.name} was stored as batch {batch.id}, which was {batch.decision}"
        + (f" by {by}" if by else "")
        + (f" at {at:%Y-%m-%d %H:%M:%S} UTC." if at else "."),
        # As it was typed, but on one line.
        f"The reason given: {' '.join(deed.note.split())}"
        if deed and deed.note
        else "No reason was given.",
        "Nothing of it was paid."
        if batch.decision == "rejected"
        else f"What became of its payouts: paybatch status {batch.id}",
    ]
    if file.rows_left_out:
        number = number_of(file.rows_left_out, "row")
        lines.append(f"The .errors.csv beside this text has what was left out of it: {number}.")
    return [*lines, "The file may be delivered again; it then waits for a person."]
