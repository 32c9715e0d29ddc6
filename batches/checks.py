"""Every fault of every row: what a cell may hold, money, duplicates, the service's own rules.

Knows one row at a time and the references before it. No database and no network of its own: what
an account can pay is asked through `AccountRules`. No message shows what a beneficiary's cell has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from batches.cells import SEPARATOR, words_of
from batches.checked import CheckedRow, CleanRows, objects_of
from batches.faults import Fault, FaultKind, mask_cell
from batches.loading import NESTED, Chunk
from batches.rules import (
    SCIENTIFIC,
    AccountRules,
    Flaw,
    Plan,
    Planner,
    check_amount,
    check_outer,
    fields_fit,
    template_columns,
    why_not_fields,
    why_not_reference,
)
from batches.screening import amounts_of
from workers.providers.port import takes_all
from workers.record.model import Order
from workers.record.money import Money

__all__ = [
    "AccountRules",
    "CheckedRow",
    "CleanRows",
    "Fault",
    "FaultKind",
    "RowChecker",
    "mask_cell",
    "template_columns",
]

DESCRIPTION_CHARS_MAX = 255
# Characters that nobody sees: controls, zero width, soft hyphens, tags, and those that turn the
# direction of writing. Joiners stay: some scripts are not written without them.
_UNSEEN = (
    "\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064"
    "\u2066-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff"
)
_CONTROL = re.compile(f"[{_UNSEEN}]")
# Texts for people may have tabs and several lines.
_CONTROL_IN_TEXT = re.compile(f"(?![\t\r\n])[{_UNSEEN}]")
_TEXT_COLUMNS = ("description", "metadata.", "context.", "customer.")
_SHEET_ERRORS = ("#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!")
# What a column's joined texts must have for one of its cells to have one of these faults; before it
# one character of that, which is found, or not, much sooner.
_MARKS = (
    (" ", SEPARATOR + " "),
    (" ", " " + SEPARATOR),
    ("+", "E+"),
    ("+", "e+"),
    ("#", SEPARATOR + "#"),
)


_NO_CUSTOMER_REFERENCE: Flaw = (
    "customer.reference_id",
    FaultKind.REQUIRED,
    "a value: it is required with other customer columns",
)
_LONG_DESCRIPTION: Flaw = (
    "description",
    FaultKind.DESCRIPTION_TOO_LONG,
    f"at most {DESCRIPTION_CHARS_MAX} characters",
)
_REPLACES_ITSELF: Flaw = (
    "replaces",
    FaultKind.REPLACES_ITSELF,
    "the reference id of the failed payout; the new payout needs one of its own",
)


class RowChecker:
    """Checks the rows of one file, chunk by chunk, in order."""

    def __init__(self, accounts: Mapping[str, AccountRules], *, usual_account: str) -> None:
        # With numpy, a tenth of what a command takes to start.
        from batches.seen import Seen  # noqa: PLC0415

        self._usual_account = usual_account
        self._planner = Planner(accounts, usual_account=usual_account)
        self._references = Seen()

    @property
    def warnings(self) -> list[str]:
        """What could not be checked, each once, in words for a person."""
        return self._planner.warnings

    def check(self, chunk: Chunk) -> tuple[Sequence[CheckedRow], list[Fault]]:
        """The rows without any fault, and every fault of the others, those of loading included, in
        the order of lines.

        Raises:
            AccountFault, ProviderUnreachable: the services of an account could not be asked for.
        """
        columns = chunk.columns
        words = {name: words_of(cells) for name, cells in columns.items()}
        found = _Found(chunk)
        for name in columns:
            _check_characters(name, chunk, found)
        rows: Sequence[CheckedRow] | None = self._clean_rows(chunk, words)
        if rows is None:
            rows = self._check_rows(chunk, found)
        self._check_duplicates(chunk, found)
        if not found.lines:
            return rows, []
        return [row for row in rows if row.line not in found.lines], found.in_order()

    def _clean_rows(
        self, chunk: Chunk, words: Mapping[str, Sequence[str]]
    ) -> Sequence[CheckedRow] | None:
        """The rows of a chunk that has no fault of its rows at all; None: it may have some."""
        same = [set(words.get(name, ("",))) for name in ("account", "currency", "service")]
        if any(len(texts) > 1 for texts in same):
            return None
        plan = self._planner.plan(*(text for [text] in same))
        most = DESCRIPTION_CHARS_MAX
        minors = amounts_of(chunk.columns, words, plan, description_chars_max=most)
        if minors is None or plan.currency is None:
            return None
        rows = CleanRows(chunk, plan, plan.currency, minors)
        if plan.why_not is not takes_all and any(plan.why_not(row.order) for row in rows):
            return None
        return rows

    def _check_rows(self, chunk: Chunk, found: _Found) -> list[CheckedRow]:
        columns = chunk.columns
        blank: Sequence[str] = [""] * len(chunk.lines)
        plain = [
            columns.get(name, blank)
            for name in (
                "reference_id", "amount", "currency", "service", "account", "description",
                "replaces",
            )
        ]  # fmt: skip
        objects = [objects_of(columns, prefix) for prefix in NESTED]
        rows: list[CheckedRow] = []
        plans, plan_of = self._planner.plans, self._planner.plan
        for at, (cells, fields, context, customer, metadata) in enumerate(
            zip(zip(*plain, strict=True), *objects, strict=False)
        ):
            reference, amount_text, currency, service, account, description, replaces = cells
            plan = plans.get((account, currency, service)) or plan_of(account, currency, service)
            flaws = [*plan.flaws] if plan.flaws else []
            amount = check_amount(amount_text, plan, flaws)
            if not reference or not plan.reference or plan.reference(reference) is None:
                why_not_reference(reference, plan, flaws)
            if plan.rules is None or not fields_fit(fields, plan):
                why_not_fields(fields, plan, flaws)
            if plan.outer_rules:
                check_outer(plan, {"customer": customer, "context": context}, flaws)
            if customer and plan.needs_customer_reference and "reference_id" not in customer:
                flaws.append(_NO_CUSTOMER_REFERENCE)
            if len(description) > DESCRIPTION_CHARS_MAX:
                flaws.append(_LONG_DESCRIPTION)
            if replaces and replaces == reference:
                flaws.append(_REPLACES_ITSELF)
            if amount is None or plan.currency is None:
                found.add(at, flaws)
                continue
            order = Order(
                reference_id=reference,
                account=plan.account,
                amount=amount,
                service=plan.code,
                fields=fields,
                context=context,
                customer=customer,
                metadata=metadata,
                description=description,
                replaces=replaces,
            )
            flaws += _refused(plan, order, flaws)
            if flaws:
                found.add(at, flaws)
                continue
            fee = plan.service.fee(amount) if plan.service else Money(0, amount.currency)
            rows.append(CheckedRow(chunk.first_row + at, chunk.lines[at], order, fee))
        return rows

    def _check_duplicates(self, chunk: Chunk, found: _Found) -> None:
        references = chunk.columns["reference_id"]
        accounts = chunk.columns.get("account", ("",))
        usual = self._usual_account
        keys: Sequence[str | tuple[str, str] | None]
        if {"", usual}.issuperset(words_of(accounts)):
            keys = references if "" not in references else [one or None for one in references]
        else:
            keys = [
                None if not one else one if account in ("", usual) else (account, one)
                for account, one in zip(accounts, references, strict=True)
            ]
        for at, first in self._references.repeats(keys, chunk.lines):
            expected = f"a reference id of its own; line {first} has this one already"
            found.add(at, [("reference_id", FaultKind.DUPLICATE_REFERENCE, expected)])


class _Found:
    """The faults of a chunk. A cell that is damaged as a cell is not blamed for its content too."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self._columns = chunk.columns
        self._faults = list(chunk.faults)
        self._ragged = {f.line for f in chunk.faults if f.kind is FaultKind.RAGGED_ROW}
        self._damaged = {(fault.line, fault.column) for fault in chunk.faults}
        self.lines = {fault.line for fault in chunk.faults}

    def add(self, at: int, flaws: Iterable[Flaw]) -> None:
        line = self._chunk.lines[at]
        # The cells of a ragged row are shifted: what they seem to be says nothing.
        if line in self._ragged:
            return
        self.lines.add(line)
        for column, kind, expected in flaws:
            if (line, column) in self._damaged and kind is not FaultKind.DUPLICATE_REFERENCE:
                continue
            cells = self._columns.get(column)
            value = mask_cell(column, cells[at]) if cells else ""
            self._faults.append(Fault(line, column, kind, value, expected))

    def add_damage(self, at: int, flaw: Flaw) -> None:
        self.add(at, [flaw])
        self._damaged.add((self._chunk.lines[at], flaw[0]))

    def in_order(self) -> list[Fault]:
        places = {name: at for at, name in enumerate(self._columns)}
        last = len(places)
        return sorted(self._faults, key=lambda f: (f.line, places.get(f.column, last)))


def _refused(plan: Plan, order: Order, flaws: Sequence[Flaw]) -> list[Flaw]:
    """What the provider would not take, in columns that have no fault so far."""
    try:
        refused = list(plan.why_not(order))
    except Exception:
        # An adapter may lean on a rule that the row breaks: then that fault is what is told.
        if not flaws:
            raise
        return []
    if not refused:
        return []
    faulty = {column for column, _, _ in flaws}
    return [
        (column, FaultKind.NOT_ACCEPTED, why) for column, why in refused if column not in faulty
    ]


# Cells as text


def _check_characters(name: str, chunk: Chunk, found: _Found) -> None:
    text = chunk.together(name)
    if name in chunk.printable and not any(one in text and mark in text for one, mark in _MARKS):
        return
    for at, cell in enumerate(chunk.columns[name]):
        if cell and (flaw := _damage(name, cell)) is not None:
            found.add_damage(at, (name, *flaw))


def _damage(name: str, cell: str) -> tuple[FaultKind, str] | None:
    is_text = name.startswith(_TEXT_COLUMNS)
    if (_CONTROL_IN_TEXT if is_text else _CONTROL).search(cell):
        expected = "no line breaks or invisible characters; type the value again"
        return FaultKind.CONTROL_CHARACTER, expected
    if name in ("amount", "currency", "description") or name.startswith("metadata."):
        return None
    if not is_text and cell != cell.strip():
        return FaultKind.BLANK_AT_EDGE, "no blank before or after the value"
    if SCIENTIFIC.fullmatch(cell):
        expected = "all digits; a spreadsheet has shortened the number: format the column as text"
        return FaultKind.SCIENTIFIC_NOTATION, expected
    if cell in _SHEET_ERRORS:
        return FaultKind.ERROR_CELL, "a value, found a spreadsheet error"
    return None
