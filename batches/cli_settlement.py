"""The commands of nightly settlement: do what is due, say what was and will be, write a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from batches import local, screens
from batches.command import json_option, load_settings, print_json, record
from batches.intake import Working
from batches.local import Opened
from batches.people import Duty
from batches.places import errors_path
from batches.run import Paid, pay
from batches.settlement import CLAIM_S, Settled, schedules_named, settle
from batches.settlement_report import Reporter, gather, write_report
from batches.settlement_report import as_json as report_json
from batches.summary import NEEDS_PERSON, PAID_ALL, SOME_FAILED, STOPPED
from workers.errors import FileRefused, UsageError
from workers.record.batches import Batch, BatchBook
from workers.record.runs import File, Run, RunBook
from workers.record.status import FINAL, State
from workers.runtime import Runtime
from workers.schedules import Schedule, shown
from workers.standing import Standing, standings
from workers.words import number_of

# Between two looks.
WAIT_S = 1
# Runs that `paybatch schedules` looks through for missed ones.
LATEST = 30
_FATES = {
    "taken": "not taken yet",
    "storing": "being stored",
    "waiting": "waiting",
    "approved": "approved",
    "refused": "refused",
    "delivered_twice": "refused",
    "rejected": "turned down",
}
_OUTCOMES = {"open": "not finished yet"}
# From the gravest: a command ends with the first that it met.
_GRAVEST = (STOPPED, NEEDS_PERSON, SOME_FAILED, FileRefused.exit_code, PAID_ALL)


@click.command("settle")
@click.option("--schedule", "name", help="Only this one of [[schedules]].")
@click.option("--date", "day", metavar="D", help="Make the run of this business date, if missed.")
@json_option
def settle_(name: str | None, day: str | None, as_json: bool) -> int:
    """Do now what is due of the schedules: take files, check, store, approve, and report.

    Safe at any time, beside any number of workers and beats, and after a crash. Embedded, it also
    pays what is approved.
    """
    settings = load_settings(duty=Duty.SETTLE)
    wanted = None if day is None else _date(day)
    if wanted is not None and name is None:
        raise UsageError("--date needs --schedule")
    local.log_to_file(local.home(settings), settings.log_format)
    with local.open_runtime(settings) as opened:
        chosen = schedules_named(name, opened.runtime)
        working = partial(screens.working, quiet=as_json)
        looks = [_look(schedule, opened, wanted, working) for schedule in chosen]
        codes = [code for one in looks for code in _codes(one)]
        paid: dict[str, Sequence[_Paid]] = {}
        if settings.embedded:
            paid = {one.schedule.name: _pay(one, opened) for one in looks}
        codes += [one.paid.exit_code for each in paid.values() for one in each]
    code = next(each for each in _GRAVEST if each in {*codes, PAID_ALL})
    if as_json:
        told = [_settled_json(one, paid.get(one.schedule.name, ())) for one in looks]
        print_json({"schedules": told, "exit_code": code})
    else:
        _show(looks, paid)
        pauses = {one.paid.pause for each in paid.values() for one in each if one.paid.pause}
        again = "Then, or by the cron job: paybatch settle. What is paid stays paid."
        screens.pauses(sorted(pauses, key=lambda one: one.account), retried=False, then=again)
    return code


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paid:
    """A batch that this command paid, as far as it could."""

    file: File
    # It was approved before: whoever was to pay it did not come to its end.
    again: bool
    paid: Paid


def _look(schedule: Schedule, opened: Opened, day: date | None, working: Working) -> Settled:
    """Look once; again where a worker that may be dead has it, or a file was too young to be taken:
    a cron job does not come back soon.
    """
    clock = opened.runtime.clock
    settled = settle(schedule, opened.runtime, day, working)
    until = clock.monotonic() + CLAIM_S + WAIT_S
    while settled.busy and clock.monotonic() < until and not clock.stopping:
        clock.sleep(WAIT_S)
        settled = settle(schedule, opened.runtime, day, working)
    if not settled.unripe:
        return settled
    clock.sleep(schedule.quiet_s + WAIT_S)
    again = settle(schedule, opened.runtime, working=working)
    files = {file.id: file for one in (settled, again) for file in one.files}
    return replace(again, runs=again.runs or settled.runs, files=list(files.values()))


def _codes(settled: Settled) -> Sequence[int]:
    codes = []
    for run in settled.runs:
        if run.problem is not None:
            codes.append(STOPPED)
    for file in settled.files:
        if file.fate in ("refused", "delivered_twice"):
            codes.append(FileRefused.exit_code)
        if file.fate == "waiting" and file.waits_for == "money":
            codes.append(STOPPED)
    return codes


def _pay(look: Settled, opened: Opened) -> Sequence[_Paid]:
    """Pay what is approved and not settled, and write its reports anew."""
    runtime = opened.runtime
    name = look.schedule.name
    book = RunBook(runtime.database)
    runs = book.unreported(name)
    fresh = {file.id for file in look.files}
    done = [
        _Paid(file=file, again=file.id not in fresh, paid=pay(batch, opened, None))
        for file, batch in [each for run in runs for each in _unsettled(run, runtime)]
    ]
    if done and book.claim(name, runtime.clock.now(), claim_s=CLAIM_S):
        for run in runs:
            Reporter(look.schedule, runtime, book).keep_up(run, at_once=True)
        book.renew(name, None)
    return done


def _unsettled(run: Run, runtime: Runtime) -> Sequence[tuple[File, Batch]]:
    """The approved batches of a run of which something may still move, with their files."""
    batches = BatchBook(runtime.store)
    found = []
    for file in RunBook(runtime.database).of(run):
        batch = batches.get(file.batch_id) if file.batch_id and file.fate == "approved" else None
        if batch is None or batch.decision != "approved":
            continue
        if not set(batches.counts(batch.id)) <= FINAL | {State.HELD}:
            found.append((file, batch))
    return found


def _show(looks: Sequence[Settled], paid: Mapping[str, Sequence[_Paid]]) -> None:
    for one in looks:
        done = paid.get(one.schedule.name, ())
        if one.busy:
            screens.say(f"Schedule {one.schedule.name}: another worker has it.")
        for run in one.runs:
            problem = f": {run.problem}" if run.problem else ""
            outcome = _OUTCOMES.get(run.outcome, run.outcome)
            screens.say(f"Schedule {run.schedule}, {run.business_date}: {outcome}{problem}")
        if not one.busy and not one.runs:
            new = " new" if done or one.files else ""
            screens.say(f"Schedule {one.schedule.name}: nothing{new} is due.")
        for file in one.files:
            screens.say(f"  {_said(file, one.schedule)}")
        for each in done:
            counts = screens.counts_of(each.paid.summary.counts)
            batch = f"batch {each.file.batch_id}"
            if each.again:
                batch = f"taken up again: {batch} ({each.file.name}, {each.file.business_date})"
            screens.say(f"  {batch}: {counts}")
        if one.unripe:
            screens.say(
                f"  {number_of(one.unripe, 'file')} still being written, to be taken later."
            )
    if any(one.runs for one in looks):
        folders = sorted({one.schedule.reports_folder for one in looks if one.runs})
        screens.say(f"Reports: {', '.join(folders)}")


def _said(file: File, schedule: Schedule) -> str:
    batch = f" (batch {file.batch_id})" if file.batch_id else ""
    reason = f": {file.reason}" if file.reason else ""
    left = ""
    if file.rows_left_out:
        number = number_of(file.rows_left_out, "row")
        left = f"; left out, with faults: {number}, in {_errors(file, schedule)}"
    return f"{file.name}: {_FATES[file.fate]}{batch}{reason}{left}"


def _errors(file: File, schedule: Schedule) -> str:
    """Where the rows are that were left out, as it may be shown."""
    return f"{shown(schedule.inbox).rstrip('/')}/{errors_path(file)}"


def _settled_json(one: Settled, paid: Sequence[_Paid]) -> dict[str, Any]:
    return {
        "schedule": one.schedule.name,
        "busy": one.busy,
        "runs": [_run_json(run) for run in one.runs],
        "files": [
            {
                "name": file.name,
                "business_date": str(file.business_date),
                "fate": file.fate,
                "batch_id": file.batch_id,
                "twin_of": file.twin_of,
                "waits_for": file.waits_for,
                "reason": file.reason,
                "place": file.place,
                "left_out": file.rows_left_out,
                "errors": _errors(file, one.schedule) if file.rows_left_out else None,
            }
            for file in one.files
        ],
        "paid": [
            {
                "batch_id": each.file.batch_id,
                "file": each.file.name,
                "business_date": str(each.file.business_date),
                "taken_up_again": each.again,
                "counts": {str(state): n for state, n in each.paid.summary.counts.items()},
                "paused": each.paid.pause.reason if each.paid.pause else None,
                "exit_code": each.paid.exit_code,
            }
            for each in paid
        ],
        "unripe": one.unripe,
    }


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "schedule": run.schedule,
        "business_date": str(run.business_date),
        "due_at": run.due_at.isoformat(),
        "outcome": run.outcome,
        "caught_up": run.caught_up,
        "problem": run.problem,
    }


@click.command("schedules")
@json_option
def schedules_(as_json: bool) -> int:
    """The schedules of the settings: their next and last runs, and what was missed."""
    with record(Duty.LOOK) as runtime:
        book, now = RunBook(runtime.database), runtime.clock.now()
        settings = runtime.settings
        found = standings(settings.schedules, book, now, embedded=settings.embedded)
        lost = {
            one.schedule.name: [
                run
                for run in book.latest(one.schedule.name, LATEST)
                if run.outcome in ("missed", "failed")
            ]
            for one in found
        }
    if as_json:
        print_json({"schedules": [_standing_json(one, lost[one.schedule.name]) for one in found]})
        return 0
    if not found:
        screens.say("There are no [[schedules]] in the settings; docs/settlement.md tells of them.")
        return 0
    rows = [
        (
            one.schedule.name,
            _local(one.following.due_at, one) if one.following else "never",
            f"{one.last.business_date}: {_OUTCOMES.get(one.last.outcome, one.last.outcome)}"
            if one.last
            else "none yet",
            f"{one.waiting:,}" if one.waiting else "",
            ", ".join(str(run.business_date) for run in lost[one.schedule.name]),
        )
        for one in found
    ]
    heads = ["schedule", "next run", "last run", "files waiting", "missed or failed"]
    screens.table(heads, rows, right="files waiting")
    for one in found:
        if one.trouble:
            screens.say(f"{one.schedule.name}: {one.trouble}")
    return 0


def _local(at: datetime, one: Standing) -> str:
    return f"{at.astimezone(one.schedule.zone):%Y-%m-%d %H:%M} {one.schedule.time_zone}"


def _standing_json(one: Standing, lost: Sequence[Run]) -> dict[str, Any]:
    return {
        "schedule": one.schedule.name,
        "next": None
        if one.following is None
        else {
            "business_date": str(one.following.business_date),
            "due_at": one.following.due_at.isoformat(),
            "takes_until": one.following.takes_until.isoformat(),
        },
        "last": None if one.last is None else _run_json(one.last),
        "missed": [_run_json(run) for run in lost],
        "waiting": one.waiting,
        "overdue_since": one.overdue_since.isoformat() if one.overdue_since else None,
        "trouble": one.trouble,
    }


@click.command("report")
@click.argument("schedule")
@click.argument("day", metavar="DATE")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="A file for the report.")
@json_option
def report_(schedule: str, day: str, out: Path | None, as_json: bool) -> int:
    """The settlement report of SCHEDULE's run of DATE, made anew: as OUT.html for people, as
    OUT.csv (.parquet, .xlsx) for programs, or with --json on stdout.
    """
    wanted = _date(day)
    if out is None and not as_json:
        raise UsageError("name a file for the report with -o, or have its facts with --json")
    with record(Duty.LOOK) as runtime:
        run = RunBook(runtime.database).run(schedule, wanted)
        if run is None:
            raise UsageError(
                f"schedule {schedule!r} has no run of {wanted}; paybatch schedules tells of its"
                " last one"
            )
        known = {one.name: one for one in runtime.settings.schedules}
        found = gather(run, known.get(schedule), runtime)
        if out is not None:
            write_report(found, out)
    if as_json:
        print_json(report_json(found) | {"report": str(out) if out else None})
    else:
        screens.say(f"Report: {out}")
    return 0


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r}: expected a date such as 2026-03-31") from None
