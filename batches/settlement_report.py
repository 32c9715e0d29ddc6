"""The settlement report of a run: what went in, what came out, and what is left, by the record.

Only reads the record; `Reporter` also writes the two files and notes that it did. Beneficiaries are
masked, as everywhere but in files that are to be corrected.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from batches.folders import open_folder
from batches.places import errors_path
from batches.reports import write_table
from batches.settlement_facts import Act, FileLine, Line, OpenLine, Report, Total
from batches.settlement_page import write_page
from workers.errors import InboxUnreachable, UsageError
from workers.record.answers import Tally
from workers.record.batches import Batch, BatchBook
from workers.record.history import History
from workers.record.money import Currency, Money
from workers.record.rows import money_of
from workers.record.runs import Run, RunBook
from workers.record.status import FINAL, OPEN, State
from workers.runtime import Runtime
from workers.schedules import Schedule, shown

log = logging.getLogger(__name__)

# Of each batch's failures and held payouts; `paybatch results` has all.
LINES_MAX = 1_000
# While payouts are under way a report is written anew no more often than this.
REPORT_EVERY_S = 600
_SETTLED_FATES = ("refused", "delivered_twice", "rejected")
_UNWRITTEN = "its report cannot be written: "
# A promise to whoever reads the file by program: add at the end, never rename.
COLUMNS = (
    *("section", "account", "currency", "state", "count", "amount", "file", "batch_id"),
    *("reference_id", "beneficiary", "by", "at", "age_s", "reason"),
)

SECTIONS = ("run", "in", "out", "fee", "failure", "held", "open", "file", "approval", "left_out")


def gather(run: Run, schedule: Schedule | None, runtime: Runtime) -> Report:
    """Everything that the record knows of a run, now."""
    batches = BatchBook(runtime.store)
    files = [
        FileLine(file, batches.get(file.batch_id) if file.batch_id else None)
        for file in RunBook(runtime.database).of(run)
    ]
    made = [line.batch for line in files if line.batch is not None]
    totals, fees = _totals({batch.id: batches.tallies(batch.id) for batch in made})
    return Report(
        run=run,
        time_zone=schedule.time_zone if schedule else "UTC",
        inbox=shown(schedule.inbox) if schedule else "",
        written_at=runtime.clock.now(),
        files=files,
        totals=totals,
        fees=fees,
        failures=[line for one in made for line in _lines(one, batches, State.FAILED)]
        + [line for one in made for line in _lines(one, batches, State.RETURNED)],
        held=[line for one in made for line in _held(one, batches)],
        open=[line for one in made for line in _open(one, batches)],
        acts=[act for one in made for act in _acts(one, runtime)],
        missing=sum(one.rows - sum(batches.counts(one.id).values()) for one in made),
        lines_max=LINES_MAX,
    )


def _totals(
    tallies: Mapping[str, Sequence[Tally]],
) -> tuple[Sequence[Total], Sequence[tuple[str, Money]]]:
    sums: dict[tuple[str, Currency], dict[State, tuple[int, Money]]] = defaultdict(dict)
    fees: dict[tuple[str, str], int] = defaultdict(int)
    for tally in (each for batch in tallies.values() for each in batch):
        currency = tally.amount.currency
        states = sums[tally.account, currency]
        count, amount = states.get(tally.state, (0, Money(0, currency)))
        states[tally.state] = (count + tally.count, amount + tally.amount)
        for code, minor in tally.fees.items():
            fees[tally.account, code] += minor
    totals = [
        Total(account=account, currency=currency, states=dict(states))
        for (account, currency), states in sorted(sums.items())
    ]
    taken = [
        (account, Money(minor, Currency.of(code)))
        for (account, code), minor in sorted(fees.items())
        if minor
    ]
    return totals, taken


def _lines(batch: Batch, batches: BatchBook, state: State) -> Iterator[Line]:
    for row in islice(batches.each(batch.id, state), LINES_MAX):
        yield Line(
            batch_id=batch.id,
            state=state,
            account=row.account,
            reference_id=row.reference_id,
            amount=money_of(row),
            beneficiary=row.beneficiary,
            since=row.settled_at or row.sent_at or row.created_at,
            reason=row.failure_reason or row.failure_code or "no reason given",
        )


def _held(batch: Batch, batches: BatchBook) -> Iterator[Line]:
    why = dict(batches.held(batch.id, LINES_MAX))
    for row in islice(batches.each(batch.id, State.HELD), LINES_MAX):
        yield Line(
            batch_id=batch.id,
            state=State.HELD,
            account=row.account,
            reference_id=row.reference_id,
            amount=money_of(row),
            beneficiary=row.beneficiary,
            since=row.sent_at or row.created_at,
            reason=why.get(row.reference_id, "held"),
        )


def _open(batch: Batch, batches: BatchBook) -> Iterator[OpenLine]:
    for tally in batches.tallies(batch.id):
        if tally.state in OPEN | {State.DRAFT}:
            yield OpenLine(
                batch_id=batch.id,
                state=tally.state,
                account=tally.account,
                count=tally.count,
                amount=tally.amount,
                since=tally.since,
            )


def _acts(batch: Batch, runtime: Runtime) -> Sequence[Act]:
    """Who did what with a batch."""
    return [
        Act(batch.id, deed.action, deed.actor.name, deed.at, deed.note or "")
        for deed in History(runtime.database).of(batch.id)
    ]


# --- as a table ---


def rows_of(report: Report) -> Iterator[Sequence[object]]:
    """The report as the rows of COLUMNS; amounts are plain decimals, times ISO 8601."""
    for given in _cells(report):
        yield [given.get(name, "") for name in COLUMNS]


def _cells(report: Report) -> Iterator[Mapping[str, object]]:
    run = report.run
    yield {
        "section": "run",
        "state": run.outcome,
        "at": _iso(run.started_at),
        "reason": run.problem or "",
        "file": f"{run.schedule} {run.business_date}",
    }
    for total in report.totals:
        about = {"account": total.account, "currency": total.currency.code}
        count, amount = total.given
        yield {"section": "in", **about, "count": count, "amount": str(amount)}
        for state, (count, amount) in total.states.items():
            yield {
                "section": "out",
                **about,
                "state": str(state),
                "count": count,
                "amount": str(amount),
            }
    for account, fee in report.fees:
        yield {
            "section": "fee",
            "account": account,
            "currency": fee.currency.code,
            "amount": str(fee),
        }
    for section, lines in (("failure", report.failures), ("held", report.held)):
        for line in lines:
            yield {
                "section": section,
                "account": line.account,
                "currency": line.amount.currency.code,
                "state": str(line.state),
                "count": 1,
                "amount": str(line.amount),
                "batch_id": line.batch_id,
                "reference_id": line.reference_id,
                "beneficiary": line.beneficiary,
                "at": _iso(line.since),
                "age_s": report.age_s(line.since),
                "reason": line.reason,
            }
    yield from _cells_of_files(report)


def _cells_of_files(report: Report) -> Iterator[Mapping[str, object]]:
    for one in report.open:
        yield {
            "section": "open",
            "account": one.account,
            "currency": one.amount.currency.code,
            "state": str(one.state),
            "count": one.count,
            "amount": str(one.amount),
            "batch_id": one.batch_id,
            "at": _iso(one.since),
            "age_s": report.age_s(one.since),
        }
    for each in report.files:
        yield {
            "section": "file",
            "state": each.file.fate,
            "count": each.batch.rows if each.batch else "",
            "file": each.file.name,
            "batch_id": each.file.batch_id or each.file.twin_of or "",
            "at": _iso(each.file.taken_at),
            "reason": each.file.reason or "",
        }
    for act in report.acts:
        yield {
            "section": "approval",
            "state": act.action,
            "batch_id": act.batch_id,
            "by": act.actor,
            "at": _iso(act.at),
            "reason": act.note,
        }
    for each in report.files:
        if each.file.rows_left_out:
            yield {
                "section": "left_out",
                "count": each.file.rows_left_out,
                "file": each.file.name,
                "batch_id": each.file.batch_id or "",
                "at": _iso(each.file.taken_at),
                "reason": f"rows with faults, not stored: {errors_path(each.file)} in the inbox",
            }


def as_json(report: Report) -> dict[str, Any]:
    """The facts of `report --json`: the rows of the table, in a list for each of its sections."""
    sections: dict[str, list[Any]] = {name: [] for name in SECTIONS}
    for cells in _cells(report):
        told = {name: value for name, value in cells.items() if name != "section"}
        sections[str(cells["section"])].append(told)
    run = report.run
    return {
        "schedule": run.schedule,
        "business_date": str(run.business_date),
        "outcome": run.outcome,
        "problem": run.problem,
        "missing": report.missing,
        **sections,
    }


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def write_report(report: Report, out: Path) -> None:
    """Write a report as a page (.html) or as a table (.csv, .parquet, .xlsx).

    Raises:
        UsageError: another suffix, or the file cannot be written there.
    """
    if out.suffix.lower() == ".html":
        write_page(report, out)
    elif out.suffix.lower() in (".csv", ".parquet", ".xlsx"):
        write_table(out, COLUMNS, rows_of(report))
    else:
        raise UsageError(f"{out} does not end in .html, .csv, .parquet or .xlsx; name one of these")


# --- the two files of each run ---


@dataclass(frozen=True, slots=True)
class Reporter:
    """Keeps the reports of a schedule's runs true, for the worker that has its claim."""

    schedule: Schedule
    runtime: Runtime
    book: RunBook

    def keep_up(self, run: Run, *, at_once: bool = False) -> None:
        """Write a run's reports if they are due: when it is over, when all of it is settled, and
        now and then in between, and after it for as long as paid payouts are watched.

        Args:
            at_once: write them even if they were written a moment ago.
        """
        now = self.runtime.clock.now()
        settles = run.settled_at is None and self._is_complete(run)
        if run.outcome == "open" and not self.book.of(run):
            return
        if not (settles or at_once or _is_due(run, now)):
            return
        report = gather(run, self.schedule, self.runtime)
        digest = _digest(report)
        try:
            if digest != run.report_digest:
                self._write(report)
        except InboxUnreachable as error:
            log.error("report not written", extra={"schedule": run.schedule, "reason": error})
            self.book.change(run, problem=run.problem or f"{_UNWRITTEN}{error}")
            return
        settled_at = now if settles else run.settled_at
        written: dict[str, Any] = {
            "report_digest": digest,
            "reported_at": now,
            "settled_at": settled_at,
            "report_final": settled_at is not None and self._is_final(report, settled_at, now),
        }
        if (run.problem or "").startswith(_UNWRITTEN):
            written["problem"] = None
        self.book.change(run, **written)

    def _is_final(self, report: Report, settled_at: datetime, now: datetime) -> bool:
        """Whether no money can come back any more, as far as anybody looks."""
        watched = timedelta(days=self.runtime.settings.watch_paid_days)
        return not report.totals or now - settled_at >= watched

    def _is_complete(self, run: Run) -> bool:
        """Whether every file of a run is dealt with, and every payout of it final."""
        if run.outcome == "open":
            return False
        batches = BatchBook(self.runtime.store)
        for file in self.book.of(run):
            if file.fate in _SETTLED_FATES or (file.place == "gone" and file.batch_id is None):
                continue
            if file.fate != "approved" or file.batch_id is None:
                return False
            if not set(batches.counts(file.batch_id)) <= FINAL:
                return False
        return True

    def _write(self, report: Report) -> None:
        folder = open_folder(self.schedule.reports_folder)
        run = report.run
        with tempfile.TemporaryDirectory(prefix="paybatch-") as room:
            for suffix in (".csv", ".html"):
                out = Path(room) / f"{run.schedule}.{run.business_date}{suffix}"
                write_report(report, out)
                folder.put(out, out.name, private=False)


def _is_due(run: Run, now: datetime) -> bool:
    if run.reported_at is None or now - run.reported_at >= timedelta(seconds=REPORT_EVERY_S):
        return True
    return run.finished_at is not None and run.finished_at > run.reported_at


def _digest(report: Report) -> str:
    """What a report tells but for the time that passes."""
    still = replace(report, written_at=report.run.started_at)
    rows: list[Any] = [list(row) for row in rows_of(still)]
    return hashlib.sha256(json.dumps(rows, default=str).encode()).hexdigest()
