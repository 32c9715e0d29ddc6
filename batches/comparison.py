"""The rows of one file beside the record: what it has of them already, and whom they pay again.

Of a file that is stored, only the rows are looked at that its batch does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from batches.checks import CheckedRow
from batches.faults import Fault
from batches.history import History, left_out
from batches.repeats import Repeats
from workers.record.batches import Batch, BatchBook
from workers.record.fingerprints import Looked
from workers.runtime import Runtime


class Comparison:
    """Compares one file, chunk by chunk."""

    def __init__(
        self,
        runtime: Runtime,
        now: datetime,
        known_as: Batch | None,
        *,
        has_left_out: bool,
        allow_repeats: bool,
    ) -> None:
        """
        Args:
            known_as: the stored batch of the same file.
            has_left_out: whether that may not have all rows of it.
        """
        book = BatchBook(runtime.store)
        self._history = History(book)
        self._repeats = Repeats(book, runtime.store.vault, runtime.settings, now)
        self._known_as = known_as
        self._has_left_out, self._allow_repeats = has_left_out, allow_repeats
        # Rows that pay somebody again.
        self.repeated = 0

    @property
    def parents(self) -> set[str]:
        """The batches whose failed payouts the file pays again."""
        return self._history.parents

    @property
    def looked(self) -> Looked | None:
        """Where repeats were looked for, to be done again when the file is stored; None: they are
        allowed.
        """
        return None if self._allow_repeats else self._repeats.looked

    def new(self, rows: Sequence[CheckedRow]) -> Sequence[CheckedRow]:
        """The rows that the file's batch does not have: all, as long as there is none."""
        if self._known_as is None:
            return rows
        return self._history.outside(rows, self._known_as.id) if self._has_left_out else []

    def faults(
        self, rows: Sequence[CheckedRow], new: Sequence[CheckedRow], found: Sequence[Fault]
    ) -> list[Fault]:
        """All faults of some rows, in the order of their lines.

        Args:
            new: the new ones among them.
            found: what other checks have found.
        """
        told = [*found, *self._history.among(new), *self._again(rows, new)]
        if self._known_as is not None:
            lines = {fault.line for fault in told}
            told += [left_out(row, self._known_as.id) for row in new if row.line not in lines]
        return sorted(told, key=lambda fault: fault.line)

    def _again(self, rows: Sequence[CheckedRow], new: Sequence[CheckedRow]) -> Sequence[Fault]:
        """The new ones that pay somebody again; none, but counted, where that is allowed."""
        if not new:
            return []
        # Of all, for a new one may pay the same as one that is stored.
        again = self._repeats.among(rows)
        if new is not rows:
            lines = {row.line for row in new}
            again = [fault for fault in again if fault.line in lines]
        self.repeated += len(again)
        return [] if self._allow_repeats else again
