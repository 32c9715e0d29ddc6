"""Files as they really arrive, and what becomes of each: taken, faulty in a row, or refused."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batches.checks import AccountRules, RowChecker
from batches.faults import FaultKind
from batches.loading import Limits, open_sheet
from workers.errors import FileUnreadable
from workers.providers.port import Capabilities, FieldRule, Service
from workers.record.money import Currency

LIMITS = Limits(rows_max=50, bytes_max=100_000, cell_chars_max=100, columns_max=10)
H = "reference_id,amount,currency,fields.iban"
ROW = "P-1,10.00,EUR,DE89"
OK = "ok"


def account() -> AccountRules:
    rule = FieldRule(name="iban", required=True, pattern="[A-Z0-9]{4,34}")
    capabilities = Capabilities(
        reference_id_chars_max=35,
        reference_id_char=r"[A-Za-z0-9+._-]",
        two_step=True,
        refuses_duplicates=True,
        look_up=True,
        balances=True,
        services=True,
        webhooks=True,
        list_payouts=True,
        absence_conclusive_after_s=600,
        customer_reference=True,
    )

    def services(currency: Currency) -> list[Service]:
        return [
            Service(code="bank", currency=currency, beneficiary_currency=currency, fields=(rule,))
        ]

    return AccountRules(name="main", capabilities=capabilities, service=None, services=services)


def verdict(path: Path) -> str:
    """`ok`, the kinds of the faults, or the sentence of the refusal."""
    checker = RowChecker({"main": account()}, usual_account="main")
    kinds: list[str] = []
    try:
        for chunk in open_sheet(path, LIMITS).chunks():
            kinds += [fault.kind for fault in checker.check(chunk)[1]]
    except FileUnreadable as error:
        return str(error)
    return " ".join(kinds) or OK


def lines(*rows: str, newline: str = "\n") -> str:
    return newline.join((H, *rows)) + newline


CSV: list[tuple[str, str | bytes, str]] = [
    # Encodings
    ("utf-8 with BOM", b"\xef\xbb\xbf" + lines(ROW).encode(), OK),
    ("utf-16 of Excel", lines(ROW).encode("utf-16"), "is UTF-16"),
    ("utf-16 big endian with BOM", b"\xfe\xff" + lines(ROW).encode("utf-16-be"), "is UTF-16"),
    ("utf-16 without BOM", lines(ROW).encode("utf-16-le"), "NUL"),
    ("windows-1252", lines(ROW + "é").encode("cp1252"), "line 2 (byte 0xE9)"),
    ("cut within a character", lines(ROW).encode() + b"P-2,1,EUR,\xc3", "not UTF-8 in line 3"),
    ("a NUL in a cell", lines("P\0,1,EUR,DE89"), "NUL"),
    ("a second BOM", b"\xef\xbb\xbf" * 2 + lines(ROW).encode(), "write reference_id"),
    # Line ends
    ("CRLF", lines(ROW, newline="\r\n"), OK),
    ("lone CR", lines(ROW, "P-2,1,EUR,DE89", newline="\r"), OK),
    ("no newline at the end", lines(ROW).rstrip(), OK),
    ("blank lines", lines("", ROW, "", "   ", ",,,"), OK),
    ("blank first line", "\n" + lines(ROW), "no header in line 1"),
    # Delimiters and quotes
    ("semicolons", lines(ROW).replace(",", ";"), OK),
    ("tabs", lines(ROW).replace(",", "\t"), OK),
    (
        "quoted header",
        '"reference_id";"amount";"currency";"fields.iban"\n"P-1";"1";"EUR";"DE89"',
        OK,
    ),
    ("bars", lines(ROW).replace(",", "|"), "no header in line 1"),
    ("sep= of Excel", "sep=;\n" + lines(ROW).replace(",", ";"), "no header in line 1"),
    ("a decimal comma splits the amount", lines("P-1,10,00,EUR,DE89"), "ragged_row"),
    ("a missing cell", lines("P-1,10.00,EUR"), "ragged_row"),
    ("an unclosed quote", lines(ROW, '"P-2,1,EUR,DE89', ROW), "line 3 that is never closed"),
    ("text after a quote", lines('"P"-1,1,EUR,DE89'), "wrong place in line 2"),
    ("a quote within a cell", lines('P"1,1,EUR,DE89'), "reference_character"),
    ("a newline in a reference", lines('"P\n1",1,EUR,DE89'), "control_character"),
    # Spreadsheet damage
    ("1.23E+15 as reference", lines("1.23E+15,1,EUR,DE89"), "scientific_notation"),
    ("1.23E+15 as account number", lines("P-1,1,EUR,1.23E+15"), "scientific_notation"),
    ("1,23E+15 of a German Excel", lines('P-1,1,EUR,"1,23E+15"'), "scientific_notation"),
    ("1E+3 as amount", lines("P-1,1E+3,EUR,DE89"), "scientific_notation"),
    ("#N/A as account number", lines("P-1,1,EUR,#N/A"), "error_cell"),
    ("a trailing blank", lines("P-1 ,1,EUR,DE89"), "blank_at_edge"),
    ("a no-break space", lines("P-1,1,EUR,\u00a0DE89"), "blank_at_edge"),
    ("a zero-width space", lines("P-1,1,EUR,DE\u200b89"), "control_character"),
    ("direction marks", lines("P-1,1,EUR,\u202aDE89\u202c"), "control_character"),
    ("thousands separators", lines('P-1,"1,000.00",EUR,DE89'), "not_plain_decimal"),
    ("a currency sign", lines("P-1,€10,EUR,DE89"), "not_plain_decimal"),
    ("full-width digits", lines("P-1,\uff11\uff10,EUR,DE89"), "not_plain_decimal"),
    ("leading zeros", lines("P-1,010.00,EUR,DE89"), "not_plain_decimal"),
    ("decimals of a yen", lines("P-1,100.00,JPY,DE89"), "too_many_decimals"),
    ("lower-case currency", lines("P-1,1,eur,DE89"), "currency_unknown"),
    ("the same row twice", lines(ROW, ROW), "duplicate_reference"),
    ("a total row", lines(ROW, "Total,10.00,,"), "required"),
    ("a guarded formula of our own export", lines("P-1,1,EUR,'=SUM(A1)"), "pattern_mismatch"),
    # Limits
    ("header only", H + "\n", "no rows"),
    ("header and blank lines", H + "\n\n,,,\n", "no rows"),
    ("nothing", "", "is empty"),
    ("only a BOM", b"\xef\xbb\xbf", "no header"),
    ("51 rows", lines(*(f"P-{n},1,EUR,DE89" for n in range(51))), "rows_max"),
    ("50 rows", lines(*(f"P-{n},1,EUR,DE89" for n in range(50))), OK),
    ("11 columns", H + "".join(f",metadata.m{n}" for n in range(7)) + "\n", "columns_max"),
    ("a long cell", lines("P-1,1,EUR," + "D" * 101), "cell_too_long"),
    ("100,001 bytes", lines(ROW) + "\n" * 100_001, "bytes_max"),
    ("a line without end", H + "x" * 50_000, "line that is too long"),
    ("an xlsx by another name", b"PK\x03\x04" + b"\0" * 100, "NUL"),
    ("JSON", '[{"reference_id": "P-1"}]\n', "unknown columns"),
]


@pytest.mark.parametrize(
    ("content", "expected"), [case[1:] for case in CSV], ids=[case[0] for case in CSV]
)
def test_awkward_csv(tmp_path: Path, content: str | bytes, expected: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert expected in verdict(path)


def table(**columns: Any) -> bytes:
    usual: dict[str, Any] = {
        "reference_id": ["P-1"],
        "amount": ["1"],
        "currency": ["EUR"],
        "fields.iban": ["DE89"],
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table({**usual, **columns}), buffer)
    return buffer.getvalue()


def twice() -> bytes:
    names = ["reference_id", "amount", "currency", "currency"]
    buffer = io.BytesIO()
    pq.write_table(pa.table([pa.array(["x"])] * 4, names=names), buffer)
    return buffer.getvalue()


def unpacking(count: int) -> bytes:
    """Distinct texts that compress to next to nothing."""
    texts = [f"{n:02000}" for n in range(count)]
    columns = dict.fromkeys(("reference_id", "amount", "currency"), texts)
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd", use_dictionary=False)
    return buffer.getvalue()


PARQUET: list[tuple[str, Callable[[], bytes], str]] = [
    ("text", table, OK),
    ("exact decimals", lambda: table(amount=[Decimal("10.5000")]), OK),
    ("floats", lambda: table(amount=[10.1]), OK),
    ("a float with a tail", lambda: table(amount=[0.1 + 0.2]), "too_many_decimals"),
    ("NaN", lambda: table(amount=[float("nan")]), "required"),
    ("infinity", lambda: table(amount=[float("inf")]), "not_plain_decimal"),
    ("negative whole numbers", lambda: table(amount=[-5]), "not_plain_decimal"),
    ("numeric references", lambda: table(reference_id=[7]), "has int64 in column"),
    ("binary account numbers", lambda: table(**{"fields.iban": [b"x"]}), "has binary in column"),
    ("a column without values", lambda: table(**{"fields.iban": [None]}), "required"),
    ("another column", lambda: table(note=["x"]), "unknown columns"),
    ("the same column twice", twice, "twice"),
    ("no rows", lambda: table(**{n: pa.array([], pa.string()) for n in H.split(",")}), "no rows"),
    ("too many rows", lambda: unpacking(51), "rows_max"),
    ("cut short", lambda: table()[:-20], "damaged"),
    ("an encrypted footer", lambda: table()[:-4] + b"PARE", "encrypted"),
    ("CSV by another name", lambda: lines(ROW).encode(), "cannot be read as .parquet"),
]


@pytest.mark.parametrize(
    ("make", "expected"), [case[1:] for case in PARQUET], ids=[case[0] for case in PARQUET]
)
def test_awkward_parquet(tmp_path: Path, make: Callable[[], bytes], expected: str) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(make())
    assert expected in verdict(path)


def test_a_parquet_that_unpacks_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(unpacking(300))
    limits = Limits(rows_max=10_000, bytes_max=250_000, cell_chars_max=300, columns_max=10)
    assert path.stat().st_size < 250_000
    with pytest.raises(FileUnreadable, match="when unpacked, over the limit bytes_max"):
        open_sheet(path, limits)


def workbook(*rows: list[Any], header: str = H) -> bytes:
    book = openpyxl.Workbook()
    for row in (header.split(","), *rows):
        book.active.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def with_part(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO(workbook(ROW.split(",")))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def laughing() -> bytes:
    """A sheet whose entities would unpack to 10^9 characters."""
    entities = '<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)
    )
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(workbook(ROW.split(",")))) as old,
        zipfile.ZipFile(buffer, "w") as new,
    ):
        for name in old.namelist():
            content = old.read(name)
            if name == "xl/worksheets/sheet1.xml":
                content = b"<!DOCTYPE x [" + entities.encode() + b"]>" + content
                content = content.replace(b"<t>P-1</t>", b"<t>&a9;</t>", 1)
            new.writestr(name, content)
    return buffer.getvalue()


XLSX: list[tuple[str, Callable[[], bytes], str]] = [
    ("text", lambda: workbook(ROW.split(",")), OK),
    ("a numeric amount", lambda: workbook(["P-1", 10.5, "EUR", "DE89"]), OK),
    ("an amount with a tail", lambda: workbook(["P-1", 10.123, "EUR", "DE89"]), "many_decimals"),
    ("a numeric reference", lambda: workbook([7, 1, "EUR", "DE89"]), "numeric_cell"),
    ("a numeric account", lambda: workbook(["P", 1, "EUR", 4111111111111111]), "numeric_cell"),
    ("a formula", lambda: workbook(["P-1", "=2*5", "EUR", "DE89"]), "formula_cell"),
    ("a spreadsheet error", lambda: workbook(["P-1", 1, "EUR", "#REF!"]), "error_cell"),
    ("a total row", lambda: workbook(ROW.split(","), ["", "=SUM(B2:B2)"]), "formula_cell"),
    ("blank rows between", lambda: workbook(ROW.split(","), [], ["P-2", 1, "EUR", "DE89"]), OK),
    ("header only", workbook, "no rows"),
    ("an empty sheet", lambda: workbook(header=""), "no header"),
    ("a title above the header", lambda: workbook(H.split(","), header="Salaries"), "no header"),
    ("another case", lambda: workbook(ROW.split(","), header=H.upper()), "write reference_id"),
    ("too many rows", lambda: workbook(*[ROW.split(",")] * 51), "rows_max"),
    ("encrypted", lambda: b"\xd0\xcf\x11\xe0" + b"\0" * 600, "without a password"),
    ("cut short", lambda: workbook(ROW.split(","))[:-50], "damaged"),
    ("CSV by another name", lambda: lines(ROW).encode(), "cannot be read as .xlsx"),
    ("another zip", lambda: table()[:0] + with_part("x", b"x")[-22:], "cannot be read as .xlsx"),
    ("a zip bomb", lambda: with_part("xl/media/a", b"\0" * 200_000), "when unpacked"),
    ("a bomb of a sheet", lambda: with_part("xl/worksheets/b", b"\0" * 500_000), "when unpacked"),
    ("a billion laughs", laughing, "damaged"),
]


@pytest.mark.parametrize(
    ("make", "expected"), [case[1:] for case in XLSX], ids=[case[0] for case in XLSX]
)
def test_awkward_xlsx(tmp_path: Path, make: Callable[[], bytes], expected: str) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(make())
    assert expected in verdict(path)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.xls", "save it as .xlsx"),
        ("a.xlsm", "save it as .xlsx"),
        ("a.txt", "save it as CSV"),
        ("a", "save it as CSV"),
        ("a.csv.gz", "save it as CSV"),
    ],
)
def test_other_suffixes_are_refused_with_the_way_out(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / name).write_text(lines(ROW))
    assert told in verdict(tmp_path / name)


def test_a_suffix_in_capitals_is_taken(tmp_path: Path) -> None:
    (tmp_path / "A.CSV").write_text(lines(ROW))
    assert verdict(tmp_path / "A.CSV") == OK


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".xlsx"])
def test_a_damaged_file_gives_a_verdict(tmp_path: Path, suffix: str) -> None:
    whole = {
        ".csv": lines(ROW, 'P-2,"1",EUR,DE89').encode(),
        ".parquet": table(),
        ".xlsx": workbook(ROW.split(",")),
    }[suffix]

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(at=st.integers(0, len(whole) - 1), new=st.binary(max_size=4), cut=st.integers(0, 4))
    def check(at: int, new: bytes, cut: int) -> None:
        path = tmp_path / f"a{suffix}"
        path.write_bytes(whole[:at] + new + whole[at + cut :])
        assert verdict(path)

    check()


def test_the_kinds_of_this_page_exist() -> None:
    kinds = {kind.value for kind in FaultKind}
    told = {expected for _, _, expected in CSV if "_" in expected and not expected.endswith("max")}
    assert {word for word in told if " " not in word} <= kinds
