"""Our payouts against the provider's list: matches, and breaks that a person has to look at.

Nothing is changed by it but when payouts are asked about: one that should move is woken, so that a
worker asks the provider; news against a final state is shown and never applied. What the provider
lists is kept in a file of its own while it is compared, so memory does not grow with it.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Row

from batches.preflight import ask
from workers.errors import UsageError, VaultError
from workers.record.model import Reply
from workers.record.money import Currency, Money
from workers.record.restores import Standing
from workers.record.rows import money_of, payout_of
from workers.record.status import Outcome, State
from workers.record.verdict import differences
from workers.runtime import Account, Runtime

NEEDS_PERSON = 5
# References compared at a time: a database takes some hundred values in one question.
CHUNK = 500
# Payouts missing from the list are asked about one by one, so many at most: a list may be told by
# another time than ours, and one that is broken lacks them all.
ASKED_MAX = 200


class Kind(StrEnum):
    """How the two sides differ."""

    # The provider has it, and this record does not know its reference id.
    NOT_HERE = "not_here"
    # It is known here, not yet sent, and the provider has it already.
    NOT_SENT_HERE = "not_sent_here"
    # It was sent, and the provider does not have it.
    NOT_THERE = "not_there"
    # Amount, currency, id or another fact is not the same.
    DIFFERS = "differs"
    # Both sides are sure, and do not say the same.
    CONTRADICTS = "contradicts"
    # The provider has several payouts under the reference id.
    SEVERAL = "several"


class Break(NamedTuple):
    """A difference, with both sides in words; an empty side has nothing."""

    kind: Kind
    reference_id: str
    here: str
    there: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """What a comparison found."""

    account: str
    since: datetime
    until: datetime
    # How many payouts the provider listed.
    listed: int
    # Equal on both sides; and of these, still open on one of them.
    matches: int
    still_open: int
    # Payouts that the workers ask about now.
    woken: int
    counts: Mapping[Kind, int]
    # None: the record was not put back. Else why its creates are still looked up first; empty:
    # they are not, from now on.
    looked_up: str | None

    @property
    def exit_code(self) -> int:
        return NEEDS_PERSON if self.counts else 0

    def as_json(self) -> dict[str, Any]:
        return {
            "account": self.account,
            "from": self.since.isoformat(),
            "to": self.until.isoformat(),
            "listed": self.listed,
            "matches": self.matches,
            "still_open": self.still_open,
            "woken": self.woken,
            "breaks": {str(kind): number for kind, number in self.counts.items()},
            "looked_up_first": None if self.looked_up is None else bool(self.looked_up),
            "why": self.looked_up or None,
        }


# What the provider may say of a payout that is settled here.
_AGREE: Mapping[State, frozenset[Outcome]] = {
    State.PAID: frozenset({Outcome.PAID}),
    State.RETURNED: frozenset({Outcome.RETURNED, Outcome.REFUSED}),
    State.FAILED: frozenset({Outcome.REFUSED}),
    State.CANCELLED: frozenset({Outcome.REFUSED}),
}
# What it says where a payout that is open here has nothing to move to.
_SAME: Mapping[State, frozenset[Outcome]] = {
    State.CREATED: frozenset({Outcome.CREATED}),
    State.PROCESSING: frozenset({Outcome.PROCESSING}),
}
_AFTER_PAID = frozenset({Outcome.RETURNED, Outcome.REFUSED, Outcome.PARTLY_PAID})
_UNSENT = (State.DRAFT, State.QUEUED)
_TABLES = """
CREATE TABLE theirs (reference_id TEXT, id TEXT, outcome TEXT, status TEXT, minor INTEGER,
                     currency TEXT, exponent INTEGER, differs TEXT);
CREATE INDEX theirs_reference ON theirs (reference_id);
CREATE TABLE breaks (kind TEXT, reference_id TEXT, here TEXT, there TEXT);
"""


class Comparison:
    """One comparison, and its breaks for as long as it is open."""

    def __init__(self, account: Account, runtime: Runtime) -> None:
        """
        Raises:
            UsageError: the provider lists no payouts.
        """
        if not account.provider.capabilities.list_payouts:
            raise UsageError(
                f"account {account.name}: {account.settings.provider} has no list of payouts, so"
                " nothing can be compared; compare by hand with what its own screens show"
            )
        self._account = account
        self._runtime = runtime
        # A file that nobody else sees, and that is gone when it is closed.
        self._scratch = sqlite3.connect("")
        self._scratch.executescript(_TABLES)
        self._counts: Counter[Kind] = Counter()
        self._matches = self._still_open = self._woken = self._unknown = self._asked = 0

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.close()

    def run(self, since: datetime, until: datetime) -> Reconciliation:
        """Compare what was created from `since` on and before `until`.

        Raises:
            AccountFault, ProviderUnreachable: the list was not told to its end; nothing is noted.
        """
        runtime, name = self._runtime, self._account.name
        standing = runtime.restores.standing(name)
        began = runtime.clock.now()
        listed = ask(self._account, partial(self._list, since, until))
        for theirs in self._groups():
            ours = runtime.restores.known(name, [reference for reference, _ in theirs])
            self._compare(theirs, ours, began)
        for rows in runtime.restores.there(name, since, min(until, began)):
            self._look_for(rows)
        why = self._why_looked_up(standing, since, min(until, began))
        done = runtime.restores.reconciled(standing, began, all_known=why == "")
        if why == "" and not done:
            why = "the record was put back once more meanwhile"
        return Reconciliation(
            account=name,
            since=since,
            until=until,
            listed=listed,
            matches=self._matches,
            still_open=self._still_open,
            woken=self._woken,
            counts={kind: self._counts[kind] for kind in Kind if self._counts[kind]},
            looked_up=why,
        )

    def breaks(self, limit: int = -1) -> Iterator[Break]:
        """The breaks kind by kind; all of them, or the first so many of each."""
        for kind in Kind:
            with closing(self._scratch.cursor()) as cursor:
                cursor.execute(
                    "SELECT * FROM breaks WHERE kind = ? ORDER BY reference_id LIMIT ?",
                    (kind, limit),
                )
                for _, reference_id, here, there in cursor:
                    yield Break(kind, reference_id, here, there)

    def _list(self, since: datetime, until: datetime) -> int:
        """Keep the provider's list; how many there are. It may be asked for again from its
        beginning."""
        self._scratch.execute("DELETE FROM theirs")
        found = self._account.provider.list_payouts(since, until)
        self._scratch.executemany(
            "INSERT INTO theirs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(_flat, found)
        )
        [[count]] = self._scratch.execute("SELECT count(*) FROM theirs")
        return int(count)

    def _groups(self) -> Iterator[Sequence[tuple[str, Sequence[Reply]]]]:
        """The listed payouts by reference id, some hundred ids at a time."""
        with closing(self._scratch.cursor()) as cursor:
            rows = cursor.execute("SELECT * FROM theirs ORDER BY reference_id, id")
            chunk: list[tuple[str, Sequence[Reply]]] = []
            for reference_id, group in groupby(rows, key=lambda row: row[0]):
                chunk.append((reference_id, [_reply(row) for row in group]))
                if len(chunk) == CHUNK:
                    yield chunk
                    chunk = []
            if chunk:
                yield chunk

    def _compare(
        self,
        theirs: Sequence[tuple[str, Sequence[Reply]]],
        ours: Mapping[str, Row[Any]],
        began: datetime,
    ) -> None:
        waking = []
        for reference_id, replies in theirs:
            row = ours.get(reference_id)
            if row is None or row.state in _UNSENT:
                self._unknown += 1
            if reference_id == "" or row is None:
                for reply in replies:
                    self._break(Kind.NOT_HERE, reference_id, "", _there(reply))
                continue
            if len({reply.provider_payout_id for reply in replies}) > 1:
                there = " / ".join(_there(reply) for reply in replies)
                self._break(Kind.SEVERAL, reference_id, _here(row), there)
                continue
            if self._judge(row, replies[0], began):
                waking.append(row.id)
        if waking:
            self._woken += self._runtime.due.wake(waking, self._runtime.clock.now())

    def _judge(self, row: Row[Any], reply: Reply, began: datetime) -> bool:
        """Compare one payout; whether it is to be woken."""
        state, outcome = State(row.state), reply.outcome
        differs = differences(payout_of(row), reply)
        kind = None
        if state in _UNSENT:
            kind = Kind.NOT_SENT_HERE
        elif differs is not None:
            kind = Kind.DIFFERS
        elif state in _AGREE and outcome not in _AGREE[state]:
            # What was settled here while the list was being told is no contradiction.
            settled = row.settled_at is None or row.settled_at < began
            kind = Kind.CONTRADICTS if settled else None
        if kind is None:
            self._matches += 1
            self._still_open += state not in _AGREE
        else:
            said = f"{_there(reply)}; {differs}" if differs else _there(reply)
            self._break(kind, row.reference_id, _here(row), said)
        if state is State.PAID:
            return outcome in _AFTER_PAID
        is_open = state not in _AGREE and state not in (*_UNSENT, State.HELD)
        return is_open and outcome not in _SAME.get(state, ())

    def _look_for(self, rows: Sequence[Row[Any]]) -> None:
        """Find those of our payouts that the provider did not list."""
        missing = []
        for row in rows:
            known = self._scratch.execute(
                "SELECT 1 FROM theirs WHERE reference_id = ? LIMIT 1", (row.reference_id,)
            ).fetchone()
            said = self._ask_about(row) if known is None else None
            if said is not None:
                missing.append(row.id)
                self._break(Kind.NOT_THERE, row.reference_id, _here(row), said)
        if missing:
            self._woken += self._runtime.due.wake(missing, self._runtime.clock.now())

    def _ask_about(self, row: Row[Any]) -> str | None:
        """What the provider says of a payout that it did not list; None: it has it after all. By
        its clock it may have been created outside the times that were asked for.
        """
        self._asked += 1
        if self._asked > ASKED_MAX:
            return "not listed"
        provider, known_as = self._account.provider, row.provider_payout_id
        try:
            order = self._runtime.store.order_of(row)
        except VaultError as error:
            return f"not listed; not asked: {error}"
        reply = provider.poll(order, known_as) if known_as else provider.look_up(order)
        if reply.outcome is Outcome.NOT_FOUND:
            return "not listed, and not found when asked"
        if reply.provider_payout_id is None:
            return f"not listed; asked, it said: {reply.reason or reply.code or reply.outcome}"
        now = self._runtime.clock.now()
        if self._judge(row, reply, now):
            self._woken += self._runtime.due.wake([row.id], now)
        return None

    def _break(self, kind: Kind, reference_id: str, here: str, there: str) -> None:
        self._counts[kind] += 1
        self._scratch.execute(
            "INSERT INTO breaks VALUES (?, ?, ?, ?)", (kind, reference_id, here, there)
        )

    def _why_looked_up(self, standing: Standing, since: datetime, until: datetime) -> str | None:
        """Why the account's creates are still looked up first; empty: they need not be."""
        put_back = standing.restored_at
        if put_back is None:
            return None
        if self._unknown:
            return (
                f"{self._unknown:,} that the provider has are not known here, or not as sent;"
                " submit their files again: they are found at the provider and not paid again"
            )
        newest = self._runtime.restores.newest_before(put_back)
        if newest is not None and since > newest:
            return (
                f"the backup was made after {newest:%Y-%m-%d %H:%M:%S} UTC:"
                " compare again with a --from that is no later"
            )
        seen = put_back + timedelta(seconds=self._account.settings.lookup_grace_s)
        if until < seen:
            return (
                "what was sent last may not be listed yet: compare again after"
                f" {seen:%Y-%m-%d %H:%M:%S} UTC, with a --to that is no earlier"
            )
        return ""


def _flat(reply: Reply) -> tuple[Any, ...]:
    amount = reply.amount
    return (
        reply.reference_id or "",
        reply.provider_payout_id,
        reply.outcome,
        reply.status,
        amount.minor if amount else None,
        amount.currency.code if amount else None,
        amount.currency.exponent if amount else None,
        "\n".join(reply.differs),
    )


def _reply(row: Sequence[Any]) -> Reply:
    reference_id, payout_id, outcome, status, minor, currency, exponent, differs = row
    return Reply(
        outcome=Outcome(outcome),
        reference_id=reference_id or None,
        provider_payout_id=payout_id,
        status=status,
        amount=None if minor is None else Money(minor, Currency(currency, exponent)),
        differs=tuple(differs.split("\n")) if differs else (),
    )


def _here(row: Row[Any]) -> str:
    return _side(row.state, money_of(row), row.provider_payout_id)


def _there(reply: Reply) -> str:
    said = f"{reply.outcome} ({reply.status})" if reply.status else str(reply.outcome)
    return _side(said, reply.amount, reply.provider_payout_id)


def _side(state: str, amount: Money | None, payout_id: str | None) -> str:
    return ", ".join(part for part in (state, amount and amount.named(), payout_id) if part)
