"""An order's canonical bytes and a file's content hash tell every difference, and no other."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, FrozenInstanceError, fields, replace
from typing import Any

import pytest

from tests.worlds import order
from workers.record.model import ContentHash, Order
from workers.record.money import Currency, Money

BASE = order(
    reference_id="R-1",
    fields={"account": "111", "bank": "A"},
    context={"purpose": "salary"},
    customer={"name": "Ann", "address": {"city": "Rome", "country": "IT"}},
    metadata={"team": "1"},
    description="March",
    replaces="R-0",
)
# Each field of an order, changed as little as can be.
CHANGES: list[tuple[str, Any]] = [
    ("reference_id", "R-2"),
    ("account", "other"),
    ("amount", Money(1001, Currency("USD", 2))),
    ("amount", Money(1000, Currency("EUR", 2))),
    ("amount", Money(1000, Currency("USD", 3))),
    ("service", "test_usd2"),
    ("fields", {"account": "112", "bank": "A"}),
    ("fields", {"account": "111"}),
    ("fields", {"account": "111", "bank": "A", "extra": ""}),
    ("fields", {"bank": "111", "account": "A"}),
    ("context", {"purpose": "bonus"}),
    ("customer", {"name": "Ann", "address": {"city": "Rome", "country": "FR"}}),
    ("metadata", {"team": 1}),
    ("description", "March "),
    ("replaces", ""),
]


def test_the_changes_cover_every_field_of_an_order() -> None:
    # The number of its key is not the maker's: a seal must hold whatever it is.
    assert {name for name, _ in CHANGES} == {one.name for one in fields(Order)} - {"key_no"}
    assert replace(BASE, key_no=3).canonical() == BASE.canonical()


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_any_change_of_an_order_changes_its_canonical_bytes(name: str, value: Any) -> None:
    assert replace(BASE, **{name: value}).canonical() != BASE.canonical()


def test_the_order_of_columns_does_not_change_the_canonical_bytes() -> None:
    turned = replace(
        BASE,
        fields={"bank": "A", "account": "111"},
        customer={"address": {"country": "IT", "city": "Rome"}, "name": "Ann"},
    )
    assert turned.canonical() == BASE.canonical()


def _hash(*orders: Order) -> str:
    content = ContentHash()
    for one in orders:
        content.add(one)
    return content.hexdigest()


def test_equal_rows_have_equal_content_and_their_order_counts() -> None:
    other = replace(BASE, reference_id="R-2")
    assert _hash(BASE, other) == _hash(BASE, other)
    assert _hash(BASE, other) != _hash(other, BASE)


def test_a_repeated_or_missing_row_is_another_content() -> None:
    assert len({_hash(), _hash(BASE), _hash(BASE, BASE), _hash(BASE, BASE, BASE)}) == 4


def test_rows_cannot_be_run_together_into_the_same_content() -> None:
    one = replace(BASE, description="a", replaces="b")
    two = replace(BASE, description="ab", replaces="")
    assert _hash(one) != _hash(two)


def test_an_order_shows_no_personal_data() -> None:
    shown = repr(BASE)
    for private in ("111", "salary", "Ann", "Rome", "team"):
        assert private not in shown


def test_an_order_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        BASE.amount = Money(1, BASE.amount.currency)


def test_an_order_takes_what_its_fields_name_with_the_same_defaults() -> None:
    signature = inspect.signature(Order)
    assert list(signature.parameters) == [one.name for one in fields(Order)]
    required = order()
    for one in fields(Order):
        given = signature.parameters[one.name]
        if one.default_factory is not MISSING:
            assert given.default == one.default_factory()
        elif one.default is MISSING:
            assert given.default is inspect.Parameter.empty
        else:
            assert given.default == one.default
        changed = replace(required, **{one.name: "other"})
        assert getattr(changed, one.name) == "other"
        assert [
            each.name
            for each in fields(Order)
            if getattr(changed, each.name) != getattr(required, each.name)
        ] == [one.name]
