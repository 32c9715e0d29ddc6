"""Rows that passed their checks: one by one, or a whole chunk of them as columns.

Most chunks of most files have no fault at all. What a million rows then need is made for a chunk at
a time; an order of a row by itself is made only where somebody asks for that row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import repeat
from types import MappingProxyType
from typing import Any, NamedTuple, overload

from batches.loading import NESTED, Chunk
from batches.rules import Plan
from batches.screening import fees_of, texts_of
from workers.record.drafts import NewRows
from workers.record.model import JsonObject, Order
from workers.record.money import Currency, Money

_NOTHING: JsonObject = MappingProxyType({})


class CheckedRow(NamedTuple):
    """A row without fault: `row` counts data rows from 1, `line` is where it begins in the file."""

    row: int
    line: int
    order: Order
    # The fee to expect, in the order's currency.
    fee: Money


class CleanRows(Sequence[CheckedRow]):
    """All rows of a chunk without any fault, of one account, service and currency."""

    def __init__(self, chunk: Chunk, plan: Plan, currency: Currency, minors: Sequence[int]) -> None:
        self.first_row, self.lines = chunk.first_row, chunk.lines
        self.account, self.service, self.currency = plan.account, plan.code, currency
        self.references = chunk.columns["reference_id"]
        self.minors = minors
        # In minor units.
        self.fees = fees_of(plan.service, minors, currency)
        self._columns = chunk.columns
        self._texts = texts_of(
            chunk, minors, account=plan.account, service=plan.code, currency=currency
        )

    @cached_property
    def canonicals(self) -> Sequence[bytes]:
        """What `Order.canonical` gives for each row."""
        if self._texts is not None:
            return self._texts.canonicals
        return [row.order.canonical() for row in self]

    @cached_property
    def payees(self) -> Sequence[bytes]:
        """What `payee_of` gives for each row."""
        if self._texts is None or self._texts.payees is None:
            return [payee_of(row) for row in self]
        return self._texts.payees if self._texts.alike.fields else [b""] * len(self)

    def new_rows(self, provider: str) -> NewRows | None:
        """The rows ready to be stored; None: they are not alike enough to be so together."""
        texts = self._texts
        if texts is None:
            return None
        return NewRows(
            first_row=self.first_row,
            account=self.account,
            provider=provider,
            service=self.service,
            currency=self.currency,
            references=self.references,
            amounts=self.minors,
            fees=self.fees,
            payees=texts.payees or [row.order.payee() for row in self],
            data=texts.alike,
        )

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, at: int) -> CheckedRow: ...
    @overload
    def __getitem__(self, at: slice) -> list[CheckedRow]: ...
    def __getitem__(self, at: int | slice) -> CheckedRow | list[CheckedRow]:
        return self._rows[at]

    def __iter__(self) -> Iterator[CheckedRow]:
        return iter(self._rows)

    @cached_property
    def _rows(self) -> list[CheckedRow]:
        account, service, currency = self.account, self.service, self.currency
        objects = [objects_of(self._columns, prefix) for prefix in NESTED]
        plain = zip(
            self.lines,
            self.references,
            self._columns.get("description") or repeat(""),
            self.minors,
            self.fees,
            strict=False,
        )
        rows: list[CheckedRow] = []
        for (line, reference, description, minor, fee), fields, context, customer, metadata in zip(
            plain, *objects, strict=False
        ):
            order = Order(
                reference_id=reference,
                account=account,
                amount=Money(minor, currency),
                service=service,
                fields=fields,
                context=context,
                customer=customer,
                metadata=metadata,
                description=description,
            )
            rows.append(CheckedRow(self.first_row + len(rows), line, order, Money(fee, currency)))
        return rows


def payee_of(row: CheckedRow) -> bytes:
    """What the order's `payee` gives. Without any field there is nothing that tells one beneficiary
    from another: then it is empty.
    """
    return row.order.payee() if row.order.fields else b""


def objects_of(columns: Mapping[str, Sequence[str]], prefix: str) -> Iterator[JsonObject]:
    """For each row the object that the columns of that prefix spell; blank cells are absent."""
    keys = [name.removeprefix(prefix) for name in columns if name.startswith(prefix)]
    if not keys:
        return repeat(_NOTHING)
    lists = [columns[prefix + key] for key in keys]
    cells = zip(*lists, strict=True)
    # The names of fields are the provider's own and taken as they are, dots included.
    if prefix != "fields." and any("." in key for key in keys):
        return _nested([key.split(".") for key in keys], cells)
    if not any("" in values for values in lists):
        return map(dict, map(zip, repeat(keys), cells))
    return ({k: v for k, v in zip(keys, row, strict=True) if v} for row in cells)


def _nested(paths: Sequence[list[str]], rows: Iterator[Sequence[str]]) -> Iterator[JsonObject]:
    for row in rows:
        root: dict[str, Any] = {}
        for path, value in zip(paths, row, strict=True):
            if value:
                place = root
                for part in path[:-1]:
                    place = place.setdefault(part, {})
                place[path[-1]] = value
        yield root
