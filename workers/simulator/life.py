"""How a simulated payout lives: its way through its provider's words, and the money they move.

A provider gives its `Words`; what a word does to the money is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal

from workers.simulator.faults import Behaviour
from workers.simulator.ledger import ZERO, Invoice, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A provider's status words, by what they do to the money."""

    # Stored, and not released.
    created: str
    # The first word after the release; None where there is none between it and the end.
    processing: str | None
    # The usual end, and the word for money that came back.
    processed: str
    returned: str
    # Reaching one of these without a release counts as one: the provider did it by itself.
    committing: frozenset[str]
    paid: frozenset[str]
    given_back: frozenset[str]
    partly: frozenset[str] = frozenset()
    # Why, where the script does not say.
    resolutions: Mapping[str, str] = field(default_factory=dict)

    @property
    def final(self) -> frozenset[str]:
        return self.paid | self.given_back | self.partly


def plan(
    words: Words, behaviour: Behaviour, now: float, *, release_s: float, settle_s: float
) -> list[Step]:
    """Processing, then the path spread evenly over the settle time, then a return if asked for.

    Args:
        release_s, settle_s: the account's habit, where the behaviour says nothing.
    """
    start = now + (release_s if behaviour.release_s is None else behaviour.release_s)
    settle = settle_s if behaviour.settle_s is None else behaviour.settle_s
    path = behaviour.path or (behaviour.status or words.processed,)
    steps = [] if words.processing is None else [Step(start, words.processing)]
    for place, status in enumerate(path, start=1):
        said = behaviour.resolution if place == len(path) else None
        resolution = said or words.resolutions.get(status, "ok")
        steps.append(Step(start + settle * place / len(path), status, resolution))
    if behaviour.returned_s is not None:
        steps.append(Step(steps[-1].at + behaviour.returned_s, words.returned))
    return steps


def processed_amount(words: Words, invoice: Invoice, step: Step) -> Decimal | None:
    """What a step says was paid: all, a part (half unless it names one), or nothing new."""
    if step.status in words.paid:
        return invoice.amount
    if step.status not in words.partly:
        return None
    if step.processed_amount is not None:
        return step.processed_amount
    smallest = Decimal(1).scaleb(min(0, int(invoice.amount.as_tuple().exponent)))
    return (invoice.amount / 2).quantize(smallest, ROUND_DOWN)


def money_at(
    words: Words, invoice: Invoice, status: str, processed: Decimal | None
) -> tuple[Decimal, Decimal]:
    """Of the writeoff, what is pending and what is gone once the status is reached.

    Success leaves the balance, failure and a full return bring everything back, fee included (our
    guess); of a part the fee is kept (our guess). Any other word moves nothing.
    """
    if status in words.paid:
        return ZERO, invoice.writeoff
    if status in words.given_back:
        return ZERO, ZERO
    if status in words.partly and processed is not None:
        return ZERO, processed + invoice.writeoff - invoice.amount
    return invoice.held, invoice.spent
