"""What a database knows of a large batch right after something was done with all of it."""

from __future__ import annotations

import json
import re

from sqlalchemy import text

from tests.workers.record.conftest import Record
from tests.worlds import CHECKER, order, stored
from workers.record.batches import MANY_ROWS


def test_a_database_knows_of_a_large_batch_at_once(record: Record) -> None:
    now = record.clock.now()
    batch = record.batches.get(
        stored(record.batches, [order() for _ in range(MANY_ROWS)], now=now),
    )
    assert batch is not None
    assert_is_known(record)
    # Each of its rows is another one now.
    assert record.batches.approve(batch, actor=CHECKER, now=now, spendable={}, approvals_seen={})
    assert_is_known(record)


def assert_is_known(record: Record) -> None:
    """PostgreSQL plans for the rows that there are, and counts them without looking at each."""
    if record.database.is_sqlite:
        return
    with record.database.read() as connection:
        known = text("SELECT reltuples FROM pg_class WHERE relname = 'payouts'")
        assert connection.execute(known).scalar_one() == MANY_ROWS
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        counted = text("EXPLAIN (ANALYZE, FORMAT JSON) SELECT count(*) FROM payouts WHERE row > 0")
        plan = json.dumps(connection.execute(counted).scalar_one())
    found = re.search(r'"Heap Fetches": (\d+)', plan)
    # A page that somebody had in hand at that moment is left out.
    assert found is not None
    assert int(found[1]) < MANY_ROWS // 20
