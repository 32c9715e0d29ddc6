"""A record that is put back to an earlier state pays nothing twice that its provider already has.

For every provider, against simulators that take a second create of a reference id for a second
payout: what was queued, a draft, or not in the record at all when the backup was made, and was paid
after it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.workers.kinds import KINDS
from tests.workers.provider_world import ProviderWorld, provider_world
from tests.worlds import CHECKER, approved, stored
from workers.record.batches import BatchBook
from workers.record.model import Order
from workers.record.status import State

every_kind = pytest.mark.parametrize("kind", KINDS)


def back_up(world: ProviderWorld) -> None:
    _copy(world, "paybatch.db", "paybatch.backup")


def put_back(world: ProviderWorld) -> None:
    _copy(world, "paybatch.backup", "paybatch.db")


def _copy(world: ProviderWorld, source: str, target: str) -> None:
    """Copy the database's file while nobody has it open."""
    world.runtime.close()
    assert not (world.folder / "paybatch.db-wal").exists()
    shutil.copy(world.folder / source, world.folder / target)
    world.runtime = world.open()
    world.batches = BatchBook(world.runtime.store)


class Restorable:
    """A record with a payout of each sort, and the copy of it that is put back."""

    def __init__(self, world: ProviderWorld) -> None:
        self.world = world
        self.queued, self.draft, self.later = (world.kind.an_order() for _ in range(3))
        world.queue(self.queued)
        self.draft_id = stored(
            world.batches, [self.draft], now=world.clock.now(), provider=world.kind.name
        )
        back_up(world)
        # The life after the backup.
        self.approve_draft()
        world.queue(self.later)
        for order in self.orders:
            assert world.settle(self.id_of(order)) is State.PAID
        put_back(world)

    @property
    def orders(self) -> tuple[Order, ...]:
        return self.queued, self.draft, self.later

    def approve_draft(self) -> None:
        batch = self.world.batches.get(self.draft_id)
        assert batch is not None
        now = self.world.clock.now()
        assert self.world.batches.approve(
            batch, actor=CHECKER, now=now, spendable={}, approvals_seen={}
        )

    def submit_again(self) -> None:
        """The draft is approved, and the file whose batch was lost is submitted once more."""
        self.approve_draft()
        self.world.queue(self.later)

    def id_of(self, order: Order) -> int:
        with self.world.runtime.database.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT id FROM payouts WHERE reference_id = ?", (order.reference_id,)
            )
            return int(rows.scalar_one())

    def freeze(self) -> None:
        self.world.runtime.restores.freeze("restored from backup", self.world.clock.now())

    def open(self) -> None:
        restores = self.world.runtime.restores
        restores.open(restores.standing("main"), "opened by ann")

    def wait(self) -> None:
        """Until nothing that was sent before the restore is too young to be seen."""
        self.world.clock.sleep(self.world.runtime.accounts["main"].settings.lookup_grace_s)

    def settle_all(self) -> list[State]:
        return [self.world.settle(self.id_of(order)) for order in self.orders]

    def doubled(self) -> list[str]:
        """The reference ids that the provider has more than once."""
        counts = {
            order.reference_id: len(self.world.ledger(self.id_of(order))["invoices"])
            for order in self.orders
        }
        return [reference_id for reference_id, count in counts.items() if count > 1]


@pytest.fixture
def restored(kind: str, tmp_path: Path) -> Iterator[Restorable]:
    with provider_world(tmp_path, KINDS[kind]) as world:
        yield Restorable(world)


@every_kind
def test_what_was_paid_after_the_backup_is_found_and_not_paid_again(restored: Restorable) -> None:
    restored.freeze()
    restored.submit_again()
    restored.wait()
    restored.open()
    assert restored.settle_all() == [State.PAID] * 3
    for order in restored.orders:
        payout_id = restored.id_of(order)
        told = restored.world.told(payout_id)
        assert len(restored.world.ledger(payout_id)["invoices"]) == 1, told
        assert restored.world.releases(payout_id) == 1, told


@every_kind
def test_without_the_freeze_exactly_these_are_paid_twice(restored: Restorable) -> None:
    """The proof that the test above can fail."""
    restored.submit_again()
    restored.settle_all()
    assert restored.doubled() == [order.reference_id for order in restored.orders]


@every_kind
def test_nothing_is_created_while_frozen_nor_before_a_look_up_can_see_it(
    restored: Restorable,
) -> None:
    world = restored.world
    restored.freeze()
    restored.submit_again()
    fresh = world.kind.an_order()
    (new,) = world.queue(fresh)
    creates = world.calls("create")
    world.clock.sleep(86_400)
    assert world.step() == 0
    # Opened by mistake right after another restore: still nothing, until the grace has passed.
    restored.freeze()
    restored.open()
    frozen_at = world.clock.now()
    for _ in range(20):
        if world.step() == 0:
            world.pass_time(new)
        if world.calls("create") > creates:
            break
    grace = timedelta(seconds=world.runtime.accounts["main"].settings.lookup_grace_s)
    assert world.clock.now() - frozen_at >= grace
    assert world.settle(new) is State.PAID
    assert restored.settle_all() == [State.PAID] * 3
    assert world.calls("create") == creates + 1
    assert len(world.ledger(new)["invoices"]) == 1


@every_kind
def test_what_is_found_and_differs_is_held(restored: Restorable) -> None:
    """The file that is submitted again is not the one that was paid."""
    world = restored.world
    restored.freeze()
    other = world.kind.an_order(
        reference_id=restored.later.reference_id,
        amount=restored.later.amount + restored.later.amount,
    )
    approved(world.batches, [other], now=world.clock.now(), provider=world.kind.name)
    restored.wait()
    restored.open()
    payout_id = restored.id_of(other)
    assert world.settle(payout_id) is State.HELD
    assert "looked up, but amount" in world.told(payout_id)
    assert len(world.ledger(payout_id)["invoices"]) == 1


@every_kind
def test_an_account_that_came_after_the_backup_is_looked_up_first_too(
    restored: Restorable,
) -> None:
    """Its row is not in the backup, so the freeze did not meet it."""
    restored.freeze()
    at = restored.world.runtime.restores.standing("main").restored_at
    restored.world.runtime.book.register({"other": restored.world.kind.name})
    assert restored.world.runtime.restores.standing("other").restored_at == at


@pytest.mark.parametrize("kind", ["payelata"])
def test_open_payouts_are_still_read_while_frozen_and_not_released(
    tmp_path: Path, kind: str
) -> None:
    with provider_world(tmp_path, KINDS[kind], settle_s=100) as world:
        (payout_id,) = world.queue(world.kind.an_order())
        world.step()
        assert world.state(payout_id) is State.CREATED or world.state(payout_id) is State.PROCESSING
        world.runtime.restores.freeze("restored", world.clock.now())
        assert world.settle(payout_id) is State.PAID
        assert world.releases(payout_id) == 1


@pytest.mark.parametrize(
    ("kind", "fault", "state"),
    [
        *((kind, "create:drop-after*1", State.UNKNOWN) for kind in KINDS),
        *((kind.name, "process:503*1", State.CREATED) for kind in KINDS.values() if kind.two_step),
    ],
)
def test_what_was_under_way_at_the_backup_goes_on_where_the_provider_is(
    tmp_path: Path, kind: str, fault: str, state: State
) -> None:
    with provider_world(tmp_path, KINDS[kind]) as world:
        (payout_id,) = world.queue(world.kind.an_order())
        world.faults(fault, world.row(payout_id).reference_id)
        world.step()
        assert world.state(payout_id) is state
        back_up(world)
        assert world.settle(payout_id) is State.PAID
        put_back(world)
        assert world.state(payout_id) is state
        world.runtime.restores.freeze("restored", world.clock.now())
        assert world.settle(payout_id) is State.PAID
        assert len(world.ledger(payout_id)["invoices"]) == 1
        assert world.releases(payout_id) == 1
