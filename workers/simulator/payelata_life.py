"""How an invoice of the Payelata simulator lives: its way through the statuses, and its money.

Source: Payelata API facts, sections 5 and 11.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

from workers.simulator.faults import Behaviour
from workers.simulator.ledger import ZERO, Invoice, Step

# Money was committed, so reaching one of these without a process call counts as a release.
COMMITTING = frozenset(
    {"processing", "process_pending", "process_error", "processed", "partially_processed"}
)
GIVEN_BACK = frozenset({"process_failed", "expired", "terminated", "canceled"})
PAID = frozenset({"processed", "cancel_failed"})
PARTLY = frozenset({"partially_processed", "partially_canceled"})
FINAL = GIVEN_BACK | PAID | PARTLY

# Why, where the script does not say; the codes are those of section 5.1, the choice is our guess.
_RESOLUTIONS = {"process_failed": "declined_error", "expired": "operation_expired"}


def plan(behaviour: Behaviour, now: float, *, release_s: float, settle_s: float) -> list[Step]:
    """Processing, then the path spread evenly over the settle time, then a return if asked for.

    Args:
        release_s, settle_s: the account's habit, where the behaviour says nothing.
    """
    start = now + (release_s if behaviour.release_s is None else behaviour.release_s)
    settle = settle_s if behaviour.settle_s is None else behaviour.settle_s
    path = behaviour.path or (behaviour.status or "processed",)
    steps = [Step(start, "processing")]
    for place, status in enumerate(path, start=1):
        said = behaviour.resolution if place == len(path) else None
        resolution = said or _RESOLUTIONS.get(status, "ok")
        steps.append(Step(start + settle * place / len(path), status, resolution))
    if behaviour.returned_s is not None:
        steps.append(Step(steps[-1].at + behaviour.returned_s, "canceled"))
    return steps


def processed_amount(invoice: Invoice, step: Step) -> Decimal | None:
    """What a step says was paid: all, a part (half unless it names one), or nothing new."""
    if step.status in PAID:
        return invoice.amount
    if step.status not in PARTLY:
        return None
    if step.processed_amount is not None:
        return step.processed_amount
    smallest = Decimal(1).scaleb(min(0, int(invoice.amount.as_tuple().exponent)))
    return (invoice.amount / 2).quantize(smallest, ROUND_DOWN)


def money_at(invoice: Invoice, status: str, processed: Decimal | None) -> tuple[Decimal, Decimal]:
    """Of the writeoff, what is pending and what is gone once the status is reached.

    Success leaves the balance, failure and a full return bring everything back, fee included (our
    guess); of a part the fee is kept (our guess). Any other word moves nothing.
    """
    if status in PAID:
        return ZERO, invoice.writeoff
    if status in GIVEN_BACK:
        return ZERO, ZERO
    if status in PARTLY and processed is not None:
        return ZERO, processed + invoice.writeoff - invoice.amount
    return invoice.held, invoice.spent
