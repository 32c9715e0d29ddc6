"""A chunk that is taken as a whole is one in which no row has a fault of its own."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches.checks import AccountRules, CheckedRow, RowChecker
from batches.faults import Fault
from batches.loading import Chunk
from batches.screening import texts_of
from workers.providers.port import Capabilities, FieldRule, Service
from workers.record.model import Order
from workers.record.money import Currency, Money

USD, JPY = Currency.of("USD"), Currency.of("JPY")


def service(currency: Currency, **changes: Any) -> Service:
    rules = (
        FieldRule(name="iban", pattern=r"[A-Z0-9]{4,8}", required=True),
        FieldRule(name="note", pattern=r"[a-z ]*", required=False),
    )
    usual: dict[str, Any] = {
        "code": f"bank_{currency.code.lower()}",
        "currency": currency,
        "beneficiary_currency": currency,
        "usable": True,
        "amount_min": Money(100, currency),
        "amount_max": Money(500_000, currency),
        "fee_rate": Decimal("0.01"),
        "fee_fix": Money(3, currency),
        "fields": rules,
    }
    return Service(**{**usual, **changes})


SERVICES = {
    USD: (
        service(USD),
        service(USD, code="card_usd", fields=None),
        service(USD, code="step_usd", decimals=0),
    ),
    JPY: (service(JPY), service(JPY, code="flat_jpy", fee_rate=Decimal(0))),
}


def against(order: Order) -> Sequence[tuple[str, str]]:
    return [("description", "no cats")] if "cat" in order.description else ()


def checker() -> RowChecker:
    can = Capabilities(
        reference_id_chars_max=8, reference_id_char="[A-Z0-9-]", two_step=True,
        refuses_duplicates=True, look_up=True, absence_conclusive_after_s=600, balances=True,
        services=True, webhooks=True, list_payouts=True, customer_reference=True,
    )  # fmt: skip
    rules = AccountRules(
        name="main",
        capabilities=can,
        service="bank_usd",
        services=lambda currency: SERVICES.get(currency, ()),
        why_not=against,
    )
    return RowChecker({"main": rules}, usual_account="main")


def mostly(usual: st.SearchStrategy[str], *odd: str) -> st.SearchStrategy[str]:
    """The usual, and now and then something odd."""
    return st.integers(0, 12).flatmap(lambda n: st.sampled_from(odd) if n == 0 else usual)


amounts = mostly(
    st.integers(100, 500_000).map(lambda minor: f"{minor // 100}.{minor % 100:02}"),
    "", "0.00", "12", "12.5", "1.234", "05.00", "-1.00", "1e3", "99999.00", "0.99", "٣.00",
    "1" * 19 + ".00",
)  # fmt: skip
ROW = {
    "reference_id": mostly(st.integers(0, 10**6).map("R-{}".format), "", "r-1", "R" * 9, "R-1"),
    "amount": amounts,
    "currency": st.just("USD"),
    "service": st.just("bank_usd"),
    "account": st.just(""),
    "description": mostly(st.just("Salary"), "x" * 256, "a cat", "two\nlines", " blank"),
    "replaces": mostly(st.just(""), "R-1"),
    "fields.iban": mostly(
        st.sampled_from(["DE89", "AB12"]), "", "de89", "D" * 501, "DE89 ", "1E+9"
    ),
    "fields.note": mostly(st.just(""), "ab", "AB"),
    "fields.extra": mostly(st.just(""), "x"),
    "customer.first_name": mostly(st.just(""), "Ada"),
    "metadata.team": mostly(st.just("Sales"), "", "\x00"),
}
# A column that all rows share, so that other services and currencies are met as a whole too.
SHARED = {
    "service": st.sampled_from(["bank_usd", "card_usd", "step_usd", "bank_jpy", "flat_jpy", "no"]),
    "currency": st.sampled_from(["USD", "JPY", "usd", "EUR"]),
    "account": st.sampled_from(["", "main", "other"]),
}


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    optional = st.sets(
        st.sampled_from([n for n in ROW if n not in ("reference_id", "amount", "currency")])
    )
    names = ["reference_id", "amount", "currency", *sorted(draw(optional))]
    count = draw(st.integers(1, 12))
    columns = {name: draw(st.lists(ROW[name], min_size=count, max_size=count)) for name in names}
    for name in draw(st.sets(st.sampled_from(sorted(SHARED)))):
        if name in columns:
            columns[name] = [draw(SHARED[name])] * count
    if columns["currency"][0] == "JPY" and draw(st.booleans()):
        columns["amount"] = [amount.partition(".")[0] for amount in columns["amount"]]
    return Chunk(1, list(range(2, 2 + count)), columns, [])


def one_by_one(chunk: Chunk) -> tuple[list[CheckedRow], list[Fault]]:
    """The verdict when no chunk is taken as a whole."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowChecker, "_clean_rows", lambda *_: None)
        return checker().check(chunk)


@settings(max_examples=600, deadline=None)
@given(chunks())
def test_the_verdict_is_that_of_each_row_by_itself(chunk: Chunk) -> None:
    rows, faults = checker().check(chunk)
    expected_rows, expected_faults = one_by_one(chunk)
    assert faults == expected_faults
    assert [row._replace(canonical=b"", payee=b"") for row in rows] == expected_rows
    for row in rows:
        assert row.canonical in (b"", row.order.canonical())
        assert row.payee in (b"", row.order.payee())


TEXTS = st.sampled_from(["Sales", "100%s", 'a "b"', "c\\d", "Größe", "日本", "x" * 300])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=4))
def test_texts_made_for_a_chunk_are_those_of_each_row(given_texts: list[tuple[str, ...]]) -> None:
    count = len(given_texts)
    names = ("description", "metadata.t%eam", "fields.no.te")
    columns: dict[str, Sequence[str]] = {
        "reference_id": [f"R-{at}" for at in range(count)],
        **{name: [texts[at] for texts in given_texts] for at, name in enumerate(names)},
    }
    minors = range(100, 100 + count)
    made = texts_of(columns, minors, account="m%in", service="bänk", currency=USD)
    for at, (canonical, payee) in zip(range(count), made, strict=False):
        texts = given_texts[at]
        order = Order(
            reference_id=f"R-{at}",
            account="m%in",
            amount=Money(minors[at], USD),
            service="bänk",
            fields={"no.te": texts[2]},
            metadata={"t%eam": texts[1]},
            description=texts[0],
        )
        assert canonical in (b"", order.canonical())
        assert payee in (b"", order.payee())


def test_texts_are_made_for_a_chunk_of_plain_rows() -> None:
    columns = {"reference_id": ["R-1"], "fields.iban": ["DE89"], "fields.note": [""]}
    [(canonical, payee)] = list(texts_of(columns, [100], account="main", service="s", currency=USD))
    assert canonical
    assert payee


@pytest.mark.parametrize(
    ("name", "value"),
    [("amount", "99999.00"), ("fields.iban", ""), ("reference_id", "r"), ("fields.iban", "x")],
)
def test_one_bad_cell_in_a_clean_chunk_is_found(name: str, value: str) -> None:
    columns = {
        "reference_id": [f"R-{at}" for at in range(50)],
        "amount": ["12.50"] * 50,
        "currency": ["USD"] * 50,
        "fields.iban": ["DE89"] * 50,
    }
    chunk = Chunk(1, list(range(2, 52)), columns, [])
    rows, faults = checker().check(chunk)
    assert (len(rows), faults) == (50, [])
    columns[name][30] = value
    rows, faults = checker().check(chunk)
    assert [(fault.line, fault.column) for fault in faults] == [(32, name)]
    assert len(rows) == 49
