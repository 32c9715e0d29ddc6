"""Who is paid how much, to be found again without keeping an account number: in a table of its own.

Fingerprints come in no order. Among the indexes of payouts each one would be put somewhere else, at
every change of its payout; here a batch's are stored once, sorted, and nothing else changes them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    func,
    select,
    update,
)

from workers.record.bulk import Chunk, Same, store_many
from workers.record.database import TEXTS, Database
from workers.record.status import FINAL, State
from workers.record.tables import batches, fingerprints, payouts

_CHUNK_ROWS = 20_000
# The lock of whoever looks for repeats among what was stored meanwhile.
_STORING = 0x70620005
# Whom nobody has paid may be paid.
_UNPAID = sorted(FINAL - {State.PAID})


class Found(NamedTuple):
    """A payout and its fingerprint; None: it has none any more."""

    fingerprint: int | None
    batch_id: str
    row: int


class Looked(NamedTuple):
    """Where a batch's rows were looked for before it is stored: in the batches since then."""

    since: datetime
    batches: Collection[str]


class Again(NamedTuple):
    """A row of a batch that is being stored, and the payout that pays the same already."""

    row: int
    reference_id: str
    batch_id: str


class Collected:
    """The fingerprints of a batch, at 12 bytes a row, until its payouts are stored."""

    def __init__(self, number: int) -> None:
        # With numpy, a tenth of what a command takes to start.
        import numpy as np  # noqa: PLC0415

        # All their room at once: what grows is copied, and for a while there twice.
        self._fingerprints = np.empty(number, np.int64)
        self._rows = np.empty(number, np.int32)
        self._number = 0

    def add(self, found: Sequence[int], rows: Sequence[int]) -> None:
        """Take those of some rows."""
        place = slice(self._number, self._number + len(found))
        self._fingerprints[place], self._rows[place] = found, rows
        self._number += len(found)

    def store(self, connection: Connection, batch_id: str) -> None:
        """Store them inside the transaction that stores their batch."""
        names = ("fingerprint", "batch_id", "row")
        store_many(connection, fingerprints, names, self._sorted(batch_id))

    def again(
        self, database: Database, connection: Connection, batch_id: str, looked: Looked
    ) -> Again | None:
        """A row that a batch which was stored meanwhile pays too; inside the transaction that
        stores them, which lets no other be stored until it ends.
        """
        if not database.is_sqlite:
            connection.execute(select(func.pg_advisory_xact_lock(_STORING)))
        since = batches.c.made_at >= looked.since
        asked = select(batches.c.id).where(since, batches.c.id != batch_id)
        unseen = set(connection.execute(asked).scalars()).difference(looked.batches)
        for first in range(0, self._number if unseen else 0, _CHUNK_ROWS):
            some = slice(first, min(first + _CHUNK_ROWS, self._number))
            row_of = dict(
                zip(self._fingerprints[some].tolist(), self._rows[some].tolist(), strict=True)
            )
            told = _stored(database, connection, list(row_of), batches.c.id.in_(unseen))
            for fingerprint, (reference_id, other) in told.items():
                return Again(row_of[fingerprint], reference_id, other)
        return None

    def _sorted(self, batch_id: str) -> Iterator[Chunk]:
        found, rows = self._fingerprints[: self._number], self._rows[: self._number]
        order = found.argsort()
        for first in range(0, len(order), _CHUNK_ROWS):
            some = order[first : first + _CHUNK_ROWS]
            yield [found[some].tolist(), Same(batch_id), rows[some].tolist()]


def repeats(database: Database, asked: Sequence[int], since: datetime) -> Mapping[int, str]:
    """The latest payout of each fingerprint, in a batch stored since then, that was or may be paid:
    its reference id.
    """
    if not asked:
        return {}
    with database.read() as connection:
        # However many are asked for, and whatever the planner knows of a table that has just grown.
        database.find_by_key(connection)
        told = _stored(database, connection, asked, batches.c.made_at >= since)
    return {fingerprint: reference_id for fingerprint, (reference_id, _) in told.items()}


def _stored(
    database: Database, connection: Connection, asked: Sequence[int], among: ColumnElement[bool]
) -> Mapping[int, tuple[str, str]]:
    """The latest payout of each fingerprint in some batches: its reference id and its batch."""
    told: dict[int, tuple[str, str]] = {}
    rows = connection.execute(
        select(fingerprints, batches.c.made_at)
        .join_from(fingerprints, batches, batches.c.id == fingerprints.c.batch_id)
        .where(database.among(fingerprints.c.fingerprint), among),
        {TEXTS: json.dumps(asked)},
    ).all()
    by_batch: dict[str, dict[int, int]] = {}
    for row in sorted(rows, key=lambda row: row.made_at):
        by_batch.setdefault(row.batch_id, {})[row.row] = row.fingerprint
    for batch_id, found in by_batch.items():
        for row in _paid(database, connection, batch_id, list(found)):
            told[found[row.row]] = (row.reference_id, batch_id)
    return told


def _paid(
    database: Database, connection: Connection, batch_id: str, rows: Sequence[int]
) -> Iterable[Row[Any]]:
    return connection.execute(
        select(payouts.c.row, payouts.c.reference_id)
        .where(
            payouts.c.batch_id == batch_id,
            database.among(payouts.c.row),
            payouts.c.state.not_in(_UNPAID),
            # Without any field there is nothing that tells one beneficiary from another.
            payouts.c.beneficiary != "",
        )
        .order_by(payouts.c.row),
        {TEXTS: json.dumps(rows)},
    )


def replace(connection: Connection, found: Iterable[tuple[Found, int]]) -> None:
    """Have payouts found by other fingerprints from now on."""
    asked = [{**_named(old), "new": new} for old, new in found if old.fingerprint != new]
    if asked:
        statement = update(fingerprints).where(_ONE).values(fingerprint=bindparam("new"))
        connection.execute(statement, asked)


def forget(connection: Connection, found: Iterable[Found]) -> None:
    """Have payouts not be found any more."""
    asked = [_named(one) for one in found]
    if asked:
        connection.execute(delete(fingerprints).where(_ONE), asked)


def _named(one: Found) -> Mapping[str, Any]:
    return {f"old_{name}": value for name, value in one._asdict().items()}


_ONE = and_(*(fingerprints.c[name] == bindparam(f"old_{name}") for name in Found._fields))
