"""Everything that people read on the screen: tables, summaries, the progress bar.

On a terminal with bars and colours; elsewhere plain lines. Nothing here decides anything.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from batches.doctor import Finding, mending
from batches.faultbook import FaultBook
from batches.people import DECISIONS
from batches.preflight import Plan
from batches.summary import Summary
from workers.providers.port import Service
from workers.record.accounts import PROBED, Pause
from workers.record.money import Money
from workers.record.status import FINAL, State
from workers.words import number_of

# More than this is not read on a screen; the rest is in the file that --errors writes.
FAULTS_SHOWN = 20
KINDS_SHOWN = 20
LINES_SHOWN = 10
# Without a terminal, one line of progress now and then.
PLAIN_EVERY_S = 5
# What is done sooner needs no bar.
BAR_AFTER_S = 1
WORDS: Mapping[State, str] = {
    State.DRAFT: "waiting for approval",
    State.QUEUED: "queued",
    State.CREATING: "being sent",
    State.UNKNOWN: "being looked up",
    State.CREATED: "created",
    State.PROCESSING: "processing",
    State.PAID: "paid",
    State.RETURNED: "returned",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.HELD: "needs a person",
}
_COLOURS = {
    State.PAID: "green",
    State.FAILED: "red",
    State.RETURNED: "red",
    State.HELD: "yellow",
}

# A file or a pipe has no width: lines there are never cut.
PIPE_WIDTH = 1000


def _console(*, stderr: bool) -> Console:
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else PIPE_WIDTH
    return Console(stderr=stderr, highlight=False, soft_wrap=True, width=width)


out = _console(stderr=False)
err = _console(stderr=True)


def say(text: str = "") -> None:
    """One line to standard output, as it stands."""
    out.print(escape(text))


def ask(question: str) -> None:
    """A question, with the answer typed behind it."""
    out.print(escape(question), end="")


def warn(text: str) -> None:
    """One line to standard error, as it stands."""
    err.print(escape(text))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: str = "") -> None:
    """A small table; the columns named in `right` are numbers."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        shown.add_column(escape(name), justify="right" if name in right.split() else "left")
    for row in rows:
        shown.add_row(*(escape(str(cell)) for cell in row))
    out.print(shown)


def faults(found: FaultBook, *, hint: str) -> None:
    """The first faults one by one; where there are more, all of them counted by kind."""
    if not found:
        return
    rows = [
        (fault.line, fault.column, fault.value, fault.expected)
        for fault in found.first(FAULTS_SHOWN)
    ]
    table(["line", "column", "found", "expected"], rows, right="line")
    if len(found) > FAULTS_SHOWN:
        say(f"... and {len(found) - FAULTS_SHOWN:,} more. {hint}")
        say("All of them by kind:")
        counts = found.counts
        for count in counts[:KINDS_SHOWN]:
            say(f"  {count}")
        if len(counts) > KINDS_SHOWN:
            say(f"  ... and {number_of(len(counts) - KINDS_SHOWN, 'more kind')}")


def _payable(found: Plan) -> str:
    if found.is_payable or not found.faults:
        return f"{found.valid:,} to pay"
    faulty = sum(1 for _ in found.faults.lines())
    return f"{found.rows - faulty:,} without a fault"


def plan(found: Plan) -> None:
    """What would be paid: per account and currency, beside the money that is there."""
    say(f"{found.path.name}: {number_of(found.rows, 'row')}, {_payable(found)}")
    rows = [
        (
            funds.account,
            f"{funds.count:,}",
            funds.amount.named(),
            funds.fees.named(),
            funds.promised.named(),
            "not known" if funds.balance is None else funds.balance.named(),
        )
        for funds in found.funds
    ]
    if rows:
        columns = ["account", "payouts", "amount", "expected fees", "promised before", "balance"]
        table(columns, rows, right="payouts amount expected fees promised before balance")
    if found.faults and found.is_payable:
        say(
            f"Rows left out because of faults: {found.rows - found.valid:,}; paybatch check"
            f" {found.path.name} --valid-rows-only --errors OUT.csv writes them to be corrected"
        )
    if found.parents:
        say(f"It corrects or pays again lines of batch {', '.join(found.parents)}")
    for contradiction in found.contradictions:
        say(f"Refused: {contradiction}")
    for warning in found.warnings:
        say(f"Warning: {warning}")
    if found.repeats and found.options.allow_repeats:
        say(f"Warning: {number_of(found.repeats, 'repeated payment')}, allowed by --allow-repeats")
    if found.estimated_s is not None and found.valid:
        say(f"Estimated time at the account's rate: about {duration(found.estimated_s)}")
    for funds in found.uncovered:
        spendable = funds.spendable
        say(
            f"Not enough money: account {funds.account} needs {funds.needed.named()} with fees,"
            f" and {spendable.named() if spendable else ''} can be spent"
        )


def summary(found: Summary, *, now: datetime) -> None:
    """What a batch has come to, as a payroll clerk reads it."""
    batch = found.batch
    say(f"Batch {batch.id} ({batch.file_name}, {number_of(batch.rows, 'line')}): {found.state}")
    if batch.child_of:
        say(f"It corrects or pays again lines of batch {batch.child_of}")
    rows = []
    for state in State:
        number = found.counts.get(state)
        if number:
            sums = [
                by_state[state][1].named() for by_state in found.sums.values() if state in by_state
            ]
            rows.append((WORDS[state], f"{number:,}", "   ".join(sums)))
    table(["", "lines", "amounts"], rows, right="lines")
    _decided(found)
    if found.missing:
        say(
            f"{number_of(found.missing, 'line')} of this batch cannot be found in the database any"
            " more: deleted by somebody; compare with the file and the provider before anything"
            " else"
        )
    if found.fees:
        say("Fees taken: " + ", ".join(fee.named() for fee in found.fees))
    if found.reasons:
        say("Why lines failed or came back:")
        for reason, number in found.reasons[:LINES_SHOWN]:
            say(f"  {number:,} x {reason}")
    _for_a_person(found)
    for state, since in found.open_since.items():
        age = duration(int((now - since).total_seconds()))
        told = WORDS[state] if state is State.HELD else f"is {WORDS[state]}"
        say(f"Oldest that {told}: {age}")
    if found.next_due is not None:
        wait_s = max(0, int((found.next_due - now).total_seconds()))
        say(f"Its next step is due in {duration(wait_s)}, once a worker runs")


def history(found: Summary) -> None:
    """What people did with a batch, the latest last."""
    left = len(found.history) - LINES_SHOWN
    if left > 0:
        say(f"History, but for the first {left:,}:")
    elif found.history:
        say("History:")
    for deed in found.history[-LINES_SHOWN:]:
        note = f": {deed.note}" if deed.note else ""
        say(f"  {clock_time(deed.at)}  {deed.action} by {deed.actor} ({deed.actor.origin}){note}")


def _decided(found: Summary) -> None:
    """What it means that somebody stopped a batch."""
    by = next((d for d in reversed(found.history) if d.action == found.batch.decision), None)
    who = f"{by.actor} has {by.action} it at {clock_time(by.at)}" if by else "Somebody did that"
    if found.batch.decision == "paused":
        say(
            f"{who}: nothing of it is sent; what was sent already is followed to its end."
            f" Go on with: paybatch resume {found.batch.id}"
        )
    elif found.batch.decision == "cancelled":
        say(f"{who}: nothing more of it is sent.")


def _for_a_person(found: Summary) -> None:
    """What somebody has to look at."""
    if found.held:
        say("These need a person; nothing is sent for them until somebody decides:")
        for reference_id, why in found.held[:LINES_SHOWN]:
            say(f"  {reference_id}: {why}")
        left = found.counts.get(State.HELD, 0) - len(found.held[:LINES_SHOWN])
        if left > 0:
            say(f"  ... and {left:,} more; see the results file")
        say(
            "  Look them up at the provider, then: paybatch resolve REFERENCE_ID"
            f' --as {"|".join(DECISIONS)} --reason "..."'
        )
    if found.proposed:
        say("Proposed, and done once somebody else decides the same:")
        for one in found.proposed[:LINES_SHOWN]:
            proposal = one.proposal
            say(
                f"  {one.reference_id}: {one.decision}, by {proposal.actor} at"
                f" {clock_time(proposal.at)}: {proposal.reason}"
            )
            say(f"    to confirm: {one.confirm}")
        if len(found.proposed) > LINES_SHOWN:
            say("  ... and more; paybatch status --json has them")
    if found.warnings:
        say("The provider said more about these:")
        for reference_id, what in found.warnings[:LINES_SHOWN]:
            say(f"  {reference_id}: {what}")


def pauses(found: Sequence[Pause], *, retried: bool, then: str) -> None:
    """Why accounts send nothing, and what to do about it.

    Args:
        retried: workers that go on running try the accounts again by themselves.
        then: what to do when it is mended.
    """
    for pause in found:
        again = ""
        if retried and pause.kind in PROBED:
            again = f", tried again at {clock_time(pause.probe_at)}"
        say(
            f"Account {pause.account} is paused ({pause.kind}): {pause.reason};"
            f" since {clock_time(pause.since)}{again}"
        )
        say(f"  {mending(pause)}")
    if any(pause.kind in PROBED for pause in found):
        say(then)


def counts_of(counts: Mapping[State, int]) -> str:
    """`40 paid, 1 failed`, in the order of a payout's life."""
    return ", ".join(_counted(state, counts[state]) for state in State if counts.get(state))


def _counted(state: State, number: int) -> str:
    word = "need a person" if state is State.HELD and number > 1 else WORDS[state]
    return f"{number:,} {word}"


class Bar:
    """The progress of a batch: settled of all, counts per state, and the rate."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total = total
        self._progress = progress
        self._task = None
        if progress is not None:
            self._task = progress.add_task("", total=total, words="", rate="")
        self._began = time.monotonic()
        self._before: int | None = None
        self._said_at = 0.0
        self._said = ""

    def show(self, counts: Mapping[State, int]) -> None:
        settled = sum(counts.get(state, 0) for state in FINAL)
        if self._before is None:
            self._before = settled
        took_s = max(time.monotonic() - self._began, 0.001)
        rate = f"{(settled - self._before) / took_s:.0f}/s"
        if self._progress is not None and self._task is not None:
            words = "  ".join(
                _coloured(state, counts[state]) for state in State if counts.get(state)
            )
            self._progress.update(self._task, completed=settled, words=words, rate=rate)
            return
        words = counts_of(counts)
        if words != self._said and time.monotonic() - self._said_at >= PLAIN_EVERY_S:
            self._said, self._said_at = words, time.monotonic()
            warn(f"{settled}/{self._total} settled, {rate}: {words}")


@contextmanager
def bar(total: int) -> Iterator[Bar]:
    """A progress bar on a terminal, plain lines elsewhere, both on standard error."""
    if not err.is_terminal:
        yield Bar(total, None)
        return
    columns = (
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=err) as progress:
        yield Bar(total, progress)


@contextmanager
def working(
    what: str, total: int | None = None, *, unit: str = "rows", quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """A bar for work that takes longer than a second, on a terminal's standard error; elsewhere
    nothing. It is told the number of rows, or what else `unit` is, done so far.

    Args:
        total: of them; None: nobody knows yet.
        quiet: show nothing at all.
    """
    if quiet or not err.is_terminal:
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn(f"{{task.completed:,}} {unit}"),
        TimeElapsedColumn(),
    )
    progress = Progress(*columns, console=err, transient=True)
    task = progress.add_task(what, total=total)
    began = time.monotonic()

    def show(done: int) -> None:
        progress.update(task, completed=done)
        if not progress.live.is_started and time.monotonic() - began >= BAR_AFTER_S:
            progress.start()

    try:
        yield show
    finally:
        if progress.live.is_started:
            progress.stop()


def adding(show: Callable[[int], None]) -> Callable[[int], None]:
    """Of what is told how many are done, a function that is told how many more are."""
    done = 0

    def more(number: int) -> None:
        nonlocal done
        done += number
        show(done)

    return more


def _coloured(state: State, number: int) -> str:
    words = f"{WORDS[state]} {number:,}"
    return f"[{_COLOURS[state]}]{words}[/]" if state in _COLOURS else words


def duration(seconds: int) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `5 days`."""
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} days"


def clock_time(at: datetime) -> str:
    """A time for people, in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def services(found: Sequence[Service], *, listed: bool) -> None:
    """Services with their limits, expected fees and fields.

    Args:
        listed: the provider told them itself, so one without a fee has none.
    """
    rows = []
    for service in found:
        fee = f"{(service.fee_rate * 100).normalize():f}%" if service.fee_rate else ""
        if service.fee_fix is not None and service.fee_fix.minor:
            fee = f"{fee} + {service.fee_fix.named()}".removeprefix(" + ")
        fields = "not told"
        if service.fields is not None:
            fields = ", ".join(
                rule.name if rule.required else f"[{rule.name}]" for rule in service.fields
            )
        rows.append(
            (
                service.code if service.usable else f"{service.code} (not usable)",
                service.currency.code,
                _limits(service.amount_min, service.amount_max),
                fee or ("none" if listed else "not told"),
                fields,
            )
        )
    table(["service", "pays from", "limits", "fee", "fields ([optional])"], rows)


def _limits(low: Money | None, high: Money | None) -> str:
    if low is None:
        return "none known" if high is None else f"up to {high.named()}"
    return f"from {low.named()}" if high is None else f"{low.named()} to {high.named()}"


def batches(found: Sequence[Summary]) -> None:
    """The latest batches, a line each."""
    rows = [
        (
            one.batch.id,
            one.batch.file_name,
            clock_time(one.batch.made_at),
            one.state,
            counts_of(one.counts),
        )
        for one in found
    ]
    table(["batch", "file", "stored", "state", "lines"], rows)
    for one in found:
        if one.proposed:
            say(
                f"Batch {one.batch.id} has proposals that wait for somebody else to decide the"
                f" same: paybatch status {one.batch.id}"
            )


def findings(found: Sequence[Finding]) -> None:
    """What `doctor` found."""
    for one in found:
        say(f"{'ok     ' if one.ok else 'PROBLEM'}  {one.what}: {one.detail}")
