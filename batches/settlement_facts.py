"""The values of a settlement report: what `batches.settlement_report` gathers and the page shows.

Frozen values and their sums; nothing is read or written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from workers.record.batches import Batch
from workers.record.money import Currency, Money
from workers.record.runs import File, Run
from workers.record.status import State


@dataclass(frozen=True, slots=True)
class FileLine:
    """A file, and the batch that it became."""

    file: File
    batch: Batch | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """What of one account and currency is in which state."""

    account: str
    currency: Currency
    states: Mapping[State, tuple[int, Money]]

    @property
    def given(self) -> tuple[int, Money]:
        """All that went in: whatever state it is in."""
        count, minor = 0, 0
        for number, amount in self.states.values():
            count, minor = count + number, minor + amount.minor
        return count, Money(minor, self.currency)

    def of(self, *states: State) -> tuple[int, Money]:
        """What is in some of the states."""
        count, minor = 0, 0
        for state in states:
            number, amount = self.states.get(state, (0, Money(0, self.currency)))
            count, minor = count + number, minor + amount.minor
        return count, Money(minor, self.currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A payout that failed, came back or needs a person."""

    batch_id: str
    state: State
    account: str
    reference_id: str
    amount: Money
    # Masked.
    beneficiary: str
    since: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLine:
    """Payouts of a batch that are not settled: how many, how much, and since when the oldest."""

    batch_id: str
    state: State
    account: str
    count: int
    amount: Money
    since: datetime


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody did with a batch."""

    batch_id: str
    action: str
    actor: str
    at: datetime
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run at one moment."""

    run: Run
    time_zone: str
    # As it may be shown; empty where the settings do not have the schedule any more.
    inbox: str
    written_at: datetime
    files: Sequence[FileLine]
    totals: Sequence[Total]
    # What the providers took, by account.
    fees: Sequence[tuple[str, Money]]
    failures: Sequence[Line]
    held: Sequence[Line]
    open: Sequence[OpenLine]
    acts: Sequence[Act]
    # Lines that were stored and are not there any more: somebody deleted them.
    missing: int
    # So many failures and held payouts of each batch are told of.
    lines_max: int

    @property
    def left_out(self) -> int:
        """The rows with faults that are not in the files' batches."""
        return sum(each.file.rows_left_out for each in self.files)

    def age_s(self, since: datetime) -> int:
        """Whole seconds since then."""
        return max(0, int((self.written_at - since).total_seconds()))
