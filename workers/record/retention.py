"""What is kept of old batches: amounts, states, times, ids and decisions; not who was paid.

Only of a batch of which every payout is settled for good, and long enough ago for nobody to need
its beneficiaries any more. Reference ids stay for ever, so that none is ever used again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    case,
    delete,
    func,
    or_,
    select,
    text,
    update,
)

from workers.clock import Clock
from workers.record import fingerprints, history
from workers.record.database import Database
from workers.record.fingerprints import Found
from workers.record.history import OLD_TAKEN, Action, Deed
from workers.record.model import Actor
from workers.record.status import FINAL, State
from workers.record.tables import (
    accounts,
    batches,
    payout_events,
    payouts,
    webhooks,
)
from workers.words import number_of

PAGE_ROWS = 500
# Between two rounds, while somebody works on what is left; and how many rounds.
WAIT_S = 0.5
ROUNDS_MAX = 60

# Whatever tells of the beneficiary, or may: words of the provider and of people among it.
_REMOVED: Mapping[str, Any] = {
    "sealed_data": b"",
    "seal": None,
    "beneficiary": "",
    "fingerprint": None,
    "description": "",
    "metadata": {},
    "failure_reason": None,
    "warning": None,
    "refusal_first": None,
    "refusal_last": None,
    "doubt": None,
    # Nobody can be asked about it any more.
    "due_at": None,
    "announced_until": None,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """How long what is settled is still needed."""

    # The same payment is looked for so long after it was stored.
    repeats: timedelta
    # Money that comes back is looked for so long after it was paid.
    watched: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a batch stands to a purge."""

    batch_id: str
    file_name: str
    # Payouts whose data is still there.
    payouts: int
    settled_at: datetime
    # Why its data stays; None: it may be removed.
    why_kept: str | None


class Retention:
    """The removal of what is not needed any more. Every transaction is short."""

    def __init__(self, database: Database, limits: Limits, clock: Clock) -> None:
        self.database = database
        self._limits = limits
        self._clock = clock

    def look(self, before: datetime) -> Sequence[Standing]:
        """How each batch stands that was stored before that time and has its data, oldest first."""
        with self.database.read() as connection:
            return self._look(connection, batches.c.made_at < before, before)

    def purge(
        self,
        batch_id: str,
        before: datetime,
        *,
        actor: Actor,
        show: Callable[[int], None],
    ) -> int | None:
        """Remove the data of a batch's beneficiaries; it may be cut off, and begun again.

        Args:
            show: told how many payouts more are done.

        Returns:
            The number of payouts; None: the batch may not be purged, or not any more. Fewer than
            it has where somebody still works on some: they are the next purge's.
        """
        done = 0
        with self.database.write() as connection:
            found = self._look(connection, batches.c.id == batch_id, before)
            if not found or found[0].why_kept is not None:
                return None
            note = f"settled before {before:%Y-%m-%d}"
            self._note(connection, batch_id, Action.PURGING, actor, note)
        for _ in range(ROUNDS_MAX):
            while number := self._page(batch_id):
                done += number
                show(number)
            with self.database.write() as connection:
                if not connection.execute(select(payouts.c.id).where(_left(batch_id))).first():
                    told = f"{note}: the beneficiaries' data was removed"
                    history.forget_words(connection, batch_id)
                    self._note(connection, batch_id, Action.PURGED, actor, told)
                    _set_purged(connection, batch_id, self._clock.now())
                    return done
            self._clock.sleep(WAIT_S)
        return done

    def _look(
        self, connection: Connection, which: ColumnElement[bool], before: datetime
    ) -> Sequence[Standing]:
        settled = func.coalesce(payouts.c.settled_at, payouts.c.last_sent_at, payouts.c.created_at)
        correcting = batches.alias()
        rows = connection.execute(
            select(
                batches.c.id,
                batches.c.file_name,
                _number(payouts.c.purged_at.is_(None)).label("left"),
                *(_number(payouts.c.state == state).label(f"in_{state}") for state in State),
                func.max(settled).label("settled_at"),
                func.max(payouts.c.created_at).label("stored_at"),
                func.max(case((accounts.c.restored_at.is_not(None), accounts.c.name))).label(
                    "put_back"
                ),
                select(func.min(correcting.c.id))
                .where(correcting.c.child_of == batches.c.id, _is_open(correcting.c.id))
                .scalar_subquery()
                .label("corrected_by"),
            )
            .select_from(batches.join(payouts).join(accounts))
            .where(which, batches.c.purged_at.is_(None))
            .group_by(batches.c.id, batches.c.file_name, batches.c.made_at)
            .order_by(batches.c.made_at, batches.c.id)
        ).all()
        corrected = _corrected(connection)
        return [
            Standing(
                batch_id=row.id,
                file_name=row.file_name,
                payouts=row.left,
                settled_at=row.settled_at,
                why_kept=self._why_kept(row, row.corrected_by or corrected.get(row.id), before),
            )
            for row in rows
        ]

    def _why_kept(self, row: Row[Any], corrected_by: str | None, before: datetime) -> str | None:
        counts = {state: int(getattr(row, f"in_{state}")) for state in State}
        held, drafts = counts[State.HELD], counts[State.DRAFT]
        going_on = sum(counts[state] for state in State if state not in FINAL) - held - drafts
        if drafts:
            return "it waits for approval"
        if going_on:
            return f"{number_of(going_on, 'payout')} still open"
        if held:
            return f"{number_of(held, 'payout')} held, for a person to decide"
        if corrected_by is not None:
            return f"batch {corrected_by}, which corrects it, is not finished"
        if row.put_back is not None:
            return f"account {row.put_back} was put back, and is not compared with its provider yet"
        if row.settled_at >= before:
            return f"its last payout was settled on {row.settled_at:%Y-%m-%d}"
        return self._too_young(row, self._clock.now(), paid=bool(counts[State.PAID]))

    def _too_young(self, row: Row[Any], now: datetime, *, paid: bool) -> str | None:
        repeats_until = row.stored_at + self._limits.repeats
        if repeats_until > now:
            return (
                f"the same payments are looked for until {repeats_until:%Y-%m-%d}"
                " (duplicate_window_days)"
            )
        watched_until = row.settled_at + self._limits.watched
        if paid and watched_until > now:
            return (
                f"money that comes back is looked for until {watched_until:%Y-%m-%d}"
                " (watch_paid_days)"
            )
        return None

    def _page(self, batch_id: str) -> int:
        """Remove the data of some payouts that nobody works on; how many."""
        now = self._clock.now()
        claimed = payouts.c.claimed_until
        page = (
            select(
                payouts.c.id,
                payouts.c.account,
                payouts.c.reference_id,
                payouts.c.provider_payout_id,
                payouts.c.fingerprint,
                payouts.c.row,
            )
            .where(
                _left(batch_id),
                payouts.c.state.in_(sorted(FINAL)),
                or_(claimed.is_(None), claimed < now),
            )
            .order_by(payouts.c.id)
            .limit(PAGE_ROWS)
            .with_for_update(skip_locked=True)
        )
        with self.database.write() as connection:
            rows = connection.execute(page).all()
            if rows:
                ids = [row.id for row in rows]
                connection.execute(
                    update(payouts).where(payouts.c.id.in_(ids)).values(purged_at=now, **_REMOVED)
                )
                fingerprints.forget(
                    connection, [Found(row.fingerprint, batch_id, row.row) for row in rows]
                )
                _shorten_events(connection, ids)
                _drop_deliveries(connection, rows)
        return len(rows)

    def _note(
        self, connection: Connection, batch_id: str, action: Action, actor: Actor, note: str
    ) -> None:
        history.write(connection, batch_id, Deed(self._clock.now(), action, actor, note))


def _left(batch_id: str) -> ColumnElement[bool]:
    return and_(payouts.c.batch_id == batch_id, payouts.c.purged_at.is_(None))


def _number(which: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((which, 1), else_=0))


def _is_open(batch_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a batch has anything that is not settled."""
    one = payouts.alias()
    return (
        select(one.c.id)
        .where(one.c.batch_id == batch_id, one.c.state.not_in(sorted(FINAL)))
        .exists()
    )


def _corrected(connection: Connection) -> Mapping[str, str]:
    """The batches with a line that another batch pays again right now, and that other one: a file
    may correct lines of several batches, and is then the child of none.
    """
    new, old = payouts.alias("new"), payouts.alias("old")
    rows = connection.execute(
        select(old.c.batch_id, func.min(new.c.batch_id))
        .select_from(
            new.join(
                old,
                and_(old.c.account == new.c.account, old.c.reference_id == new.c.replaces),
            )
        )
        .where(new.c.state.not_in(sorted(FINAL)), text("new.replaces <> ''"), text(OLD_TAKEN))
        .group_by(old.c.batch_id)
    )
    return {row[0]: row[1] for row in rows}


def _set_purged(connection: Connection, batch_id: str, now: datetime) -> None:
    connection.execute(update(batches).where(batches.c.id == batch_id).values(purged_at=now))


def _shorten_events(connection: Connection, ids: Sequence[int]) -> None:
    """Keep of each event what happened, without the words of providers and people behind it."""
    wordy = or_(payout_events.c.cause.like("%:%"), payout_events.c.note.is_not(None))
    events = connection.execute(
        select(payout_events.c.id, payout_events.c.cause).where(
            payout_events.c.payout_id.in_(ids), wordy
        )
    ).all()
    for event in events:
        connection.execute(
            update(payout_events)
            .where(payout_events.c.id == event.id)
            .values(cause=event.cause.partition(":")[0], note=None)
        )


def _drop_deliveries(connection: Connection, rows: Iterable[Any]) -> None:
    """Delete what providers delivered about these payouts: the bodies name the beneficiary."""
    by_account: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        by_account[row.account].append(row)
    for account, mine in by_account.items():
        theirs = [row.provider_payout_id for row in mine if row.provider_payout_id is not None]
        connection.execute(
            delete(webhooks).where(
                webhooks.c.account == account,
                or_(
                    webhooks.c.reference_id.in_([row.reference_id for row in mine]),
                    webhooks.c.provider_payout_id.in_(theirs),
                ),
            )
        )
