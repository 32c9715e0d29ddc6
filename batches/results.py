"""The answer for every line: the results file, and the file of failed lines to correct.

Amounts are plain decimals and times ISO 8601 UTC. Results are masked; the file to correct carries
the input's own cells, so only its owner may read it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from batches.loading import Limits, open_sheet
from batches.preflight import Plan
from batches.references import References, groups
from batches.reports import write_table
from workers.record import replacements
from workers.record.batches import Batch, BatchBook
from workers.record.model import Order
from workers.record.money import Currency, Money
from workers.record.rows import money_of
from workers.record.status import State

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
FAULT_COLUMNS = ("fault_line", "fault_reason")
REASONS = ("failure_code", "failure_reason")


def write_results(batch_id: str, book: BatchBook, out: Path) -> int:
    """Write one row per input row, in input order; the number of rows.

    Where a failed line is paid again, by another batch, its newest payout stands in its row.

    Raises:
        UsageError: the file cannot be written there.
    """
    return write_table(out, COLUMNS, _results(batch_id, book))


def write_failed(batch: Batch, book: BatchBook, out: Path, reference_id_chars_max: int) -> int:
    """Write the failed lines as they were given, ready to be corrected and submitted again.

    Each has a new reference id, and names the one that it replaces. The file is readable by its
    owner alone.

    Returns:
        The number of lines.
    """
    columns = [name for name in batch.columns if name not in ("replaces", *REASONS)]
    columns += ["replaces", *REASONS]
    rows = _to_correct(batch, book, columns, reference_id_chars_max)
    return write_table(out, columns, rows, private=True)


def write_faulty(plan: Plan, limits: Limits, out: Path) -> int:
    """Write the rows that have faults as they were given, each with what is wrong with it.

    The file is readable by its owner alone. Corrected, it can be submitted as it is.

    Returns:
        The number of rows.
    """
    columns = [name for name in plan.columns if name not in FAULT_COLUMNS]
    reasons: dict[int, list[str]] = defaultdict(list)
    for fault in plan.faults:
        reasons[fault.line].append(f"{fault.column}: expected {fault.expected}".removeprefix(": "))

    def faulty() -> Iterator[list[str]]:
        for chunk in open_sheet(plan.path, limits, plan.options.mapping).chunks():
            cells = chunk.frame[columns].itertuples(index=False, name=None)
            for line, row in zip(chunk.lines, cells, strict=True):
                if line in reasons:
                    yield [*row, str(line), "; ".join(reasons[line])]

    return write_table(out, [*columns, *FAULT_COLUMNS], faulty(), private=True)


def _results(batch_id: str, book: BatchBook) -> Iterator[list[str]]:
    for row, newest in replacements.newest(book.database, book.each(batch_id)):
        yield _result(row, newest)


def _result(input_row: Row[Any], row: Row[Any]) -> list[str]:
    """A line of the results.

    Args:
        input_row: the payout that was made from the input's row.
        row: the newest that pays it.
    """
    shown = {
        "batch_id": input_row.batch_id,
        "row": str(input_row.row),
        "amount": str(money_of(row)),
        "fee": _amount(row.fee_minor, row.fee_currency),
        "processed_amount": _amount(row.processed_minor, row.processed_currency),
    }
    return [shown[name] if name in shown else _text(getattr(row, name)) for name in COLUMNS]


def _to_correct(
    batch: Batch, book: BatchBook, columns: Sequence[str], chars_max: int
) -> Iterator[list[str]]:
    accounts = {tally.account: chars_max for tally in book.tallies(batch.id)}
    references = References(book, accounts)
    failed = book.each(batch.id, State.FAILED)
    newest = (row for _, row in replacements.newest(book.database, failed))
    # One that is paid again already is not to be corrected any more.
    for rows in groups(row for row in newest if row.state == State.FAILED):
        orders = [book.store.order_of(row) for row in rows]
        for row, order, again in zip(rows, orders, references.again(orders), strict=True):
            cells = dict(cells_of(order))
            cells |= {name: _text(getattr(row, name)) for name in REASONS}
            cells |= {"reference_id": again, "replaces": order.reference_id}
            yield [cells.get(name, "") for name in columns]


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
    return "" if minor is None or currency is None else str(Money(minor, Currency.of(currency)))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value)
