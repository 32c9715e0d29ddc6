"""Batches as the record keeps them: stored whole or not at all, decided by people, read for
answers.

What people decide is stored; whether a batch is running or completed is derived from its payouts.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from workers.errors import AccountFault, ApprovalRefused, FileRefused, StaleState
from workers.record import history, replacements
from workers.record.answers import Answers, paged
from workers.record.canonicals import READ, Canonicals
from workers.record.database import TEXTS
from workers.record.drafts import Drafts, NewRow, NewRows, store_drafts
from workers.record.fingerprints import Again, Looked
from workers.record.history import Action, Deed
from workers.record.keybook import writing
from workers.record.model import Actor, ContentHash
from workers.record.money import Currency, Money
from workers.record.sealing import Seals
from workers.record.status import State
from workers.record.store import Store
from workers.record.tables import REFERENCE_TAKEN, accounts, batches, payouts
from workers.record.vault import Vault

__all__ = ["Batch", "BatchBook", "NewRow", "NewRows"]

# From so many on, a database plans otherwise than before it had them.
MANY_ROWS = 5_000
# Short to type and to say: no vowels, so no words, and nothing that looks like something else.
_ID_LETTERS = "23456789BCDFGHJKMNPQRSTVWXZ"
_ID_LENGTH = 7
# Written into the statement: SQLite uses an index of some rows only where it sees that they are
# all that is asked for.
_NONE: ColumnElement[str] = literal_column("''")
# In the index's order, or the table itself might be walked for the first one.
_FIRST_OF = (
    select(payouts.c.reference_id)
    .where(payouts.c.account == bindparam("account"), REFERENCE_TAKEN)
    .order_by(payouts.c.reference_id)
    .limit(1)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is stored of a file."""

    id: str
    file_name: str
    content_hash: str
    file_hash: str
    # The input's header, in its own order.
    columns: tuple[str, ...]
    rows: int
    # draft, approved, rejected, paused or cancelled: what people decided.
    decision: str
    made_by: str
    made_at: datetime
    decided_by: str | None = None
    decided_at: datetime | None = None
    note: str | None = None
    # The batch whose lines these correct or pay again.
    child_of: str | None = None
    # The input's own names of columns, to ours: {"Employee ID": "reference_id"}.
    mapping: Mapping[str, str] = field(default_factory=dict)
    # When the data of its beneficiaries was removed; None: it is all there.
    purged_at: datetime | None = None


class BatchBook(Answers):
    """The batches table and the payouts' lives before and after the workers."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.database)
        self.store = store

    # --- storing ---

    def save(
        self,
        rows: Iterable[NewRow] | Drafts,
        *,
        file_name: str,
        content_hash: str,
        file_hash: str,
        columns: Sequence[str],
        count: int,
        actor: Actor,
        note: str | None,
        now: datetime,
        child_of: str | None = None,
        mapping: Mapping[str, str] | None = None,
        looked: Looked | None = None,
    ) -> str:
        """Store a batch of drafts, all or nothing.

        Args:
            note: what was overridden; it goes into the history as allowed.
            child_of: the batch whose lines these correct or pay again.
            looked: where its rows were looked for: none may be paid by a batch that was stored
                meanwhile; None: they may be paid again.

        Returns:
            The batch's id.

        Raises:
            sqlalchemy.exc.IntegrityError: the same content, or one of the reference ids, was
                stored meanwhile.
            FileRefused: a line that it pays again is paid by another payout as well, or a batch
                that was stored meanwhile pays somebody the same.
        """
        batch_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
        with self.database.write() as connection:
            self.database.have_time(connection)
            vault = writing(connection, self.store.vault)
            drafts = rows if isinstance(rows, Drafts) else Drafts.of(rows)
            connection.execute(
                insert(batches).values(
                    id=batch_id,
                    file_name=file_name,
                    content_hash=content_hash,
                    file_hash=file_hash,
                    columns=list(columns),
                    mapping=dict(mapping) if mapping else None,
                    rows=count,
                    decision="draft",
                    made_by=actor.name,
                    made_at=now,
                    note=note,
                    child_of=child_of,
                )
            )
            _note_stored(connection, batch_id, Deed(now, Action.STORED, actor, note))
            prints = store_drafts(connection, drafts, vault, batch_id=batch_id, now=now)
            if looked is not None:
                again = prints.again(self.database, connection, batch_id, looked)
                if again is not None:
                    raise _paid_meanwhile(file_name, again)
            if drafts.replacing:
                replacements.check(connection, batch_id)
            if drafts.replacing or child_of is not None:
                for parent in sorted(history.parents(connection, batch_id)):
                    deed = Deed(now, Action.RETRIED, actor, f"as batch {batch_id}")
                    history.write(connection, parent, deed)
        if count >= MANY_ROWS:
            self.database.look_over(payouts)
        return batch_id

    # --- what is known already ---

    def known(self, account: str, reference_ids: Sequence[str]) -> Mapping[str, Row[Any]]:
        """The stored payouts among these reference ids: id to its batch and state."""
        found: dict[str, Row[Any]] = {}
        if not reference_ids:
            return found
        with self.database.read() as connection:
            # The first file of an account need not ask for each of its rows.
            if connection.execute(_FIRST_OF, {"account": account}).first() is None:
                return found
            rows = connection.execute(
                select(
                    payouts.c.reference_id, payouts.c.batch_id, payouts.c.state, payouts.c.attempts
                ).where(
                    payouts.c.account == account,
                    self.database.among(payouts.c.reference_id),
                    # As the index of reference ids says it.
                    REFERENCE_TAKEN,
                ),
                {TEXTS: json.dumps(reference_ids)},
            )
            found |= {row.reference_id: row for row in rows}
        return found

    def replaced(self, account: str, reference_ids: Sequence[str]) -> Mapping[str, Row[Any]]:
        """Those of the reference ids that a payout replaces already, one that failed too included:
        id to that payout's own reference id, batch and state.
        """
        if not reference_ids:
            return {}
        with self.database.read() as connection:
            rows = connection.execute(
                select(
                    payouts.c.replaces,
                    payouts.c.reference_id,
                    payouts.c.batch_id,
                    payouts.c.state,
                ).where(
                    payouts.c.account == account,
                    self.database.among(payouts.c.replaces),
                    # As the index of what replaces others says it.
                    payouts.c.replaces != _NONE,
                    payouts.c.state != State.CANCELLED,
                ),
                {TEXTS: json.dumps(reference_ids)},
            )
            found: dict[str, Row[Any]] = {}
            found |= {row.replaces: row for row in rows}
        return found

    def since(self, since: datetime) -> frozenset[str]:
        """The batches that were stored since then."""
        with self.database.read() as connection:
            asked = select(batches.c.id).where(batches.c.made_at >= since)
            return frozenset(connection.execute(asked).scalars())

    def any_since(self, since: datetime) -> bool:
        """Whether any payout was stored since then, which it was with its batch."""
        asked = select(exists().where(batches.c.made_at >= since))
        with self.database.read() as connection:
            return bool(connection.execute(asked).scalar_one())

    def by_content(self, content_hash: str) -> Batch | None:
        """The batch of the same content, unless that was turned down."""
        return self._live(batches.c.content_hash == content_hash)

    def cancelled_file(self, file_hash: str) -> Batch | None:
        """The latest batch of the same file that was cancelled."""
        latest = (
            select(batches)
            .where(batches.c.file_hash == file_hash, batches.c.decision == "cancelled")
            .order_by(batches.c.made_at.desc())
            .limit(1)
        )
        with self.database.read() as connection:
            row = connection.execute(latest).one_or_none()
        return None if row is None else _batch_of(row)

    def turned_down(self, content_hash: str, file_hash: str = "") -> Batch | None:
        """The latest batch of the same content, or of the same file, that a person turned down."""
        same = or_(batches.c.content_hash == content_hash, batches.c.file_hash == file_hash)
        latest = (
            select(batches)
            .where(same, batches.c.decision.in_(["rejected", "cancelled"]))
            .order_by(batches.c.made_at.desc())
            .limit(1)
        )
        with self.database.read() as connection:
            row = connection.execute(latest).one_or_none()
        return None if row is None else _batch_of(row)

    def by_file(self, file_hash: str) -> Batch | None:
        """The batch of the same file, read with the same options, unless that was turned down."""
        return self._live(batches.c.file_hash == file_hash)

    def by_file_mark(self, mark: str) -> Batch | None:
        """The batch of the file whose hash begins so, unless that was turned down."""
        return self._live(batches.c.file_hash.startswith(mark, autoescape=True))

    def _live(self, condition: ColumnElement[bool]) -> Batch | None:
        return self._one(and_(condition, batches.c.decision.not_in(["rejected", "cancelled"])))

    def get(self, batch_id: str) -> Batch | None:
        """The batch of that id, in upper or lower case."""
        return self._one(batches.c.id == batch_id.upper())

    def _one(self, condition: ColumnElement[bool]) -> Batch | None:
        with self.database.read() as connection:
            row = connection.execute(select(batches).where(condition)).one_or_none()
        return None if row is None else _batch_of(row)

    def latest(self, limit: int) -> Sequence[Batch]:
        """The newest batches first."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(batches).order_by(batches.c.made_at.desc()).limit(limit)
            )
            return [_batch_of(row) for row in rows]

    # --- decisions ---

    def approve(
        self,
        batch: Batch,
        *,
        actor: Actor,
        now: datetime,
        spendable: Mapping[str, Mapping[Currency, Money]],
        approvals_seen: Mapping[str, int],
        progress: Callable[[int], None] = lambda _: None,
        two_people: bool = False,
        patient: bool = True,
    ) -> bool:
        """Approve a batch: seal every row, and queue it, in one transaction.

        Args:
            spendable: for each account with a balance, what it can spend per currency, less what
                was promised before the balance was read.
            approvals_seen: each account's count of approvals when its balance was read.
            progress: told the number of rows sealed so far.
            two_people: whoever made the batch, by its history, may not approve it.
            patient: let any other approval come between, as long as the rows are being sealed;
                False: keep the others, and workers that count their calls, waiting meanwhile.

        Returns:
            False: another approval came between, so the balance must be read again.

        Raises:
            ApprovalRefused: decided already, changed since it was checked, or the checker is a
                maker.
            AccountFault: an account's money does not cover it.
            BatchBusy: somebody else is deciding about it, or approves another one.
        """
        try:
            with self.database.decide(batch.id, "approving", actor.name) as connection:
                self.database.have_time(connection)
                # Before any other lock: whoever changes the installation takes its row first too.
                vault = writing(connection, self.store.vault)
                self._approve(connection, batch.id, actor, now, two_people=two_people)
                # SQLite has one writer anyhow: what came between is known before the sealing.
                count_last = patient and not self.database.is_sqlite
                if not count_last:
                    _count_approval(connection, approvals_seen)
                self._covered(connection, batch.id, spendable)
                self._queue(connection, batch, vault, Deed(now, Action.APPROVED, actor), progress)
                # Last: the rows of a large batch take a while, and the workers need the account's.
                if count_last:
                    _count_approval(connection, approvals_seen)
        except StaleState:
            return False
        if batch.rows >= MANY_ROWS:
            self.database.look_over(payouts, rewritten=True)
        return True

    def _covered(
        self,
        connection: Connection,
        batch_id: str,
        spendable: Mapping[str, Mapping[Currency, Money]],
    ) -> None:
        for (account, currency), needed in _needs(connection, batch_id).items():
            if account not in spendable:
                continue
            left = spendable[account].get(currency, Money(0, currency))
            if left < needed:
                raise AccountFault(
                    f"account {account}: the batch needs {needed.named()} with fees,"
                    f" and {left.named()} can be spent"
                )

    def _queue(
        self,
        connection: Connection,
        batch: Batch,
        vault: Vault,
        deed: Deed,
        progress: Callable[[int], None],
    ) -> None:
        """Seal and queue every row, unless they are not what was checked."""
        self.database.find_by_key(connection)
        queued, content = 0, ContentHash()
        seals = self._seals(batch.id, vault, content)
        approved = self.store.approve_rows(
            connection, batch.id, seals, actor=deed.actor.name, now=deed.at
        )
        for number in approved:
            queued += number
            progress(queued)
        # Counted too: one that was gone, or no draft any more, when it was to be queued.
        if content.hexdigest() != batch.content_hash or queued != batch.rows:
            raise ApprovalRefused(
                f"batch {batch.id} is not what was checked: its rows were changed since;"
                " reject it and submit the file again"
            )

    def _seals(self, batch_id: str, vault: Vault, content: ContentHash) -> Iterator[Seals]:
        """The seals of all rows, whose content is added up.

        Read by a connection of its own, so that they are made while others are stored. What is
        changed between the two has a seal of what was read: no worker sends it.
        """
        canonicals = Canonicals(vault)
        with self.database.read() as connection:
            self.database.wait_for_itself(connection)
            for page in paged(connection, payouts.c.batch_id == batch_id, READ):
                made = canonicals.of(page)
                content.add_all(made)
                yield Seals([row.id for row in page], vault.seals_of(made))

    def _approve(
        self,
        connection: Connection,
        batch_id: str,
        actor: Actor,
        now: datetime,
        *,
        two_people: bool,
    ) -> None:
        """Note the decision, unless it is made already or is not this person's to make."""
        decided = connection.execute(
            update(batches)
            .where(batches.c.id == batch_id, batches.c.decision == "draft")
            .values(decision="approved", decided_by=actor.name, decided_at=now)
        ).rowcount
        if not decided:
            found = connection.execute(
                select(batches.c.decision, batches.c.decided_by).where(batches.c.id == batch_id)
            ).one()
            by = f" by {found.decided_by}" if found.decision in ("approved", "rejected") else ""
            raise ApprovalRefused(
                f"batch {batch_id} is decided already: it is {found.decision}{by}; nothing was"
                " changed"
            )
        if two_people:
            makers = history.makers(connection, batch_id)
            if not makers:
                raise ApprovalRefused(
                    f"batch {batch_id} has lost its history, so nobody knows who made it;"
                    " reject it and submit the file again"
                )
            if actor.name in makers:
                raise ApprovalRefused(
                    f"batch {batch_id} was made by {actor}, or pays again what {actor} made; with"
                    " approvals = 2 somebody else approves it"
                )
        history.write(connection, batch_id, Deed(now, Action.APPROVED, actor))


def _paid_meanwhile(file_name: str, again: Again) -> FileRefused:
    return FileRefused(
        f"{file_name}: row {again.row} pays the same beneficiary and amount as payout"
        f" {again.reference_id} of batch {again.batch_id}, which was stored a moment ago; nothing"
        " was stored: run the command again, it then names every such row"
    )


def _note_stored(connection: Connection, batch_id: str, deed: Deed) -> None:
    """Begin a batch's history.

    Args:
        deed: who stored it; its note is what was overridden.
    """
    history.write(connection, batch_id, replace(deed, note=None))
    if deed.note is not None:
        history.write(connection, batch_id, replace(deed, action=Action.ALLOWED))


def _count_approval(connection: Connection, approvals_seen: Mapping[str, int]) -> None:
    for name, seen in sorted(approvals_seen.items()):
        counted = connection.execute(
            update(accounts)
            .where(accounts.c.name == name, accounts.c.approvals == seen)
            .values(approvals=seen + 1)
        ).rowcount
        if not counted:
            raise StaleState(f"account {name}: another batch was approved meanwhile")


def _needs(connection: Connection, batch_id: str) -> Mapping[tuple[str, Currency], Money]:
    rows = connection.execute(
        select(
            payouts.c.account,
            payouts.c.currency,
            payouts.c.currency_exponent,
            func.sum(payouts.c.amount_minor + payouts.c.fee_expected_minor).label("minor"),
        )
        .where(payouts.c.batch_id == batch_id)
        .group_by(payouts.c.account, payouts.c.currency, payouts.c.currency_exponent)
    )
    needs = {}
    for row in rows:
        currency = Currency(row.currency, row.currency_exponent)
        needs[row.account, currency] = Money(int(row.minor), currency)
    return needs


def _batch_of(row: Row[Any]) -> Batch:
    values = {name: getattr(row, name) for name in Batch.__dataclass_fields__}
    own = {"columns": tuple(row.columns), "mapping": row.mapping or {}}
    return Batch(**{**values, **own})
