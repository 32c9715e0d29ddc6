"""A retry stores new payouts for final failures, once, with the content that it read."""

from __future__ import annotations

from pathlib import Path

import pytest

from batches import approval, control
from batches.retry import retry
from tests.workers.record.conftest import together
from tests.worlds import USD, order, settings, stored
from workers.errors import FileRefused, UsageError
from workers.record.batches import Batch, BatchBook
from workers.record.history import Action, History
from workers.record.model import Actor, Order, Reply
from workers.record.money import Money
from workers.record.status import Outcome, State, Step
from workers.runtime import Runtime

ANN, BOB = Actor("ann", "here"), Actor("bob", "there")


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime.open(settings(tmp_path, approvals=2))


def approved(runtime: Runtime, *orders: Order) -> str:
    book = BatchBook(runtime.store)
    batch_id = stored(book, orders, now=runtime.clock.now())
    _approve(runtime, batch_id)
    return batch_id


def _approve(runtime: Runtime, batch_id: str) -> None:
    book = BatchBook(runtime.store)
    assert book.approve(
        approval.find(batch_id, book),
        actor=BOB,
        now=runtime.clock.now(),
        spendable={},
        approvals_seen={},
    )


def fail(runtime: Runtime, batch_id: str, *rows: int) -> None:
    """Have the provider refuse these rows for good."""
    policies, now = runtime.policies, runtime.clock.now()
    for row in list(BatchBook(runtime.store).each(batch_id)):
        if row.row in rows:
            claim = runtime.store.claim(row.id, policies, now)
            assert claim is not None
            refused = Reply(outcome=Outcome.REFUSED)
            runtime.store.record(claim.payout, Step.CREATE, refused, policies["main"], now)


def orders_of(runtime: Runtime, batch: Batch) -> list[Order]:
    return [runtime.store.order_of(row) for row in BatchBook(runtime.store).each(batch.id)]


def test_the_new_payouts_are_the_failed_ones_under_new_names(runtime: Runtime) -> None:
    given = [
        order(reference_id=f"R{n}", amount=Money(100 * n, USD), fields={"account": f"00{n}"})
        for n in (1, 2, 3)
    ]
    parent = approved(runtime, *given)
    fail(runtime, parent, 1, 3)
    child = retry(parent.lower(), runtime, ANN)
    assert (child.child_of, child.decision, child.rows) == (parent, "draft", 2)
    assert (child.file_name, child.columns) == ("test.csv", ("reference_id", "replaces"))
    new = orders_of(runtime, child)
    assert [(one.reference_id, one.replaces) for one in new] == [("R1-r2", "R1"), ("R3-r2", "R3")]
    assert [(one.amount, one.fields) for one in new] == [
        (one.amount, one.fields) for one in (given[0], given[2])
    ]
    # Bound to what was read: it can be approved, by somebody else.
    _approve(runtime, child.id)
    assert BatchBook(runtime.store).counts(child.id) == {State.QUEUED: 2}
    assert History(runtime.database).of(parent)[-1].action == Action.RETRIED
    runtime.close()


@pytest.mark.parametrize("state", [s for s in State if s is not State.FAILED])
def test_nothing_but_a_final_failure_is_paid_again(runtime: Runtime, state: State) -> None:
    parent = approved(runtime, order())
    with runtime.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE payouts SET state = '{state}'")
    with pytest.raises(UsageError, match="no failed payouts"):
        retry(parent, runtime, ANN)
    runtime.close()


def test_what_failed_since_is_retried_beside_what_is_retried_already(runtime: Runtime) -> None:
    parent = approved(runtime, order(reference_id="A"), order(reference_id="B"))
    fail(runtime, parent, 1)
    retry(parent, runtime, ANN)
    fail(runtime, parent, 2)
    second = retry(parent, runtime, ANN)
    assert [one.replaces for one in orders_of(runtime, second)] == ["B"]
    with pytest.raises(UsageError, match="2 failed payouts are paid again already"):
        retry(parent, runtime, ANN)
    runtime.close()


def test_a_rejected_retry_leaves_the_lines_to_the_next(runtime: Runtime) -> None:
    parent = approved(runtime, order(reference_id="A"))
    fail(runtime, parent, 1)
    first = retry(parent, runtime, ANN)
    runtime.decisions.reject(first.id, BOB, runtime.clock.now())
    while runtime.decisions.carry(first.id, runtime.clock.now()):
        pass
    second = retry(parent, runtime, ANN)
    assert [one.reference_id for one in orders_of(runtime, second)] == ["A-r2"]
    runtime.close()


def test_a_retry_that_was_cancelled_once_it_was_tried_leaves_the_lines_to_the_next(
    runtime: Runtime,
) -> None:
    parent = approved(runtime, order(reference_id="A"))
    fail(runtime, parent, 1)
    first = retry(parent, runtime, ANN)
    _approve(runtime, first.id)
    [row] = BatchBook(runtime.store).each(first.id)
    claim = runtime.store.claim(row.id, runtime.policies, runtime.clock.now())
    assert claim is not None
    # Proved not sent, and then withdrawn.
    reply, used = Reply(outcome=Outcome.NOT_SENT), runtime.policies["main"]
    runtime.store.record(claim.payout, Step.CREATE, reply, used, runtime.clock.now())
    control.cancel(first.id, runtime, ANN, "")
    assert BatchBook(runtime.store).counts(first.id) == {State.CANCELLED: 1}
    second = retry(parent, runtime, ANN)
    again = [(one.reference_id, one.replaces) for one in orders_of(runtime, second)]
    # The reference id that was tried is used for ever.
    assert again == [("A-r3", "A")]
    with pytest.raises(UsageError, match="paid again already"):
        retry(parent, runtime, ANN)
    runtime.close()


def test_many_retries_at_once_store_one_batch(runtime: Runtime, tmp_path: Path) -> None:
    parent = approved(runtime, *(order() for _ in range(20)))
    fail(runtime, parent, *range(1, 21))
    others = [Runtime.open(settings(tmp_path, approvals=2)) for _ in range(4)]
    told = together([lambda o=other: retry(parent, o, ANN) for other in others])
    assert sum(isinstance(one, Batch) for one in told) == 1, told
    refused = [one for one in told if not isinstance(one, Batch)]
    assert all(isinstance(one, FileRefused | UsageError) for one in refused), told
    for other in (*others, runtime):
        other.close()
