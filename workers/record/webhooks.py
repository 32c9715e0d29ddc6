"""What providers tell us: each delivery stored once, and applied by waking its payout.

A delivery never moves a payout. It makes it due, and the worker asks the provider. So a lost,
doubled, late, early or false one changes only when we ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from workers.record.database import Database
from workers.record.due import NOW
from workers.record.keybook import writing
from workers.record.model import Notice
from workers.record.money import Money
from workers.record.rows import money_of
from workers.record.status import MAYBE_SENT, State
from workers.record.tables import REFERENCE_TAKEN, UtcDateTime, payouts, webhooks
from workers.record.vault import Vault

# News that comes before our own answer waits so long for its payout to be known.
EARLY_S = 900
# News wakes a payout no more often than this, however much of it comes.
AGAIN_S = 5
# Right after its payment a payout is told of as paid, which we know: that is no return.
SETTLED_REST_S = 60
# Deliveries about nothing we know that may wait at a time, for each account: more are an attack.
UNKNOWN_MAX = 1_000
APPLIED_AT_ONCE = 500
# Applied deliveries are kept so long, as evidence; their bodies are beneficiaries' data.
KEPT_DAYS = 30


@dataclass(frozen=True, slots=True)
class Applied:
    """What a round of applying did."""

    woken: int
    # Put by without effect: final, held, or never known.
    idle: int


class WebhookBook:
    """The webhooks table. Every method is one transaction."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self.database = database
        self._vault = vault

    def keep(
        self, account: str, notices: Sequence[Notice], body: bytes, now: datetime
    ) -> Sequence[int]:
        """Store what a delivery is about; one that was stored before is only counted again.

        Args:
            notices: what it is about, each with the key that tells it from others.

        Returns:
            The rows' ids; fewer where too many wait that nobody knows anything of.

        Raises:
            VaultError: this process lacks the key that the record is closed with.
        """
        insert = sqlite.insert if self.database.is_sqlite else postgresql.insert
        kept = []
        with self.database.write() as connection:
            vault = writing(connection, self._vault)
            for notice in notices:
                if not self._room_for(connection, account, notice):
                    continue
                sealed = vault.close_secret(body, place_of(account, notice.key))
                row = insert(webhooks).values(
                    account=account,
                    key=notice.key,
                    provider_payout_id=notice.provider_payout_id,
                    reference_id=notice.reference_id,
                    received_at=now,
                    sealed_body=sealed,
                    pending=True,
                )
                again = {"times": webhooks.c.times + 1, "received_at": now, "pending": True}
                kept.append(
                    connection.execute(
                        row.on_conflict_do_update(
                            index_elements=["account", "key"], set_=again
                        ).returning(webhooks.c.id)
                    ).scalar_one()
                )
        return kept

    def apply(self, now: datetime) -> Applied:
        """Wake the payouts of waiting deliveries, the oldest first, each in its own transaction.

        One whose payout a worker has just now waits until it is given back; one whose payout is
        not known yet waits a while too. Neither stands in the way of the others.
        """
        with self.database.read() as connection:
            waiting = connection.execute(_RIPE, _times(now)).scalars().all()
        woken = sum(self._apply_one(delivery_id, now) for delivery_id in waiting)
        return Applied(woken, len(waiting) - woken)

    def forget_old(self, now: datetime) -> int:
        """Delete deliveries that were applied long ago; a number of rows."""
        old = and_(~webhooks.c.pending, webhooks.c.received_at < now - timedelta(days=KEPT_DAYS))
        with self.database.read() as connection:
            if connection.execute(select(webhooks.c.id).where(old).limit(1)).first() is None:
                return 0
        with self.database.write() as connection:
            return connection.execute(delete(webhooks).where(old)).rowcount

    def is_readable(self) -> bool:
        """Whether the table can be asked; raises what the database does where it cannot."""
        with self.database.read() as connection:
            connection.execute(select(webhooks.c.id).limit(1)).first()
        return True

    def _apply_one(self, delivery_id: int, now: datetime) -> bool:
        """Whether it woke a payout."""
        with self.database.write() as connection:
            ripe = _RIPE.where(webhooks.c.id == delivery_id).with_for_update(skip_locked=True)
            if connection.execute(ripe, _times(now)).first() is None:
                return False
            delivery = connection.execute(
                select(webhooks).where(webhooks.c.id == delivery_id)
            ).one()
            found = connection.execute(_about(delivery)).all()
            if any(_is_claimed(payout, now) for payout in found):
                return False
            woken = [_wake(connection, payout, delivery, now) for payout in found]
            connection.execute(
                update(webhooks)
                .where(webhooks.c.id == delivery.id)
                .values(pending=False, applied_at=now)
            )
        return any(woken)

    def confirm(
        self, account: str, reference_id: str, provider_payout_id: str, amount: Money | None
    ) -> bool:
        """Whether a provider that asks may pay: a payout that we are making, of that amount, and
        under this one id of the provider's. The first id that is told yes is the only one for ever.
        """
        wanted = (payouts.c.account == account, payouts.c.reference_id == reference_id)
        with self.database.write() as connection:
            row = connection.execute(
                select(payouts).where(*wanted, payouts.c.state.in_(MAYBE_SENT)).with_for_update()
            ).one_or_none()
            if row is None or amount is None or money_of(row) != amount:
                return False
            known = row.provider_payout_id or provider_payout_id
            if known != provider_payout_id:
                return False
            free = or_(
                payouts.c.confirmed_id.is_(None), payouts.c.confirmed_id == provider_payout_id
            )
            told = connection.execute(
                update(payouts)
                .where(payouts.c.id == row.id, free)
                .values(confirmed_id=provider_payout_id)
            )
        return told.rowcount == 1

    def _room_for(self, connection: Connection, account: str, notice: Notice) -> bool:
        known = connection.execute(
            select(payouts.c.id).where(_matches(account, notice)).limit(1)
        ).first()
        if known is not None:
            return True
        unknown = connection.execute(
            select(func.count())
            .select_from(webhooks)
            .where(webhooks.c.pending, webhooks.c.account == account, ~_HAS_PAYOUT)
        ).scalar_one()
        return bool(unknown < UNKNOWN_MAX)


def place_of(account: str, key: str) -> str:
    """What the body of a delivery is bound to in the vault."""
    return f"delivery {key} to {account}"


def _has_payout(told: ColumnElement[bool], *more: ColumnElement[bool]) -> ColumnElement[bool]:
    # One is enough. Said so, it is looked up for each delivery by an index; an EXISTS may be
    # answered by going through all payouts there are.
    return (
        select(payouts.c.id)
        .where(payouts.c.account == webhooks.c.account, told, *more)
        .limit(1)
        .scalar_subquery()
        .is_not(None)
    )


_SAME_ID = payouts.c.provider_payout_id == webhooks.c.provider_payout_id
# What was withdrawn before any send has a reference id that no provider knows.
_SAME_REFERENCE = and_(payouts.c.reference_id == webhooks.c.reference_id, REFERENCE_TAKEN)
_HAS_PAYOUT = or_(_has_payout(_SAME_ID), _has_payout(_SAME_REFERENCE))
_FREE = or_(payouts.c.claimed_until.is_(None), payouts.c.claimed_until <= NOW)
# Those that can be applied now: their payout is nobody's, or they have waited for it in vain.
_RIPE = (
    select(webhooks.c.id)
    .where(
        webhooks.c.pending,
        or_(
            _has_payout(_SAME_ID, _FREE),
            _has_payout(_SAME_REFERENCE, _FREE),
            and_(~_HAS_PAYOUT, webhooks.c.received_at <= bindparam("early", type_=UtcDateTime())),
        ),
    )
    .order_by(webhooks.c.received_at)
    .limit(APPLIED_AT_ONCE)
)


def _times(now: datetime) -> dict[str, datetime]:
    return {"now": now, "early": now - timedelta(seconds=EARLY_S)}


def _matches(account: str, notice: Notice | Row[Any]) -> Any:
    named = []
    if notice.provider_payout_id is not None:
        named.append(payouts.c.provider_payout_id == notice.provider_payout_id)
    if notice.reference_id is not None:
        named.append(and_(payouts.c.reference_id == notice.reference_id, REFERENCE_TAKEN))
    return and_(payouts.c.account == account, or_(*named))


def _about(delivery: Row[Any]) -> Any:
    # Always in the same order: two that wake the same payouts must not wait for each other.
    matching = _matches(delivery.account, delivery)
    return select(payouts).where(matching).order_by(payouts.c.id).with_for_update()


def _is_claimed(payout: Row[Any], now: datetime) -> bool:
    return payout.claimed_until is not None and payout.claimed_until > now


def _wake(connection: Connection, payout: Row[Any], delivery: Row[Any], now: datetime) -> bool:
    """Make it due, unless it is settled; not sooner than a pause after the same news before."""
    if payout.state not in (*MAYBE_SENT, State.PAID):
        return False
    settled = payout.settled_at
    if payout.state == State.PAID and (
        settled is None or delivery.received_at < settled + timedelta(seconds=SETTLED_REST_S)
    ):
        return False
    due_at = now
    if payout.woken_at is not None:
        due_at = max(now, payout.woken_at + timedelta(seconds=AGAIN_S))
    if payout.due_at is not None and payout.due_at <= due_at:
        return True
    connection.execute(
        update(payouts)
        .where(
            payouts.c.id == payout.id,
            payouts.c.claim_no == payout.claim_no,
            payouts.c.state == payout.state,
        )
        .values(due_at=due_at, woken_at=due_at, announced_until=None)
    )
    return True
