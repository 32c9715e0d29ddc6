"""Faults by the hundred thousand: none is lost, all are counted, and few are held in memory."""

from __future__ import annotations

import tracemalloc

import pytest

from batches.faultbook import LISTED_MAX, FaultBook, by_line
from batches.faults import MEANINGS, Fault, FaultKind


def fault(line: int, kind: FaultKind = FaultKind.REQUIRED, column: str = "amount") -> Fault:
    return Fault(line, column, kind, f"value {line}", "expected — something")


def test_every_fault_comes_back_as_it_was_in_the_order_of_lines() -> None:
    faults = [fault(line) for line in range(2, LISTED_MAX + 1500)]
    book = FaultBook()
    for start in range(0, len(faults), 700):
        book.add(faults[start : start + 700])
    assert list(book) == faults
    assert list(book) == faults
    assert (len(book), list(book.lines())) == (len(faults), [one.line for one in faults])
    assert book.first(3) == faults[:3]


def test_an_empty_book_is_false_and_has_nothing() -> None:
    book = FaultBook()
    assert not book
    assert (list(book), book.counts, book.first()) == ([], [], [])
    assert book.as_json() == {"faults": [], "fault_counts": [], "faults_not_listed": 0}


def test_faults_are_counted_by_kind_and_column_the_most_frequent_first() -> None:
    book = FaultBook(
        [
            fault(2, FaultKind.RAGGED_ROW, ""),
            *(fault(line, FaultKind.TOO_MANY_DECIMALS) for line in range(17, 1221)),
            fault(1221, column="currency"),
        ]
    )
    assert [str(count) for count in book.counts] == [
        "1,204 x amount: more decimals than the currency or the service has, first at line 17",
        "1 x more or fewer cells than the header has columns, first at line 2",
        "1 x currency: empty, though it is required, first at line 1,221",
    ]
    assert book.as_json()["fault_counts"][0] == {
        "kind": "too_many_decimals",
        "column": "amount",
        "count": 1204,
        "first_line": 17,
    }


def test_every_kind_has_words_for_a_person() -> None:
    assert set(MEANINGS) == set(FaultKind)
    assert len(set(MEANINGS.values())) == len(MEANINGS)


def test_the_list_has_an_end_and_says_what_it_leaves_out() -> None:
    told = FaultBook(fault(line) for line in range(LISTED_MAX + 5)).as_json()
    assert len(told["faults"]) == LISTED_MAX
    assert told["faults_not_listed"] == 5
    assert told["fault_counts"][0]["count"] == LISTED_MAX + 5


def test_memory_does_not_grow_with_the_faults() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        book = FaultBook(fault(line) for line in range(count))
        assert len(list(book.lines())) == count
        _, top = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return top

    # Beyond the first ones only the lines are kept, at 4 bytes (and a list of them made here).
    assert peak(60_000) - peak(LISTED_MAX) < 60_000 * 60


def test_the_faults_of_a_line_come_together() -> None:
    faults = [fault(2), fault(2, column="currency"), fault(5)]
    assert list(by_line(faults)) == [(2, faults[:2]), (5, faults[2:])]
    assert list(by_line([])) == []


@pytest.mark.parametrize("value", ['with "quotes"', "two\nlines", "\u2028 é 日本"])
def test_what_is_put_by_keeps_every_character(value: str) -> None:
    many = [Fault(line, "a", FaultKind.REQUIRED, value, value) for line in range(LISTED_MAX + 2)]
    assert list(FaultBook(many))[-1] == many[-1]
