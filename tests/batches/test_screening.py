"""A chunk that is taken as a whole is one in which no row has a fault of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches.cells import Few
from batches.checked import CheckedRow, CleanRows, payee_of
from batches.checks import AccountRules, RowChecker
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


def one_by_one(chunk: Chunk) -> tuple[Sequence[CheckedRow], list[Fault]]:
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
    assert list(rows) == expected_rows
    if isinstance(rows, CleanRows):
        assert rows.canonicals == [row.order.canonical() for row in rows]
        assert rows.payees == [payee_of(row) for row in rows]


TEXTS = st.sampled_from(
    [
        "Sales",
        "100%s",
        'a "b"',
        "c\\d",
        "Größe",
        "日本",
        "x" * 300,
        "a|b",
        "|",
        "\x7f",
        "\t",
        "\u200b",
    ]
)


def together(columns: Mapping[str, Sequence[str]]) -> Chunk:
    return Chunk(1, list(range(2, 2 + len(columns["reference_id"]))), columns, [])


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
    made = texts_of(together(columns), minors, account="m%in", service="bänk", currency=USD)
    every = [text for texts in given_texts for text in texts]
    # Otherwise they are made row by row.
    assert (made is not None) == all(
        json.dumps(t, ensure_ascii=False) == f'"{t}"' and t.isprintable() for t in every
    )
    assert not made or (made.payees is not None) == all(texts[2].isascii() for texts in given_texts)
    for at, texts in enumerate(given_texts if made else ()):
        order = Order(
            reference_id=f"R-{at}",
            account="m%in",
            amount=Money(minors[at], USD),
            service="bänk",
            fields={"no.te": texts[2]},
            metadata={"t%eam": texts[1]},
            description=texts[0],
        )
        assert made.canonicals[at] == order.canonical()
        assert made.payees is None or made.payees[at] == order.payee()


def test_texts_are_made_for_a_chunk_of_plain_rows() -> None:
    columns = {"reference_id": ["R-1"], "fields.iban": ["DE89"], "fields.note": [""]}
    made = texts_of(together(columns), [100], account="main", service="s", currency=USD)
    assert made
    assert made.payees
    assert all(made.canonicals)
    assert all(made.payees)


def test_a_column_of_one_text_is_hashed_like_any_other() -> None:
    texts = ["DE89", "DE90"]
    usual = {"reference_id": ["R-1", "R-2"], "fields.iban": texts}
    same = {"description": ["100% pay"] * 2, "fields.bank": ["B%s"] * 2, "metadata.m": ["x"] * 2}
    few = {name: Few(cells, cells[:1]) for name, cells in same.items()}
    made = [
        texts_of(together({**usual, **others}), [1, 2], account="main", service="s", currency=USD)
        for others in (same, few)
    ]
    assert made[0]
    assert made[1]
    assert made[0].canonicals == made[1].canonicals
    assert made[0].payees == made[1].payees
