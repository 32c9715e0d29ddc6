"""Many rows into one table at once, inside a transaction that is already there.

COPY in its binary form on PostgreSQL, one prepared statement on SQLite. Values go in as they are
stored, column by column: nothing is converted here but into what goes over the wire.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import Any, NamedTuple, TypeVar

import psycopg
from sqlalchemy import JSON, BigInteger, Connection, Integer, LargeBinary, Table
from sqlalchemy.exc import DBAPIError

from workers.record.tables import UtcDateTime

T = TypeVar("T")


class Same(NamedTuple):
    """A column in which all rows of a chunk have one value."""

    value: Any


# The columns of some rows, in the order of their names; at least one is a sequence.
Column = Sequence[Any] | Same
Chunk = Sequence[Column]

# Source: PostgreSQL documentation, COPY, "Binary Format": signature, flags, extension; a row is its
# number of fields, and each field its length and its bytes.
_HEAD, _TAIL = b"PGCOPY\n\xff\r\n\0" + bytes(8), struct.pack(">h", -1)
_LENGTH, _FIELDS = struct.Struct(">i").pack, struct.Struct(">h").pack
# Most texts are shorter than this.
_LENGTHS = [_LENGTH(length) for length in range(4_096)]
# Times are microseconds since then.
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_SHORT = struct.Struct(">ii").pack
_LONG = struct.Struct(">iq").pack


def store_many(
    connection: Connection, table: Table, names: Sequence[str], chunks: Iterable[Chunk]
) -> None:
    """Store rows, some at a time.

    The connection must not be used while the chunks are gone through.

    Raises:
        sqlalchemy.exc.DBAPIError: as for any other statement; it does not quote the rows.
    """
    columns = ", ".join(f'"{name}"' for name in names)
    if connection.dialect.name == "postgresql":
        statement = f"COPY {table.name} ({columns}) FROM STDIN (FORMAT BINARY)"
        encoders = [_encoder_of(table, name) for name in names]
        _copy(connection, statement, (_encoded(chunk, encoders) for chunk in chunks))
        return
    marks = ", ".join("?" * len(names))
    statement = f"INSERT INTO {table.name} ({columns}) VALUES ({marks})"  # noqa: S608 - names of ours
    for chunk in chunks:
        connection.exec_driver_sql(statement, rows_of(chunk))


def rows_of(chunk: Chunk) -> list[tuple[Any, ...]]:
    """The same, row by row."""
    count = count_of(chunk)
    each = (repeat(column.value, count) if isinstance(column, Same) else column for column in chunk)
    return list(zip(*each, strict=True))


def count_of(chunk: Chunk) -> int:
    """The number of its rows."""
    return len(next(column for column in chunk if not isinstance(column, Same)))


def _copy(connection: Connection, statement: str, blocks: Iterable[bytes]) -> None:
    link: Any = connection.connection.driver_connection
    try:
        with link.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(_HEAD)
            for block in ahead(blocks):
                copy.write(block)
            copy.write(_TAIL)
    except psycopg.Error as error:
        # Told as SQLAlchemy tells it; and without the row, which the server's details quote.
        error.args = (error.diag.message_primary or type(error).__name__,)
        raise DBAPIError.instance(
            statement, None, error, psycopg.Error, hide_parameters=True
        ) from None


def ahead(things: Iterable[T]) -> Iterator[T]:
    """The same, each made by a thread beside this one while the one before it is used."""
    making = iter(things)
    end = object()
    with ThreadPoolExecutor(1, "paybatch-ahead") as beside:
        made = beside.submit(next, making, end)
        try:
            while (thing := made.result()) is not end:
                made = beside.submit(next, making, end)
                yield thing  # type: ignore[misc]  # it is not the end
        finally:
            # Not while that thread is still in it.
            made.exception()
            if hasattr(making, "close"):
                making.close()


# --- what goes over the wire ---

# Of some values their lengths and bytes, in one list or in two.
_Encoder = Callable[[Sequence[Any]], Sequence[Sequence[bytes]]]


def _encoded(chunk: Chunk, encoders: Sequence[_Encoder]) -> bytes:
    """Rows as COPY reads them. What all rows have between two columns is put together once."""
    parts: list[Iterator[bytes] | Sequence[bytes]] = []
    same = _FIELDS(len(encoders))
    count = 0
    for column, encode in zip(chunk, encoders, strict=True):
        if isinstance(column, Same):
            same += b"".join(part for [part] in encode([column.value]))
            continue
        count = len(column)
        if same:
            parts.append(repeat(same, count))
        parts += encode(column)
        same = b""
    if same:
        parts.append(repeat(same, count))
    return b"".join(chain.from_iterable(zip(*parts, strict=True)))


def _encoder_of(table: Table, name: str) -> _Encoder:
    kind = table.c[name].type
    return next((encode for known, encode in _ENCODERS.items() if isinstance(kind, known)), _texts)


def _bytes(values: Sequence[bytes]) -> Sequence[Sequence[bytes]]:
    lengths = list(map(len, values))
    if max(lengths, default=0) < len(_LENGTHS):
        return [[_LENGTHS[length] for length in lengths], values]
    return [[_LENGTH(length) for length in lengths], values]


def _texts(values: Sequence[str]) -> Sequence[Sequence[bytes]]:
    return _bytes(list(map(str.encode, values)))


def _integers(values: Sequence[int]) -> Sequence[Sequence[bytes]]:
    return [[_SHORT(4, value) for value in values]]


def _long_integers(values: Sequence[int]) -> Sequence[Sequence[bytes]]:
    return [[_LONG(8, value) for value in values]]


def _times(values: Sequence[datetime]) -> Sequence[Sequence[bytes]]:
    return [[_LONG(8, _microseconds(value)) for value in values]]


def _microseconds(value: datetime) -> int:
    since = value - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


# Other columns are texts. The first kind that fits counts.
_ENCODERS: Mapping[type, _Encoder] = {
    UtcDateTime: _times,
    LargeBinary: _bytes,
    BigInteger: _long_integers,
    Integer: _integers,
    JSON: _texts,
}
