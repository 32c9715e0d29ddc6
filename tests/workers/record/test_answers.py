"""What went wrong in a batch is told from indexes of that alone, at whatever length it was told."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import event

from tests.worlds import order
from workers.record.status import TURNED_DOWN, State

from .conftest import Record

# More than an index of PostgreSQL takes, in words that cannot be made shorter.
LONG = "".join(random.Random(7).choices([chr(at) for at in range(0x4E00, 0x9FA5)], k=9_000))
FAILED = "UPDATE payouts SET state = :s, failure_code = :c, failure_reason = :r WHERE id = :i"


def fail(record: Record, ids: list[int], code: str | None, reason: str | None) -> None:
    for at, payout_id in enumerate(ids):
        state = sorted(TURNED_DOWN)[at % 2].value
        record.sql(FAILED, s=state, c=code, r=reason, i=payout_id)


def test_reasons_are_counted_the_most_frequent_first_however_long_they_are(record: Record) -> None:
    ids = record.queue(*(order() for _ in range(13)))
    batch_id = record.row(ids[0]).batch_id
    fail(record, ids[:2], "closed", "The account is closed")
    fail(record, ids[2:5], "long", LONG)
    fail(record, ids[5:9], None, None)
    fail(record, ids[9:10], "refused", None)
    fail(record, ids[10:11], "long", LONG[:500])
    fail(record, record.queue(order()), "other batch", "of which nothing is told")
    counted = [
        ("no reason given", 4),
        (LONG, 3),
        ("The account is closed", 2),
        (LONG[:500], 1),
        ("refused", 1),
    ]
    assert record.batches.reasons(batch_id) == counted
    assert record.batches.reasons(batch_id, limit=2) == counted[:2]


def test_the_first_that_are_held_are_told_in_the_order_of_the_file(record: Record) -> None:
    ids = record.queue(*(order() for _ in range(5)))
    for payout_id in (ids[3], ids[1], ids[4]):
        record.sql("UPDATE payouts SET state = 'held' WHERE id = :i", i=payout_id)
    batch_id = record.row(ids[0]).batch_id
    held = [reference_id for reference_id, _ in record.batches.held(batch_id, limit=2)]
    assert held == [record.row(payout_id).reference_id for payout_id in (ids[1], ids[3])]


@pytest.mark.parametrize("state", list(State))
def test_an_index_of_what_went_wrong_has_nothing_else(record: Record, state: State) -> None:
    (one,) = record.queue(order())
    batch_id = record.row(one).batch_id
    record.sql(FAILED, s=state.value, c="code", r="told before", i=one)
    assert bool(record.batches.reasons(batch_id)) is (state in TURNED_DOWN)
    assert bool(record.batches.held(batch_id)) is (state is State.HELD)


def test_sqlite_reads_these_indexes_and_not_the_batch(record: Record) -> None:
    if not record.database.is_sqlite:
        return  # test_plans.py asks PostgreSQL, among a million.
    asked: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, parameters))

    (one,) = record.queue(order())
    batch_id = record.row(one).batch_id
    event.listen(record.database.engine, "before_cursor_execute", note)
    record.batches.reasons(batch_id)
    record.batches.held(batch_id)
    event.remove(record.database.engine, "before_cursor_execute", note)
    with record.database.read() as connection:
        plans = [
            str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all())
            for statement, parameters in asked
        ]
    briefly, at_length, held = plans
    assert "USING COVERING INDEX payouts_turned_down (batch_id=?)" in briefly
    assert "USING INDEX payouts_turned_down_at_length" in at_length
    assert "USING INDEX payouts_held (batch_id=?)" in held
    assert "ORDER BY" not in held
