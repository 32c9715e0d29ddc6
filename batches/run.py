"""`run FILE`: check, show the plan, ask, store, approve, pay, follow, answer for every line.

The same file again carries on where it stood, whatever ended the last run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from batches import approval, local, screens
from batches.dispatch import dispatch
from batches.local import EmbeddedWorker, Opened
from batches.people import Duty, may, operator
from batches.preflight import REFUSED, Options, Plan, Preflight
from batches.reports import check_target
from batches.results import write_results
from batches.summary import NEEDS_PERSON, STOPPED, Summary, summarise
from workers import sweep
from workers.errors import AccountFault, BatchExists, BrokerUnreachable, UsageError
from workers.record.accounts import PROBED, Pause
from workers.record.batches import Batch, BatchBook
from workers.record.history import Action, History
from workers.record.status import State
from workers.runtime import Runtime
from workers.words import number_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the person asked `run` for."""

    out: Path
    # Ask before paying: the question's answer; without a terminal nobody can be asked.
    agreed: bool
    can_ask: bool
    quiet: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a run ended."""

    exit_code: int
    summary: Summary | None = None
    plan: Plan | None = None
    pause: Pause | None = None
    out: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """How far a batch was followed."""

    summary: Summary
    # What stopped it; None: nothing moves by itself any more.
    pause: Pause | None
    exit_code: int


def run_file(path: Path, options: Options, choices: Choices, opened: Opened) -> Ran:
    """Carry a file from its check to the answer for every line, or carry on with its batch.

    Raises:
        PaybatchError: whatever stops it, with the exit code to end with.
    """
    # Before any money moves: afterwards it would be too late to say so.
    check_target(choices.out, other_than=path)
    runtime = opened.runtime
    preflight = Preflight(runtime, options, runtime.clock.now())
    book = preflight.book
    batch = book.by_file(preflight.file_hash(path))
    fresh = False
    if batch is None:
        _refuse_cancelled(preflight.file_hash(path), book, runtime)
    # Control totals are looked at whenever they are stated, also of a file that is known.
    if batch is None or options.has_totals:
        with screens.working("Checking", quiet=choices.quiet) as progress:
            plan = preflight.examine(path, progress)
        batch = plan.known_as
        if batch is None or plan.contradictions:
            if not choices.quiet:
                screens.plan(plan)
            if not plan.is_payable:
                return Ran(exit_code=REFUSED, plan=plan)
            plan.refuse_uncovered()
            _agree(choices, plan.valid)
            batch, fresh = _stored(plan, preflight, book, choices), True
    if batch.decision == "approved":
        ended = _ended(batch, book, choices)
        if ended is not None:
            return ended
        if not choices.quiet:
            _tell_carrying_on(batch, book, runtime)
    else:
        batch = _approved(batch, opened, choices, fresh=fresh)
    paid = pay(batch, opened, choices.out, quiet=choices.quiet)
    return Ran(exit_code=paid.exit_code, summary=paid.summary, pause=paid.pause, out=choices.out)


def _tell_carrying_on(batch: Batch, book: BatchBook, runtime: Runtime) -> None:
    screens.say(f"Carrying on with batch {batch.id}, stored {screens.clock_time(batch.made_at)}")
    if not runtime.settings.embedded:
        # The cluster's workers go on with it, whoever follows.
        return
    now = runtime.clock.now()
    begun, until = book.begun(batch.id, now)
    if until is not None:
        seconds = math.ceil((until - now).total_seconds())
        screens.say(
            f"Another run has begun {number_of(begun, 'payout')} of it; if that run was killed,"
            f" what it left is looked up at the provider in {number_of(seconds, 'second')} at most"
        )


def pay(batch: Batch, opened: Opened, out: Path | None, *, quiet: bool = False) -> Paid:
    """Follow an approved batch until nothing of it moves by itself, and write its results.

    Args:
        quiet: show nothing while they are written.
    """
    runtime = opened.runtime
    book = BatchBook(runtime.store)
    names = approval.accounts_of(batch, book, runtime)
    pause = _all_paused(names, opened)
    if pause is None:
        with screens.bar(batch.rows) as bar:
            if runtime.settings.embedded:
                with EmbeddedWorker(opened) as worker:
                    pause = _followed(batch, opened, worker, bar)
            else:
                announce(batch.id, runtime)
                pause = local.follow(batch.id, runtime, None, bar.show, screens.warn)
    if out is not None:
        _write(batch, book, out, quiet=quiet)
    # Somebody may have stopped it meanwhile.
    summary = summarise(approval.find(batch.id, book), book)
    code = summary.exit_code
    if pause is not None and code != NEEDS_PERSON:
        code = STOPPED
    return Paid(summary=summary, pause=pause, exit_code=code)


def announce(batch_id: str, runtime: Runtime) -> None:
    """Tell the cluster's workers at once of an approved batch; what they are not told now, the
    sweep tells them later.
    """
    try:
        dispatch(batch_id, runtime)
    except BrokerUnreachable as error:
        screens.warn(
            f"Warning: {error}. Batch {batch_id} is approved and stored, and nothing is lost: its"
            " payouts are announced by beat once the broker is back. Start it, or correct"
            " broker_url (paybatch doctor)."
        )


def _followed(
    batch: Batch, opened: Opened, worker: EmbeddedWorker, bar: screens.Bar
) -> Pause | None:
    try:
        return local.follow(batch.id, opened.runtime, worker, bar.show, screens.warn)
    except KeyboardInterrupt:
        screens.warn(f"Stopping batch {batch.id}: calls that are under way end first ...")
        raise


def _agree(choices: Choices, count: int) -> None:
    """Ask before money moves.

    Raises:
        UsageError: nobody can be asked.
        KeyboardInterrupt: the answer was no.
    """
    if choices.agreed:
        return
    if not choices.can_ask:
        raise UsageError("there is no terminal to ask on; use --yes to pay without the question")
    screens.ask(f"Pay {number_of(count, 'payout')} now? [y/N] ")
    if input().strip().lower() not in ("y", "yes"):
        screens.say("Nothing was stored and nothing was sent.")
        raise KeyboardInterrupt


def _stored(plan: Plan, preflight: Preflight, book: BatchBook, choices: Choices) -> Batch:
    """Store the batch, or join the run of the same file that was a moment faster."""
    try:
        with screens.working("Storing", plan.valid, quiet=choices.quiet) as progress:
            batch_id = approval.store(plan, preflight, operator(), progress)
    except BatchExists as exists:
        batch_id = exists.batch_id
    return approval.find(batch_id, book)


def _approved(batch: Batch, opened: Opened, choices: Choices, *, fresh: bool) -> Batch:
    runtime = opened.runtime
    if batch.decision == "paused":
        raise AccountFault(
            f"batch {batch.id} is paused{_by(batch, Action.PAUSED, runtime)}, so nothing of it is"
            f" sent; go on with: paybatch resume {batch.id}"
        )
    if not may(runtime.settings, operator(), Duty.DECIDE):
        raise AccountFault(
            f"batch {batch.id} is stored, and {operator()} may not approve it; a checker does:"
            f" paybatch approve {batch.id}, and then the same command pays it"
        )
    if runtime.settings.approvals == 2:
        raise AccountFault(
            f"batch {batch.id} is stored; with approvals = 2 somebody else has to approve it:"
            f" paybatch approve {batch.id}"
        )
    if not fresh:
        # Stored by a run that ended before its approval: the person is asked once more.
        _agree(choices, batch.rows)
    with screens.working("Approving", batch.rows, quiet=choices.quiet) as progress:
        return approval.approve_or_join(batch.id, runtime, operator(), progress)


def _refuse_cancelled(file_hash: str, book: BatchBook, runtime: Runtime) -> None:
    """Have nobody revive a cancelled batch by running its file once more.

    Raises:
        BatchExists: the file is one.
    """
    batch = book.cancelled_file(file_hash)
    if batch is not None:
        raise BatchExists(
            f"this file is batch {batch.id}, which was cancelled"
            f"{_by(batch, Action.CANCELLED, runtime)}; nothing was sent now. To have it paid after"
            " all, submit it anew: paybatch submit FILE, and approve that",
            batch_id=batch.id,
        )


def _by(batch: Batch, action: Action, runtime: Runtime) -> str:
    deed = History(runtime.database).last(batch.id, action)
    return "" if deed is None else f" by {deed.actor} at {screens.clock_time(deed.at)}"


def _ended(batch: Batch, book: BatchBook, choices: Choices) -> Ran | None:
    """How a batch that does not move by itself any more is answered; None: it does."""
    summary = summarise(batch, book)
    if not summary.is_completed:
        return None
    _write(batch, book, choices.out, quiet=choices.quiet)
    if summary.missing:
        return Ran(exit_code=summary.exit_code, summary=summary, out=choices.out)
    if summary.counts.get(State.HELD):
        return Ran(exit_code=NEEDS_PERSON, summary=summary, out=choices.out)
    raise BatchExists(
        f"this file was paid already as batch {batch.id}, which is finished; nothing was sent."
        f" Its results: {choices.out}",
        batch_id=batch.id,
    )


def _write(batch: Batch, book: BatchBook, out: Path, *, quiet: bool) -> None:
    with screens.working("Writing", batch.rows, quiet=quiet) as progress:
        write_results(batch.id, book, out, progress)


def _all_paused(names: Sequence[str], opened: Opened) -> Pause | None:
    """Try paused accounts of a batch now; where all of them stay paused, the first, and why."""
    runtime = opened.runtime
    staying: list[Pause] = []
    for pause in runtime.book.pauses():
        if pause.account not in names:
            continue
        still = pause.reason
        if pause.kind in PROBED:
            account = runtime.accounts[pause.account]
            account.keep_up()
            still = sweep.probe(account, runtime) or ""
        if still:
            staying.append(replace(pause, reason=still))
    return staying[0] if staying and len(staying) == len(names) else None
