"""The same payment twice, in each way in which it can come: what is said, and what overrides it."""

from __future__ import annotations

from pathlib import Path

import pytest

from batches.reports import write_table
from tests.batches.cli_world import Row, World, provided, usd_row

ROWS = [usd_row(1), usd_row(2)]


def variant(world: World, name: str) -> list[str]:
    """The same rows as another file; how it is read."""
    path = world.folder / name
    columns = list(ROWS[0])
    if name == "reordered.csv":
        columns.reverse()
    cells = [[row[column] for column in columns] for row in ROWS]
    if name == "semicolons.csv":
        path.write_text("\r".join(";".join(row) for row in (columns, *cells)))
        return []
    if name == "more.csv":
        write_table(
            path, [*columns, "fault_reason", "customer.name"], [[*r, "x", ""] for r in cells]
        )
        return []
    if name == "mapped.csv":
        write_table(path, ["No", *columns[1:]], cells)
        return ["--map", "No=reference_id"]
    write_table(path, columns, cells)
    return []


@pytest.mark.parametrize(
    "name",
    ["p.xlsx", "p.parquet", "reordered.csv", "semicolons.csv", "more.csv", "mapped.csv"],
)
def test_the_same_rows_are_the_same_content_in_whatever_file_they_come(
    tmp_path: Path, name: str
) -> None:
    with provided(tmp_path) as (world, _):
        world.write(ROWS)
        stored = world.paybatch("submit", "p.csv", "--json").json["batch_id"]
        read_as = variant(world, name)
        facts = world.paybatch("check", name, *read_as, "--json").json
        assert (facts["batch_id"], facts["faults"]) == (stored, [])
        told = world.paybatch("submit", name, *read_as, "--allow-repeats", code=3).err
        assert f"{name}: the same rows are stored already as batch {stored} (p.csv, " in told
        assert f"paybatch reject {stored}" in told
        assert world.one("SELECT count(*) FROM batches") == 1
        world.paybatch("approve", stored)
        told = world.paybatch("submit", name, *read_as, code=3).err
        assert "give each row a new reference id" in told


def test_a_batch_that_was_turned_down_does_not_stand_in_the_way(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write(ROWS)
        first = world.paybatch("submit", "p.csv", "--json").json["batch_id"]
        world.paybatch("reject", first)
        assert world.paybatch("submit", "p.csv", "--json").json["batch_id"] != first


def same(number: int, **changes: str) -> Row:
    """A row of one beneficiary and amount."""
    usual = {"amount": "20.00", "fields.account": "5500999988"}
    return usd_row(number, **(usual | changes))


def test_the_same_beneficiary_and_amount_is_told_and_allowed_by_a_person_who_is_named(
    tmp_path: Path,
) -> None:
    with provided(tmp_path) as (world, _):
        world.write([same(1), same(2), usd_row(3)])
        [fault] = world.paybatch("check", "p.csv", "--json", code=3).json["faults"]
        assert (fault["line"], fault["column"], fault["kind"]) == (3, "amount", "repeated")
        assert "as line 2" in fault["expected"]
        assert "--allow-repeats" in fault["expected"]
        first = world.paybatch("submit", "p.csv", "--allow-repeats", "--json").json["batch_id"]
        note = world.one("SELECT note FROM batches WHERE id = ?", first)
        assert note.startswith("1 repeated payment allowed by ")
        assert not note.endswith("by ")
        # In another file, of another amount, and after the window.
        world.write([same(4), same(5, amount="20.01")], "next.csv")
        [fault] = world.paybatch("check", "next.csv", "--json", code=3).json["faults"]
        assert fault["line"] == 2
        assert "payout T-0002 of the last 30 days" in fault["expected"]
        world.execute("UPDATE batches SET made_at = datetime(made_at, '-31 days')")
        assert world.paybatch("check", "next.csv", "--json").json["repeats"] == 0
        off = world.paybatch("check", "p.csv", "--json", PAYBATCH_DUPLICATE_WINDOW_DAYS="0")
        assert off.json["repeats"] == 0


def test_rows_that_were_left_out_of_a_stored_file_are_told_again_and_recorded(
    tmp_path: Path,
) -> None:
    with provided(tmp_path) as (world, _):
        rows = [same(1), usd_row(2), usd_row(3, amount="1.234"), same(4)]
        world.write(rows)
        only = ("p.csv", "--valid-rows-only")
        before = world.paybatch("check", *only, "--json").json
        batch_id = world.paybatch("submit", *only, "--json").json["batch_id"]
        note = world.one("SELECT note FROM batches WHERE id = ?", batch_id)
        assert note.startswith("2 rows of the file left out for their faults by ")
        assert note in world.paybatch("status", batch_id).out
        after = world.paybatch("check", *only, "--errors", "left.csv", "--json").json
        assert (after["batch_id"], after["payable"]) == (batch_id, 2)
        told = [(fault["line"], fault["kind"]) for fault in after["faults"]]
        assert told == [(fault["line"], fault["kind"]) for fault in before["faults"]]
        assert told == [(4, "too_many_decimals"), (5, "repeated")]
        assert [row["reference_id"] for row in world.read("left.csv")] == ["T-0003", "T-0004"]
        # Nothing stands against that row any more, but it is in no batch.
        allowed = world.paybatch("check", *only, "--allow-repeats", "--json").json
        [_, fault] = allowed["faults"]
        assert (fault["line"], fault["kind"], allowed["payable"]) == (5, "left_out", 2)
        assert f"batch {batch_id}" in fault["expected"]


def test_no_account_number_is_kept_in_the_clear_to_find_repeats_by(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([same(1)])
        world.paybatch("submit", "p.csv")
        files = [path for path in world.folder.iterdir() if path.name.startswith("paybatch.db")]
        assert files
        assert not [path for path in files if b"5500999988" in path.read_bytes()]
        [[print_]] = world.query("SELECT fingerprint FROM payouts")
        assert abs(print_) > 2**32


def test_a_reference_id_twice_is_told_in_the_file_and_against_what_is_stored(
    tmp_path: Path,
) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1), usd_row(2), usd_row(1, amount="99")])
        [fault] = world.paybatch("check", "p.csv", "--json", code=3).json["faults"]
        assert (fault["line"], fault["kind"]) == (4, "duplicate_reference")
        assert "line 2 has this one already" in fault["expected"]
        world.write([usd_row(1)], "one.csv")
        stored = world.paybatch("submit", "one.csv", "--json").json["batch_id"]
        found = world.paybatch("check", "p.csv", "--allow-repeats", "--json", code=3).json["faults"]
        assert [(fault["line"], fault["kind"]) for fault in found] == [
            (2, "reference_used"),
            (4, "duplicate_reference"),
        ]
        assert stored in found[0]["expected"]


def test_the_same_rows_in_another_order_are_told_row_by_row(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write(ROWS)
        stored = world.paybatch("submit", "p.csv", "--json").json["batch_id"]
        world.write(ROWS[::-1], "other.csv")
        found = world.paybatch("check", "other.csv", "--allow-repeats", "--json", code=3).json
        assert [fault["kind"] for fault in found["faults"]] == ["reference_used"] * 2
        assert all(stored in fault["expected"] for fault in found["faults"])
