"""What providers tell us: each delivery stored once, and applied by waking its payout.

A delivery never moves a payout. It makes it due, and the worker asks the provider. So a lost,
doubled, late, early or false one changes only when we ask. One that says no more than we know by
our own asking does not even that.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    delete,
    func,
    literal,
    or_,
    select,
    union,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from workers.record.database import TEXTS, Database
from workers.record.due import NOW
from workers.record.groups import ALONE, Groups, as_one
from workers.record.keybook import writing
from workers.record.model import Change, Notice
from workers.record.money import Money
from workers.record.moves import SWEEP, change_of, write
from workers.record.rows import money_of
from workers.record.status import MAYBE_SENT, State
from workers.record.tables import (
    PENDING,
    PUT_BY,
    REFERENCE_TAKEN,
    UtcDateTime,
    payouts,
    webhooks,
)
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
# So many of them in one transaction, which keeps their payouts from the workers until it ends.
TOGETHER_MAX = 100
# Applied deliveries are kept so long, as evidence; their bodies are beneficiaries' data.
KEPT_DAYS = 30


@dataclass(frozen=True, slots=True)
class Applied:
    """What a round of applying did."""

    woken: int
    # Put by without effect: final, held, never known, or known already; or somebody else's.
    idle: int


@dataclass(frozen=True, slots=True)
class _Delivery:
    """What is to be stored of a request to our receiver."""

    account: str
    notices: Sequence[Notice]
    body: bytes
    now: datetime


class WebhookBook:
    """The webhooks table. Every method is one transaction, but for `keep`, whose transaction many
    threads share, and for `apply`.
    """

    def __init__(self, database: Database, vault: Vault) -> None:
        self.database = database
        self._vault = vault
        self._together: Groups[_Delivery] = Groups(self._keep_together)
        self._upsert = _upsert(database)
        self._known = _known(database)
        among = database.among(webhooks.c.id)
        self._to_apply = (
            select(*_APPLIED).where(among, _IS_RIPE).order_by(*_OLDEST_FIRST)
        ).with_for_update(skip_locked=True)
        self._about = union(*(_pairs(told).where(among) for told in (_SAME_ID, _SAME_REFERENCE)))
        self._told_of = select(*_WOKEN).where(database.among(payouts.c.id))
        self._to_wake = self._told_of.with_for_update(skip_locked=True)
        self._put_by = update(webhooks).where(among).values(pending=False, applied_at=NOW)

    def keep(
        self, account: str, notices: Sequence[Notice], body: bytes, now: datetime
    ) -> Sequence[Notice]:
        """Store what a delivery is about; one that was stored before is only counted again.

        Args:
            notices: what it is about, each with the key that tells it from others.

        Returns:
            What was stored of it: less where too many wait that nobody knows anything of.

        Raises:
            VaultError: this process lacks the key that the record is closed with.
        """
        if not notices:
            return ()
        asked = _Delivery(account, notices, body, now)
        kept: Any = self._together.take_part(asked)
        if kept is ALONE:
            [kept] = self._keep_as_one([asked], patient=True)
        stored: Sequence[Notice] = kept
        return stored

    def apply(self, now: datetime) -> Applied:
        """Wake the payouts of waiting deliveries, the oldest first, some in a transaction.

        One whose payout a worker has just now waits until it is given back; one whose payout is
        not known yet waits a while too. Neither stands in the way of the others.
        """
        with self.database.read() as connection:
            waiting = connection.execute(_RIPE, _times(now)).scalars().all()
        woken = 0
        for begin in range(0, len(waiting), TOGETHER_MAX):
            woken += self._apply_some(waiting[begin : begin + TOGETHER_MAX], now)
        return Applied(woken, len(waiting) - woken)

    def forget_old(self, now: datetime) -> int:
        """Delete deliveries that were applied long ago; a number of rows."""
        old = and_(PUT_BY, webhooks.c.received_at < now - timedelta(days=KEPT_DAYS))
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

    def _keep_together(self, asked: Sequence[_Delivery]) -> Sequence[Any]:
        return as_one(asked, partial(self._keep_as_one, patient=False))

    def _keep_as_one(
        self, asked: Sequence[_Delivery], *, patient: bool
    ) -> Sequence[Sequence[Notice]]:
        """What was stored of each, all in one transaction."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        kept = []
        with self.database.write(by_key=True, patient=patient) as connection:
            vault = writing(connection, self._vault)
            have_room = self._have_room(connection, asked)
            for one in asked:
                stored = [each for each in one.notices if (one.account, each) in have_room]
                kept.append(stored)
                for notice in stored:
                    place = (one.account, notice.key)
                    times = rows[place]["times"] if place in rows else 0
                    rows[place] = {
                        "account": one.account,
                        "key": notice.key,
                        "provider_payout_id": notice.provider_payout_id,
                        "reference_id": notice.reference_id,
                        "status": notice.status,
                        "received_at": one.now,
                        "times": times + 1,
                        "sealed_body": vault.close_secret(one.body, place_of(*place)),
                        "pending": True,
                    }
            if rows:
                # In order: two receivers that are told the same must not wait for each other.
                connection.execute(self._upsert, [rows[place] for place in sorted(rows)])
        return kept

    def _have_room(
        self, connection: Connection, asked: Sequence[_Delivery]
    ) -> set[tuple[str, Notice]]:
        """What may be stored: all about payouts that are known, and so much about others."""
        found: set[tuple[str, Notice]] = set()
        told: dict[str, dict[Notice, None]] = defaultdict(dict)
        for one in asked:
            told[one.account] |= dict.fromkeys(one.notices)
        for account, notices in told.items():
            ids = {name for each in notices for name in _names(each)}
            wanted = {"of_account": account, TEXTS: json.dumps([name for _, name in ids])}
            known = {(kind, name) for kind, name in connection.execute(self._known, wanted)}
            ours = [each for each in notices if known & _names(each)]
            found |= {(account, each) for each in ours}
            others = [each for each in notices if not known & _names(each)]
            if others:
                unknown = connection.execute(_UNKNOWN, {"of_account": account}).scalar_one()
                left = max(0, UNKNOWN_MAX - unknown)
                found |= {(account, each) for each in others[:left]}
        return found

    def _apply_some(self, ids: Sequence[int], now: datetime) -> int:
        """Apply those of the deliveries that nobody else does; how many woke a payout.

        Whose payout somebody keeps for a moment waits for the next round: who has many rows must
        not wait for one. Nor is any payout kept that is due already: the worker that is told to
        take it would not find it, and whatever it asks, it asks after what was delivered.
        """
        asked = {TEXTS: json.dumps(list(ids))}
        with self.database.write(by_key=True, patient=False) as connection:
            deliveries = connection.execute(self._to_apply, {**asked, **_times(now)}).all()
            about: dict[int, list[int]] = defaultdict(list)
            for delivery_id, payout_id in connection.execute(self._about, asked):
                about[delivery_id].append(payout_id)
            told_of = {each for some in about.values() for each in some}
            free = _free(connection, self._told_of, told_of, now)
            asleep = {
                each
                for one in deliveries
                for each in about[one.id]
                if each in free and _is_news(free[each], one) and _sleeps(free[each], now)
            }
            kept = _free(connection, self._to_wake, asleep, now)
            free = {each: row for each, row in free.items() if each not in asleep} | kept
            applied = [one for one in deliveries if all(each in free for each in about[one.id])]
            woken, changes = 0, dict[int, Change]()
            for one in applied:
                told = [free[each] for each in about[one.id] if _is_news(free[each], one)]
                woken += bool(told)
                changes |= {row.id: _wake(row, now) for row in told if _sleeps(row, now)}
            write(connection, list(changes.values()))
            if applied:
                done = {TEXTS: json.dumps([one.id for one in applied]), "now": now}
                connection.execute(self._put_by, done)
        return woken


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
_IS_RIPE = and_(
    PENDING,
    or_(
        _has_payout(_SAME_ID, _FREE),
        _has_payout(_SAME_REFERENCE, _FREE),
        and_(~_HAS_PAYOUT, webhooks.c.received_at <= bindparam("early", type_=UtcDateTime())),
    ),
)
_OLDEST_FIRST = (webhooks.c.received_at, webhooks.c.id)
_RIPE = select(webhooks.c.id).where(_IS_RIPE).order_by(*_OLDEST_FIRST).limit(APPLIED_AT_ONCE)
_UNKNOWN = (
    select(func.count())
    .select_from(webhooks)
    # Not by the index of keys: it has all that were ever kept for the account.
    .where(PENDING, webhooks.c.account + "" == bindparam("of_account"), ~_HAS_PAYOUT)
)
# What applying looks at.
_APPLIED: Sequence[Any] = (webhooks.c.id, webhooks.c.received_at, webhooks.c.status)
_WOKEN: Sequence[Any] = (
    payouts.c.id,
    payouts.c.reference_id,
    payouts.c.claim_no,
    payouts.c.claimed_until,
    payouts.c.state,
    payouts.c.provider_status,
    payouts.c.settled_at,
    payouts.c.woken_at,
    payouts.c.due_at,
)
_UNDER_WAY = (State.CREATED, State.PROCESSING)


def _times(now: datetime) -> dict[str, datetime]:
    return {"now": now, "early": now - timedelta(seconds=EARLY_S)}


def _free(
    connection: Connection, wanted: Select[Any], ids: Collection[int], now: datetime
) -> dict[int, Row[Any]]:
    """Those of the payouts that no worker has, by their ids."""
    found = connection.execute(wanted, {TEXTS: json.dumps(sorted(ids))}) if ids else ()
    return {row.id: row for row in found if row.claimed_until is None or row.claimed_until <= now}


def _pairs(told: ColumnElement[bool]) -> Any:
    """Deliveries, and the payouts that they are about."""
    same = and_(payouts.c.account == webhooks.c.account, told)
    return select(webhooks.c.id, payouts.c.id).select_from(webhooks.join(payouts, same))


def _names(notice: Notice) -> set[tuple[str, str]]:
    named = {"id": notice.provider_payout_id, "reference": notice.reference_id}
    return {(kind, name) for kind, name in named.items() if name is not None}


def _known(database: Database) -> Any:
    """Which of the `TEXTS` are an account's payouts' ids at their provider, or reference ids."""
    of_account = payouts.c.account == bindparam("of_account")
    return union_all(
        select(literal("id"), payouts.c.provider_payout_id).where(
            of_account, database.among(payouts.c.provider_payout_id)
        ),
        select(literal("reference"), payouts.c.reference_id).where(
            of_account, database.among(payouts.c.reference_id), REFERENCE_TAKEN
        ),
    )


def _upsert(database: Database) -> Any:
    insert = sqlite.insert if database.is_sqlite else postgresql.insert
    row = insert(webhooks)
    again: Mapping[str, Any] = {
        "times": webhooks.c.times + row.excluded.times,
        "status": row.excluded.status,
        "received_at": row.excluded.received_at,
        "pending": True,
    }
    return row.on_conflict_do_update(index_elements=["account", "key"], set_=again)


def _is_news(payout: Row[Any], delivery: Row[Any]) -> bool:
    """Whether a delivery may tell what is not known of a payout that is not settled."""
    if payout.state == State.PAID:
        rested = timedelta(seconds=SETTLED_REST_S)
        return payout.settled_at is not None and delivery.received_at >= payout.settled_at + rested
    if payout.state in _UNDER_WAY and delivery.status is not None:
        # The provider has said the same to our own question: often it tells of what we just did.
        return bool(delivery.status != payout.provider_status)
    return payout.state in MAYBE_SENT


def _wakes_at(payout: Row[Any], now: datetime) -> datetime:
    """Not sooner than a pause after the same news before."""
    if payout.woken_at is None:
        return now
    again: datetime = payout.woken_at + timedelta(seconds=AGAIN_S)
    return max(now, again)


def _sleeps(payout: Row[Any], now: datetime) -> bool:
    return payout.due_at is None or payout.due_at > _wakes_at(payout, now)


def _wake(payout: Row[Any], now: datetime) -> Change:
    due_at = _wakes_at(payout, now)
    woken = {"due_at": due_at, "woken_at": due_at, "announced_until": None}
    return change_of(payout, (), woken, actor=SWEEP, now=now)
