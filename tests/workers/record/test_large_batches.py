"""What a database knows of a large batch right after something was done with all of it."""

from __future__ import annotations

import json
import re

from sqlalchemy import text

from tests.workers.record.conftest import Record
from tests.worlds import CHECKER, order, stored
from workers.record.batches import MANY_ROWS, Batch


def large(record: Record) -> Batch:
    orders = [order() for _ in range(MANY_ROWS)]
    batch = record.batches.get(stored(record.batches, orders, now=record.clock.now()))
    assert batch is not None
    return batch


def assert_is_planned_for(record: Record) -> None:
    with record.database.read() as connection:
        known = text("SELECT reltuples FROM pg_class WHERE relname = 'payouts'")
        assert connection.execute(known).scalar_one() == MANY_ROWS


def test_a_database_plans_for_a_large_batch_at_once(record: Record) -> None:
    large(record)
    if not record.database.is_sqlite:
        assert_is_planned_for(record)


def test_an_approved_large_batch_is_counted_without_a_look_at_each_row(record: Record) -> None:
    batch, now = large(record), record.clock.now()
    assert record.batches.approve(batch, actor=CHECKER, now=now, spendable={}, approvals_seen={})
    if record.database.is_sqlite:
        return
    assert_is_planned_for(record)
    with record.database.read() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        counted = text("EXPLAIN (ANALYZE, FORMAT JSON) SELECT count(*) FROM payouts WHERE row > 0")
        found = re.search(
            r'"Heap Fetches": (\d+)', json.dumps(connection.execute(counted).scalar_one())
        )
    # A page that somebody had in hand at that moment is left out.
    assert found is not None
    assert int(found[1]) < MANY_ROWS // 20
