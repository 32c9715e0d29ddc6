"""The answer for every line: the results file, and the file of failed lines to correct.

Amounts are plain decimals and times ISO 8601 UTC. Results are masked; the file to correct carries
the input's own cells, so only its owner may read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from batches.faultbook import by_line
from batches.faults import Fault
from batches.loading import Limits, open_sheet
from batches.preflight import Plan
from batches.references import FailedLine, Gone, failed_lines
from batches.reports import write_table
from workers.errors import UsageError
from workers.record import replacements
from workers.record.batches import Batch, BatchBook
from workers.record.model import Order
from workers.record.money import Currency, Money
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
_BATCH, _ROW, _AMOUNT, _CURRENCY, _FEE, _PROCESSED, _ATTEMPTS = map(
    COLUMNS.index, ("batch_id", "row", "amount", "currency", "fee", "processed_amount", "attempts")
)
_TIMES = [COLUMNS.index(name) for name in ("created_at", "sent_at", "settled_at")]
# What they are made from: first what goes into another column, then column by column.
_STORED_AS = {"amount": "amount_minor", "fee": "fee_minor", "processed_amount": "processed_minor"}
_READ = (
    payouts.c.id,
    payouts.c.currency_exponent,
    payouts.c.processed_minor.label("processed"),
    payouts.c.processed_currency,
    payouts.c.fee_minor.label("fee"),
    *(payouts.c[_STORED_AS.get(name, name)] for name in COLUMNS),
)
FAULT_COLUMNS = ("fault_line", "fault_reason", "fault_file")
# So many values of a row are not cells of their own.
_OWN = len(_READ) - len(COLUMNS)
# Progress is told once in so many rows.
PROGRESS_ROWS = 2_000
REASONS = ("failure_code", "failure_reason")


def write_results(
    batch_id: str,
    book: BatchBook,
    out: Path,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write one row per input row, in input order; the number of rows.

    Where a failed line is paid again, by another batch, its newest payout stands in its row.

    Args:
        progress: told the number of rows written so far.

    Raises:
        UsageError: the file cannot be written there.
    """

    def rows() -> Iterator[list[str]]:
        each = book.each(batch_id, columns=_READ)
        newest = replacements.newest(book.database, each, _READ)
        for number, (input_row, row) in enumerate(newest):
            if number % PROGRESS_ROWS == 0:
                progress(number)
            yield _result(input_row, row)

    return write_table(out, COLUMNS, rows())


def write_failed(
    batch: Batch,
    book: BatchBook,
    out: Path,
    reference_id_chars_max: int,
    gone: Gone,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write the failed lines as they were given, ready to be corrected and submitted again.

    The columns are the input's own, so it is read with the mapping that the input was read with.
    Each line has a new reference id, and names the one that it replaces; a line that is replaced
    already is left out. The file is readable by its owner alone.

    Args:
        gone: told of the lines whose data was removed, which are left out.
        progress: told the number of failed lines looked at so far.

    Returns:
        The number of lines.

    Raises:
        UsageError: the data of all was removed, or the file cannot be written there.
    """
    columns = [name for name in batch.columns if name != "replaces"]
    columns.append("replaces")
    header = [*_theirs(columns, batch.mapping), *REASONS]
    accounts = {tally.account: reference_id_chars_max for tally in book.tallies(batch.id)}
    lines = failed_lines(batch, book, accounts, gone.add, progress)
    rows = _to_correct(batch, lines, [*columns, *REASONS], gone)
    return write_table(out, header, rows, private=True)


def write_faulty(
    plan: Plan,
    limits: Limits,
    mark: str,
    out: Path,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write the rows that have faults as they were given, each with what is wrong with it.

    The columns are the input's own, so it is read with the mapping that the input was read with.
    The file is readable by its owner alone. Corrected, it can be submitted as it is.

    Args:
        mark: by which the batch of the other rows is known, when it is stored.
        progress: told the number of the file's rows read so far.

    Returns:
        The number of rows.
    """

    def faulty() -> Iterator[list[str]]:
        found = by_line(plan.faults)
        line, faults = next(found, (0, []))
        done = 0
        for chunk in open_sheet(plan.path, limits, plan.options.mapping).chunks():
            cells = chunk.frame.itertuples(index=False, name=None)
            for at, row in zip(chunk.lines, cells, strict=True):
                if at == line:
                    yield [*row, str(line), "; ".join(map(_reason, faults)), mark]
                    line, faults = next(found, (0, []))
            done += len(chunk.lines)
            progress(done)

    header = [*_theirs(plan.columns, plan.options.mapping), *FAULT_COLUMNS]
    return write_table(out, header, faulty(), private=True)


def _theirs(columns: Sequence[str], mapping: Mapping[str, str]) -> list[str]:
    """The input's own names of our columns."""
    own = {ours: theirs for theirs, ours in mapping.items()}
    return [own.get(name, name) for name in columns]


def _reason(fault: Fault) -> str:
    return f"{fault.column}: expected {fault.expected}".removeprefix(": ")


def _result(input_row: Row[Any], row: Row[Any]) -> list[str]:
    """A line of the results.

    Args:
        input_row: the payout that was made from the input's row.
        row: the newest that pays it.
    """
    # One look at each value: a file of a million rows has 23 million of them.
    values: tuple[Any, ...] = tuple(row)
    _, exponent, processed, processed_in, fee = values[:_OWN]
    cells: list[Any] = ["" if value is None else value for value in values[_OWN:]]
    cells[_BATCH], cells[_ROW] = input_row.batch_id, str(input_row.row)
    cells[_ATTEMPTS] = str(cells[_ATTEMPTS])
    cells[_AMOUNT] = str(Money(cells[_AMOUNT], Currency(cells[_CURRENCY], exponent)))
    cells[_FEE] = _amount(fee, cells[_FEE + 1])
    cells[_PROCESSED] = _amount(processed, processed_in)
    for at in _TIMES:
        if cells[at]:
            cells[at] = _text(cells[at])
    return cells


def _to_correct(
    batch: Batch, lines: Iterable[FailedLine], columns: Sequence[str], gone: Gone
) -> Iterator[list[str]]:
    nothing = True
    for line in lines:
        nothing = False
        cells = dict(cells_of(line.order))
        cells |= {name: _text(getattr(line.row, name)) for name in REASONS}
        cells |= {"reference_id": line.reference_id, "replaces": line.order.reference_id}
        yield [cells.get(name, "") for name in columns]
    if nothing and gone.number:
        raise UsageError(f"batch {batch.id}: {gone}; {batch.file_name} may have them")


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
