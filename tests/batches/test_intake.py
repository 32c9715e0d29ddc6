"""What becomes of a file: paid, refused with its reasons, waiting, or delivered twice."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from batches import approval, control
from batches.intake import Intake, forget_rooms
from batches.preflight import Options, Preflight
from tests.batches.settlement_world import MONDAY, SettlementWorld, rows, settlement_world
from tests.workers.crash_world import Died
from tests.worlds import CHECKER, KEY, MAKER
from workers.record.keys import new_key_text
from workers.record.model import Actor
from workers.record.rotation import Rotation
from workers.record.tables import payouts
from workers.record.vault import Vault, key_id_of
from workers.runtime import Runtime

TUESDAY = date(2026, 3, 3)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SettlementWorld]:
    with settlement_world(tmp_path) as made:
        yield made


def beside(world: SettlementWorld, ending: str) -> Path:
    [name] = [each for each in world.lying("refused") if each.endswith(ending)]
    return world.inbox / "refused" / name


# --- refused ---


def test_a_good_file_is_paid_and_lies_in_done_byte_for_byte(world: SettlementWorld) -> None:
    given = world.deliver("a.csv", rows(1, 3)).read_bytes()
    world.at("02T02:30")
    world.settle()
    assert (world.lying(), world.lying("done")) == ([], ["a.2026-03-02-1.csv"])
    assert (world.inbox / "done" / "a.2026-03-02-1.csv").read_bytes() == given
    world.pay()
    assert world.paid() == {"T-0001": 1, "T-0002": 1, "T-0003": 1}
    batch = world.batch("a.csv")
    assert (batch.file_name, batch.made_by, batch.decided_by) == (
        "a.csv",
        "schedule nightly",
        "schedule nightly",
    )


def test_a_faulty_file_is_refused_with_its_rows_and_reasons_for_its_owner_alone(
    world: SettlementWorld,
) -> None:
    given = rows(1, 3)
    given[1]["amount"] = "1,5"
    given[2]["fields.account"] = ""
    world.deliver("a.csv", given)
    world.at("02T02:30")
    settled = world.settle()
    assert [file.fate for file in settled.files] == ["refused"]
    assert world.made() == []
    errors, reason = beside(world, ".errors.csv"), beside(world, ".reason.txt")
    assert [stat.S_IMODE(each.stat().st_mode) for each in (errors, reason)] == [0o600, 0o600]
    assert [line.split(",")[0] for line in errors.read_text().splitlines()] == [
        "reference_id",
        "T-0002",
        "T-0003",
    ]
    told = reason.read_text()
    assert told.startswith(
        "a.csv has faults in 2 of 3 rows: 1 x amount: not a plain decimal number, first at line 3,"
    )
    assert "\nNothing of it was stored and nothing was paid.\n" in told
    assert "line 3, amount: expected" in told
    assert beside(world, "-1.csv").read_bytes().count(b"\n") == 4
    assert given[0]["fields.account"] not in told


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", "x", "a.txt does not end in .csv, .parquet or .xlsx"),
        ("a.csv", "", "a.csv is empty"),
        ("a.csv", "reference_id,amount,currency\n", "a.csv has a header and no rows"),
        ("a.xlsx", "no workbook", "a.xlsx cannot be read as .xlsx"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_one_sentence(
    world: SettlementWorld, name: str, content: str, reason: str
) -> None:
    world.deliver(name, content)
    world.at("02T02:30")
    world.settle()
    [file] = world.files()
    assert (file.fate, file.place) == ("refused", "refused")
    assert (file.reason or "").startswith(reason)
    assert beside(world, ".reason.txt").read_text().startswith(reason)


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    with settlement_world(tmp_path) as world:
        settings = world.runtime.settings.model_copy(update={"bytes_max": 100})
        object.__setattr__(world.runtime, "settings", settings)
        world.deliver("a.csv", rows(1, 9))
        world.at("02T02:30")
        world.settle()
        [file] = world.files()
        assert file.fate == "refused"
        assert "more than 100 (bytes_max)" in (file.reason or "")


def test_rows_that_are_left_out_on_request_lie_beside_the_file_that_was_paid(
    tmp_path: Path,
) -> None:
    with settlement_world(tmp_path, valid_rows_only=True) as world:
        given = rows(1, 3)
        given[1]["amount"] = "-5"
        world.deliver("a.csv", given)
        world.at("02T02:30")
        world.settle()
        assert world.batch("a.csv").rows == 2
        assert world.lying("done") == ["a.2026-03-02-1.csv", "a.2026-03-02-1.csv.errors.csv"]
        assert "T-0002" in (world.inbox / "done" / "a.2026-03-02-1.csv.errors.csv").read_text()


def test_a_mapping_of_the_settings_names_the_columns(tmp_path: Path) -> None:
    with settlement_world(tmp_path, mapping="hr", mappings={"hr": {"Pay": "amount"}}) as world:
        given = [{("Pay" if k == "amount" else k): v for k, v in row.items()} for row in rows(1, 2)]
        world.deliver("a.csv", given)
        world.at("02T02:30")
        world.settle()
        assert world.fates() == {"a.csv": "approved"}


def test_the_same_beneficiary_and_amount_again_are_refused_unless_that_is_allowed(
    tmp_path: Path,
) -> None:
    for allowed, fate in ((False, "refused"), (True, "approved")):
        folder = tmp_path / str(allowed)
        folder.mkdir()
        with settlement_world(folder, allow_repeats=allowed) as world:
            world.deliver("a.csv", rows(1, 1))
            world.at("02T02:30")
            world.settle()
            world.at("03T02:30")
            world.deliver("b.csv", [{**rows(1, 1)[0], "reference_id": "T-again"}])
            world.settle()
            assert world.fates(TUESDAY) == {"b.csv": fate}


def test_control_totals_beside_a_file_must_hold(tmp_path: Path) -> None:
    with settlement_world(tmp_path, control_totals=True, cut_off="06:00") as world:
        # 11.25 + 12.25
        for name, first, totals in (
            ("good.csv", 1, "count=2\nUSD=23.50\n"),
            ("few.csv", 3, "count=3\n"),
            ("odd.csv", 5, "USD\n"),
        ):
            world.deliver(name, rows(first, first + 1))
            world.deliver(f"{name}.totals", totals)
        path = world.deliver("alone.csv", rows(7, 8))
        world.at("02T02:30")
        world.settle()
        assert world.fates() == {"good.csv": "approved", "few.csv": "refused", "odd.csv": "refused"}
        reasons = {file.name: file.reason or "" for file in world.files()}
        assert reasons["few.csv"] == ("few.csv: control total: 3 rows stated, the file has 2")
        assert reasons["odd.csv"].startswith("odd.csv.totals, line 1: expected count=NUMBER or")
        assert len([each for each in world.lying("refused") if each.endswith(".totals")]) == 2
        assert len(world.lying("done")) == 2
        assert world.lying() == ["alone.csv"]
        assert world.run().problem == "alone.csv waits for its control totals, alone.csv.totals"
        world.deliver("alone.csv.totals", "count=2")
        world.settle()
        assert world.fates()["alone.csv"] == "approved"
        assert not path.exists()
        assert world.run().problem is None


# --- delivered twice ---


@pytest.mark.parametrize("name", ["a.csv", "other.csv"])
def test_the_same_file_on_another_night_is_refused_and_nothing_is_paid_twice(
    world: SettlementWorld, name: str
) -> None:
    world.deliver("a.csv", rows(1, 2))
    world.at("02T02:30")
    world.settle()
    world.pay()
    batch = world.batch("a.csv")
    world.at("03T02:30")
    world.deliver(name, rows(1, 2))
    world.settle()
    [file] = world.files(TUESDAY)
    assert (file.fate, file.twin_of, file.batch_id) == ("delivered_twice", batch.id, None)
    told = f"{name} was delivered twice: its content is batch {batch.id} already; nothing was paid"
    assert file.reason == told
    assert beside(world, ".reason.txt").read_text().startswith(told)
    world.pay()
    assert set(world.paid().values()) == {1}
    assert len(world.made()) == 1


def test_the_same_content_under_another_name_in_one_night_is_paid_once(
    world: SettlementWorld,
) -> None:
    world.deliver("a.csv", rows(1, 2))
    world.deliver("b.csv", rows(1, 2))
    # The same rows, though not the same bytes.
    text = (world.inbox / "a.csv").read_text().replace(",", ";")
    world.deliver("c.csv", text)
    world.at("02T02:30")
    world.settle()
    fates = world.fates()
    assert fates == {"a.csv": "approved", "b.csv": "delivered_twice", "c.csv": "delivered_twice"}
    world.pay()
    assert set(world.paid().values()) == {1}


def test_a_file_that_a_person_paid_is_not_paid_again(world: SettlementWorld) -> None:
    path = world.deliver("a.csv", rows(1, 2))
    preflight = Preflight(world.runtime, Options(account="main"), world.clock.now())
    batch_id = approval.store(preflight.examine(path), preflight, MAKER)
    world.at("02T02:30")
    world.settle()
    [file] = world.files()
    assert (file.fate, file.twin_of) == ("delivered_twice", batch_id)


def test_a_refused_file_may_be_delivered_again(world: SettlementWorld) -> None:
    given = rows(1, 2, amount="x")
    world.deliver("a.csv", given)
    world.at("02T02:30")
    world.settle()
    world.at("03T02:30")
    world.deliver("a.csv", given)
    world.settle()
    assert world.fates(TUESDAY) == {"a.csv": "refused"}
    world.at("04T02:30")
    world.deliver("a.csv", rows(1, 2))
    world.settle()
    assert world.fates(date(2026, 3, 4)) == {"a.csv": "approved"}


def test_what_a_person_turned_down_is_not_approved_by_itself_when_it_comes_again(
    world: SettlementWorld,
) -> None:
    world.deliver("a.csv", rows(1, 2))
    world.at("02T02:30")
    world.settle()
    cancelled = world.batch("a.csv")
    control.cancel(cancelled.id, world.runtime, CHECKER, "the wrong month")
    world.at("03T02:30")
    world.deliver("a.csv", rows(1, 2))
    world.settle()
    [file] = world.files(TUESDAY)
    assert (file.fate, file.waits_for) == ("waiting", "person")
    assert f"was cancelled before, as batch {cancelled.id}" in (file.reason or "")
    world.pay()
    assert world.paid() == {}
    world.approve(world.batch("a.csv", TUESDAY).id)
    world.pay()
    assert world.paid() == {"T-0001": 1, "T-0002": 1}


def test_of_what_was_cancelled_half_way_the_rest_waits_for_a_person_too(tmp_path: Path) -> None:
    with settlement_world(tmp_path, valid_rows_only=True) as world:
        world.deliver("a.csv", rows(1, 2))
        world.at("02T02:30")
        world.settle()
        first = world.batch("a.csv")
        with world.runtime.database.write() as connection:
            connection.exec_driver_sql(
                "UPDATE payouts SET state = 'paid' WHERE reference_id = 'T-0001'"
            )
        control.cancel(first.id, world.runtime, CHECKER, "")
        world.at("03T02:30")
        world.deliver("a.csv", rows(1, 2))
        world.settle()
        [file] = world.files(TUESDAY)
        assert (file.fate, file.waits_for) == ("waiting", "person")
        assert world.batch("a.csv", TUESDAY).rows == 1


@pytest.mark.parametrize("decide", [control.cancel, control.reject])
def test_a_batch_that_is_turned_down_before_its_dead_worker_noted_it_is_not_stored_anew(
    world: SettlementWorld,
    monkeypatch: pytest.MonkeyPatch,
    decide: Callable[[str, Runtime, Actor, str], object],
) -> None:
    def die(*_: object, **__: object) -> None:
        raise Died

    world.deliver("a.csv", rows(1, 2))
    world.at("02T02:30")
    with monkeypatch.context() as patch:
        patch.setattr(Intake, "_stored", die)
        with pytest.raises(Died):
            world.settle()
    [batch] = world.made()
    decide(batch.id, world.runtime, CHECKER, "the wrong month")
    world.settle()
    [file] = world.files()
    assert (file.fate, file.place, file.batch_id) == ("rejected", "refused", batch.id)
    assert [one.id for one in world.made()] == [batch.id]
    world.pay()
    assert world.paid() == {}


def test_a_file_is_closed_with_the_key_that_came_between_check_and_storing(
    world: SettlementWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Vault.from_text(KEY, new_key_text())
    world.runtime.store.vault = both
    store, begun = approval.store, []

    def stored(*given: Any) -> str:
        if not begun:
            begun.append(True)
            Rotation(world.runtime.database, both, both.known_ids[1], world.clock).begin()
        return store(*given)

    monkeypatch.setattr(approval, "store", stored)
    world.deliver("a.csv", rows(1, 2))
    world.at("02T02:30")
    world.settle()
    [file] = world.files()
    assert file.fate == "approved"
    with world.runtime.database.read() as connection:
        closed = connection.execute(select(payouts.c.sealed_data)).scalars().all()
    assert {key_id_of(data) for data in closed} == {both.known_ids[1]}
    world.pay()
    assert world.paid() == {"T-0001": 1, "T-0002": 1}


# --- waiting ---


@pytest.mark.parametrize("approvals", [1, 2])
def test_where_a_person_approves_the_file_waits_and_follows_the_decision(
    tmp_path: Path, approvals: int
) -> None:
    with settlement_world(tmp_path, approval="person", approvals=approvals) as world:
        world.deliver("a.csv", rows(1, 2))
        world.deliver("b.csv", rows(3, 4))
        world.at("02T02:30")
        world.settle()
        assert world.fates() == {"a.csv": "waiting", "b.csv": "waiting"}
        assert len(world.lying("waiting")) == 2
        assert world.batch("a.csv").decision == "draft"
        world.approve(world.batch("a.csv").id)
        control.reject(world.batch("b.csv").id, world.runtime, CHECKER, "not ours")
        world.settle()
        assert world.fates() == {"a.csv": "approved", "b.csv": "rejected"}
        assert world.lying("waiting") == []
        assert world.lying("done") == ["a.2026-03-02-1.csv"]
        assert world.lying("refused") == ["b.2026-03-02-2.csv", "b.2026-03-02-2.csv.reason.txt"]
        world.pay()
        assert sorted(world.paid()) == ["T-0001", "T-0002"]
        # Turned down, its content may come again.
        world.at("03T02:30")
        world.deliver("b.csv", rows(3, 4))
        world.settle()
        assert world.fates(TUESDAY) == {"b.csv": "waiting"}


def test_without_money_the_batch_waits_with_its_reason_and_is_approved_when_it_is_there(
    world: SettlementWorld,
) -> None:
    world.spendable("20.00")
    world.deliver("a.csv", rows(1, 3))
    world.at("02T02:30")
    world.settle()
    [file] = world.files()
    assert (file.fate, file.waits_for, file.place) == ("waiting", "money", "waiting")
    assert "account main: the batch needs 36.75 USD with fees, and 20.00 USD" in (file.reason or "")
    assert world.batch("a.csv").decision == "draft"
    assert world.paid() == {}
    world.at("03T02:30")
    world.spendable("100.00")
    world.settle()
    assert world.fates() == {"a.csv": "approved"}
    world.pay()
    assert set(world.paid().values()) == {1}


def test_two_files_are_not_both_approved_for_the_same_money(world: SettlementWorld) -> None:
    world.spendable("50.00")
    world.deliver("a.csv", rows(1, 3))
    world.deliver("b.csv", rows(4, 5))
    world.at("02T02:30")
    world.settle()
    assert world.fates() == {"a.csv": "approved", "b.csv": "waiting"}


def test_what_was_not_approved_by_the_cut_off_waits_for_the_next_date_or_a_person(
    tmp_path: Path,
) -> None:
    for after, decision in (("next_day", "approved"), ("person", "draft")):
        folder = tmp_path / after
        folder.mkdir()
        with settlement_world(folder, cut_off="06:00", after_cut_off=after) as world:
            world.spendable("20.00")
            world.deliver("a.csv", rows(1, 3))
            world.at("02T02:30")
            world.settle()
            world.spendable("100.00")
            world.at("02T06:01")
            world.settle()
            assert world.batch("a.csv").decision == "draft"
            world.at("03T00:01")
            world.settle()
            world.at("03T02:30")
            world.settle()
            assert world.batch("a.csv").decision == decision


# --- moving ---


def test_a_file_of_the_same_name_on_another_night_takes_no_other_ones_place(
    world: SettlementWorld,
) -> None:
    for day, first in (("02", 1), ("03", 3), ("04", 5)):
        world.at(f"{day}T02:30")
        world.deliver("a.csv", rows(first, first + 1))
        world.settle()
    assert world.lying("done") == [
        "a.2026-03-02-1.csv",
        "a.2026-03-03-2.csv",
        "a.2026-03-04-3.csv",
    ]


def test_a_file_that_takes_the_place_of_one_that_was_just_stored_is_not_lost(
    tmp_path: Path,
) -> None:
    with settlement_world(tmp_path, approval="person") as world:
        world.deliver("a.csv", rows(1, 2))
        world.at("02T02:30")
        # It is stored, and cannot be moved.
        (world.inbox / "waiting").write_text("in the way")
        world.settle()
        assert "waiting" in (world.run().problem or "")
        (world.inbox / "waiting").unlink()
        (world.inbox / "a.csv").unlink()
        world.deliver("a.csv", rows(3, 4))
        world.settle()
        first, second = world.files()
        assert (first.fate, first.place) == ("waiting", "gone")
        assert "replaced by another file when it was to be moved" in (first.reason or "")
        assert (second.fate, second.place) == ("waiting", "waiting")
        assert len(world.made()) == 2


def test_a_very_long_name_is_cut_and_keeps_its_ending(world: SettlementWorld) -> None:
    name = f"{'ö' * 120}.csv"
    world.deliver(name, rows(1, 2))
    world.deliver(f"{'x' * 251}.csv", rows(3, 4, amount="x"))
    world.at("02T02:30")
    world.settle()
    assert sorted(world.fates().values()) == ["approved", "refused"]
    [done] = world.lying("done")
    assert done == f"{'ö' * 80}.2026-03-02-2.csv"
    assert all(len(os.fsencode(each)) < 255 for each in world.lying("refused"))
    assert world.run(MONDAY).outcome == "finished"


def test_what_a_dead_worker_left_of_a_file_is_removed_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    now = datetime(2026, 3, 2, 2, 30, tzinfo=UTC)
    for name, age_s in (("paybatch-intake-old", 86_500), ("paybatch-intake-new", 60), ("x", 1e6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.csv").write_text("x")
        then = now.timestamp() - age_s
        os.utime(tmp_path / name, (then, then))
    (tmp_path / "paybatch-intake-link").symlink_to(tmp_path / "x")
    assert forget_rooms(now) == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "paybatch-intake-link",
        "paybatch-intake-new",
        "x",
    ]
    assert (tmp_path / "x" / "a.csv").exists()
