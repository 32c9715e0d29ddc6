"""What is due: which payouts may be worked on now, and which messages are out for them.

`due_at` says when a payout's next step may run; `announced_until` is the dispatcher's own mark that
a message is out. A lost message is announced again when its mark runs out, and a doubled one finds
nothing to claim.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import BindParameter, and_, bindparam, func, or_, select, update

from workers.record.database import Database
from workers.record.status import OPEN, State
from workers.record.tables import UtcDateTime, accounts, batches, payouts

# Kinds of a pause that leave open payouts readable: only sending waits.
SENDING_ONLY = ("balance", "person")

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

# The payout `payout_id`, if a worker may take it at `now`, whatever message it got. Built once: a
# statement's text is derived from it only at its first use.
CLAIMABLE = (
    select(payouts)
    .select_from(_WITH_BATCH)
    .where(payouts.c.id == bindparam("payout_id"), _WAITING, _ACCOUNT_LETS, _BATCH_LETS)
    .with_for_update(skip_locked=True, of=payouts)
)
_DUE = (
    select(payouts.c.id, payouts.c.account)
    .select_from(_WITH_BATCH)
    .where(
        _WAITING,
        _UNANNOUNCED,
        _ACCOUNT_LETS,
        _BATCH_LETS,
        payouts.c.account.in_(bindparam("accounts", expanding=True)),
        or_(bindparam("batch_id") == "", payouts.c.batch_id == bindparam("batch_id")),
    )
    .order_by(payouts.c.due_at, payouts.c.id)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True, of=payouts)
)
_LONGEST_DUE = (
    select(payouts.c.due_at)
    .select_from(_WITH_BATCH)
    .where(
        _WAITING,
        _ACCOUNT_LETS,
        _BATCH_LETS,
        payouts.c.account.in_(bindparam("accounts", expanding=True)),
    )
    .order_by(payouts.c.due_at)
    .limit(1)
)
_ANY_DUE = select(payouts.c.id).where(_WAITING, _UNANNOUNCED).limit(1)
_OUT = select(func.count()).select_from(payouts).where(payouts.c.announced_until > NOW)
# Any number, as long as every Paybatch takes the same one; SQLite has one writer anyhow.
_ONE_ANNOUNCER = select(func.pg_advisory_xact_lock(5_081_120))
_MARK = (
    update(payouts)
    .where(payouts.c.id.in_(bindparam("marked", expanding=True)))
    .values(announced_until=bindparam("until", type_=UtcDateTime()))
)


class DueWork:
    """The dispatcher's and the sweep's view of the payouts."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def announce(
        self, now: datetime, *, window: int, announce_s: Mapping[str, float], batch_id: str = ""
    ) -> Sequence[tuple[int, float]]:
        """Mark payouts that are due as announced, the longest due first.

        Args:
            window: how many messages may be out at a time.
            announce_s: for each account, how long its messages are awaited.
            batch_id: only payouts of this batch.

        Returns:
            The ids to publish, each with the seconds after which its message is worthless.
        """
        # A look without the write lock first, which a busy worker needs more.
        with self.database.read() as connection:
            if connection.execute(_ANY_DUE, {"now": now}).first() is None:
                return []
        with self.database.write() as connection:
            if not self.database.is_sqlite:
                # One at a time: two that counted at once would fill the window twice.
                connection.execute(_ONE_ANNOUNCER)
            out = connection.execute(_OUT, {"now": now}).scalar_one()
            wanted = {
                "now": now,
                "accounts": list(announce_s),
                "batch_id": batch_id,
                "limit": max(0, window - out),
            }
            rows = connection.execute(_DUE, wanted).all()
            for account in {row.account for row in rows}:
                until = now + timedelta(seconds=announce_s[account])
                marked = [row.id for row in rows if row.account == account]
                connection.execute(_MARK, {"marked": marked, "until": until})
        return [(row.id, announce_s[row.account]) for row in rows]

    def longest_due(self, accounts: Collection[str], now: datetime) -> datetime | None:
        """Since when the payout of these accounts has been due that waits longest for a worker,
        announced or not; None: none waits.
        """
        wanted = {"now": now, "accounts": list(accounts)}
        with self.database.read() as connection:
            due_at: datetime | None = connection.execute(_LONGEST_DUE, wanted).scalar_one_or_none()
        return due_at

    def forget_announcements(self) -> None:
        """Take back all marks, because the messages they stand for are gone."""
        with self.database.write() as connection:
            connection.execute(
                update(payouts)
                .where(payouts.c.announced_until.is_not(None))
                .values(announced_until=None)
            )

    def postpone(self, payout_id: int, due_at: datetime) -> None:
        """Put off a payout that waits for a worker; any other is left alone."""
        with self.database.write() as connection:
            connection.execute(
                update(payouts)
                .where(
                    payouts.c.id == payout_id,
                    payouts.c.claimed_until.is_(None),
                    payouts.c.due_at.is_not(None),
                    payouts.c.state.in_(_WORKABLE),
                )
                .values(due_at=due_at, announced_until=None)
            )
