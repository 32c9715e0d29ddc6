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
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Self

from sqlalchemy import Connection

from workers.errors import FileRefused
from workers.record.bulk import store_many
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
    # The order's own, where it was made already.
    payee: bytes = b""


class Drafts:
    """Rows to be stored, in order; they may be gone through once all are added."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        # Which key closed them.
        self.key_id = vault.key_id
        self.count = 0
        # Whether any of them replaces a payout.
        self.replacing = False
        # Told, while they are stored, how many are on their way.
        self.progress: Callable[[int], None] = lambda _: None
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
        self.replacing = self.replacing or any(row.order.replaces for row in rows)

    def __iter__(self) -> Iterator[list[Draft]]:
        """The rows, some at a time, each with what `OWN` names."""
        self._file.seek(0)
        given = 0
        while True:
            self.progress(given)
            try:
                chunk: list[Draft] = marshal.load(self._file)  # noqa: S302 - nobody else can write it
            except EOFError:
                return
            yield chunk
            given += len(chunk)

    def close(self) -> None:
        """Forget the rows."""
        self._file.close()

    def _draft(self, row: int, order: Order, provider: str, fee: Money, payee: bytes) -> Draft:
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
            vault.fingerprint_of(payee or order.payee()),
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
    first = tuple(_as_stored(connection, name, value) for name, value in same.items())
    chunks = ([first + draft for draft in chunk] for chunk in drafts)
    store_many(connection, "payouts", [*same, *OWN], chunks)


def _as_stored(connection: Connection, name: str, value: Any) -> Any:
    if connection.dialect.name == "postgresql":
        return value
    kind = payouts.c[name].type.dialect_impl(connection.dialect)
    convert = kind.bind_processor(connection.dialect)
    return value if convert is None else convert(value)
