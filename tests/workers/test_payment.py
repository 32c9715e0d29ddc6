"""What a worker does before and around a call; the whole life is walked in test_crash_points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.worlds import HandClock, approved, order, settings
from workers import payment
from workers.record.batches import BatchBook
from workers.record.tables import payout_events, payouts
from workers.runtime import Runtime


class StoppedClock(HandClock):
    """The clock of a process that is stopped for a while between any two looks at it."""

    def monotonic(self) -> float:
        self.ticks += 100
        return self.ticks


class World:
    """A record whose provider cannot be reached, so that nothing is ever sent."""

    def __init__(self, folder: Path, clock: HandClock, **account: Any) -> None:
        self.clock = clock
        self.runtime = Runtime.open(settings(folder, account=account), clock)
        batch_id = approved(BatchBook(self.runtime.store), [order()], now=clock.now())
        with self.runtime.database.read() as connection:
            self.payout_id: int = connection.execute(
                select(payouts.c.id).where(payouts.c.batch_id == batch_id)
            ).scalar_one()

    def row(self) -> Any:
        with self.runtime.database.read() as connection:
            return connection.execute(select(payouts)).one()

    def causes(self) -> list[str]:
        with self.runtime.database.read() as connection:
            return list(connection.execute(select(payout_events.c.cause)).scalars())


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def world(tmp_path: Path, clock: HandClock) -> Iterator[World]:
    made = World(tmp_path, clock)
    yield made
    made.runtime.close()


def test_an_account_that_is_full_puts_a_payout_off_unclaimed(world: World) -> None:
    slots = world.runtime.accounts["main"].slots
    while slots.acquire(blocking=False):
        pass
    payment.pay(world.payout_id, world.runtime)
    row = world.row()
    assert (row.state, row.attempts, row.claimed_until) == ("queued", 0, None)
    assert row.due_at > world.clock.now()


def test_an_account_without_room_for_a_call_puts_a_payout_off_unclaimed(
    tmp_path: Path, clock: HandClock
) -> None:
    world = World(tmp_path, clock, rate_per_s=0.1)
    gate = world.runtime.accounts["main"].gate
    gate.enter()
    payment.pay(world.payout_id, world.runtime)
    row = world.row()
    world.runtime.close()
    assert (row.state, row.attempts) == ("queued", 0)
    assert row.due_at > world.clock.now()


def test_a_worker_that_was_stopped_beyond_its_claim_sends_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, StoppedClock())
    payment.pay(world.payout_id, world.runtime)
    row, causes = world.row(), world.causes()
    world.runtime.close()
    assert row.state == "queued"
    # Its own fault, so it does not count against the payout's tries.
    assert row.attempts_excused == row.attempts == 1
    assert causes[-1].startswith("not sent: no room for another call")


def test_what_cannot_be_reached_is_not_sent_and_waits(world: World) -> None:
    payment.pay(world.payout_id, world.runtime)
    row = world.row()
    assert (row.state, row.attempts, row.attempts_excused) == ("queued", 1, 0)
    assert world.causes()[-1] == "not sent: no connection to the provider"


def test_a_message_for_no_payout_does_nothing(world: World) -> None:
    payment.pay(world.payout_id + 1, world.runtime)
    assert world.row().state == "queued"


def test_a_payout_of_an_account_that_is_not_set_up_is_left_alone(tmp_path: Path) -> None:
    clock = HandClock()
    world = World(tmp_path, clock)
    world.runtime.close()
    others = settings(tmp_path, accounts={})
    account = others.accounts["main"]
    elsewhere = others.model_copy(update={"accounts": {"one": account, "two": account}})
    runtime = Runtime.open(elsewhere, clock)
    payment.pay(world.payout_id, runtime)
    runtime.close()
    assert world.row().state == "queued"
    world.runtime.close()
