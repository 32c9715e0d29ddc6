"""The one writer of states: many changes in one statement, each guarded and journalled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import select

from tests.workers.record.conftest import Record
from tests.worlds import order
from workers.errors import DeveloperError, IllegalMove, StaleState
from workers.record.model import Change
from workers.record.moves import WORKER, change_of, write, write_one
from workers.record.rows import moved, payout_of
from workers.record.status import State
from workers.record.tables import payouts

NOW = datetime(2026, 3, 1, 12, 30, 15, 250, tzinfo=UTC)


def creating(record: Record, payout_id: int, **values: Any) -> Change:
    row = record.row(payout_id)
    moves = [(State.CREATING, "intent to create")]
    return change_of(row, moves, {"claim_no": row.claim_no + 1, **values}, actor=WORKER, now=NOW)


def written(record: Record, *changes: Change) -> set[int]:
    with record.database.write() as connection:
        return write(connection, changes)


def test_many_payouts_move_together_and_a_stale_one_is_left_as_it_is(record: Record) -> None:
    one, two, three = record.queue(order(), order(), order())
    changes = [creating(record, each) for each in (one, two, three)]
    record.take(two)
    before = record.row(two), record.events(two)
    assert written(record, *changes) == {one, three}
    assert (record.row(two), record.events(two)) == before
    assert record.path(one)[-1] == record.path(three)[-1] == ("queued", "creating")


def test_one_that_is_stale_says_so(record: Record) -> None:
    (one,) = record.queue(order())
    change = creating(record, one)
    record.take(one)
    with pytest.raises(StaleState, match="was lost"), record.database.write() as connection:
        write_one(connection, change)


def test_payouts_whose_changes_differ_keep_what_is_not_named(record: Record) -> None:
    one, two = record.queue(order(), order())
    due = record.row(two).due_at
    assert due is not None
    first = creating(record, one, doubt="a doubt", due_at=None)
    second = creating(record, two, polls=7)
    assert written(record, first, second) == {one, two}
    of_one, of_two = record.row(one), record.row(two)
    assert (of_one.doubt, of_one.due_at, of_one.polls) == ("a doubt", None, 0)
    assert (of_two.doubt, of_two.due_at, of_two.polls) == (None, due, 7)


@pytest.mark.parametrize(
    "word", ["", "null", "12", '{"a": 1}', "[]", "ä 雪 😀 \\ \" '", "1e5", r"\u0000 \ud800"]
)
def test_a_text_is_stored_as_it_stands(record: Record, word: str) -> None:
    (one,) = record.queue(order())
    assert written(record, creating(record, one, provider_status=word))
    assert record.row(one).provider_status == word


@pytest.mark.parametrize(
    "at",
    [
        NOW,
        NOW.replace(microsecond=0),
        datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone(-timedelta(hours=5))),
    ],
)
def test_a_time_is_stored_as_sqlalchemy_stores_it(record: Record, at: datetime) -> None:
    one, two = record.queue(order(), order())
    assert written(record, creating(record, one, settled_at=at))
    with record.database.write() as connection:
        connection.execute(payouts.update().where(payouts.c.id == two).values(settled_at=at))
        # Also as the database compares them.
        found = select(payouts.c.id).where(payouts.c.settled_at == at).order_by(payouts.c.id)
        assert connection.execute(found).scalars().all() == [one, two]
    assert record.row(one).settled_at == record.row(two).settled_at == at
    assert record.events(one)[-1].at == NOW


def test_several_moves_at_once_are_journalled_in_their_order(record: Record) -> None:
    (one,) = record.queue(order())
    assert written(record, creating(record, one))
    moves = [(State.PAID, "says paid"), (State.RETURNED, "came back")]
    change = change_of(record.row(one), moves, {}, actor=WORKER, now=NOW, notes=[("a note", "7")])
    assert written(record, change) == {one}
    told = [(e.from_state, e.to_state, e.cause, e.provider_code) for e in record.events(one)[-3:]]
    assert told == [
        ("creating", "paid", "says paid", None),
        ("paid", "returned", "came back", None),
        ("returned", "returned", "a note", "7"),
    ]


def test_what_was_not_told_yet_is_stored_with_the_next_change(record: Record) -> None:
    (one,) = record.queue(order())
    assert written(record, creating(record, one))
    payout = payout_of(record.row(one))
    first = change_of(payout, [(State.PROCESSING, "a")], {"polls": 3}, actor=WORKER, now=NOW)
    waiting = moved(payout, first, untold=first)
    assert (waiting.state, record.state(one)) == (State.PROCESSING, State.CREATING)
    second = change_of(waiting, [(State.PAID, "b")], {"settled_at": NOW}, actor=WORKER, now=NOW)
    assert written(record, second) == {one}
    row = record.row(one)
    assert (row.state, row.polls, row.settled_at) == ("paid", 3, NOW)
    assert record.path(one)[-2:] == [("creating", "processing"), ("processing", "paid")]


def test_a_move_that_the_table_does_not_have_changes_nothing(record: Record) -> None:
    (one,) = record.queue(order())
    with pytest.raises(IllegalMove, match="queued to paid"):
        change_of(record.row(one), [(State.PAID, "")], {}, actor=WORKER, now=NOW)


@pytest.mark.parametrize("column", ["amount_minor", "seal", "reference_id", "no_such_column"])
def test_what_no_move_changes_is_refused(record: Record, column: str) -> None:
    (one,) = record.queue(order())
    with pytest.raises(DeveloperError, match=column):
        change_of(record.row(one), (), {column: 1}, actor=WORKER, now=NOW)


@pytest.mark.parametrize("value", [datetime(2026, 3, 1), object()])  # noqa: DTZ001 - on purpose
def test_what_is_no_value_of_a_row_is_refused(record: Record, value: object) -> None:
    (one,) = record.queue(order())
    with pytest.raises(TypeError):
        written(record, creating(record, one, settled_at=value))
    assert record.state(one) is State.QUEUED


@pytest.mark.parametrize("word", ["half a \ud800 pair", "ends \0 here"])
def test_a_text_that_is_none_is_refused_and_nobody_else_suffers(record: Record, word: str) -> None:
    one, two = record.queue(order(), order())
    first, second = creating(record, one, provider_status=word), creating(record, two)
    with pytest.raises(ValueError):  # noqa: PT011 - whose it is does not matter
        written(record, first, second)
    assert (record.state(one), record.state(two)) == (State.QUEUED, State.QUEUED)
    assert record.row(one).provider_status is None
