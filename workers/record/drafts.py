"""The rows of a batch on their way into the record: kept in a file without a name, and from there
closed by the vault and stored in bulk.

So a file is read once, what is stored is what was checked, and no transaction waits for the checks.
What lies in that file is encrypted with a key that nobody else has and that is written nowhere: it
ends with its process, whatever ends that.
"""

from __future__ import annotations

import marshal
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import repeat
from typing import Any, NamedTuple, Self

from sqlalchemy import Connection

from workers.errors import FileRefused
from workers.record.alike import Alike, Cells, Template, in_order
from workers.record.bulk import Chunk, Column, Same, count_of, store_many
from workers.record.canonical import plain_object
from workers.record.fingerprints import Collected
from workers.record.keys import PassingKey
from workers.record.model import Order
from workers.record.money import Currency, Money
from workers.record.status import State
from workers.record.tables import payouts
from workers.record.vault import Vault, bound_to, mask, masked_beneficiary, plain_of

# What each row has of its own.
OWN = (
    "row", "reference_id", "account", "provider", "service", "amount_minor", "currency",
    "currency_exponent", "sealed_data", "beneficiary", "fingerprint", "description", "metadata",
    "replaces", "fee_expected_minor",
)  # fmt: skip
CHUNK_ROWS = 2_000
_LISTS = ("references", "amounts", "fees", "payees")
_LENGTH_BYTES = 4


class NewRow(NamedTuple):
    """A checked row, ready to be stored."""

    row: int
    order: Order
    provider: str
    fee: Money


class NewRows(NamedTuple):
    """Checked rows in order that are alike, none of which replaces a payout."""

    first_row: int
    account: str
    provider: str
    service: str
    currency: Currency
    references: Sequence[str]
    # In minor units.
    amounts: Sequence[int]
    fees: Sequence[int]
    # What `Order.payee` gives for each.
    payees: Sequence[bytes]
    data: Alike


class Drafts:
    """Rows to be stored, in order; they may be gone through once all are added."""

    def __init__(self) -> None:
        self.count = 0
        # Whether any of them replaces a payout.
        self.replacing = False
        # Told, while they are stored, how many are on their way.
        self.progress: Callable[[int], None] = lambda _: None
        self._key = PassingKey()
        self._chunks = 0
        # Of no name in any folder: only this process can read it.
        self._file = tempfile.TemporaryFile(prefix="paybatch-")  # noqa: SIM115 - see `close`
        # For drafts that nobody wants any more: their room on the disk is free at once.
        weakref.finalize(self, self._file.close)

    @classmethod
    def of(cls, rows: Iterable[NewRow]) -> Self:
        """These rows."""
        drafts = cls()
        chunk: list[NewRow] = []
        for row in rows:
            chunk.append(row)
            if len(chunk) == CHUNK_ROWS:
                drafts.add(chunk)
                chunk = []
        drafts.add(chunk)
        return drafts

    def add(self, rows: Sequence[NewRow]) -> None:
        """Take some more rows.

        Raises:
            FileRefused: there is no room for them.
        """
        if not rows:
            return
        self._keep(False, [*map(list, zip(*[_open_draft(*row) for row in rows], strict=True))])
        self.count += len(rows)
        self.replacing = self.replacing or any(row.order.replaces for row in rows)

    def add_alike(self, rows: NewRows) -> None:
        """Take some more rows that are alike.

        Raises:
            FileRefused: there is no room for them.
        """
        self._keep(True, _packed(rows))
        self.count += len(rows.references)

    def closed_by(self, vault: Vault) -> Iterator[Chunk]:
        """The rows, some at a time, each with what `OWN` names, closed by that vault."""
        self._file.seek(0)
        given = 0
        for number in range(self._chunks):
            self.progress(given)
            length = int.from_bytes(self._file.read(_LENGTH_BYTES))
            opened = self._key.opened(self._file.read(length), _place(number))
            are_alike, kept = marshal.loads(opened)  # noqa: S302 - it opened: it is what we closed
            pieces = map(_open_columns, _in_pieces(_unpacked(kept))) if are_alike else [kept]
            for piece in pieces:
                chunk = _closed(piece, vault)
                yield chunk
                given += count_of(chunk)
        self.progress(given)

    def close(self) -> None:
        """Forget the rows."""
        self._file.close()

    def _keep(self, are_alike: bool, rows: Any) -> None:
        data = self._key.closed(marshal.dumps((are_alike, rows)), _place(self._chunks))
        try:
            self._file.write(len(data).to_bytes(_LENGTH_BYTES) + data)
        except OSError as error:
            raise FileRefused(
                f"the folder for temporary files has no room for the rows ({error.strerror});"
                " nothing was stored: make room, or set TMPDIR to another folder"
            ) from error
        self._chunks += 1


def store_drafts(
    connection: Connection, drafts: Drafts, vault: Vault, *, batch_id: str, now: datetime
) -> Collected:
    """Store the rows inside the transaction that stores their batch; their fingerprints.

    Raises:
        sqlalchemy.exc.IntegrityError: one of the reference ids was stored meanwhile.
    """
    same = {"batch_id": batch_id, "state": State.DRAFT.value, "created_at": now}
    first = [Same(_as_stored(connection, name, value)) for name, value in same.items()]
    prints = Collected(drafts.count)
    chunks = ([*first, *_noted(chunk, prints)] for chunk in drafts.closed_by(vault))
    store_many(connection, payouts, [*same, *OWN], chunks)
    prints.store(connection, batch_id)
    return prints


def _noted(chunk: Chunk, prints: Collected) -> Chunk:
    columns = dict(zip(OWN, chunk, strict=True))
    prints.add(columns["fingerprint"], columns["row"])
    return chunk


def _as_stored(connection: Connection, name: str, value: Any) -> Any:
    if connection.dialect.name == "postgresql":
        return value
    kind = payouts.c[name].type.dialect_impl(connection.dialect)
    convert = kind.bind_processor(connection.dialect)
    return value if convert is None else convert(value)


def _place(number: int) -> bytes:
    """Where a chunk lies, so that none stands in for another."""
    return str(number).encode()


# --- open drafts: with the plain text and the payee of a row where its closed text and its
# --- fingerprint are to stand; a column is a list, or one value that all rows have


def _open_draft(row: int, order: Order, provider: str, fee: Money) -> tuple[Any, ...]:
    amount = order.amount
    return (
        row,
        order.reference_id,
        order.account,
        provider,
        order.service,
        amount.minor,
        amount.currency.code,
        amount.currency.exponent,
        plain_of(order),
        masked_beneficiary(order),
        order.payee(),
        order.description,
        plain_object(order.metadata),
        order.replaces,
        fee.minor,
    )


def _packed(rows: NewRows) -> dict[str, Any]:
    """The same in plain lists and dictionaries."""
    *objects, description = rows.data
    plain = [{name: _listed(cells) for name, cells in columns.items()} for columns in objects]
    lists = {name: list(getattr(rows, name)) for name in _LISTS}
    currency = (rows.currency.code, rows.currency.exponent)
    return {**rows._asdict(), **lists, "currency": currency, "data": (*plain, _listed(description))}


def _unpacked(kept: dict[str, Any]) -> NewRows:
    own = {"currency": Currency(*kept["currency"]), "data": Alike(*kept["data"])}
    return NewRows(**{**kept, **own})


def _in_pieces(rows: NewRows) -> Iterator[NewRows]:
    """The same, fewer at a time: what is done with many in one go keeps the interpreter from the
    thread that sends the ones before to the server.
    """
    for first in range(0, len(rows.references), CHUNK_ROWS):
        piece = slice(first, first + CHUNK_ROWS)
        cut: dict[str, Any] = {name: getattr(rows, name)[piece] for name in _LISTS}
        cut |= {"first_row": rows.first_row + first, "data": rows.data.cut(piece)}
        yield rows._replace(**cut)


def _listed(cells: Cells) -> str | list[str]:
    return cells if isinstance(cells, str) else list(cells)


def _open_columns(rows: NewRows) -> list[Any]:
    """Open drafts of rows that were packed."""
    count, data = len(rows.references), rows.data
    plain, metadata = Template(), Template()
    plain.add_object('{"fields":', data.fields)
    plain.add_object(',"context":', data.context)
    plain.add_object(',"customer":', data.customer)
    plain.add("}")
    metadata.add_object("", data.metadata)
    return [
        list(range(rows.first_row, rows.first_row + count)),
        rows.references,
        rows.account,
        rows.provider,
        rows.service,
        rows.amounts,
        rows.currency.code,
        rows.currency.exponent,
        plain.bytes(count),
        _masked(data.fields).texts(count),
        rows.payees,
        data.description,
        metadata.texts(count),
        "",
        rows.fees,
    ]


def _masked(fields: Mapping[str, Cells]) -> Template:
    """As `masked_beneficiary` shows each row."""
    shown = Template()
    comma = ""
    for name, cells in in_order(fields).items():
        masked = mask(cells) if isinstance(cells, str) else list(map(mask, cells))
        shown.add(f"{comma}{name} ", masked)
        comma = ", "
    return shown


def _closed(chunk: list[Any], vault: Vault) -> Chunk:
    columns = dict(zip(OWN, chunk, strict=True))
    references, accounts = columns["reference_id"], columns["account"]
    of = repeat(accounts) if isinstance(accounts, str) else accounts
    columns["sealed_data"] = vault.closed_all(
        columns["sealed_data"], [bound_to(*each) for each in zip(of, references, strict=False)]
    )
    columns["fingerprint"] = vault.fingerprints_all(columns["fingerprint"])
    return [_column(values) for values in columns.values()]


def _column(values: Any) -> Column:
    return values if isinstance(values, list) else Same(values)
