"""What lies beside a file goes where it goes: rows left out, reasons, control totals. How many rows
were left out is told.
"""

from __future__ import annotations

import io
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from batches import approval, control, screens
from batches.settlement import settle
from tests.batches.cli_world import Row
from tests.batches.settlement_world import SettlementWorld, rows, settlement_world
from tests.worlds import CHECKER
from workers.errors import FileRefused
from workers.record.model import Actor

NAME = "a.2026-03-02-1.csv"
ERRORS, REASON, TOTALS = f"{NAME}.errors.csv", f"{NAME}.reason.txt", f"{NAME}.totals"


def with_a_fault() -> list[Row]:
    given = rows(1, 3)
    given[1]["amount"] = "-5"
    return given


def waits(world: SettlementWorld) -> str:
    """Have a file wait of which a row was left out; its batch."""
    world.deliver("a.csv", with_a_fault())
    world.at("02T02:30")
    world.settle()
    return world.batch("a.csv").id


# --- where they lie ---


def test_rows_left_out_wait_beside_their_file_and_go_to_done_with_it(tmp_path: Path) -> None:
    with settlement_world(
        tmp_path, approval="person", valid_rows_only=True, control_totals=True
    ) as world:
        world.deliver("a.csv.totals", "count=3\n")
        batch_id = waits(world)
        assert world.lying("waiting") == [NAME, ERRORS, TOTALS]
        assert world.lying("done") == []
        world.approve(batch_id)
        world.settle()
        assert world.lying("waiting") == []
        assert world.lying("done") == [NAME, ERRORS, TOTALS]
        path = world.inbox / "done" / ERRORS
        assert "T-0002" in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_money_they_wait_beside_their_file_too(tmp_path: Path) -> None:
    with settlement_world(tmp_path, valid_rows_only=True) as world:
        world.spendable("5.00")
        waits(world)
        assert world.lying("waiting") == [NAME, ERRORS]
        world.spendable("100.00")
        world.at("03T02:30")
        world.settle()
        assert (world.lying("waiting"), world.lying("done")) == ([], [NAME, ERRORS])


def test_those_that_an_older_paybatch_put_into_done_follow_their_file(tmp_path: Path) -> None:
    with settlement_world(tmp_path, approval="person", valid_rows_only=True) as world:
        batch_id = waits(world)
        (world.inbox / "done").mkdir()
        (world.inbox / "waiting" / ERRORS).rename(world.inbox / "done" / ERRORS)
        with world.runtime.database.write() as connection:
            connection.exec_driver_sql("UPDATE schedule_files SET left_out = NULL")
        control.reject(batch_id, world.runtime, CHECKER, "")
        world.settle()
        assert world.lying("refused") == [NAME, ERRORS, REASON]
        assert world.lying("done") == []


def test_where_storing_is_refused_they_lie_beside_the_refused_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> str:
        raise FileRefused("a.csv: one of its reference ids was used a moment ago")

    with settlement_world(tmp_path, valid_rows_only=True) as world:
        monkeypatch.setattr(approval, "store", refuse)
        world.deliver("a.csv", with_a_fault())
        world.at("02T02:30")
        world.settle()
        assert world.lying("refused") == [NAME, ERRORS, REASON]
        assert (world.lying("waiting"), world.lying("done")) == ([], [])
        # It is refused as a whole: no row was left out of anything.
        assert [row for row in world.table() if row["section"] == "left_out"] == []


# --- why a file was turned down ---


@pytest.mark.parametrize(
    ("decide", "word", "then"),
    [
        (control.reject, "rejected", "Nothing of it was paid."),
        (control.cancel, "cancelled", "What became of its payouts: paybatch status {batch}"),
    ],
)
def test_who_turned_a_file_down_when_and_why_lies_beside_it(
    tmp_path: Path,
    decide: Callable[[str, Any, Actor, str], object],
    word: str,
    then: str,
) -> None:
    with settlement_world(tmp_path, approval="person", valid_rows_only=True) as world:
        batch_id = waits(world)
        world.at("02T09:05")
        decide(batch_id, world.runtime, CHECKER, "the wrong\nmonth")
        world.at("02T09:10")
        world.settle()
        assert world.lying("refused") == [NAME, ERRORS, REASON]
        assert world.lying("waiting") == []
        path = world.inbox / "refused" / REASON
        assert path.read_text().splitlines() == [
            f"a.csv was stored as batch {batch_id}, which was {word} by checker at"
            " 2026-03-02 09:05:00 UTC.",
            "The reason given: the wrong month",
            then.format(batch=batch_id),
            "The .errors.csv beside this text has what was left out of it: 1 row.",
            "The file may be delivered again; it then waits for a person.",
        ]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_was_turned_down_without_a_reason_says_so(tmp_path: Path) -> None:
    with settlement_world(tmp_path, approval="person") as world:
        world.deliver("a.csv", rows(1, 2))
        world.at("02T02:30")
        world.settle()
        control.reject(world.batch("a.csv").id, world.runtime, CHECKER, "")
        world.settle()
        assert world.lying("refused") == [NAME, REASON]
        told = (world.inbox / "refused" / REASON).read_text()
        assert "\nNo reason was given.\nNothing of it was paid.\n" in told
        assert ".errors.csv" not in told


# --- what is told of them ---


def test_rows_left_out_are_counted_in_the_record_and_in_both_reports(tmp_path: Path) -> None:
    with settlement_world(tmp_path, valid_rows_only=True) as world:
        waits(world)
        world.deliver("b.csv", rows(5, 6))
        world.settle(world.run().business_date)
        world.pay()
        world.settle()
        [file] = world.files()
        assert (file.fate, file.rows_left_out) == ("approved", 1)
        [told] = [row for row in world.table() if row["section"] == "left_out"]
        assert (told["file"], told["count"], told["batch_id"]) == ("a.csv", "1", file.batch_id)
        assert told["reason"] == f"rows with faults, not stored: done/{ERRORS} in the inbox"
        page = world.report(".html")
        assert "Left out because of faults, and not paid: 1 row; see Files" in page
        cells = '<td class="number">2</td><td class="number">1</td>'
        assert cells in page


def test_a_file_without_faults_has_nothing_left_out(tmp_path: Path) -> None:
    with settlement_world(tmp_path, valid_rows_only=True) as world:
        world.deliver("a.csv", rows(1, 2))
        world.at("02T02:30")
        world.settle()
        assert [file.left_out for file in world.files()] == [0]
        assert [row for row in world.table() if row["section"] == "left_out"] == []
        assert "Left out because" not in world.report(".html")
        assert world.lying("done") == [NAME]


# --- bars ---


def test_each_long_work_with_a_file_has_its_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screens, "err", Console(file=screen, force_terminal=True))
    monkeypatch.setattr(screens, "BAR_AFTER_S", 0)
    with settlement_world(tmp_path, valid_rows_only=True) as world:
        world.deliver("a.csv", with_a_fault())
        world.at("02T02:30")
        settle(world.schedule, world.runtime, working=screens.working)
        shown = screen.getvalue()
        for what in ("Checking", "Writing", "Storing", "Approving"):
            assert what in shown
        # A worker of the cluster shows none.
        world.deliver("b.csv", rows(5, 6))
        world.at("03T02:30")
        world.settle()
        assert screen.getvalue() == shown
