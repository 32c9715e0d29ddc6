"""The rows of a batch on their way into the record: closed by the vault at once, kept in a file
without a name, and stored from there in bulk.

So a file is read once, what is stored is what was checked, and no transaction waits for the checks.
Nothing of a beneficiary lies in that file but what would lie in the table: encrypted or masked. It
ends with its process, whatever ends that.
"""

from __future__ import annotations

import marshal
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Self

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from workers.errors import FileRefused
from workers.record.canonical import plain_object
from workers.record.model import Order
from workers.record.money import Money
from workers.record.status import State
from workers.record.tables import payouts
from workers.record.vault import Vault, masked_beneficiary

# What each row has of its own, in the order in which it lies in the file.
OWN = (
    "row", "reference_id", "account", "provider", "service", "amount_minor", "currency",
    "currency_exponent", "sealed_data", "beneficiary", "fingerprint", "description", "metadata",
    "replaces", "fee_expected_minor",
)  # fmt: skip
CHUNK_ROWS = 2_000
Draft = tuple[Any, ...]


class NewRow(NamedTuple):
    """A checked row, ready to be stored."""

    row: int
    order: Order
    provider: str
    fee: Money


class Drafts:
    """Rows to be stored, in order; they may be gone through once all are added."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        # Which key closed them.
        self.key_id = vault.key_id
        self.count = 0
        # Of no name in any folder: only this process can read it.
        self._file = tempfile.TemporaryFile(prefix="paybatch-")  # noqa: SIM115 - see `close`
        # For drafts that nobody wants any more: their room on the disk is free at once.
        weakref.finalize(self, self._file.close)

    @classmethod
    def of(cls, rows: Iterable[NewRow], vault: Vault) -> Self:
        """These rows, closed by that vault."""
        drafts = cls(vault)
        chunk: list[NewRow] = []
        for row in rows:
            chunk.append(row)
            if len(chunk) == CHUNK_ROWS:
                drafts.add(chunk)
                chunk = []
        drafts.add(chunk)
        return drafts

    def add(self, rows: Sequence[NewRow]) -> None:
        """Close some more rows.

        Raises:
            FileRefused: there is no room for them.
        """
        if not rows:
            return
        try:
            marshal.dump([self._draft(*row) for row in rows], self._file)
        except OSError as error:
            raise FileRefused(
                f"the folder for temporary files has no room for the rows ({error.strerror});"
                " nothing was stored: make room, or set TMPDIR to another folder"
            ) from error
        self.count += len(rows)

    def __iter__(self) -> Iterator[list[Draft]]:
        """The rows, some at a time, each with what `OWN` names."""
        self._file.seek(0)
        while True:
            try:
                chunk: list[Draft] = marshal.load(self._file)  # noqa: S302 - nobody else can write it
            except EOFError:
                return
            yield chunk

    def close(self) -> None:
        """Forget the rows."""
        self._file.close()

    def _draft(self, row: int, order: Order, provider: str, fee: Money) -> Draft:
        vault, amount = self._vault, order.amount
        return (
            row,
            order.reference_id,
            order.account,
            provider,
            order.service,
            amount.minor,
            amount.currency.code,
            amount.currency.exponent,
            vault.encrypt(order),
            masked_beneficiary(order),
            vault.fingerprint(order),
            order.description,
            plain_object(order.metadata),
            order.replaces,
            fee.minor,
        )


def store_drafts(connection: Connection, drafts: Drafts, *, batch_id: str, now: datetime) -> None:
    """Store the rows inside the transaction that stores their batch.

    Raises:
        sqlalchemy.exc.IntegrityError: one of the reference ids was stored meanwhile.
    """
    same = {"batch_id": batch_id, "state": State.DRAFT.value, "created_at": now}
    if connection.dialect.name == "postgresql":
        _copy(connection, same, drafts)
    else:
        _insert(connection, same, drafts)


def _copy(connection: Connection, same: Mapping[str, Any], drafts: Drafts) -> None:
    link: Any = connection.connection.driver_connection
    statement = f"COPY payouts ({_named([*same, *OWN])}) FROM STDIN"
    first = tuple(same.values())
    try:
        with link.cursor() as cursor, cursor.copy(statement) as copy:
            write = copy.write_row
            for chunk in drafts:
                for draft in chunk:
                    write(first + draft)
    except psycopg.Error as error:
        # Told as SQLAlchemy tells it; and without the row, which the server's details quote.
        error.args = (error.diag.message_primary or type(error).__name__,)
        raise DBAPIError.instance(
            "COPY payouts", None, error, psycopg.Error, hide_parameters=True
        ) from None


def _insert(connection: Connection, same: Mapping[str, Any], drafts: Drafts) -> None:
    stored = []
    for name, value in same.items():
        as_stored = (
            payouts.c[name].type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
        )
        stored.append(as_stored(value) if as_stored else value)
    marks = ", ".join("?" * (len(same) + len(OWN)))
    statement = f"INSERT INTO payouts ({_named([*same, *OWN])}) VALUES ({marks})"  # noqa: S608 - our names
    first = tuple(stored)
    for chunk in drafts:
        connection.exec_driver_sql(statement, [first + draft for draft in chunk])


def _named(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
