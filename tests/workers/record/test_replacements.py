"""Of a line's payouts at most one is alive, however it is paid again and by however many."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import IntegrityError

from tests.workers.record.conftest import Record, together
from tests.worlds import order, stored
from workers.errors import FileRefused
from workers.record import replacements
from workers.record.model import Actor, Order
from workers.record.status import Outcome, State, Step


def queue(record: Record, *orders: Order) -> list[int]:
    return record.queue(*orders)


def fail(record: Record, payout_id: int) -> None:
    record.answer(record.take(payout_id), Step.CREATE, Outcome.REFUSED)
    assert record.state(payout_id) is State.FAILED


def again(record: Record, reference_id: str, replaces: str) -> int:
    (payout_id,) = record.queue(order(reference_id=reference_id, replaces=replaces))
    return payout_id


def draft(record: Record, reference_id: str, replaces: str) -> str:
    one = order(reference_id=reference_id, replaces=replaces)
    return stored(record.batches, [one], now=record.clock.now())


def newest(record: Record, payout_id: int) -> str:
    batch_id = str(record.row(payout_id).batch_id)
    pairs = list(replacements.newest(record.database, record.batches.each(batch_id)))
    return str({old.id: new.reference_id for old, new in pairs}[payout_id])


def test_the_newest_is_the_one_that_is_alive_else_the_last_that_failed(record: Record) -> None:
    (one,) = queue(record, order(reference_id="R"))
    assert newest(record, one) == "R"
    fail(record, one)
    assert newest(record, one) == "R"
    two = again(record, "R-r2", "R")
    assert newest(record, one) == "R-r2"
    fail(record, two)
    assert newest(record, one) == "R-r2"
    again(record, "R-r3", "R-r2")
    assert (newest(record, one), newest(record, two)) == ("R-r3", "R-r3")


def test_a_withdrawn_successor_is_none(record: Record) -> None:
    (one,) = queue(record, order(reference_id="R"))
    fail(record, one)
    batch_id = draft(record, "R-r2", "R")
    assert newest(record, one) == "R-r2"
    record.decisions.cancel(batch_id, _ann(), record.clock.now())
    while record.decisions.carry(batch_id, record.clock.now()):
        pass
    assert newest(record, one) == "R"
    # It can be paid again, under the same reference id as well.
    assert draft(record, "R-r2", "R")


def test_successors_of_another_account_are_others(record: Record) -> None:
    (one,) = queue(record, order(reference_id="R"))
    fail(record, one)
    record.queue(order(reference_id="R-r2", replaces="R", account="other"))
    assert newest(record, one) == "R"


def test_a_line_is_not_paid_by_two_branches_of_its_successors(record: Record) -> None:
    (one,) = queue(record, order(reference_id="R"))
    fail(record, one)
    fail(record, again(record, "R-r2", "R"))
    # The database's index sees no harm in either of these beside the other.
    draft(record, "R-r3", "R-r2")
    with pytest.raises(FileRefused, match=r"R-r3 of batch \w+ does so already"):
        draft(record, "R-r4", "R")


def test_the_second_branch_may_come_from_the_root_and_the_first_from_a_leaf(
    record: Record,
) -> None:
    (one,) = queue(record, order(reference_id="R"))
    fail(record, one)
    fail(record, again(record, "R-r2", "R"))
    draft(record, "R-r4", "R")
    with pytest.raises(FileRefused, match=r"R-r4 of batch \w+ does so already"):
        draft(record, "R-r3", "R-r2")


def test_one_file_does_not_pay_a_line_twice_either(record: Record) -> None:
    (one,) = queue(record, order(reference_id="R"))
    fail(record, one)
    fail(record, again(record, "R-r2", "R"))
    both = [order(reference_id="A", replaces="R"), order(reference_id="B", replaces="R-r2")]
    with pytest.raises(FileRefused):
        stored(record.batches, both, now=record.clock.now())
    assert record.batches.known("main", ["A", "B"]) == {}


@pytest.mark.parametrize("state", [State.PAID, State.QUEUED, State.UNKNOWN, State.HELD])
def test_what_did_not_fail_is_not_replaced(record: Record, state: State) -> None:
    (one,) = queue(record, order(reference_id="R"))
    if state is State.PAID:
        record.answer(record.take(one), Step.CREATE, Outcome.PAID, provider_payout_id="p")
    elif state is State.UNKNOWN:
        record.unknown(one)
    elif state is State.HELD:
        record.held(one)
    assert record.state(one) is state
    with pytest.raises(FileRefused, match="did not fail"):
        draft(record, "R-r2", "R")


def test_many_who_pay_a_line_again_at_once_store_one_batch(record: Record) -> None:
    (one,) = queue(record, order(reference_id="R"))
    fail(record, one)
    fail(record, again(record, "R-r2", "R"))
    others = [record.again() for _ in range(6)]
    calls = [
        lambda o=other, n=n: draft(o, f"NEW-{n}", "R" if n % 2 else "R-r2")
        for n, other in enumerate(others)
    ]
    told = together(calls)
    assert sum(isinstance(each, str) for each in told) == 1, told
    refused = [each for each in told if not isinstance(each, str)]
    assert all(isinstance(each, FileRefused | IntegrityError) for each in refused), told
    for other in others:
        other.close()


def test_families_larger_than_a_group_are_seen_whole(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replacements, "GROUP", 2)
    ids = queue(record, *(order(reference_id=f"R{n}") for n in range(5)))
    for one in ids:
        fail(record, one)
    stored(
        record.batches,
        [order(reference_id=f"N{n}", replaces=f"R{n}") for n in range(5)],
        now=record.clock.now(),
    )
    assert [newest(record, one) for one in ids] == [f"N{n}" for n in range(5)]
    with pytest.raises((FileRefused, IntegrityError)):
        draft(record, "X", "R4")


def _ann() -> Actor:
    return Actor("ann", "here")
