"""Rows that pay somebody the same again: within a file, or since a while.

A beneficiary is known by a keyed fingerprint, so no account number is kept to compare with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from batches.checked import CheckedRow, CleanRows, payee_of
from batches.faults import Fault, FaultKind, mask_cell
from workers.record import fingerprints
from workers.record.batches import BatchBook
from workers.record.fingerprints import Looked
from workers.record.vault import Vault
from workers.settings import Settings
from workers.words import number_of


class Repeats:
    """Rows that pay a beneficiary the same amount again, within the file or since a while."""

    def __init__(self, book: BatchBook, vault: Vault, settings: Settings, now: datetime) -> None:
        # With numpy, a tenth of what a command takes to start.
        from batches.seen import Seen  # noqa: PLC0415

        self._book = book
        self._vault = vault
        self._since = now - settings.duplicate_window
        self._days = settings.duplicate_window_days
        self._seen = Seen()
        # Taken before any row is looked for: what is stored later is looked at once more.
        self.looked = Looked(self._since, book.since(self._since)) if self._days else None

    def among(self, rows: Sequence[CheckedRow]) -> list[Fault]:
        """Each row that pays again, as a fault of the file."""
        faults = []
        for row, where in self.found(rows):
            expected = (
                f"not the same beneficiary and amount as {where}; if both are meant, repeat the"
                " command with --allow-repeats, which is recorded"
            )
            faults.append(fault_of(row, "amount", FaultKind.REPEATED, expected))
        return faults

    def found(self, rows: Sequence[CheckedRow]) -> Iterator[tuple[CheckedRow, str]]:
        """Each row that pays again, and what paid the same before."""
        if not self._days:
            return
        if isinstance(rows, CleanRows):
            payees, lines = rows.payees, rows.lines
        else:
            payees, lines = [payee_of(row) for row in rows], [row.line for row in rows]
        firsts = dict(self._seen.repeats([payee or None for payee in payees], lines))
        stored = self._stored(payees)
        if not firsts and not stored:
            return
        for at, row in enumerate(rows):
            known = stored.get(payees[at])
            if at in firsts:
                yield row, f"line {firsts[at]}"
            elif known is not None:
                yield row, f"payout {known} of the last {number_of(self._days, 'day')}"

    def _stored(self, payees: Sequence[bytes]) -> Mapping[bytes, str]:
        """The latest stored payout of each of them that was paid, or may be."""
        payees = [payee for payee in payees if payee]
        while payees and self._book.any_since(self._since):
            prints = self._vault.fingerprints_of(payees)
            wanted = [each for several in prints for each in several]
            stored = fingerprints.repeats(self._book.database, wanted, self._since)
            # A rotation that began meanwhile may have given them fingerprints of its new key.
            if not self._vault.refresh():
                break
        else:
            return {}
        return {
            payee: stored[each]
            for payee, several in zip(payees, prints, strict=True)
            for each in reversed(several)
            if each in stored
        }


def fault_of(row: CheckedRow, column: str, kind: FaultKind, expected: str) -> Fault:
    """A fault of a row that is otherwise whole."""
    value = {
        "reference_id": row.order.reference_id,
        "replaces": row.order.replaces,
        "amount": str(row.order.amount),
    }[column]
    return Fault(row.line, column, kind, mask_cell(column, value), expected)
