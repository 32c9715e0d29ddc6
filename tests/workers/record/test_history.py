"""Who made a batch is what its history says, and nothing that can be overwritten."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.workers.record.conftest import Record
from tests.worlds import CHECKER, MAKER, order, stored
from workers.errors import ApprovalRefused
from workers.record import history
from workers.record.batches import Batch, NewRow
from workers.record.history import MAKING, Action, Deed, History
from workers.record.model import Actor, ContentHash, Order
from workers.record.money import Money

ANN, BOB = Actor("ann", "cli here pid 1 pts/0"), Actor("bob", "ssh 192.0.2.7")


def save(
    record: Record,
    orders: Sequence[Order],
    actor: Actor,
    *,
    child_of: str | None = None,
    note: str | None = None,
) -> Batch:
    content = ContentHash()
    rows = []
    for number, one in enumerate(orders, 1):
        content.add(one)
        fee = Money(0, one.amount.currency)
        rows.append(NewRow(row=number, order=one, provider="payelata", fee=fee))
    batch = record.batches.get(
        record.batches.save(
            rows,
            file_name="f.csv",
            content_hash=content.hexdigest(),
            file_hash=content.hexdigest(),
            columns=["reference_id"],
            count=len(rows),
            actor=actor,
            note=note,
            now=record.clock.now(),
            child_of=child_of,
        )
    )
    assert batch is not None
    return batch


def approve(record: Record, batch: Batch, actor: Actor) -> bool:
    return record.batches.approve(
        batch,
        actor=actor,
        now=record.clock.now(),
        spendable={},
        approvals_seen={},
        two_people=True,
    )


def makers(record: Record, batch: Batch) -> frozenset[str]:
    with record.database.read() as connection:
        return history.makers(connection, batch.id)


def test_the_history_tells_who_when_and_from_where(record: Record) -> None:
    batch = save(record, [order()], ANN, note="2 repeated payments")
    now = record.clock.now()
    assert History(record.database).of(batch.id) == [
        Deed(now, Action.STORED, ANN, None),
        Deed(now, Action.ALLOWED, ANN, "2 repeated payments"),
    ]
    assert History(record.database).last(batch.id, Action.ALLOWED) == Deed(
        now, Action.ALLOWED, ANN, "2 repeated payments"
    )
    assert History(record.database).last(batch.id, Action.PAUSED) is None


def test_the_maker_may_not_approve_and_somebody_else_may(record: Record) -> None:
    batch = save(record, [order()], ANN)
    with pytest.raises(ApprovalRefused, match="was made by ann"):
        approve(record, batch, Actor("ann", "another machine"))
    found = record.batches.get(batch.id)
    assert found is not None
    assert found.decision == "draft"
    assert approve(record, batch, BOB)
    last = History(record.database).of(batch.id)[-1]
    assert (last.action, last.actor) == (Action.APPROVED, BOB)


def test_the_column_of_the_maker_decides_nothing(record: Record) -> None:
    batch = save(record, [order()], ANN)
    record.sql("UPDATE batches SET made_by = 'bob'")
    with pytest.raises(ApprovalRefused, match="was made by ann"):
        approve(record, batch, ANN)
    assert approve(record, batch, BOB)


def test_a_batch_without_a_history_is_approved_by_nobody(record: Record) -> None:
    batch = save(record, [order()], ANN)
    record.sql("DELETE FROM batch_events")
    with pytest.raises(ApprovalRefused, match="lost its history"):
        approve(record, batch, BOB)


@pytest.mark.parametrize("action", list(Action))
def test_who_edited_is_a_maker_too_and_nobody_else(record: Record, action: Action) -> None:
    batch = save(record, [order()], ANN)
    with record.database.write() as connection:
        history.write(connection, batch.id, Deed(record.clock.now(), action, BOB))
    assert makers(record, batch) == ({"ann", "bob"} if action in MAKING else {"ann"})


def test_a_retry_that_was_turned_down_keeps_nobody_from_approving_the_next(
    record: Record,
) -> None:
    first = save(record, [order()], ANN)
    assert approve(record, first, BOB)
    # With two people nobody could ever approve a retry again if this made Bob a maker for good.
    turned_down = save(record, [order()], BOB, child_of=first.id)
    record.decisions.reject(turned_down.id, ANN, record.clock.now())
    second = save(record, [order()], ANN, child_of=first.id)
    assert makers(record, second) == {"ann"}
    assert approve(record, second, BOB)


def test_who_made_the_lines_that_are_paid_again_is_a_maker_of_those(record: Record) -> None:
    first = save(record, [order()], ANN)
    second = save(record, [order()], BOB, child_of=first.id)
    third = save(record, [order()], MAKER, child_of=second.id)
    assert makers(record, third) == {"ann", "bob", "maker"}
    for actor in (ANN, BOB, MAKER):
        with pytest.raises(ApprovalRefused, match="or pays again what"):
            approve(record, third, actor)
    assert approve(record, third, CHECKER)
    told = History(record.database).of(first.id)[-1]
    assert (told.action, told.actor, told.note) == ("retried", BOB, f"as batch {second.id}")


def test_a_circle_of_batches_has_an_end(record: Record) -> None:
    first = save(record, [order()], ANN)
    second = save(record, [order()], BOB, child_of=first.id)
    record.sql("UPDATE batches SET child_of = :child WHERE id = :id", child=second.id, id=first.id)
    assert makers(record, second) == {"ann", "bob"}


def test_a_batch_that_is_not_stored_has_no_history(record: Record) -> None:
    bad = order(amount=Money(0, order().amount.currency))
    with pytest.raises(Exception, match="payouts_amount_positive"):
        save(record, [bad], ANN)
    batch_id = stored(record.batches, [order()], now=record.clock.now())
    record.sql("DELETE FROM batch_events WHERE batch_id = :id", id=batch_id)
    with record.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM batch_events").scalar_one() == 0


def test_a_file_that_corrects_lines_of_several_batches_has_the_makers_of_all(
    record: Record,
) -> None:
    first = save(record, [order(reference_id="A"), order()], ANN)
    second = save(record, [order(reference_id="B")], BOB)
    record.sql("UPDATE payouts SET state = 'failed' WHERE reference_id IN ('A', 'B')")
    # Of one of them, in turn, lines are paid again for the second time.
    third = save(record, [order(reference_id="A2", replaces="A")], CHECKER)
    record.sql("UPDATE payouts SET state = 'failed' WHERE reference_id = 'A2'")
    both = [order(reference_id="A3", replaces="A2"), order(reference_id="B2", replaces="B")]
    fourth = save(record, both, MAKER)
    assert fourth.child_of is None
    assert makers(record, fourth) == {"ann", "bob", "checker", "maker"}
    for actor in (ANN, BOB, CHECKER):
        with pytest.raises(ApprovalRefused, match="or pays again what"):
            approve(record, fourth, actor)
    assert approve(record, fourth, Actor("dora", "there"))
    # Each of their histories tells of it, and theirs alone.
    told = {
        batch.id: [deed.note for deed in History(record.database).of(batch.id)][-1]
        for batch in (first, second, third)
    }
    assert told == {
        first.id: f"as batch {third.id}",
        second.id: f"as batch {fourth.id}",
        third.id: f"as batch {fourth.id}",
    }
