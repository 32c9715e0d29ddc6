"""Parquet by large row groups: what is read as dictionaries, and what as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batches import parquet
from batches.faults import FaultKind
from batches.loading import Limits, Sheet, open_sheet

LIMITS = Limits(rows_max=100_000, bytes_max=50_000_000, cell_chars_max=200, columns_max=20)
COUNT = 12_000
REFERENCES = [f"R-{number:08}" for number in range(COUNT)]


@pytest.fixture(autouse=True)
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a few rows have is too large for dictionaries already."""
    monkeypatch.setattr(parquet, "DICTIONARIES_BYTES_MAX", 50_000)


def written(folder: Path, references: Any, columns: Any = (), **how: Any) -> Path:
    path = folder / "a.parquet"
    count = len(references)
    named = {"reference_id": references, "amount": ["1"] * count, "currency": ["EUR"] * count}
    # Such pages that the dictionary ends long before the rows do.
    pages = {"dictionary_pagesize_limit": 20_000, "data_page_size": 8_000}
    pq.write_table(pa.table({**named, **dict(columns)}), path, **{**pages, **how})
    return path


def cells(sheet: Sheet, column: str) -> list[str]:
    return [cell for chunk in sheet.chunks() for cell in chunk.cells(column)]


def dictionaries(path: Path, rows: int = 4_000) -> Sequence[str]:
    """The columns of the first row group that are read as dictionaries."""
    names = ["reference_id", "amount", "currency", "description"]
    return parquet.Parquet(path, LIMITS)._dictionaries(0, names[: len(pq.read_schema(path))], rows)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
@pytest.mark.parametrize("first_none", [False, True])
def test_every_kind_of_text_is_read_as_it_is(
    tmp_path: Path, kind: pa.DataType, first_none: bool
) -> None:
    texts = [*REFERENCES]
    for at in range(6_000) if first_none else (5, COUNT - 1):
        texts[at] = ""
    path = written(tmp_path, pa.array([text or None for text in texts]).cast(kind))
    assert dictionaries(path) == ["amount", "currency"]
    assert cells(open_sheet(path, LIMITS), "reference_id") == texts


@pytest.mark.parametrize("how", [{"use_dictionary": False}, {"row_group_size": 5_000}, {}])
def test_row_groups_of_any_kind_are_read_whole_and_in_order(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    path = written(tmp_path, REFERENCES, **how)
    sheet = open_sheet(path, LIMITS)
    assert cells(sheet, "reference_id") == REFERENCES
    assert [line for chunk in sheet.chunks() for line in chunk.lines] == [*range(2, COUNT + 2)]


def test_row_groups_may_be_read_differently_one_after_another(tmp_path: Path) -> None:
    path, texts = tmp_path / "a.parquet", [*REFERENCES, *REFERENCES[:100], *REFERENCES]
    schema = pa.schema([(name, pa.string()) for name in ("reference_id", "amount", "currency")])
    with pq.ParquetWriter(path, schema) as writer:
        for some in (REFERENCES, REFERENCES[:100], REFERENCES):
            count = len(some)
            writer.write_table(pa.table([some, ["1"] * count, ["EUR"] * count], schema=schema))
    assert cells(open_sheet(path, LIMITS), "reference_id") == texts


def test_a_long_text_that_a_large_column_repeats_is_held_once(tmp_path: Path) -> None:
    long = "x" * 100_000
    texts = [long] * 4_000 + [f"note {number:08}" for number in range(COUNT - 4_000)]
    how = {"dictionary_pagesize_limit": 200_000}
    path = written(tmp_path, REFERENCES, {"description": texts}, **how)
    assert dictionaries(path) == ["amount", "currency", "description"]
    before, most, faults = pa.total_allocated_bytes(), 0, 0
    for chunk in open_sheet(path, LIMITS).chunks():
        most = max(most, pa.total_allocated_bytes() - before)
        faults += sum(fault.kind is FaultKind.CELL_TOO_LONG for fault in chunk.faults)
    assert faults == 4_000
    # As plain text, 400 MB.
    assert most < 20_000_000


def test_texts_that_repeat_may_be_so_long_together_that_a_batch_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = [f"{number:050}" for number in range(COUNT)]
    path = written(tmp_path, REFERENCES, {"description": notes})
    assert dictionaries(path) == ["amount", "currency"]
    monkeypatch.setattr(parquet, "REPEATED_BYTES_MAX", 4_000 * 59)
    # The longest reference has 10 bytes, the longest note 50.
    assert dictionaries(path) == ["amount", "currency", "description"]
    assert dictionaries(path, rows=1) == ["amount", "currency"]


def test_texts_that_are_long_in_a_batch_are_read_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "LONG_BYTES_MIN", 1_000)
    texts = ["", *REFERENCES[1:-1], "y" * 900]
    path = written(tmp_path, REFERENCES, {"description": texts})
    found = cells(open_sheet(path, LIMITS), "description")
    assert found[:-1] == texts[:-1]
    assert found[-1] == "y" * (LIMITS.cell_chars_max + 1)


def test_a_dictionary_of_one_word_tells_nothing_of_what_may_repeat(tmp_path: Path) -> None:
    path = written(tmp_path, ["r" * 60_000, *REFERENCES], dictionary_pagesize_limit=10)
    assert dictionaries(path) == ["reference_id", "amount", "currency"]
