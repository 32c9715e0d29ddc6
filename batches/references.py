"""Failed lines that are paid again: what was to be paid, and a new reference id for each, never
used and showing where it comes from.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import Row

from workers.record import replacements
from workers.record.batches import Batch, BatchBook
from workers.record.model import Order
from workers.record.status import State
from workers.words import number_of

# Reference ids looked up at a time.
GROUP = 500
# Reference ids that a sentence names.
NAMED_MAX = 10
_AGAIN = re.compile(r"(.+)-r([1-9][0-9]*)", re.DOTALL)
T = TypeVar("T")


class References:
    """Gives each order of one file or batch a reference id that nobody has: `SAL-17-r2`."""

    def __init__(self, book: BatchBook, chars_max: Mapping[str, int]) -> None:
        """
        Args:
            chars_max: the longest that each account's provider takes.
        """
        self._book = book
        self._chars_max = chars_max
        # Hashes only, for there may be a million; two that share one cost a number, no more.
        self._given: set[int] = set()

    def again(self, orders: Sequence[Order]) -> Sequence[str]:
        """A new reference id for each of these orders."""
        stems = [_stem(order.reference_id) for order in orders]
        found = [""] * len(orders)
        left = list(range(len(orders)))
        for further in itertools.count(0):
            wanted = {each: self._named(orders[each], *stems[each], further) for each in left}
            used = self._used((orders[each].account, name) for each, name in wanted.items())
            for each, name in wanted.items():
                key = hash((orders[each].account, name))
                if (orders[each].account, name) not in used and key not in self._given:
                    self._given.add(key)
                    found[each] = name
            left = [each for each in left if not found[each]]
            if not left:
                break
        return found

    def _named(self, order: Order, stem: str, number: int, further: int) -> str:
        ending = f"-r{number + further}"
        return stem[: self._chars_max[order.account] - len(ending)] + ending

    def _used(self, names: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        by_account: dict[str, list[str]] = defaultdict(list)
        for account, name in names:
            by_account[account].append(name)
        return {
            (account, name)
            for account, some in by_account.items()
            for name in self._book.known(account, some)
        }


@dataclass(frozen=True, slots=True)
class FailedLine:
    """A failed line of a batch, which no payout pays again yet."""

    # Its newest payout, and what that was to pay.
    row: Row[Any]
    order: Order
    # For the payout that is to replace that one.
    reference_id: str


def failed_lines(
    batch: Batch,
    book: BatchBook,
    chars_max: Mapping[str, int],
    gone: Callable[[str], None],
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[FailedLine]:
    """The failed lines of a batch in input order, but for those that are paid again already.

    Args:
        chars_max: the longest reference id that each account's provider takes.
        gone: told the newest reference id of each line whose beneficiary's data was removed; it is
            passed over.
        progress: told the number of failed lines looked at so far.

    Raises:
        VaultError: stored data cannot be opened.
    """
    references = References(book, chars_max)
    failed = _counted(book.each(batch.id, State.FAILED), progress)
    newest = replacements.newest(book.database, failed)
    for rows in groups(row for _, row in newest if row.state == State.FAILED):
        data = replacements.with_data(book.database, rows)
        for row in rows:
            if row.id not in data:
                gone(row.reference_id)
        found = [row for row in rows if row.id in data]
        orders = [_order(row, data[row.id], book) for row in found]
        for row, order, again in zip(found, orders, references.again(orders), strict=True):
            yield FailedLine(row, order, again)


def _order(row: Row[Any], data: Row[Any], book: BatchBook) -> Order:
    order = book.store.order_of(data)
    return replace(order, reference_id=row.reference_id, replaces=row.replaces)


class Gone:
    """Failed lines that cannot be paid again from here, by their newest reference ids."""

    def __init__(self) -> None:
        self.number = 0
        self._first: list[str] = []

    def add(self, reference_id: str) -> None:
        self.number += 1
        if self.number <= NAMED_MAX:
            self._first.append(reference_id)

    def __str__(self) -> str:
        more = f" and {self.number - NAMED_MAX:,} more" if self.number > NAMED_MAX else ""
        return (
            f"the beneficiaries' data of {number_of(self.number, 'failed line')} was removed"
            f" (paybatch purge): {', '.join(self._first)}{more}. To have them paid after all,"
            " submit a file of these lines, each with a new reference id, and with this one in the"
            " column replaces"
        )


def _counted(rows: Iterable[T], progress: Callable[[int], None]) -> Iterator[T]:
    """The rows as they come, and now and then how many there were."""
    for number, row in enumerate(rows):
        if number % GROUP == 0:
            progress(number)
        yield row


def groups(rows: Iterable[T]) -> Iterator[Sequence[T]]:
    """Rows as they come, so many at a time."""
    each = iter(rows)
    while group := list(itertools.islice(each, GROUP)):
        yield group


def _stem(reference_id: str) -> tuple[str, int]:
    """Where a reference id comes from, and the number of the next one."""
    again = _AGAIN.fullmatch(reference_id)
    return (again[1], int(again[2]) + 1) if again else (reference_id, 2)
