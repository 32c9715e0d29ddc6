"""The history of each batch: what people did with it, when and from where. Append-only.

Who made a batch is decided from here, and from nothing that can be overwritten.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, and_, insert, select, text, update

from workers.record.database import Database
from workers.record.model import Actor
from workers.record.status import State
from workers.record.tables import batch_events, batches, payouts


class Action(StrEnum):
    """What a person did."""

    STORED = "stored"
    ALLOWED = "allowed"  # an override, such as repeated payments
    EDITED = "edited"
    APPROVED = "approved"
    REJECTED = "rejected"
    PAUSED = "paused"
    RESUMED = "resumed"
    CANCELLED = "cancelled"
    RETRIED = "retried"  # its failed lines are paid again by the batch that the note names
    PROPOSED = "proposed"  # what shall become of a held payout, for somebody else to confirm
    RESOLVED = "resolved"
    PURGING = "purging"
    PURGED = "purged"  # its beneficiaries' data was removed


# Whoever did one of these has made the batch, and the batches that pay its lines again. Who only
# had its lines paid again has made that other batch, whose own history says so: of this one, and
# of further batches that pay its lines once that one was turned down, it makes nobody a maker.
MAKING = (Action.STORED, Action.EDITED)
# Of these the whole note is what somebody said.
_WORDS = (Action.REJECTED, Action.PAUSED, Action.RESUMED, Action.CANCELLED)
# What was decided of which payout; words, and of whom, follow.
_DECIDED = re.compile(rf".+? as (?:{'|'.join(State)})(?=[:,])", re.DOTALL)
# As the index of reference ids says it, of the table under that name.
OLD_TAKEN = "(old.state <> 'cancelled' OR old.attempts > 0)"


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that a person did with a batch."""

    at: datetime
    # An `Action`, or one of a newer Paybatch.
    action: str
    actor: Actor
    note: str | None = None


def write(connection: Connection, batch_id: str, deed: Deed) -> None:
    """Add to a batch's history, in the transaction of what is done."""
    connection.execute(
        insert(batch_events).values(
            batch_id=batch_id,
            at=deed.at,
            action=deed.action,
            actor=deed.actor.name,
            origin=deed.actor.origin,
            note=deed.note,
        )
    )


def makers(connection: Connection, batch_id: str) -> frozenset[str]:
    """Who made a batch, or one whose lines it pays again; none: its history is not there."""
    found: set[str] = set()
    seen: set[str] = set()
    left = {batch_id}
    while left:
        each = left.pop()
        seen.add(each)
        stored = select(batch_events.c.actor).where(
            batch_events.c.batch_id == each, batch_events.c.action.in_(MAKING)
        )
        by = set(connection.execute(stored).scalars())
        if each == batch_id and not by:
            return frozenset()
        found |= by
        left |= parents(connection, each) - seen
    return frozenset(found)


def parents(connection: Connection, batch_id: str) -> frozenset[str]:
    """The batches whose lines a batch pays again: the one that it was stored as a child of, and
    those of every payout that one of its own replaces.
    """
    child_of = select(batches.c.child_of).where(
        batches.c.id == batch_id, batches.c.child_of.is_not(None)
    )
    new, old = payouts.alias("new"), payouts.alias("old")
    replaced = (
        select(old.c.batch_id)
        .distinct()
        .select_from(
            new.join(
                old, and_(old.c.account == new.c.account, old.c.reference_id == new.c.replaces)
            )
        )
        # Both as the indexes say it, or a batch of a million rows would be read as a whole.
        .where(new.c.batch_id == batch_id, text("new.replaces <> ''"), text(OLD_TAKEN))
    )
    found = {*connection.execute(child_of).scalars(), *connection.execute(replaced).scalars()}
    return frozenset(found - {batch_id})


def forget_words(connection: Connection, batch_id: str) -> None:
    """Keep of a batch's history what was decided, by whom and when, without anybody's own words."""
    spoken = batch_events.c.action.in_([*_WORDS, Action.PROPOSED, Action.RESOLVED])
    rows = connection.execute(
        select(batch_events.c.id, batch_events.c.action, batch_events.c.note).where(
            batch_events.c.batch_id == batch_id, spoken, batch_events.c.note.is_not(None)
        )
    ).all()
    for row in rows:
        decided = None if row.action in _WORDS else _DECIDED.match(row.note)
        connection.execute(
            update(batch_events)
            .where(batch_events.c.id == row.id)
            .values(note=decided[0] if decided else None)
        )


def last(connection: Connection, batch_id: str, action: Action) -> Deed | None:
    """The last time that somebody did that with a batch; None: nobody did."""
    row = connection.execute(
        select(batch_events)
        .where(batch_events.c.batch_id == batch_id, batch_events.c.action == action)
        .order_by(batch_events.c.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else _deed_of(row)


def _deed_of(row: Row[Any]) -> Deed:
    return Deed(row.at, row.action, Actor(row.actor, row.origin), row.note)


class History:
    """The histories, to be read."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def of(self, batch_id: str) -> Sequence[Deed]:
        """What people did with a batch, the oldest first."""
        wanted = select(batch_events).where(batch_events.c.batch_id == batch_id)
        with self.database.read() as connection:
            rows = connection.execute(wanted.order_by(batch_events.c.id)).all()
        return [_deed_of(row) for row in rows]

    def last(self, batch_id: str, action: Action) -> Deed | None:
        """The last time that somebody did that with a batch; None: nobody did."""
        with self.database.read() as connection:
            return last(connection, batch_id, action)
