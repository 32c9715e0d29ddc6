"""What the record knows of a file's rows: reference ids that were used, payouts that they replace.

A row that is settled, open, unknown or held must not come back under any name. Each such row is a
fault that says what became of the payout, and what to do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from batches.checks import CheckedRow, CleanRows
from batches.faults import Fault, FaultKind
from batches.repeats import fault_of
from workers.record.batches import BatchBook
from workers.record.status import State

# What became of a payout, by its state, and what to do with a row that has its reference id.
_OPEN = "is still open in batch {batch} and may yet be paid; leave the row out"
_BECAME: Mapping[State, str] = {
    State.DRAFT: "waits for approval in batch {batch}; leave the row out, or reject that batch",
    State.QUEUED: _OPEN,
    State.CREATING: _OPEN,
    State.CREATED: _OPEN,
    State.PROCESSING: _OPEN,
    State.UNKNOWN: "may have been sent and is being looked up (batch {batch}); leave the row out",
    State.HELD: "is held in batch {batch} until a person decides (paybatch resolve); leave the row"
    " out",
    State.PAID: "is paid already, in batch {batch}; leave the row out",
    State.RETURNED: "was paid in batch {batch} and the money came back; to pay it again, give the"
    " row a reference id of its own and leave replaces empty",
    State.CANCELLED: "was cancelled in batch {batch}; to pay it, give the row a reference id of its"
    " own and leave replaces empty",
    State.FAILED: "failed in batch {batch}; give the row a new reference id and name this one in"
    " the column replaces, as `paybatch results {batch} --failed` does",
}


class History:
    """Compares the rows of one file with what is stored, chunk by chunk."""

    def __init__(self, book: BatchBook) -> None:
        self._book = book
        # The first line that replaces a payout, over the whole file.
        self._replacing: dict[tuple[str, str], int] = {}
        # The batches whose failed payouts the file pays again.
        self.parents: set[str] = set()

    def among(self, rows: Sequence[CheckedRow]) -> list[Fault]:
        """Reference ids that a stored payout has, and rows that replace what they may not."""
        if isinstance(rows, CleanRows):
            # None of them replaces a payout.
            known = self._book.known(rows.account, rows.references)
            if not known:
                return []
        faults: list[Fault] = []
        for account, some in _by_account(rows).items():
            again = sorted({row.order.replaces for row in some if row.order.replaces})
            known = self._book.known(account, [row.order.reference_id for row in some])
            old = self._book.known(account, again)
            replaced = self._book.replaced(account, [*again, *known])
            for row in some:
                reference_id = row.order.reference_id
                if reference_id in known:
                    found = _fate(known[reference_id], replaced.get(reference_id))
                    expected = f"a reference id that was never used; the payout of this one {found}"
                    faults.append(fault_of(row, "reference_id", FaultKind.REFERENCE_USED, expected))
                if row.order.replaces:
                    faults += self._not_replaceable(account, row, old, replaced)
        return faults

    def outside(self, rows: Sequence[CheckedRow], batch_id: str) -> list[CheckedRow]:
        """The rows that a stored batch of the same file does not have: they were left out."""
        found: list[CheckedRow] = []
        for account, some in _by_account(rows).items():
            known = self._book.known(account, [row.order.reference_id for row in some])
            inside = {each for each, payout in known.items() if payout.batch_id == batch_id}
            found += [row for row in some if row.order.reference_id not in inside]
        return sorted(found, key=lambda row: row.line)

    def _not_replaceable(
        self,
        account: str,
        row: CheckedRow,
        known: Mapping[str, Row[Any]],
        replaced: Mapping[str, Row[Any]],
    ) -> Iterator[Fault]:
        replaces = row.order.replaces
        payout = known.get(replaces)
        if payout is None:
            why = f"account {account} has no payout of that reference id"
        elif payout.state != State.FAILED or replaces in replaced:
            why = f"this payout {_fate(payout, replaced.get(replaces))}"
        else:
            self.parents.add(payout.batch_id)
            first = self._replacing.setdefault((account, replaces), row.line)
            if first == row.line:
                return
            why = f"line {first} replaces this one; leave the row out"
        expected = f"the reference id of a payout that failed and is not replaced yet; {why}"
        yield fault_of(row, "replaces", FaultKind.NOT_REPLACEABLE, expected)


def left_out(row: CheckedRow, batch_id: str) -> Fault:
    """A row that would be stored now, whose file is stored without it."""
    expected = (
        f"a row that batch {batch_id} has; it was left out when the file was stored, and has no"
        " fault now: submit it in a file of its own"
    )
    return fault_of(row, "reference_id", FaultKind.LEFT_OUT, expected)


def _fate(payout: Row[Any], replacement: Row[Any] | None) -> str:
    """What became of a payout, and what to do with a row that names it."""
    if payout.state != State.FAILED or replacement is None:
        return _BECAME[State(payout.state)].format(batch=payout.batch_id)
    found = f"failed and is replaced by {replacement.reference_id} of batch {replacement.batch_id}"
    if replacement.state == State.FAILED:
        return f"{found}, which failed too; replace that one"
    return f"{found}; leave the row out"


def _by_account(rows: Sequence[CheckedRow]) -> Mapping[str, list[CheckedRow]]:
    some: dict[str, list[CheckedRow]] = defaultdict(list)
    for row in rows:
        some[row.order.account].append(row)
    return some
