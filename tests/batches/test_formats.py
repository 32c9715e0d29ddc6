"""What each format takes and refuses: types of Parquet, cells of XLSX, bytes of CSV."""

from __future__ import annotations

import datetime
import re
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batches.faults import Fault, FaultKind
from batches.formats import Limits, plain_number
from batches.loading import open_sheet
from workers.errors import FileUnreadable

LIMITS = Limits(rows_max=1000, bytes_max=1_000_000, cell_chars_max=200, columns_max=20)


def parquet(folder: Path, **columns: Any) -> Path:
    usual: dict[str, Any] = {"reference_id": ["P-1"], "amount": ["1"], "currency": ["EUR"]}
    path = folder / "a.parquet"
    pq.write_table(pa.table({**usual, **columns}), path)
    return path


def xlsx(folder: Path, *rows: list[Any], header: str = "reference_id,amount,currency") -> Path:
    book = openpyxl.Workbook()
    book.active.append(header.split(","))
    for row in rows:
        book.active.append(row)
    path = folder / "a.xlsx"
    book.save(path)
    return path


def read(path: Path) -> tuple[list[dict[str, str]], list[Fault], list[int]]:
    rows, faults, lines = [], [], []
    for chunk in open_sheet(path, LIMITS).chunks(2):
        rows += chunk.frame.to_dict("records")
        faults += chunk.faults
        lines += chunk.lines
    return rows, faults, lines


def edit_sheet(path: Path, old: str, new: str) -> Path:
    """Change the XML as no spreadsheet would."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = "xl/worksheets/sheet1.xml"
    assert old.encode() in parts[name]
    parts[name] = parts[name].replace(old.encode(), new.encode())
    with zipfile.ZipFile(path, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    return path


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (2500, "2500"),
        (2500.0, "2500"),
        (0.1, "0.1"),
        (1e16, "10000000000000000"),
        (1e-7, "0.0000001"),
        (1234.56, "1234.56"),
        (Decimal("12.5000"), "12.5"),
        (Decimal("1E+3"), "1000"),
        (Decimal("100"), "100"),
        (-0.5, "-0.5"),
        (np.float32(0.1), "0.1"),
        (10**20, "1" + "0" * 20),
    ],
)
def test_a_number_becomes_its_shortest_decimal(number: Any, text: str) -> None:
    assert plain_number(number) == text


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())],
)
def test_parquet_takes_every_kind_of_text(tmp_path: Path, kind: pa.DataType) -> None:
    texts = pa.array(["007", None, "007"]).cast(kind)
    path = parquet(tmp_path, reference_id=texts, amount=["1", "2", None], currency=["EUR"] * 3)
    rows, _, _ = read(path)
    assert [row["reference_id"] for row in rows] == ["007", "", "007"]
    assert [row["amount"] for row in rows] == ["1", "2", ""]


@pytest.mark.parametrize(
    ("amounts", "texts"),
    [
        (pa.array([2500, None], pa.int64()), ["2500", ""]),
        (pa.array([0.1, None], pa.float64()), ["0.1", ""]),
        (pa.array([0.1, float("nan")], pa.float32()), ["0.1", ""]),
        (pa.array([Decimal("1.50"), None], pa.decimal128(20, 4)), ["1.5", ""]),
        (pa.array([1e15, 0.5], pa.float64()), ["1000000000000000", "0.5"]),
        (pa.array([18446744073709551615, 1], pa.uint64()), ["18446744073709551615", "1"]),
    ],
)
def test_parquet_amounts_are_exact(tmp_path: Path, amounts: pa.Array, texts: list[str]) -> None:
    path = parquet(tmp_path, reference_id=["a", "b"], amount=amounts, currency=["EUR", "EUR"])
    assert [row["amount"] for row in read(path)[0]] == texts


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("reference_id", pa.array([1])),
        ("fields.iban", pa.array([1.5])),
        ("fields.iban", pa.array([b"DE89"])),
        ("metadata.day", pa.array([datetime.date(2026, 1, 31)])),
        ("amount", pa.array([True])),
        ("amount", pa.array([["1"]])),
        ("currency", pa.array([{"code": "EUR"}])),
    ],
)
def test_parquet_refuses_other_types_by_column(
    tmp_path: Path, column: str, values: pa.Array
) -> None:
    with pytest.raises(FileUnreadable, match=re.escape(f'in column "{column}"')):
        open_sheet(parquet(tmp_path, **{column: values}), LIMITS)


def test_parquet_rows_are_numbered_from_2_and_blank_ones_skipped(tmp_path: Path) -> None:
    texts = ["a", None, "c", "", "e"]
    path = parquet(tmp_path, reference_id=texts, amount=texts, currency=texts)
    assert read(path)[2] == [2, 4, 6]


def test_parquet_of_one_long_repeated_text_is_a_fault_not_a_bomb(tmp_path: Path) -> None:
    path = parquet(
        tmp_path, reference_id=["x" * 100_000] * 900, amount=["1"] * 900, currency=["EUR"] * 900
    )
    (chunk,) = open_sheet(path, LIMITS).chunks()
    assert {fault.kind for fault in chunk.faults} == {FaultKind.CELL_TOO_LONG}
    assert len(chunk.faults) == 900


def test_parquet_columns_of_our_outputs_may_have_any_type(tmp_path: Path) -> None:
    assert len(read(parquet(tmp_path, fault_line=[7]))[0]) == 1


@pytest.mark.parametrize(
    ("number", "text"), [(2500.0, "2500"), (2500, "2500"), (0.1, "0.1"), (1234567.89, "1234567.89")]
)
def test_xlsx_takes_numbers_as_amounts(tmp_path: Path, number: Any, text: str) -> None:
    rows, faults, _ = read(xlsx(tmp_path, ["P-1", number, "EUR"]))
    assert (rows[0]["amount"], faults) == (text, [])


def test_xlsx_text_stays_text(tmp_path: Path) -> None:
    rows, faults, _ = read(xlsx(tmp_path, ["007", "1.50", "EUR"]))
    assert (rows[0]["reference_id"], rows[0]["amount"], faults) == ("007", "1.50", [])


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        ("reference_id", 7, FaultKind.NUMERIC_CELL),
        ("reference_id", 1.23e15, FaultKind.NUMERIC_CELL),
        ("fields.iban", 123456789012, FaultKind.NUMERIC_CELL),
        ("customer.phone", 49123, FaultKind.NUMERIC_CELL),
        ("description", 5, FaultKind.NUMERIC_CELL),
        ("amount", "=1+1", FaultKind.FORMULA_CELL),
        ("reference_id", '=CONCAT("P",1)', FaultKind.FORMULA_CELL),
        ("fields.iban", "=A1", FaultKind.FORMULA_CELL),
        ("amount", datetime.date(2026, 1, 31), FaultKind.DATE_CELL),
        ("fields.iban", datetime.timedelta(hours=1), FaultKind.DATE_CELL),
        ("amount", datetime.time(1, 2), FaultKind.DATE_CELL),
        ("amount", True, FaultKind.BOOLEAN_CELL),
        ("reference_id", False, FaultKind.BOOLEAN_CELL),
        ("amount", "#N/A", FaultKind.ERROR_CELL),
        ("reference_id", "#REF!", FaultKind.ERROR_CELL),
    ],
)
def test_xlsx_refuses_cells_that_lost_their_text(
    tmp_path: Path, column: str, value: Any, kind: FaultKind
) -> None:
    header = ["reference_id", "amount", "currency", "fields.iban", "customer.phone", "description"]
    row: dict[str, Any] = dict(zip(header, ["P-1", "1", "EUR", "", "", ""], strict=True))
    row[column] = value
    _, faults, _ = read(xlsx(tmp_path, list(row.values()), header=",".join(header)))
    assert [(fault.line, fault.column, fault.kind) for fault in faults] == [(2, column, kind)]
    assert "123456789012" not in str(faults)


def test_xlsx_keeps_row_numbers_over_gaps(tmp_path: Path) -> None:
    path = xlsx(tmp_path, ["P-1", "1", "EUR"], [], [None, None, None], ["P-4", "1", "EUR"])
    assert read(path)[2] == [2, 5]


def test_xlsx_cells_beyond_the_header_are_a_fault(tmp_path: Path) -> None:
    _, faults, _ = read(xlsx(tmp_path, ["P-1", "1", "EUR", None, "stray"]))
    assert [(f.line, f.kind) for f in faults] == [(2, FaultKind.RAGGED_ROW)]


def test_xlsx_rows_beyond_the_claimed_size_are_read(tmp_path: Path) -> None:
    path = xlsx(tmp_path, *(["P-1", "1", "EUR"] for _ in range(4)))
    assert len(read(edit_sheet(path, 'ref="A1:C5"', 'ref="A1:B2"'))[0]) == 4


@pytest.mark.parametrize(
    ("old", "new"),
    [('<row r="3"', '<row r="2"'), ('r="B3"', 'r="A3"'), ('<row r="3"', '<row r="9999999"')],
)
def test_xlsx_with_rows_or_cells_twice_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = edit_sheet(xlsx(tmp_path, ["P-1", "1", "EUR"], ["P-2", "1", "EUR"]), old, new)
    with pytest.raises(FileUnreadable, match="damaged"):
        list(open_sheet(path, LIMITS).chunks())


def test_xlsx_stored_control_characters_are_seen(tmp_path: Path) -> None:
    rows, _, _ = read(xlsx(tmp_path, ["P_x0007_1", "1", "EUR"]))
    assert rows[0]["reference_id"] == "P\x071"


def test_xlsx_first_visible_sheet_is_taken(tmp_path: Path) -> None:
    path = xlsx(tmp_path, ["P-1", "1", "EUR"])
    book = openpyxl.load_workbook(path)
    book.create_sheet("old", 0).sheet_state = "hidden"
    book.create_sheet("last")
    book.active = 1
    book.save(path)
    assert len(read(path)[0]) == 1


def test_warnings_of_the_parser_are_silent_and_filters_are_left_alone(tmp_path: Path) -> None:
    path = xlsx(tmp_path, ["P-1", "1", "EUR"])
    extension = '<extLst><ext uri="{X}"/></extLst></worksheet>'
    assert len(read(edit_sheet(path, "</worksheet>", extension))[0]) == 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found_whatever_the_cells_have(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "a.csv"
    cells = [["reference_id", "amount", "currency", "description"], ["P", "1", "EUR", '"a,b;c\td"']]
    path.write_text("\n".join(delimiter.join(row) for row in cells))
    assert read(path)[0][0]["description"] == "a,b;c\td"


@pytest.mark.parametrize(
    ("body", "line"),
    [('P,1,EUR\n"P,1,EUR\nQ,1,EUR\n', 3), ('P,1,"E\nU"\nQ,1,"EUR\n', 4), ('P,"a\nb","c\n', 3)],
)
def test_an_unclosed_quote_is_named_by_its_line(tmp_path: Path, body: str, line: int) -> None:
    path = tmp_path / "a.csv"
    path.write_text("reference_id,amount,currency\n" + body)
    with pytest.raises(FileUnreadable, match=f"in line {line} that is never closed"):
        list(open_sheet(path, LIMITS).chunks())


def test_bytes_that_are_not_utf8_are_named_by_line_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b"reference_id,amount,currency\r\n" + b"P,1,EUR\r\n" * 4 + b"Z\xfcrich,1,EUR\r\n"
    )
    with pytest.raises(FileUnreadable, match=r"line 6 \(byte 0xFC\).*Windows-1252.*UTF-8"):
        list(open_sheet(path, LIMITS).chunks())
