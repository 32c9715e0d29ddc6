"""CSV files as they really arrive: taken, faulty in a row, or refused with the reason."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from batches.faults import FaultKind
from tests.batches.awkward import OK, ROW, H, agrees, lines, verdict

HN = H + ",fields.name,description"

ENCODINGS: list[tuple[str, str | bytes, str]] = [
    ("utf-8 with BOM", b"\xef\xbb\xbf" + lines(ROW).encode(), OK),
    ("utf-16 of Excel", lines(ROW).encode("utf-16"), "is UTF-16"),
    ("utf-16 big endian with BOM", b"\xfe\xff" + lines(ROW).encode("utf-16-be"), "is UTF-16"),
    ("utf-16 without BOM", lines(ROW).encode("utf-16-le"), "NUL"),
    ("utf-32", lines(ROW).encode("utf-32"), "is UTF-16"),
    ("windows-1252", lines(ROW + "é").encode("cp1252"), "line 2 (byte 0xE9)"),
    ("windows-1252 quotes", lines(ROW, "P-2,1,EUR,\u201cx\u201d").encode("cp1252"), "line 3 (byte"),
    ("latin-1 in the header", (H + ",Löhne\n" + ROW + ",\n").encode("latin-1"), "line 1 (byte"),
    ("shift-jis", lines(ROW, "P-2,1,EUR,日本").encode("shift-jis"), "not UTF-8 in line 3"),
    ("cut within a character", lines(ROW).encode() + b"P-2,1,EUR,\xc3", "not UTF-8 in line 3"),
    ("a surrogate in UTF-8", lines(ROW).encode() + b"P-2,1,EUR,\xed\xa0\x80", "not UTF-8"),
    ("an overlong character", lines(ROW).encode() + b"P\xc0\xaf,1,EUR,DE89", "not UTF-8"),
    ("a NUL in a cell", lines("P\0,1,EUR,DE89"), "NUL"),
    ("a second BOM", b"\xef\xbb\xbf" * 2 + lines(ROW).encode(), "write reference_id"),
    ("gzip by another name", gzip.compress(lines(ROW).encode(), mtime=0), "NUL"),
    ("an xlsx by another name", b"PK\x03\x04" + b"\0" * 100, "NUL"),
    ("JSON", '[{"reference_id": "P-1"}]\n', "unknown columns"),
    ("HTML of a web page", "<html>\n<table>\n", "no header in line 1"),
]
SHAPES: list[tuple[str, str | bytes, str]] = [
    ("CRLF", lines(ROW, newline="\r\n"), OK),
    ("lone CR", lines(ROW, "P-2,1,EUR,DE89", newline="\r"), OK),
    (
        "every kind of newline",
        f"{H}\r\n{ROW}\rP-2,1,EUR,DE89\nP-3,x,EUR,DE89",
        "4 amount not_plain_decimal",
    ),
    ("no newline at the end", lines(ROW).rstrip(), OK),
    ("blank lines", lines("", ROW, "", "   ", ",,,"), OK),
    ("a line of quotes only", lines(ROW, '"","","",""'), OK),
    ("blank first line", "\n" + lines(ROW), "no header in line 1"),
    ("semicolons", lines(ROW).replace(",", ";"), OK),
    ("tabs", lines(ROW).replace(",", "\t"), OK),
    ("semicolons below commas", H + "\n" + ROW.replace(",", ";"), "2  ragged_row"),
    (
        "quoted header",
        '"reference_id";"amount";"currency";"fields.iban"\n"P-1";"1";"EUR";"DE89"',
        OK,
    ),
    ("bars", lines(ROW).replace(",", "|"), "no header in line 1"),
    ("sep= of Excel", "sep=;\n" + lines(ROW).replace(",", ";"), "no header in line 1"),
    ("a title above the header", "Salaries,,,\n" + lines(ROW), "no header in line 1"),
    ("the header in capitals", lines(ROW).replace(H, H.upper()), "write reference_id"),
    ("a blank in the header", lines(ROW).replace("amount", "amount "), '"amount " (write amount)'),
    (
        "a look-alike letter in the header",
        lines(ROW).replace("amount", "am\u043eunt"),
        "write amount",
    ),
    ("a column twice", lines(ROW + ",EUR").replace(H, H + ",currency"), '"currency" twice'),
    ("a delimiter after the header", lines(ROW + ",").replace(H, H + ","), "no name for column 5"),
    ("a delimiter after a row", lines(ROW + ","), "2  ragged_row"),
    ("a decimal comma splits the amount", lines("P-1,10,00,EUR,DE89"), "2  ragged_row"),
    ("a missing cell", lines("P-1,10.00,EUR"), "2  ragged_row"),
    ("a comment", lines("# May", ROW), "2  ragged_row"),
    ("two files in one", lines(ROW, H), "3 amount not_plain_decimal, 3 currency currency_unknown"),
    ("an unclosed quote", lines(ROW, '"P-2,1,EUR,DE89', ROW), "line 3 that is never closed"),
    ("text after a quote", lines('"P"-1,1,EUR,DE89'), "wrong place in line 2"),
    ("a backslash before a quote", lines('"P\\"1",1,EUR,DE89'), "wrong place in line 2"),
    ("a quote within a cell", lines('P"1,1,EUR,DE89'), "2 reference_id reference_character"),
    ("a newline in a reference", lines('"P\n1",1,EUR,DE89'), "2 reference_id control_character"),
    (
        "newlines and delimiters in quotes",
        f'{HN}\n{ROW},,"a\r\nb, ""c"""\nP-2,x,EUR,DE89,,\n',
        "4 amount not_plain_decimal",
    ),
    ("the same row twice", lines(ROW, ROW), "3 reference_id duplicate_reference"),
    ("a total row", lines(ROW, "Total,10.00,,"), "3 currency required"),
]
AMOUNTS: dict[str, str] = {
    "1.234,56": "not_plain_decimal",
    "1,234.56": "not_plain_decimal",
    "1 234.56": "not_plain_decimal",
    "1\u00a0234.56": "not_plain_decimal",
    "1\u202f234.56": "not_plain_decimal",
    "1'234.56": "not_plain_decimal",
    "10,00": "not_plain_decimal",
    "€10": "not_plain_decimal",
    "10 EUR": "not_plain_decimal",
    "10%": "not_plain_decimal",
    "(10.00)": "not_plain_decimal",
    "-10.00": "not_plain_decimal",
    "+10.00": "not_plain_decimal",
    "10.00-": "not_plain_decimal",
    ".50": "not_plain_decimal",
    "10.": "not_plain_decimal",
    "010.00": "not_plain_decimal",
    " 10.00": "not_plain_decimal",
    "0x10": "not_plain_decimal",
    "NaN": "not_plain_decimal",
    "NULL": "not_plain_decimal",
    "=1+1": "not_plain_decimal",
    "2026-01-31": "not_plain_decimal",
    "31.01.2026": "not_plain_decimal",
    "\uff11\uff10": "not_plain_decimal",
    "\u0661\u0660": "not_plain_decimal",
    "\u2212" + "10": "not_plain_decimal",
    "1E+3": "scientific_notation",
    "1,5E+03": "scientific_notation",
    "1E3": "not_plain_decimal",
    "10.001": "too_many_decimals",
    "10.000": "too_many_decimals",
    "12345678901234567": "amount_too_large",
    "0": "amount_zero",
    "0.00": "amount_zero",
    "": "required",
    "10\u200b": "control_character",
    "\u202d10.00\u202c": "control_character",
}
CELLS: list[tuple[str, str, str]] = [
    ("1.23E+15", "reference_id", "scientific_notation"),
    ("1.23E+15", "fields.iban", "scientific_notation"),
    ("1,23E+15", "fields.iban", "scientific_notation"),
    ("#N/A", "fields.iban", "error_cell"),
    ("#NAME?", "reference_id", "error_cell"),
    ("P-1 ", "reference_id", "blank_at_edge"),
    ("\u00a0DE89", "fields.iban", "blank_at_edge"),
    ("\u3000Some Name", "fields.name", "blank_at_edge"),
    ("DE\u200b89", "fields.iban", "control_character"),
    ("DE\u00ad89", "fields.iban", "control_character"),
    ("\u202aDE89\u202c", "fields.iban", "control_character"),
    ("Some\u202eeoR", "fields.name", "control_character"),
    ("Some\u200fRoe", "fields.name", "control_character"),
    ("Some\U000e0041Roe", "fields.name", "control_character"),
    ("Some\x07", "fields.name", "control_character"),
    ("Some\x85Roe", "fields.name", "control_character"),
    ("P\t1", "reference_id", "control_character"),
    ("\u0420-1", "reference_id", "reference_character"),
    ("P-1\u2013", "reference_id", "reference_character"),
    ("P" * 36, "reference_id", "reference_too_long"),
    ("D" * 101, "fields.iban", "cell_too_long"),
    ("\u201cDE89\u201d", "fields.iban", "pattern_mismatch"),
    ("\u0414E89", "fields.iban", "pattern_mismatch"),
    ("DE89 3704", "fields.iban", "pattern_mismatch"),
    ("'=SUM(A1)", "fields.iban", "pattern_mismatch"),
    ("eur", "currency", "currency_unknown"),
    ("\u0415UR", "currency", "currency_unknown"),
    ("EURO", "currency", "currency_unknown"),
    ("€", "currency", "currency_unknown"),
    ("نیما\u200cی", "fields.name", OK),
    ("Caf\u00e9 d\u2019\u00c9t\u00e9 \U0001f9d1\u200d\U0001f33e", "fields.name", OK),
]
LIMITED: list[tuple[str, str | bytes, str]] = [
    ("header only", H + "\n", "no rows"),
    ("header and blank lines", H + "\n\n,,,\n", "no rows"),
    ("nothing", "", "is empty"),
    ("only a BOM", b"\xef\xbb\xbf", "no header"),
    ("only newlines", "\n\n\n", "no header"),
    ("51 rows", lines(*(f"P-{n},1,EUR,DE89" for n in range(51))), "rows_max"),
    ("50 rows", lines(*(f"P-{n},1,EUR,DE89" for n in range(50))), OK),
    ("11 columns", H + "".join(f",metadata.m{n}" for n in range(7)) + "\n", "columns_max"),
    ("100,001 bytes", lines(ROW) + "\n" * 100_001, "bytes_max"),
    ("a line without end", H + "x" * 50_000, "line that is too long"),
]


@pytest.mark.parametrize(
    ("content", "expected"),
    [case[1:] for case in (*ENCODINGS, *SHAPES, *LIMITED)],
    ids=[case[0] for case in (*ENCODINGS, *SHAPES, *LIMITED)],
)
def test_awkward_csv(tmp_path: Path, content: str | bytes, expected: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = verdict(path)
    assert agrees(found, expected), found


@pytest.mark.parametrize(("amount", "kind"), AMOUNTS.items(), ids=ascii)
def test_awkward_amounts(tmp_path: Path, amount: str, kind: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(lines(ROW, f'P-2,"{amount}",EUR,DE89'), encoding="utf-8")
    assert verdict(path) == f"3 amount {kind}"


@pytest.mark.parametrize(("cell", "column", "kind"), CELLS, ids=ascii)
def test_awkward_cells(tmp_path: Path, cell: str, column: str, kind: str) -> None:
    row = dict.fromkeys(HN.split(","), "")
    row |= dict(zip(H.split(","), ("P-2", "1", "EUR", "DE89"), strict=True)) | {column: cell}
    path = tmp_path / "a.csv"
    content = f"{HN}\n{ROW},,\n" + ",".join(f'"{each}"' for each in row.values()) + "\n"
    path.write_text(content, encoding="utf-8")
    assert verdict(path).split(", ")[0] == (OK if kind == OK else f"3 {column} {kind}")


def test_decimals_are_those_of_the_currency(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(lines("P-1,100.00,JPY,DE89", "P-2,1.234,KWD,DE89", "P-3,1.2345,KWD,DE89"))
    assert verdict(path) == "2 amount too_many_decimals, 4 amount too_many_decimals"


def test_there_are_as_many_awkward_files_as_were_promised() -> None:
    assert len(ENCODINGS) + len(SHAPES) + len(LIMITED) + len(AMOUNTS) + len(CELLS) >= 60
    assert set(AMOUNTS.values()) <= {kind.value for kind in FaultKind}
