"""The body of a create: what must be in it, what may be, and the refusal of anything else."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from workers.simulator import echelon_views as views

from .echelon_driver import Driver, echelon, order

GONE = object()


@pytest.fixture
def merchant() -> Iterator[Driver]:
    with echelon() as driver:
        yield driver


def post(merchant: Driver, content: bytes) -> httpx.Response:
    return merchant.call("POST", "/payouts/PO-1", content=content)


def changed(path: str, value: Any) -> dict[str, Any]:
    """An order with another value at that place, or without it."""
    document = copy.deepcopy(order(callback_url="http://127.0.0.1:9/hooks/1"))
    place: Any = document
    *above, last = path.split(".")
    for name in above:
        place = place[name]
    if value is GONE:
        place.pop(last, None)
    else:
        place[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("paymentRequested", GONE, "ATTRIBUTE_REQUIRED"),
        ("paymentRequested", [], "ATTRIBUTE_REQUIRED"),
        ("paymentRequested.money", GONE, "ATTRIBUTE_REQUIRED"),
        ("paymentRequested.money", 10000, "ATTRIBUTE_VALUE_INVALID"),
        ("paymentRequested.money.amount", GONE, "ATTRIBUTE_VALUE_INVALID"),
        ("paymentRequested.money.amount", 0, "ATTRIBUTE_VALUE_INVALID"),
        ("paymentRequested.money.amount", -1, "ATTRIBUTE_VALUE_INVALID"),
        ("paymentRequested.money.amount", True, "ATTRIBUTE_VALUE_INVALID"),
        ("paymentRequested.money.amount", "10000", "ATTRIBUTE_VALUE_INVALID"),
        ("paymentRequested.money.amount", 10000.5, "ATTRIBUTE_VALUE_INVALID"),
        ("paymentRequested.money.currencyCode", GONE, "ATTRIBUTE_VALUE_INVALID"),
        ("paymentRequested.money.currencyCode", "idr", "ATTRIBUTE_VALUE_INVALID"),
        ("paymentRequested.money.currencyCode", "ZZZ", "ATTRIBUTE_VALUE_INVALID"),
        ("paymentMethod", GONE, "ATTRIBUTE_REQUIRED"),
        ("paymentMethod.paymentMethodCode", GONE, "ATTRIBUTE_REQUIRED"),
        ("paymentMethod.paymentMethodCode", "VAPAY", "ATTRIBUTE_VALUE_INVALID"),
        ("paymentMethod.paymentMethodCode", 7, "ATTRIBUTE_INVALID"),
        ("paymentMethod.account", GONE, "ATTRIBUTE_REQUIRED"),
        ("paymentMethod.account", "9876543210", "ATTRIBUTE_REQUIRED"),
        ("paymentMethod.account.accountName", "", "ATTRIBUTE_REQUIRED"),
        ("paymentMethod.account.accountName", {}, "ATTRIBUTE_INVALID"),
        ("paymentMethod.account.accountNumber", GONE, "ATTRIBUTE_REQUIRED"),
        ("paymentMethod.account.accountNumber", 9876543210, "ATTRIBUTE_INVALID"),
        ("paymentMethod.account.accountNumber", "987-654", "ATTRIBUTE_VALUE_INVALID"),
        ("paymentMethod.account.accountNumber", "987", "ATTRIBUTE_VALUE_INVALID"),
        ("paymentMethod.account.bankCode", 14, "ATTRIBUTE_INVALID"),
        ("paymentMethod.paymentOperatorCode", GONE, "ATTRIBUTE_REQUIRED"),
        ("paymentMethod.paymentOperatorCode", "BNK_999", "ATTRIBUTE_VALUE_INVALID"),
        ("paymentMethod.emailAddress", 5, "ATTRIBUTE_INVALID"),
        ("paymentMethod.emailAddress", "siti", "ATTRIBUTE_VALUE_INVALID"),
        ("callbackUrl", 5, "ATTRIBUTE_INVALID"),
        ("callbackUrl", "/hooks/1", "ATTRIBUTE_VALUE_INVALID"),
        ("callbackUrl", "ftp://127.0.0.1/hooks", "ATTRIBUTE_VALUE_INVALID"),
        ("callbackUrl", "http://[::1/hooks", "ATTRIBUTE_VALUE_INVALID"),
    ],
)
def test_create_that_is_not_well_formed_is_400_and_stores_nothing(
    merchant: Driver, path: str, value: Any, code: str
) -> None:
    answer = post(merchant, json.dumps(changed(path, value)).encode())
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert set(answer.json()) == {"code", "message"}
    for secret in ("Siti", "9876543210", "siti@"):
        assert secret not in answer.text
    assert merchant.ledger()["invoices"] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("callbackUrl", GONE),
        ("paymentMethod.emailAddress", GONE),
        ("paymentMethod.account.bankBranch", "Pusat"),
        ("paymentMethod.paymentOperatorCode", "BNK_000"),
        ("paymentRequested.segmentCode", "A"),
        ("somethingNew", [1]),
        ("paymentRequested.money.amount", 10000.0),
        ("paymentRequested.money", {"amount": 42.05, "currencyCode": "USD"}),
    ],
)
def test_create_may_leave_out_or_add(merchant: Driver, path: str, value: Any) -> None:
    answer = post(merchant, json.dumps(changed(path, value)).encode())
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "amount", ["1e1000000", "9" * 5000, "1e-5", "42.050000000000004", "NaN", "Infinity", "1e18"]
)
def test_number_that_is_no_amount_is_400(merchant: Driver, amount: str) -> None:
    body = json.dumps(order(currency="USD", amount="THE AMOUNT")).replace('"THE AMOUNT"', amount)
    assert post(merchant, body.encode()).status_code == 400
    assert merchant.ledger()["invoices"] == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"text"', b"\xff", b"[" * 100_000])
def test_body_that_cannot_be_read_is_400(merchant: Driver, body: bytes) -> None:
    answer = post(merchant, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "ATTRIBUTE_INVALID")
    assert merchant.ledger()["creates"] == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (302, "FOUND"),
        (400, "ATTRIBUTE_INVALID"),
        (404, "ENTITY_NOT_FOUND"),
        (409, "ENTITY_DUPLICATED"),
        (422, "ATTRIBUTE_VALUE_INVALID"),
        (429, "TOO_MANY_REQUESTS"),
        (500, "SYSTEM"),
        (504, "GATEWAY_TIMEOUT"),
    ],
)
def test_error_of_a_fault_has_the_form_of_the_page(status: int, code: str) -> None:
    answer = views.error(status)
    assert answer.status == status
    document = json.loads(answer.body)
    assert document["code"] == code
    assert document["message"]


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (1_925_035_200.313, "2031-01-01T12:00:00.313Z"),
        (1_925_035_200.0, "2031-01-01T12:00:00.000Z"),
    ],
)
def test_moment_is_utc_with_milliseconds(at: float, text: str) -> None:
    assert views.moment(at) == text


def test_order_shows_the_ledger_its_beneficiary_masked_only() -> None:
    read = views.read_order(order(callback_url="http://127.0.0.1/hooks/1"))
    assert isinstance(read, views.Order)
    assert (read.amount, read.currency) == (Decimal(10000), "IDR")
    assert read.masked() == {
        "operator": "BNK_014",
        "account": {"accountName": "******ahma", "accountNumber": "******3210"},
        "email": "************.com",
        "callback_url": "http://127.0.0.1/hooks/1",
    }
