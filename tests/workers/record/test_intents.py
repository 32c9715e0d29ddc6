"""What may be created of a record that was put back, and what is stored before it is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.worlds import order
from workers.record.intents import LOST
from workers.record.restores import RestoreBook
from workers.record.status import Outcome, State, Step
from workers.record.verdict import RESHAPED

from .conftest import Record, policy

GRACE_S = 600


def put_back(record: Record) -> datetime:
    """Have the record restored now, and the account opened at once."""
    restores, at = RestoreBook(record.database), record.clock.now()
    restores.freeze("restored", at, "main")
    restores.open(restores.standing("main"), "opened")
    return at


def test_a_first_create_is_looked_up_first_only_where_the_record_was_put_back(
    record: Record,
) -> None:
    fresh, other = record.queue(order(), order(account="other"))
    put_back(record)
    record.clock.sleep(GRACE_S)
    assert record.take(fresh).looks_first
    assert not record.take(other).looks_first


def test_no_create_is_claimed_before_a_look_up_can_see_what_was_sent_last(record: Record) -> None:
    (one,) = record.queue(order())
    at = put_back(record)
    record.clock.sleep(GRACE_S - 1)
    assert record.claim(one) is None
    row = record.row(one)
    assert (row.state, row.attempts, row.claimed_until) == (State.QUEUED, 0, None)
    assert row.due_at == at + timedelta(seconds=GRACE_S)
    record.clock.sleep(1)
    assert record.take(one).looks_first


def test_the_grace_counts_from_the_latest_restore(record: Record) -> None:
    (one,) = record.queue(order())
    put_back(record)
    record.clock.sleep(GRACE_S)
    put_back(record)
    assert record.claim(one) is None


def test_what_may_be_there_is_looked_up_without_waiting(record: Record) -> None:
    (one,) = record.queue(order())
    row = record.unknown(one)
    put_back(record)
    record.clock.move_to(row.due_at)
    assert record.take(one).state is State.UNKNOWN


@pytest.mark.parametrize(
    ("can", "reply", "then"),
    [
        ({}, {}, Step.CREATE),
        ({"refuses_duplicates": False}, {}, Step.CREATE),
        ({"refuses_duplicates": False, "repeatable_for_s": 9000}, {}, Step.CREATE),
        ({}, {"proves_absence": False}, Step.CREATE),
        ({"refuses_duplicates": False}, {"proves_absence": False}, None),
        # A key is no help where nobody knows how old it is.
        (
            {"refuses_duplicates": False, "repeatable_for_s": 9000},
            {"proves_absence": False},
            None,
        ),
    ],
)
def test_what_is_not_found_is_sent_where_that_proves_or_prevents_it(
    record: Record, can: dict[str, Any], reply: dict[str, Any], then: Step | None
) -> None:
    record.policies["main"] = policy(**can)
    (one,) = record.queue(order())
    put_back(record)
    record.clock.sleep(GRACE_S)
    recorded = record.answer(record.take(one), Step.LOOK_UP, Outcome.NOT_FOUND, **reply)
    assert recorded.next_step is then
    if then is None:
        assert record.state(one) is State.HELD
        assert "proves nothing" in record.events(one)[-1].cause


@pytest.mark.parametrize(("proves", "state"), [(True, State.FAILED), (False, State.UNKNOWN)])
def test_a_refusal_is_believed_only_where_absence_was_proven_before(
    record: Record, proves: bool, state: State
) -> None:
    (one,) = record.queue(order())
    put_back(record)
    record.clock.sleep(GRACE_S)
    payout = record.take(one)
    found = record.answer(payout, Step.LOOK_UP, Outcome.NOT_FOUND, proves_absence=proves)
    record.answer(found.payout, Step.CREATE, Outcome.REFUSED, code="422")
    assert record.state(one) is state


def test_without_a_look_up_a_person_decides_once(record: Record) -> None:
    record.policies["main"] = policy(look_up=False)
    (one,) = record.queue(order())
    put_back(record)
    record.clock.sleep(GRACE_S)
    assert record.claim(one) is None
    assert record.events(one)[-1].cause == LOST
    record.settle(one, State.QUEUED, actor="ann", reason="not at the bank")
    assert record.take(one).state is State.CREATING
    # Put back once more, what was decided is of before.
    (two,) = record.queue(order())
    record.clock.sleep(1)
    put_back(record)
    record.sql("UPDATE payouts SET doubted_at = created_at WHERE id = :i", i=two)
    record.clock.sleep(GRACE_S)
    assert record.claim(two) is None


def test_what_was_turned_away_is_not_sent_through_another_merchant(record: Record) -> None:
    record.policies["main"] = policy(shape="old")
    (one,) = record.queue(order())
    record.answer(record.take(one), Step.CREATE, Outcome.NOT_SENT)
    put_back(record)
    record.clock.sleep(GRACE_S)
    record.policies["main"] = policy(shape="new")
    assert record.claim(one) is None
    assert record.events(one)[-1].cause == RESHAPED


def test_a_look_up_that_is_not_answered_sends_nothing(record: Record) -> None:
    (one,) = record.queue(order())
    put_back(record)
    record.clock.sleep(GRACE_S)
    recorded = record.answer(record.take(one), Step.LOOK_UP, Outcome.UNKNOWN)
    assert (recorded.next_step, recorded.payout.state) == (None, State.QUEUED)
    record.clock.move_to(record.row(one).due_at)
    assert record.take(one).looks_first
