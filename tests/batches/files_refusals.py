"""The refusals of docs/files.md that are about a whole file, a command or a batch: what makes each.

Keys are the page's own words for when something is said; values make it so, and give what is said.
"""

from __future__ import annotations

import codecs
import io
import os
import zipfile
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from batches import approval
from batches.checks import RowChecker
from batches.command import chosen_account, read_options
from batches.controls import Controls
from batches.faultbook import FaultBook
from batches.loading import open_sheet
from batches.preflight import Options, Preflight
from batches.rules import AccountRules
from tests.batches.cli_world import provided, usd_row
from tests.batches.files_page import EUR, LIMITS, account
from tests.worlds import CHECKER, MAKER, settings
from workers.errors import PaybatchError
from workers.providers.port import FieldRule, Service
from workers.record.money import Currency, Money
from workers.runtime import Runtime
from workers.settings import Settings

HEADER = "reference_id,amount,currency"
ROW = "SAL-1,10.00,EUR"
SMALL = replace(LIMITS, rows_max=3, bytes_max=2_000, columns_max=4)

Scenario = Callable[[Path], str]


def refused(path: Path, limits: Any = LIMITS, **mapping: str) -> str:
    """What is said of a file that is refused."""
    try:
        for _ in open_sheet(path, limits, mapping).chunks():
            pass
    except PaybatchError as error:
        return str(error)
    return "taken"


def csv(*lines: str, limits: Any = LIMITS, **mapping: str) -> Scenario:
    return data("\n".join([*lines, ""]).encode(), limits=limits, **mapping)


def data(content: bytes, name: str = "pay.csv", limits: Any = LIMITS, **mapping: str) -> Scenario:
    def made(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return refused(folder / name, limits, **mapping)

    return made


def path(make: Callable[[Path], object], name: str = "pay.csv") -> Scenario:
    def made(folder: Path) -> str:
        make(folder / name)
        return refused(folder / name)

    return made


def parquet(limits: Any = LIMITS, **columns: Any) -> Scenario:
    usual: dict[str, Any] = {"reference_id": ["SAL-1"], "amount": ["1"], "currency": ["EUR"]}
    buffer = io.BytesIO()
    pq.write_table(pa.table({**usual, **columns}), buffer)
    return data(buffer.getvalue(), "pay.parquet", limits)


def long_parquet() -> Scenario:
    texts = pa.array([f"{n:02000}" for n in range(30)])
    columns = dict.fromkeys(("reference_id", "amount", "currency"), texts)
    buffer = io.BytesIO()
    pq.write_table(
        pa.table(columns), buffer, compression="zstd", use_dictionary=False, write_statistics=False
    )
    return data(buffer.getvalue(), "pay.parquet", replace(LIMITS, bytes_max=10_000))


def xlsx(*rows: list[Any], limits: Any = LIMITS, part: bytes = b"") -> Scenario:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    if part:
        with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("xl/media/a", part)
    return data(buffer.getvalue(), "pay.xlsx", limits)


def asked(text: str = "", **given: Any) -> Scenario:
    """What a command line is told, with the mappings `payroll` and `bonus` in the settings."""
    usual: dict[str, Any] = {
        "account": "main",
        "valid_rows_only": False,
        "allow_repeats": False,
        "mapping": (),
        "expect_count": None,
        "expect_total": (),
    }
    known = Settings(
        mappings={"payroll": {"Staff No": "reference_id"}, "bonus": {"Staff No": "description"}}
    )

    def made(folder: Path) -> str:
        try:
            read_options(known, {**usual, **given})
        except PaybatchError as error:
            return str(error)
        return "taken"

    return made


def totals(count: int | None = None, **stated: str) -> Callable[[Path], Controls]:
    """The control totals of a file of two rows in EUR, one of them unreadable, and one in JPY."""

    def made(folder: Path) -> Controls:
        file = folder / "pay.csv"
        file.write_text(f"{HEADER},service,fields.iban\n" + "".join(
            f"SAL-{n},{amount},bank_{amount[-3:].lower()},DE89370400440532013000\n"
            for n, amount in enumerate(("10.00,EUR", "1e3,EUR", "700,JPY"))
        ))  # fmt: skip
        found = Controls(count, [Money.parse(t, Currency.of(c)) for c, t in stated.items()])
        checker = RowChecker({"main": account()}, usual_account="main")
        for chunk in open_sheet(file, LIMITS).chunks():
            found.add(chunk, checker.check(chunk)[0])
        return found

    return made


def contradiction(count: int | None = None, **stated: str) -> Scenario:
    return lambda folder: totals(count, **stated)(folder).contradictions()[0]


def warned(**changes: Any) -> Scenario:
    """The warning that an account of one service, with something that cannot be checked, gives."""

    def made(folder: Path) -> str:
        usual = account()
        capabilities = replace(usual.capabilities, services=changes.get("code") is not None)
        listed = (
            [Service(**({"currency": EUR, "beneficiary_currency": EUR} | changes))]
            if changes
            else []
        )
        rules = AccountRules(
            name="main", capabilities=capabilities, service="bank_eur", services=lambda _: listed
        )
        checker = RowChecker({"main": rules}, usual_account="main")
        (folder / "pay.csv").write_text(f"{HEADER}\n{ROW}\n")
        for chunk in open_sheet(folder / "pay.csv", LIMITS).chunks():
            checker.check(chunk)
        return checker.warnings[0]

    return made


def pattern(text: str) -> Scenario:
    return warned(code="bank_eur", fields=(FieldRule(name="iban", required=False, pattern=text),))


@contextmanager
def desk(folder: Path, *flags: str) -> Any:
    """A runtime at a simulator, and a way to check a file of rows there."""
    with provided(folder, *flags) as (world, provider):
        opened = Runtime.open(settings(world.folder, base_url=provider.running.base_url))
        preflight = Preflight(opened, Options(account="main"), opened.clock.now())

        def checked(*rows: dict[str, str], name: str = "pay.csv") -> Any:
            return preflight.examine(world.write(rows, name))

        try:
            yield preflight, checked
        finally:
            opened.close()


def stored_twice(*, approve: bool) -> Scenario:
    def made(folder: Path) -> str:
        with desk(folder) as (preflight, checked):
            batch_id = approval.store(checked(usd_row(1)), preflight, MAKER)
            if approve:
                approval.approve(batch_id, preflight.runtime, CHECKER)
            made_at = preflight.now.strftime("%Y-%m-%d")
            told = said(
                lambda: approval.store(checked(usd_row(1), name="again.csv"), preflight, MAKER)
            )
            return told.replace(batch_id, "Q8GQSVM").replace(made_at, "2026-03-01")

    return made


def said(call: Callable[[], object]) -> str:
    try:
        call()
    except PaybatchError as error:
        return str(error)
    return "nothing"


def used_meanwhile(folder: Path) -> str:
    with desk(folder) as (preflight, checked):
        plan = checked(usd_row(1))
        other = checked(usd_row(1, amount="12.00"), name="other.csv")
        approval.store(other, preflight, MAKER)
        return said(lambda: approval.store(plan, preflight, MAKER))


def paid_meanwhile(folder: Path) -> str:
    with desk(folder) as (preflight, checked):
        same = {"amount": "5.00", "fields.account": "5500998877"}
        plan = checked(usd_row(1, **same))
        other = checked({**usd_row(2, **same), "reference_id": "OLD-1"}, name="other.csv")
        batch_id = approval.store(other, preflight, MAKER)
        told = said(lambda: approval.store(plan, preflight, MAKER))
        return told.replace(batch_id, "Q8GQSVM")


def not_covered(folder: Path) -> str:
    with desk(folder, "--balance", "USD=1.00") as (_, checked):
        return said(checked(usd_row(1)).refuse_uncovered)


def noted(folder: Path) -> str:
    with desk(folder) as (preflight, checked):
        preflight.options = replace(preflight.options, allow_repeats=True)
        same = {"amount": "5.00", "fields.account": "5500998877"}
        plan = checked(usd_row(1, **same), usd_row(2, **same))
        plan = replace(plan, parents=("7KXW2MN", "Q8GQSVM"), rows=4)
        return str(preflight.book.get(approval.store(plan, preflight, MAKER)).note)


def no_account(folder: Path) -> str:
    opened = Runtime.open(settings(folder))
    try:
        now = opened.clock.now()
        return said(lambda: Preflight(opened, Options(account="mian"), now))
    finally:
        opened.close()


def several_accounts(folder: Path) -> str:
    one = settings(folder).accounts["main"]
    both = Settings(accounts={"north": one, "south": one})
    return said(lambda: chosen_account(both, None))


def without_mappings(_: Path) -> str:
    given = {"mapping": ["payroll"], "expect_total": (), "account": "main"}
    return said(
        lambda: read_options(Settings(), {**given, "valid_rows_only": 0, "allow_repeats": 0})
    )


def grouped(folder: Path) -> str:
    path = folder / "pay.csv"
    rows = "".join(f"SAL-{n},1.005,EUR,bank_eur,DE89370400440532013000\n" for n in range(1204))
    path.write_text(f"{HEADER},service,fields.iban\n{rows}")
    checker, book = RowChecker({"main": account()}, usual_account="main"), FaultBook()
    for chunk in open_sheet(path, LIMITS).chunks():
        book.add(checker.check(chunk)[1])
    return str(book.counts[0])


SCENARIOS: Mapping[str, Scenario] = {
    # The file itself
    "a suffix that is not one of the three": data(b"x", "pay.txt"),
    "an older or other spreadsheet": data(b"x", "pay.xls"),
    "a folder": path(Path.mkdir),
    "a pipe or a device": path(os.mkfifo),
    "no such file": path(lambda _: None),
    "no right to read it, or a link in a circle": path(lambda p: p.symlink_to(p.name)),
    "no bytes": path(Path.touch),
    "over `bytes_max`, here 2,000": data(b"x" * 2_001, limits=SMALL),
    "a format other than its suffix says, a file cut short, a password": data(b"x", "pay.xlsx"),
    # Text
    'UTF-16, as Excel\'s "Unicode text" is': data(codecs.BOM_UTF16_LE + b"r\0"),
    "a byte 0: UTF-16 without its mark, or no text": data(b"a\0b"),
    "another encoding": data(f"{HEADER},description\n{ROW},L\u00f6hne\n".encode("cp1252")),
    "megabytes without a newline": data(HEADER.encode() + b"x" * 9_000_000),
    "a cell beyond what can be read": csv(HEADER, f"SAL-1,{'1' * 140_000},EUR"),
    "an opening quote only": csv(HEADER, ROW, '"SAL-2,1,EUR'),
    "text behind a closing quote": csv(HEADER, '"SAL"-1,1,EUR'),
    "the same over several lines": csv(HEADER, '"SAL', '"-1,1,EUR'),
    # The header
    "an empty first line of a CSV": csv("", HEADER, ROW),
    "a first line without any column's name: a payout may be there": csv(ROW),
    "an empty first row of an XLSX": xlsx([], HEADER.split(",")),
    "a column without a name": csv(f"{HEADER},", f"{ROW},"),
    "names that are not ours": csv("Reference ID,amount,currency,Team", f"{ROW},A"),
    "a name twice": csv(f"{HEADER},amount", f"{ROW},1"),
    "a mapping to a column that is there": csv(f"{HEADER},Net", f"{ROW},1", **{"Net": "amount"}),
    "a required column is missing": csv("reference_id,amount", "SAL-1,1"),
    "a value and an object of one name": csv(
        f"{HEADER},customer.name,customer.name.first", f"{ROW},A,B"
    ),
    "over `columns_max`, here 4": csv(f"{HEADER},service,description", f"{ROW},a,b", limits=SMALL),
    # Rows
    "a header and nothing else": csv(HEADER),
    "over `rows_max`, here 3": csv(HEADER, *[ROW] * 4, limits=SMALL),
    "the same in Parquet": parquet(
        SMALL, **dict.fromkeys(("reference_id", "amount", "currency"), ["x"] * 4)
    ),
    "a Parquet that unpacks to more than four times `bytes_max`, here 10,000": long_parquet(),
    "an XLSX that unpacks to more than `bytes_max`, here 20,000": xlsx(
        HEADER.split(","), limits=replace(LIMITS, bytes_max=20_000), part=b"\0" * 50_000
    ),
    "a password, or an .xls by another name": data(b"\xd0\xcf\x11\xe0" + b"\0" * 99, "pay.xlsx"),
    "a Parquet column of another type": parquet(reference_id=[7]),
    "a Parquet amount of another type": parquet(amount=[True]),
    # Mappings
    "a mapping names a column that is not there": csv(
        "Staff No,amount,currency", ROW, **{"staff no": "reference_id"}
    ),
    "a mapping to no column of ours": csv(HEADER, ROW, **{"amount": "Amount"}),
    "a mapping of two columns to one": csv(HEADER, ROW, **{"Net": "amount", "Gross": "amount"}),
    "a mapping of a column that we add": csv(HEADER, ROW, **{"replaces": "description"}),
    "a name that the settings do not have": asked(mapping=("payrol",)),
    "a name, and no mappings in the settings": without_mappings,
    "two mappings of one column": asked(mapping=("payroll", "bonus")),
    # Control totals
    "a total that cannot be read": asked(expect_total=("EUR=1,5",)),
    "two totals of a currency": asked(expect_total=("EUR=1", "EUR=2")),
    "another number of rows": contradiction(4),
    "another sum": contradiction(EUR="11.00"),
    "a currency without a total beside one with": lambda folder: totals(EUR="10.00")(
        folder
    ).warnings()[0],
    # The account
    "an account that the settings do not have": no_account,
    "no account named, and several in the settings": several_accounts,
    "not enough money": not_covered,
    # Storing
    "the same rows as a batch that waits": stored_twice(approve=False),
    "the same rows as a batch that is approved": stored_twice(approve=True),
    "somebody else stored one of its rows a moment ago": used_meanwhile,
    "somebody else stored a payment of the same beneficiary and amount a moment ago": (
        paid_meanwhile
    ),
    "what is recorded with a batch": noted,
    # Many
    "the screen, of 1,204 rows with one fault": grouped,
    # Warnings
    "a provider without a list of services": warned(),
    "limits in another currency": warned(
        code="bank_eur", fields=(), amount_min=Money(100, Currency.of("USD"))
    ),
    "a service that does not tell its fields": warned(code="bank_eur"),
    "a pattern that may take for ever": pattern("(a+)+"),
    "a pattern that is none": pattern("("),
    "a rule that the adapter could not use": warned(
        code="bank_eur", fields=(), warnings=("its rules have a condition",)
    ),
}
