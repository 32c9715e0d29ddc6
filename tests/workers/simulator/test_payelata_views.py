"""The JSON shapes, member by member."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

import pytest

from .conftest import START, Driver


def test_created_invoice_has_the_documented_shape(driver: Driver) -> None:
    answer = driver.create(
        description="Payout 42",
        callback_url="https://worker.example/hook",
        metadata={"batch": "A", "rate": 1.25},
        customer={"reference_id": "cust-7", "name": "Jane Roe"},
        context={"card": {"card_holder": "JANE ROE"}},
    )
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    data = answer.json()["data"]
    invoice_id = data["id"]
    assert re.fullmatch("cpoi_[A-Za-z0-9]{16}", invoice_id)
    customer_id = data["relationships"]["customer"]["data"].pop("id")
    assert customer_id.startswith("cus_")
    assert data == {
        "type": "payout-invoices",
        "id": invoice_id,
        "attributes": {
            "serial_number": invoice_id.removeprefix("cpoi_"),
            "status": "created",
            "resolution": "ok",
            "amount": 25.5,
            "payout_amount": 25.5,
            "currency": "USD",
            "service_currency": "USD",
            "service_amount": 25.5,
            "service_payout_amount": 25.5,
            "reference_id": "r-1",
            "test_mode": True,
            "description": "Payout 42",
            "fee": 0,
            "writeoff": 25.5,
            "exchange_rate": 1,
            "processed": None,
            "processed_amount": None,
            "processed_fee": 0,
            "processed_writeoff": None,
            "metadata": {"batch": "A", "rate": 1.25},
            "created": START,
            "updated": START,
            "fields": {"card_number": "400000******0002"},
            "callback_url": "https://worker.example/hook",
            "source": "merchant_api",
            "callback_logs": [],
        },
        "relationships": {
            "payout-service": {"data": {"type": "payout-services", "id": "payment_card_usd"}},
            "payout-method": {"data": {"type": "payout-methods", "id": "payment_card"}},
            "customer": {"data": {"type": "customers"}},
        },
        "links": {"self": f"/api/payout-invoices/{invoice_id}"},
    }
    assert driver.call("GET", f"/payout-invoices/{invoice_id}").json() == answer.json()
    assert '"amount":25.5,' in answer.text
    assert '"created":1700000000,' in answer.text


def test_nothing_is_an_empty_list_as_php_writes_it(driver: Driver) -> None:
    attributes = driver.create(fields={}, token="saved").json()["data"]["attributes"]
    assert (attributes["metadata"], attributes["fields"]) == ([], [])


def test_paid_invoice_tells_when_and_how_much(driver: Driver) -> None:
    invoice_id = driver.created(simulate="settle=10")
    driver.process(invoice_id)
    driver.advance(60)
    read = driver.read(invoice_id)
    assert (read["processed"], read["updated"]) == (START + 10, START + 10)
    assert (read["processed_amount"], read["processed_writeoff"]) == (25.5, 25.5)


def test_returned_invoice_still_tells_what_was_paid(driver: Driver) -> None:
    invoice_id = driver.created(simulate="settle=10 returned=5")
    driver.process(invoice_id)
    driver.advance(60)
    read = driver.read(invoice_id)
    assert (read["status"], read["updated"]) == ("canceled", START + 15)
    assert (read["processed"], read["processed_amount"]) == (START + 10, 25.5)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (500, {"status": "Internal Server Error", "code": "500", "title": "", "detail": ""}),
        (503, {"status": "Service Unavailable", "code": "503"}),
    ],
)
def test_500_has_title_and_detail(driver: Driver, status: int, expected: dict[str, str]) -> None:
    (error,) = driver.create(simulate=f"create:{status}").json()["errors"]
    assert set(error) == set(expected)
    assert (error["status"], error["code"]) == (expected["status"], expected["code"])


def test_balances_are_decimal_text(start: Callable[..., Driver]) -> None:
    driver = start(balances={"USD": Decimal("1250.4"), "JPY": Decimal(99)})
    document = driver.call("GET", "/account/balances").json()
    data = document["data"]
    assert (data["type"], data["id"]) == ("account", "coma_Demo0000Demo0001")
    accounts = data["attributes"]["currency_accounts"]
    assert set(accounts) == {"USD", "JPY"}
    assert accounts["USD"].pop("account_id").startswith("comca_")
    assert accounts["USD"] == {
        "active_balance": "1250.40",
        "pending_balance": "0.00",
        "reserved_balance": "0.00",
        "overdraft_limit": "0.00",
        "balance_lower_limit": None,
    }
    assert accounts["JPY"]["active_balance"] == "99"


def test_profile_is_active(start: Callable[..., Driver]) -> None:
    driver = start(callback_url="http://127.0.0.1:1/hook")
    attributes = driver.call("GET", "/account/profile").json()["data"]["attributes"]
    assert attributes["status"] == "active"
    assert attributes["callback_url"] == "http://127.0.0.1:1/hook"
    assert attributes["ledger_scheme"] != "none"


def test_services_are_paged_by_number(driver: Driver) -> None:
    seen: list[str] = []
    path = "/payout-services?page[number]=1&page%5Bsize%5D=4"
    while path:
        page = driver.call("GET", path).json()
        assert page["meta"]["total"] == 10
        assert page["meta"]["pages"] == 3
        seen += [each["id"] for each in page["data"]]
        path = page["links"]["next"].removeprefix("/api")
    assert len(seen) == len(set(seen)) == 10
    assert driver.call("GET", "/payout-services?page[number]=9").json()["data"] == []
    for wrong in ("page[number]=0", "page[number]=x", "page[size]=0", "page[size]=101"):
        assert driver.call("GET", f"/payout-services?{wrong}").status_code == 400


def test_service_is_read_by_its_id(driver: Driver) -> None:
    listed = driver.call("GET", "/payout-services").json()["data"]
    for service in listed:
        assert re.fullmatch("comcpos_[0-9a-f]{16}", service["id"])
        assert driver.call("GET", f"/payout-services/{service['id']}").json()["data"] == service
    by_code = {each["attributes"]["service"]: each["attributes"] for each in listed}
    assert by_code["binancepay_usd"]["enabled"] is False
    card = by_code["payment_card_usd"]
    assert card["available"] is card["active"] is card["enabled"] is True
    assert (card["amount_min"], card["amount_max"], card["currency"]) == (1, 5000, "USD")
    transfer = by_code["bank_transfer_usd"]
    assert (transfer["fee_rate"], transfer["fee_fix"]) == (0, 1.5)


def test_prerequest_shows_open_services_and_their_fields(driver: Driver) -> None:
    asked = {"currency": "USD", "amount": 25, "public_key": "pk_test_demo"}
    answer = driver.http.post(f"{driver.public_url}/payout-prerequest", json=asked)
    data = answer.json()["data"]
    assert (data["currency"], data["amount"], data["test_mode"]) == ("USD", 25, True)
    assert set(data["services"]) == {"payment_card_usd", "bank_transfer_usd", "test_usd"}
    assert set(data["methods"]) == {"payment_card", "bank_transfer", "test"}
    card = data["services"]["payment_card_usd"]
    assert (card["amount"], card["amount_min"], card["amount_max"]) == ("25.00", 1, 5000)
    (field,) = card["fields"]
    assert (field["key"], field["required"], field["position"]) == ("card_number", True, 0)
    assert field["regexp"] == r"^\\d{12,19}$"  # doubled, after JSON decoding


def test_prerequest_shows_only_services_that_take_the_amount(driver: Driver) -> None:
    asked = {"currency": "USD", "amount": "5000.01", "public_key": "pk_test_demo"}
    answer = driver.http.post(f"{driver.public_url}/payout-prerequest", json=asked)
    assert set(answer.json()["data"]["services"]) == {"bank_transfer_usd", "test_usd"}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"public_key": "wrong"}, 401),
        ({"public_key": None}, 401),
        ({"currency": None}, 422),
        ({"amount": 0}, 422),
        ({"amount": "much"}, 422),
        ({"amount": "NaN"}, 422),
        ({"amount": None}, 422),
    ],
)
def test_prerequest_that_is_not_right_is_refused(
    driver: Driver, change: dict[str, object], status: int
) -> None:
    asked = {"currency": "USD", "amount": 25, "public_key": "pk_test_demo", **change}
    answer = driver.http.post(f"{driver.public_url}/payout-prerequest", json=asked)
    assert answer.status_code == status
