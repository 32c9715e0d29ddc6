"""From a file with faults and failures to every line paid once: the files that are corrected have
the input's own columns, and nothing that is under way slips back in by them.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from batches.reports import write_table
from tests.batches.cli_world import Row, World, check_money, provided, released, usd_row
from tests.batches.test_results import table_of

THEIRS = {
    "reference_id": "Staff No",
    "amount": "Pay, net",
    "fields.account": "Konto",
    "service": "Art",
}
MAPS = [word for ours, theirs in THEIRS.items() for word in ("--map", f"{theirs}={ours}")]
FORMATS = [("csv", False), ("csv", True), ("parquet", True), ("xlsx", True)]


def put(world: World, name: str, rows: Sequence[Row], *, mapped: bool = False) -> None:
    """A file of these rows, in the format of its name and under their own names of columns."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    names = [THEIRS.get(column, column) if mapped else column for column in columns]
    cells = [[row.get(column, "") for column in columns] for row in rows]
    write_table(world.folder / name, names, cells)


def taken(world: World, name: str) -> list[Row]:
    """The rows of a file, under its own names of columns."""
    header, *rows = table_of(world.folder / name)
    return [dict(zip(header, row, strict=True)) for row in rows]


def child_of(world: World, batch: str) -> object:
    return world.paybatch("status", batch, "--json").json["child_of"]


@pytest.mark.parametrize(("suffix", "mapped"), FORMATS)
def test_the_whole_way_from_faults_and_failures_to_every_line_paid_once(
    tmp_path: Path, suffix: str, mapped: bool
) -> None:
    maps = MAPS if mapped else []
    name: Callable[[str], str] = lambda ours: THEIRS.get(ours, ours) if mapped else ours  # noqa: E731
    with provided(tmp_path) as (world, provider):
        rows = [usd_row(1), usd_row(2, "create:422"), usd_row(3, amount="1,5")]
        put(world, f"p.{suffix}", rows, mapped=mapped)
        errors = ("--errors", f"wrong.{suffix}")
        told = world.paybatch("check", f"p.{suffix}", *maps, *errors, code=3)
        assert ("same --map" in told.out) == mapped
        ran = world.paybatch(
            *("run", f"p.{suffix}", "--yes", "--valid-rows-only", "--json", *maps), code=4
        ).json
        first = ran["batch_id"]
        assert ran["counts"] == {"paid": 1, "failed": 1}

        # The faulty row, in its own columns, corrected and read in the same way.
        [wrong] = taken(world, f"wrong.{suffix}")
        reasons = ["fault_line", "fault_reason", "fault_file"]
        assert list(wrong) == [*(name(column) for column in rows[0]), *reasons]
        assert (wrong["fault_line"], wrong[name("amount")]) == ("4", "1,5")
        assert wrong["fault_reason"].startswith("amount: expected ")
        put(world, f"again.{suffix}", [wrong | {name("amount"): "1.50"}])
        told = world.paybatch("check", f"again.{suffix}", *maps)
        assert f"lines of batch {first}" in told.out
        ran = world.paybatch("run", f"again.{suffix}", "--yes", "--json", *maps).json
        assert child_of(world, ran["batch_id"]) == first

        # The failed row, likewise.
        out = f"failed.{suffix}"
        told = world.paybatch("results", first, "--failed", "-o", out)
        assert ("same --map" in told.out) == mapped
        assert stat.S_IMODE((world.folder / out).stat().st_mode) == 0o600
        [failed] = taken(world, out)
        added = ["replaces", "failure_code", "failure_reason"]
        assert list(failed) == [*(name(column) for column in rows[0]), *added]
        assert failed[name("fields.account")] == rows[1]["fields.account"]
        put(world, f"third.{suffix}", [failed | {"metadata.simulate": ""}])
        ran = world.paybatch("run", f"third.{suffix}", "--yes", "--json", *maps).json
        assert child_of(world, ran["batch_id"]) == first
        assert f"lines of batch {first}" in world.paybatch("status", ran["batch_id"]).out

        # Nothing is left to correct, and everybody was paid once.
        facts = world.paybatch("results", first, "--failed", "-o", out, "--json").json
        assert facts["rows"] == 0
        times = released(provider.ledger())
        assert times == {"T-0001": 1, "T-0002": 0, "T-0002-r2": 1, "T-0003": 1}


def test_a_replacement_that_fails_is_itself_replaced_and_never_the_first_again(
    tmp_path: Path,
) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1, "create:422")])
        world.paybatch("run", "p.csv", "--yes", code=4)
        first = world.batch_id()
        world.paybatch("results", first, "--failed", "-o", "second.csv")
        kept = world.read("second.csv")
        second = world.paybatch("run", "second.csv", "--yes", "--json", code=4).json["batch_id"]
        # The first failure, by another reference id: its replacement is told instead.
        world.write([kept[0] | {"reference_id": "T-0001-x", "metadata.simulate": ""}], "x.csv")
        [fault] = world.paybatch("check", "x.csv", "--json", code=3).json["faults"]
        assert fault["kind"] == "not_replaceable"
        assert f"replaced by T-0001-r2 of batch {second}, which failed too" in fault["expected"]
        world.paybatch("results", second, "--failed", "-o", "third.csv")
        [row] = world.read("third.csv")
        assert (row["reference_id"], row["replaces"]) == ("T-0001-r3", "T-0001-r2")
        world.write([row | {"metadata.simulate": ""}], "third.csv")
        ran = world.paybatch("run", "third.csv", "--yes", "--json").json
        assert child_of(world, ran["batch_id"]) == second
        assert +released(provider.ledger()) == {"T-0001-r3": 1}


# A row's words for the simulator, its state, and what is said of a row that comes back.
ENDS = {
    "": ("paid", "is paid already"),
    "create:422": ("failed", "failed in batch"),
    "amount=1.00": ("held", "until a person decides"),
    "returned=0": ("returned", "the money came back"),
}


def test_rows_of_a_batch_that_come_back_in_a_file_are_told_what_became_of_them(
    tmp_path: Path,
) -> None:
    with provided(tmp_path) as (world, provider):
        rows = [usd_row(number, words) for number, words in enumerate(ENDS)]
        world.write(rows)
        world.paybatch("run", "p.csv", "--yes", code=5)
        assert list(world.states().values()) == [state for state, _ in ENDS.values()]
        ledger = provider.ledger()
        # The same reference ids with other amounts; and as rows that replace them.
        world.write([row | {"amount": "77.00"} for row in rows], "again.csv")
        replacing = [
            row | {"reference_id": f"N-{number}", "replaces": row["reference_id"], "amount": "78"}
            for number, row in enumerate(rows)
        ]
        world.write(replacing, "replacing.csv")
        found = world.paybatch("check", "again.csv", "--json", code=3).json["faults"]
        assert [fault["kind"] for fault in found] == ["reference_used"] * 4
        for fault, (_, words) in zip(found, ENDS.values(), strict=True):
            assert words in fault["expected"]
        found = world.paybatch("check", "replacing.csv", "--json", code=3).json["faults"]
        assert [(fault["line"], fault["kind"]) for fault in found] == [
            (line, "not_replaceable") for line in (2, 4, 5)
        ]
        for name in ("again.csv", "replacing.csv"):
            world.paybatch("run", name, "--yes", code=3)
            world.paybatch("submit", name, code=3)
        only = ("--valid-rows-only", "--allow-repeats", "--json")
        assert world.paybatch("check", "again.csv", *only, code=3).json["payable"] == 0
        assert world.paybatch("check", "replacing.csv", *only).json["payable"] == 1
        assert provider.ledger() == ledger
        check_money(world.read(), ledger)


def test_rows_that_wait_or_are_under_way_do_not_come_back_either(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        rows = [usd_row(1), usd_row(2)]
        world.write(rows)
        stored = world.paybatch("submit", "p.csv", "--json").json["batch_id"]
        world.write([row | {"amount": "77.00"} for row in rows], "again.csv")

        def told() -> set[str]:
            found = world.paybatch("check", "again.csv", "--json", code=3).json["faults"]
            return {fault["expected"] for fault in found}

        [draft] = told()
        assert "waits for approval" in draft
        assert stored in draft
        world.paybatch("approve", stored)
        [queued] = told()
        assert "still open" in queued
        world.execute("UPDATE payouts SET state = 'unknown'")
        [unknown] = told()
        assert "being looked up" in unknown
        # Turned down before any send, the reference ids are free.
        world.execute("UPDATE payouts SET state = 'cancelled'")
        assert world.paybatch("check", "again.csv", "--json").json["ok"]


def test_a_row_that_keeps_its_old_reference_id_is_told_to_take_a_new_one(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1, "create:422")])
        world.paybatch("run", "p.csv", "--yes", code=4)
        world.paybatch("results", world.batch_id(), "--failed", "-o", "failed.csv")
        [row] = world.read("failed.csv")
        same = row | {"reference_id": "T-0001"}
        world.write([same], "a.csv")
        [fault] = world.paybatch("check", "a.csv", "--json", code=3).json["faults"]
        assert fault["kind"] == "replaces_itself"
        assert "needs one of its own" in fault["expected"]
        world.write([same | {"replaces": "", "amount": "7"}], "b.csv")
        [fault] = world.paybatch("check", "b.csv", "--json", code=3).json["faults"]
        assert fault["kind"] == "reference_used"
        assert "name this one in the column replaces" in fault["expected"]


def test_a_file_that_corrects_several_batches_names_them_all(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        corrected, ids = [], []
        for number in (1, 2):
            world.write([usd_row(number, "create:422")], f"{number}.csv")
            ran = world.paybatch("run", f"{number}.csv", "--yes", "--json", code=4).json
            ids.append(ran["batch_id"])
            world.paybatch("results", ids[-1], "--failed", "-o", "failed.csv")
            corrected += world.read("failed.csv")
        world.write([row | {"metadata.simulate": ""} for row in corrected], "both.csv")
        stored = world.paybatch("submit", "both.csv", "--json").json["batch_id"]
        assert child_of(world, stored) is None
        note = world.one("SELECT note FROM batches WHERE id = ?", stored)
        assert note == f"corrects lines of batches {', '.join(sorted(ids))}"


def test_the_mapping_stays_with_the_batch(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        put(world, "p.csv", [usd_row(1, "create:422")], mapped=True)
        ran = world.paybatch("run", "p.csv", "--yes", "--json", *MAPS, code=4).json
        world.paybatch("results", ran["batch_id"], "--failed", "-o", "failed.csv")
        # Without it, the file is refused whole and nothing is guessed.
        assert "Staff No" in world.paybatch("check", "failed.csv", code=3).err
        world.paybatch("check", "failed.csv", *MAPS)
