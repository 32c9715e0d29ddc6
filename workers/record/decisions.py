"""What people decide about a batch after its approval, and about its held payouts.

A decision is one short transaction and counts from then on: every claim and every release looks at
it. Its rows follow a chunk at a time, by whoever is there: the command, or any sweep after a crash.
Nothing is ever cancelled here that a provider may have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from workers.errors import ApprovalRefused, StaleState
from workers.record import history
from workers.record.history import Action, Deed
from workers.record.model import Actor, Proposal
from workers.record.moves import move_all
from workers.record.status import OPEN, Move, State
from workers.record.store import Store
from workers.record.tables import accounts, batches, payout_events, payouts, proposals

# Rows that one transaction moves: some tens of milliseconds.
CHUNK_ROWS = 1_000
# Of all batches, in one sweep: it has other things to do.
SWEEP_CHUNKS = 20
# Larger than any row's number: what is left are those that could not follow when it was their turn.
_EVERY_ROW = 2**31 - 1
_MOVING = sorted(OPEN)
_WITHDRAWN: Mapping[str, Action] = {
    "cancelled": Action.CANCELLED,
    "rejected": Action.REJECTED,
}
_DOING: Mapping[str, str] = {
    Action.PAUSED: "pausing",
    Action.RESUMED: "resuming",
    Action.CANCELLED: "cancelling",
    Action.REJECTED: "rejecting",
}
# What a payout is held with, for each fate but to be cancelled.
_WHY_HELD: Mapping[str, str] = {
    "held": "it may have been sent before: look it up at the provider",
    "created": "the provider has it, and nothing releases it any more",
    "released": "its release was asked for and may have been taken: look it up at the provider",
}


@dataclass(frozen=True, slots=True)
class Resolution:
    """What came of a person's decision about a held payout."""

    # Held still: somebody else has to say the same.
    state: State
    # What was proposed before: confirmed, or replaced by another proposal.
    before: Proposal | None


class Decisions:
    """People's decisions about what is stored. Every method is one transaction."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.database = store.database

    # --- batches ---

    def pause(self, batch_id: str, actor: Actor, now: datetime, note: str | None = None) -> bool:
        """Stop sending and releasing a batch; False: it is paused already.

        Raises:
            ApprovalRefused: it is not being paid.
        """
        return self._decide(batch_id, Deed(now, Action.PAUSED, actor, note), ("approved",))

    def resume(self, batch_id: str, actor: Actor, now: datetime, note: str | None = None) -> bool:
        """Go on with a paused batch; False: it is not paused.

        Raises:
            ApprovalRefused: it is no batch that is being paid.
        """
        return self._decide(batch_id, Deed(now, Action.RESUMED, actor, note), ("paused",))

    def cancel(
        self,
        batch_id: str,
        actor: Actor,
        now: datetime,
        note: str | None = None,
        *,
        drafts_only: bool = False,
    ) -> bool:
        """Withdraw what is not sent of a batch, for good; False: it is cancelled already.

        Raises:
            ApprovalRefused: it was rejected, or is finished; or it is approved, with `drafts_only`.
        """
        sources = ("draft",) if drafts_only else ("draft", "approved", "paused")
        return self._decide(batch_id, Deed(now, Action.CANCELLED, actor, note), sources)

    def reject(self, batch_id: str, actor: Actor, now: datetime, note: str | None = None) -> None:
        """Turn a draft down.

        Raises:
            ApprovalRefused: it is decided already.
        """
        if not self._decide(batch_id, Deed(now, Action.REJECTED, actor, note), ("draft",)):
            raise ApprovalRefused(_why_not(batch_id, Action.REJECTED, "rejected"))

    def _decide(self, batch_id: str, deed: Deed, sources: Sequence[str]) -> bool:
        decision = "approved" if deed.action == Action.RESUMED else deed.action
        values: dict[str, Any] = {"decision": decision, "carried_to": 0}
        if deed.action == Action.REJECTED:
            values |= {"decided_by": deed.actor.name, "decided_at": deed.at}
        with self.database.decide(batch_id, _DOING[deed.action], deed.actor.name) as connection:
            decided = connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.decision.in_(sources))
                .values(values)
            ).rowcount
            if not decided:
                found = connection.execute(
                    select(batches.c.decision).where(batches.c.id == batch_id)
                ).scalar_one_or_none()
                if found == decision:
                    return False
                raise ApprovalRefused(_why_not(batch_id, deed.action, found))
            if deed.action in (Action.PAUSED, Action.CANCELLED) and not _moves(
                connection, batch_id
            ):
                raise ApprovalRefused(
                    f"batch {batch_id} is finished: there is nothing left that could be"
                    f" {deed.action}; nothing was changed"
                )
            history.write(connection, batch_id, deed)
        return True

    # --- their rows ---

    def carry_on(self, now: datetime, *, chunks: int = SWEEP_CHUNKS) -> int:
        """Carry out some of what was decided and is not carried out yet; the chunks done."""
        wanted = select(batches.c.id).where(batches.c.carried_to.is_not(None))
        with self.database.read() as connection:
            waiting = connection.execute(wanted.order_by(batches.c.id)).scalars().all()
        done = 0
        for batch_id in waiting:
            while done < chunks and self.carry(batch_id, now):
                done += 1
        return done

    def carry(self, batch_id: str, now: datetime) -> bool:
        """Carry out a batch's decision on its next rows; False: no row can follow it now.

        The batch is locked meanwhile, so the rows follow the decision that stands.
        """
        wanted: Select[Any] = select(batches.c.id, batches.c.decision, batches.c.carried_to).where(
            batches.c.id == batch_id, batches.c.carried_to.is_not(None)
        )
        with self.database.read() as connection:
            if connection.execute(wanted).first() is None:
                return False
        with self.database.write() as connection:
            # Not against the payouts and events that name the batch.
            batch = connection.execute(wanted.with_for_update(key_share=True)).one_or_none()
            if batch is None:
                return False
            of_batch = payouts.c.batch_id == batch_id
            end = select(func.max(payouts.c.row)).where(of_batch)
            if batch.carried_to < (connection.execute(end).scalar_one() or 0):
                to = batch.carried_to + CHUNK_ROWS
                rows = and_(of_batch, payouts.c.row > batch.carried_to, payouts.c.row <= to)
                self._follow(connection, batch, rows, now)
                _carried(connection, batch_id, to)
                return True
            if batch.decision in _WITHDRAWN and _moves(connection, batch_id):
                # What was being sent when it was decided, and has come to where it can follow.
                return bool(self._follow(connection, batch, of_batch, now))
            _carried(connection, batch_id, None)
            return False

    def _follow(
        self, connection: Connection, batch: Row[Any], rows: ColumnElement[bool], now: datetime
    ) -> int:
        """Have these rows follow their batch's decision; the number changed."""
        if batch.decision in _WITHDRAWN:
            action = _WITHDRAWN[batch.decision]
            deed = history.last(connection, batch.id, action)
            return self._withdraw(connection, rows, action, deed, now)
        # Out of the index of what is due, so that nobody who looks there reads past them.
        queued = and_(rows, payouts.c.state == State.QUEUED)
        if batch.decision == "paused":
            which, due_at = and_(queued, payouts.c.due_at.is_not(None)), None
        else:
            which, due_at = and_(queued, payouts.c.due_at.is_(None)), now
        values = {"due_at": due_at, "announced_until": None}
        return connection.execute(update(payouts).where(which).values(values)).rowcount

    def _withdraw(
        self,
        connection: Connection,
        rows: ColumnElement[bool],
        action: Action,
        deed: Deed | None,
        now: datetime,
    ) -> int:
        free = or_(payouts.c.claimed_until.is_(None), payouts.c.claimed_until < now)
        stopped = payouts.c.state.in_([State.DRAFT, State.QUEUED, State.CREATED])
        # Locked: a worker that claims one of them right now has it, or does not get it.
        wanted: Select[Any] = (
            select(payouts.c.id, payouts.c.state, _FATE.label("fate"))
            .select_from(payouts.join(accounts, accounts.c.name == payouts.c.account))
            .where(rows, stopped, free)
            .limit(CHUNK_ROWS)
            .with_for_update(of=payouts)
        )
        found = connection.execute(wanted).all()
        actor = deed.actor.name if deed is not None else "nobody known"
        said = f"{action}: {deed.note}" if deed is not None and deed.note else str(action)
        for (state, fate), ids in _grouped(found).items():
            why = f"{said}; {_WHY_HELD[fate]}" if fate in _WHY_HELD else None
            source, target = State(state), State.CANCELLED if why is None else State.HELD
            changes: dict[str, Any] = {
                "due_at": None,
                "announced_until": None,
                "claimed_until": None,
            }
            if target is State.CANCELLED:
                changes["settled_at"] = now
            elif fate == "held":
                changes["doubted_at"] = func.coalesce(payouts.c.doubted_at, now)
            move_all(
                connection,
                payouts.c.id.in_(ids),
                Move(source, target, why or said),
                changes,
                actor=actor,
                now=now,
            )
        return len(found)

    # --- held payouts ---

    def resolve(
        self,
        payout_id: int,
        target: State,
        *,
        actor: Actor,
        reason: str,
        now: datetime,
        people: int = 1,
    ) -> Resolution:
        """Decide about a held payout, or propose it where two people are needed.

        Args:
            people: 2: it is carried out when somebody else decides the same.

        Raises:
            StaleState: it is not held any more.
            ApprovalRefused: it would be sent again, and its batch is cancelled.
            IllegalMove: no person may decide that.
        """
        with self.database.write() as connection:
            row = connection.execute(
                select(payouts.c.id, payouts.c.batch_id, payouts.c.reference_id, batches.c.decision)
                .select_from(payouts.join(batches))
                .where(payouts.c.id == payout_id, payouts.c.state == State.HELD)
                .with_for_update(of=payouts)
            ).one_or_none()
            if row is None:
                raise StaleState(f"payout {payout_id} is not held")
            if target is State.QUEUED and row.decision in _WITHDRAWN:
                raise ApprovalRefused(
                    f"batch {row.batch_id} is {row.decision}, so {row.reference_id} is not sent"
                    " any more: look it up at the provider, and decide paid or failed"
                )
            before = _proposed(connection, payout_id) if people > 1 else None
            said = f"{row.reference_id} as {target}"
            confirmed = before and before.target is target and before.actor != actor.name
            if people > 1 and not confirmed:
                _propose(connection, payout_id, Proposal(target, now, actor.name, reason))
                deed = Deed(now, Action.PROPOSED, actor, f"{said}: {reason}")
                history.write(connection, row.batch_id, deed)
                return Resolution(State.HELD, before)
            if before is not None:
                said = f"{said}, as {before.actor} proposed ({before.reason})"
            connection.execute(delete(proposals).where(proposals.c.payout_id == payout_id))
            settled = self.store.settle(
                connection, payout_id, target, actor=actor.name, reason=reason, now=now
            )
            if settled.state in OPEN and row.decision in _WITHDRAWN:
                # It moves again, to where it has to follow the decision once more.
                _carried(connection, row.batch_id, _EVERY_ROW)
            deed = Deed(now, Action.RESOLVED, actor, f"{said}: {reason}")
            history.write(connection, row.batch_id, deed)
        return Resolution(settled.state, before)


# What is approved or paid by nobody yet can be taken back. What may be at the provider cannot: it
# was sent and its absence not proven since, or a record that was put back does not know.
_LAST_QUEUED = (
    select(payout_events.c.from_state)
    .where(
        payout_events.c.payout_id == payouts.c.id,
        payout_events.c.to_state == State.QUEUED,
        payout_events.c.from_state != State.QUEUED,
    )
    .order_by(payout_events.c.id.desc())
    .limit(1)
    .scalar_subquery()
)
_NEVER_THERE = and_(
    accounts.c.restored_at.is_(None),
    payouts.c.confirmed_id.is_(None),
    # From unknown it comes back only by proof of its absence.
    or_(payouts.c.doubted_at.is_(None), _LAST_QUEUED == State.UNKNOWN),
)
_FATE = case(
    (and_(payouts.c.state == State.CREATED, payouts.c.releases > 0), literal("released")),
    (payouts.c.state == State.CREATED, literal("created")),
    (or_(payouts.c.state == State.DRAFT, _NEVER_THERE), literal("cancelled")),
    else_=literal("held"),
)


def _moves(connection: Connection, batch_id: str) -> bool:
    """Whether some payout of a batch is not settled and waits for no person."""
    for state in _MOVING:
        which = (payouts.c.batch_id == batch_id, payouts.c.state == state)
        # In the index's order, or the table itself might be walked for the first one.
        first = select(payouts.c.account).where(*which).order_by(payouts.c.account).limit(1)
        if connection.execute(first).first() is not None:
            return True
    # Drafts are approved together, and withdrawn in the order of their rows: the last one tells.
    last = select(payouts.c.state).where(payouts.c.batch_id == batch_id)
    found = connection.execute(last.order_by(payouts.c.row.desc()).limit(1)).scalar_one_or_none()
    return bool(found == State.DRAFT)


def _carried(connection: Connection, batch_id: str, to: int | None) -> None:
    connection.execute(update(batches).where(batches.c.id == batch_id).values(carried_to=to))


def _grouped(rows: Iterable[Row[Any]]) -> Mapping[tuple[str, str], Sequence[int]]:
    groups: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        groups.setdefault((row.state, row.fate), []).append(row.id)
    return groups


def _why_not(batch_id: str, action: str, found: str | None) -> str:
    """Why a batch in that state cannot be decided so."""
    if found is None:
        return f"there is no batch {batch_id}"
    if action == Action.REJECTED:
        return f"batch {batch_id} is decided already: it is {found}; nothing was changed"
    then = {
        "draft": "it waits for approval: approve, reject or cancel it",
        "cancelled": "that is for good; submit its file again to have it paid after all",
        "rejected": "that is for good; submit its file again to have it paid after all",
        "approved": "it is being paid",
        "paused": "resume or cancel it",
    }[found]
    return f"batch {batch_id} cannot be {action}: it is {found}; {then}"


def _held_event(connection: Connection, payout_id: int) -> int:
    """The event that held a payout; 0: none is known."""
    held = select(func.max(payout_events.c.id)).where(
        payout_events.c.payout_id == payout_id,
        payout_events.c.to_state == State.HELD,
        payout_events.c.from_state != State.HELD,
    )
    return connection.execute(held).scalar_one() or 0


def _proposed(connection: Connection, payout_id: int) -> Proposal | None:
    """What is proposed for a payout since it is held."""
    row = connection.execute(
        select(proposals).where(
            proposals.c.payout_id == payout_id,
            proposals.c.held_event == _held_event(connection, payout_id),
        )
    ).one_or_none()
    return None if row is None else Proposal(State(row.target), row.at, row.actor, row.reason)


def _propose(connection: Connection, payout_id: int, proposal: Proposal) -> None:
    connection.execute(delete(proposals).where(proposals.c.payout_id == payout_id))
    connection.execute(
        insert(proposals).values(
            payout_id=payout_id,
            held_event=_held_event(connection, payout_id),
            target=proposal.target,
            at=proposal.at,
            actor=proposal.actor,
            reason=proposal.reason,
        )
    )
