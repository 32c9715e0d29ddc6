"""What the quick reader takes is what Python's csv reads, and what is odd it leaves to that."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches import quick_csv
from batches.cells import Few, words_of
from batches.formats import Csv, Limits
from batches.quick_csv import Layout, Place, plain_rows
from workers.errors import FileUnreadable

LIMITS = Limits(rows_max=1_000, bytes_max=1_000_000, cell_chars_max=100, columns_max=10)
HEADER = "reference_id,amount,currency\n"
# Whole lines that are plain, and what may come in between.
PLAIN = ["R-1,1.00,USD\n", 'R-2,"1,000",USD\n', "R-3,,USD\r\n", 'R-4,"",Größe\n', "R-5,'x, \n"]
ODD = [
    "\n", "\r\n", ",,\n", ",1.00,USD\n", " ,,\n", "R-6,1.00\n", "R-7,1.00,USD,x\n", '"R"-8,1,USD\n',
    'R-9,"1""0",USD\n', 'R-10,"1\n0",USD\n', 'R-11,1"0,USD\n', 'R-12,"1,USD\n', 'R-13,1,USD"\n',
    "R-14,1\r0,USD\n", "R-15,1,USD\r", "R-16,\0,USD\n", "R-17,1,\udcff\n", "\ufeffR-18,1,USD\n",
    "R-19,\x0b\x1c\u2028,USD\n", '"","",""\n', 'R-20, "1,0", USD\n', "R-21,1,USD", '"', ",",
    "x" * 500,
]  # fmt: skip


def read(path: Path, rows: int, *, quick: bool) -> tuple[list[tuple[object, ...]], str]:
    """All rows with their lines, all faults, and the sentence that ends it, if any."""
    found: list[tuple[object, ...]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quick_csv, "ROWS_MIN", 1 if quick else 10**9)
        patch.setattr(quick_csv, "BLOCK_BYTES", 40)
        try:
            source = Csv(path, LIMITS)
            names = source.header(lambda cells: sum(name == "amount" for name in cells))
            for lines, columns, faults in source.batches(
                dict(zip(names, range(3), strict=False)), rows
            ):
                assert len(lines) <= rows
                for column in columns:
                    assert set(words_of(column)) == set(column)
                found += zip(lines, *columns, strict=True)
                found += [(fault.line, fault.kind, fault.expected) for fault in faults]
        except FileUnreadable as error:
            return found, str(error)
    return found, ""


def ways(text: list[str]) -> Iterator[tuple[list[tuple[object, ...]], str]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.csv"
        path.write_bytes((HEADER + "".join(text)).encode("utf-8", "surrogateescape"))
        for quick in (True, False):
            rows, why = read(path, 3, quick=quick)
            # How many rows come before a refusal depends on how many are read at a time.
            yield ([] if why else sorted(rows, key=str)), why


lines = st.lists(
    st.integers(0, 9).flatmap(lambda n: st.sampled_from(ODD if n == 0 else PLAIN)), max_size=30
)


@settings(max_examples=500, deadline=None)
@given(lines)
def test_it_reads_what_the_careful_reader_reads(text: list[str]) -> None:
    quick, careful = ways(text)
    assert quick == careful


@pytest.mark.parametrize("odd", ODD)
def test_every_odd_line_comes_out_as_the_careful_reader_has_it(odd: str) -> None:
    quick, careful = ways([*PLAIN, odd, *PLAIN])
    assert quick == careful


def layout() -> Layout:
    return Layout(",", 3, 1_000, [0, 1, 2], 0)


def test_plain_lines_never_reach_the_careful_reader(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text(HEADER + "".join(PLAIN) * 100, newline="")
    rest = plain_rows(path, layout(), 1_000)
    assert sum(len(found) for found, _, _ in rest) == 5 * 100
    with pytest.raises(StopIteration) as ended:
        next(rest)
    assert ended.value.value is None


def test_it_says_where_the_rest_begins(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text(HEADER + PLAIN[0] + "\n" + PLAIN[0])
    rest = plain_rows(path, layout(), 1_000)
    with pytest.raises(StopIteration) as ended:
        next(rest)
    assert ended.value.value == Place(len(HEADER), 1)


def test_a_column_of_few_texts_names_them(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text(HEADER + "".join(f"R-{n},{n % 3}.00,USD\n" for n in range(100)))
    [(_, (references, amounts, currencies), _)] = plain_rows(path, layout(), 1_000)
    assert not isinstance(references, Few)
    assert sorted(words_of(amounts)) == ["0.00", "1.00", "2.00"]
    assert words_of(currencies) == ["USD"]
    assert list(currencies) == ["USD"] * 100
