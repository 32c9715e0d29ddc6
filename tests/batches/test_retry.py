"""A retry stores new payouts for final failures, once, with the content that it read."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from batches import approval, control
from batches.references import Gone
from batches.results import write_failed
from batches.retry import retry
from tests.workers.record.conftest import together
from tests.worlds import USD, order, settings, stored
from workers.errors import FileRefused, NothingLeft, UsageError
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
    with pytest.raises(NothingLeft, match="no failed payouts"):
        retry(parent, runtime, ANN)
    runtime.close()


def test_what_failed_since_is_retried_beside_what_is_retried_already(runtime: Runtime) -> None:
    other = order(reference_id="B", amount=Money(700, USD))
    parent = approved(runtime, order(reference_id="A"), other)
    fail(runtime, parent, 1)
    retry(parent, runtime, ANN)
    fail(runtime, parent, 2)
    second = retry(parent, runtime, ANN)
    assert [one.replaces for one in orders_of(runtime, second)] == ["B"]
    with pytest.raises(NothingLeft, match=r"all that failed of it \(2\) is paid again already"):
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
    with pytest.raises(NothingLeft, match="paid again already"):
        retry(parent, runtime, ANN)
    runtime.close()


def test_many_retries_at_once_store_one_batch(runtime: Runtime, tmp_path: Path) -> None:
    parent = approved(runtime, *(order(amount=Money(n, USD)) for n in range(1, 21)))
    fail(runtime, parent, *range(1, 21))
    others = [Runtime.open(settings(tmp_path, approvals=2)) for _ in range(4)]
    told = together([lambda o=other: retry(parent, o, ANN) for other in others])
    assert sum(isinstance(one, Batch) for one in told) == 1, told
    refused = [one for one in told if not isinstance(one, Batch)]
    assert all(isinstance(one, FileRefused | NothingLeft) for one in refused), told
    for other in (*others, runtime):
        other.close()


def test_a_retry_of_what_another_file_has_paid_meanwhile_needs_consent_which_is_recorded(
    runtime: Runtime,
) -> None:
    given = [order(reference_id=f"R{n}", fields={"account": f"00{n}"}) for n in (1, 2, 3)]
    parent = approved(runtime, *given)
    fail(runtime, parent, 1, 2)
    approved(runtime, replace(given[1], reference_id="X2"))
    with pytest.raises(FileRefused, match=r"1 failed line would pay .*: R2 \(as payout X2 of"):
        retry(parent, runtime, ANN)
    assert len(BatchBook(runtime.store).latest(9)) == 2
    child = retry(parent, runtime, ANN, allow_repeats=True)
    assert [one.replaces for one in orders_of(runtime, child)] == ["R1", "R2"]
    [allowed] = [
        deed for deed in History(runtime.database).of(child.id) if deed.action == Action.ALLOWED
    ]
    assert (allowed.actor, allowed.note) == (ANN, f"1 repeated payment allowed by {ANN}")
    runtime.close()


def purged(runtime: Runtime, batch_id: str, *, rows: Sequence[int] = ()) -> None:
    """Have the data of a batch's beneficiaries removed, or of some of its rows."""
    which = f"batch_id = '{batch_id}'"
    if rows:
        which += f" AND row IN ({', '.join(map(str, rows))})"
    with runtime.database.write() as connection:
        connection.exec_driver_sql(
            f"UPDATE payouts SET purged_at = created_at, sealed_data = x'', metadata = '{{}}',"
            f" description = '' WHERE {which}"
        )


def test_what_was_purged_of_a_retry_is_paid_again_with_the_data_of_its_parent(
    runtime: Runtime,
) -> None:
    given = [order(reference_id=f"R{n}", fields={"account": f"00{n}"}) for n in (1, 2)]
    parent = approved(runtime, *given)
    fail(runtime, parent, 1, 2)
    first = retry(parent, runtime, ANN)
    _approve(runtime, first.id)
    fail(runtime, first.id, 1, 2)
    second = retry(parent, runtime, ANN)
    _approve(runtime, second.id)
    fail(runtime, second.id, 1, 2)
    # Both: the data is looked for as far back as it takes.
    purged(runtime, first.id)
    purged(runtime, second.id)
    third = retry(parent, runtime, ANN)
    again = orders_of(runtime, third)
    assert [(one.reference_id, one.replaces) for one in again] == [
        ("R1-r4", "R1-r3"),
        ("R2-r4", "R2-r3"),
    ]
    assert [(one.amount, one.fields, one.description) for one in again] == [
        (one.amount, one.fields, one.description) for one in given
    ]
    _approve(runtime, third.id)
    runtime.close()


def test_a_corrected_line_that_was_purged_is_left_out_and_the_others_come(
    runtime: Runtime,
) -> None:
    parent = approved(runtime, order(reference_id="A"), order(reference_id="B"))
    fail(runtime, parent, 1, 2)
    # Corrected by a person: what it had is not what the parent has.
    corrected = approved(runtime, order(reference_id="A-new", replaces="A"))
    fail(runtime, corrected, 1)
    purged(runtime, corrected)
    gone = Gone()
    child = retry(parent, runtime, ANN, gone)
    assert [one.replaces for one in orders_of(runtime, child)] == ["B"]
    assert gone.number == 1
    assert "1 failed line was removed (paybatch purge): A-new. " in str(gone)
    # Alone, it is told in one sentence.
    with pytest.raises(UsageError, match=r"batch \w+: the beneficiaries' data of 1 failed line"):
        retry(corrected, runtime, ANN)
    runtime.close()


def test_the_rows_that_a_purge_has_not_come_to_are_paid_again(runtime: Runtime) -> None:
    parent = approved(runtime, order(reference_id="A"), order(reference_id="B"))
    fail(runtime, parent, 1, 2)
    purged(runtime, parent, rows=[1])
    gone = Gone()
    child = retry(parent, runtime, ANN, gone)
    assert [one.replaces for one in orders_of(runtime, child)] == ["B"]
    assert gone.number == 1
    runtime.close()


def test_the_file_to_correct_has_the_rows_that_are_left_and_their_own_data(
    runtime: Runtime, tmp_path: Path
) -> None:
    parent = approved(runtime, order(reference_id="A", fields={"account": "001"}), order())
    fail(runtime, parent, 1, 2)
    child = retry(parent, runtime, ANN)
    _approve(runtime, child.id)
    fail(runtime, child.id, 1, 2)
    purged(runtime, child.id)
    purged(runtime, parent, rows=[2])
    book, gone, out = BatchBook(runtime.store), Gone(), tmp_path / "failed.csv"
    with runtime.database.write() as connection:
        connection.exec_driver_sql(
            """UPDATE batches SET columns = '["reference_id", "amount", "fields.account"]'"""
        )
    assert write_failed(approval.find(parent, book), book, out, 35, gone) == 1
    assert gone.number == 1
    [row] = csv.DictReader(out.read_text().splitlines())
    assert (row["reference_id"], row["replaces"], row["fields.account"]) == (
        "A-r3",
        "A-r2",
        "001",
    )
    runtime.close()
