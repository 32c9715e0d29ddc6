"""A record that was put back to an earlier state: frozen, compared with the provider, opened again.

Whatever was sent after the backup is at the provider and not in the record. So nothing is sent
until a person has looked, and after that nothing without a look-up first, until a comparison shows
that the provider has nothing that is unknown here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, select, update

from workers.errors import AccountFault
from workers.record.database import Database
from workers.record.status import State
from workers.record.tables import accounts, batches, payout_events, payouts

RESTORE = "restore"
PAGE_ROWS = 2_000
# The provider said that it has these; of others it may be that nobody knows yet.
THERE = (State.CREATED, State.PROCESSING, State.PAID, State.RETURNED)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of an account beside its settings."""

    account: str
    # Why it is paused, see `Pause`; None: it is open.
    paused_kind: str | None
    paused_reason: str | None
    # When the record was put back; None: never, or all that was sent before is known again.
    restored_at: datetime | None
    # When it was last compared with the provider's list.
    reconciled_at: datetime | None

    @property
    def is_compared(self) -> bool:
        """Whether it has been compared since the record was put back."""
        if self.restored_at is None:
            return True
        return self.reconciled_at is not None and self.reconciled_at >= self.restored_at


def freeze(
    connection: Connection, reason: str, now: datetime, account: str | None = None
) -> Sequence[str]:
    """Stop all accounts, or one, because the record was put back; their names.

    Whatever paused them before is kept in the reason, and nothing but a person opens them.
    """
    which = select(accounts).order_by(accounts.c.name).with_for_update()
    if account is not None:
        which = which.where(accounts.c.name == account)
    rows = connection.execute(which).all()
    for row in rows:
        earlier = ""
        if row.paused_kind not in (None, RESTORE):
            earlier = f"; paused before ({row.paused_kind}): {row.paused_reason}"
        connection.execute(
            update(accounts)
            .where(accounts.c.name == row.name)
            .values(
                paused_kind=RESTORE,
                paused_reason=reason + earlier,
                paused_at=now,
                # Never probed.
                probe_at=now,
                restored_at=now,
            )
        )
    return [row.name for row in rows]


class RestoreBook:
    """What the accounts table knows of restores. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def freeze(self, reason: str, now: datetime, account: str | None = None) -> Sequence[str]:
        """Stop all accounts, or one, because the record was put back; their names."""
        with self.database.write() as connection:
            return freeze(connection, reason, now, account)

    def standing(self, account: str) -> Standing:
        """How an account of the settings stands."""
        which = select(accounts).where(accounts.c.name == account)
        with self.database.read() as connection:
            row = connection.execute(which).one()
        return Standing(
            row.name, row.paused_kind, row.paused_reason, row.restored_at, row.reconciled_at
        )

    def open(self, seen: Standing, note: str) -> None:
        """Open a paused account as a person decided.

        Args:
            seen: how it stood when that was decided.
            note: who decided it and why: kept where the reason of the pause stood, until the next.

        Raises:
            AccountFault: it was paused or frozen anew meanwhile.
        """
        opened = (
            update(accounts)
            .where(_as_seen(seen), accounts.c.paused_reason == seen.paused_reason)
            .values(paused_kind=None, paused_reason=note, paused_at=None, probe_at=None)
        )
        with self.database.write() as connection:
            done = connection.execute(opened).rowcount
        if not done:
            raise AccountFault(f"account {seen.account} was paused anew meanwhile")

    def newest_before(self, at: datetime) -> datetime | None:
        """When the record was last written to before that time: the backup is no older.

        None: there was nothing in it yet.
        """
        latest = (
            select(func.max(payout_events.c.at)).where(payout_events.c.at < at),
            select(func.max(batches.c.made_at)).where(batches.c.made_at < at),
        )
        with self.database.read() as connection:
            found = [connection.execute(one).scalar_one_or_none() for one in latest]
        return max((one for one in found if one is not None), default=None)

    def reconciled(self, seen: Standing, now: datetime, *, all_known: bool) -> bool:
        """Note that an account was compared with the provider's list.

        Args:
            seen: how it stood when the comparison began.
            all_known: what was sent before the record was put back is known here again.

        Returns:
            Whether its creates need no look-up any more. False also where it was put back once
            more meanwhile.
        """
        values = {"reconciled_at": now} | ({"restored_at": None} if all_known else {})
        noted = update(accounts).where(_as_seen(seen)).values(values)
        with self.database.write() as connection:
            done = connection.execute(noted).rowcount == 1
        return done and (all_known or seen.restored_at is None)

    def known(self, account: str, reference_ids: Sequence[str]) -> Mapping[str, Row[Any]]:
        """The payouts that have these reference ids; one withdrawn before any send has none."""
        which = (payouts.c.account == account, payouts.c.reference_id.in_(reference_ids))
        with self.database.read() as connection:
            rows = connection.execute(select(payouts).where(*which)).all()
        return {
            row.reference_id: row for row in rows if row.state != State.CANCELLED or row.attempts
        }

    def there(self, account: str, since: datetime, until: datetime) -> Iterator[Sequence[Row[Any]]]:
        """The payouts that were sent from `since` on and before `until`, all their creates, and
        are at the provider: a page at a time.
        """
        last = 0
        while True:
            page = (
                select(payouts)
                .where(
                    payouts.c.account == account,
                    payouts.c.state.in_(THERE),
                    payouts.c.sent_at >= since,
                    payouts.c.last_sent_at < until,
                    payouts.c.id > last,
                )
                .order_by(payouts.c.id)
                .limit(PAGE_ROWS)
            )
            with self.database.read() as connection:
                rows = connection.execute(page).all()
            if rows:
                yield rows
            if len(rows) < PAGE_ROWS:
                return
            last = rows[-1].id


def _as_seen(seen: Standing) -> ColumnElement[bool]:
    """The account, unless it was put back since."""
    put_back = accounts.c.restored_at
    same = put_back.is_(None) if seen.restored_at is None else put_back == seen.restored_at
    return and_(accounts.c.name == seen.account, same)
