"""Every fault of every row is told, with its line, and a good row becomes the right order."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches import checks
from batches.cells import SEPARATOR, Few
from batches.checks import AccountRules, CheckedRow, RowChecker
from batches.faults import Fault, FaultKind
from batches.loading import Chunk
from workers.providers.port import Capabilities, FieldRule, Service
from workers.record.money import Currency, Money

EUR = Currency.of("EUR")
CAPABILITIES: dict[str, Any] = {
    "reference_id_chars_max": 20,
    "reference_id_char": "[A-Za-z0-9-]",
    "two_step": True,
    "refuses_duplicates": True,
    "look_up": True,
    "balances": True,
    "services": True,
    "webhooks": True,
    "list_payouts": True,
    "absence_conclusive_after_s": 600,
    "customer_reference": True,
}
FIELDS = (
    FieldRule(name="iban", required=True, pattern="[A-Z]{2}[0-9]{2,30}", label="IBAN"),
    FieldRule(name="name", required=False),
)


def service(**changes: Any) -> Service:
    usual: dict[str, Any] = {
        "code": "bank_eur",
        "currency": EUR,
        "beneficiary_currency": EUR,
        "fields": FIELDS,
        "fee_rate": Decimal("0.01"),
    }
    return Service(**{**usual, **changes})


def account(*services: Service, name: str = "main", **changes: Any) -> AccountRules:
    capabilities = Capabilities(**{**CAPABILITIES, **changes.pop("capabilities", {})})
    usual: dict[str, Any] = {
        "name": name,
        "capabilities": capabilities,
        "service": None,
        "services": lambda currency: services or (service(),) if currency == EUR else (),
    }
    return AccountRules(**{**usual, **changes})


def checker(*accounts: AccountRules) -> RowChecker:
    rules = accounts or (account(),)
    return RowChecker({one.name: one for one in rules}, usual_account="main")


def chunk(*rows: dict[str, str], faults: list[Fault] | None = None, first: int = 1) -> Chunk:
    usual = {"reference_id": "P-1", "amount": "10.00", "currency": "EUR", "fields.iban": "DE89370"}
    filled = [
        {**usual, "reference_id": f"P-{first + at}", **row} for at, row in enumerate(rows or ({},))
    ]
    names = dict.fromkeys(name for row in filled for name in row)
    columns = {name: [row.get(name, "") for row in filled] for name in names}
    lines = [first + 1 + at for at in range(len(filled))]
    return Chunk(first, lines, columns, faults or [])


def faults_of(*rows: dict[str, str], rules: AccountRules | None = None) -> list[tuple[str, str]]:
    good, faults = checker(rules or account()).check(chunk(*rows))
    assert bool(good) != bool(faults) or len(rows) > 1
    return [(fault.column, fault.kind) for fault in faults]


def orders(*rows: dict[str, str], rules: AccountRules | None = None) -> list[CheckedRow]:
    good, faults = checker(rules or account()).check(chunk(*rows))
    assert faults == []
    return good


def test_a_good_row_becomes_an_order_with_its_fee() -> None:
    (row,) = orders(
        {"description": "Pay", "metadata.batch": "7", "fields.name": "", "replaces": "P-0"}
    )
    assert (row.row, row.line) == (1, 2)
    assert row.order.reference_id == "P-1"
    assert row.order.amount == Money(1000, EUR)
    assert (row.order.account, row.order.service) == ("main", "bank_eur")
    assert row.order.fields == {"iban": "DE89370"}
    assert row.order.metadata == {"batch": "7"}
    assert (row.order.description, row.order.replaces) == ("Pay", "P-0")
    assert row.fee == Money(10, EUR)


def test_dots_nest_objects_and_blank_cells_are_absent() -> None:
    row, other = orders(
        {
            "customer.reference_id": "c",
            "customer.address.country": "DE",
            "context.card.holder": "J",
        },
        {"customer.reference_id": "", "customer.address.country": "", "metadata.a": "1"},
    )
    assert row.order.customer == {"reference_id": "c", "address": {"country": "DE"}}
    assert row.order.context == {"card": {"holder": "J"}}
    assert other.order.customer == {}
    assert other.order.metadata == {"a": "1"}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"reference_id": ""}, [("reference_id", FaultKind.REQUIRED)]),
        ({"reference_id": "P_1"}, [("reference_id", FaultKind.REFERENCE_CHARACTER)]),
        ({"reference_id": "P" * 21}, [("reference_id", FaultKind.REFERENCE_TOO_LONG)]),
        ({"reference_id": " P-1"}, [("reference_id", FaultKind.BLANK_AT_EDGE)]),
        ({"reference_id": "P-1\u200b"}, [("reference_id", FaultKind.CONTROL_CHARACTER)]),
        ({"reference_id": "1.23E+15"}, [("reference_id", FaultKind.SCIENTIFIC_NOTATION)]),
        ({"reference_id": "#N/A"}, [("reference_id", FaultKind.ERROR_CELL)]),
        ({"replaces": "P-1"}, [("replaces", FaultKind.REPLACES_ITSELF)]),
        ({"amount": ""}, [("amount", FaultKind.REQUIRED)]),
        ({"amount": "0.00"}, [("amount", FaultKind.AMOUNT_ZERO)]),
        ({"amount": "1,5"}, [("amount", FaultKind.NOT_PLAIN_DECIMAL)]),
        ({"amount": "-1"}, [("amount", FaultKind.NOT_PLAIN_DECIMAL)]),
        ({"amount": "1\n"}, [("amount", FaultKind.CONTROL_CHARACTER)]),
        ({"amount": "1.5E+3"}, [("amount", FaultKind.SCIENTIFIC_NOTATION)]),
        ({"amount": "1.005"}, [("amount", FaultKind.TOO_MANY_DECIMALS)]),
        ({"amount": "1" * 17}, [("amount", FaultKind.AMOUNT_TOO_LARGE)]),
        ({"currency": ""}, [("currency", FaultKind.REQUIRED)]),
        ({"currency": "eur"}, [("currency", FaultKind.CURRENCY_UNKNOWN)]),
        ({"currency": "USD"}, [("currency", FaultKind.CURRENCY_NOT_OFFERED)]),
        ({"account": "Main"}, [("account", FaultKind.ACCOUNT_UNKNOWN)]),
        ({"service": "bank"}, [("service", FaultKind.SERVICE_UNKNOWN)]),
        ({"fields.iban": ""}, [("fields.iban", FaultKind.REQUIRED)]),
        ({"fields.iban": "DE"}, [("fields.iban", FaultKind.PATTERN_MISMATCH)]),
        ({"fields.iban": "DE89370\n"}, [("fields.iban", FaultKind.CONTROL_CHARACTER)]),
        ({"fields.iban": "DE" + "1" * 499}, [("fields.iban", FaultKind.FIELD_TOO_LONG)]),
        ({"fields.iban": "1.2E+20"}, [("fields.iban", FaultKind.SCIENTIFIC_NOTATION)]),
        ({"fields.ibn": "DE89"}, [("fields.ibn", FaultKind.FIELD_UNKNOWN)]),
        ({"description": "x" * 256}, [("description", FaultKind.DESCRIPTION_TOO_LONG)]),
        ({"description": "a\x07"}, [("description", FaultKind.CONTROL_CHARACTER)]),
        ({"customer.email": "a@b.c"}, [("customer.reference_id", FaultKind.REQUIRED)]),
    ],
)
def test_each_rule_has_its_kind(row: dict[str, str], expected: list[tuple[str, str]]) -> None:
    assert faults_of(row) == expected


@pytest.mark.parametrize(
    "row",
    [
        {"description": "two\nlines\tand a tab"},
        {"description": "x" * 255},
        {"fields.name": "Zoë O\u2019Néill"},
        {"fields.name": "نیما\u200cی"},
        {"reference_id": "1E5"},
        {"amount": "0.01"},
        {"customer.reference_id": "c", "customer.email": "a@b.c"},
        {"description": "#1 and 5E+3 x"},
    ],
)
def test_what_is_harmless_passes(row: dict[str, str]) -> None:
    assert len(orders(row)) == 1


def test_all_faults_of_a_row_are_told_in_the_order_of_columns() -> None:
    row = {"reference_id": "_" * 21, "amount": "x", "currency": "XXX", "fields.iban": "1"}
    assert faults_of(row) == [
        ("reference_id", FaultKind.REFERENCE_TOO_LONG),
        ("reference_id", FaultKind.REFERENCE_CHARACTER),
        ("amount", FaultKind.NOT_PLAIN_DECIMAL),
        ("currency", FaultKind.CURRENCY_UNKNOWN),
    ]


def test_a_duplicate_names_the_first_line_across_chunks() -> None:
    check = checker()
    check.check(chunk({"reference_id": "A"}, {"reference_id": "B"}))
    good, faults = check.check(chunk({"reference_id": "A"}, {"reference_id": "C"}, first=3))
    assert [(f.line, f.kind) for f in faults] == [(4, FaultKind.DUPLICATE_REFERENCE)]
    assert "line 2" in faults[0].expected
    assert [row.order.reference_id for row in good] == ["C"]


def test_duplicates_are_found_far_apart_in_a_long_file(monkeypatch: pytest.MonkeyPatch) -> None:
    # References are put by in blocks: with small ones a few hundred rows are a long file.
    monkeypatch.setattr("batches.seen.BLOCK_MAX", 100)
    check = checker()
    for first in range(1, 602, 60):
        rows = [{"reference_id": f"R{first + at}"} for at in range(60)]
        assert check.check(chunk(*rows, first=first))[1] == []
    again = [{"reference_id": f"R{number}"} for number in (5, 300, 660)]
    _, faults = check.check(chunk(*again, first=661))
    assert [fault.expected.split(";")[1] for fault in faults] == [
        f" line {line} has this one already" for line in (6, 301, 661)
    ]


def test_a_reference_may_come_once_in_each_account() -> None:
    check = checker(account(), account(name="other"))
    same = {"reference_id": "A"}
    good, faults = check.check(chunk(same, {**same, "account": "other"}))
    assert (len(good), faults) == (2, [])
    _, faults = check.check(chunk({**same, "account": "main"}, first=3))
    assert [fault.kind for fault in faults] == [FaultKind.DUPLICATE_REFERENCE]


def test_faults_of_loading_are_handed_on_and_not_doubled() -> None:
    damaged = Fault(2, "fields.iban", FaultKind.NUMERIC_CELL, "****", "text")
    ragged = Fault(3, "", FaultKind.RAGGED_ROW, "", "3 cells")
    rows = ({"fields.iban": "1"}, {"amount": "", "currency": ""}, {})
    good, faults = checker().check(chunk(*rows, faults=[ragged, damaged]))
    assert faults == [damaged, ragged]
    assert [row.line for row in good] == [4]


# What makes a cell faulty, or nearly so, the separator of joined cells included.
PARTS = [
    SEPARATOR, " ", "\n", "\t", "\r", "\x00", "\x7f", "\x85", "\xa0", "\xad", "\u200b", "\u200d",
    "\u3000", "\U000e0001", "#N/A", "#REF!", "#", "1", "1.5", "E+", "e+", "E", "+", "12", "ab", "é",
]  # fmt: skip
CELLS = st.lists(st.sampled_from(PARTS), max_size=4).map("".join)


def check_cell_by_cell(name: str, column: list[str]) -> None:
    chunk = Chunk(1, list(range(2, 2 + len(column))), {name: column}, [])
    found, expected = checks._Found(chunk), checks._Found(chunk)
    checks._check_characters(name, chunk, found)
    for at, cell in enumerate(column):
        if cell and (flaw := checks._damage(name, cell)) is not None:
            expected.add_damage(at, (name, *flaw))
    assert found.in_order() == expected.in_order()
    assert found.lines == expected.lines


@pytest.mark.parametrize("name", ["reference_id", "amount", "description", "customer.name"])
def test_no_cell_hides_its_fault_among_plain_ones(name: str) -> None:
    for parts in itertools.product(("", *PARTS), repeat=3):
        check_cell_by_cell(name, ["plain", "".join(parts), "plain"])


@given(
    st.sampled_from(["reference_id", "amount", "description", "fields.iban", "customer.name"]),
    st.lists(CELLS, min_size=1, max_size=6),
    st.lists(CELLS, max_size=2),
    st.booleans(),
)
def test_no_cell_hides_a_fault_among_others(
    name: str, cells: list[str], others: list[str], few: bool
) -> None:
    # The texts of a column may be more than are in the chunk.
    check_cell_by_cell(name, Few(cells, [*others, *dict.fromkeys(cells)]) if few else cells)


def test_no_fault_shows_a_beneficiary() -> None:
    secret = "Jane Roe Secret 99887766"
    row = {"fields.iban": secret, "fields.other": secret, "customer.name": secret + "\x07"}
    _, faults = checker().check(chunk(row))
    assert len(faults) == 4
    assert "Jane" not in str(faults)
    assert "9988" not in str(faults)


def test_what_the_provider_would_not_take_is_told_beside_the_other_faults_of_a_row() -> None:
    refusing = account(
        service(amount_max=Money(500, EUR)),
        why_not=lambda order: [
            ("description", f"shorter than {len(order.description)}"),
            ("fields.iban", "an IBAN whose check digits are right"),
        ],
    )
    # Each column is blamed once, by the rule that is known without the adapter where there is one.
    assert faults_of({"fields.iban": "DE"}, rules=refusing) == [
        ("amount", FaultKind.ABOVE_MAXIMUM),
        ("fields.iban", FaultKind.PATTERN_MISMATCH),
        ("description", FaultKind.NOT_ACCEPTED),
    ]
    # Nobody can be asked about an amount that cannot be read.
    for row in ({"amount": "x"}, {"currency": "EURO"}):
        assert FaultKind.NOT_ACCEPTED not in {kind for _, kind in faults_of(row, rules=refusing)}


def test_an_adapter_that_leans_on_a_rule_which_the_row_breaks_hides_no_fault() -> None:
    leaning = account(why_not=lambda order: [("fields.iban", order.fields["iban"][:0] + "right")])
    assert faults_of({"fields.iban": ""}, rules=leaning) == [("fields.iban", FaultKind.REQUIRED)]
    broken = account(why_not=lambda order: [("service", order.fields["none"])])
    with pytest.raises(KeyError):
        faults_of({}, rules=broken)
