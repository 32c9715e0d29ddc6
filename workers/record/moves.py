"""The one writer of states: guarded UPDATEs and their events, in a transaction that is there.

Many payouts move in one statement: what is to become of each is one entry of a JSON text, so the
statement is made and planned once, however many there are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    DateTime,
    Integer,
    Row,
    TextClause,
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
    dialect = connection.dialect.name
    words = _WORDS[dialect]
    asked = [
        {**change.values, "_id": change.payout_id, "_mine": change.claim_no, "_here": change.source}
        for change in changes
    ]
    moved = connection.execute(_MOVES[dialect], {"document": words.document(asked)}).scalars()
    written = set(moved)
    events = [e for change in changes if change.payout_id in written for e in change.events]
    if events:
        connection.execute(_EVENTS[dialect], {"document": words.document(events)})
    return written


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


# --- the statements: the same twice, in the two databases' words for JSON ---


class _Words(NamedTuple):
    """How a database reads the entries `v` of a JSON text."""

    entries: str
    # Whether an entry has a key, and what it has there, as a column of a type.
    has: str
    value: str
    # How a time is written there: as `UtcDateTime` has it stored.
    time: Callable[[datetime], str]

    def of(self, column: Any, key: str = "") -> str:
        kind = getattr(column.type, "impl", column.type)
        name = "timestamptz" if isinstance(kind, DateTime) else _TYPES.get(type(kind), "text")
        return self.value.format(key=key or column.name, type=name)

    def moves(self) -> TextClause:
        """Each column becomes what the entry has, or, where it has none, stays as it is."""
        sets = ", ".join(
            f"{name} = CASE WHEN {self.has.format(key=name)} THEN {self.of(payouts.c[name])}"
            f" ELSE payouts.{name} END"
            for name in sorted(_CHANGING)
        )
        guards = ((payouts.c.id, "_id"), (payouts.c.claim_no, "_mine"), (payouts.c.state, "_here"))
        guard = " AND ".join(f"{column} = {self.of(column, key)}" for column, key in guards)
        # Every word is ours: names of columns, and the one parameter.
        return text(
            f"UPDATE payouts SET {sets} FROM {self.entries} WHERE {guard} RETURNING payouts.id"  # noqa: S608
        )

    def events(self) -> TextClause:
        """One event an entry, in their order."""
        values = ", ".join(self.of(payout_events.c[name]) for name in _EVENT_COLUMNS)
        names = ", ".join(_EVENT_COLUMNS)
        # As above: names of columns, and the one parameter.
        return text(f"INSERT INTO payout_events ({names}) SELECT {values} FROM {self.entries}")  # noqa: S608

    def document(self, entries: Sequence[Mapping[str, Any]]) -> str:
        """The JSON text of some entries.

        Raises:
            ValueError: some text is none that a database can store.
        """
        # Characters as they are: written as escapes, half a surrogate pair would get into SQLite,
        # and nobody could read its row again. A zero byte is always an escape, and ends a text.
        document = json.dumps(entries, default=self._written, ensure_ascii=False)
        texts = (value for entry in entries for value in entry.values() if isinstance(value, str))
        if r"\u0000" in document and any("\0" in each for each in texts):
            raise ValueError("a text with a zero byte")
        return document

    def _written(self, at: Any) -> str:
        if not isinstance(at, datetime) or at.tzinfo is None:
            raise TypeError(f"{type(at).__name__} is nothing that a payout's row has")
        return self.time(at)


def _wall_time(at: datetime) -> str:
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


_TYPES: Mapping[type, str] = {BigInteger: "bigint", Integer: "integer"}
_WORDS: Mapping[str, _Words] = {
    "postgresql": _Words(
        entries="jsonb_array_elements(CAST(:document AS jsonb)) AS v(doc)",
        has="v.doc ? '{key}'",
        value="(v.doc ->> '{key}')::{type}",
        time=datetime.isoformat,
    ),
    "sqlite": _Words(
        entries="json_each(:document) AS v",
        has="json_type(v.value, '$.{key}') IS NOT NULL",
        value="json_extract(v.value, '$.{key}')",
        time=_wall_time,
    ),
}
_MOVES = {dialect: words.moves() for dialect, words in _WORDS.items()}
_EVENTS = {dialect: words.events() for dialect, words in _WORDS.items()}
