"""What a batch has come to, for people and programs: counts, sums, reasons, and the exit code."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from shlex import quote
from typing import Any

from batches.people import DECISIONS
from workers.record.answers import Tally, is_completed, open_ages
from workers.record.batches import Batch, BatchBook
from workers.record.history import Deed, History
from workers.record.model import Proposal
from workers.record.money import Currency, Money
from workers.record.status import FINAL, TURNED_DOWN, State

_WORDS = {target: word for word, target in DECISIONS.items()}
PAID_ALL, MISSING, SOME_FAILED, NEEDS_PERSON, STOPPED = 0, 1, 4, 5, 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """What one person would have become of a held payout."""

    reference_id: str
    account: str
    proposal: Proposal
    # What somebody else types to have it so.
    confirm: str

    @property
    def decision(self) -> str:
        return _WORDS[self.proposal.target]

    def as_json(self) -> dict[str, Any]:
        return {
            "reference_id": self.reference_id,
            "account": self.account,
            "decision": self.decision,
            "by": self.proposal.actor,
            "at": self.proposal.at.isoformat(),
            "reason": self.proposal.reason,
            "confirm": self.confirm,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A batch at one moment."""

    batch: Batch
    counts: Mapping[State, int]
    # Per currency and state, in order of both.
    sums: Mapping[Currency, Mapping[State, tuple[int, Money]]]
    fees: Sequence[Money]
    # Why payouts failed, with how many, the most frequent first.
    reasons: Sequence[tuple[str, int]]
    # The payouts that need a person: reference id, and why.
    held: Sequence[tuple[str, str]]
    # What one person proposes for a held payout, and another one is to decide as well.
    proposed: Sequence[Proposed]
    # Payouts with something a person should see, though their state stands.
    warnings: Sequence[tuple[str, str]]
    # Since when the oldest of each open state is open.
    open_since: Mapping[State, datetime]
    # When something of it is due next; None: nothing, by itself (its account may be paused).
    next_due: datetime | None
    # What people did with it, the oldest first.
    history: Sequence[Deed] = ()

    @property
    def missing(self) -> int:
        """Lines that were stored and are not there any more: somebody deleted them."""
        return self.batch.rows - sum(self.counts.values())

    @property
    def is_completed(self) -> bool:
        return is_completed(self.counts)

    @property
    def state(self) -> str:
        """Draft, rejected, cancelled or paused as people decided; else running or completed."""
        if self.batch.decision != "approved":
            return self.batch.decision
        return "completed" if self.is_completed else "running"

    @property
    def exit_code(self) -> int:
        """0 all paid, 1 lines are missing, 4 some not paid, 5 some need a person, 6 still open."""
        if self.missing:
            return MISSING
        if self.counts.get(State.HELD):
            return NEEDS_PERSON
        if not self.is_completed:
            return STOPPED
        return PAID_ALL if set(self.counts) <= {State.PAID} else SOME_FAILED

    def as_json(self) -> dict[str, Any]:
        return {
            "batch_id": self.batch.id,
            "file": self.batch.file_name,
            "child_of": self.batch.child_of,
            "state": self.state,
            "rows": self.batch.rows,
            "missing": self.missing,
            "counts": {str(state): number for state, number in self.counts.items()},
            "sums": [
                {
                    "currency": currency.code,
                    "state": str(state),
                    "count": number,
                    "amount": str(amount),
                }
                for currency, states in self.sums.items()
                for state, (number, amount) in states.items()
            ],
            "fees": [{"currency": fee.currency.code, "amount": str(fee)} for fee in self.fees],
            "failures": [{"reason": reason, "count": number} for reason, number in self.reasons],
            "held": [{"reference_id": which, "reason": why} for which, why in self.held],
            "proposals": [one.as_json() for one in self.proposed],
            "warnings": [{"reference_id": which, "warning": what} for which, what in self.warnings],
            "open_since": {str(state): at.isoformat() for state, at in self.open_since.items()},
            "next_due": self.next_due.isoformat() if self.next_due else None,
            "history": [
                {
                    "at": deed.at.isoformat(),
                    "action": deed.action,
                    "actor": deed.actor.name,
                    "origin": deed.actor.origin,
                    "note": deed.note,
                }
                for deed in self.history
            ],
            "settled": sum(self.counts.get(state, 0) for state in FINAL),
        }


def summarise(batch: Batch, book: BatchBook) -> Summary:
    """Read a batch's state of affairs."""
    counts: Counter[State] = Counter()
    sums: dict[Currency, dict[State, tuple[int, Money]]] = defaultdict(dict)
    fees: Counter[str] = Counter()
    tallies = book.tallies(batch.id)
    for tally in tallies:
        counts[tally.state] += tally.count
        number, amount = sums[tally.amount.currency].get(
            tally.state, (0, Money(0, tally.amount.currency))
        )
        sums[tally.amount.currency][tally.state] = (number + tally.count, amount + tally.amount)
        fees.update(tally.fees)
    return Summary(
        batch=batch,
        counts=dict(counts),
        sums={currency: sums[currency] for currency in sorted(sums)},
        fees=[Money(minor, Currency.of(code)) for code, minor in sorted(fees.items()) if minor],
        reasons=book.reasons(batch.id) if counts.keys() & TURNED_DOWN else [],
        held=book.held(batch.id) if counts.get(State.HELD) else [],
        proposed=_proposed(batch, book, tallies) if counts.get(State.HELD) else [],
        warnings=book.warnings(batch.id),
        open_since=open_ages(tallies),
        next_due=book.next_due(batch.id, tallies),
        history=History(book.database).of(batch.id),
    )


def _proposed(batch: Batch, book: BatchBook, tallies: Sequence[Tally]) -> Sequence[Proposed]:
    # A batch that pays from several accounts may have one reference id in each.
    several = len({tally.account for tally in tallies}) > 1
    found = []
    for reference_id, account, proposal in book.proposals(batch.id):
        confirm = f"paybatch resolve {quote(reference_id)} --as {_WORDS[proposal.target]}"
        confirm += f" --account {quote(account)}" if several else ""
        found.append(
            Proposed(
                reference_id=reference_id,
                account=account,
                proposal=proposal,
                confirm=f'{confirm} --reason "..."',
            )
        )
    return found
