"""What the eComCharge simulator takes, what it refuses, and what it keeps of a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workers.simulator.ecomcharge_bodies import details_of_card, details_of_customer, tracking_id
from workers.simulator.port import read_json

from .ecomcharge_world import CARD, CUSTOMER, PAYOUTS, Driver, beyag_body, card_body, shop

LONG = "x" * 256


@pytest.fixture(scope="module")
def driver() -> Any:
    methods = {"bank_transfer": (), "wallet": ("number", "customer.email", "customer.phone")}
    with shop(methods=methods) as opened:
        yield opened


@pytest.mark.parametrize(
    ("request_", "errors"),
    [
        ({"amount": None}, {"amount": ["is missing"]}),
        ({"amount": "2550"}, {"amount": ["must be an integer"]}),
        ({"amount": 25.5}, {"amount": ["must be an integer"]}),
        ({"amount": True}, {"amount": ["must be an integer"]}),
        ({"amount": 0}, {"amount": ["must be greater than 0"]}),
        ({"amount": -1}, {"amount": ["must be greater than 0"]}),
        ({"amount": 10**15}, {"amount": ["must be less than 1000000000000000"]}),
        ({"currency": None}, {"currency": ["is missing"]}),
        ({"currency": "usd"}, {"currency": ["is invalid"]}),
        ({"currency": "CHF"}, {"currency": ["is not supported"]}),
        ({"description": None}, {"description": ["is missing"]}),
        ({"description": ""}, {"description": ["is missing"]}),
        (
            {"description": LONG},
            {"description": ["is too long (maximum is 255 characters)"]},
        ),
        ({"tracking_id": 7}, {"tracking_id": ["must be a string"]}),
        (
            {"tracking_id": LONG},
            {"tracking_id": ["is too long (maximum is 255 characters)"]},
        ),
        ({"test": "true"}, {"test": ["must be a boolean"]}),
        ({"notification_url": 7}, {"notification_url": ["is invalid"]}),
        ({"verification_url": []}, {"verification_url": ["is invalid"]}),
        ({"language": 1}, {"language": ["is invalid"]}),
        ({"method": None}, {"method": ["is missing"]}),
        ({"method": "bank_transfer"}, {"method": ["is invalid"]}),
        ({"method": {}}, {"method": {"type": ["is missing"]}}),
        ({"method": {"type": "carrier_pigeon"}}, {"method": {"type": ["is invalid"]}}),
        ({"method": {"type": ["wallet"]}}, {"method": {"type": ["is invalid"]}}),
        (
            {"method": {"type": "wallet"}, "customer": {"phone": "1"}},
            {"method": {"number": ["is missing"]}, "customer": {"email": ["is missing"]}},
        ),
        (
            {"method": {"type": "wallet", "number": "1"}},
            {"customer": {"email": ["is missing"], "phone": ["is missing"]}},
        ),
        ({"customer": []}, {"customer": ["is invalid"]}),
        ({"customer": {"country": "USA"}}, {"customer": {"country": ["is invalid"]}}),
        ({"customer": {"gender": "x"}}, {"customer": {"gender": ["is invalid"]}}),
        ({"customer": {"email": "jane"}}, {"customer": {"email": ["is invalid"]}}),
        ({"customer": {"birth_date": "31.1.1990"}}, {"customer": {"birth_date": ["is invalid"]}}),
        ({"customer": {"country": "US", "zip": "123"}}, {"customer": {"zip": ["is invalid"]}}),
        ({"customer": {"phone": 1}}, {"customer": {"phone": ["must be a string"]}}),
        (
            {"customer": {"first_name": "x" * 61}},
            {"customer": {"first_name": ["is too long (maximum is 60 characters)"]}},
        ),
    ],
)
def test_bad_create_is_422_under_request_and_nothing_is_stored(
    driver: Driver, request_: dict[str, Any], errors: dict[str, Any]
) -> None:
    before = driver.control("GET", "health").json()["invoices"]
    answer = driver.pay(**{"reference": "bad", **request_})
    if "tracking_id" in request_:
        answer = driver.beyag("POST", PAYOUTS, json=beyag_body(**request_))
    assert answer.status_code == 422
    assert answer.json() == {"message": "Unprocessable entity", "errors": {"request": errors}}
    assert driver.control("GET", "health").json()["invoices"] == before


@pytest.mark.parametrize(
    "request_",
    [
        {"customer": {"country": "US", "zip": "12345-6789", "gender": "female"}},
        {"customer": {"country": "DE", "zip": "A 1"}},
        {"customer": None, "language": "de"},
        {"method": {"type": "wallet", "number": "1"}, "customer": {"email": "a@b", "phone": "1"}},
        {"additional_data": {"any": ["thing"]}, "return_url": "https://worker.example/done"},
        {"tracking_id": None},
    ],
)
def test_good_create_is_200(driver: Driver, request_: dict[str, Any]) -> None:
    answer = driver.beyag("POST", PAYOUTS, json=beyag_body(**request_))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "body", [b"", b"no json", b"[]", b'{"request":{"amount":NaN}}', b"[" * 9999]
)
def test_unreadable_body_is_400(driver: Driver, body: bytes) -> None:
    for answer in (
        driver.beyag("POST", PAYOUTS, content=body),
        driver.cards("POST", PAYOUTS, content=body),
        driver.beyag("POST", "/transactions/payout/precheck", content=body),
        driver.beyag("POST", "/balance", content=body),
    ):
        assert (answer.status_code, answer.json()) == (400, {"message": "Bad Request"})


def test_create_without_its_wrapper_is_422(driver: Driver) -> None:
    naked = beyag_body()["request"]
    assert driver.beyag("POST", PAYOUTS, json=naked).json() == {
        "message": "Unprocessable entity",
        "errors": {"request": {"base": ["request is missing"]}},
    }
    assert driver.cards("POST", PAYOUTS, json=naked).json() == {
        "message": "request is missing.",
        "errors": {"base": ["request is missing"]},
    }


@pytest.mark.parametrize(
    ("request_", "message", "errors"),
    [
        ({"amount": 0}, "Amount must be greater than 0.", {"amount": ["must be greater than 0"]}),
        ({"currency": None}, "Currency can't be blank.", {"currency": ["can't be blank"]}),
        (
            {"recipient_credit_card": None},
            "Recipient credit card can't be blank.",
            {"recipient_credit_card": ["can't be blank"]},
        ),
        (
            {"recipient_credit_card": {"holder": "JANE ROE"}},
            "Number can't be blank.",
            {"recipient_credit_card": {"number": ["can't be blank"]}},
        ),
        (
            {"recipient_credit_card": {"number": "4000 0000"}},
            "Number is not a card number.",
            {"recipient_credit_card": {"number": ["is not a card number"]}},
        ),
        (
            {"recipient_credit_card": {"token": 7}},
            "Token is invalid.",
            {"recipient_credit_card": {"token": ["is invalid"]}},
        ),
        (
            {"recipient_credit_card": "4000"},
            "Recipient credit card is invalid.",
            {"recipient_credit_card": ["is invalid"]},
        ),
        (
            {"duplicate_check": "no"},
            "Duplicate check must be a boolean.",
            {"duplicate_check": ["must be a boolean"]},
        ),
    ],
)
def test_bad_card_create_is_422_flat_or_coded(
    driver: Driver, request_: dict[str, Any], message: str, errors: dict[str, Any]
) -> None:
    flat = driver.pay_card(**request_)
    assert (flat.status_code, flat.json()) == (422, {"message": message, "errors": errors})
    coded = driver.pay_card(version="3", **request_)
    assert coded.status_code == 422
    assert coded.json() == {
        "code": "E.1025",
        "friendly_message": "Invalid request params",
        "message": message.removesuffix("."),
        "errors": errors,
    }


def test_nothing_of_a_person_reaches_the_ledger_unmasked(tmp_path: Path) -> None:
    with shop(ledger=tmp_path / "ledger", private_key=tmp_path / "key.pem") as driver:
        driver.paid(customer={**CUSTOMER, "taxpayer_id": "777888999"}, ip="192.0.2.10")
        people = {"first_name": "Jane", "last_name": "Roe", "address": "Elm Street 1"}
        driver.pay_card(recipient_billing_address=people, recipient={"email": "jane@example.org"})
        driver.pay_card(recipient_credit_card={"token": "tok-abcdefghij"})
        assert len(driver.find()) == 1
        shown = driver.control("GET", "ledger").text
    kept = (tmp_path / "ledger").read_text() + shown
    secrets = [CARD, "Jane", "JANE", "jane@", "DE00123456789", "777888999", "192.0.2.10"]
    for secret in [*secrets, "+1000000", "Elm", "tok-abc", "demo-secret"]:
        assert secret not in kept


def test_people_are_shown_masked_and_in_their_two_objects() -> None:
    asked = beyag_body(customer=CUSTOMER, ip="192.0.2.10")["request"]
    assert details_of_customer(asked) == {
        "customer": {"ip": "******2.10", "email": "************.org"},
        "billing_address": {
            "first_name": "****",
            "last_name": "***",
            "country": "**",
            "phone": "********4321",
        },
    }


def test_card_shows_its_first_and_its_last_four_digits() -> None:
    by_number = details_of_card(card_body()["request"])["credit_card"]
    assert by_number == {"holder": "**** ROE", "first_1": "4", "last_4": "0001", "token": None}
    by_token = details_of_card({"recipient_credit_card": {"token": "tok-abcdefghij"}})
    assert by_token["credit_card"] == {
        "holder": None,
        "first_1": None,
        "last_4": None,
        "token": "**********ghij",
    }


def test_numbers_are_read_exactly() -> None:
    assert str((read_json(b'{"a":2.50}') or {})["a"]) == "2.50"


@pytest.mark.parametrize(
    ("named", "told"),
    [("r-1", "r-1"), ("x" * 255, "x" * 255), (LONG, None), ("", None), (7, None), (None, None)],
)
def test_only_a_tracking_id_that_can_be_one_is_told(named: Any, told: str | None) -> None:
    assert tracking_id({"request": {"tracking_id": named}}) == told
    assert tracking_id({"request": named}) is None
