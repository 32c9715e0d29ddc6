"""Numbers of things, as sentences have them."""

from __future__ import annotations


def number_of(number: int, thing: str) -> str:
    """`1 row`, `1,200 rows`, `2 batches`: never `1 rows`.

    >>> number_of(1, "batch"), number_of(2_000, "failed line")
    ('1 batch', '2,000 failed lines')
    """
    return f"1 {thing}" if number == 1 else f"{number:,} {_many(thing)}"


def _many(thing: str) -> str:
    if thing.endswith("ch"):
        return f"{thing}es"
    return f"{thing[:-1]}ies" if thing.endswith("ry") else f"{thing}s"
