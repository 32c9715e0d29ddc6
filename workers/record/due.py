"""What is due: which payouts may be worked on now, and which messages are out for them.

`due_at` says when a payout's next step may run; `announced_until` is the dispatcher's own mark that
a message is out. A lost message is announced again when its mark runs out, and a doubled one finds
nothing to claim.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    and_,
    bindparam,
    func,
    literal,
    literal_column,
    or_,
    select,
    update,
)

from workers.record.database import Database
from workers.record.status import OPEN, State
from workers.record.tables import UtcDateTime, accounts, batches, payouts

# Kinds of a pause that leave open payouts readable: only sending waits.
SENDING_ONLY = ("balance", "person", "restore")

NOW: BindParameter[datetime] = bindparam("now", type_=UtcDateTime())

# Nobody's, and its next step may run. A create of a dead worker is the sweep's alone.
_WORKABLE = tuple(sorted((OPEN | {State.PAID}) - {State.CREATING}))
_WAITING = and_(
    payouts.c.due_at <= NOW,
    payouts.c.state.in_(_WORKABLE),
    or_(payouts.c.claimed_until.is_(None), payouts.c.claimed_until < NOW),
)
_UNANNOUNCED = or_(payouts.c.announced_until.is_(None), payouts.c.announced_until < NOW)
# The payout's account is open, or closed for sending only and the payout needs no sending.
_ACCOUNT_LETS = and_(
    or_(
        accounts.c.paused_kind.is_(None),
        and_(accounts.c.paused_kind.in_(SENDING_ONLY), payouts.c.state != State.QUEUED),
    ),
    or_(accounts.c.blocked_until.is_(None), accounts.c.blocked_until <= NOW),
)
_BATCH_LETS = or_(payouts.c.state != State.QUEUED, batches.c.decision == "approved")
_WITH_BATCH = payouts.join(batches).join(accounts, accounts.c.name == payouts.c.account)

# What a worker needs of a payout: the rest is what was learnt of it, and what is shown.
_TAKEN = [
    column
    for column in payouts.c
    if column.name
    not in {
        "beneficiary", "fingerprint", "fee_expected_minor", "fee_minor", "fee_currency",
        "processed_minor", "processed_currency", "exchange_rate", "failure_code", "failure_reason",
        "warning", "created_at", "announced_until", "woken_at",
    }
]  # fmt: skip
# Written out, not bound: only so does a database see that the index of queued payouts, or of the
# others, has them all.
_QUEUED = payouts.c.state == literal_column("'queued'")
_NOT_QUEUED = payouts.c.state != literal_column("'queued'")
_ACCOUNT = payouts.c.account == bindparam("of_account")
_OF_BATCH = or_(bindparam("batch_id") == "", payouts.c.batch_id == bindparam("batch_id"))
# Looked up once, not row by row: so the index gives its rows in order, and few are read.
_STOPPED = select(batches.c.id).where(batches.c.decision != "approved")
_DUE: Mapping[bool, ColumnElement[bool]] = {
    True: and_(_ACCOUNT, _QUEUED, payouts.c.due_at <= NOW, payouts.c.batch_id.not_in(_STOPPED)),
    False: and_(_ACCOUNT, _NOT_QUEUED, _WAITING, payouts.c.due_at.is_not(None)),
}
_LONGEST_DUE: Mapping[bool, Select[int]] = {
    to_send: select(payouts.c.id)
    .where(which, _UNANNOUNCED, _OF_BATCH)
    .order_by(payouts.c.due_at, payouts.c.id)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True, of=payouts)
    for to_send, which in _DUE.items()
}
_WAITS_SINCE: Mapping[bool, Select[datetime]] = {
    to_send: select(payouts.c.due_at).where(which).order_by(payouts.c.due_at).limit(1)
    for to_send, which in _DUE.items()
}
_OUT: Mapping[bool, Select[int]] = {
    to_send: select(func.count())
    .select_from(payouts)
    .where(_ACCOUNT, purpose, payouts.c.announced_until > NOW)
    for to_send, purpose in ((True, _QUEUED), (False, _NOT_QUEUED))
}
_ACCOUNTS = select(accounts.c.name, accounts.c.paused_kind).where(
    or_(accounts.c.blocked_until.is_(None), accounts.c.blocked_until <= NOW),
    or_(accounts.c.paused_kind.is_(None), accounts.c.paused_kind.in_(SENDING_ONLY)),
)
# Any numbers, as long as every Paybatch takes the same ones; SQLite has one writer anyhow.
_ANNOUNCER = 5_081_120
_ONE_ANNOUNCER = select(
    func.pg_try_advisory_xact_lock(_ANNOUNCER, func.hashtext(bindparam("of_account")))
)
_MARK = (
    update(payouts)
    .where(payouts.c.id.in_(bindparam("marked", expanding=True)))
    .values(announced_until=bindparam("until", type_=UtcDateTime()))
)
_NONE_NARROWER: Mapping[str, int] = MappingProxyType({})
_OVERDUE = and_(
    _ACCOUNT,
    payouts.c.announced_until > NOW,
    payouts.c.announced_until < bindparam("before", type_=UtcDateTime()),
    # What is put off for want of room is not awaited: it is not due yet.
    payouts.c.due_at <= NOW,
)


def _overdue(to_send: bool, ahead_of: Message | None) -> ColumnElement[bool]:
    which = and_(_OVERDUE, _QUEUED if to_send else _NOT_QUEUED)
    if ahead_of is None:
        return which
    # Marks of one time were sent in this order.
    other = payouts.alias()
    its_due_at = select(other.c.due_at).where(other.c.id == ahead_of.payout_id).scalar_subquery()
    sooner = or_(
        payouts.c.due_at < its_due_at,
        and_(payouts.c.due_at == its_due_at, payouts.c.id < ahead_of.payout_id),
    )
    until = literal(ahead_of.expires_at, UtcDateTime())
    at_once = and_(payouts.c.announced_until == until, sooner)
    return and_(which, or_(payouts.c.announced_until < until, at_once))


def claimable(database: Database) -> Select[Any]:
    """Those of the payouts `TEXTS` that a worker may take at `now`, whatever messages it got, and
    when their accounts were put back.
    """
    return (
        select(*_TAKEN, accounts.c.restored_at)
        .select_from(_WITH_BATCH)
        .where(database.among(payouts.c.id), _WAITING, _ACCOUNT_LETS, _BATCH_LETS)
        .with_for_update(skip_locked=True, of=payouts)
    )


@dataclass(frozen=True, slots=True)
class Due:
    """A payout to announce."""

    payout_id: int
    account: str
    # It is to be sent; else it is to be asked about.
    to_send: bool
    # When its message is worthless, and how long that is from now.
    expires_at: datetime
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Message:
    """A payout's message, as a broker shows it."""

    payout_id: int
    expires_at: datetime


class DueWork:
    """The dispatcher's and the sweep's view of the payouts. Every transaction is short."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def announce(
        self,
        now: datetime,
        *,
        window: int,
        announce_s: Mapping[str, float],
        narrower: Mapping[str, int] = _NONE_NARROWER,
        batch_id: str = "",
    ) -> Sequence[Due]:
        """Mark payouts that are due as announced, the longest due first.

        Args:
            window: how many messages of one account and purpose may be out at a time.
            announce_s: for each account, how long its messages are awaited.
            narrower: windows of accounts that need less, for they may make few calls.
            batch_id: only payouts of this batch.
        """
        found: list[Due] = []
        for account, to_send in self._open(announce_s, now):
            until = now + timedelta(seconds=announce_s[account])
            wanted = {"of_account": account, "now": now, "batch_id": batch_id}
            its_own = min(window, narrower.get(account, window))
            ids = self._mark(wanted, its_own, until, to_send=to_send)
            lasts_s = announce_s[account]
            found += [Due(each, account, to_send, until, lasts_s) for each in ids]
        return found

    def _open(self, names: Collection[str], now: datetime) -> Sequence[tuple[str, bool]]:
        """The accounts, of these, that may be worked for now, and for which purposes."""
        with self.database.read() as connection:
            rows = connection.execute(_ACCOUNTS, {"now": now}).all()
        return [
            (row.name, to_send)
            for row in rows
            if row.name in names
            for to_send in (False, True)
            if not to_send or row.paused_kind is None
        ]

    def _mark(
        self, wanted: Mapping[str, Any], window: int, until: datetime, *, to_send: bool
    ) -> Sequence[int]:
        longest_due, out = _LONGEST_DUE[to_send], _OUT[to_send]
        # A look without the write lock first, which a busy worker needs more.
        with self.database.read() as connection:
            if connection.execute(longest_due, {**wanted, "limit": 1}).first() is None:
                return []
        with self.database.write() as connection:
            if not self.database.is_sqlite:
                # One at a time: two that counted at once would fill the window twice. Whoever is
                # at it does what this one would have done.
                taken = connection.execute(_ONE_ANNOUNCER, wanted).scalar_one()
                if not taken:
                    return []
            left = max(0, window - connection.execute(out, wanted).scalar_one())
            ids = connection.execute(longest_due, {**wanted, "limit": left}).scalars().all()
            if ids:
                connection.execute(_MARK, {"marked": ids, "until": until})
        return ids

    def overdue(
        self,
        account: str,
        now: datetime,
        *,
        before: datetime,
        to_send: bool,
        ahead_of: Message | None = None,
    ) -> bool:
        """Whether messages of an account are awaited whose marks run out before then.

        Args:
            ahead_of: only those that were sent before this one.
        """
        with self.database.read() as connection:
            found = select(payouts.c.id).where(_overdue(to_send, ahead_of)).limit(1)
            wanted = {"of_account": account, "now": now, "before": before}
            return connection.execute(found, wanted).first() is not None

    def take_back(
        self,
        account: str,
        now: datetime,
        *,
        before: datetime,
        to_send: bool,
        ahead_of: Message | None = None,
    ) -> int:
        """Take back the marks of an account that run out before then, because their messages are
        gone; the number taken back.

        Args:
            ahead_of: only those that were sent before this one.
        """
        wanted = {"of_account": account, "now": now, "before": before}
        with self.database.write() as connection:
            return connection.execute(
                update(payouts).where(_overdue(to_send, ahead_of)).values(announced_until=None),
                wanted,
            ).rowcount

    def give_back(self, payout_ids: Sequence[int]) -> None:
        """Take back the marks of these payouts: their messages were not sent, or not used."""
        with self.database.write() as connection:
            connection.execute(_MARK, {"marked": payout_ids, "until": None})

    def longest_due(self, accounts: Collection[str], now: datetime) -> datetime | None:
        """Since when the payout of these accounts has been due that waits longest for a worker,
        announced or not; None: none waits.
        """
        found: list[datetime] = []
        for account, to_send in self._open(accounts, now):
            wanted = {"of_account": account, "now": now}
            with self.database.read() as connection:
                found += connection.execute(_WAITS_SINCE[to_send], wanted).scalars()
        return min(found, default=None)

    def forget_announcements(self) -> None:
        """Take back all marks, because the messages they stand for are gone."""
        with self.database.write() as connection:
            connection.execute(
                update(payouts)
                .where(payouts.c.announced_until.is_not(None))
                .values(announced_until=None)
            )

    def wake(self, payout_ids: Sequence[int], now: datetime) -> int:
        """Have the provider asked about payouts that it may have; how many will be."""
        with self.database.write() as connection:
            return connection.execute(
                update(payouts)
                .where(
                    payouts.c.id.in_(payout_ids),
                    or_(payouts.c.claimed_until.is_(None), payouts.c.claimed_until < now),
                    payouts.c.state.in_(set(_WORKABLE) - {State.QUEUED}),
                )
                .values(due_at=now, announced_until=None)
            ).rowcount

    def postpone(self, payout_id: int, due_at: datetime) -> None:
        """Put off a payout that waits for a worker; any other is left alone.

        Until then it counts as announced: what waits for room fills the window, or ever more
        would be announced that finds no room either.
        """
        with self.database.write() as connection:
            connection.execute(
                update(payouts)
                .where(
                    payouts.c.id == payout_id,
                    payouts.c.claimed_until.is_(None),
                    payouts.c.due_at.is_not(None),
                    payouts.c.state.in_(_WORKABLE),
                )
                .values(due_at=due_at, announced_until=due_at)
            )
