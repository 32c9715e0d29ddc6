"""Files as they really arrive: what makes them, and what becomes of each.

The verdict on a file is `ok`, its faults as `LINE COLUMN kind`, or the sentence of its refusal.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from batches.checks import AccountRules, RowChecker
from batches.loading import Limits, Sheet, open_sheet
from workers.errors import FileUnreadable
from workers.providers.port import Capabilities, FieldRule, Service
from workers.record.money import Currency

LIMITS = Limits(rows_max=50, bytes_max=100_000, cell_chars_max=100, columns_max=10)
H = "reference_id,amount,currency,fields.iban"
ROW = "P-1,10.00,EUR,DE89"
OK = "ok"


def account() -> AccountRules:
    rules = (
        FieldRule(name="iban", required=True, pattern="[A-Z0-9]{4,34}"),
        FieldRule(name="name", required=False),
    )
    capabilities = Capabilities(
        reference_id_chars_max=35,
        reference_id_char=r"[A-Za-z0-9+._-]",
        two_step=True,
        refuses_duplicates=True,
        look_up=True,
        balances=True,
        services=True,
        webhooks=True,
        list_payouts=True,
        absence_conclusive_after_s=600,
        customer_reference=True,
    )

    def services(currency: Currency) -> list[Service]:
        return [
            Service(code="bank", currency=currency, beneficiary_currency=currency, fields=rules)
        ]

    return AccountRules(name="main", capabilities=capabilities, service=None, services=services)


def opened(path: Path, limits: Limits = LIMITS, **mapping: str) -> Sheet:
    return open_sheet(path, limits, mapping)


def verdict(path: Path) -> str:
    """`ok`, the faults, or the sentence of the refusal."""
    checker = RowChecker({"main": account()}, usual_account="main")
    found: list[str] = []
    try:
        for chunk in opened(path).chunks():
            found += [f"{f.line} {f.column} {f.kind}" for f in checker.check(chunk)[1]]
    except FileUnreadable as error:
        told = str(error)
        return told if told.startswith(path.name) and "\n" not in told else repr(error)
    return ", ".join(found) or OK


def agrees(found: str, expected: str) -> bool:
    """Whether the verdict is the expected one; of a sentence, a part is expected."""
    is_list = expected == OK or expected[:1].isdigit()
    return found == expected if is_list else expected in found


def lines(*rows: str, newline: str = "\n") -> str:
    return newline.join((H, *rows)) + newline


def table(**columns: Any) -> bytes:
    """A Parquet file of one good row, but for these columns."""
    usual: dict[str, Any] = {
        "reference_id": ["P-1"],
        "amount": ["1"],
        "currency": ["EUR"],
        "fields.iban": ["DE89"],
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table({**usual, **columns}), buffer)
    return buffer.getvalue()


def workbook(*rows: Sequence[Any], header: str = H) -> bytes:
    """An XLSX file of these rows."""
    book = openpyxl.Workbook()
    for row in (header.split(","), *rows):
        book.active.append(list(row))
    return saved(book)


def saved(book: Any) -> bytes:
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def with_part(name: str, content: bytes) -> bytes:
    """A good XLSX file with one more part."""
    buffer = io.BytesIO(workbook(ROW.split(",")))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def rewritten(*changes: tuple[bytes, bytes], part: str = "xl/worksheets/sheet1.xml") -> bytes:
    """A good XLSX file, one of its parts changed as no spreadsheet would."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(workbook(ROW.split(",")))) as source,
        zipfile.ZipFile(buffer, "w") as archive,
    ):
        for name in source.namelist():
            content = source.read(name)
            for old, new in changes if name == part else ():
                assert old in content
                content = content.replace(old, new, 1)
            archive.writestr(name, content)
    return buffer.getvalue()
