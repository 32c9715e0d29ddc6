"""Claims and answers that share a transaction: none is taken for another, or waits for its row."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from tests.batches.cli_world import until
from tests.workers.record.conftest import Record
from tests.workers.record.group_world import (
    S_MAX,
    Forgetful,
    came_of,
    in_one_group,
    keeping,
    waits_for_a_lock,
)
from tests.worlds import order
from workers.errors import StaleState
from workers.record.model import Payout
from workers.record.status import Outcome, State, Step

on_postgresql = pytest.mark.parametrize("record", ["postgresql"], indirect=True)


def as_one(record: Record, *calls: Callable[[], Any]) -> AbstractContextManager[list[Future[Any]]]:
    """The calls as one group of the store's."""
    return in_one_group(record.store._together, *calls)


def late(record: Record, payout_id: int) -> Payout:
    """A payout at the provider, as a worker has it whose claim has run out."""
    record.clock.move_to(record.created(payout_id).due_at)
    payout = record.take(payout_id)
    record.clock.sleep(record.policies["main"].settings.claim_s + 1)
    return payout


def says(record: Record, payout: Payout, outcome: Outcome, **more: Any) -> Callable[[], Any]:
    return lambda: record.answer(payout, Step.POLL, outcome, **more)


def stands(record: Record, payout_id: int) -> tuple[State, State]:
    """Where a payout is, and where its journal says that it is."""
    return record.state(payout_id), State(record.events(payout_id)[-1].to_state)


@pytest.mark.parametrize("late_first", [True, False])
def test_a_worker_whose_claim_was_taken_over_is_told_so_beside_who_has_it(
    record: Record, late_first: bool
) -> None:
    (one,) = record.queue(order())
    slept = late(record, one)
    calls = [
        says(record, slept, Outcome.REFUSED),
        says(record, record.take(one), Outcome.PROCESSING),
    ]
    with as_one(record, *(calls if late_first else reversed(calls))) as running:
        of_late, of_mine = map(came_of, running if late_first else reversed(running))
    assert isinstance(of_late, StaleState)
    assert of_mine.payout.state is State.PROCESSING
    assert stands(record, one) == (State.PROCESSING, State.PROCESSING)
    assert State.FAILED not in [target for _, target in record.path(one)]


@pytest.mark.parametrize("claim_first", [True, False])
def test_a_claim_and_a_late_answer_do_not_both_count(record: Record, claim_first: bool) -> None:
    (one,) = record.queue(order())
    calls = [says(record, late(record, one), Outcome.PAID), lambda: record.claim(one)]
    with as_one(record, *(reversed(calls) if claim_first else calls)) as running:
        answer, claim = map(came_of, reversed(running) if claim_first else running)
    state, journalled = stands(record, one)
    assert state is journalled
    if claim is None or isinstance(claim, StaleState):
        assert state is answer.payout.state is State.PAID
    else:
        assert isinstance(answer, StaleState)
        assert (state, record.row(one).claim_no) == (State.CREATED, claim.payout.claim_no)


def two_taken(record: Record) -> list[Payout]:
    """Two payouts of two accounts, both at their provider and taken to be read."""
    ids = record.queue(order(), order(account="other"))
    record.clock.move_to(max(record.created(each).due_at for each in ids))
    return [record.take(each) for each in ids]


@on_postgresql
def test_who_needs_a_payout_that_is_kept_by_others_waits_alone(record: Record) -> None:
    waits, goes_on = two_taken(record)
    calls = says(record, waits, Outcome.PAID), says(record, goes_on, Outcome.PAID)
    with (
        keeping(record, f"payouts WHERE id = {waits.id}") as let_go,
        as_one(record, *calls) as (of_one, of_two),
    ):
        assert of_two.result(S_MAX / 3).payout.state is State.PAID
        assert not of_one.done()
        let_go()
        assert of_one.result(S_MAX).payout.state is State.PAID


@on_postgresql
def test_a_group_gives_way_to_who_wants_its_rows_in_another_order(record: Record) -> None:
    """Another process, which has the second payout and waits for the first one."""
    first, second = two_taken(record)
    calls = says(record, first, Outcome.PAID), says(record, second, Outcome.PAID)
    with (
        record.database.engine.connect() as other,
        as_one_behind(record, other, f"payouts WHERE id = {second.id}", *calls) as running,
    ):
        other.exec_driver_sql(f"SELECT 1 FROM payouts WHERE id = {first.id} FOR UPDATE")
        assert not any(call.done() for call in running)
        other.rollback()
        assert [call.result(S_MAX).payout.state for call in running] == [State.PAID] * 2


@contextmanager
def as_one_behind(
    record: Record, other: Connection, row: str, *calls: Callable[[], Any]
) -> Iterator[list[Future[Any]]]:
    """The calls as one group, which has begun and waits for a row that somebody else has."""
    other.exec_driver_sql(f"SELECT 1 FROM {row} FOR UPDATE")
    with as_one(record, *calls) as running:
        until(lambda: waits_for_a_lock(record), limit_s=S_MAX)
        yield running


@on_postgresql
def test_who_needs_an_account_that_is_kept_by_others_waits_alone(record: Record) -> None:
    waits, goes_on = two_taken(record)
    limited = says(record, waits, Outcome.NOT_SENT, code="429", retry_after_s=3)
    with (
        keeping(record, "accounts WHERE name = 'main'") as let_go,
        ThreadPoolExecutor(2) as pool,
    ):
        of_one = pool.submit(limited)
        until(lambda: waits_for_a_lock(record), limit_s=S_MAX)
        of_two = pool.submit(says(record, goes_on, Outcome.PAID))
        assert of_two.result(S_MAX / 3).payout.state is State.PAID
        assert not of_one.done()
        let_go()
        of_one.result(S_MAX)
    assert record.row(waits.id).claimed_until is None


@on_postgresql
def test_what_the_database_cannot_store_of_one_is_no_fault_of_the_others(record: Record) -> None:
    one, two = record.queue(order(), order())
    # Longer than an index takes.
    endless = record.take(one), {"provider_payout_id": secrets.token_hex(20_000)}
    good = record.take(two), {"provider_payout_id": "p2"}
    calls = [
        lambda payout=payout, more=more: record.answer(
            payout, Step.CREATE, Outcome.PROCESSING, **more
        )
        for payout, more in (endless, good)
    ]
    with as_one(record, *calls) as running:
        of_one, of_two = map(came_of, running)
    assert isinstance(of_one, OperationalError)
    assert of_two.payout.state is State.PROCESSING
    assert (record.state(one), record.state(two)) == (State.CREATING, State.PROCESSING)


def test_a_group_whose_commit_was_done_and_not_told_is_neither_sent_nor_stored_again(
    record: Record,
) -> None:
    url = record.database.engine.url.render_as_string(hide_password=False)
    forgetful = Forgetful(url, connections_max=8)
    here = Record(forgetful, record.clock, record.policies)
    new, sent = here.queue(order(), order())
    answered = here.take(sent)

    def answer() -> Any:
        return here.answer(answered, Step.CREATE, Outcome.PROCESSING, provider_payout_id="p1")

    forgetful.goes = True
    with as_one(here, lambda: here.claim(new), answer) as running:
        assert [type(came_of(call)) for call in running] == [OperationalError] * 2
    # The answer was stored, so it is not stored again; the claim is nobody's, and is looked up.
    with pytest.raises(StaleState):
        answer()
    assert stands(here, sent) == (State.PROCESSING, State.PROCESSING)
    assert here.claim(new) is None
    here.clock.sleep(here.policies["main"].settings.claim_s + 1)
    assert (here.claim(new), here.store.expire_creates(here.clock.now())) == (None, 1)
    assert here.state(new) is State.UNKNOWN
    here.close()
