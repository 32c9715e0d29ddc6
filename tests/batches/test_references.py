"""New reference ids: never used, never given twice, and no longer than the provider takes."""

from __future__ import annotations

import pytest

from batches.references import GROUP, References, groups
from tests.workers.record.conftest import Record, postgres_server, record, sqlite_template
from tests.worlds import order

__all__ = ["postgres_server", "record", "sqlite_template"]


def again(record: Record, *names: str, chars_max: int = 40) -> list[str]:
    references = References(record.batches, {"main": chars_max, "other": chars_max})
    return list(references.again([order(reference_id=name) for name in names]))


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("SAL-17", "SAL-17-r2"),
        ("SAL-17-r2", "SAL-17-r3"),
        ("SAL-17-r9", "SAL-17-r10"),
        ("SAL-17-r0", "SAL-17-r0-r2"),
        ("-r2", "-r2-r2"),
    ],
)
def test_the_new_one_shows_where_it_comes_from(record: Record, name: str, new: str) -> None:
    assert again(record, name) == [new]


def test_one_that_is_used_is_passed_over(record: Record) -> None:
    record.queue(order(reference_id="A-r2"), order(reference_id="A-r3", account="other"))
    assert again(record, "A") == ["A-r3"]


def test_the_same_is_not_given_to_two_lines(record: Record) -> None:
    # One line's next is the other's next, too; and names that are cut become the same.
    assert again(record, "A-r2", "A-r2") == ["A-r3", "A-r4"]
    given = again(record, "LONG-NAME-1", "LONG-NAME-2", "LONG-NAME-3", chars_max=11)
    assert given == ["LONG-NAM-r2", "LONG-NAM-r3", "LONG-NAM-r4"]


def test_it_is_remembered_over_all_groups(record: Record) -> None:
    references = References(record.batches, {"main": 20})
    first = references.again([order(reference_id="A")])
    assert (*first, *references.again([order(reference_id="A")])) == ("A-r2", "A-r3")


def test_groups_keep_the_order_and_have_an_end() -> None:
    rows = list(range(GROUP + 1))
    assert [len(group) for group in groups(rows)] == [GROUP, 1]
    assert [row for group in groups(rows) for row in group] == rows
    assert list(groups([])) == []
