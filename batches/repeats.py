"""Rows that pay somebody the same again: within a file, or since a while.

A beneficiary is known by a keyed fingerprint, so no account number is kept to compare with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from batches.checks import CheckedRow
from batches.faults import Fault, FaultKind, mask_cell
from batches.seen import Seen
from workers.record.batches import BatchBook
from workers.record.vault import Vault
from workers.settings import Settings
from workers.words import number_of

_NONE = (None,)


class Repeats:
    """Rows that pay a beneficiary the same amount again, within the file or since a while."""

    def __init__(self, book: BatchBook, vault: Vault, settings: Settings, now: datetime) -> None:
        self._book = book
        self._vault = vault
        self._since = now - settings.duplicate_window
        self._days = settings.duplicate_window_days
        self._seen = Seen()
        self.count = 0

    def among(self, rows: Sequence[CheckedRow]) -> list[Fault]:
        if not self._days:
            return []
        prints, stored = self._looked_up(rows)
        lines = [row.line for row in rows]
        # By its first key alone: the same for every row of the file.
        firsts = dict(self._seen.repeats([prints.get(line, _NONE)[0] for line in lines], lines))
        if not firsts and not stored:
            return []
        faults = []
        for at, row in enumerate(rows):
            known = [stored[each] for each in prints.get(row.line, ()) if each in stored]
            if at in firsts:
                where = f"line {firsts[at]}"
            elif known:
                where = f"payout {known[0]} of the last {number_of(self._days, 'day')}"
            else:
                continue
            expected = (
                f"not the same beneficiary and amount as {where}; if both are meant, repeat the"
                " command with --allow-repeats, which is recorded"
            )
            faults.append(fault_of(row, "amount", FaultKind.REPEATED, expected))
        self.count += len(faults)
        return faults

    def _looked_up(
        self, rows: Sequence[CheckedRow]
    ) -> tuple[Mapping[int, Sequence[str]], Mapping[str, str]]:
        """Each line's fingerprints, one a key, and the stored payouts that have one of them."""
        while True:
            # Without any field there is nothing that tells one beneficiary from another.
            prints = {
                row.line: self._vault.fingerprints(row.payee or row.order.payee())
                for row in rows
                if row.order.fields
            }
            wanted = [each for several in prints.values() for each in several]
            stored = self._book.repeats(wanted, self._since)
            # A rotation that began meanwhile may have given them fingerprints of its new key.
            if not self._vault.refresh():
                return prints, stored


def fault_of(row: CheckedRow, column: str, kind: FaultKind, expected: str) -> Fault:
    """A fault of a row that is otherwise whole."""
    value = {
        "reference_id": row.order.reference_id,
        "replaces": row.order.replaces,
        "amount": str(row.order.amount),
    }[column]
    return Fault(row.line, column, kind, mask_cell(column, value), expected)
