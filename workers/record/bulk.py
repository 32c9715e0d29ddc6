"""Many rows into one table at once, inside a transaction that is already there.

COPY on PostgreSQL, one prepared statement on SQLite. Values go in as they are stored: nothing is
converted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


def store_many(
    connection: Connection,
    table: str,
    names: Sequence[str],
    chunks: Iterable[Sequence[tuple[Any, ...]]],
) -> None:
    """Store rows, some at a time, each with a value for each of the names.

    The connection must not be used while the chunks are gone through.

    Raises:
        sqlalchemy.exc.DBAPIError: as for any other statement; it does not quote the rows.
    """
    columns = ", ".join(f'"{name}"' for name in names)
    if connection.dialect.name == "postgresql":
        _copy(connection, f"COPY {table} ({columns}) FROM STDIN", chunks)
        return
    marks = ", ".join("?" * len(names))
    statement = f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608 - names of ours
    for chunk in chunks:
        if chunk:
            connection.exec_driver_sql(statement, list(chunk))


def _copy(
    connection: Connection, statement: str, chunks: Iterable[Sequence[tuple[Any, ...]]]
) -> None:
    link: Any = connection.connection.driver_connection
    try:
        with link.cursor() as cursor, cursor.copy(statement) as copy:
            write = copy.write_row
            for chunk in chunks:
                for row in chunk:
                    write(row)
    except psycopg.Error as error:
        # Told as SQLAlchemy tells it; and without the row, which the server's details quote.
        error.args = (error.diag.message_primary or type(error).__name__,)
        raise DBAPIError.instance(
            statement, None, error, psycopg.Error, hide_parameters=True
        ) from None
