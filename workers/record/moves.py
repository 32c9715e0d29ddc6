"""The one writer of states: guarded UPDATEs and their events, in a transaction that is there.

On PostgreSQL many payouts move in one statement: what is to become of each is one entry of a JSON
text, so the statement is made and planned once, however many there are.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    DateTime,
    Integer,
    Row,
    and_,
    bindparam,
    insert,
    literal,
    select,
    text,
    update,
)

from workers.errors import DeveloperError, IllegalMove, StaleState
from workers.record.model import Change, Payout
from workers.record.status import Move, State, sources_of
from workers.record.tables import UtcDateTime, payout_events, payouts

WORKER = "worker"
SWEEP = "sweep"
# What no move ever changes.
_FIXED = frozenset(
    (
        "id", "batch_id", "row", "reference_id", "account", "provider", "service", "amount_minor",
        "currency", "currency_exponent", "sealed_data", "seal", "beneficiary", "fingerprint",
        "description", "metadata", "replaces", "fee_expected_minor", "created_at", "purged_at",
    )
)  # fmt: skip
_CHANGING = frozenset(payouts.c.keys()) - _FIXED
_EVENT_COLUMNS = (
    "payout_id", "at", "from_state", "to_state", "cause", "actor", "provider_code",
)  # fmt: skip


def change_of(
    row: Row[Any] | Payout,
    moves: Sequence[tuple[State, str]],
    changes: Mapping[str, Any],
    *,
    actor: str,
    now: datetime,
    code: str | None = None,
    notes: Sequence[tuple[str, str | None]] = (),
) -> Change:
    """The change that takes a payout along these moves, each with its cause, one event a move.

    Args:
        row: the payout as it was read.
        moves: in order; without any, the changes alone.
        code: the provider's, for the moves.
        notes: journalled after them, though they move nothing, each with the provider's code.

    Raises:
        IllegalMove: the table of states has no such arrow.
    """
    source = State(row.state)
    events = []

    def journal(target: State, cause: str, code: str | None) -> None:
        told = (row.id, now, source, target, cause, actor, code)
        events.append(dict(zip(_EVENT_COLUMNS, told, strict=True)))

    for target, cause in moves:
        if source not in sources_of(target) or (source is State.HELD and actor in (WORKER, SWEEP)):
            raise IllegalMove(f"payout {row.reference_id}: {source} to {target} ({cause})")
        journal(target, cause, code)
        source = target
    for note, its_code in notes:
        journal(source, note, its_code)
    values = {**changes, "state": source} if moves else changes
    if not values.keys() <= _CHANGING:
        raise DeveloperError(f"no move changes {', '.join(sorted(values.keys() - _CHANGING))}")
    change = Change(row.id, row.reference_id, row.claim_no, State(row.state), values, events)
    untold = row.untold if isinstance(row, Payout) else None
    if untold is None:
        return change
    # What was not stored yet comes first; the row is still where that began.
    return replace(
        untold,
        values={**untold.values, **change.values},
        events=[*untold.events, *change.events],
    )


def write(connection: Connection, changes: Sequence[Change]) -> set[int]:
    """Carry out changes and journal them; which payouts were still as they had been read.

    Of any other nothing was changed.

    Args:
        changes: one for each payout. Of two, one would be carried out, and both believed.
    """
    if not changes:
        return set()
    if len({change.payout_id for change in changes}) < len(changes):
        raise DeveloperError("two changes of one payout at once")
    carry_out = _write_together if connection.dialect.name == "postgresql" else _write_each
    return carry_out(connection, changes)


def write_one(connection: Connection, change: Change) -> None:
    """Carry out one change.

    Raises:
        StaleState: the row has changed since it was read.
    """
    if not write(connection, [change]):
        raise stale(change)


def stale(change: Change) -> StaleState:
    """Why a change was not carried out."""
    return StaleState(
        f"payout {change.reference_id}: claim {change.claim_no} was lost, or it is no longer"
        f" {change.source}"
    )


def move_all(
    connection: Connection,
    rows: ColumnElement[bool],
    move: Move,
    changes: Mapping[str, Any],
    *,
    actor: str,
    now: datetime,
    given: Mapping[str, Any] | None = None,
) -> int:
    """Move all of some rows that are where the move begins, with an event each; their number.

    Args:
        given: the parameters that `rows` and `changes` ask for.

    Raises:
        IllegalMove: the table of states has no such arrow.
    """
    if move.source not in sources_of(move.target):
        raise IllegalMove(f"{move.source} to {move.target}")
    which = and_(rows, payouts.c.state == move.source)
    event = select(
        payouts.c.id,
        bindparam("at", now, UtcDateTime()),
        literal(move.source.value),
        literal(move.target.value),
        literal(move.when),
        literal(actor),
    ).where(which)
    names = ["payout_id", "at", "from_state", "to_state", "cause", "actor"]
    connection.execute(insert(payout_events).from_select(names, event), given)
    return connection.execute(
        update(payouts).where(which).values({**changes, "state": move.target}), given
    ).rowcount


# --- PostgreSQL: all changes in one statement, because each is a way to the server and back ---


def _write_together(connection: Connection, changes: Sequence[Change]) -> set[int]:
    asked = [
        {**change.values, "_id": change.payout_id, "_mine": change.claim_no, "_here": change.source}
        for change in changes
    ]
    # As the driver takes it: to have the text made anew for each takes as long as to send it.
    moved = connection.exec_driver_sql(_MOVES, {"document": _document(asked)})
    written = set(moved.scalars())
    events = [e for change in changes if change.payout_id in written for e in change.events]
    if events:
        connection.exec_driver_sql(_EVENTS, {"document": _document(events)})
    return written


def _document(entries: Sequence[Mapping[str, Any]]) -> str:
    """The JSON text of some entries.

    Raises:
        ValueError: some text is none that a database can store.
    """
    # Half a surrogate pair is written as it is, and refused on its way; a zero byte ends a text.
    document = json.dumps(entries, default=_written, ensure_ascii=False)
    if r"\u0000" in document:
        for entry in entries:
            _without_zero(entry.values())
    return document


def _without_zero(values: Iterable[Any]) -> None:
    if any("\0" in value for value in values if isinstance(value, str)):
        raise ValueError("a text with a zero byte")


def _written(value: Any) -> str:
    return _time(value).isoformat()


def _time(value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise TypeError(f"{type(value).__name__} is nothing that a payout's row has")
    return value


def _read(column: Any, key: str = "") -> str:
    """What an entry has, as a column's type."""
    kind = getattr(column.type, "impl", column.type)
    name = "timestamptz" if isinstance(kind, DateTime) else _TYPES.get(type(kind), "text")
    return f"(v.doc ->> '{key or column.name}')::{name}"


def _moves() -> str:
    """Each column becomes what the entry has, or, where it has none, stays as it is."""
    sets = ", ".join(
        f"{name} = CASE WHEN v.doc ? '{name}' THEN {_read(payouts.c[name])} ELSE payouts.{name} END"
        for name in sorted(_CHANGING)
    )
    guards = ((payouts.c.id, "_id"), (payouts.c.claim_no, "_mine"), (payouts.c.state, "_here"))
    guard = " AND ".join(f"{column} = {_read(column, key)}" for column, key in guards)
    # Every word is ours: names of columns, and the one parameter.
    return f"UPDATE payouts SET {sets} FROM {_ENTRIES} WHERE {guard} RETURNING payouts.id"  # noqa: S608


def _events() -> str:
    """One event an entry, in their order."""
    values = ", ".join(_read(payout_events.c[name]) for name in _EVENT_COLUMNS)
    names = ", ".join(_EVENT_COLUMNS)
    # As above: names of columns, and the one parameter.
    return f"INSERT INTO payout_events ({names}) SELECT {values} FROM {_ENTRIES}"  # noqa: S608


_TYPES: Mapping[type, str] = {BigInteger: "bigint", Integer: "integer"}
_ENTRIES = "jsonb_array_elements(CAST(%(document)s AS jsonb)) AS v(doc)"
_MOVES, _EVENTS = _moves(), _events()


# --- SQLite: each by itself, because it brings no index up to date of which nothing is set ---


def _write_each(connection: Connection, changes: Sequence[Change]) -> set[int]:
    asked = {"ids": json.dumps([change.payout_id for change in changes])}
    # Nobody else writes before this transaction ends.
    here = {number: (claim, state) for number, claim, state in connection.execute(_HERE, asked)}
    found = [each for each in changes if here.get(each.payout_id) == (each.claim_no, each.source)]
    alike: dict[tuple[str, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for change in found:
        values = (*change.values.values(), change.payout_id, change.claim_no, change.source)
        alike[tuple(change.values)].append(_bound(values))
    for names, rows in alike.items():
        if connection.exec_driver_sql(_update_of(names), rows).rowcount != len(rows):
            raise DeveloperError("a payout was changed inside another's transaction")
    events = [_bound(tuple(each.values())) for change in found for each in change.events]
    if events:
        connection.exec_driver_sql(_INSERT_EVENT, events)
    return {change.payout_id for change in found}


@functools.cache
def _update_of(names: Sequence[str]) -> str:
    """There are as many as there are kinds of changes."""
    sets = ", ".join(f"{name} = ?" for name in names)
    return f"UPDATE payouts SET {sets} WHERE id = ? AND claim_no = ? AND state = ?"  # noqa: S608 - names of columns


def _bound(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """As `UtcDateTime` and the other types have them stored."""
    _without_zero(values)
    return tuple(
        each if each is None or isinstance(each, (str, int)) else _wall_time(_time(each))
        for each in values
    )


def _wall_time(at: datetime) -> str:
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


_HERE = text(
    "SELECT id, claim_no, state FROM payouts WHERE id IN (SELECT value FROM json_each(:ids))"
)
_INSERT_EVENT = (
    f"INSERT INTO payout_events ({', '.join(_EVENT_COLUMNS)})"  # noqa: S608 - names of columns
    f" VALUES ({', '.join('?' * len(_EVENT_COLUMNS))})"
)
