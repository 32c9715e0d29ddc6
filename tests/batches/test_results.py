"""The answer for every line, in three formats; and the failed lines, to be corrected and paid."""

from __future__ import annotations

import csv
import stat
from pathlib import Path

import openpyxl
import pyarrow.parquet as pq

from tests.batches.cli_world import COLUMNS, Row, check_money, provided, released, usd_row


def table_of(path: Path) -> list[list[str]]:
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        rows = [list(row.values()) for row in table.to_pylist()]
        return [table.column_names, *rows]
    if path.suffix == ".xlsx":
        book = openpyxl.load_workbook(path)
        rows = [["" if cell is None else str(cell) for cell in row] for row in book.active.values]
        book.close()
        return rows
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_results_are_the_same_in_every_format(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        words = ["", "create:422", "amount=1.00"]
        world.write([usd_row(number, each) for number, each in enumerate(words)])
        world.paybatch("run", "p.csv", "--yes", code=5)
        batch = world.batch_id()
        tables = []
        for suffix in ("csv", "parquet", "xlsx"):
            out = world.folder / f"all.{suffix}"
            facts = world.paybatch("results", batch, "-o", out.name, "--json").json
            assert facts == {"batch_id": batch, "rows": 3, "results": out.name}
            tables.append(table_of(out))
        assert tables[0][0] == COLUMNS
        assert len(tables[0]) == 4
        assert tables[0] == tables[1] == tables[2] == table_of(world.folder / "p.results.csv")
        assert (
            ".csv, .parquet or .xlsx"
            in world.paybatch("results", batch, "-o", "all.pdf", code=2).err
        )


def test_failed_lines_are_corrected_and_paid_once_under_new_reference_ids(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        words = ["", "create:422", "status=process_failed resolution=invalid_details", "", ""]
        rows = [usd_row(number, each) for number, each in enumerate(words)]
        world.write(rows)
        world.paybatch("run", "p.csv", "--yes", code=4)
        batch = world.batch_id()
        world.paybatch("results", batch, "--failed", "-o", "failed.csv")

        assert stat.S_IMODE((world.folder / "failed.csv").stat().st_mode) == 0o600
        failed = world.read("failed.csv")
        # The input's own cells, ready to be corrected.
        assert [row["fields.account"] for row in failed] == [
            row["fields.account"] for row in rows[1:3]
        ]
        assert [row["replaces"] for row in failed] == ["T-0001", "T-0002"]
        assert [row["reference_id"] for row in failed] == ["T-0001-r2", "T-0002-r2"]
        assert failed[1]["failure_code"] == "invalid_details"

        corrected: list[Row] = [row | {"metadata.simulate": ""} for row in failed]
        world.write(corrected, "again.csv")
        world.paybatch("run", "again.csv", "--yes")
        again = world.read("again.results.csv")
        assert [(row["state"], row["replaces"]) for row in again] == [
            ("paid", "T-0001"),
            ("paid", "T-0002"),
        ]
        ledger = provider.ledger()
        check_money([*world.read(), *again], ledger)
        assert released(ledger)["T-0001"] == 0
        # The same file once more, and a failed line that is replaced already.
        assert "finished" in world.paybatch("run", "again.csv", "--yes", code=3).err
        world.write([corrected[0] | {"reference_id": "T-0001-r3", "amount": "12"}], "third.csv")
        facts = world.paybatch("check", "third.csv", "--json", code=3).json
        assert [each["kind"] for each in facts["faults"]] == ["not_replaceable"]
        assert provider.ledger() == ledger


def test_the_file_of_failed_lines_is_paid_once_if_it_is_run_as_it_is(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1, "create:422"), usd_row(2)])
        world.paybatch("run", "p.csv", "--yes", code=4)
        first = world.batch_id()
        world.paybatch("results", first, "--failed", "-o", "failed.csv")
        stored = world.paybatch("submit", "failed.csv", "--json").json["batch_id"]
        assert stored in world.paybatch("submit", "failed.csv", code=3).err
        # Lines that are stored again are not to be corrected any more.
        told = world.paybatch("results", first, "--failed", "-o", "second.csv", "--json").json
        assert told["rows"] == 0
        # Another file of the same lines still replaces what is replaced already.
        lines = [row | {"reference_id": "T-0001-r9"} for row in world.read("failed.csv")]
        world.write(lines, "third.csv")
        facts = world.paybatch("check", "third.csv", "--json", code=3).json
        assert "not_replaceable" in [each["kind"] for each in facts["faults"]]
        assert set(provider.ledger()) == {"T-0001", "T-0002"}
