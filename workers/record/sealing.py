"""The seals of a batch on their way to its rows, in a table that ends with the transaction.

So a million of them never are in memory at once, and each row is written once: its seal and its
move to the queue together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import BigInteger, Column, Connection, FromClause, Integer, MetaData, Table, Text
from sqlalchemy.schema import CreateTable, DropTable

from workers.record.bulk import store_many

_SEALS = Table(
    "paybatch_seals",
    MetaData(),
    Column("payout_id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("seal", Text, nullable=False),
    prefixes=["TEMPORARY"],
)


@contextmanager
def laid_out(
    connection: Connection, pages: Iterable[Sequence[tuple[int, str]]]
) -> Iterator[FromClause]:
    """A table of `payout_id` and `seal`, filled from pages that may be read by the same connection.

    If anything fails, the transaction's end removes it.
    """
    connection.execute(CreateTable(_SEALS))
    for page in pages:
        store_many(connection, _SEALS, ("payout_id", "seal"), [list(zip(*page, strict=True))])
    yield _SEALS
    connection.execute(DropTable(_SEALS))
