"""A schedule's runs: one for each business date, at their time, whoever asks and whatever broke."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import fsspec
import pytest

from batches.intake import FETCH_S_MAX
from batches.settlement import CLAIM_S, settle
from tests.batches.settlement_world import (
    MONDAY,
    SettlementWorld,
    database_url,
    rows,
    settlement_world,
)
from tests.conftest_servers import postgres_server
from tests.workers.record.conftest import BOTH, together
from workers.errors import UsageError
from workers.record import database
from workers.record.runs import RunBook

__all__ = ["database_url", "postgres_server"]

TUESDAY = date(2026, 3, 3)


both = pytest.mark.parametrize("database_url", BOTH, indirect=True)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SettlementWorld]:
    with settlement_world(tmp_path) as made:
        yield made


# --- one run for each business date ---


@both
def test_two_beats_and_four_workers_make_one_run_and_pay_once(
    tmp_path: Path, database_url: str
) -> None:
    with settlement_world(tmp_path, database_url=database_url) as world:
        world.deliver("a.csv", rows(1, 3))
        world.deliver("b.csv", rows(4, 6))
        world.at("02T02:30")
        others = [world.open() for _ in range(3)]
        schedule = world.schedule
        found = together(
            [
                lambda one=one: settle(schedule, one)  # type: ignore[misc]
                for one in (world.runtime, *others)
            ]
        )
        assert [one for one in found if isinstance(one, BaseException)] == []
        for one in others:
            one.close()
        world.settle()
        assert world.outcomes() == {"2026-03-02": "finished"}
        assert world.fates() == {"a.csv": "approved", "b.csv": "approved"}
        assert len(world.made()) == 2
        assert len(world.lying("done")) == 2
        world.pay()
        assert set(world.paid().values()) == {1}
        assert len(world.paid()) == 6


@both
def test_a_run_is_due_at_its_time_and_made_once(tmp_path: Path, database_url: str) -> None:
    with settlement_world(tmp_path, database_url=database_url) as world:
        world.deliver("a.csv", rows(1, 2))
        world.at("02T02:29")
        assert list(world.settle().runs) == []
        assert world.lying() == ["a.csv"]
        world.at("02T02:30")
        assert [run.outcome for run in world.settle().runs] == ["finished"]
        # What comes later on the same date is the next one's.
        world.deliver("b.csv", rows(3, 4))
        world.at("02T23:00")
        assert list(world.settle().runs) == []
        assert world.lying() == ["b.csv"]
        world.at("03T02:30")
        world.settle()
        assert world.fates(TUESDAY) == {"b.csv": "approved"}


def test_on_a_weekend_files_wait_for_monday(world: SettlementWorld) -> None:
    for day in ("02", "03", "04", "05", "06"):
        world.at(f"{day}T02:30")
        world.settle()
    world.deliver("a.csv", rows(1, 2))
    world.at("08T12:00")
    assert list(world.settle().runs) == []
    world.at("09T02:30")
    world.settle()
    assert world.fates(date(2026, 3, 9)) == {"a.csv": "approved"}


def test_a_schedule_that_is_new_does_not_make_the_runs_of_before(tmp_path: Path) -> None:
    with settlement_world(tmp_path, time="00:15") as world:
        # It was first looked at at 01:30: more than an hour after its time.
        world.at("02T02:00")
        assert list(world.settle().runs) == []
        world.at("03T00:15")
        world.settle()
        assert world.outcomes() == {"2026-03-03": "finished"}


def test_one_that_is_first_looked_at_just_after_its_time_is_not_late(tmp_path: Path) -> None:
    with settlement_world(tmp_path, time="01:29") as world:
        assert world.outcomes() == {"2026-03-02": "finished"}


def test_only_one_worker_has_a_schedule_and_a_dead_ones_is_taken_over(
    world: SettlementWorld,
) -> None:
    dead = RunBook(world.runtime.database)
    world.deliver("a.csv", rows(1, 2))
    world.at("02T02:30")
    assert dead.claim("nightly", world.clock.now(), claim_s=CLAIM_S)
    assert world.settle().busy
    assert world.outcomes() == {}
    world.clock.sleep(CLAIM_S + 1)
    assert not world.settle().busy
    assert world.fates() == {"a.csv": "approved"}


def test_a_worker_that_slept_through_its_claim_writes_nothing_any_more(
    world: SettlementWorld,
) -> None:
    sleeper = RunBook(world.runtime.database)
    world.at("02T02:30")
    assert sleeper.claim("nightly", world.clock.now(), claim_s=CLAIM_S)
    world.clock.sleep(CLAIM_S + 1)
    world.settle()
    assert not sleeper.renew("nightly", None)
    with pytest.raises(Exception, match="another worker has it by now"):
        sleeper.change(world.run(), problem="x")
    assert world.run().problem is None


# --- missed runs ---


def test_missed_runs_are_reported_and_their_files_taken_by_the_next(world: SettlementWorld) -> None:
    world.deliver("a.csv", rows(1, 2))
    world.at("04T10:00")
    world.settle()
    assert world.outcomes() == {
        "2026-03-02": "missed",
        "2026-03-03": "missed",
        # Without a cut-off there is time until the next run.
        "2026-03-04": "finished",
    }
    assert world.fates(date(2026, 3, 4)) == {"a.csv": "approved"}
    assert world.run().problem == "nobody was there to begin it"
    assert "MISSED" in world.report(".html")


@both
def test_missed_runs_are_caught_up_each_with_what_was_there_in_time(
    tmp_path: Path, database_url: str
) -> None:
    with settlement_world(
        tmp_path, missed="catch_up", cut_off="06:00", database_url=database_url
    ) as world:
        world.at("04T10:00")
        world.deliver("mon.csv", rows(1, 2), at="02T05:00")
        world.deliver("tue.csv", rows(3, 4), at="02T18:00")
        world.deliver("wed.csv", rows(5, 6), at="04T01:00")
        world.deliver("thu.csv", rows(7, 8), at="04T07:00")
        world.settle()
        assert set(world.outcomes().values()) == {"finished"}
        assert [list(world.fates(date(2026, 3, day))) for day in (2, 3, 4)] == [
            ["mon.csv"],
            ["tue.csv"],
            ["wed.csv"],
        ]
        assert world.lying() == ["thu.csv"]
        assert all(run.caught_up for run in world.runs)
        world.pay()
        assert len(world.paid()) == 6


def test_a_person_makes_a_missed_run_by_its_date(tmp_path: Path) -> None:
    with settlement_world(tmp_path, cut_off="06:00") as world:
        world.deliver("a.csv", rows(1, 2))
        world.at("02T12:00")
        world.settle()
        assert world.outcomes() == {"2026-03-02": "missed"}
        assert world.lying() == ["a.csv"]
        world.settle(MONDAY)
        assert world.outcomes() == {"2026-03-02": "finished"}
        assert world.fates() == {"a.csv": "approved"}
        # Again changes nothing.
        world.deliver("b.csv", rows(3, 4))
        world.settle(MONDAY)
        assert world.lying() == ["b.csv"]


def test_a_date_that_is_none_or_has_not_come_is_refused(world: SettlementWorld) -> None:
    with pytest.raises(UsageError, match="2026-03-01 is no business date of schedule nightly"):
        world.settle(date(2026, 3, 1))
    with pytest.raises(UsageError, match="is due at 2026-03-03 02:30 UTC; it is not made before"):
        world.settle(TUESDAY)
    assert world.outcomes() == {}


# --- files that are not complete ---


def test_a_file_is_taken_when_nothing_of_it_has_changed_for_a_while(
    world: SettlementWorld,
) -> None:
    world.at("02T02:30")
    world.deliver("young.csv", rows(1, 2), age_s=30)
    settled = world.settle()
    assert (settled.unripe, [run.outcome for run in settled.runs]) == (1, ["open"])
    world.clock.sleep(31)
    world.settle()
    assert world.fates() == {"young.csv": "approved"}
    assert world.outcomes() == {"2026-03-02": "finished"}


@pytest.mark.parametrize(
    "name", [".a.csv", "a.csv.part", "a.csv.tmp", "a.csv.filepart", "~a.csv", "a.csv~"]
)
def test_a_file_that_is_still_being_written_is_left_alone(
    world: SettlementWorld, name: str
) -> None:
    world.deliver(name, rows(1, 2))
    world.at("02T02:30")
    world.settle()
    assert (world.lying(), world.outcomes()) == ([name], {"2026-03-02": "finished"})
    assert list(world.files()) == []


def test_a_file_from_the_future_is_looked_at_twice(world: SettlementWorld) -> None:
    world.at("02T02:30")
    world.deliver("a.csv", rows(1, 2), age_s=-400 * 86_400)
    before = world.clock.now()
    world.settle()
    assert world.fates() == {"a.csv": "approved"}
    assert world.clock.now() - before >= timedelta(seconds=60)


def test_links_and_folders_are_no_deliveries(world: SettlementWorld, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    shutil.copy(world.deliver("a.csv", rows(1, 2)), secret)
    (world.inbox / "link.csv").symlink_to(secret)
    (world.inbox / "folder.csv").mkdir()
    world.at("02T02:30")
    world.settle()
    assert list(world.fates()) == ["a.csv"]
    assert (world.inbox / "link.csv").is_symlink()


# --- the cut-off ---


def test_until_the_cut_off_files_are_taken_and_later_ones_wait_for_the_next_date(
    tmp_path: Path,
) -> None:
    with settlement_world(tmp_path, cut_off="06:00") as world:
        world.at("02T02:30")
        assert [run.outcome for run in world.settle().runs] == ["open"]
        world.at("02T05:00")
        world.deliver("in-time.csv", rows(1, 2))
        world.settle()
        world.at("02T06:01")
        world.deliver("late.csv", rows(3, 4), age_s=70)
        world.settle()
        assert world.outcomes() == {"2026-03-02": "finished"}
        assert world.fates() == {"in-time.csv": "approved"}
        assert world.lying() == ["late.csv"]
        world.at("03T02:30")
        world.settle()
        assert world.fates(TUESDAY) == {"late.csv": "approved"}


def test_what_comes_after_the_cut_off_may_be_put_before_a_person(tmp_path: Path) -> None:
    with settlement_world(tmp_path, cut_off="06:00", after_cut_off="person") as world:
        world.at("02T02:30")
        world.settle()
        world.at("02T09:00")
        world.deliver("late.csv", rows(1, 2))
        world.settle()
        assert world.outcomes() == {"2026-03-02": "open"}
        [file] = world.files()
        assert (file.fate, file.waits_for, file.place) == ("waiting", "person", "waiting")
        assert file.reason == "came after the cut-off, and waits for approval"
        world.at("03T00:01")
        world.settle()
        assert world.outcomes() == {"2026-03-02": "finished"}
        assert world.batch("late.csv").decision == "draft"


# --- what keeps a run from going on ---


def test_an_inbox_that_is_not_there_fails_the_run_and_is_tried_until_its_time_is_over(
    tmp_path: Path,
) -> None:
    with settlement_world(tmp_path, cut_off="06:00") as world:
        world.inbox.rename(tmp_path / "away")
        world.at("02T02:30")
        world.settle()
        run = world.run()
        assert run.outcome == "open"
        assert f"{world.inbox} cannot be used: No such file or directory" in (run.problem or "")
        (tmp_path / "away").rename(world.inbox)
        world.deliver("a.csv", rows(1, 2))
        world.settle()
        assert world.run().problem is None
        assert world.fates() == {"a.csv": "approved"}
        world.inbox.rename(tmp_path / "away")
        world.at("03T07:00")
        world.settle()
        assert world.outcomes()["2026-03-02"] == "failed"


def test_a_file_that_takes_too_long_to_be_fetched_is_taken_by_the_next_look(
    world: SettlementWorld,
) -> None:
    @contextmanager
    def slow(
        what: str, total: int | None = None, *, unit: str = "rows"
    ) -> Iterator[Callable[[int], None]]:
        if what == "Fetching":
            assert (total, unit) == (given.stat().st_size, "bytes")
            world.clock.sleep(FETCH_S_MAX + 1)
        yield lambda _: None

    given = world.deliver("a.csv", rows(1, 2))
    world.at("02T02:30")
    settle(world.schedule, world.runtime, working=slow)
    told = "a.csv took too long to be fetched; it is tried again"
    assert world.run().problem == told
    assert world.lying() == ["a.csv"]
    world.settle()
    assert (world.lying(), world.run().problem) == ([], None)


def test_a_provider_that_does_not_answer_leaves_the_file_where_it_is(
    world: SettlementWorld,
) -> None:
    world.deliver("a.csv", rows(1, 2))
    world.at("02T02:30")
    world.faults("any:503*0")
    world.settle()
    run = world.run()
    assert run.outcome == "open"
    assert "a.csv could not be checked: account main" in (run.problem or "")
    assert (world.lying(), world.made()) == (["a.csv"], [])
    [file] = world.files()
    assert (file.fate, file.place) == ("taken", "inbox")
    world.control.delete("faults").raise_for_status()
    world.settle()
    assert world.fates() == {"a.csv": "approved"}
    assert world.run().problem is None


def test_a_file_that_is_taken_away_before_it_was_stored_is_told_of(world: SettlementWorld) -> None:
    path = world.deliver("a.csv", rows(1, 2))
    world.at("02T02:30")
    world.faults("any:503*0")
    world.settle()
    path.unlink()
    world.control.delete("faults").raise_for_status()
    world.settle()
    [file] = world.files()
    assert (file.fate, file.place) == ("taken", "gone")
    assert "taken out of the inbox" in (file.reason or "")
    assert world.run().settled_at is not None


def test_a_run_that_was_begun_and_not_carried_through_failed(tmp_path: Path) -> None:
    for missed, outcome in (("report", "failed"), ("catch_up", "finished")):
        folder = tmp_path / missed
        folder.mkdir()
        with settlement_world(folder, cut_off="06:00", missed=missed) as world:
            world.deliver("a.csv", rows(1, 2))
            world.at("02T02:30")
            # Whoever begins it notes it, and dies.
            world.inbox.rename(folder / "away")
            world.settle()
            (folder / "away").rename(world.inbox)
            world.at("02T07:00")
            world.settle()
            assert world.outcomes() == {"2026-03-02": outcome}
            assert (world.lying() == ["a.csv"]) == (outcome == "failed")


def test_a_worker_that_is_told_to_stop_leaves_the_rest_to_others(world: SettlementWorld) -> None:
    world.deliver("a.csv", rows(1, 2))
    world.at("02T02:30")
    world.clock.stop()
    settled = world.settle()
    assert (settled.unripe, world.lying()) == (1, ["a.csv"])
    world.clock.stopped = False
    world.settle()
    assert world.fates() == {"a.csv": "approved"}


def test_a_file_whose_name_nobody_can_read_keeps_no_other_from_being_paid(
    world: SettlementWorld,
) -> None:
    world.deliver("a.csv", rows(1, 2))
    os.rename(world.inbox / "a.csv", world.inbox / os.fsdecode(b"\xff\xfe.csv"))
    world.deliver("b.csv", rows(3, 4))
    world.at("02T02:30")
    world.settle()
    assert world.fates() == {"b.csv": "approved"}
    run = world.run()
    assert (run.outcome, run.problem) == (
        "open",
        "a file's name is no UTF-8: '\\udcff\\udcfe.csv'; rename it",
    )


def test_an_inbox_that_fsspec_reaches_is_settled_like_a_folder(tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    with settlement_world(tmp_path, inbox="memory://far/inbox") as world:
        for name, first in (("a.csv", 1), ("b.csv", 3), ("c.csv", 1)):
            amount = {"amount": "x"} if name == "b.csv" else {}
            path = world.deliver(name, rows(first, first + 1, **amount))
            system.pipe_file(f"/far/inbox/{name}", path.read_bytes())
        system.pipe_file("/far/inbox/d.csv.part", b"x")
        world.at("02T02:30")
        world.settle()
        world.pay()
        world.settle()
        assert world.fates() == {
            "a.csv": "approved",
            "b.csv": "refused",
            "c.csv": "delivered_twice",
        }
        assert set(world.paid().values()) == {1}
        assert [each.rpartition("/")[2] for each in system.ls("/far/inbox", detail=False)] == [
            "d.csv.part",
            "done",
            "refused",
        ]
        assert len(system.ls("/far/inbox/refused")) == 5
        assert len(system.ls("/far/reports")) == 2
        system.rm("/far", recursive=True)


def test_a_schedule_without_an_account_where_there_are_several_says_so(
    world: SettlementWorld,
) -> None:
    main = world.runtime.settings.accounts["main"]
    several = {"eu": main, "us": main}
    settings = world.runtime.settings.model_copy(update={"accounts": several})
    world.at("02T02:30")
    settle(world.schedule, replace(world.runtime, settings=settings))
    assert "nightly names no account" in (world.run().problem or "")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_batch_that_somebody_is_at_is_approved_by_the_next_look_and_needs_nobody(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_TIMEOUT_MS", 200)
    with settlement_world(tmp_path, cut_off="06:00", database_url=database_url) as world:
        world.spendable("5.00")
        world.deliver("a.csv", rows(1, 1))
        world.at("02T02:30")
        world.settle()
        world.spendable("100.00")
        with world.runtime.database.write() as connection:
            connection.exec_driver_sql("UPDATE batches SET note = 'x'")
            world.settle()
        [file] = world.files()
        assert (file.fate, file.waits_for) == ("waiting", "money")
        world.settle()
        assert world.fates() == {"a.csv": "approved"}
