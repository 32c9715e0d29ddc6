"""What can be asked of a batch: counts, sums, ages, reasons, and its payouts one by one.

Only reads; everything is derived from the payouts and their events.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, select

from workers.record.database import Database
from workers.record.due import SENDING_ONLY
from workers.record.model import Proposal
from workers.record.money import Currency, Money
from workers.record.status import FINAL, MOVED, OPEN, State
from workers.record.tables import (
    HELD,
    TOLD_AT_LENGTH,
    TOLD_BRIEFLY,
    accounts,
    batches,
    payout_events,
    payouts,
    proposals,
)

PAGE_ROWS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many payouts of one state and currency, and their sums."""

    state: State
    account: str
    count: int
    amount: Money
    # What the provider took, in minor units by currency code: none where no money moved, whatever
    # it had said of a fee before.
    fees: Mapping[str, int]
    # Since when the longest of them is open: when it was sent or, not sent, stored.
    since: datetime
    # When the first of them is due; None: none is.
    due_at: datetime | None


class Answers:
    """The payouts of a batch, as they stand."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def tallies(self, batch_id: str) -> Sequence[Tally]:
        """Counts and sums of a batch by state, account and currency."""
        key = (
            payouts.c.state,
            payouts.c.account,
            payouts.c.currency,
            payouts.c.currency_exponent,
        )
        with self.database.read() as connection:
            self.database.add_up(connection)
            rows = connection.execute(
                select(
                    *key,
                    payouts.c.fee_currency,
                    func.count().label("number"),
                    func.sum(payouts.c.amount_minor).label("minor"),
                    func.sum(payouts.c.fee_minor).label("fee_minor"),
                    func.min(payouts.c.sent_at).label("sent_at"),
                    func.count(payouts.c.sent_at).label("sent"),
                    func.min(payouts.c.due_at).label("due_at"),
                )
                .where(payouts.c.batch_id == batch_id)
                .group_by(*key, payouts.c.fee_currency)
                .order_by(*key)
            ).all()
            if not rows:
                return []
            # All rows of a batch were stored at once, when it was made.
            made = connection.execute(select(batches.c.made_at).where(batches.c.id == batch_id))
            made_at: datetime = made.scalar_one()
            return [
                Tally(
                    state=State(row.state),
                    account=row.account,
                    count=row.number,
                    amount=Money(int(row.minor), Currency(row.currency, row.currency_exponent)),
                    fees={row.fee_currency: int(row.fee_minor)}
                    if row.fee_currency and row.state in MOVED
                    else {},
                    since=row.sent_at if row.sent == row.number else made_at,
                    due_at=row.due_at,
                )
                for row in rows
            ]

    def counts(self, batch_id: str) -> Mapping[State, int]:
        """How many payouts of a batch are in each state."""
        counted: Counter[State] = Counter()
        for counts in self.counts_by_account(batch_id).values():
            counted.update(counts)
        return counted

    def counts_by_account(self, batch_id: str) -> Mapping[str, Mapping[State, int]]:
        """How many payouts of a batch are in each state, account by account."""
        key = (payouts.c.account, payouts.c.state)
        which = payouts.c.batch_id == batch_id
        counted: dict[str, dict[State, int]] = defaultdict(dict)
        with self.database.read() as connection:
            rows = connection.execute(select(*key, func.count()).where(which).group_by(*key))
            for account, state, number in rows:
                counted[account][State(state)] = number
        return counted

    def each(
        self, batch_id: str, *states: State, columns: Sequence[Any] = (payouts,)
    ) -> Iterator[Row[Any]]:
        """The payouts of a batch in input order, all or those in some states.

        Args:
            columns: those wanted, the row's number among them; by default all.
        """
        which = payouts.c.batch_id == batch_id
        if states:
            which = and_(which, payouts.c.state.in_(states))
        with self.database.read() as connection:
            for page in paged(connection, which, columns):
                yield from page

    def reasons(self, batch_id: str, limit: int = 20) -> Sequence[tuple[str, int]]:
        """Why payouts of a batch failed, and how many for each, the most frequent first."""
        words = (payouts.c.failure_code, payouts.c.failure_reason)
        with self.database.read() as connection:
            self.database.add_up(connection)
            # The two have no reason in common, so that the first of both are among the first of
            # each.
            rows = [
                row
                for told in (TOLD_BRIEFLY, TOLD_AT_LENGTH)
                for row in connection.execute(
                    select(*words, func.count().label("number"))
                    .where(payouts.c.batch_id == batch_id, told)
                    .group_by(*words)
                    .order_by(func.count().desc(), *words)
                    .limit(limit)
                )
            ]
        rows.sort(key=lambda row: (-row.number, row.failure_code or "", row.failure_reason or ""))
        return [
            (row.failure_reason or row.failure_code or "no reason given", row.number)
            for row in rows[:limit]
        ]

    def held(self, batch_id: str, limit: int = 20) -> Sequence[tuple[str, str]]:
        """The first payouts of a batch that need a person: reference id, and why."""
        other = payout_events.alias()
        last = (
            select(func.max(other.c.id))
            .where(other.c.payout_id == payouts.c.id, other.c.to_state == State.HELD)
            .scalar_subquery()
        )
        with self.database.read() as connection:
            rows = connection.execute(
                select(payouts.c.reference_id, payout_events.c.cause)
                .select_from(payouts)
                .outerjoin(payout_events, payout_events.c.id == last)
                .where(payouts.c.batch_id == batch_id, HELD)
                .order_by(payouts.c.row)
                .limit(limit)
            )
            return [(row.reference_id, row.cause or "held") for row in rows]

    def proposals(self, batch_id: str, limit: int = 20) -> Sequence[tuple[str, str, Proposal]]:
        """What is proposed for held payouts of a batch: reference id, account, proposal."""
        events = payout_events.alias()
        # A proposal counts for as long as the payout stays held, and no longer.
        held_event = (
            select(func.max(events.c.id))
            .where(
                events.c.payout_id == payouts.c.id,
                events.c.to_state == State.HELD,
                events.c.from_state != State.HELD,
            )
            .scalar_subquery()
        )
        with self.database.read() as connection:
            # Few at any time, and each finds its payout.
            self.database.find_by_key(connection)
            self.database.add_up(connection)
            rows = connection.execute(
                select(payouts.c.reference_id, payouts.c.account, proposals)
                .select_from(proposals.join(payouts, payouts.c.id == proposals.c.payout_id))
                .where(
                    payouts.c.batch_id == batch_id,
                    HELD,
                    proposals.c.held_event == func.coalesce(held_event, 0),
                )
                .order_by(payouts.c.row + 0)
                .limit(limit)
            )
            return [
                (
                    row.reference_id,
                    row.account,
                    Proposal(State(row.target), row.at, row.actor, row.reason),
                )
                for row in rows
            ]

    def warnings(self, batch_id: str, limit: int = 20) -> Sequence[tuple[str, str]]:
        """The first payouts of a batch with something a person should see: reference id, what."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(payouts.c.reference_id, payouts.c.warning)
                .where(payouts.c.batch_id == batch_id, payouts.c.warning.is_not(None))
                .order_by(payouts.c.row)
                .limit(limit)
            )
            return [(row.reference_id, row.warning) for row in rows]

    def held_payouts(self, reference_id: str) -> Mapping[str, int]:
        """The held payouts of that reference id: account to payout id."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(payouts.c.account, payouts.c.id).where(
                    payouts.c.reference_id == reference_id, payouts.c.state == State.HELD
                )
            )
            return {row.account: row.id for row in rows}

    def begun(self, batch_id: str, now: datetime) -> tuple[int, datetime | None]:
        """How many payouts of a batch some worker has now, and until when at most it has them."""
        had = (payouts.c.batch_id == batch_id, payouts.c.claimed_until > now)
        with self.database.read() as connection:
            count, until = connection.execute(
                select(func.count(), func.max(payouts.c.claimed_until)).where(*had)
            ).one()
        return count, until

    def next_due(self, batch_id: str, tallies: Sequence[Tally] | None = None) -> datetime | None:
        """When the next open payout of a batch is due; None: none, or all are of accounts that are
        paused.

        Args:
            tallies: those of the batch, where they are known already.
        """
        with self.database.read() as connection:
            kinds = connection.execute(select(accounts.c.name, accounts.c.paused_kind))
            paused = {row.name: row.paused_kind for row in kinds if row.paused_kind is not None}
        found = self.tallies(batch_id) if tallies is None else tallies
        due = [
            tally.due_at
            for tally in found
            if tally.due_at is not None
            and tally.state not in FINAL
            and (
                tally.account not in paused
                or (paused[tally.account] in SENDING_ONLY and tally.state != State.QUEUED)
            )
        ]
        return min(due, default=None)


def open_ages(tallies: Sequence[Tally]) -> Mapping[State, datetime]:
    """Since when the longest open payout of each open state is open."""
    since: dict[State, datetime] = {}
    for tally in tallies:
        if tally.state in OPEN | {State.HELD}:
            since[tally.state] = min(tally.since, since.get(tally.state, tally.since))
    return since


def paged(
    connection: Connection, which: ColumnElement[bool], columns: Sequence[Any] = (payouts,)
) -> Iterator[Sequence[Row[Any]]]:
    """Payouts in input order, a page at a time.

    Args:
        columns: those wanted, the row's number among them.
    """
    last = 0
    while True:
        rows = connection.execute(
            select(*columns)
            .where(which, payouts.c.row > last)
            .order_by(payouts.c.row)
            .limit(PAGE_ROWS)
        ).all()
        if rows:
            yield rows
        if len(rows) < PAGE_ROWS:
            return
        last = rows[-1].row


def is_completed(counts: Mapping[State, int]) -> bool:
    """Whether every payout of a batch is settled, or waits for a person."""
    return not any(counts.get(state) for state in OPEN | {State.DRAFT})
