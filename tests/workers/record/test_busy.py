"""Who waits too long for somebody else's decision is told whose it is, and has changed nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.workers.record.conftest import KEY, Record
from tests.worlds import order, stored
from workers.errors import ApprovalRefused, BatchBusy
from workers.record import database
from workers.record.batches import Batch, BatchBook
from workers.record.database import Database
from workers.record.decisions import Decisions
from workers.record.model import Actor
from workers.record.status import State
from workers.record.store import Store
from workers.record.vault import Vault

ANN, BOB = Actor("ann", "here"), Actor("bob", "there")
# On SQLite one command waits for the other for half a minute, and says who has the file.
postgresql = pytest.mark.parametrize("record", ["postgresql"], indirect=True)


@pytest.fixture
def other(record: Record, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The same record in another process, which does not wait for long."""
    monkeypatch.setattr(database, "LOCK_TIMEOUT_MS", 200)
    url = record.database.engine.url.render_as_string(hide_password=False)
    opened = Database(url)
    yield Store(opened, Vault.from_text(KEY))
    opened.close()


def draft(record: Record) -> Batch:
    found = record.batches.get(stored(record.batches, [order()], now=record.clock.now()))
    assert found is not None
    return found


def approve(
    batches: BatchBook,
    batch: Batch,
    record: Record,
    actor: Actor,
    progress: Callable[[int], None] = lambda _: None,
) -> bool:
    return batches.approve(
        batch,
        actor=actor,
        now=record.clock.now(),
        spendable={},
        approvals_seen={},
        progress=progress,
    )


@postgresql
@pytest.mark.parametrize("deed", ["approve", "cancel", "reject"])
def test_who_is_at_a_batch_is_told_to_who_comes_second(
    record: Record, other: Store, deed: str
) -> None:
    batch = draft(record)
    told: list[str] = []

    def second() -> None:
        if deed == "approve":
            approve(BatchBook(other), batch, record, BOB)
        else:
            getattr(Decisions(other), deed)(batch.id, BOB, record.clock.now())

    def meanwhile(_rows: int) -> None:
        """Bob comes while Ann's approval seals the rows."""
        with pytest.raises(BatchBusy) as refused:
            second()
        told.append(str(refused.value))

    assert approve(record.batches, batch, record, ANN, meanwhile)
    [sentence] = told
    assert sentence.startswith(f"batch {batch.id}: ann is approving batch {batch.id} since ")
    assert "; nothing was changed here. Try again when that has ended" in sentence
    # Nor was it: the first one counts, and the second may come again.
    assert record.batches.counts(batch.id) == {State.QUEUED: 1}
    with contextlib.suppress(ApprovalRefused):
        Decisions(other).pause(batch.id, BOB, record.clock.now())
    found = record.batches.get(batch.id)
    assert found is not None
    assert (found.decision, found.decided_by) == ("paused", "ann")


@postgresql
def test_a_lock_of_somebody_unknown_is_told_as_that(record: Record, other: Store) -> None:
    batch = draft(record)
    with record.database.write() as connection:
        connection.exec_driver_sql("UPDATE batches SET note = 'x'")
        with pytest.raises(BatchBusy, match="a worker or another command keeps what this needs"):
            approve(BatchBook(other), batch, record, BOB)
    assert approve(BatchBook(other), batch, record, BOB)


@postgresql
def test_a_connection_is_named_for_as_long_as_it_decides(record: Record, other: Store) -> None:
    """A pooled connection that kept its name would accuse somebody who has long gone home."""
    assert approve(record.batches, draft(record), record, ANN)
    again = draft(record)
    with record.database.write() as connection:
        connection.exec_driver_sql("UPDATE batches SET note = 'x'")
        with pytest.raises(BatchBusy) as refused:
            Decisions(other).cancel(again.id, BOB, record.clock.now())
    assert "ann" not in str(refused.value)
