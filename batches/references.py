"""New reference ids for lines that are paid again: never used, and showing where they come from."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from workers.record.batches import BatchBook
from workers.record.model import Order

# Reference ids looked up at a time.
GROUP = 500
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


def groups(rows: Iterable[T]) -> Iterator[Sequence[T]]:
    """Rows as they come, so many at a time."""
    each = iter(rows)
    while group := list(itertools.islice(each, GROUP)):
        yield group


def _stem(reference_id: str) -> tuple[str, int]:
    """Where a reference id comes from, and the number of the next one."""
    again = _AGAIN.fullmatch(reference_id)
    return (again[1], int(again[2]) + 1) if again else (reference_id, 2)
