"""The answer for every line: the results file, and the file of failed lines to correct.

Amounts are plain decimals and times ISO 8601 UTC. Results are masked; the file to correct carries
the input's own cells, so only its owner may read it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from batches.faultbook import by_line
from batches.faults import Fault
from batches.loading import Limits, open_sheet
from batches.preflight import Plan
from batches.reports import write_table
from workers.errors import UsageError
from workers.record.batches import Batch, BatchBook
from workers.record.model import Order
from workers.record.money import Currency, Money
from workers.record.status import State
from workers.record.tables import payouts

# A promise to whoever reads the file by program: add at the end, never rename.
COLUMNS = (
    "batch_id",
    "row",
    "reference_id",
    "account",
    "provider",
    "service",
    "amount",
    "currency",
    "state",
    "provider_payout_id",
    "provider_status",
    "failure_code",
    "failure_reason",
    "fee",
    "fee_currency",
    "processed_amount",
    "exchange_rate",
    "attempts",
    "created_at",
    "sent_at",
    "settled_at",
    "replaces",
    "beneficiary",
)
_ROW, _AMOUNT, _CURRENCY, _FEE, _PROCESSED, _ATTEMPTS = map(
    COLUMNS.index, ("row", "amount", "currency", "fee", "processed_amount", "attempts")
)
_TIMES = [COLUMNS.index(name) for name in ("created_at", "sent_at", "settled_at")]
# What they are made from: first what goes into another column, then column by column.
_STORED_AS = {"amount": "amount_minor", "fee": "fee_minor", "processed_amount": "processed_minor"}
_READ = (
    payouts.c.currency_exponent,
    payouts.c.processed_minor.label("processed"),
    payouts.c.processed_currency,
    payouts.c.fee_minor.label("fee"),
    *(payouts.c[_STORED_AS.get(name, name)] for name in COLUMNS),
)
FAULT_COLUMNS = ("fault_line", "fault_reason", "fault_file")
# Progress is told once in so many rows.
PROGRESS_ROWS = 2_000
REASONS = ("failure_code", "failure_reason")
PAGE_ROWS = 500
_AGAIN = re.compile(r"(.+)-r([1-9][0-9]*)", re.DOTALL)


def write_results(
    batch_id: str,
    book: BatchBook,
    out: Path,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write one row per input row, in input order; the number of rows.

    Args:
        progress: told the number of rows written so far.

    Raises:
        UsageError: the file cannot be written there.
    """

    def rows() -> Iterator[list[str]]:
        for number, row in enumerate(book.each(batch_id, columns=_READ)):
            if number % PROGRESS_ROWS == 0:
                progress(number)
            yield _result(row)

    return write_table(out, COLUMNS, rows())


def write_failed(batch: Batch, book: BatchBook, out: Path, reference_id_chars_max: int) -> int:
    """Write the failed lines as they were given, ready to be corrected and submitted again.

    The columns are the input's own, so it is read with the mapping that the input was read with.
    Each line has a new reference id, and names the one that it replaces; a line that is replaced
    already is left out. The file is readable by its owner alone.

    Returns:
        The number of lines.

    Raises:
        UsageError: their data was removed, or the file cannot be written there.
    """
    if batch.purged_at is not None:
        raise UsageError(
            f"batch {batch.id} was purged on {batch.purged_at:%Y-%m-%d}: its beneficiaries' data is"
            f" gone, so its failed lines cannot be written; {batch.file_name} has them"
        )
    columns = [name for name in batch.columns if name != "replaces"]
    columns.append("replaces")
    header = [*_theirs(columns, batch.mapping), *REASONS]
    rows = _to_correct(batch, book, [*columns, *REASONS], reference_id_chars_max)
    return write_table(out, header, rows, private=True)


def write_faulty(plan: Plan, limits: Limits, mark: str, out: Path) -> int:
    """Write the rows that have faults as they were given, each with what is wrong with it.

    The columns are the input's own, so it is read with the mapping that the input was read with.
    The file is readable by its owner alone. Corrected, it can be submitted as it is.

    Args:
        mark: by which the batch of the other rows is known, when it is stored.

    Returns:
        The number of rows.
    """

    def faulty() -> Iterator[list[str]]:
        found = by_line(plan.faults)
        line, faults = next(found, (0, []))
        for chunk in open_sheet(plan.path, limits, plan.options.mapping).chunks():
            cells = chunk.frame.itertuples(index=False, name=None)
            for at, row in zip(chunk.lines, cells, strict=True):
                if at == line:
                    yield [*row, str(line), "; ".join(map(_reason, faults)), mark]
                    line, faults = next(found, (0, []))

    header = [*_theirs(plan.columns, plan.options.mapping), *FAULT_COLUMNS]
    return write_table(out, header, faulty(), private=True)


def _theirs(columns: Sequence[str], mapping: Mapping[str, str]) -> list[str]:
    """The input's own names of our columns."""
    own = {ours: theirs for theirs, ours in mapping.items()}
    return [own.get(name, name) for name in columns]


def _reason(fault: Fault) -> str:
    return f"{fault.column}: expected {fault.expected}".removeprefix(": ")


def _result(row: Row[Any]) -> list[str]:
    # One look at each value: a file of a million rows has 23 million of them.
    values: tuple[Any, ...] = tuple(row)
    exponent, processed, processed_in, fee = values[:4]
    cells: list[Any] = ["" if value is None else value for value in values[4:]]
    cells[_ROW] = str(cells[_ROW])
    cells[_ATTEMPTS] = str(cells[_ATTEMPTS])
    cells[_AMOUNT] = str(Money(cells[_AMOUNT], Currency(cells[_CURRENCY], exponent)))
    cells[_FEE] = _amount(fee, cells[_FEE + 1])
    cells[_PROCESSED] = _amount(processed, processed_in)
    for at in _TIMES:
        if cells[at]:
            cells[at] = _text(cells[at])
    return cells


def _to_correct(
    batch: Batch, book: BatchBook, columns: Sequence[str], chars_max: int
) -> Iterator[list[str]]:
    failed = book.each(batch.id, State.FAILED)
    while some := list(islice(failed, PAGE_ROWS)):
        replaced = {
            (account, reference_id)
            for account in {row.account for row in some}
            for reference_id in book.replaced(account, [row.reference_id for row in some])
        }
        for row in some:
            if (row.account, row.reference_id) in replaced:
                continue
            order = book.store.order_of(row)
            cells = dict(cells_of(order))
            cells |= {name: _text(getattr(row, name)) for name in REASONS}
            cells["reference_id"] = _next_reference(order, book, chars_max)
            cells["replaces"] = order.reference_id
            yield [cells.get(name, "") for name in columns]


def _next_reference(order: Order, book: BatchBook, chars_max: int) -> str:
    """A reference id that was never used and shows where it comes from: `SAL-17-r2`."""
    again = _AGAIN.fullmatch(order.reference_id)
    stem, number = (again[1], int(again[2]) + 1) if again else (order.reference_id, 2)
    while True:
        ending = f"-r{number}"
        candidate = stem[: chars_max - len(ending)] + ending
        if not book.known(order.account, [candidate]):
            return candidate
        number += 1


def cells_of(order: Order) -> Mapping[str, str]:
    """The order as the cells of a row: column to text."""
    cells = {
        "reference_id": order.reference_id,
        "amount": str(order.amount),
        "currency": order.amount.currency.code,
        "service": order.service,
        "account": order.account,
        "description": order.description,
        "replaces": order.replaces,
    }
    for name in ("fields", "context", "customer", "metadata"):
        cells |= dict(_flat(name, getattr(order, name)))
    return cells


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, str(value)


def _amount(minor: int | None, currency: str | None) -> str:
    return "" if minor is None or not currency else str(Money(minor, Currency.of(currency)))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value)
