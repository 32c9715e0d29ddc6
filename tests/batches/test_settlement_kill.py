"""Killed at any step, a run is carried on by another worker: no file is lost or moved twice, and
nothing is paid twice.

A step is a commit, or a change of the inbox or the reports. A worker that dies does nothing more at
all: neither its commits nor its files nor its claim.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from batches import control, settlement
from batches.settlement import CLAIM_S
from tests.batches.settlement_world import (
    MONDAY,
    SettlementWorld,
    database_url,
    rows,
    settlement_world,
)
from tests.conftest_servers import postgres_server
from tests.workers.crash_world import Died
from tests.worlds import CHECKER
from workers.record.accounts import AccountBook
from workers.record.database import Database
from workers.record.due import DueWork
from workers.record.store import Store
from workers.runtime import Runtime

__all__ = ["database_url", "postgres_server"]

_CHANGING = ("os.rename", "os.remove", "os.link", "os.mkdir", "open")


@dataclass
class Death:
    """Lets a worker die at one of its steps, and counts them."""

    at: int
    # Whether a commit at which it dies still takes effect.
    done: bool = False
    met: list[str] = field(default_factory=list)
    dead: bool = False

    def step(self, what: str) -> None:
        if self.dead:
            raise Died
        self.met.append(what)
        if len(self.met) - 1 == self.at and not (self.done and what == "commit"):
            self.dead = True
            raise Died

    def after_commit(self) -> None:
        if len(self.met) - 1 == self.at:
            self.dead = True
            raise Died


# Of the process: an audit hook cannot be taken off again.
_now: list[tuple[Death, Path]] = []


def _audited(event: str, arguments: tuple[Any, ...]) -> None:
    if not _now or event not in _CHANGING:
        return
    death, folder = _now[0]
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & os.O_CREAT):
        return
    path = arguments[0]
    if isinstance(path, str | bytes | os.PathLike):
        inside = Path(os.fsdecode(path)).parts[: len(folder.parts) + 1]
        if inside[: len(folder.parts)] == folder.parts and inside[-1] in ("inbox", "reports"):
            death.step(f"{event} {inside[-1]}")


sys.addaudithook(_audited)


class MortalDatabase(Database):
    """A database for a worker that dies."""

    death = Death(-1)

    @contextmanager
    def write(self, *, by_key: bool = False, patient: bool = True) -> Iterator[Connection]:
        if self.death.dead:
            raise Died
        with super().write(by_key=by_key, patient=patient) as connection:
            yield connection
            self.death.step("commit")
        self.death.after_commit()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        if self.death.dead:
            raise Died
        with super().read() as connection:
            yield connection


def mortal(world: SettlementWorld, death: Death) -> Runtime:
    """A worker's runtime that dies as told."""
    runtime = world.runtime
    database = MortalDatabase(world.database_url)
    database.death = death
    return replace(
        runtime,
        database=database,
        store=Store(database, runtime.store.vault),
        due=DueWork(database),
        book=AccountBook(database),
    )


def die(world: SettlementWorld, death: Death) -> bool:
    """Let a worker settle until it dies; False: it got through."""
    living, world.runtime = world.runtime, mortal(world, death)
    # What a dead worker leaves in its temporary folder goes with the test's own.
    usual, tempfile.tempdir = tempfile.tempdir, str(world.folder)
    _now.append((death, world.folder))
    try:
        world.settle()
    except Died:
        return True
    finally:
        _now.clear()
        tempfile.tempdir = usual
        world.runtime.database.close()
        world.runtime = living
    # The thread that keeps the claim, or a sweep in the background, may have met it.
    return death.dead


def deliver(world: SettlementWorld, first: int) -> dict[str, bytes]:
    """A good file, its twin, a faulty one, and one of which a row is left out."""
    partly = rows(first + 4, first + 6)
    partly[1]["amount"] = "x"
    given = {
        "a.csv": rows(first, first + 1),
        "b.csv": rows(first, first + 1),
        "c.csv": rows(first + 2, first + 3, amount="x"),
        "d.csv": partly,
    }
    return {name: world.deliver(name, each).read_bytes() for name, each in given.items()}


def check(world: SettlementWorld, given: dict[str, bytes], day: date, first: int) -> None:
    """Every file lies in one place with all its bytes, and every good row was paid once."""
    assert world.fates(day) == {
        "a.csv": "approved",
        "b.csv": "delivered_twice",
        "c.csv": "refused",
        "d.csv": "approved",
    }
    assert world.lying() == []
    for file in world.files(day):
        stem = f"{Path(file.name).stem}.{day}-{file.id}.csv"
        places = [place for place in ("done", "refused", "waiting") if stem in world.lying(place)]
        assert places == [file.place]
        assert (world.inbox / file.place / stem).read_bytes() == given[file.name]
        if file.place == "refused":
            assert f"{stem}.reason.txt" in world.lying("refused")
        with_errors = [
            place
            for place in ("done", "refused", "waiting")
            if f"{stem}.errors.csv" in world.lying(place)
        ]
        assert with_errors == ([file.place] if file.name in ("c.csv", "d.csv") else [])
        assert file.rows_left_out == (1 if file.name == "d.csv" else 0)
    world.pay()
    world.settle()
    paid = world.paid()
    assert set(paid.values()) == {1}
    ours = {int(name.removeprefix("T-")) for name in paid if int(name[2:]) >= first}
    assert ours == {first, first + 1, first + 4, first + 6}
    assert world.outcomes()[str(day)] == "finished"
    assert world.run(day).settled_at is not None
    assert f"nightly.{day}.html" in os.listdir(world.folder / "reports")


@pytest.fixture(autouse=True)
def no_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims are renewed by real time: on a slow machine the dead would do one more step."""
    monkeypatch.setattr(settlement, "RENEW_S", 3600)


# Each has its own share of the steps, so that they can run beside each other. What a commit leaves
# behind is the same on both databases; PostgreSQL gets a part of them.
@pytest.mark.parametrize(
    ("database_url", "first_step", "stride"),
    [*(("sqlite", each, 4) for each in range(4)), ("postgresql", 1, 5)],
    indirect=["database_url"],
)
@pytest.mark.timeout(500)
def test_a_worker_killed_at_any_step_loses_no_file_and_pays_nothing_twice(
    tmp_path: Path, database_url: str, first_step: int, stride: int, record_property: Any
) -> None:
    every_day = "mon tue wed thu fri sat sun"
    with settlement_world(
        tmp_path, database_url=database_url, valid_rows_only=True, business_days=every_day
    ) as world:
        died, at, done, day = 0, first_step, False, MONDAY
        while True:
            number = 10 * (day - MONDAY).days
            given = deliver(world, number)
            world.clock.move_to(datetime.combine(day, time(2, 30), UTC))
            death = Death(at, done)
            if not die(world, death):
                break
            died += 1
            world.clock.sleep(CLAIM_S + 1)
            world.settle()
            check(world, given, day, number)
            at, done = (
                (at, True) if not done and death.met[-1] == "commit" else (at + stride, False)
            )
            day += timedelta(days=1)
        record_property("steps at which a settlement was killed", died)
        assert died > 10


@pytest.mark.parametrize("decision", ["approved", "rejected"])
def test_a_worker_killed_while_a_file_follows_its_decision_leaves_it_to_the_next(
    tmp_path: Path, decision: str
) -> None:
    every_day = "mon tue wed thu fri sat sun"
    with settlement_world(
        tmp_path, approval="person", valid_rows_only=True, business_days=every_day
    ) as world:
        died, day = 0, MONDAY
        while True:
            number = 10 * (day - MONDAY).days
            partly = [*rows(number, number + 1), *rows(number + 2, number + 2, amount="x")]
            given = world.deliver("a.csv", partly).read_bytes()
            world.clock.move_to(datetime.combine(day, time(2, 30), UTC))
            world.settle()
            batch_id = world.batch("a.csv", day).id
            if decision == "approved":
                world.approve(batch_id)
            else:
                control.reject(batch_id, world.runtime, CHECKER, "")
            if not die(world, Death(died)):
                break
            died += 1
            world.clock.sleep(CLAIM_S + 1)
            world.settle()
            [file] = world.files(day)
            assert file.fate == decision
            name = f"a.{day}-{file.id}.csv"
            assert (world.inbox / file.place / name).read_bytes() == given
            assert file.place == ("done" if decision == "approved" else "refused")
            assert (world.lying(), world.lying("waiting")) == ([], [])
            beside = {each.removeprefix(name) for each in world.lying(file.place) if name in each}
            reason = {".reason.txt"} if decision == "rejected" else set()
            assert beside == {"", ".errors.csv"} | reason
            day += timedelta(days=1)
        assert died > 4
        world.pay()
        assert len(world.paid()) == (2 * died + 2 if decision == "approved" else 0)
