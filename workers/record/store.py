"""The store: every change of a payout, and the only place where a state is written.

Each change is one UPDATE guarded by the table of moves and one event row, in one transaction. What
a worker writes back names its claim; a claim that was lost meanwhile cannot write.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    insert,
    literal,
    select,
    update,
)

from workers.errors import IllegalMove, StaleState, VaultError
from workers.record import intents, orders
from workers.record.accounts import block, pause
from workers.record.database import Database
from workers.record.due import CLAIMABLE, NOW
from workers.record.keybook import lacking
from workers.record.model import Order, Payout, Reply
from workers.record.rows import payout_of
from workers.record.sealing import laid_out
from workers.record.status import MAYBE_SENT, OPEN, Move, State, Step, sources_of
from workers.record.tables import UtcDateTime, accounts, batches, payout_events, payouts
from workers.record.vault import Vault
from workers.record.verdict import Policy, Verdict, judge, polls_on

log = logging.getLogger(__name__)

WORKER = "worker"
SWEEP = "sweep"
# What this process lacks the key for is left to others for so long.
KEY_WAIT_S = 10
# A payout that ends every worker that takes it must not end them for ever.
CLAIMS_SILENT_MAX = 20


@dataclass(frozen=True, slots=True)
class Claim:
    """A payout that this worker alone works on, until its claim runs out."""

    payout: Payout
    order: Order


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the record made of a reply."""

    payout: Payout
    # The call to make next in the same claim; None: the payout was given back.
    next_step: Step | None
    # When the payout is due again; with a `next_step`, now.
    wait_s: float | None


class Store:
    """The record's payouts. Every method is one transaction."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self.database = database
        self.vault = vault

    # --- claims ---

    def claim(self, payout_id: int, policies: Mapping[str, Policy], now: datetime) -> Claim | None:
        """Take a due payout, and store the intent to create it where it is queued.

        None: there is nothing to do now (claimed, not due, paused, final, an account that is not
        in `policies`), or the payout was held.
        The claim and the intent are one commit; if it raises, the provider must not be called.
        """
        with self.database.write() as connection:
            wanted = {"payout_id": payout_id, "now": now}
            row = connection.execute(CLAIMABLE, wanted).one_or_none()
            policy = None if row is None else policies.get(row.account)
            if row is None or policy is None:
                return None
            until = now + timedelta(seconds=policy.settings.claim_s)
            claimed = {
                "claim_no": row.claim_no + 1,
                "claimed_until": until,
                "announced_until": None,
                "claims_silent": row.claims_silent + 1,
                # A claim that is never given back is due when it runs out.
                "due_at": until,
            }
            may_at = intents.not_before(row, policy)
            if may_at is not None and now < may_at:
                later = {**_GIVEN_BACK, "due_at": may_at}
                _move(connection, row, (), later, actor=WORKER, now=now)
                return None
            claim, broken = self._opened(row)
            if broken and (key := lacking(connection, self.vault)):
                log.error("payout left to others", extra={"reason": f"no key {key} here"})
                later = {**_GIVEN_BACK, "due_at": now + timedelta(seconds=KEY_WAIT_S)}
                _move(connection, row, (), later, actor=WORKER, now=now)
                return None
            broken = broken or intents.why_held(row, policy, now)
            if row.state == State.PAID and broken:
                # It is settled; nobody watches it any more.
                _move(connection, row, (), _GIVEN_BACK, actor=WORKER, now=now)
                return None
            if row.state != State.QUEUED and claim is not None and not broken:
                row = _move(connection, row, (), claimed, actor=WORKER, now=now)
                return Claim(payout_of(row), claim.order)
            if claim is None or broken:
                held = [(State.HELD, broken or "")]
                kept = {**_GIVEN_BACK, **intents.doubted(row, now)}
                _move(connection, row, held, kept, actor=WORKER, now=now)
                return None
            looks_first = intents.looks_first(row, policy)
            intent = {**claimed, **intents.intent(row, policy, now)}
            moves = [(State.CREATING, f"intent to create, attempt {row.attempts + 1}")]
            row = _move(connection, row, moves, intent, actor=WORKER, now=now)
            payout = replace(payout_of(row), looks_first=looks_first)
            return Claim(payout, replace(claim.order, key_no=row.key_no))

    def record(
        self,
        payout: Payout,
        step: Step,
        reply: Reply,
        policy: Policy,
        now: datetime,
        *,
        keep_s: float = 0,
    ) -> Recorded:
        """Store what an answer means for a claimed payout, and whether to go on with it.

        With `next_step` PROCESS the intent to release is part of the same commit.

        Args:
            keep_s: a payout that is to be polled again within so many seconds stays claimed, for
                this worker to poll.

        Raises:
            StaleState: the claim was lost; whoever has it now looks the payout up.
        """
        verdict = judge(payout, step, reply, policy, now)
        here = polls_on(payout, reply, verdict, keep_s)
        if here and not verdict.moves and set(verdict.changes) <= _COUNTED_ONLY:
            # Nothing that a crash could lose: the count of polls is stored with the next news.
            waiting = replace(payout, polls=verdict.changes.get("polls", payout.polls))
            return Recorded(waiting, Step.POLL, verdict.wait_s)
        if verdict.next_step is Step.CREATE and self._may_send(payout):
            # A look-up found nothing: there is nothing to store before the create it allows.
            doubted_at = verdict.changes.get("doubted_at", payout.doubted_at)
            payout = replace(payout, doubted_at=doubted_at)
            return Recorded(payout, verdict.next_step, verdict.wait_s)
        with self.database.write() as connection:
            verdict = _with_intent(connection, payout, verdict, policy, now)
            changes = dict(verdict.changes)
            if verdict.next_step is None and not here:
                due_at = None if verdict.wait_s is None else now + timedelta(seconds=verdict.wait_s)
                changes |= {**_GIVEN_BACK, "due_at": due_at}
            changes["claims_silent"] = 0
            row = _fenced(connection, payout)
            row = _move(
                connection,
                row,
                verdict.moves,
                changes,
                actor=WORKER,
                now=now,
                code=reply.code,
            )
            if verdict.next_step is Step.PROCESS:
                _note(connection, row, f"intent to release, number {row.releases}", now=now)
            if reply.warning is not None and not verdict.moves:
                _note(connection, row, f"warning: {reply.warning}", now=now, code=reply.code)
            if reply.account_fault is not None:
                kind = "balance" if reply.low_balance else "fault"
                pause(connection, payout.account, kind, reply.account_fault, now)
            elif reply.retry_after_s is not None and reply.code == "429":
                blocked_until = now + timedelta(seconds=reply.retry_after_s)
                block(connection, payout.account, blocked_until)
        next_step = Step.POLL if here else verdict.next_step
        return Recorded(payout_of(row), next_step, verdict.wait_s)

    def waiting_order(self, account: str) -> Order | None:
        """The order that has waited longest in an account, to ask its provider about."""
        which = (payouts.c.account == account, payouts.c.state.in_(OPEN))
        oldest = select(payouts).where(*which).order_by(payouts.c.due_at).limit(5)
        with self.database.read() as connection:
            rows = connection.execute(oldest).all()
        for row in rows:
            with contextlib.suppress(VaultError):
                return self.order_of(row)
        return None

    def account_of(self, payout_id: int) -> str | None:
        """The account that pays it; None: no such payout."""
        with self.database.read() as connection:
            return connection.execute(
                select(payouts.c.account).where(payouts.c.id == payout_id)
            ).scalar_one_or_none()

    # --- dead workers ---

    def expire_creates(self, now: datetime) -> int:
        """Turn creates of dead workers into unknown ones; a number of rows."""
        # A look without the write lock first: most sweeps find nothing.
        with self.database.read() as connection:
            if connection.execute(_DEAD.limit(1), {"now": now}).first() is None:
                return 0
        with self.database.write() as connection:
            locked = _DEAD.with_for_update(skip_locked=True)
            rows = connection.execute(locked, {"now": now}).all()
            for row in rows:
                # The new claim number fences off a worker that was only asleep.
                fence = {
                    **_GIVEN_BACK,
                    "due_at": now,
                    "claim_no": row.claim_no + 1,
                    "doubted_at": row.doubted_at or now,
                }
                moves = [(State.UNKNOWN, "its worker was not heard of again")]
                _move(connection, row, moves, fence, actor=SWEEP, now=now)
        return len(rows)

    # --- people ---

    def settle(
        self,
        connection: Connection,
        payout_id: int,
        target: State,
        *,
        actor: str,
        reason: str,
        now: datetime,
    ) -> Payout:
        """Carry out a person's decision on a held payout, inside the transaction of the decision.

        Raises:
            StaleState: it is not held any more.
            IllegalMove: no person may decide that.
        """
        row = connection.execute(
            select(payouts).where(payouts.c.id == payout_id, payouts.c.state == State.HELD)
        ).one_or_none()
        if row is None:
            raise StaleState(f"payout {payout_id} is not held")
        due_at = now if target in MAYBE_SENT or target is State.QUEUED else None
        changes = {**_GIVEN_BACK, "due_at": due_at, "doubt": None, "polls": 0}
        if due_at is None:
            changes["settled_at"] = now
        if target is State.FAILED:
            changes |= {"failure_code": "decided", "failure_reason": reason}
        if target is State.QUEUED:
            changes |= intents.anew(row, now)
        moves = [(target, f"decided: {reason}")]
        return payout_of(_move(connection, row, moves, changes, actor=actor, now=now))

    # --- whole batches, inside the transaction of the decision ---

    def approve_rows(
        self,
        connection: Connection,
        batch_id: str,
        seals: Iterable[Sequence[tuple[int, str]]],
        *,
        actor: str,
        now: datetime,
    ) -> int:
        """Seal a batch's drafts and queue them; the number queued.

        Args:
            seals: the id and seal of every draft, some at a time.
        """
        with laid_out(connection, seals) as laid:
            return move_all(
                connection,
                and_(payouts.c.batch_id == batch_id, payouts.c.id == laid.c.payout_id),
                Move(State.DRAFT, State.QUEUED, "approved"),
                {"due_at": now, "seal": laid.c.seal},
                actor=actor,
                now=now,
            )

    # --- inside ---

    def _may_send(self, payout: Payout) -> bool:
        with self.database.read() as connection:
            return _is_open(connection, payout)

    def _opened(self, row: Row[Any]) -> tuple[Claim | None, str | None]:
        """The claim of a row that is what was approved, or what is wrong with it."""
        if row.claims_silent >= CLAIMS_SILENT_MAX:
            return None, f"{row.claims_silent} workers took it and were not heard of again"
        try:
            return Claim(payout_of(row), orders.approved_order(row, self.vault)), None
        except VaultError as error:
            return None, str(error)

    def order_of(self, row: Row[Any]) -> Order:
        """The order as its maker wrote it.

        Raises:
            VaultError: its data does not open, is not what was stored, or was removed.
        """
        return orders.order_of(row, self.vault)


# Statements are built once: their text is derived from them only at their first use.
_IS_MINE = and_(
    payouts.c.id == bindparam("payout_id"),
    payouts.c.claim_no == bindparam("mine"),
    payouts.c.state == bindparam("here"),
)
_MINE = select(payouts).where(_IS_MINE).with_for_update()
_MOVE = update(payouts).where(_IS_MINE).returning(payouts)
_EVENT = insert(payout_events)
_DEAD = select(payouts).where(
    payouts.c.due_at <= NOW, payouts.c.state == State.CREATING, payouts.c.claimed_until < NOW
)
_MAY_SEND = (
    select(batches.c.id)
    .join(accounts, accounts.c.name == bindparam("account"))
    .where(
        batches.c.id == bindparam("batch_id"),
        batches.c.decision == "approved",
        accounts.c.paused_kind.is_(None),
    )
)
# News of a poll that says nothing new: stored with the next that does.
_COUNTED_ONLY = frozenset({"polls", "provider_status", "provider_payout_id"})
_GIVEN_BACK: Mapping[str, Any] = {"claimed_until": None, "announced_until": None, "due_at": None}


def _fenced(connection: Connection, payout: Payout) -> Row[Any]:
    """The claimed payout's row, if the claim is still ours.

    Raises:
        StaleState: it is not.
    """
    mine = {"payout_id": payout.id, "mine": payout.claim_no, "here": payout.state}
    row = connection.execute(_MINE, mine).one_or_none()
    if row is None:
        raise StaleState(f"payout {payout.reference_id}: claim {payout.claim_no} was lost")
    return row


def _is_open(connection: Connection, payout: Payout) -> bool:
    """Whether neither a person nor the account has stopped sending."""
    wanted = {"batch_id": payout.batch_id, "account": payout.account}
    return connection.execute(_MAY_SEND, wanted).one_or_none() is not None


def _with_intent(
    connection: Connection, payout: Payout, verdict: Verdict, policy: Policy, now: datetime
) -> Verdict:
    """Add the intent to release; or put it off, or a second create, where sending is stopped."""
    if verdict.next_step is Step.CREATE:
        stopped = (State.QUEUED, "not sent: its batch or account was stopped")
        excused = {"attempts_excused": payout.attempts_excused + 1}
        return Verdict(moves=(stopped,), changes={**verdict.changes, **excused}, wait_s=0)
    if verdict.next_step is not Step.PROCESS:
        return verdict
    if not _is_open(connection, payout):
        wait_s = policy.settings.poll_max_s
        return Verdict(moves=verdict.moves, changes=verdict.changes, wait_s=wait_s)
    intent = {"releases": payout.releases + 1, "released_at": now}
    return Verdict(
        moves=verdict.moves,
        changes={**verdict.changes, **intent},
        next_step=Step.PROCESS,
        wait_s=0,
    )


def _move(
    connection: Connection,
    row: Row[Any],
    moves: Sequence[tuple[State, str]],
    changes: Mapping[str, Any],
    *,
    actor: str,
    now: datetime,
    code: str | None = None,
) -> Row[Any]:
    """The one writer of states: one guarded UPDATE and one event a move. Without moves, the
    changes alone.

    Raises:
        IllegalMove: the table of states has no such arrow.
        StaleState: the row has changed since it was read.
    """
    source = State(row.state)
    events = []
    for target, cause in moves:
        if source not in sources_of(target) or (source is State.HELD and actor in (WORKER, SWEEP)):
            raise IllegalMove(f"payout {row.reference_id}: {source} to {target} ({cause})")
        events.append(
            {
                "payout_id": row.id,
                "at": now,
                "from_state": source,
                "to_state": target,
                "cause": cause,
                "actor": actor,
                "provider_code": code,
            }
        )
        source = target
    values = {**changes, "state": source} if moves else changes
    guard = {"payout_id": row.id, "mine": row.claim_no, "here": row.state}
    moved = connection.execute(_MOVE, {**values, **guard}).one_or_none()
    if moved is None:
        raise StaleState(f"payout {row.reference_id} is no longer {row.state}")
    if events:
        connection.execute(_EVENT, events)
    return moved


def move_all(
    connection: Connection,
    rows: ColumnElement[bool],
    move: Move,
    changes: Mapping[str, Any],
    *,
    actor: str,
    now: datetime,
) -> int:
    """`_move` for many rows at once: the same guard, the same events; the number moved.

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
    connection.execute(insert(payout_events).from_select(names, event))
    return connection.execute(
        update(payouts).where(which).values({**changes, "state": move.target})
    ).rowcount


def _note(
    connection: Connection,
    row: Row[Any],
    cause: str,
    *,
    now: datetime,
    code: str | None = None,
) -> None:
    """Journal something that moves nothing."""
    event = {
        "payout_id": row.id,
        "at": now,
        "from_state": row.state,
        "to_state": row.state,
        "cause": cause,
        "actor": WORKER,
        "provider_code": code,
    }
    connection.execute(_EVENT, [event])
