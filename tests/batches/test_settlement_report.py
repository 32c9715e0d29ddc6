"""The report of a run is true: sums, failures, files, people; in time, and written anew."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from batches import control
from batches.settlement_report import COLUMNS, REPORT_EVERY_S, gather, write_report
from tests.batches.cli_world import Row, card_row
from tests.batches.settlement_world import SettlementWorld, rows, settlement_world
from tests.worlds import CHECKER
from workers.errors import UsageError

DECLINED = "status=process_failed resolution=declined_error"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SettlementWorld]:
    with settlement_world(tmp_path) as made:
        yield made


def section(world: SettlementWorld, name: str) -> list[Row]:
    return [row for row in world.table() if row["section"] == name]


def sums(world: SettlementWorld, name: str) -> dict[tuple[str, str], Decimal]:
    return {(row["currency"], row["state"]): Decimal(row["amount"]) for row in section(world, name)}


def a_mixed_night(world: SettlementWorld) -> None:
    """Paid, failed and held payouts in two currencies; a refused file, and one delivered twice."""
    given = rows(1, 4)
    given[1]["metadata.simulate"] = DECLINED
    given[2]["metadata.simulate"] = "status=partially_processed"
    world.deliver("a.csv", given)
    world.deliver("b.csv", [card_row(5, "EUR", "100.00"), card_row(6, "EUR", "50.00", DECLINED)])
    world.deliver("c.csv", given)
    world.deliver("d.csv", rows(9, 9, amount="x"))
    world.at("02T02:30")
    world.settle()
    world.pay()
    world.clock.sleep(REPORT_EVERY_S)
    world.settle()


def test_what_went_in_is_what_came_out_and_what_is_left(world: SettlementWorld) -> None:
    a_mixed_night(world)
    given = sums(world, "in")
    assert given == {("USD", ""): Decimal("50.00") + 1, ("EUR", ""): Decimal(150)}
    out = sums(world, "out")
    assert out == {
        ("USD", "paid"): Decimal("25.50"),
        ("USD", "failed"): Decimal("12.25"),
        ("USD", "held"): Decimal("13.25"),
        ("EUR", "paid"): Decimal(100),
        ("EUR", "failed"): Decimal(50),
    }
    for currency in ("USD", "EUR"):
        assert given[currency, ""] == sum(v for (code, _), v in out.items() if code == currency)
    fees = {row["currency"]: Decimal(row["amount"]) for row in section(world, "fee")}
    assert fees["EUR"] > 0


def test_failures_held_payouts_files_and_people_are_told_with_reasons_and_ages(
    world: SettlementWorld,
) -> None:
    a_mixed_night(world)
    failures = section(world, "failure")
    assert [row["reference_id"] for row in failures] == ["T-0002", "C-0006"]
    assert all(row["reason"] and row["at"] for row in failures)
    [held] = section(world, "held")
    assert held["reference_id"] == "T-0003"
    assert int(held["age_s"]) >= REPORT_EVERY_S
    files = {row["file"]: row for row in section(world, "file")}
    assert {name: row["state"] for name, row in files.items()} == {
        "a.csv": "approved",
        "b.csv": "approved",
        "c.csv": "delivered_twice",
        "d.csv": "refused",
    }
    assert files["c.csv"]["batch_id"] == files["a.csv"]["batch_id"]
    acts = [(row["batch_id"], row["state"], row["by"]) for row in section(world, "approval")]
    batch_id = files["a.csv"]["batch_id"]
    assert (batch_id, "stored", "schedule nightly") in acts
    assert (batch_id, "approved", "schedule nightly") in acts


def test_beneficiaries_are_masked_in_both_reports(world: SettlementWorld) -> None:
    a_mixed_night(world)
    for suffix in (".csv", ".html"):
        text = world.report(suffix)
        assert "550000027731" not in text
        assert "7731" in text


def test_people_are_those_of_the_batchs_history(tmp_path: Path) -> None:
    with settlement_world(tmp_path, approval="person") as world:
        world.deliver("a.csv", rows(1, 2))
        world.at("02T02:30")
        world.settle()
        world.approve(world.batch("a.csv").id)
        report = gather(world.run(), world.schedule, world.runtime)
        assert [(act.action, act.actor) for act in report.acts] == [
            ("stored", "schedule nightly"),
            ("approved", "checker"),
        ]


# --- when it is written ---


def test_it_is_written_at_once_then_now_and_then_and_at_the_end(world: SettlementWorld) -> None:
    world.deliver("a.csv", rows(1, 1, simulate="path=process_pending>processed settle=86400"))
    world.at("02T02:30")
    world.settle()
    assert sums(world, "out") == {("USD", "queued"): Decimal("11.25")}
    for _ in range(3):
        world.step()
        world.clock.sleep(30)
    world.settle()
    # Not all the time.
    assert sums(world, "out") == {("USD", "queued"): Decimal("11.25")}
    world.clock.sleep(REPORT_EVERY_S)
    world.settle()
    assert sums(world, "out") == {("USD", "processing"): Decimal("11.25")}
    [one] = section(world, "open")
    assert (one["count"], one["state"]) == ("1", "processing")
    assert int(one["age_s"]) > REPORT_EVERY_S
    assert world.run().settled_at is None
    world.clock.sleep(timedelta(days=1).total_seconds())
    world.pay()
    world.settle()
    assert sums(world, "out") == {("USD", "paid"): Decimal("11.25")}
    assert world.run().settled_at is not None


def test_what_a_person_approves_days_later_is_still_reported_of_its_run(tmp_path: Path) -> None:
    with settlement_world(tmp_path, approval="person") as world:
        world.deliver("a.csv", rows(1, 2))
        world.at("02T02:30")
        world.settle()
        assert sums(world, "out") == {("USD", "draft"): Decimal("23.50")}
        world.at("04T12:00")
        world.approve(world.batch("a.csv").id)
        world.pay()
        world.settle()
        assert sums(world, "out") == {("USD", "paid"): Decimal("23.50")}
        assert "checker" in world.report(".html")
        assert world.run().settled_at is not None


def test_a_held_payout_keeps_the_report_open_until_somebody_decides(world: SettlementWorld) -> None:
    a_mixed_night(world)
    assert world.run().settled_at is None
    control.resolve("T-0003", "failed", world.runtime, actor=CHECKER, reason="asked", account=None)
    world.settle()
    assert world.run().settled_at is not None
    assert ("USD", "held") not in sums(world, "out")


def test_money_that_comes_back_after_all_was_settled_is_still_reported(tmp_path: Path) -> None:
    with settlement_world(tmp_path) as world:
        world.deliver("a.csv", rows(1, 1, simulate="returned=7200"))
        world.at("02T02:30")
        world.settle()
        world.pay()
        world.settle()
        assert sums(world, "out") == {("USD", "paid"): Decimal("11.25")}
        assert world.run().settled_at is not None
        assert not world.run().report_final
        for _ in range(48):
            world.clock.sleep(3600)
            world.step()
        world.settle()
        assert sums(world, "out") == {("USD", "returned"): Decimal("11.25")}
        assert [row["reference_id"] for row in section(world, "failure")] == ["T-0001"]


def test_when_nothing_is_watched_any_more_a_report_is_final_and_let_be(
    world: SettlementWorld,
) -> None:
    world.deliver("a.csv", rows(1, 2))
    world.at("02T02:30")
    world.settle()
    world.pay()
    world.settle()
    assert not world.run().report_final
    world.clock.sleep(timedelta(days=world.runtime.settings.watch_paid_days).total_seconds())
    world.settle()
    assert world.run().report_final
    path = world.folder / "reports" / "nightly.2026-03-02.html"
    path.unlink()
    world.clock.sleep(REPORT_EVERY_S * 3)
    world.settle()
    assert not path.exists()


def test_a_run_without_files_has_a_report_too(world: SettlementWorld) -> None:
    world.at("02T02:30")
    world.settle()
    assert [row["section"] for row in world.table()] == ["run"]
    assert world.run().report_final


def test_a_report_that_cannot_be_written_is_told_of_and_written_later(tmp_path: Path) -> None:
    reports = tmp_path / "there" / "reports"
    with settlement_world(tmp_path, reports=str(reports)) as world:
        world.deliver("a.csv", rows(1, 2))
        world.at("02T02:30")
        world.settle()
        run = world.run()
        assert run.outcome == "finished"
        assert (run.problem or "").startswith("its report cannot be written: ")
        assert world.fates() == {"a.csv": "approved"}
        reports.parent.mkdir()
        world.clock.sleep(REPORT_EVERY_S)
        world.settle()
        assert world.run().problem is None
        assert len(os.listdir(reports)) == 2


def test_it_can_be_written_anew_in_any_form(world: SettlementWorld, tmp_path: Path) -> None:
    a_mixed_night(world)
    report = gather(world.run(), world.schedule, world.runtime)
    for suffix in (".html", ".csv", ".parquet", ".xlsx"):
        write_report(report, tmp_path / f"r{suffix}")
    table = pd.read_parquet(tmp_path / "r.parquet")
    assert tuple(table.columns) == COLUMNS
    with (tmp_path / "r.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == len(table) + 1
    with pytest.raises(UsageError, match="does not end in \\.html, \\.csv"):
        write_report(report, tmp_path / "r.pdf")


def test_lines_that_somebody_deleted_are_told_of(world: SettlementWorld) -> None:
    a_mixed_night(world)
    with world.runtime.database.write() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
    with world.runtime.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM payout_events WHERE payout_id = 1")
        connection.exec_driver_sql("DELETE FROM payouts WHERE id = 1")
    report = gather(world.run(), world.schedule, world.runtime)
    assert report.missing == 1


def test_a_schedule_that_is_not_in_the_settings_any_more_still_has_its_reports(
    world: SettlementWorld, tmp_path: Path
) -> None:
    a_mixed_night(world)
    report = gather(world.run(), None, world.runtime)
    write_report(report, tmp_path / "r.html")
    assert "times are those of UTC" in (tmp_path / "r.html").read_text()
