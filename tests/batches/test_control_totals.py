"""Control totals are read exactly, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from batches.control_totals import read_totals
from workers.errors import FileRefused


def read(folder: Path, content: str | bytes) -> tuple[int | None, list[str]]:
    path = folder / "a.csv.totals"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    count, sums = read_totals(path)
    return count, [each.named() for each in sums]


def test_a_count_and_sums_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, "count=2\nUSD=2180.50\n") == (2, ["2,180.50 USD"])
    assert read(tmp_path, "\ufeff# by HR\r\n EUR = 1.00 # net\r\nUSD=3.10\r\n") == (
        None,
        ["1.00 EUR", "3.10 USD"],
    )
    assert read(tmp_path, "count=0") == (0, [])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "a.csv.totals tells no totals"),
        ("# nothing\n", "a.csv.totals tells no totals"),
        (b"\xff\xfe", "a.csv.totals is no UTF-8 text"),
        ("count=two", "line 1: expected count=NUMBER, once; found 'count=two'"),
        ("count=-1", "line 1: expected count=NUMBER, once"),
        ("count=1\ncount=1", "line 2: expected count=NUMBER, once"),
        ("rows: 2", "line 1: expected count=NUMBER or a sum such as USD=1234.50; found 'rows: 2'"),
        ("USD=1,5", "line 1: expected count=NUMBER or a sum"),
        ("USD=1.505", "line 1: expected count=NUMBER or a sum"),
        ("XXX=1.00", "line 1: expected count=NUMBER or a sum"),
        ("USD=1.00\nUSD=2.00", "line 2: the sum of USD is told twice"),
    ],
)
def test_what_is_not_understood_is_refused_by_its_line(
    tmp_path: Path, content: str | bytes, told: str
) -> None:
    with pytest.raises(FileRefused) as refused:
        read(tmp_path, content)
    assert told in str(refused.value)
