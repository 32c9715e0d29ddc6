"""A row that is settled, open, unknown or held does not come back, and is told why not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batches.checks import CheckedRow
from batches.faults import FaultKind
from batches.history import History
from tests.workers.record.conftest import Record, opened
from tests.worlds import USD, order
from workers.record.database import Database
from workers.record.money import Money
from workers.record.status import State

# What is said of a payout in each state, and of what is to be done with the row.
FATES = {
    State.DRAFT: ("waits for approval", "reject that batch"),
    State.QUEUED: ("still open", "leave the row out"),
    State.CREATING: ("still open", "leave the row out"),
    State.CREATED: ("still open", "leave the row out"),
    State.PROCESSING: ("still open", "leave the row out"),
    State.UNKNOWN: ("may have been sent", "leave the row out"),
    State.HELD: ("until a person decides", "leave the row out"),
    State.PAID: ("is paid already", "leave the row out"),
    State.RETURNED: ("came back", "reference id of its own"),
    State.CANCELLED: ("was cancelled", "reference id of its own"),
    State.FAILED: ("failed in batch", "column replaces"),
}


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    url = f"sqlite:///{tmp_path}/paybatch.db"
    database = Database(url)
    database.prepare()
    database.close()
    made = opened(url)
    yield made
    made.close()


def stored(record: Record, state: State, **changes: Any) -> str:
    """A payout in that state, whatever brought it there; its reference id."""
    (payout_id,) = record.queue(order(**changes))
    record.sql("UPDATE payouts SET state = :s, attempts = 1 WHERE id = :i", s=state, i=payout_id)
    return str(record.row(payout_id).reference_id)


def told(record: Record, *orders: Any) -> list[tuple[int, str, str, str]]:
    rows = [CheckedRow(at, at + 1, one, Money(0, USD)) for at, one in enumerate(orders, 1)]
    found = History(record.batches).among(rows)
    return [(fault.line, fault.column, fault.kind, fault.expected) for fault in found]


@pytest.mark.parametrize("state", State)
def test_a_reference_id_that_was_used_is_refused_by_what_became_of_it(
    record: Record, state: State
) -> None:
    used = stored(record, state)
    [(line, column, kind, expected)] = told(record, order(), order(reference_id=used))
    assert (line, column, kind) == (3, "reference_id", FaultKind.REFERENCE_USED)
    for words in FATES[state]:
        assert words in expected
    [[batch]] = [[one.id] for one in record.batches.latest(1)]
    assert batch in expected


@pytest.mark.parametrize("state", State)
def test_only_a_final_failure_can_be_replaced(record: Record, state: State) -> None:
    found = told(record, order(replaces=stored(record, state)))
    if state is State.FAILED:
        assert found == []
        return
    [(_, column, kind, expected)] = found
    assert (column, kind) == ("replaces", FaultKind.NOT_REPLACEABLE)
    assert FATES[state][0] in expected


def test_a_payout_of_another_account_or_of_none_is_not_replaced(record: Record) -> None:
    failed = stored(record, State.FAILED, account="other")
    for replaces in (failed, "NOBODY"):
        [(_, _, kind, expected)] = told(record, order(replaces=replaces))
        assert kind == FaultKind.NOT_REPLACEABLE
        assert "account main has no payout of that reference id" in expected
    assert told(record, order(replaces=failed, account="other")) == []


@pytest.mark.parametrize("state", [each for each in State if each is not State.CANCELLED])
def test_a_failed_payout_is_replaced_once_whatever_became_of_its_replacement(
    record: Record, state: State
) -> None:
    failed = stored(record, State.FAILED)
    second = stored(record, state, replaces=failed)
    [(_, _, kind, expected)] = told(record, order(replaces=failed))
    assert kind == FaultKind.NOT_REPLACEABLE
    assert f"replaced by {second}" in expected
    assert ("replace that one" in expected) == (state is State.FAILED)
    # The same is told of a row that still has the old reference id.
    [(_, _, kind, expected)] = told(record, order(reference_id=failed))
    assert kind == FaultKind.REFERENCE_USED
    assert f"replaced by {second}" in expected


def test_a_chain_goes_on_from_its_end(record: Record) -> None:
    first = stored(record, State.FAILED)
    second = stored(record, State.FAILED, replaces=first)
    assert told(record, order(replaces=second)) == []


def test_a_replacement_that_was_withdrawn_frees_what_it_replaced(record: Record) -> None:
    failed = stored(record, State.FAILED)
    stored(record, State.CANCELLED, replaces=failed)
    assert told(record, order(replaces=failed)) == []


def test_two_rows_of_a_file_do_not_replace_the_same_payout(record: Record) -> None:
    failed = stored(record, State.FAILED)
    history = History(record.batches)
    for line in (2, 9):
        row = CheckedRow(line - 1, line, order(replaces=failed), Money(0, USD))
        found = history.among([row])
    [fault] = found
    assert (fault.line, fault.kind) == (9, FaultKind.NOT_REPLACEABLE)
    assert "line 2 replaces this one" in fault.expected


def test_the_batches_whose_lines_are_paid_again_are_known(record: Record) -> None:
    old = [stored(record, State.FAILED) for _ in range(2)]
    stored(record, State.PAID)
    history = History(record.batches)
    rows = [CheckedRow(1, 2, order(replaces=one), Money(0, USD)) for one in old]
    assert history.among(rows) == []
    ids = {batch.id for batch in record.batches.latest(3)}
    assert len(history.parents) == 2
    assert history.parents < ids
