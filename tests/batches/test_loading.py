"""Header, mapping, limits, line numbers, and that no bytes at all can break the loader."""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batches.faults import FaultKind
from batches.loading import GUARDED, Chunk, Limits, open_sheet
from workers.errors import FileUnreadable, UsageError
from workers.settings import Settings

LIMITS = Limits(rows_max=1000, bytes_max=1_000_000, cell_chars_max=200, columns_max=20)
HEADER = "reference_id,amount,currency"
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
survives = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write(folder: Path, text: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def rows_of(path: Path, limits: Limits = LIMITS, **options: Any) -> list[dict[str, str]]:
    return [
        {str(name): cell for name, cell in row.items()}
        for chunk in open_sheet(path, limits, **options).chunks()
        for row in chunk.frame.to_dict("records")
    ]


def lines_of(path: Path, rows: int = 2) -> list[int]:
    return [line for chunk in open_sheet(path, LIMITS).chunks(rows) for line in chunk.lines]


def refusal(path: Path, limits: Limits = LIMITS, **options: Any) -> str:
    with pytest.raises(FileUnreadable) as caught:
        list(open_sheet(path, limits, **options).chunks())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_cells_come_as_they_stand(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER},fields.iban\n007, 1.50,eur,0012\nP-2,1e5,USD,\n")
    assert rows_of(path) == [
        {"reference_id": "007", "amount": " 1.50", "currency": "eur", "fields.iban": "0012"},
        {"reference_id": "P-2", "amount": "1e5", "currency": "USD", "fields.iban": ""},
    ]


def test_chunks_are_numbered_and_can_be_read_twice(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "\n" + "".join(f"P-{n},1,EUR\n" for n in range(5)))
    sheet = open_sheet(path, LIMITS)
    for _ in range(2):
        chunks = list(sheet.chunks(2))
        assert [(chunk.first_row, chunk.lines) for chunk in chunks] == [
            (1, [2, 3]),
            (3, [4, 5]),
            (5, [6]),
        ]
        assert all(chunk.frame.dtypes.eq(object).all() for chunk in chunks)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("P-1,1,EUR\nP-2,1,EUR\n", [2, 3]),
        ("\n\nP-1,1,EUR\n\nP-2,1,EUR", [4, 6]),
        ('"P\n\n1",1,EUR\nP-2,1,EUR\n', [2, 5]),
        ('"P\r\n1",1,EUR\r\nP-2,1,EUR\r\n', [2, 4]),
        ("P-1,1,EUR\rP-2,1,EUR\r", [2, 3]),
        ('"P\r1",1,EUR\nP-2,1,EUR\n', [2, 4]),
        ("P-1,1,EUR\n,,\n   \nP-2,1,EUR\nP-3,1,EUR\n", [2, 5, 6]),
        ('"a\nb",1,EUR\n\n"c\nd",1,EUR\nP-3,1,EUR\n', [2, 5, 7]),
    ],
)
def test_a_row_has_the_line_it_begins_on(tmp_path: Path, text: str, lines: list[int]) -> None:
    assert lines_of(write(tmp_path, HEADER + "\n" + text)) == lines


@survives
@given(notes=st.lists(st.tuples(st.text("a\n\r\"',x", max_size=8), st.integers(0, 2)), min_size=1))
def test_lines_are_right_whatever_is_quoted(tmp_path: Path, notes: list[tuple[str, int]]) -> None:
    text, expected = HEADER + ",description\n", []
    for note, blanks in notes:
        expected.append(len(io.StringIO(text, newline="").readlines()) + 1)
        quoted = note.replace('"', '""')
        text += f'P,1,EUR,"{quoted}"\n' + "\n" * blanks
    assert lines_of(write(tmp_path, text)) == expected


@survives
@given(
    cells=st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1, max_size=6),
    delimiter=st.sampled_from(",;\t"),
)
def test_a_csv_keeps_every_text(
    tmp_path: Path, cells: list[tuple[str, str]], delimiter: str
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow([*HEADER.split(","), "description", "metadata.a"])
    writer.writerows(["P", "1", "EUR", *pair] for pair in cells)
    found = rows_of(write(tmp_path, text.getvalue()))
    # The one change: the apostrophe that our own exports put before formulas is taken away.
    expected = [tuple(c[1:] if GUARDED.match(c) else c for c in pair) for pair in cells]
    assert [(row["description"], row["metadata.a"]) for row in found] == expected


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".xlsx"])
def test_any_bytes_give_rows_or_one_sentence(tmp_path: Path, suffix: str) -> None:
    @survives
    @given(
        start=st.sampled_from([b"", HEADER.encode() + b"\n", b"PAR1", b"PK\x03\x04", b"\xff\xfe"]),
        body=st.binary(max_size=300),
    )
    def check(start: bytes, body: bytes) -> None:
        try:
            chunks = list(open_sheet(write(tmp_path, start + body, "a" + suffix), LIMITS).chunks())
        except FileUnreadable:
            return
        assert sum(len(chunk.lines) for chunk in chunks) >= 1

    check()


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("Reference_ID,amount,currency", '"Reference_ID" (write reference_id)'),
        ("reference_id,Amount,currency", '"Amount" (write amount)'),
        ("reference_id, amount,currency", '" amount" (write amount)'),
        ("Reference ID,AMOUNT,Currency", '"Reference ID" (write reference_id), "AMOUNT" (write am'),
        ("reference_id,amount,currency,field.iban", '"field.iban" (write fields.iban)'),
        ("reference_id,amount,currency,fields.bank code", "(write fields.bank_code)"),
        ("reference_id,amount,currency,foo,bar", '"foo", "bar"; rename'),
        ("reference_id,amount,currency,foo", '--map "foo=COLUMN"'),
        ("reference_id,amount,currency,fields.", '"fields."'),
        ("reference_id,amount,currency,customer..a", '"customer..a"'),
        ("amount,service", "lacks the required columns reference_id, currency"),
        ("reference_id,amount,currency,amount", 'the column "amount" twice'),
        ("reference_id,amount,currency,", "no name for column 4"),
        (
            "reference_id,amount,currency,customer.a,customer.a.b",
            "both customer.a and customer.a.b",
        ),
    ],
)
def test_a_header_fault_names_every_column(tmp_path: Path, header: str, told: str) -> None:
    assert told in refusal(write(tmp_path, f"{header}\nP,1,EUR\n"))


def test_a_payout_in_line_1_is_not_shown(tmp_path: Path) -> None:
    told = refusal(write(tmp_path, "P-1,10.00,EUR,Jane Roe,DE89370400440532013000\n"))
    assert "no header in line 1" in told
    assert "Jane" not in told
    assert "3000" not in told


def test_columns_of_our_own_outputs_are_dropped(tmp_path: Path) -> None:
    extra = "failure_code,failure_reason,fault_line,fault_reason"
    path = write(tmp_path, f"{extra},{HEADER}\na,b,c,d,P-1,1,EUR\n")
    assert open_sheet(path, LIMITS).columns == ("reference_id", "amount", "currency")
    assert rows_of(path) == [{"reference_id": "P-1", "amount": "1", "currency": "EUR"}]


def test_fields_may_have_dots_side_by_side(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER},fields.a,fields.a.b\nP,1,EUR,x,y\n")
    assert rows_of(path)[0]["fields.a.b"] == "y"


def test_a_mapping_renames_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "Employee ID,amount,currency\nP-1,1,EUR\n")
    assert rows_of(path, mapping={"Employee ID": "reference_id"})[0]["reference_id"] == "P-1"


def test_a_mapping_must_fit_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "Staff No,amount,currency,Pay\nP-1,1,EUR,2\n")
    told = refusal(path, mapping={"staff no": "reference_id"})
    assert told.endswith(
        'has no column "staff no", which the mapping names; did you mean "Staff No"?'
    )
    assert '"amount" and "Pay", which are both amount' in refusal(
        path, mapping={"Staff No": "reference_id", "Pay": "amount"}
    )
    assert 'unknown columns: "Pay"' in refusal(path, mapping={"Staff No": "reference_id"})


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        ({"amount": "salary"}, 'leads to "salary", which is no column; expected one of'),
        ({"Pay": "Amount"}, "did you mean amount?"),
        ({"A": "amount", "B": "amount"}, 'from both "A" and "B" to amount'),
        ({"replaces": "metadata.old"}, "renames replaces"),
        ({"fault_reason": "description"}, "renames fault_reason"),
    ],
)
def test_a_mapping_that_can_fit_no_file_is_bad_usage(
    tmp_path: Path, mapping: dict[str, str], told: str
) -> None:
    path = write(tmp_path, f"{HEADER}\nP-1,1,EUR\n")
    with pytest.raises(UsageError, match=re.escape(told)):
        open_sheet(path, LIMITS, mapping)


def test_a_file_of_faulty_rows_says_what_file_they_are_from(tmp_path: Path) -> None:
    marks = ["file-0123456789abcdef", "file-0123456789abcdef", "", "typed", "file-0123456789ABCDEF"]
    rows = "".join(f"P-{n},1,EUR,{mark}\n" for n, mark in enumerate(marks))
    sheet = open_sheet(write(tmp_path, f"{HEADER},fault_file\n{rows}"), LIMITS)
    assert sheet.origins() == {"0123456789abcdef"}
    assert "fault_file" not in sheet.columns
    assert open_sheet(write(tmp_path, f"{HEADER}\nP,1,EUR\n"), LIMITS).origins() == set()
    columns = {"reference_id": ["P"], "amount": ["1"], "currency": ["EUR"], "fault_file": [7]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert open_sheet(tmp_path / "a.parquet", LIMITS).origins() == set()


def test_a_ragged_row_is_a_fault_of_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER}\nP-1,1,EUR\nP-2,1,000,EUR\nP-3,1\n")
    (chunk,) = open_sheet(path, LIMITS).chunks()
    assert [(f.line, f.column, f.kind) for f in chunk.faults] == [
        (3, "", FaultKind.RAGGED_ROW),
        (4, "", FaultKind.RAGGED_ROW),
    ]
    assert "3 cells" in chunk.faults[0].expected
    assert "found 4" in chunk.faults[0].expected
    assert len(chunk.lines) == 3


def test_a_long_cell_is_a_fault_and_masked(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER},fields.a\nP-1,1,EUR,{'x' * 201}\nP-2,1,EUR,{'x' * 200}\n")
    ((chunk),) = open_sheet(path, LIMITS).chunks()
    assert [(f.line, f.column, f.kind, f.value) for f in chunk.faults] == [
        (2, "fields.a", FaultKind.CELL_TOO_LONG, "********xxxx")
    ]


@pytest.mark.parametrize("long", ["x" * 201, "|" + "x" * 200, "'=" + "x" * 200, "x|" * 100 + "y"])
@pytest.mark.parametrize("other", ["y", "|", "y" * 200, "'=" + "y" * 199])
def test_a_long_cell_is_found_among_many(tmp_path: Path, long: str, other: str) -> None:
    cells = [other] * 600 + [long] + [other] * 10
    rows = "".join(f"P-{at},1,EUR,{cell}\n" for at, cell in enumerate(cells))
    path = write(tmp_path, f"{HEADER},fields.a\n{rows}")
    (chunk,) = open_sheet(path, LIMITS).chunks()
    assert [(f.line, f.column, f.kind) for f in chunk.faults] == [
        (602, "fields.a", FaultKind.CELL_TOO_LONG)
    ]
    assert chunk.columns["fields.a"][600] == long.removeprefix("'")


def test_joined_text_is_kept_while_there_is_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batches.loading.TOGETHER_CHARS_MAX", 10)
    chunk = Chunk(1, [2], {"a": ["aaaa"], "b": ["bbbbb"], "c": ["c"]}, [])
    for _ in range(2):
        assert [chunk.together(name) for name in "abc"] == ["|aaaa|", "|bbbbb|", "|c|"]
    assert chunk.printable == {"a", "b", "c"}
    assert set(chunk._together) == {"a", "c"}


def test_limits_are_exact_and_named(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "\n" + "P,1,EUR\n" * 5)

    def limits(**changes: int) -> Limits:
        usual = {"rows_max": 5, "bytes_max": 100, "cell_chars_max": 50, "columns_max": 3}
        return Limits(**{**usual, **changes})

    assert len(rows_of(path, limits(bytes_max=path.stat().st_size))) == 5
    assert "rows_max" in refusal(path, limits(rows_max=4))
    assert "bytes_max" in refusal(path, limits(bytes_max=path.stat().st_size - 1))
    assert "columns_max" in refusal(path, limits(columns_max=2))


def test_limits_come_from_the_settings() -> None:
    assert Limits.of(Settings(rows_max=7)).rows_max == 7


def test_what_is_no_readable_file_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    assert "does not exist" in refusal(tmp_path / "none.csv")
    assert "is a folder" in refusal(tmp_path / "folder.csv")
    assert "cannot be opened" in refusal(tmp_path / ("x" * 300 + ".csv"))
    assert "cannot be opened" in refusal(Path("a\0b.csv"))
    os.mkfifo(tmp_path / "pipe.csv")
    assert "not an ordinary file" in refusal(tmp_path / "pipe.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_the_right_to_read_is_said_plainly(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER}\nP,1,EUR\n")
    path.chmod(0)
    assert "cannot be opened" in refusal(path)
