"""One thing is said as one, wherever a sentence counts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.words import number_of

ROOT = Path(__file__).parents[2]
THINGS = (
    "rows|lines|payouts|files|faults|kinds|batches|deliveries|proposals|payments|accounts|cells"
)
# A number and then things: right only where the number cannot be one.
PLURAL = re.compile(rf"^(?: (?!has )\w+)? (?:{THINGS})\b")
# Limits, several hits for one reference id, and a table's columns.
NEVER_ONE = (
    " payouts carry this",
    " payouts that did not fail carry",
    "XLSX has room for",
    " ELSE payouts.",
    " RETURNING payouts.id",
)
LIMITS = ("batches/loading.py", "batches/formats.py", "batches/parquet.py", "batches/checks.py")


@pytest.mark.parametrize(
    ("number", "thing", "said"),
    [
        (0, "row", "0 rows"),
        (1, "row", "1 row"),
        (2, "failed line", "2 failed lines"),
        (1_000, "batch", "1,000 batches"),
        (1, "delivery", "1 delivery"),
        (2, "delivery", "2 deliveries"),
        (30, "day", "30 days"),
    ],
)
def test_one_thing_is_said_as_one(number: int, thing: str, said: str) -> None:
    assert number_of(number, thing) == said


def _counting(text: ast.JoinedStr) -> Iterator[str]:
    """What stands behind the values of an f-string that are a number of things."""
    for value, after in zip(text.values, text.values[1:], strict=False):
        if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant):
            said = str(after.value)
            if PLURAL.match(said) and not said.startswith(NEVER_ONE):
                yield said


def test_no_sentence_counts_by_itself() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno}{said}"
        for package in ("workers", "batches")
        for path in (ROOT / package).rglob("*.py")
        if not str(path.relative_to(ROOT)).startswith((*LIMITS, "workers/simulator"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.JoinedStr)
        and not str(getattr(node.values[0], "value", "")).startswith(NEVER_ONE)
        for said in _counting(node)
    }
    assert found == set()
