"""The accounts as the record knows them: open or paused and why, their pace, what is promised.

An account's fault is no payout's fault: it pauses the account, and its payouts wait.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from workers.record.database import Database
from workers.record.money import Currency, Money
from workers.record.status import PROMISED, UNSPENT, State
from workers.record.tables import accounts, installation, payouts

# Kinds of a pause that a probe can end: the others are a person's to open.
PROBED = ("fault", "balance", "outage")
log = logging.getLogger(__name__)

PROBE_FIRST_S = 30
PROBE_MAX_S = 600
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Pause:
    """Why an account sends nothing, since when, and when it is tried again."""

    account: str
    kind: str
    reason: str
    since: datetime
    probe_at: datetime


def pause(connection: Connection, account: str, kind: str, reason: str, now: datetime) -> None:
    """Stop an account, unless it is stopped already.

    Args:
        kind: `fault`, `balance`, `outage` or `person`; for `restore` see `restores.freeze`.
    """
    paused = connection.execute(
        update(accounts)
        .where(accounts.c.name == account, accounts.c.paused_kind.is_(None))
        .values(
            paused_kind=kind,
            paused_reason=reason,
            paused_at=now,
            probe_at=now + timedelta(seconds=PROBE_FIRST_S),
            probes=0,
        )
    ).rowcount
    if paused:
        log.warning("account paused", extra={"account": account, "kind": kind, "reason": reason})


def block(connection: Connection, account: str, until: datetime) -> None:
    """No call of the account before `until`: the provider asked for it."""
    connection.execute(
        update(accounts)
        .where(
            accounts.c.name == account,
            or_(accounts.c.blocked_until.is_(None), accounts.c.blocked_until < until),
        )
        .values(blocked_until=until)
    )


class AccountBook:
    """The accounts table. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def register(self, providers: Mapping[str, str]) -> None:
        """Have a row for each account of the settings: name to provider.

        A new one is as old as the record: where that was put back to an earlier state, the account
        may have been there, and paid, before.
        """
        put_back = select(func.max(accounts.c.restored_at)).scalar_subquery()
        insert = sqlite.insert if self.database.is_sqlite else postgresql.insert
        with self.database.read() as connection:
            known = {
                row.name: row.provider
                for row in connection.execute(select(accounts.c.name, accounts.c.provider))
            }
        wrong = {name: kind for name, kind in providers.items() if known.get(name) != kind}
        if not wrong:
            return
        with self.database.write() as connection:
            for name, provider in wrong.items():
                row: Any = insert(accounts).values(
                    name=name, provider=provider, restored_at=put_back
                )
                connection.execute(
                    row.on_conflict_do_update(
                        index_elements=[accounts.c.name], set_={"provider": provider}
                    )
                )

    def pause(self, account: str, kind: str, reason: str, now: datetime) -> None:
        """Stop an account, unless it is stopped already."""
        with self.database.write() as connection:
            pause(connection, account, kind, reason, now)

    def resume(self, account: str) -> bool:
        """Open an account whose pause a probe can end; whether it was so paused."""
        with self.database.write() as connection:
            return bool(
                connection.execute(
                    update(accounts)
                    .where(accounts.c.name == account, accounts.c.paused_kind.in_(PROBED))
                    .values(paused_kind=None, paused_reason=None, paused_at=None, probe_at=None)
                ).rowcount
            )

    def pauses(self) -> Sequence[Pause]:
        """The accounts that are paused now."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(accounts)
                .where(accounts.c.paused_kind.is_not(None))
                .order_by(accounts.c.name)
            )
            return [
                Pause(row.name, row.paused_kind, row.paused_reason, row.paused_at, row.probe_at)
                for row in rows
            ]

    def take_probe(self, account: str, now: datetime) -> bool:
        """Whether this caller is the one to probe the paused account now.

        The next probe comes after a delay that doubles from 30 s to 10 min.
        """
        due = (
            select(accounts.c.probes)
            .where(
                accounts.c.name == account,
                accounts.c.paused_kind.in_(PROBED),
                accounts.c.probe_at <= now,
            )
            .with_for_update(skip_locked=True)
        )
        with self.database.read() as connection:
            if connection.execute(due).first() is None:
                return False
        with self.database.write() as connection:
            row = connection.execute(due).one_or_none()
            if row is None:
                return False
            delay_s = min(PROBE_MAX_S, PROBE_FIRST_S * 2 ** min(row.probes + 1, 10))
            connection.execute(
                update(accounts)
                .where(accounts.c.name == account)
                .values(probes=row.probes + 1, probe_at=now + timedelta(seconds=delay_s))
            )
            return True

    def take_slot(
        self, account: str, now: datetime, *, interval_us: int, burst_us: int, wait_us_max: int
    ) -> int | None:
        """Take the account's next free slot for one call.

        The generic cell rate algorithm: `paced_us` is when the calls let through so far are used
        up at the steady rate, and a call may start up to `burst_us` before that.

        Returns:
            Microseconds to wait for the slot; None: it is further off than `wait_us_max`, and was
            not taken.
        """
        now_us = (now - _EPOCH) // timedelta(microseconds=1)
        used_up = case((accounts.c.paced_us < now_us, now_us), else_=accounts.c.paced_us)
        with self.database.write() as connection:
            paced_us = connection.execute(
                update(accounts)
                .where(
                    accounts.c.name == account,
                    accounts.c.paced_us <= now_us + burst_us - interval_us + wait_us_max,
                )
                .values(paced_us=used_up + interval_us)
                .returning(accounts.c.paced_us)
            ).scalar_one_or_none()
        return None if paced_us is None else max(0, paced_us - burst_us - now_us)

    def slot_wait_us(self, account: str, now: datetime, *, burst_us: int) -> int:
        """How long the next call of the account would have to wait, in microseconds."""
        now_us = (now - _EPOCH) // timedelta(microseconds=1)
        with self.database.read() as connection:
            paced_us: int = connection.execute(
                select(accounts.c.paced_us).where(accounts.c.name == account)
            ).scalar_one()
        return max(0, paced_us - burst_us - now_us)

    def tell_swept(self, now: datetime, *, every_s: float) -> None:
        """Note that a sweep went all the way through, no more often than told."""
        long_ago = or_(
            installation.c.swept_at.is_(None),
            installation.c.swept_at < now - timedelta(seconds=every_s),
        )
        with self.database.read() as connection:
            if connection.execute(select(installation.c.id).where(long_ago)).first() is None:
                return
        with self.database.write() as connection:
            connection.execute(update(installation).where(long_ago).values(swept_at=now))

    def swept_at(self) -> datetime | None:
        """When a sweep last went all the way through; None: never."""
        with self.database.read() as connection:
            return connection.execute(select(installation.c.swept_at)).scalar_one_or_none()

    def promised(self, account: str, *, besides: str | None = None) -> Mapping[Currency, Money]:
        """What approved payouts that are not final will still take, expected fees included.

        Args:
            besides: a batch whose own are left out.
        """
        others = () if besides is None else (payouts.c.batch_id != besides,)
        with self.database.read() as connection:
            return _sums(connection, account, sorted(PROMISED), func.sum, *others)

    def unspent(self, account: str, batch_id: str) -> Mapping[Currency, Money]:
        """What a batch needs of the account from now on, expected fees included."""
        states = sorted(UNSPENT | {State.DRAFT})
        own = payouts.c.batch_id == batch_id
        with self.database.read() as connection:
            return _sums(connection, account, states, func.sum, own)

    def smallest_queued(self, account: str) -> Mapping[Currency, Money]:
        """The least amount of a queued payout, per currency: what a balance must allow again."""
        with self.database.read() as connection:
            return _sums(connection, account, [State.QUEUED], func.min)

    def approvals(self, account: str) -> int:
        """A number that changes with every approval of payouts of the account."""
        with self.database.read() as connection:
            approvals: int = connection.execute(
                select(accounts.c.approvals).where(accounts.c.name == account)
            ).scalar_one()
        return approvals


def _sums(
    connection: Connection,
    account: str,
    states: Sequence[State],
    over: Any,
    *which: ColumnElement[bool],
) -> Mapping[Currency, Money]:
    amount = payouts.c.amount_minor + payouts.c.fee_expected_minor
    rows = connection.execute(
        select(payouts.c.currency, payouts.c.currency_exponent, over(amount).label("minor"))
        .where(payouts.c.account == account, payouts.c.state.in_(states), *which)
        .group_by(payouts.c.currency, payouts.c.currency_exponent)
    )
    sums = {}
    for row in rows:
        currency = Currency(row.currency, row.currency_exponent)
        # PostgreSQL sums 64-bit integers as exact decimals; SQLite as integers.
        sums[currency] = Money(int(row.minor), currency)
    return sums
