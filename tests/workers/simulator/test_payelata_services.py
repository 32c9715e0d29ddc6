"""What a create may ask for: every check, keyed as the provider keys it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from workers.record.money import Currency
from workers.simulator.payelata_services import SERVICES, asked_by_test_fields

from .conftest import CARD, Driver

BANK = {
    "account_number": "12345678",
    "bank_code": "ABC",
    "account_type": "checking",
    "beneficiary_document_type": "ID",
    "beneficiary_document_id": "55667788",
}
NAMED = {"account_number": "123456789", "beneficiary_full_name": "Jane Roe"}
FIELDS: dict[str, dict[str, Any]] = {
    "payment_card_usd": {"card_number": CARD},
    "payment_card_eur": {"card_number": CARD},
    "bank_transfer_usd": BANK,
    "bank_transfer_mxn": BANK,
    "bank_transfer_clp": BANK,
    "test_usd": {"account": "123"},
    "pix_brl": {"pix_key": "a@b.br", "document_type": "CPF", "document_id": "12345678901"},
    "upi_inr": {**NAMED, "vpa": "jane@upi"},
    "swift_jpy": {**NAMED, "bank_code": "ABCDEFGH"},
}


@pytest.mark.parametrize("code", FIELDS)
def test_every_open_service_pays_out(driver: Driver, code: str) -> None:
    service = SERVICES[code]
    amount = int(service.amount_min)
    answer = driver.create(
        service=code, currency=service.currency, amount=amount, fields=FIELDS[code]
    )
    assert answer.status_code == 201, answer.text
    driver.process(answer.json()["data"]["id"])
    assert len(driver.ledger()["invoices"][0]["releases"]) == 1


def test_table_names_every_service() -> None:
    assert set(FIELDS) == {each.code for each in SERVICES.values() if each.enabled}


@pytest.mark.parametrize("service", ["nonsense_usd", "binancepay_usd", "PAYMENT_CARD_USD"])
def test_service_that_is_not_open_is_404(driver: Driver, service: str) -> None:
    answer = driver.create(service=service)
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["code"] == "404"


@pytest.mark.parametrize(
    ("attributes", "key"),
    [
        ({"reference_id": None}, "reference_id"),
        ({"reference_id": ""}, "reference_id"),
        ({"reference_id": 42}, "reference_id"),
        ({"reference_id": "a b"}, "reference_id"),
        ({"reference_id": "a" * 65}, "reference_id"),
        ({"service": None}, "service"),
        ({"currency": None}, "currency"),
        ({"currency": "EUR"}, "currency"),
        ({"amount": None}, "amount"),
        ({"amount": 0}, "amount"),
        ({"amount": -1}, "amount"),
        ({"amount": "25.5"}, "amount"),
        ({"amount": True}, "amount"),
        ({"amount": 0.99}, "amount"),
        ({"amount": 5000.01}, "amount"),
        ({"amount": 25.555}, "amount"),
        ({"amount": 10**40}, "amount"),
        ({"test_mode": "yes"}, "test_mode"),
        ({"fields": None}, "fields"),
        ({"fields": "x"}, "fields"),
        ({"fields": {}}, "card_number"),
        ({"fields": []}, "card_number"),
        ({"fields": {"card_number": ""}}, "card_number"),
        ({"fields": {"card_number": "4000-0000-0000-0002"}}, "card_number"),
        ({"fields": {"card_number": CARD + "\n"}}, "card_number"),
        ({"fields": {"card_number": ["4"]}}, "card_number"),
        ({"customer": {"name": "Jane"}}, "customer.reference_id"),
        ({"customer": "Jane"}, "customer"),
        ({"callback_url": 5}, "callback_url"),
        ({"options": "auto"}, "options"),
        ({"metadata": "x"}, "metadata"),
        ({"service": "upi_inr", "currency": "INR", "amount": 100.5}, "amount"),
        ({"service": "swift_jpy", "currency": "JPY", "amount": 100.5}, "amount"),
        ({"service": "test_usd", "fields": {"account": "12x"}}, "account"),
        (
            {
                "service": "test_usd",
                "fields": {"account": "1", "test_details_success_rate": "101"},
            },
            "test_details_success_rate",
        ),
        (
            {
                "service": "test_usd",
                "fields": {"account": "1", "test_details_payout_status": "process_failed"},
            },
            "test_details_payout_status",
        ),
    ],
)
def test_value_that_is_not_right_is_422_by_its_key(
    driver: Driver, attributes: dict[str, Any], key: str
) -> None:
    sent = {"reference_id": "r-1", **attributes}
    answer = driver.create(**sent)
    assert answer.status_code == 422
    wrong = answer.json()["errors"]
    assert isinstance(wrong[key], str)
    assert CARD not in answer.text
    assert all(not each["invoices"] for each in driver.control("GET", "ledger").json())


def test_every_fault_is_told_at_once(driver: Driver) -> None:
    answer = driver.create(amount=0, currency=None, fields={})
    assert set(answer.json()["errors"]) == {"amount", "currency", "card_number"}


def test_token_stands_in_for_a_card_number(driver: Driver) -> None:
    assert driver.create(fields={}, token="saved-card").status_code == 201


@pytest.mark.parametrize("amount", ["25.50", "2.55E1", "25.500000000000000000000000000000000000"])
def test_amount_is_read_as_a_number_however_it_is_written(driver: Driver, amount: str) -> None:
    answer = driver.create("r-0")
    template = answer.request.content.decode().replace("r-0", "r-1")
    assert '"amount":25.5' in template
    sent = template.replace('"amount":25.5', f'"amount":{amount}')
    answer = driver.call("POST", "/payout-invoices", content=sent.encode())
    assert answer.status_code == 201
    assert json.loads(answer.text, parse_float=Decimal)["data"]["attributes"]["amount"] == 25.5


@pytest.mark.parametrize(
    ("code", "amount", "fee"),
    [
        ("payment_card_usd", "25.50", "0.00"),
        ("bank_transfer_usd", "100", "1.50"),
        ("payment_card_eur", "10", "0.50"),  # one percent, but at least a half
        ("payment_card_eur", "123.45", "1.23"),
        ("payment_card_eur", "5000", "10.00"),  # one percent, but at most ten
        ("bank_transfer_mxn", "1000", "10.00"),
        ("swift_jpy", "1000", "0"),
    ],
)
def test_fee_is_exact(code: str, amount: str, fee: str) -> None:
    assert str(SERVICES[code].fee(Decimal(amount))) == fee


def test_services_are_told_apart_and_fit_their_currency() -> None:
    assert len({each.id for each in SERVICES.values()}) == len(SERVICES)
    for service in SERVICES.values():
        assert service.decimals <= Currency.of(service.currency).exponent


@pytest.mark.parametrize(
    ("fields", "status", "resolution"),
    [
        ({}, None, None),
        ({"test_details_success_rate": "100"}, None, None),
        ({"test_details_success_rate": "0"}, "process_failed", None),
        ({"test_details_success_rate": 0}, "process_failed", None),
        ({"test_details_payout_status": "PROCESS-FAILED"}, "process_failed", None),
        ({"test_details_payout_status": "Process Pending"}, "process_pending", None),
        (
            {
                "test_details_payout_status": "PROCESS FAILED",
                "test_details_payout_resolution": "INVALID-DETAILS",
            },
            "process_failed",
            "invalid_details",
        ),
    ],
)
def test_test_fields_decide_the_end(
    fields: dict[str, Any], status: str | None, resolution: str | None
) -> None:
    asked = asked_by_test_fields(fields, "r-1")
    assert (asked.status, asked.resolution) == (status, resolution)


def test_success_rate_is_kept_on_the_whole_and_the_same_each_time() -> None:
    def failed() -> list[int]:
        fields = {"test_details_success_rate": "70"}
        return [
            number
            for number in range(1000)
            if asked_by_test_fields(fields, f"r-{number}").status == "process_failed"
        ]

    assert failed() == failed()
    assert 250 < len(failed()) < 350


def test_test_fields_act_over_http(driver: Driver) -> None:
    fields = {
        "account": "123",
        "test_details_payout_status": "PROCESS-FAILED",
        "test_details_payout_resolution": "LIMIT-VIOLATION",
    }
    invoice_id = driver.created(service="test_usd", fields=fields)
    driver.process(invoice_id)
    driver.advance(1)
    read = driver.read(invoice_id)
    assert (read["status"], read["resolution"]) == ("process_failed", "limit_violation")
