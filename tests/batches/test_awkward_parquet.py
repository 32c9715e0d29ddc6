"""Parquet files as they really arrive: taken, faulty in a row, or refused with the reason."""

from __future__ import annotations

import datetime
import io
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batches.loading import Limits, open_sheet
from tests.batches.awkward import OK, ROW, H, agrees, lines, table, verdict
from workers.errors import FileUnreadable

DAY = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)


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


def typed(**columns: pa.Array) -> Callable[[], bytes]:
    return lambda: table(**{name.replace("__", "."): array for name, array in columns.items()})


TIME = "in column"
CASES: list[tuple[str, Callable[[], bytes], str]] = [
    ("text", table, OK),
    ("large text", typed(amount=pa.array(["1"], pa.large_string())), OK),
    ("text by dictionary", typed(currency=pa.array(["EUR"]).dictionary_encode()), OK),
    ("whole numbers", typed(amount=pa.array([2500])), OK),
    ("small whole numbers", typed(amount=pa.array([25], pa.int8())), OK),
    ("exact decimals", typed(amount=pa.array([Decimal("10.5000")])), OK),
    ("wide decimals", typed(amount=pa.array([Decimal("10.50")], pa.decimal256(60, 2))), OK),
    (
        "decimals beyond the currency",
        typed(amount=pa.array([Decimal("10.505")])),
        "2 amount too_many_decimals",
    ),
    ("floats", typed(amount=pa.array([10.1])), OK),
    ("half floats", typed(amount=pa.array([np.float16(0.5)])), OK),
    ("a float with a tail", typed(amount=pa.array([0.1 + 0.2])), "2 amount too_many_decimals"),
    (
        "a float beyond what can be paid",
        typed(amount=pa.array([1e20])),
        "2 amount amount_too_large",
    ),
    ("NaN", typed(amount=pa.array([float("nan")])), "2 amount required"),
    ("infinity", typed(amount=pa.array([float("inf")])), "2 amount not_plain_decimal"),
    ("negative whole numbers", typed(amount=pa.array([-5])), "2 amount not_plain_decimal"),
    ("numbers by dictionary", typed(amount=pa.array([5]).dictionary_encode()), OK),
    ("amounts as true and false", typed(amount=pa.array([True])), 'has bool in column "amount"'),
    ("amounts in a list", typed(amount=pa.array([["1"]])), TIME),
    ("amounts as times", typed(amount=pa.array([DAY])), "has timestamp"),
    ("numeric references", typed(reference_id=pa.array([7])), "has int64 in column"),
    ("references as floats", typed(reference_id=pa.array([7.0])), "has double in column"),
    ("account numbers in bytes", typed(fields__iban=pa.array([b"x"])), "has binary in column"),
    (
        "times in nanoseconds",
        typed(metadata__at=pa.array([DAY], pa.timestamp("ns"))),
        "timestamp[ns]",
    ),
    ("days", typed(metadata__day=pa.array([DAY.date()])), "has date32[day] in column"),
    ("durations", typed(metadata__for=pa.array([DAY - DAY])), "has duration"),
    ("a nested currency", typed(currency=pa.array([{"code": "EUR"}])), "has struct<code: string>"),
    (
        "a map",
        typed(currency=pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string()))),
        "has map",
    ),
    ("a column without values", typed(fields__iban=pa.array([None])), "2 fields.iban required"),
    (
        "missing references",
        typed(reference_id=pa.array([None], pa.string())),
        "2 reference_id required",
    ),
    (
        "texts with a NUL",
        typed(fields__iban=pa.array(["DE\x0089"])),
        "2 fields.iban control_character",
    ),
    ("another column", typed(note=pa.array(["x"])), "unknown columns"),
    ("the index of a data frame", typed(**{"__index_level_0__": pa.array([0])}), "unknown columns"),
    ("the same column twice", twice, "twice"),
    (
        "no rows",
        typed(**{n.replace(".", "__"): pa.array([], pa.string()) for n in H.split(",")}),
        "no rows",
    ),
    ("too many rows", lambda: unpacking(51), "rows_max"),
    ("cut short", lambda: table()[:-20], "damaged"),
    ("an encrypted footer", lambda: table()[:-4] + b"PARE", "encrypted"),
    ("only its marks", lambda: b"PAR1PAR1", "cannot be read as .parquet"),
    ("CSV by another name", lambda: lines(ROW).encode(), "cannot be read as .parquet"),
]


@pytest.mark.parametrize(
    ("make", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_awkward_parquet(tmp_path: Path, make: Callable[[], bytes], expected: str) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(make())
    found = verdict(path)
    assert agrees(found, expected), found


def test_a_parquet_that_unpacks_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(unpacking(300))
    limits = Limits(rows_max=10_000, bytes_max=250_000, cell_chars_max=300, columns_max=10)
    assert path.stat().st_size < 250_000
    with pytest.raises(FileUnreadable, match="when unpacked, over the limit bytes_max"):
        open_sheet(path, limits)
