"""An answer to a claimed payout: what it changes, and what the worker is to do then.

What it means is the verdict's to say. Here is added what only the record knows: whether a person or
the account has stopped sending, and when the payout is due again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, select

from workers.record.accounts import block, pause
from workers.record.model import Change, Payout, Reply
from workers.record.moves import WORKER, change_of
from workers.record.rows import moved
from workers.record.status import State, Step
from workers.record.tables import accounts, batches
from workers.record.verdict import Policy, Verdict

GIVEN_BACK: Mapping[str, Any] = {"claimed_until": None, "announced_until": None, "due_at": None}
# Statements are built once: their text is derived from them only at their first use.
_MAY_SEND = (
    select(batches.c.id)
    .join(accounts, accounts.c.name == bindparam("account"))
    .where(
        batches.c.id == bindparam("batch_id"),
        batches.c.decision == "approved",
        accounts.c.paused_kind.is_(None),
    )
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the record made of a reply."""

    payout: Payout
    # The call to make next in the same claim; None: the payout was given back.
    next_step: Step | None
    # When the payout is due again; with a `next_step`, now.
    wait_s: float | None


@dataclass(frozen=True, slots=True)
class Told:
    """An answer to a claimed payout, and what it means."""

    payout: Payout
    reply: Reply
    verdict: Verdict
    policy: Policy
    now: datetime
    # Whether this worker keeps it, to poll it soon.
    here: bool

    @property
    def payout_id(self) -> int:
        return self.payout.id


def is_open(connection: Connection, payout: Payout) -> bool:
    """Whether neither a person nor the account has stopped sending."""
    wanted = {"batch_id": payout.batch_id, "account": payout.account}
    return connection.execute(_MAY_SEND, wanted).one_or_none() is not None


def would_be_said_again(payout: Payout, verdict: Verdict) -> bool:
    """Whether a crash could lose no more of an answer than the next read brings back: that a payout
    which the provider is known to have is under way. It is stored with the next answer.
    """
    at_provider = payout.state in (State.CREATED, State.PROCESSING)
    # That a release was not taken is known to us alone.
    of_ours = "releases" in verdict.changes
    under_way = all(target is State.PROCESSING for target, _ in verdict.moves)
    return at_provider and under_way and not of_ours


def planned(
    connection: Connection, told: Told, open_ones: dict[tuple[str, str], bool]
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
            open_ones[key] = is_open(connection, payout)
        verdict = _with_release(payout, verdict, told.policy, told.now, is_open=open_ones[key])
    elif verdict.next_step is Step.CREATE:
        verdict = _not_sent(payout, verdict)
    change = meant(told, verdict)
    next_step = Step.POLL if told.here else verdict.next_step
    return change, Recorded(moved(payout, change), next_step, verdict.wait_s)


def meant(told: Told, verdict: Verdict) -> Change:
    """What an answer changes, with a verdict that holds as it stands."""
    reply, now = told.reply, told.now
    changes = dict(verdict.changes)
    if verdict.next_step is None and not told.here:
        due_at = None if verdict.wait_s is None else now + timedelta(seconds=verdict.wait_s)
        changes |= {**GIVEN_BACK, "due_at": due_at}
    changes["claims_silent"] = 0
    notes: list[tuple[str, str | None]] = []
    if verdict.next_step is Step.PROCESS:
        notes.append((f"intent to release, number {changes['releases']}", None))
    if reply.warning is not None and not verdict.moves:
        notes.append((f"warning: {reply.warning}", reply.code))
    return change_of(
        told.payout, verdict.moves, changes, actor=WORKER, now=now, code=reply.code, notes=notes
    )


def tells_account(reply: Reply) -> bool:
    """Whether an answer stops or slows the whole account down."""
    limited = reply.retry_after_s is not None and reply.code == "429"
    return reply.account_fault is not None or limited


def tell_account(connection: Connection, told: Told) -> None:
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
