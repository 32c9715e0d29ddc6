"""Pay again what failed for good: a new batch of new payouts, approved like any other.

Each has a new reference id and names the payout that it replaces. What was ever alive again, in
any batch, is left out; the record refuses the rest, however many do this at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy.exc import IntegrityError

from batches.approval import accounts_of, find
from batches.references import References, groups
from workers.errors import FileRefused, UsageError
from workers.record import replacements
from workers.record.batches import Batch, BatchBook, NewRow
from workers.record.history import Action, History
from workers.record.model import Actor, ContentHash
from workers.record.money import Money
from workers.record.status import State
from workers.runtime import Runtime
from workers.words import number_of


def retry(batch_id: str, runtime: Runtime, actor: Actor) -> Batch:
    """Store new payouts for the final failures of a batch, as a batch that waits for approval.

    Raises:
        UsageError: no such batch, or nothing in it failed that is not paid again already.
        FileRefused: somebody else had the same lines paid again a moment ago.
    """
    book = BatchBook(runtime.store)
    parent = find(batch_id, book)
    accounts_of(parent, book, runtime)
    content, count = ContentHash(), 0
    for row in _again(parent, book, runtime):
        content.add(row.order)
        count += 1
    if not count:
        raise UsageError(_nothing(parent, book))
    content_hash = content.hexdigest()
    try:
        child = book.save(
            _unchanged(_again(parent, book, runtime), content_hash, parent),
            file_name=parent.file_name,
            content_hash=content_hash,
            # No file has these bytes, so none is taken for it.
            file_hash=f"retry {secrets.token_hex(16)}",
            columns=[*(name for name in parent.columns if name != "replaces"), "replaces"],
            count=count,
            actor=actor,
            note=None,
            now=runtime.clock.now(),
            child_of=parent.id,
        )
    except IntegrityError:
        raise _by_another(parent) from None
    return find(child, book)


def _again(parent: Batch, book: BatchBook, runtime: Runtime) -> Iterator[NewRow]:
    """A new payout for each line of a batch whose newest payout failed."""
    accounts = runtime.accounts
    chars_max = {
        name: account.provider.capabilities.reference_id_chars_max
        for name, account in accounts.items()
    }
    references = References(book, chars_max)
    failed = book.each(parent.id, State.FAILED)
    newest = (row for _, row in replacements.newest(book.database, failed))
    number = 0
    for rows in groups(row for row in newest if row.state == State.FAILED):
        orders = [book.store.order_of(row) for row in rows]
        for row, order, again in zip(rows, orders, references.again(orders), strict=True):
            number += 1
            yield NewRow(
                row=number,
                order=replace(order, reference_id=again, replaces=order.reference_id),
                provider=accounts[order.account].settings.provider,
                fee=Money(row.fee_expected_minor, order.amount.currency),
            )


def _unchanged(rows: Iterator[NewRow], content_hash: str, parent: Batch) -> Iterator[NewRow]:
    """The rows as they are stored, refused at the end if they are not those that were counted."""
    content = ContentHash()
    for row in rows:
        content.add(row.order)
        yield row
    if content.hexdigest() != content_hash:
        raise _by_another(parent)


def _by_another(parent: Batch) -> FileRefused:
    return FileRefused(
        f"batch {parent.id}: some of its failed lines failed, or were stored again, a moment ago;"
        f" nothing was stored; see paybatch status {parent.id}, and run the command again"
    )


def _nothing(parent: Batch, book: BatchBook) -> str:
    """Why there is nothing to pay again."""
    failed = book.counts(parent.id).get(State.FAILED, 0)
    if not failed:
        return f"batch {parent.id} has no failed payouts, so there is nothing to pay again"
    done = [
        deed.note or ""
        for deed in History(book.database).of(parent.id)
        if deed.action == Action.RETRIED
    ]
    return (
        f"batch {parent.id}: what failed of it ({number_of(failed, 'payout')}) is paid again already"
        f" ({', '.join(done) or 'by another batch'}); nothing was stored"
    )
