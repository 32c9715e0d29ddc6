"""Counts of calls add up over all workers, and stand in nobody's way."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from tests.workers.record.conftest import Record, together
from workers.record.calls import BEYOND, UP_TO_MS, CallBook, Count, Kind, range_of

CREATED = Kind("create", "2xx", 100)
LOST = Kind("create", "ReadTimeout", BEYOND)


@pytest.mark.parametrize(
    ("took_us", "up_to_ms"),
    [(0, 25), (25_000, 25), (25_001, 50), (1_000_000, 1_000), (30_000_000, 30_000)],
)
def test_a_time_falls_into_the_first_range_that_holds_it(took_us: int, up_to_ms: int) -> None:
    assert range_of(took_us) == up_to_ms


def test_what_is_longer_than_every_range_falls_beyond() -> None:
    assert range_of(UP_TO_MS[-1] * 1_000 + 1) == BEYOND
    assert BEYOND not in UP_TO_MS


def _told(book: CallBook) -> dict[tuple[str, Kind], Count]:
    return {(one.account, one.kind): one.count for one in book.all()}


def test_counts_of_several_workers_and_accounts_add_up(record: Record) -> None:
    book = CallBook(record.database)
    book.add("main", {})
    assert book.all() == []
    book.add("main", {CREATED: Count(2, 150_000), LOST: Count(1, 31_000_000)})
    book.add("main", {CREATED: Count(3, 200_000)})
    book.add("other", {CREATED: Count(1, 90_000)})
    assert _told(book) == {
        ("main", CREATED): Count(5, 350_000),
        ("main", LOST): Count(1, 31_000_000),
        ("other", CREATED): Count(1, 90_000),
    }


def test_workers_that_add_at_once_lose_no_count(record: Record) -> None:
    book = CallBook(record.database)
    # In opposite orders: whoever took the rows as they come would wait in a ring.
    kinds = [Kind(step, "2xx", ms) for step in ("create", "poll") for ms in UP_TO_MS]
    orders = [kinds, kinds[::-1]] * 4

    def add(order: list[Kind]) -> None:
        for _ in range(10):
            book.add("main", {kind: Count(1, 7) for kind in order})

    assert together([lambda o=order: add(o) for order in orders]) == [None] * 8
    assert _told(book) == {("main", kind): Count(80, 560) for kind in kinds}


@pytest.mark.parametrize("record", ["postgresql"], indirect=True)
def test_a_worker_that_was_stopped_in_mid_count_does_not_stop_the_others(record: Record) -> None:
    book = CallBook(record.database)
    book.add("main", {CREATED: Count(1, 7)})
    with record.database.write() as stopped:
        stopped.execute(text("UPDATE calls SET number = number + 1"))
        ended: list[object] = []

        def add() -> None:
            try:
                book.add("main", {CREATED: Count(1, 7)})
            except OperationalError as error:
                ended.append(error)

        thread = threading.Thread(target=add)
        thread.start()
        thread.join(20)
    assert len(ended) == 1
    assert "lock timeout" in str(ended[0])
