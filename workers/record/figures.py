"""What monitoring asks of the record: how many, how old, since when. Only reads.

Each question is answered from an index, or by counting one through: it must stay cheap with
millions of payouts, because it is asked every few seconds for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    ScalarSelect,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    text,
)

from workers.record.calls import CallBook, Counted
from workers.record.database import Database
from workers.record.due import NOW, SENDING_ONLY
from workers.record.status import FINAL, OPEN, State
from workers.record.tables import PENDING, accounts, batches, installation, payouts, webhooks

# Beyond this the database is in trouble, and asking it more makes it no better.
STATEMENT_TIMEOUT_S = 10
# What is not final but for drafts: the states whose ages are of interest.
AGING = tuple(sorted((OPEN | {State.HELD}), key=list(State).index))
_UNCLAIMED = or_(payouts.c.claimed_until.is_(None), payouts.c.claimed_until < NOW)
# A partial index is used only where its condition is seen to hold: states are written out, not
# given as values.
_NOT_OPEN = ", ".join(f"'{state}'" for state in State if state in FINAL | {State.DRAFT})
_NOT_FINAL = text(f"payouts.state NOT IN ({_NOT_OPEN})")


@dataclass(frozen=True, slots=True)
class AccountFigures:
    """One account as it stands."""

    name: str
    paused_kind: str | None
    paused_at: datetime | None
    blocked_until: datetime | None
    # How many payouts are in each state; none where there are none.
    counts: Mapping[State, int]
    # When the longest open payout of each state was sent, or stored.
    open_since: Mapping[State, datetime]
    # Since when a payout could have been sent, or asked about, and nobody took it.
    send_due_since: datetime | None
    ask_due_since: datetime | None
    claims_expired: int
    # Messages that may still be taken, and those that nobody took in time.
    messages_out: int
    messages_overdue: int
    deliveries_pending: int
    delivery_pending_since: datetime | None


@dataclass(frozen=True, slots=True)
class Figures:
    """The record as it stands."""

    at: datetime
    accounts: Sequence[AccountFigures]
    calls: Sequence[Counted]
    # When a sweep last went all the way through.
    swept_at: datetime | None


class FigureBook:
    """The questions of monitoring, asked all at once."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def figures(self, now: datetime) -> Figures:
        """Everything that is told of the record at `now`."""
        wanted = {"now": now}
        with self.database.read() as connection:
            if not self.database.is_sqlite:
                limit_ms = STATEMENT_TIMEOUT_S * 1_000
                connection.execute(text(f"SET LOCAL statement_timeout = {limit_ms}"))
            known = connection.execute(_ACCOUNTS, wanted).all()
            counts: dict[str, dict[State, int]] = {row.name: {} for row in known}
            for row in connection.execute(_COUNTS):
                counts.setdefault(row.account, {})[State(row.state)] = row.number
            claims, messages, deliveries = (
                {row.account: row for row in connection.execute(asked, wanted)}
                for asked in (_CLAIMS, _MESSAGES, _DELIVERIES)
            )
            swept_at = connection.execute(select(installation.c.swept_at)).scalar_one_or_none()
        found = [
            _account(
                row,
                counts[row.name],
                claims.get(row.name),
                messages.get(row.name),
                deliveries.get(row.name),
            )
            for row in known
        ]
        return Figures(now, found, CallBook(self.database).all(), swept_at)


def _account(
    row: Row[Any],
    counts: Mapping[State, int],
    claims: Row[Any] | None,
    messages: Row[Any] | None,
    deliveries: Row[Any] | None,
) -> AccountFigures:
    since: dict[State, datetime] = {}
    for state in AGING:
        times = [getattr(row, f"sent_{state}"), getattr(row, f"stored_{state}")]
        if any(times):
            since[state] = min(at for at in times if at is not None)
    return AccountFigures(
        name=row.name,
        paused_kind=row.paused_kind,
        paused_at=row.paused_at,
        blocked_until=row.blocked_until,
        counts=counts,
        open_since=since,
        send_due_since=row.send_due_since,
        ask_due_since=row.ask_due_since,
        claims_expired=claims.number if claims else 0,
        messages_out=messages.out if messages else 0,
        messages_overdue=messages.overdue if messages else 0,
        deliveries_pending=deliveries.number if deliveries else 0,
        delivery_pending_since=deliveries.since if deliveries else None,
    )


def _is(state: State) -> ColumnElement[bool]:
    return payouts.c.state == bindparam(None, state, literal_execute=True)


def _due_since(*which: ColumnElement[bool]) -> ScalarSelect[Any]:
    """Since when the longest due payout of an account is: the first of its index that is free."""
    return (
        select(payouts.c.due_at)
        .where(payouts.c.account == accounts.c.name, payouts.c.due_at <= NOW, *which)
        .order_by(payouts.c.due_at)
        .limit(1)
        .scalar_subquery()
    )


def _oldest(state: State) -> list[Any]:
    """When the longest open payout was sent; and stored, of those that never were."""
    here = and_(payouts.c.account == accounts.c.name, _is(state), _NOT_FINAL)
    sent = select(func.min(payouts.c.sent_at)).where(here)
    stored = select(func.min(payouts.c.created_at)).where(here, payouts.c.sent_at.is_(None))
    return [
        sent.scalar_subquery().label(f"sent_{state}"),
        stored.scalar_subquery().label(f"stored_{state}"),
    ]


# Work of a paused account, and what is only to be sent of a paused batch, is no backlog.
_LETS_SEND = and_(
    accounts.c.paused_kind.is_(None),
    or_(accounts.c.blocked_until.is_(None), accounts.c.blocked_until <= NOW),
)
_LETS_ASK = and_(
    or_(accounts.c.paused_kind.is_(None), accounts.c.paused_kind.in_(SENDING_ONLY)),
    or_(accounts.c.blocked_until.is_(None), accounts.c.blocked_until <= NOW),
)
# In these words the few batches that wait are looked up once, and not joined to each payout.
_APPROVED = payouts.c.batch_id.not_in(select(batches.c.id).where(batches.c.decision != "approved"))
_ACCOUNTS = select(
    accounts.c.name,
    accounts.c.paused_kind,
    accounts.c.paused_at,
    accounts.c.blocked_until,
    case((_LETS_SEND, _due_since(_is(State.QUEUED), _APPROVED))).label("send_due_since"),
    case((_LETS_ASK, _due_since(~_is(State.QUEUED), _UNCLAIMED))).label("ask_due_since"),
    *(column for state in AGING for column in _oldest(state)),
).order_by(accounts.c.name)
_COUNTS = select(payouts.c.account, payouts.c.state, func.count().label("number")).group_by(
    payouts.c.account, payouts.c.state
)
_CLAIMS = (
    select(payouts.c.account, func.count().label("number"))
    .where(payouts.c.claimed_until < NOW)
    .group_by(payouts.c.account)
)
_MESSAGES = (
    select(
        payouts.c.account,
        func.sum(case((payouts.c.announced_until > NOW, 1), else_=0)).label("out"),
        func.sum(case((payouts.c.announced_until > NOW, 0), else_=1)).label("overdue"),
    )
    .where(payouts.c.announced_until.is_not(None))
    .group_by(payouts.c.account)
)
_DELIVERIES = (
    select(
        webhooks.c.account,
        func.count().label("number"),
        func.min(webhooks.c.received_at).label("since"),
    )
    .where(PENDING)
    .group_by(webhooks.c.account)
)
