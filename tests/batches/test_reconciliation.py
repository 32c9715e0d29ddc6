"""Each kind of break between the record and a provider's list is found, and only those."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batches.reconciliation import Break, Comparison, Kind, Reconciliation
from tests.workers.kinds import KINDS
from tests.workers.provider_world import ProviderWorld, provider_world
from tests.worlds import CHECKER, stored
from workers.errors import AccountFault, ProviderUnreachable, UsageError
from workers.record.model import Order
from workers.record.status import Outcome, State

HOUR = timedelta(hours=1)
LISTING = ("payelata", "etpay")
every_listing = pytest.mark.parametrize("kind", LISTING)


class Compared:
    """A world, and what a comparison of it finds."""

    def __init__(self, world: ProviderWorld) -> None:
        self.world = world
        self.since = world.clock.now() - HOUR

    def compare(self, since: datetime | None = None, until: datetime | None = None) -> Any:
        runtime = self.world.runtime
        with Comparison(runtime.accounts["main"], runtime) as comparison:
            told = comparison.run(
                since or self.since, until or self.world.clock.now() + timedelta(seconds=1)
            )
            return told, list(comparison.breaks())

    def breaks(self) -> list[Break]:
        found: list[Break] = self.compare()[1]
        return found

    def told(self) -> Reconciliation:
        found: Reconciliation = self.compare()[0]
        return found

    def pay(self, order: Order | None = None) -> int:
        (payout_id,) = self.world.queue(order or self.world.kind.an_order())
        assert self.world.settle(payout_id) is State.PAID
        self.world.clock.sleep(2)
        return payout_id

    def create_unknown(self, order: Order) -> None:
        """Have the provider pay something that the record does not know."""
        reply = self.world.provider.create(order)
        assert reply.provider_payout_id is not None
        if self.world.can.two_step:
            self.world.provider.process(order, reply.provider_payout_id)
        self.world.clock.sleep(60)
        assert self.world.provider.look_up(order).outcome is Outcome.PAID

    def reference(self, payout_id: int) -> str:
        return str(self.world.row(payout_id).reference_id)

    def sql(self, statement: str) -> None:
        with self.world.runtime.database.write() as connection:
            connection.exec_driver_sql(statement)


@pytest.fixture
def compared(kind: str, tmp_path: Path) -> Iterator[Compared]:
    with provider_world(tmp_path, KINDS[kind]) as world:
        yield Compared(world)


@every_listing
def test_equal_records_have_no_breaks(compared: Compared) -> None:
    for _ in range(3):
        compared.pay()
    (fresh,) = compared.world.queue(compared.world.kind.an_order())
    told, breaks = compared.compare()
    assert (told.listed, told.matches, told.still_open, told.woken) == (3, 3, 0, 0)
    assert (breaks, told.counts, told.exit_code, told.looked_up) == ([], {}, 0, None)
    assert compared.world.state(fresh) is State.QUEUED


@every_listing
def test_what_only_the_provider_has_is_a_break(compared: Compared) -> None:
    compared.pay()
    order = compared.world.kind.an_order()
    compared.create_unknown(order)
    (found,) = compared.breaks()
    assert (found.kind, found.reference_id, found.here) == ("not_here", order.reference_id, "")
    assert found.there.startswith("paid (")
    assert order.amount.named() in found.there
    assert compared.told().exit_code == 5


@every_listing
@pytest.mark.parametrize("state", [State.DRAFT, State.QUEUED])
def test_what_is_there_before_it_is_sent_is_a_break(compared: Compared, state: State) -> None:
    compared.pay()
    world = compared.world
    order = world.kind.an_order()
    compared.create_unknown(order)
    if state is State.DRAFT:
        stored(world.batches, [order], now=world.clock.now(), provider=world.kind.name)
    else:
        world.queue(order)
    (found,) = compared.breaks()
    assert (found.kind, found.reference_id) == ("not_sent_here", order.reference_id)
    assert found.here == f"{state}, {order.amount.named()}"


@every_listing
def test_what_was_sent_and_is_not_there_is_a_break_and_asked_about(compared: Compared) -> None:
    compared.pay()
    world = compared.world
    (payout_id,) = world.queue(world.kind.an_order())
    claim = world.runtime.store.claim(payout_id, world.runtime.policies, world.clock.now())
    assert claim is not None
    compared.sql(f"UPDATE payouts SET state='paid', claimed_until=NULL WHERE id={payout_id}")
    world.clock.sleep(2)
    told, (found,) = compared.compare()
    assert (found.kind, found.reference_id) == ("not_there", compared.reference(payout_id))
    assert found.here == f"paid, {claim.order.amount.named()}"
    assert found.there == "not listed, and not found when asked"
    assert told.woken == 1
    # What was never sent, or has failed, is not missed.
    compared.sql(f"UPDATE payouts SET state='failed' WHERE id={payout_id}")
    assert compared.breaks() == []


@every_listing
def test_what_was_created_outside_the_times_is_asked_for_and_not_missed(
    compared: Compared,
) -> None:
    """A lost answer: the provider's clock counts from the first create, ours to the last."""
    payout_id = compared.pay()
    start = compared.world.clock.now() + HOUR
    at = start.replace(tzinfo=None).isoformat(" ", "microseconds")
    compared.sql(f"UPDATE payouts SET sent_at='{at}', last_sent_at='{at}' WHERE id={payout_id}")
    compared.world.clock.sleep(2 * 3600)
    told, breaks = compared.compare(since=start)
    assert (told.listed, told.matches, breaks) == (0, 1, [])


@every_listing
@pytest.mark.parametrize(
    ("change", "words"),
    [("amount_minor = 99900", "amount: "), ("provider_payout_id = 'other'", "provider payout id")],
)
def test_what_is_not_the_same_is_a_break(compared: Compared, change: str, words: str) -> None:
    compared.pay()
    payout_id = compared.pay()
    compared.sql(f"UPDATE payouts SET {change} WHERE id = {payout_id}")
    (found,) = compared.breaks()
    assert (found.kind, found.reference_id) == ("differs", compared.reference(payout_id))
    assert words in found.there


@every_listing
@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_what_is_final_here_and_paid_there_is_a_break_and_stays_as_it_is(
    compared: Compared, state: State
) -> None:
    payout_id = compared.pay()
    compared.sql(f"UPDATE payouts SET state='{state}', due_at=NULL WHERE id={payout_id}")
    told, (found,) = compared.compare()
    assert (found.kind, found.reference_id) == ("contradicts", compared.reference(payout_id))
    assert (compared.world.state(payout_id), told.woken) == (state, 0)
    assert compared.world.row(payout_id).due_at is None


@pytest.mark.parametrize(("kind", "back"), [("payelata", "canceled"), ("etpay", "returned")])
def test_what_is_paid_here_and_came_back_there_is_a_break_that_a_worker_asks_about(
    compared: Compared, kind: str, back: str
) -> None:
    world = compared.world
    payout_id = compared.pay()
    known_as = world.row(payout_id).provider_payout_id
    world.control.post(f"invoices/{known_as}", json={"status": back}).raise_for_status()
    world.clock.sleep(1)
    told, (found,) = compared.compare()
    assert (found.kind, told.woken) == ("contradicts", 1)
    assert found.there.startswith("returned (")
    assert world.state(payout_id) is State.PAID
    world.step()
    assert world.state(payout_id) is State.RETURNED
    assert compared.breaks() == []


@every_listing
def test_several_under_one_reference_id_are_one_break(compared: Compared) -> None:
    compared.pay()
    order = compared.world.kind.an_order()
    compared.pay(order)
    world = compared.world
    assert world.provider.create(order).provider_payout_id is not None
    world.clock.sleep(1)
    (found,) = compared.breaks()
    assert (found.kind, found.reference_id) == ("several", order.reference_id)
    assert found.there.count(order.amount.named()) == 2


@every_listing
def test_what_should_move_is_woken_and_moved_by_its_worker(compared: Compared, kind: str) -> None:
    world = compared.world
    compared.pay()
    (payout_id,) = world.queue(world.kind.an_order())
    world.faults("create:drop-after*1", compared.reference(payout_id))
    world.step()
    assert world.state(payout_id) is State.UNKNOWN
    world.clock.sleep(1)
    compared.sql(f"UPDATE payouts SET due_at=NULL WHERE id={payout_id}")
    told, breaks = compared.compare()
    assert (breaks, told.woken, told.still_open) == ([], 1, 1)
    assert world.settle(payout_id) is State.PAID


@every_listing
def test_a_list_that_breaks_off_notes_nothing(compared: Compared) -> None:
    compared.pay()
    compared.world.faults("list:500*0")
    with pytest.raises((AccountFault, ProviderUnreachable), match="account main: "):
        compared.compare()
    standing = compared.world.runtime.restores.standing("main")
    assert standing.reconciled_at is None


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(LISTING)))
def test_a_provider_without_a_list_is_said_to_have_none(compared: Compared) -> None:
    with pytest.raises(UsageError, match="has no list of payouts"):
        compared.compare()


# --- a record that was put back ---


@every_listing
def test_creates_are_looked_up_first_until_all_that_was_sent_is_known(
    compared: Compared,
) -> None:
    world = compared.world
    compared.pay()
    order = world.kind.an_order()
    compared.create_unknown(order)
    world.runtime.restores.freeze("restored", world.clock.now())
    put_back = world.runtime.restores.standing("main").restored_at
    grace = timedelta(seconds=world.runtime.accounts["main"].settings.lookup_grace_s)
    assert put_back is not None

    def why() -> str:
        told = compared.told()
        assert world.runtime.restores.standing("main").reconciled_at == world.clock.now()
        assert (told.looked_up == "") is (
            world.runtime.restores.standing("main").restored_at is None
        )
        return told.looked_up or ""

    assert "1 that the provider has are not known here" in why()
    # Known, but neither approved nor found yet: it would be paid once more without a look-up.
    batch_id = stored(world.batches, [order], now=world.clock.now(), provider=world.kind.name)
    world.clock.sleep(grace.total_seconds())
    assert "not known here, or not as sent" in why()
    batch = world.batches.get(batch_id)
    assert batch is not None
    world.batches.approve(
        batch, actor=CHECKER, now=world.clock.now(), spendable={}, approvals_seen={}
    )
    assert "not known here, or not as sent" in why()
    world.runtime.restores.open(world.runtime.restores.standing("main"), "opened")
    with world.runtime.database.read() as connection:
        found = connection.exec_driver_sql("SELECT max(id) FROM payouts").scalar_one()
    assert world.settle(found) is State.PAID
    assert why() == ""
    assert len(world.ledger(found)["invoices"]) == 1


@every_listing
def test_the_times_must_reach_from_before_the_backup_to_after_the_grace(
    compared: Compared,
) -> None:
    world = compared.world
    compared.pay()
    newest = world.row(1).settled_at
    world.runtime.restores.freeze("restored", world.clock.now())
    told, _ = compared.compare()
    assert "compare again after 20" in told.looked_up
    world.clock.sleep(world.runtime.accounts["main"].settings.lookup_grace_s)
    told, _ = compared.compare(until=world.clock.now() - timedelta(seconds=1))
    assert "compare again after 20" in told.looked_up
    told, _ = compared.compare(since=newest + timedelta(seconds=1))
    assert "the backup was made after" in told.looked_up
    told, _ = compared.compare(since=newest)
    assert told.looked_up == ""
    assert compared.told().looked_up is None


def test_the_breaks_are_told_kind_by_kind_up_to_a_limit(tmp_path: Path) -> None:
    with provider_world(tmp_path, KINDS["payelata"]) as world:
        compared = Compared(world)
        for _ in range(3):
            compared.create_unknown(world.kind.an_order())
        paid = [compared.pay() for _ in range(2)]
        compared.sql(f"UPDATE payouts SET amount_minor = 1 WHERE id = {paid[0]}")
        with Comparison(world.runtime.accounts["main"], world.runtime) as comparison:
            comparison.run(compared.since, world.clock.now() + HOUR)
            kinds = [found.kind for found in comparison.breaks()]
            assert kinds == [Kind.NOT_HERE] * 3 + [Kind.DIFFERS]
            assert len(list(comparison.breaks(1))) == 2
