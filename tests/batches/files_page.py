"""The examples of docs/files.md, read from the page and carried out.

The page is the list of examples; what is here turns each of them into a file and says what came of
it. An example of a row changes the row that the page shows; others have a name of their own.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import openpyxl
from sqlalchemy import text

from batches.checks import AccountRules, RowChecker
from batches.faults import Fault
from batches.history import History, left_out
from batches.loading import Limits, open_sheet
from batches.repeats import Repeats
from tests.batches.test_dry_run import shop
from tests.workers.record.conftest import Record, opened
from workers.providers.etpay_config import ETpayConfig, why_not
from workers.providers.port import Capabilities, FieldRule, Service
from workers.record.database import Database
from workers.record.model import Order
from workers.record.money import Currency, Money
from workers.record.status import State
from workers.settings import Settings

PAGE = Path(__file__).parent.parent.parent / "docs" / "files.md"
EUR, JPY = Currency.of("EUR"), Currency.of("JPY")
LIMITS = Limits.of(Settings())
# The row of the page that its examples change.
ROW: Mapping[str, str] = {
    "reference_id": "SAL-1",
    "amount": "10.00",
    "currency": "EUR",
    "service": "bank_eur",
    "fields.iban": "DE89370400440532013000",
}
PAIR = re.compile(r"`([a-z_]+(?:\.\w+)*)`: (?:`([^`]*)`|(empty)|(\d+) characters)")
STORED = re.compile(r"`(reference_id|replaces)` of a payout that is `(\w+)`(, and replaced)?")
CELLS: Mapping[str, Any] = {
    "a number": 7,
    "a formula": "=1+1",
    "a date": datetime.date(2026, 1, 31),
    "true": True,
    "#N/A": "#N/A",
}
IN_XLSX = re.compile(r"`([a-z_.]+)` in XLSX: (" + "|".join(map(re.escape, CELLS)) + ")")


class Example(NamedTuple):
    """A line of one of the page's tables."""

    kind: str
    example: str
    told: str


def tables(heading: str) -> Iterator[list[str]]:
    """The lines of the tables below a heading of the page, as cells without their marks."""
    section = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (found,) = [part for part in section if part.startswith(heading + "\n")]
    for line in found.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and not set(cells[0]) <= {"-"}:
            yield [cell.replace("\\|", "|") for cell in cells]


@cache
def examples() -> list[Example]:
    """Every example of a fault of a row."""
    rows = [cells for cells in tables("Faults of a row") if len(cells) == 3]
    return [Example(kind.strip("`"), example, told) for kind, example, told in rows[1:]]


def services(currency: Currency) -> Sequence[Service]:
    """What the page says of its account's services."""
    if currency not in (EUR, JPY):
        return ()
    iban = FieldRule(
        name="iban", required=True, pattern="[A-Z]{2}[0-9]{2}[A-Z0-9]{1,30}", label="IBAN"
    )
    usual: dict[str, Any] = {"currency": currency, "beneficiary_currency": currency}
    fields = (iban, FieldRule(name="name", required=False, pattern=".+", label="name"))
    if currency == JPY:
        return [Service(code="bank_jpy", fields=fields, **usual)]
    limits = {"amount_min": Money(500, EUR), "amount_max": Money(100_000, EUR)}
    return [
        Service(code="bank_eur", fields=fields, **limits, **usual),
        Service(code="card_eur", fields=(), usable=False, **usual),
        Service(code="whole_eur", fields=fields, decimals=0, **usual),
    ]


def account() -> AccountRules:
    """The account `main` of the page."""
    capabilities = Capabilities(
        reference_id_chars_max=35,
        reference_id_char="[A-Za-z0-9-]",
        two_step=True,
        refuses_duplicates=True,
        look_up=True,
        balances=True,
        services=True,
        webhooks=True,
        list_payouts=True,
        absence_conclusive_after_s=600,
        currencies=("EUR", "JPY", "USD"),
        customer_reference=True,
    )
    return AccountRules(name="main", capabilities=capabilities, service=None, services=services)


def etpay() -> AccountRules:
    """An account at ETpay, for the rules that only an adapter knows."""
    config = ETpayConfig.model_construct(description_chars_max=30, description_forbids=(",",))
    rules = account()
    return AccountRules(
        name="main",
        capabilities=rules.capabilities,
        service=None,
        services=lambda currency: [
            Service(code="bank_eur", currency=currency, beneficiary_currency=currency)
        ],
        why_not=lambda order: list(why_not(config, order)),
    )


def faults_of(path: Path, rules: AccountRules | None = None) -> list[Fault]:
    """What the rows of a file have, all but what only the record knows."""
    checker = RowChecker({"main": rules or account()}, usual_account="main")
    return [
        fault for chunk in open_sheet(path, LIMITS).chunks() for fault in checker.check(chunk)[1]
    ]


def csv_of(folder: Path, *rows: Mapping[str, str]) -> Path:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    quoted = [['"' + row.get(c, "").replace('"', '""') + '"' for c in columns] for row in rows]
    path = folder / "pay.csv"
    lines = [",".join(columns), *(",".join(cells) for cells in quoted), ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def told_by(example: str, folder: Path) -> list[Fault]:
    """The faults of the example's file."""
    if example in NAMED:
        return NAMED[example](folder)
    if found := STORED.fullmatch(example):
        return of_the_record(folder, found[1], State(found[2]), replaced=bool(found[3]))
    if found := IN_XLSX.fullmatch(example):
        return in_xlsx(folder, found[1], CELLS[found[2]])
    pairs = PAIR.findall(example)
    assert ", ".join(match[0] for match in PAIR.finditer(example)) == example, example
    changes = {
        column: "1" * int(count) if count else value.encode("ascii").decode("unicode_escape")
        for column, value, _, count in pairs
    }
    return faults_of(csv_of(folder, {**ROW, **changes}))


def in_xlsx(folder: Path, column: str, value: Any) -> list[Fault]:
    book = openpyxl.Workbook()
    book.active.append(list(ROW))
    book.active.append([value if name == column else cell for name, cell in ROW.items()])
    book.save(folder / "pay.xlsx")
    return faults_of(folder / "pay.xlsx")


def rows_of(path: Path) -> list[Any]:
    checker = RowChecker({"main": account()}, usual_account="main")
    return [row for chunk in open_sheet(path, LIMITS).chunks() for row in checker.check(chunk)[0]]


def of_the_record(folder: Path, column: str, state: State, *, replaced: bool) -> list[Fault]:
    """The faults of a row that has the reference id OLD-1 of a stored payout in that column."""
    with recorded(folder) as record:
        put(record, state, "OLD-1")
        if replaced:
            put(record, State.PAID, "OLD-1-r2", replaces="OLD-1")
        path = csv_of(folder, {**ROW, column: "OLD-1"})
        return from_history(record, rows_of(path))


def from_history(record: Record, rows: list[Any]) -> list[Fault]:
    return as_the_page_names_them(record, History(record.batches).among(rows))


class recorded:  # noqa: N801 - used as a function
    """A record in that folder, closed at the end."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder}/paybatch.db"
        database = Database(url)
        database.prepare()
        database.close()
        self._record = opened(url)

    def __enter__(self) -> Record:
        return self._record

    def __exit__(self, *_: object) -> None:
        self._record.close()


def put(record: Record, state: State, reference_id: str, **changes: Any) -> None:
    """A stored payout in that state, in a batch of its own."""
    usual: dict[str, Any] = {
        "account": "main",
        "amount": Money(1000, EUR),
        "service": "bank_eur",
        "fields": {"iban": ROW["fields.iban"]},
    }
    (payout_id,) = record.queue(Order(reference_id=reference_id, **usual, **changes))
    record.sql("UPDATE payouts SET state = :s, attempts = 1 WHERE id = :i", s=state, i=payout_id)


def as_the_page_names_them(record: Record, faults: Iterable[Fault]) -> list[Fault]:
    """The faults with the page's names of batches: chance has given them others."""
    with record.database.read() as connection:
        found = connection.execute(text("SELECT batch_id FROM payouts ORDER BY id")).scalars()
        names = dict(zip(found, ("Q8GQSVM", "7KXW2MN"), strict=False))
    return [
        replace(fault, expected=re.sub("|".join(names) or "^$", named(names), fault.expected))
        for fault in faults
    ]


def named(names: Mapping[str, str]) -> Callable[[re.Match[str]], str]:
    return lambda found: names[found[0]]


def repeated(folder: Path, rows: Iterable[Mapping[str, str]], *stored: str) -> list[Fault]:
    with recorded(folder) as record:
        for reference_id in stored:
            put(record, State.PAID, reference_id)
        now = record.clock.now()
        repeats = Repeats(record.batches, record.store.vault, Settings(), now)
        return repeats.among(rows_of(csv_of(folder, *rows)))


def left_out_of_its_batch(folder: Path) -> list[Fault]:
    with recorded(folder) as record:
        put(record, State.PAID, "OLD-1")
        batch_id = record.batches.latest(1)[0].id
        rows = rows_of(csv_of(folder, ROW, {**ROW, "reference_id": "OLD-1"}))
        outside = History(record.batches).outside(rows, batch_id)
        return as_the_page_names_them(record, [left_out(row, batch_id) for row in outside])


def replaced_twice(folder: Path) -> list[Fault]:
    with recorded(folder) as record:
        put(record, State.FAILED, "OLD-1")
        rows = ({**ROW, "reference_id": name, "replaces": "OLD-1"} for name in ("SAL-1", "SAL-2"))
        return from_history(record, rows_of(csv_of(folder, *rows)))


def failed_again(folder: Path) -> list[Fault]:
    with recorded(folder) as record:
        put(record, State.FAILED, "OLD-1")
        put(record, State.FAILED, "OLD-1-r2", replaces="OLD-1")
        return from_history(record, rows_of(csv_of(folder, {**ROW, "replaces": "OLD-1"})))


def unknown_to_the_record(folder: Path) -> list[Fault]:
    with recorded(folder) as record:
        return from_history(record, rows_of(csv_of(folder, {**ROW, "replaces": "OLD-1"})))


def ragged(folder: Path) -> list[Fault]:
    path = folder / "pay.csv"
    path.write_text(",".join(ROW) + "\nSAL-1,10,00,EUR,bank_eur,DE89370400440532013000\n")
    return faults_of(path)


def asked_beforehand(folder: Path) -> list[Fault]:
    with shop(folder, precheck=True) as (world, _):
        return [
            Fault(**each)
            for each in world.paybatch("check", "p.csv", "--json", code=3).json["faults"]
        ]


def hidden(folder: Path) -> list[Fault]:
    book = openpyxl.Workbook()
    for cells in (ROW, ROW.values(), SECOND.values()):
        book.active.append(list(cells))
    book.active.row_dimensions[2].hidden = True
    book.save(folder / "pay.xlsx")
    return faults_of(folder / "pay.xlsx")


def without_a_list(folder: Path) -> list[Fault]:
    usual = account()
    capabilities = replace(usual.capabilities, services=False)
    rules = replace(usual, capabilities=capabilities, services=lambda _: ())
    return faults_of(csv_of(folder, {**ROW, "service": ""}), rules)


def at_etpay(**changes: str) -> Callable[[Path], list[Fault]]:
    return lambda folder: faults_of(csv_of(folder, {**ROW, **changes}), etpay())


SECOND = {**ROW, "reference_id": "SAL-2"}
NAMED: Mapping[str, Callable[[Path], list[Fault]]] = {
    "`10,00` as amount in a file with commas": ragged,
    "a row that is hidden or filtered out in XLSX": hidden,
    "the `reference_id` of the row before": lambda folder: faults_of(csv_of(folder, ROW, ROW)),
    "the `fields.iban` and `amount` of the row before": lambda f: repeated(f, [ROW, SECOND]),
    "the `fields.iban` and `amount` of the payout OLD-1": lambda f: repeated(f, [ROW], "OLD-1"),
    "the `replaces` of the row before": replaced_twice,
    "`replaces`: a payout whose replacement failed too": failed_again,
    "`replaces`: a payout that the account does not have": unknown_to_the_record,
    "at ETpay, `fields.rut`: `111111112`": at_etpay(**{"fields.rut": "111111112"}),
    "`service`: empty, at a provider that does not list its services": without_a_list,
    "a row that was `repeated` when its file was stored, with --allow-repeats now": (
        left_out_of_its_batch
    ),
    "an account that is asked beforehand": asked_beforehand,
    "at ETpay, `description`: `wages, May`": at_etpay(description="wages, May"),
}
