"""What may have been sent is remembered for life: when, under which key and through whom."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.worlds import order
from workers.record.status import Outcome, State, Step
from workers.record.verdict import EXCUSED_MAX

from .conftest import Record, policy


def test_the_first_send_that_may_be_there_is_remembered_over_later_attempts(
    record: Record,
) -> None:
    (one,) = record.queue(order())
    record.answer(record.take(one), Step.CREATE, Outcome.NOT_SENT)
    record.clock.sleep(60)
    first = record.clock.now()
    record.unknown(one)
    for _ in range(3):
        record.clock.sleep(600)
        record.answer(record.take(one), Step.LOOK_UP, Outcome.NOT_FOUND)
    record.take(one)
    row = record.row(one)
    assert (row.attempts, row.sent_at, row.last_sent_at) == (3, first, record.clock.now())


def test_a_key_that_was_used_is_as_old_as_its_first_create(record: Record) -> None:
    """Also where that was refused in words that no table lists: it may have been stored."""
    record.policies["main"] = policy(refuses_duplicates=False, repeatable_for_s=72_000)
    (one,) = record.queue(order())
    first = record.clock.now()
    record.answer(record.take(one), Step.CREATE, Outcome.UNKNOWN, refusal="422: odd")
    for _ in range(3):
        record.clock.sleep(600)
        record.answer(record.take(one), Step.LOOK_UP, Outcome.NOT_FOUND)
    record.take(one)
    assert record.row(one).sent_at == first


def test_a_dead_workers_create_is_in_doubt(record: Record) -> None:
    (one,) = record.queue(order())
    record.take(one)
    assert record.row(one).doubted_at is None
    record.clock.sleep(91)
    assert record.store.expire_creates(record.clock.now()) == 1
    assert record.row(one).doubted_at == record.clock.now()


def test_a_refusal_for_lack_of_money_has_the_next_key_until_there_is_a_doubt(
    record: Record,
) -> None:
    (one,) = record.queue(order())
    keys = []
    for outcome in (Outcome.ACCOUNT_FAULT, Outcome.ACCOUNT_FAULT, Outcome.UNKNOWN):
        record.sql("UPDATE accounts SET paused_kind = NULL")
        record.clock.sleep(60)
        claim = record.claim(one)
        assert claim is not None
        keys.append(claim.order.key_no)
        record.answer(claim.payout, Step.CREATE, outcome, low_balance=True)
    for _ in range(3):
        record.clock.sleep(600)
        record.answer(record.take(one), Step.LOOK_UP, Outcome.NOT_FOUND)
    claim = record.claim(one)
    assert claim is not None
    record.answer(claim.payout, Step.CREATE, Outcome.ACCOUNT_FAULT, low_balance=True)
    assert [*keys, claim.order.key_no, record.row(one).key_no] == [0, 1, 2, 2, 2]


def test_a_changed_account_holds_what_may_have_been_sent_and_nothing_else(record: Record) -> None:
    """The settings now name another merchant."""
    fresh, sent = record.queue(order(), order())
    record.policies["main"] = policy(shape="old")
    record.answer(record.take(fresh), Step.CREATE, Outcome.NOT_SENT)
    record.unknown(sent)
    for _ in range(3):
        record.clock.sleep(600)
        record.answer(record.take(sent), Step.LOOK_UP, Outcome.NOT_FOUND)
    assert record.state(sent) is State.QUEUED
    record.policies["main"] = policy(shape="new")
    assert record.claim(sent) is None
    assert record.state(sent) is State.HELD
    assert record.claim(fresh) is not None


def test_a_person_has_a_payout_tried_anew_whatever_its_tries_were(record: Record) -> None:
    (one,) = record.queue(order())
    record.held(one)
    record.sql(
        "UPDATE payouts SET attempts = :n, attempts_excused = :n, refusal_first = 'old'",
        n=EXCUSED_MAX,
    )
    record.settle(one, State.QUEUED, actor="ann", reason="never sent")
    claim = record.claim(one)
    assert claim is not None
    assert claim.payout.state is State.CREATING
    assert claim.payout.refusal_first is None
    # It is still looked up before it is sent.
    assert claim.payout.doubted_at is not None
    assert claim.payout.attempts == EXCUSED_MAX + 1


@pytest.mark.parametrize("state", [State.QUEUED, State.UNKNOWN])
def test_the_oldest_open_order_is_what_a_provider_is_asked_about(
    record: Record, state: State
) -> None:
    assert record.store.waiting_order("main") is None
    first, _ = record.queue(order(), order())
    if state is State.UNKNOWN:
        record.unknown(first)
        record.sql("UPDATE payouts SET due_at = :at WHERE id = :i", at=_long_ago(record), i=first)
    found = record.store.waiting_order("main")
    assert found is not None
    assert found.reference_id == record.row(first).reference_id
    assert record.store.waiting_order("other") is None


def _long_ago(record: Record) -> object:
    at = record.clock.now() - timedelta(days=1)
    return at if not record.database.is_sqlite else at.replace(tzinfo=None).isoformat(" ")
