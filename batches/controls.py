"""Control totals: what the maker says that a file has, compared with what it has.

They tell whether the file is the one that was meant, whole and once, so they speak of every data
row of it: also of rows with faults, and of rows that are left out. Nothing is guessed: an amount
that cannot be read is not counted, and the answer says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from batches.checks import CheckedRow, CleanRows
from batches.faults import FaultKind
from batches.loading import Chunk
from workers.errors import MoneyError
from workers.record.money import Currency, Money
from workers.words import number_of


class Controls:
    """The control totals of one file, chunk by chunk."""

    def __init__(self, count: int | None, totals: Sequence[Money]) -> None:
        """
        Args:
            count: the number of data rows that was stated; None: none was.
            totals: the sum that was stated for a currency, each currency once.
        """
        self._count = count
        self._totals = totals
        self._rows = 0
        self._unread = 0
        self._found: Counter[Currency] = Counter()

    def add(self, chunk: Chunk, checked: Sequence[CheckedRow]) -> None:
        """The rows of a chunk: those that passed their checks, and the others."""
        self._rows += len(chunk.lines)
        if not self._totals:
            return
        if isinstance(checked, CleanRows):
            self._found[checked.currency] += sum(checked.minors)
            return
        for row in checked:
            self._found[row.order.amount.currency] += row.order.amount.minor
        if len(checked) < len(chunk.lines):
            self._add_faulty(chunk, {row.line for row in checked})

    def _add_faulty(self, chunk: Chunk, good: set[int]) -> None:
        shifted = {f.line for f in chunk.faults if f.kind is FaultKind.RAGGED_ROW}
        amounts, currencies = chunk.cells("amount"), chunk.cells("currency")
        for line, amount, currency in zip(chunk.lines, amounts, currencies, strict=True):
            if line in good:
                continue
            try:
                if line in shifted:
                    raise MoneyError
                money = Money.parse(amount, Currency.of(currency))
            except MoneyError:
                self._unread += 1
            else:
                self._found[money.currency] += money.minor

    def contradictions(self) -> list[str]:
        """The control totals that do not hold, each in a sentence."""
        told = []
        if self._count is not None and self._rows != self._count:
            told.append(
                f"control total: {number_of(self._count, 'row')} stated,"
                f" the file has {self._rows:,}"
            )
        for stated in self._totals:
            found = Money(self._found[stated.currency], stated.currency)
            if found != stated:
                told.append(
                    f"control total: {stated.named()} stated, the file's rows have"
                    f" {found.named()}{self._not_counted()}"
                )
        return told

    def _not_counted(self) -> str:
        if not self._unread:
            return ""
        return f", not counting {number_of(self._unread, 'row')} without an amount that can be read"

    def warnings(self) -> list[str]:
        """Currencies of the file that nothing was stated for, though it was for others."""
        stated = {total.currency for total in self._totals}
        return [
            f"no control total was stated for {currency}, of which the file has"
            f" {Money(self._found[currency], currency).named()}"
            for currency in sorted(self._found.keys() - stated)
        ]
