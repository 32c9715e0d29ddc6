"""XLSX files as they really arrive: taken, faulty in a row, or refused with the reason."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont

from tests.batches.awkward import (
    OK,
    ROW,
    H,
    agrees,
    lines,
    rewritten,
    saved,
    table,
    verdict,
    with_part,
    workbook,
)

CELLS = ROW.split(",")
DAY = datetime.date(2026, 1, 31)


def laughing() -> bytes:
    """A sheet whose entities would unpack to 10^9 characters."""
    entities = '<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)
    )
    return rewritten(
        (b"<worksheet", f"<!DOCTYPE x [{entities}]><worksheet".encode()),
        (b"<t>P-1</t>", b"<t>&a9;</t>"),
    )


def sheets(*states: str) -> bytes:
    """Sheets in these states; the last has the good row, the others have a title."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for state in states:
        sheet = book.create_sheet()
        sheet.sheet_state = state
        sheet.append(["Salaries"])
    sheet.delete_rows(1)
    for row in (H.split(","), CELLS):
        sheet.append(row)
    book.active = len(states) - 1
    return saved(book)


def merged(area: str) -> bytes:
    book = openpyxl.Workbook()
    for row in (H.split(","), CELLS, ["P-2", "1", "EUR", "DE89"]):
        book.active.append(row)
    book.active.merge_cells(area)
    return saved(book)


def hidden_row(number: int) -> bytes:
    book = openpyxl.Workbook()
    for row in (H.split(","), CELLS, [], ["P-2", "1", "EUR", "DE89"]):
        book.active.append(row)
    book.active.row_dimensions[number].hidden = True
    return saved(book)


def rich() -> bytes:
    book = openpyxl.Workbook()
    book.active.append(H.split(","))
    book.active.append(CELLS)
    book.active["A2"] = CellRichText("P", TextBlock(InlineFont(b=True), "-1"))
    return saved(book)


TOTAL = "3 reference_id required, 3 amount formula_cell, 3 currency required"
CASES: list[tuple[str, Callable[[], bytes], str]] = [
    ("text", lambda: workbook(CELLS), OK),
    ("text in several fonts", rich, OK),
    ("a numeric amount", lambda: workbook(["P-1", 10.5, "EUR", "DE89"]), OK),
    (
        "an amount with a tail",
        lambda: workbook(["P-1", 10.123, "EUR", "DE89"]),
        "2 amount too_many_decimals",
    ),
    (
        "an amount below zero",
        lambda: workbook(["P-1", -1, "EUR", "DE89"]),
        "2 amount not_plain_decimal",
    ),
    ("an amount of a million million", lambda: workbook(["P-1", 1e12, "EUR", "DE89"]), OK),
    (
        "a decimal comma in text",
        lambda: workbook(["P-1", "1.234,56", "EUR", "DE89"]),
        "2 amount not_plain_decimal",
    ),
    (
        "a no-break space",
        lambda: workbook(["P-1", "1\u00a0234", "EUR", "DE89"]),
        "2 amount not_plain_decimal",
    ),
    ("a numeric reference", lambda: workbook([7, 1, "EUR", "DE89"]), "2 reference_id numeric_cell"),
    (
        "a numeric account",
        lambda: workbook(["P", 1, "EUR", 4111111111111111]),
        "2 fields.iban numeric_cell",
    ),
    ("a date as reference", lambda: workbook([DAY, 1, "EUR", "DE89"]), "2 reference_id date_cell"),
    ("a date as amount", lambda: workbook(["P-1", DAY, "EUR", "DE89"]), "2 amount date_cell"),
    (
        "a time as account",
        lambda: workbook(["P-1", 1, "EUR", datetime.time(8, 9)]),
        "2 fields.iban date_cell",
    ),
    ("true as amount", lambda: workbook(["P-1", True, "EUR", "DE89"]), "2 amount boolean_cell"),
    ("a formula", lambda: workbook(["P-1", "=2*5", "EUR", "DE89"]), "2 amount formula_cell"),
    (
        "a formula as reference",
        lambda: workbook(["=A1", 1, "EUR", "DE89"]),
        "2 reference_id formula_cell",
    ),
    (
        "a spreadsheet error",
        lambda: workbook(["P-1", 1, "EUR", "#REF!"]),
        "2 fields.iban error_cell",
    ),
    ("a total row", lambda: workbook(CELLS, ["", "=SUM(B2:B2)"]), TOTAL),
    ("a note beside the table", lambda: workbook([*CELLS, None, "check"]), "2  ragged_row"),
    ("blank rows between", lambda: workbook(CELLS, [], ["P-2", 1, "EUR", "DE89"]), OK),
    ("a hidden row", lambda: hidden_row(4), "4  hidden_row"),
    ("a hidden blank row", lambda: hidden_row(3), OK),
    ("a hidden header", lambda: hidden_row(1), OK),
    ("merged rows", lambda: merged("A2:A3"), "3 reference_id required"),
    ("a merged header", lambda: merged("A1:B1"), "no name for column 2"),
    ("a hidden sheet first", lambda: sheets("hidden", "visible"), OK),
    ("a very hidden sheet first", lambda: sheets("veryHidden", "visible"), OK),
    ("another sheet first", lambda: sheets("visible", "visible"), "no header"),
    ("header only", workbook, "no rows"),
    ("an empty sheet", lambda: workbook(header=""), "no header"),
    ("a title above the header", lambda: workbook(H.split(","), header="Salaries"), "no header"),
    (
        "a blank row above the header",
        lambda: rewritten((b'<row r="1"', b'<row r="1"/><row r="1"')),
        "no header in row 1",
    ),
    ("another case", lambda: workbook(CELLS, header=H.upper()), "write reference_id"),
    ("too many rows", lambda: workbook(*[CELLS] * 51), "rows_max"),
    ("encrypted or an old .xls", lambda: b"\xd0\xcf\x11\xe0" + b"\0" * 600, "without a password"),
    ("cut short", lambda: workbook(CELLS)[:-50], "damaged"),
    ("CSV by another name", lambda: lines(ROW).encode(), "cannot be read as .xlsx"),
    ("Parquet by another name", table, "cannot be read as .xlsx"),
    ("an empty zip", lambda: b"PK\x05\x06" + b"\0" * 18, "cannot be read as .xlsx"),
    (
        "no sheet in the book",
        lambda: rewritten((b"<sheets>", b"<sheets/><x>"), part="xl/workbook.xml"),
        "cannot be read",
    ),
    ("a zip bomb", lambda: with_part("xl/media/a", b"\0" * 200_000), "when unpacked"),
    ("a bomb of a sheet", lambda: with_part("xl/worksheets/b", b"\0" * 500_000), "when unpacked"),
    ("a billion laughs", laughing, "damaged"),
]


@pytest.mark.parametrize(
    ("make", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_awkward_xlsx(tmp_path: Path, make: Callable[[], bytes], expected: str) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(make())
    found = verdict(path)
    assert agrees(found, expected), found
