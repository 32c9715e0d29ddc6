"""What of an answer is stored at once, and what with the next: only what would be said again."""

from __future__ import annotations

import pytest

from tests.workers.record.conftest import Record
from tests.worlds import CHECKER, order
from workers.errors import StaleState
from workers.record.model import Payout
from workers.record.status import Outcome, State, Step

SOON_S = 5


def releasing(record: Record) -> Payout:
    """A payout whose release is being asked for."""
    (one,) = record.queue(order())
    return record.answer(
        record.take(one), Step.CREATE, Outcome.CREATED, provider_payout_id="p1"
    ).payout


def released(record: Record) -> Payout:
    """A payout that its worker knows to be under way, and polls soon."""
    recorded = record.answer(
        releasing(record), Step.PROCESS, Outcome.PROCESSING, status="going", keep_s=SOON_S
    )
    assert recorded.next_step is Step.POLL
    return recorded.payout


def test_that_it_is_under_way_is_stored_with_the_next_answer(record: Record) -> None:
    payout = released(record)
    assert (payout.state, record.state(payout.id)) == (State.PROCESSING, State.CREATED)
    record.answer(payout, Step.POLL, Outcome.PAID)
    assert record.path(payout.id)[-2:] == [("created", "processing"), ("processing", "paid")]
    assert record.row(payout.id).provider_status == "going"


def test_it_is_stored_when_the_payout_is_given_back_whatever_was_answered(record: Record) -> None:
    payout = released(record)
    record.answer(payout, Step.POLL, Outcome.UNKNOWN)
    row = record.row(payout.id)
    assert (row.state, row.claimed_until) == ("processing", None)


def test_a_release_that_was_not_taken_is_stored_at_once(record: Record) -> None:
    """Nobody would say it again: it would count as a release that led to nothing."""
    payout = releasing(record)
    recorded = record.answer(payout, Step.PROCESS, Outcome.NOT_SENT, keep_s=SOON_S)
    assert recorded.next_step is Step.POLL
    row = record.row(payout.id)
    assert (row.releases, row.released_at) == (0, None)


def test_who_takes_over_reads_it_again_and_the_first_one_stores_nothing_more(
    record: Record,
) -> None:
    slept = released(record)
    record.clock.sleep(record.policies["main"].settings.claim_s + 1)
    again = record.take(slept.id)
    assert (again.state, again.releases) == (State.CREATED, 1)
    with pytest.raises(StaleState):
        record.answer(slept, Step.POLL, Outcome.REFUSED)
    record.answer(again, Step.POLL, Outcome.PAID)
    assert record.path(slept.id)[-1] == ("created", "paid")


@pytest.mark.parametrize("stopped", ["pause", "cancel"])
def test_a_decision_meanwhile_does_not_touch_what_a_worker_has(
    record: Record, stopped: str
) -> None:
    payout = released(record)
    getattr(record.decisions, stopped)(payout.batch_id, CHECKER, record.clock.now())
    while record.decisions.carry(payout.batch_id, record.clock.now()):
        pass
    record.answer(payout, Step.POLL, Outcome.PAID)
    assert record.state(payout.id) is State.PAID
