"""The judge of a batch: the file that was submitted, the table, its journal, the results file and
the provider's own ledger, line by line. Pure; what it is given may come from anywhere.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from workers.record.status import State, is_allowed, is_final

# What the providers' ledgers call a payout that the beneficiary has.
SETTLED = frozenset({"processed", "SUCCESS"})


@dataclass(frozen=True)
class Line:
    """A payout as the table has it."""

    id: int
    row: int
    reference_id: str
    account: str
    amount: Decimal
    currency: str
    state: str


@dataclass(frozen=True)
class Event:
    """A line of the journal."""

    payout_id: int
    source: str
    target: str
    cause: str
    actor: str


@dataclass(frozen=True)
class Evidence:
    """All that is known of a batch once nothing of it is open any more."""

    # The rows of the file, and the state in which each must end where that is determined.
    file: Sequence[Mapping[str, str]]
    expected: Mapping[str, str]
    lines: Sequence[Line]
    events: Sequence[Event]
    results: Sequence[Mapping[str, str]]
    # By reference id, from all the providers: what concerns this batch.
    ledger: Mapping[str, Any]


@dataclass
class Findings:
    """What is wrong, one sentence each, by kind."""

    doubles: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.doubles or self.lost or self.wrong)

    def __str__(self) -> str:
        kinds = {"paid twice": self.doubles, "lost": self.lost, "wrong": self.wrong}
        return "\n".join(f"{kind}: {one}" for kind, found in kinds.items() for one in found)


def judge(evidence: Evidence) -> Findings:
    """Everything that is wrong with the batch."""
    findings = Findings()
    findings.lost += _lost(evidence)
    rows = {row["reference_id"]: row for row in evidence.file}
    known = {line.reference_id for line in evidence.lines}
    for reference_id in evidence.ledger:
        if reference_id not in known:
            findings.wrong.append(f"{reference_id}: at the provider, and in no line of the table")
    chains: dict[int, list[Event]] = defaultdict(list)
    for event in evidence.events:
        chains[event.payout_id].append(event)
    for line in evidence.lines:
        invoices = evidence.ledger.get(line.reference_id, {}).get("invoices", [])
        findings.doubles += _doubles(line, invoices)
        row = rows.get(line.reference_id)
        if row is not None:
            findings.wrong += _otherwise_than_the_file(line, row)
        findings.wrong += _otherwise_than_the_provider(line, invoices)
        findings.wrong += _unfinished(line, chains[line.id])
        findings.wrong += _journal(line, chains[line.id])
        due = evidence.expected.get(line.reference_id, line.state)
        if line.state != due:
            findings.wrong.append(f"{line.reference_id}: {line.state}, and should be {due}")
    return findings


def _lost(evidence: Evidence) -> Iterator[str]:
    """The same lines in the file, in the table and in the results, in the same order."""
    told = [row["reference_id"] for row in evidence.file]
    table = sorted(evidence.lines, key=lambda line: line.row)
    places = {
        "the table": [line.reference_id for line in table],
        "the results": [row["reference_id"] for row in evidence.results],
    }
    for place, found in places.items():
        for reference_id, count in (Counter(told) - Counter(found)).items():
            yield f"{reference_id}: {count} times missing from {place}"
        for reference_id, count in (Counter(found) - Counter(told)).items():
            yield f"{reference_id}: {count} times too often in {place}"
        if sorted(found) == sorted(told) and found != told:
            yield f"{place}: not in the order of the file"
    if [line.row for line in table] != list(range(1, len(table) + 1)):
        yield "the table: its rows are not numbered from 1 without a gap"
    states = {line.reference_id: line.state for line in evidence.lines}
    for row in evidence.results:
        state = states.get(row["reference_id"])
        if row["state"] != state:
            yield f"{row['reference_id']}: {row['state']} in the results, {state} in the table"


def _doubles(line: Line, invoices: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    releases = sum(len(invoice["releases"]) for invoice in invoices)
    if releases > 1:
        yield f"{line.reference_id}: released {releases} times"
    elif len(invoices) > 1:
        # Here the provider happened to release one of them.
        yield f"{line.reference_id}: {len(invoices)} payouts at the provider"


def _otherwise_than_the_file(line: Line, row: Mapping[str, str]) -> Iterator[str]:
    there = (line.amount, line.currency, line.account)
    said = (Decimal(row["amount"]), row["currency"], row["account"])
    if there != said:
        yield f"{line.reference_id}: {there} in the table, {said} in the file"


def _otherwise_than_the_provider(
    line: Line, invoices: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    gone = sum(Decimal(each["paid_out"]) + Decimal(each["pending"]) for each in invoices)
    settled = [invoice for invoice in invoices if invoice["status"] in SETTLED]
    if line.state == State.PAID:
        if not any(invoice["releases"] for invoice in settled):
            yield f"{line.reference_id}: paid, and the provider has not paid it"
    elif settled and line.state != State.HELD:
        yield f"{line.reference_id}: {line.state}, and the provider has paid it"
    elif gone and line.state != State.HELD:
        yield f"{line.reference_id}: {line.state}, and {gone} are gone or promised"
    for invoice in settled:
        paid = (Decimal(invoice["amount"]), invoice["currency"])
        if paid != (line.amount, line.currency) and line.state != State.HELD:
            yield f"{line.reference_id}: {paid} were paid for {line.amount} {line.currency}"


def _unfinished(line: Line, chain: Sequence[Event]) -> Iterator[str]:
    if line.state == State.HELD:
        if not any(event.target == State.HELD and event.cause for event in chain):
            yield f"{line.reference_id}: held without a reason"
    elif not is_final(State(line.state)):
        yield f"{line.reference_id}: left {line.state}"


def _journal(line: Line, chain: Sequence[Event]) -> Iterator[str]:
    state: str = State.DRAFT
    for event in chain:
        if event.source != state:
            yield f"{line.reference_id}: a gap in its journal, {state} then {event.source}"
        moved = event.source != event.target
        if moved and not is_allowed(State(event.source), State(event.target)):
            yield f"{line.reference_id}: {event.source} to {event.target} is no move"
        if moved and event.source == State.HELD and event.actor in ("worker", "sweep"):
            yield f"{line.reference_id}: {event.actor} decided about a held payout"
        state = event.target
    if state != line.state:
        yield f"{line.reference_id}: {line.state}, and its journal ends at {state}"
