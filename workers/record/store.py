"""The store: every change of a payout, and the only place where a state is written.

Each change is one UPDATE guarded by the table of moves and one event row, in one transaction. What
a worker writes back names its claim; a claim that was lost meanwhile cannot write.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, and_, select

from workers.errors import IllegalMove, StaleState, VaultError
from workers.record import intents, orders
from workers.record.bulk import ahead
from workers.record.database import TEXTS, Database
from workers.record.due import NOW, claimable
from workers.record.groups import ALONE, Groups, as_one
from workers.record.keybook import lacking
from workers.record.model import Change, Order, Payout, Reply
from workers.record.moves import (
    SWEEP,
    WORKER,
    change_of,
    move_all,
    stale,
    write,
    write_one,
)
from workers.record.rows import moved, payout_of
from workers.record.sealing import SEALS, Seals
from workers.record.status import MAYBE_SENT, OPEN, Move, State, Step
from workers.record.tables import payouts
from workers.record.told import (
    GIVEN_BACK,
    Recorded,
    Told,
    is_open,
    meant,
    planned,
    tell_account,
    tells_account,
    would_be_said_again,
)
from workers.record.vault import Vault
from workers.record.verdict import Policy, judge, polls_on

log = logging.getLogger(__name__)

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
class _Claiming:
    """A payout that is asked for."""

    payout_id: int
    policies: Mapping[str, Policy]
    now: datetime


_Asked = _Claiming | Told


class Store:
    """The record's payouts. Every method is one transaction, which claims and answers of many
    threads share.
    """

    def __init__(self, database: Database, vault: Vault) -> None:
        self.database = database
        self.vault = vault
        self._may_be_taken = claimable(database)
        self._together: Groups[_Asked] = Groups(self._carry_out)

    # --- claims ---

    def claim(self, payout_id: int, policies: Mapping[str, Policy], now: datetime) -> Claim | None:
        """Take a due payout, and store the intent to create it where it is queued.

        None: there is nothing to do now (claimed, not due, paused, final, an account that is not
        in `policies`), or the payout was held.
        The claim and the intent are one commit; if it raises, the provider must not be called.
        """
        claim: Claim | None = self._stored(_Claiming(payout_id, policies, now))
        return claim

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
        told = Told(payout, reply, verdict, policy, now, here=here)
        if here and reply.warning is None and would_be_said_again(payout, verdict):
            change = meant(told, verdict)
            return Recorded(moved(payout, change, untold=change), Step.POLL, verdict.wait_s)
        stored: Recorded = self._stored(told)
        return stored

    def _stored(self, asked: _Asked) -> Any:
        """What became of it, in a transaction that it shares, or else in one of its own.

        Whoever stops or slows an account needs the account's row, which others may keep for long.
        """
        shares = isinstance(asked, _Claiming) or not tells_account(asked.reply)
        result = self._together.take_part(asked) if shares else ALONE
        if result is ALONE:
            [result] = self._carry_out_as_one([asked], patient=True)
        if isinstance(result, Exception):
            raise result
        return result

    def _carry_out(self, asked: Sequence[_Asked]) -> Sequence[Any]:
        """What became of each, all in one transaction; `ALONE` where it is not for a group."""
        firsts = {one.payout_id: one for one in reversed(asked)}
        results = as_one([*firsts.values()], partial(self._carry_out_as_one, patient=False))
        became = dict(zip(firsts, results, strict=True))
        # A second one about the same payout finds what the first has made of it.
        return [became[one.payout_id] if firsts[one.payout_id] is one else ALONE for one in asked]

    def _carry_out_as_one(self, asked: Sequence[_Asked], *, patient: bool) -> Sequence[Any]:
        with self.database.write(by_key=True, patient=patient) as connection:
            open_ones: dict[tuple[str, str], bool] = {}
            plans: list[tuple[Change | None, Any]] = []
            rows = self._claimable(connection, [one for one in asked if isinstance(one, _Claiming)])
            for one in asked:
                try:
                    if isinstance(one, Told):
                        plans.append(planned(connection, one, open_ones))
                    else:
                        # Whoever comes second with the same message finds nothing.
                        row = rows.pop(one.payout_id, None)
                        plans.append(self._taken(connection, row, one))
                except (IllegalMove, VaultError) as error:
                    plans.append((None, error))
            written = write(connection, [change for change, _ in plans if change is not None])
            results = []
            for one, (change, result) in zip(asked, plans, strict=True):
                if change is not None and change.payout_id not in written:
                    results.append(stale(change))
                    continue
                results.append(result)
                if change is not None and isinstance(one, Told):
                    tell_account(connection, one)
        return results

    def _claimable(self, connection: Connection, asked: Sequence[_Claiming]) -> dict[int, Row[Any]]:
        if not asked:
            return {}
        ids = json.dumps([one.payout_id for one in asked])
        now = max(one.now for one in asked)
        rows = connection.execute(self._may_be_taken, {TEXTS: ids, "now": now})
        return {row.id: row for row in rows}

    def _taken(
        self, connection: Connection, row: Row[Any] | None, asked: _Claiming
    ) -> tuple[Change | None, Claim | None]:
        """What is to become of a payout that may be taken, and the claim to it."""
        policy = None if row is None else asked.policies.get(row.account)
        if row is None or policy is None:
            return None, None
        now = asked.now
        may_at = intents.not_before(row, policy)
        if may_at is not None and now < may_at:
            return _given_back(row, now, due_at=may_at), None
        claim, broken = self._opened(row)
        if broken and (key := lacking(connection, self.vault)):
            log.error("payout left to others", extra={"reason": f"no key {key} here"})
            return _given_back(row, now, due_at=now + timedelta(seconds=KEY_WAIT_S)), None
        if claim is not None:
            broken = intents.why_held(row, claim.payout, policy, now)
        if row.state == State.PAID and broken:
            # It is settled; nobody watches it any more.
            return _given_back(row, now), None
        if claim is None or broken:
            held = [(State.HELD, broken or "")]
            kept = {**GIVEN_BACK, **intents.doubted(row, now)}
            return change_of(row, held, kept, actor=WORKER, now=now), None
        until = now + timedelta(seconds=policy.settings.claim_s)
        claimed: dict[str, Any] = {
            "claim_no": row.claim_no + 1,
            "claimed_until": until,
            "announced_until": None,
            "claims_silent": row.claims_silent + 1,
            # A claim that is never given back is due when it runs out.
            "due_at": until,
        }
        moves: list[tuple[State, str]] = []
        if row.state == State.QUEUED:
            claimed |= intents.intent(row, policy, now)
            moves = [(State.CREATING, f"intent to create, attempt {row.attempts + 1}")]
        change = change_of(row, moves, claimed, actor=WORKER, now=now)
        payout = moved(claim.payout, change)
        if row.state != State.QUEUED:
            return change, Claim(payout, claim.order)
        order = replace(claim.order, key_no=row.key_no) if row.key_no else claim.order
        if intents.looks_first(row, policy):
            payout = replace(payout, looks_first=True)
        return change, Claim(payout, order)

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
            changes = []
            for row in rows:
                # The new claim number fences off a worker that was only asleep.
                fence = {
                    **GIVEN_BACK,
                    "due_at": now,
                    "claim_no": row.claim_no + 1,
                    "doubted_at": row.doubted_at or now,
                }
                moves = [(State.UNKNOWN, "its worker was not heard of again")]
                changes.append(change_of(row, moves, fence, actor=SWEEP, now=now))
            write(connection, changes)
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
        changes = {**GIVEN_BACK, "due_at": due_at, "doubt": None, "polls": 0}
        if due_at is None:
            changes["settled_at"] = now
        if target is State.FAILED:
            changes |= {"failure_code": "decided", "failure_reason": reason}
        if target is State.QUEUED:
            changes |= intents.anew(row, now)
        moves = [(target, f"decided: {reason}")]
        change = change_of(row, moves, changes, actor=actor, now=now)
        write_one(connection, change)
        return moved(payout_of(row), change)

    # --- whole batches, inside the transaction of the decision ---

    def approve_rows(
        self,
        connection: Connection,
        batch_id: str,
        seals: Iterable[Seals],
        *,
        actor: str,
        now: datetime,
    ) -> Iterator[int]:
        """Seal a batch's drafts and queue them, some at a time; how many were queued each time.

        Args:
            seals: of every draft, made beside this thread and without this connection.
        """
        dialect = connection.dialect.name
        sealed = SEALS[dialect]
        # Said so that no index of batches serves it: each row is to be found by its key.
        of_batch = payouts.c.batch_id + "" == batch_id
        for some in ahead(seals):
            yield move_all(
                connection,
                and_(of_batch, payouts.c.id == sealed.c.payout_id),
                Move(State.DRAFT, State.QUEUED, "approved"),
                {"due_at": now, "seal": sealed.c.seal},
                actor=actor,
                now=now,
                given=some.parameters(dialect),
            )

    # --- inside ---

    def _may_send(self, payout: Payout) -> bool:
        with self.database.read() as connection:
            return is_open(connection, payout)

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
_DEAD = select(payouts).where(
    payouts.c.due_at <= NOW, payouts.c.state == State.CREATING, payouts.c.claimed_until < NOW
)
# News of a poll that says nothing new: stored with the next that does.
_COUNTED_ONLY = frozenset({"polls", "provider_status", "provider_payout_id"})


def _given_back(row: Row[Any], now: datetime, *, due_at: datetime | None = None) -> Change:
    return change_of(row, (), {**GIVEN_BACK, "due_at": due_at}, actor=WORKER, now=now)
