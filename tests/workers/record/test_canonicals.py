"""What is hashed and sealed of many rows is what each one's order has, however it is written."""

from __future__ import annotations

from typing import Any

import pytest

from tests.worlds import order, stored
from workers.errors import VaultError
from workers.record.answers import paged
from workers.record.canonicals import READ, SHAPES_MAX, Canonicals
from workers.record.model import Order
from workers.record.tables import payouts

from .conftest import Record

AWKWARD: tuple[dict[str, Any], ...] = (
    {},
    {"fields": {"z": "1", "a": "2", "m": "3"}},
    {"fields": {"z": 'a "quoted" one', "a": "2", "m": "a\\b"}},
    {"fields": {"z": "two\nlines", "a": "\x7f", "m": "\u2028é😀"}},
    {"fields": {"100%": "100%s", 'q"': "1", "a.b*c": "2"}},
    {"fields": {}, "customer": {"name": "Ann", "address": {"country": "DE"}}},
    {"customer": {"name": "Ann"}, "context": {"b": "1", "a": "2"}, "metadata": {"y": "1", "x": ""}},
    {"metadata": {"fields": '","', "customer": "{}"}},
    {"description": 'of "May"\\'},
)


def both(record: Record, orders: list[Order]) -> tuple[list[bytes], list[bytes]]:
    """What is made of the stored rows together, and of each one's order."""
    batch_id = stored(record.batches, orders, now=record.clock.now())
    with record.database.read() as connection:
        pages = list(paged(connection, payouts.c.batch_id == batch_id, READ))
    canonicals = Canonicals(record.store.vault)
    made = [one for page in pages for one in canonicals.of(page)]
    return made, [one.canonical() for one in orders]


def test_rows_have_the_bytes_of_their_orders(record: Record) -> None:
    # Each twice: the second may be made by the shape that the first one has taught.
    made, expected = both(
        record,
        [order(reference_id=f"P-{number}", **each) for number, each in enumerate(AWKWARD * 2, 1)],
    )
    assert made == expected


def test_rows_of_more_shapes_than_are_kept_have_them_too(record: Record) -> None:
    some = [{f"name_{number}": "1"} for number in range(SHAPES_MAX + 3)] * 2
    made, expected = both(
        record,
        [order(reference_id=f"P-{number}", fields=each) for number, each in enumerate(some, 1)],
    )
    assert made == expected


def test_metadata_that_is_written_otherwise_has_the_bytes_that_its_order_has(
    record: Record,
) -> None:
    plain, escaped = order(metadata={"a": "e"}), order(metadata={"a": "\u00e9"})
    batch_id = stored(record.batches, [plain, escaped], now=record.clock.now())
    written = """'{"a":"\\u00e9"}'"""
    assert record.sql(f"UPDATE payouts SET metadata = {written} WHERE row = 2") == 1
    with record.database.read() as connection:
        [page] = paged(connection, payouts.c.batch_id == batch_id, READ)
    expected = [plain.canonical(), escaped.canonical()]
    assert Canonicals(record.store.vault).of(page) == expected


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("metadata = '[]'", "metadata was changed"),
        ("sealed_data = ''", "another key"),
        ("purged_at = '2026-05-06 07:08:09'", "removed on 2026-05-06"),
    ],
)
def test_a_row_that_is_no_order_any_more_says_why(record: Record, change: str, why: str) -> None:
    orders = [order(reference_id="P-1"), order(reference_id="P-2")]
    batch_id = stored(record.batches, orders, now=record.clock.now())
    record.sql(f"UPDATE payouts SET {change} WHERE reference_id = 'P-2'")
    with record.database.read() as connection:
        [page] = paged(connection, payouts.c.batch_id == batch_id, READ)
    with pytest.raises(VaultError, match=why):
        Canonicals(record.store.vault).of(page)
