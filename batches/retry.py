"""Pay again what failed for good: a new batch of new payouts, approved like any other.

Each has a new reference id and names the payout that it replaces. What was ever alive again, in
any batch, is left out; the record refuses the rest, however many do this at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from sqlalchemy.exc import IntegrityError

from batches.approval import accounts_of, find
from batches.checked import CheckedRow
from batches.references import NAMED_MAX, Gone, failed_lines, groups
from batches.repeats import Repeats
from workers.errors import FileRefused, NothingLeft, UsageError
from workers.record.batches import Batch, BatchBook, NewRow
from workers.record.history import Action, History
from workers.record.model import Actor, ContentHash
from workers.record.money import Money
from workers.record.replacements import RETRIED
from workers.record.status import State
from workers.runtime import Runtime
from workers.words import number_of


def retry(
    batch_id: str,
    runtime: Runtime,
    actor: Actor,
    gone: Gone | None = None,
    progress: Callable[[int], None] = lambda _: None,
    *,
    allow_repeats: bool = False,
) -> Batch:
    """Store new payouts for the final failures of a batch, as a batch that waits for approval.

    Args:
        gone: told of the failed lines whose data was removed, which are left out.
        progress: told the number of failed lines looked at so far, and again while they are stored.
        allow_repeats: pay the same beneficiary the same amount again, which is recorded.

    Raises:
        UsageError: no such batch, or the data of all that failed was removed.
        NothingLeft: nothing in it failed that is not paid again already.
        FileRefused: somebody else had the same lines paid again a moment ago, or they pay somebody
            the same amount as another payout.
    """
    book = BatchBook(runtime.store)
    now = runtime.clock.now()
    repeats = Repeats(book, runtime.store.vault, runtime.settings, now)
    parent = find(batch_id, book)
    accounts_of(parent, book, runtime)
    content, count = ContentHash(), 0
    again: list[str] = []
    gone = Gone() if gone is None else gone
    for rows in groups(_again(parent, book, runtime, gone.add, progress)):
        content.add_all([row.order.canonical() for row in rows])
        count += len(rows)
        checked = [CheckedRow(row.row, row.row, row.order, row.fee) for row in rows]
        again += [f"{row.order.replaces} (as {where})" for row, where in repeats.found(checked)]
    if again and not allow_repeats:
        raise _pays_again(parent, again)
    if not count:
        if gone.number:
            raise UsageError(f"batch {parent.id}: {gone}; nothing was stored")
        raise NothingLeft(_nothing(parent, book))
    content_hash = content.hexdigest()
    new = _again(parent, book, runtime, lambda _: None, progress)
    note = f"{number_of(len(again), 'repeated payment')} allowed by {actor}" if again else None
    try:
        child = book.save(
            _unchanged(new, content_hash, parent),
            file_name=parent.file_name,
            content_hash=content_hash,
            file_hash=f"{RETRIED}{secrets.token_hex(16)}",
            columns=[*(name for name in parent.columns if name != "replaces"), "replaces"],
            count=count,
            actor=actor,
            note=note,
            now=now,
            child_of=parent.id,
            looked=None if allow_repeats else repeats.looked,
        )
    except IntegrityError:
        raise _by_another(parent) from None
    return find(child, book)


def _again(
    parent: Batch,
    book: BatchBook,
    runtime: Runtime,
    gone: Callable[[str], None],
    progress: Callable[[int], None],
) -> Iterator[NewRow]:
    """A new payout for each line of a batch whose newest payout failed."""
    accounts = runtime.accounts
    chars_max = {
        name: account.provider.capabilities.reference_id_chars_max
        for name, account in accounts.items()
    }
    for number, line in enumerate(failed_lines(parent, book, chars_max, gone, progress), 1):
        order = line.order
        yield NewRow(
            row=number,
            order=replace(order, reference_id=line.reference_id, replaces=order.reference_id),
            provider=accounts[order.account].settings.provider,
            fee=Money(line.row.fee_expected_minor, order.amount.currency),
        )


def _unchanged(rows: Iterator[NewRow], content_hash: str, parent: Batch) -> Iterator[NewRow]:
    """The rows as they are stored, refused at the end if they are not those that were counted."""
    content = ContentHash()
    for row in rows:
        content.add(row.order)
        yield row
    if content.hexdigest() != content_hash:
        raise _by_another(parent)


def _pays_again(parent: Batch, again: Sequence[str]) -> FileRefused:
    more = f" and {len(again) - NAMED_MAX:,} more" if len(again) > NAMED_MAX else ""
    return FileRefused(
        f"batch {parent.id}: {number_of(len(again), 'failed line')} would pay the same beneficiary"
        f" and amount as another payout: {', '.join(again[:NAMED_MAX])}{more}; nothing was stored."
        f" If both are meant: paybatch retry {parent.id} --allow-repeats, which is recorded; if"
        f" not, submit a file without these lines: paybatch results {parent.id} --failed -o FILE"
    )


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
        f"batch {parent.id}: all that failed of it ({failed:,}) is paid again already"
        f" ({', '.join(done) or 'by another batch'}); nothing was stored"
    )
