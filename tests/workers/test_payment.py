"""What a worker does before and around a call; the whole life is walked in test_crash_points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.exc import OperationalError

from tests.worlds import HandClock, approved, order, settings
from workers import payment, runtime
from workers.record.batches import BatchBook
from workers.record.database import Database
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
    while slots.take() is None:
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
    opened = Runtime.open(elsewhere, clock)
    payment.pay(world.payout_id, opened)
    opened.close()
    assert world.row().state == "queued"
    world.runtime.close()


class Flaky(Database):
    """A database that fails some of its commits, before or after they took effect."""

    fails: ClassVar[list[str]] = []

    @contextmanager
    def write(self, *, by_key: bool = False, patient: bool = True) -> Iterator[Connection]:
        fault = self.fails.pop(0) if self.fails else ""
        with super().write(by_key=by_key, patient=patient) as connection:
            yield connection
            if fault == "before":
                raise OperationalError("COMMIT", {}, Exception("cut"))
        if fault == "after":
            raise OperationalError("COMMIT", {}, Exception("cut"))


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: HandClock) -> Iterator[World]:
    monkeypatch.setattr(Flaky, "fails", [])
    monkeypatch.setattr(runtime, "Database", Flaky)
    made = World(tmp_path, clock)
    yield made
    made.runtime.close()


def test_an_answer_is_stored_again_until_the_database_takes_it(flaky: World) -> None:
    # The claim, and then three tries to store that nothing was sent.
    Flaky.fails[:] = ["", "before", "before", ""]
    payment.pay(flaky.payout_id, flaky.runtime)
    row = flaky.row()
    assert (row.state, row.claimed_until, row.attempts) == ("queued", None, 1)


def test_an_answer_that_was_stored_after_all_is_not_stored_twice(flaky: World) -> None:
    Flaky.fails[:] = ["", "after", ""]
    payment.pay(flaky.payout_id, flaky.runtime)
    assert flaky.row().state == "queued"
    assert [cause.partition(":")[0] for cause in flaky.causes()] == [
        "approved",
        "intent to create, attempt 1",
        "not sent",
    ]


def test_a_database_that_stays_away_leaves_the_claim_to_run_out(flaky: World) -> None:
    Flaky.fails[:] = ["", *["before"] * 1000]
    started = flaky.clock.monotonic()
    payment.pay(flaky.payout_id, flaky.runtime)
    claim_s = flaky.runtime.accounts["main"].settings.claim_s
    assert claim_s <= flaky.clock.monotonic() - started <= claim_s + 5
    assert flaky.row().state == "creating"


def test_a_claim_whose_commit_fails_is_not_worked_on(flaky: World) -> None:
    Flaky.fails[:] = ["after"]
    payment.pay(flaky.payout_id, flaky.runtime)
    assert flaky.row().state == "creating"
    assert flaky.causes()[-1] == "intent to create, attempt 1"


def test_a_worker_that_is_to_stop_gives_its_messages_back(world: World, clock: HandClock) -> None:
    due = world.runtime.due
    announce_s = {"main": 120}
    assert due.announce(clock.now(), window=9, announce_s=announce_s)
    clock.stop()
    payment.pay(world.payout_id, world.runtime)
    assert world.row().state == "queued"
    # At once, for whoever is still there.
    assert due.announce(clock.now(), window=9, announce_s=announce_s)
