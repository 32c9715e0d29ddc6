"""Rows that pay somebody the same again: within a file, or since a while.

A beneficiary is known by a keyed fingerprint, so no account number is kept to compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from batches.checks import CheckedRow
from batches.faults import Fault, FaultKind, mask_cell
from batches.seen import Seen
from workers.record.batches import BatchBook
from workers.record.vault import Vault
from workers.settings import Settings


class Repeats:
    """Rows that pay a beneficiary the same amount again, within the file or since a while."""

    def __init__(self, book: BatchBook, vault: Vault, settings: Settings, now: datetime) -> None:
        self._book = book
        self._vault = vault
        self._since = now - settings.duplicate_window
        self._off = not settings.duplicate_window_days
        self._seen = Seen()
        self.count = 0

    def among(self, rows: Sequence[CheckedRow]) -> list[Fault]:
        if self._off:
            return []
        # Without any field there is nothing that tells one beneficiary from another.
        prints = {row.line: self._vault.fingerprint(row.order) for row in rows if row.order.fields}
        stored = self._book.repeats(list(prints.values()), self._since)
        lines = [row.line for row in rows]
        firsts = dict(self._seen.repeats([prints.get(line) for line in lines], lines))
        if not firsts and not stored:
            return []
        faults = []
        for at, row in enumerate(rows):
            fingerprint = prints.get(row.line, "")
            if at in firsts:
                where = f"line {firsts[at]}"
            elif fingerprint in stored:
                where = f"payout {stored[fingerprint]}"
            else:
                continue
            expected = (
                f"not the same beneficiary and amount as {where};"
                " if both are meant, use --allow-repeats"
            )
            faults.append(fault_of(row, "amount", FaultKind.REPEATED, expected))
        self.count += len(faults)
        return faults


def fault_of(row: CheckedRow, column: str, kind: FaultKind, expected: str) -> Fault:
    """A fault of a row that is otherwise whole."""
    value = {
        "reference_id": row.order.reference_id,
        "replaces": row.order.replaces,
        "amount": str(row.order.amount),
    }[column]
    return Fault(row.line, column, kind, mask_cell(column, value), expected)
