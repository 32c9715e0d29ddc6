"""The store: every change of a payout, and the only place where a state is written.

Each change is one UPDATE guarded by the table of moves and one event row, in one transaction. What
a worker writes back names its claim; a claim that was lost meanwhile cannot write.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, select
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

from workers.errors import IllegalMove, StaleState, VaultError
from workers.record import intents, orders
from workers.record.accounts import block, pause
from workers.record.database import TEXTS, Database
from workers.record.due import NOW, claimable
from workers.record.groups import Groups
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
from workers.record.sealing import laid_out
from workers.record.status import MAYBE_SENT, OPEN, Move, State, Step
from workers.record.tables import accounts, batches, payouts
from workers.record.vault import Vault
from workers.record.verdict import Policy, Verdict, judge, polls_on

log = logging.getLogger(__name__)

# What this process lacks the key for is left to others for so long.
KEY_WAIT_S = 10
# The database is not there, or gave up: what was to be stored may have been.
DATABASE_AWAY = (OperationalError, InterfaceError, InternalError)
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


@dataclass(frozen=True, slots=True)
class _Claiming:
    """A payout that is asked for."""

    payout_id: int
    policies: Mapping[str, Policy]
    now: datetime


@dataclass(frozen=True, slots=True)
class _Told:
    """An answer to a claimed payout, and what it means."""

    payout: Payout
    reply: Reply
    verdict: Verdict
    policy: Policy
    now: datetime
    # Whether this worker keeps it, to poll it soon.
    here: bool


_Asked = _Claiming | _Told


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
        claim: Claim | None = self._together.take_part(_Claiming(payout_id, policies, now))
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
        told = _Told(payout, reply, verdict, policy, now, here=here)
        if here and reply.warning is None and _would_be_said_again(payout, verdict):
            change, recorded = _meant(told)
            return replace(recorded, payout=replace(recorded.payout, untold=change))
        stored: Recorded = self._together.take_part(told)
        return stored

    def _carry_out(self, asked: Sequence[_Asked]) -> Sequence[Any]:
        """What became of each, all in one transaction; alone, if one of them cannot be stored."""
        try:
            return self._carry_out_as_one(asked)
        except DATABASE_AWAY:
            raise
        except Exception as error:  # noqa: BLE001 - it is raised for the one whose it is
            if len(asked) == 1:
                return [error]
            return [result for one in asked for result in self._carry_out([one])]

    def _carry_out_as_one(self, asked: Sequence[_Asked]) -> Sequence[Any]:
        with self.database.write(by_key=True) as connection:
            open_ones: dict[tuple[str, str], bool] = {}
            planned: list[tuple[Change | None, Any]] = []
            rows = self._claimable(connection, [one for one in asked if isinstance(one, _Claiming)])
            for one in asked:
                try:
                    if isinstance(one, _Told):
                        planned.append(_planned(connection, one, open_ones))
                    else:
                        # Whoever comes second with the same message finds nothing.
                        row = rows.pop(one.payout_id, None)
                        planned.append(self._taken(connection, row, one))
                except (IllegalMove, VaultError) as error:
                    planned.append((None, error))
            written = write(connection, [change for change, _ in planned if change is not None])
            results = []
            for one, (change, result) in zip(asked, planned, strict=True):
                if change is not None and change.payout_id not in written:
                    results.append(stale(change))
                    continue
                results.append(result)
                if change is not None and isinstance(one, _Told):
                    _tell_account(connection, one)
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
        broken = broken or intents.why_held(row, policy, now)
        if row.state == State.PAID and broken:
            # It is settled; nobody watches it any more.
            return _given_back(row, now), None
        if claim is None or broken:
            held = [(State.HELD, broken or "")]
            kept = {**_GIVEN_BACK, **intents.doubted(row, now)}
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
        payout = replace(payout, looks_first=intents.looks_first(row, policy))
        return change, Claim(payout, replace(claim.order, key_no=row.key_no))

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
                    **_GIVEN_BACK,
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
        changes = {**_GIVEN_BACK, "due_at": due_at, "doubt": None, "polls": 0}
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


def _is_open(connection: Connection, payout: Payout) -> bool:
    """Whether neither a person nor the account has stopped sending."""
    wanted = {"batch_id": payout.batch_id, "account": payout.account}
    return connection.execute(_MAY_SEND, wanted).one_or_none() is not None


def _given_back(row: Row[Any], now: datetime, *, due_at: datetime | None = None) -> Change:
    return change_of(row, (), {**_GIVEN_BACK, "due_at": due_at}, actor=WORKER, now=now)


def _would_be_said_again(payout: Payout, verdict: Verdict) -> bool:
    """Whether a crash could lose no more of an answer than the next read brings back: that a payout
    which the provider is known to have is under way. It is stored with the next answer.
    """
    at_provider = payout.state in (State.CREATED, State.PROCESSING)
    return at_provider and all(target is State.PROCESSING for target, _ in verdict.moves)


def _planned(
    connection: Connection, told: _Told, open_ones: dict[tuple[str, str], bool]
) -> tuple[Change, Recorded]:
    """What an answer changes, and what the worker is to do then.

    Args:
        open_ones: which batches and accounts were found to let payouts be sent, in this
            transaction.
    """
    payout, verdict = told.payout, told.verdict
    if verdict.next_step is Step.PROCESS:
        key = (payout.batch_id, payout.account)
        if key not in open_ones:
            open_ones[key] = _is_open(connection, payout)
        verdict = _with_release(payout, verdict, told.policy, told.now, is_open=open_ones[key])
    elif verdict.next_step is Step.CREATE:
        verdict = _not_sent(payout, verdict)
    return _meant(replace(told, verdict=verdict))


def _meant(told: _Told) -> tuple[Change, Recorded]:
    """What an answer changes, with a verdict that holds as it stands."""
    payout, reply, verdict, now = told.payout, told.reply, told.verdict, told.now
    changes = dict(verdict.changes)
    if verdict.next_step is None and not told.here:
        due_at = None if verdict.wait_s is None else now + timedelta(seconds=verdict.wait_s)
        changes |= {**_GIVEN_BACK, "due_at": due_at}
    changes["claims_silent"] = 0
    notes: list[tuple[str, str | None]] = []
    if verdict.next_step is Step.PROCESS:
        notes.append((f"intent to release, number {changes['releases']}", None))
    if reply.warning is not None and not verdict.moves:
        notes.append((f"warning: {reply.warning}", reply.code))
    change = change_of(
        payout, verdict.moves, changes, actor=WORKER, now=now, code=reply.code, notes=notes
    )
    next_step = Step.POLL if told.here else verdict.next_step
    return change, Recorded(moved(payout, change), next_step, verdict.wait_s)


def _tell_account(connection: Connection, told: _Told) -> None:
    """Stop or slow the whole account down, where the answer asks for it."""
    account, reply, now = told.payout.account, told.reply, told.now
    if reply.account_fault is not None:
        kind = "balance" if reply.low_balance else "fault"
        pause(connection, account, kind, reply.account_fault, now)
    elif reply.retry_after_s is not None and reply.code == "429":
        block(connection, account, now + timedelta(seconds=reply.retry_after_s))


def _not_sent(payout: Payout, verdict: Verdict) -> Verdict:
    """A second create that was allowed, but sending is stopped."""
    stopped = (State.QUEUED, "not sent: its batch or account was stopped")
    excused = {"attempts_excused": payout.attempts_excused + 1}
    return Verdict(moves=(stopped,), changes={**verdict.changes, **excused}, wait_s=0)


def _with_release(
    payout: Payout, verdict: Verdict, policy: Policy, now: datetime, *, is_open: bool
) -> Verdict:
    """Add the intent to release; or put it off, where sending is stopped."""
    if not is_open:
        wait_s = policy.settings.poll_max_s
        return Verdict(moves=verdict.moves, changes=verdict.changes, wait_s=wait_s)
    intent = {"releases": payout.releases + 1, "released_at": now}
    return replace(verdict, changes={**verdict.changes, **intent}, wait_s=0)
