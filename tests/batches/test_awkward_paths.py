"""What is not an ordinary file of a known kind, and files that were damaged anywhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.batches.awkward import OK, ROW, lines, table, verdict, workbook


def link(path: Path, *, to: str) -> None:
    path.symlink_to(path.with_name(to))


def folder_behind(path: Path) -> None:
    path.with_name("folder").mkdir()
    link(path, to="folder")


def good_behind(path: Path) -> None:
    path.with_name("real.csv").write_text(lines(ROW))
    link(path, to="real.csv")


CASES: list[tuple[str, Callable[[Path], object], str]] = [
    ("a folder", Path.mkdir, "is a folder"),
    ("a pipe", os.mkfifo, "not an ordinary file"),
    ("a device", lambda path: path.symlink_to(os.devnull), "not an ordinary file"),
    ("a link to a file", good_behind, OK),
    ("a link to nothing", lambda path: link(path, to="gone.csv"), "does not exist"),
    ("a link to itself", lambda path: link(path, to=path.name), "cannot be opened"),
    ("a link to a folder", folder_behind, "is a folder"),
    ("nothing", lambda path: None, "does not exist"),
    ("an empty file", Path.touch, "is empty"),
]


@pytest.mark.parametrize(
    ("make", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_awkward_paths(tmp_path: Path, make: Callable[[Path], object], expected: str) -> None:
    make(tmp_path / "a.csv")
    assert expected in verdict(tmp_path / "a.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines(ROW))
    (tmp_path / "a.csv").chmod(0)
    assert "cannot be opened" in verdict(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.xls", "save it as .xlsx"),
        ("a.xlsm", "save it as .xlsx"),
        ("a.xlsb", "save it as .xlsx"),
        ("a.txt", "save it as CSV"),
        ("a.tsv", "save it as CSV"),
        ("a.ods", "save it as CSV"),
        ("a.pdf", "save it as CSV"),
        ("a", "save it as CSV"),
        ("a.csv.gz", "save it as CSV"),
        ("a.csv ", "save it as CSV"),
    ],
)
def test_other_suffixes_are_refused_with_the_way_out(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / name).write_text(lines(ROW))
    assert told in verdict(tmp_path / name)


@pytest.mark.parametrize("name", ["A.CSV", "a b.csv", "Löhne 日本.csv", "a.parquet.csv", "-rf.csv"])
def test_any_name_with_the_right_suffix_is_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(lines(ROW))
    assert verdict(tmp_path / name) == OK


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
