"""The change from one key to another, under running workers: all that is closed, closed anew.

Some hundred rows at a time, each only if it is still what was read; what is being worked on is done
later. Wherever this is cut off, it can be begun again. A row that is not what was approved is never
made so: its seal is renewed only where the old one holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    Row,
    Table,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.exc import OperationalError

from workers.clock import Clock
from workers.errors import VaultError
from workers.record import fingerprints, orders, tokens, webhooks
from workers.record.database import Database
from workers.record.fingerprints import Found
from workers.record.keybook import keys_of
from workers.record.keys import KEY_ID_BYTES
from workers.record.tables import installation, payouts
from workers.record.tables import tokens as token_rows
from workers.record.tables import webhooks as deliveries
from workers.record.vault import KEY_ID_AT, Vault

# Enough for a commit to be worth it, few enough for nobody to wait for it.
PAGE_ROWS = 200
# Between two passes, while workers have what is left.
WAIT_S = 0.5
# A file that is being stored keeps the keys as they are until it is: so often, then give up.
SWITCH_TRIES = 30
NAMED_MAX = 20


@dataclass(frozen=True, slots=True)
class Counted:
    """How much of a table is closed with a key."""

    table: str
    # Of the key; empty: it cannot be told.
    key_id: str
    number: int


@dataclass(slots=True)
class Rotated:
    """What a rotation did."""

    rows: int = 0
    # Payouts that no known key opens: left as they are, to be held when their turn comes.
    damaged: set[str] = field(default_factory=set)
    # Payouts that are not what was approved: they are still not.
    broken: set[str] = field(default_factory=set)
    # Deliveries that no known key opens.
    deliveries_damaged: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "damaged": sorted(self.damaged),
            "broken_seals": sorted(self.broken),
            "deliveries_damaged": self.deliveries_damaged,
        }


class Rotation:
    """One change of keys, from whatever the record is closed with to a key of the vault."""

    def __init__(self, database: Database, vault: Vault, new: bytes, clock: Clock) -> None:
        """
        Args:
            new: the id of the key that is to follow.

        Raises:
            VaultError: the vault does not have it.
        """
        self.database = database
        self._vault = vault.closing_with(new)
        self._new = new
        self._clock = clock

    def begin(self) -> None:
        """Have everything new closed with the new key from now on, by every process.

        Raises:
            VaultError: a rotation to another key is under way.
        """

        def switch(connection: Connection) -> bool:
            known = keys_of(connection, to_change=True)
            assert known is not None  # noqa: S101 - the runtime has seen to it
            if known.next not in (None, self._new):
                raise VaultError(
                    f"a change to key {(known.next or b'').hex()} is under way: make it"
                    " encryption_key again and let `paybatch keys rotate` end it first"
                )
            if known.current != self._new:
                _set(connection, next_key_id=self._new.hex())
            return True

        self._switch(switch)

    def run(self, show: Callable[[int], None]) -> Rotated:
        """Close everything anew, and leave the old key behind.

        Args:
            show: told how many rows more are done.
        """
        done = Rotated()
        while True:
            left = sum(self._pass(shelf, done, show) for shelf in _SHELVES)
            if not left and self._switch(self._end):
                return done
            self._clock.sleep(WAIT_S)

    def left(self) -> int:
        """How many rows are not closed with the new key."""
        return sum(one.number for one in self.counted() if one.key_id != self._new.hex())

    def counted(self) -> Sequence[Counted]:
        return counted(self.database)

    def _pass(self, shelf: _Shelf, done: Rotated, show: Callable[[int], None]) -> int:
        """Go once through a table; how many rows were there that can be closed anew."""
        found = 0
        for page in self._pages(shelf):
            renewed = []
            for row in page:
                values = shelf.renew(row, self._vault, done)
                if values is not None:
                    guard = {f"old_{name}": getattr(row, name) for name in shelf.guarded}
                    renewed.append({"row_id": row.row_id, **guard, **values})
            found += len(renewed)
            stored = self._store(shelf, renewed) if renewed else 0
            done.rows += stored
            show(stored)
        return found

    def _pages(self, shelf: _Shelf) -> Iterator[Sequence[Row[Any]]]:
        last: Any = shelf.before_first
        while True:
            page = (
                select(shelf.table, shelf.key.label("row_id"))
                .where(shelf.is_old(self._new), shelf.key > last)
                .order_by(shelf.key)
                .limit(PAGE_ROWS)
            )
            with self.database.read() as connection:
                rows = connection.execute(page).all()
            if rows:
                yield rows
            if len(rows) < PAGE_ROWS:
                return
            last = rows[-1].row_id

    def _store(self, shelf: _Shelf, renewed: Sequence[Mapping[str, Any]]) -> int:
        """Store what nobody works on, and is still what was read; how many were free."""
        free = (
            select(shelf.key)
            .where(shelf.key.in_([one["row_id"] for one in renewed]), shelf.is_free(self._now()))
            .with_for_update(skip_locked=True)
        )
        with self.database.write() as connection:
            # Never waits for a lock, so that nobody who waits for these can be waited for.
            ids = set(connection.execute(free).scalars())
            ours = [one for one in renewed if one["row_id"] in ids]
            if ours:
                connection.execute(shelf.statement(), ours)
                shelf.beside(connection, ours)
        return len(ours)

    def _end(self, connection: Connection) -> bool:
        """Whether nothing needs the old key: then it is not the record's any more."""
        known = keys_of(connection, to_change=True)
        for shelf in _SHELVES:
            for row in connection.execute(
                select(shelf.table, shelf.key.label("row_id")).where(shelf.is_old(self._new))
            ):
                if shelf.renew(row, self._vault, Rotated()) is not None:
                    return False
        if known is not None and known.next == self._new:
            _set(connection, key_id=self._new.hex(), next_key_id=None)
        return True

    def _switch(self, change: Callable[[Connection], bool]) -> bool:
        """Do something between all the transactions that write under the keys as they are."""
        for left in reversed(range(SWITCH_TRIES)):
            try:
                with self.database.write() as connection:
                    return change(connection)
            except OperationalError:
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _now(self) -> datetime:
        return self._clock.now()


def counted(database: Database) -> Sequence[Counted]:
    """What the record has closed, by table and key."""
    found = []
    with database.read() as connection:
        for shelf in _SHELVES:
            rows = connection.execute(
                select(shelf.key_id, func.count()).where(shelf.is_there).group_by(shelf.key_id)
            )
            found += [Counted(shelf.table.name, bytes(key).hex(), number) for key, number in rows]
    return sorted(found, key=lambda one: (one.table, one.key_id))


@dataclass(frozen=True, slots=True)
class _Shelf:
    """A table with something closed in it."""

    table: Table
    # What tells its rows apart, and what is before the first of them.
    key: ColumnElement[Any]
    before_first: Any
    # The closed column, and all that must still be as it was read.
    sealed: str
    guarded: tuple[str, ...]
    changed: tuple[str, ...]
    is_there: ColumnElement[bool]
    # The row as the new key closes it; None: it cannot be, and stays as it is.
    renew: Callable[[Row[Any], Vault, Rotated], Mapping[str, Any] | None]
    # What else is to be done for rows that are renewed, by their old and new values.
    beside: Callable[[Connection, Sequence[Mapping[str, Any]]], None] = lambda *_: None
    is_worked_on: bool = False

    @property
    def key_id(self) -> ColumnElement[bytes]:
        # Written out, not bound: only so is it the same when rows are grouped by it.
        start: ColumnElement[int] = literal_column(str(KEY_ID_AT))
        length: ColumnElement[int] = literal_column(str(KEY_ID_BYTES))
        return func.substr(self.table.c[self.sealed], start, length, type_=LargeBinary())

    def is_old(self, new: bytes) -> ColumnElement[bool]:
        return and_(self.is_there, self.key_id != new)

    def is_free(self, now: datetime) -> ColumnElement[bool]:
        """Nobody has it or has a message for it: that would find it locked, and be lost."""
        if not self.is_worked_on:
            return true()
        claimed, announced = self.table.c.claimed_until, self.table.c.announced_until
        return and_(
            or_(claimed.is_(None), claimed < now), or_(announced.is_(None), announced < now)
        )

    def statement(self) -> Any:
        same = [
            self.table.c[name].is_not_distinct_from(bindparam(f"old_{name}"))
            for name in self.guarded
        ]
        values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in self.changed}
        return update(self.table).where(self.key == bindparam("row_id"), *same).values(values)


def _payout(row: Row[Any], vault: Vault, done: Rotated) -> Mapping[str, Any] | None:
    try:
        order = orders.order_of(row, vault)
    except VaultError:
        done.damaged.add(row.reference_id)
        return None
    seal, fingerprint = row.seal, row.fingerprint
    if vault.seal_holds(order, seal):
        seal = vault.seal(order)
    elif seal is not None:
        done.broken.add(row.reference_id)
    if fingerprint in vault.fingerprints_of([order.payee()])[0]:
        fingerprint = vault.fingerprint(order)
    return {
        "new_sealed_data": vault.encrypt(order),
        "new_seal": seal,
        "new_fingerprint": fingerprint,
    }


def _find_anew(connection: Connection, renewed: Sequence[Mapping[str, Any]]) -> None:
    fingerprints.replace(
        connection,
        [
            (Found(*(one[f"old_{name}"] for name in Found._fields)), one["new_fingerprint"])
            for one in renewed
        ],
    )


def _delivery(row: Row[Any], vault: Vault, done: Rotated) -> Mapping[str, Any] | None:
    place = webhooks.place_of(row.account, row.key)
    try:
        body = vault.open_secret(row.sealed_body, place)
    except VaultError:
        done.deliveries_damaged += 1
        return None
    return {"new_sealed_body": vault.close_secret(body, place)}


def _token(row: Row[Any], vault: Vault, _done: Rotated) -> Mapping[str, Any]:
    place = tokens.place_of(row.account, row.name)
    try:
        token = vault.open_secret(row.sealed_token, place)
    except VaultError:
        # Nobody could use it: the next that needs it fetches another.
        return {"new_sealed_token": None}
    return {"new_sealed_token": vault.close_secret(token, place)}


_SHELVES = (
    _Shelf(
        table=payouts,
        key=payouts.c.id,
        before_first=0,
        sealed="sealed_data",
        guarded=("sealed_data", "seal", "fingerprint", "batch_id", "row"),
        changed=("sealed_data", "seal", "fingerprint"),
        is_there=payouts.c.purged_at.is_(None),
        renew=_payout,
        beside=_find_anew,
        is_worked_on=True,
    ),
    _Shelf(
        table=deliveries,
        key=deliveries.c.id,
        before_first=0,
        sealed="sealed_body",
        guarded=("sealed_body",),
        changed=("sealed_body",),
        is_there=true(),
        renew=_delivery,
    ),
    _Shelf(
        table=token_rows,
        key=token_rows.c.account + "\n" + token_rows.c.name,
        before_first="",
        sealed="sealed_token",
        guarded=("sealed_token",),
        changed=("sealed_token",),
        is_there=token_rows.c.sealed_token.is_not(None),
        renew=_token,
    ),
)


def _set(connection: Connection, **values: str | None) -> None:
    connection.execute(update(installation).where(installation.c.id == 1).values(**values))
