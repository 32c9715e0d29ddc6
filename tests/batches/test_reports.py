"""Tables appear whole or not at all, run no formula, and come back as they were."""

from __future__ import annotations

import csv
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import openpyxl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batches.loading import Limits, open_sheet
from batches.reports import guarded, write_table
from workers.errors import UsageError

LIMITS = Limits(rows_max=100_000, bytes_max=10_000_000, cell_chars_max=2000, columns_max=20)
COLUMNS = ("reference_id", "amount", "currency", "description", "customer.phone")
SUFFIXES = [".csv", ".parquet", ".xlsx"]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def read(path: Path) -> list[tuple[str, ...]]:
    return [
        tuple(row)
        for chunk in open_sheet(path, LIMITS).chunks()
        for row in chunk.frame.itertuples(index=False)
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_corrected_private_file_comes_back_unchanged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    rows = [
        ("P-1", "-5.00", "EUR", "=cmd()", "+49123"),
        ("007", "1", "EUR", "'=x", "'+1"),
        ("P-3", "1", "EUR", "''@", "@home"),
        ("P-4", "1", "EUR", "#N/A", " -1"),
        ("P-5", "1", "EUR", "'quoted'", "\t=1"),
        ("P-6", "1", "EUR", 'a,b;"c"\nd', "-"),
    ]
    assert write_table(path, COLUMNS, rows, private=True) == 6
    assert read(path) == rows


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cell=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20))
def test_every_text_survives_csv_and_parquet(tmp_path: Path, cell: str) -> None:
    for suffix in (".csv", ".parquet"):
        path = tmp_path / f"a{suffix}"
        write_table(path, COLUMNS, [("P", "1", "EUR", cell, "x")])
        assert read(path) == [("P", "1", "EUR", cell, "x")]


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("=1+1", "'=1+1"),
        ("+49123", "'+49123"),
        ("-cmd", "'-cmd"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("'=1", "''=1"),
        ("-5.00", "-5.00"),
        ("-5", "-5"),
        ("-5.", "'-5."),
        ("+5", "'+5"),
        ("'a", "'a"),
        ("a=1", "a=1"),
        ("", ""),
    ],
)
def test_formulas_are_guarded_and_numbers_are_not(text: str, stored: str) -> None:
    assert guarded(text) == stored


@pytest.mark.parametrize("private", [True, False])
def test_no_cell_of_csv_or_xlsx_is_a_formula(tmp_path: Path, private: bool) -> None:
    hostile = ["=1+1", "+1", "-x", "@a", "\tx", "#REF!", "2026-01-31", "0012", "-5.00"]
    for suffix in (".csv", ".xlsx"):
        write_table(tmp_path / f"a{suffix}", ["=h", *"bcdefghi"], [hostile], private=private)
    with (tmp_path / "a.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert [cell for cell in cells if cell[0] in "=+-@\t\r"] == ["-5.00"]
    sheet = openpyxl.load_workbook(tmp_path / "a.xlsx").active
    assert {cell.data_type for row in sheet.rows for cell in row} == {"s"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_everything_is_text_and_none_is_empty(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"A{suffix.upper()}"
    write_table(path, COLUMNS, [("P", 1, "EUR", None, 2.5), ("Q", 2, "EUR", True, "\ud800")])
    assert read(path) == [("P", "1", "EUR", "", "2.5"), ("Q", "2", "EUR", "True", "?")]
    if suffix == ".parquet":
        assert {str(kind) for kind in pq.read_schema(path).types} == {"string"}


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_characters_that_a_format_lacks_are_replaced(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_table(path, COLUMNS, [("P", "1", "EUR", "a\0b", "")])
    assert read(path)[0][3] == "a\ufffdb"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_without_rows_has_its_header(tmp_path: Path, suffix: str) -> None:
    assert write_table(tmp_path / f"a{suffix}", COLUMNS, []) == 0
    assert (tmp_path / f"a{suffix}").stat().st_size > 20


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_private_files_are_never_readable_by_others(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("old, and open to all")
    path.chmod(0o666)
    modes: set[int] = set()

    def rows() -> Iterator[tuple[str, ...]]:
        modes.update(mode_of(one) for one in tmp_path.iterdir() if one != path)
        yield ("P", "1", "EUR", "", "")

    before = os.umask(0)
    try:
        write_table(path, COLUMNS, rows(), private=True)
    finally:
        os.umask(before)
    assert modes == {0o600}
    assert mode_of(path) == 0o600


def test_other_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_table(tmp_path / "a.csv", COLUMNS, [])
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a.csv") == 0o640


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / f"a{suffix}"
    path.write_text("old")

    def rows() -> Iterator[tuple[str, ...]]:
        yield from [("P", "1", "EUR", "", "")] * 5
        raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError):
        write_table(path, COLUMNS, rows())
    assert path.read_text() == "old"
    assert list(folder.iterdir()) == [path]
    assert list(scratch.iterdir()) == []


def test_a_fault_of_the_rows_source_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    def rows() -> Iterator[tuple[str, ...]]:
        raise ConnectionResetError(errno.ECONNRESET, "database")
        yield ()

    with pytest.raises(ConnectionResetError):
        write_table(tmp_path / "a.csv", COLUMNS, rows())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none/a.csv", "folder does not exist"),
        ("a.txt", "does not end in"),
        ("a", "does not end in"),
        ("folder.csv", "is a folder"),
        ("file/a.csv", "cannot be written"),
    ],
)
def test_a_place_that_cannot_be_written_is_bad_usage(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=told):
        write_table(tmp_path / name, COLUMNS, [])


def test_a_full_disk_is_told_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        write_table(tmp_path / "a.csv", COLUMNS, [])
    assert list(tmp_path.iterdir()) == []


def test_more_rows_than_xlsx_can_have_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batches.reports.XLSX_ROWS_MAX", 3)
    rows = [("P", "1", "EUR", "", "")]
    assert write_table(tmp_path / "a.xlsx", COLUMNS, rows * 2) == 2
    with pytest.raises(UsageError, match="room for 2 rows"):
        write_table(tmp_path / "b.xlsx", COLUMNS, rows * 3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_many_rows_are_written_in_order(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    count = 1_000 if suffix == ".xlsx" else 45_000
    assert write_table(path, COLUMNS, ((n, 1, "EUR", "", "") for n in range(count))) == count
    assert [row[0] for row in read(path)] == [str(n) for n in range(count)]
