"""Payouts at the Echelon Pay simulator: what is taken, what is shown, and the money they move."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import pytest

from .echelon_driver import START, Driver, echelon

FULL = "1000000000000"
# Less 10000 and the fee of 2500.
LESS = "999999987500.00"


@pytest.fixture
def merchant() -> Iterator[Driver]:
    with echelon(settle_s=60) as driver:
        yield driver


def amounts(funds: tuple[str, str]) -> tuple[Decimal, Decimal]:
    return Decimal(funds[0]), Decimal(funds[1])


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "NOT_FOUND"),
        ("GET", "/payouts", 404, "NOT_FOUND"),
        ("POST", "/payouts/", 404, "NOT_FOUND"),
        ("POST", "/v2/payouts/PO-1", 404, "NOT_FOUND"),
        ("POST", "/payouts/PO-1/cancel", 404, "NOT_FOUND"),
        ("DELETE", "/payouts/PO-1", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/auth-tokens", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/payment-operators", 405, "METHOD_NOT_ALLOWED"),
    ],
)
def test_wrong_place_or_method_is_told_before_any_token(
    merchant: Driver, method: str, path: str, status: int, code: str
) -> None:
    answer = merchant.send(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_create_is_taken_without_a_status(merchant: Driver) -> None:
    answer = merchant.create()
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json() == {
        "paymentRequested": {"money": {"amount": 10000, "currencyCode": "IDR"}},
        "paymentMethodResponse": {"paymentMethodCode": "BANK_TRANSFER", "idPayout": "PO-1"},
    }


def test_payout_is_shown_from_pending_to_success(merchant: Driver) -> None:
    merchant.created()
    shown = merchant.read()
    assert shown.status_code == 200
    requested = {"money": {"amount": 10000, "currencyCode": "IDR"}}
    response = {"paymentMethodCode": "BANK_TRANSFER", "idPayout": "PO-1"}
    created_at = "2023-11-14T22:13:20.000Z"
    assert shown.json() == {
        "paymentRequested": requested,
        "process": {"status": "PENDING", "createdAt": created_at, "isTest": True},
        "paymentMethodResponse": response,
    }
    merchant.advance(59)
    assert merchant.status() == "PENDING"
    merchant.advance(1)
    assert merchant.read().json() == {
        "paymentRequested": requested,
        "process": {
            "status": "SUCCESS",
            "createdAt": created_at,
            "processedAt": "2023-11-14T22:14:20.000Z",
            "isTest": True,
        },
        "fee": {"amount": 2500, "currencyCode": "IDR"},
        "paymentMethodResponse": response,
    }


@pytest.mark.parametrize(
    ("currency", "amount", "text", "fee"),
    [
        ("IDR", 10000, b'"amount":10000,', {"amount": 2500, "currencyCode": "IDR"}),
        ("USD", 42.05, b'"amount":42.05,', {"amount": 0.1, "currencyCode": "USD"}),
        ("USD", 42.50, b'"amount":42.5,', {"amount": 0.1, "currencyCode": "USD"}),
        ("INR", 99, b'"amount":99,', None),
    ],
)
def test_amounts_are_exact_numbers_and_a_fee_stands_only_where_there_is_one(
    merchant: Driver, currency: str, amount: float, text: bytes, fee: Any
) -> None:
    answer = merchant.create(currency=currency, amount=amount)
    assert text in answer.content
    merchant.advance(60)
    read = merchant.read()
    assert text in read.content
    assert read.json().get("fee") == fee


@pytest.mark.parametrize(("live", "is_test"), [(False, True), (True, False)])
@pytest.mark.parametrize("flipped", [False, True])
def test_mode_is_the_account_s_unless_a_fault_says_otherwise(
    live: bool, is_test: bool, flipped: bool
) -> None:
    with echelon(live=live) as driver:
        if flipped:
            driver.fault("mode-flipped", "PO-1")
        driver.created()
        assert driver.process()["isTest"] is (is_test is not flipped)


@pytest.mark.parametrize("id_payout", ["PO_1", "a" * 37, "PO%2F1", "PO%201", "P%C3%96", "%FF"])
def test_id_of_other_letters_or_of_more_than_36_is_400(merchant: Driver, id_payout: str) -> None:
    plain = unquote(id_payout)
    token = merchant.ask_token(f"POST /payouts/{plain}").json()["token"]
    answer = merchant.create(id_payout, token=token)
    assert (answer.status_code, answer.json()["code"]) == (400, "ATTRIBUTE_VALUE_INVALID")
    assert merchant.create("a" * 36).status_code == 200


@pytest.mark.parametrize("id_payout", ["PO-2", "PO_2"])
def test_unknown_payout_is_404(merchant: Driver, id_payout: str) -> None:
    merchant.created()
    answer = merchant.read(id_payout)
    assert (answer.status_code, answer.json()["code"]) == (404, "ENTITY_NOT_FOUND")


@pytest.mark.parametrize(
    ("duplicates", "status", "code"),
    [
        ("conflict_409", 409, "ENTITY_DUPLICATED"),
        ("error_400", 400, "ENTITY_DUPLICATED"),
        ("return_existing", 200, None),
    ],
)
@pytest.mark.parametrize("ended", [False, True])
def test_second_create_of_an_id_is_never_a_second_debit(
    duplicates: str, status: int, code: str | None, ended: bool
) -> None:
    with echelon(duplicates=duplicates, settle_s=60) as driver:
        first = driver.create(account="1110001").json()
        if ended:  # a failed payout keeps its id
            driver.advance(60)
        answer = driver.create(amount=777)
        assert (answer.status_code, answer.json().get("code")) == (status, code)
        if code is None:
            assert answer.json() == first
        (invoice,) = driver.ledger()["invoices"]
        assert (invoice["amount"], invoice["releases"]) == ("10000.00", [START])
        assert driver.ledger()["creates"] == 2
        left = (FULL, "0") if ended else (LESS, "12500")
        assert amounts(driver.funds()) == amounts(left)


def test_pay_again_is_harsher_and_debits_a_second_payout() -> None:
    with echelon(duplicates="pay-again", settle_s=60) as driver:
        driver.created()
        driver.created(amount=777)
        first, second = driver.ledger()["invoices"]
        assert (first["id"], first["releases"], second["releases"]) == ("PO-1", [START], [START])
        assert second["id"].startswith("PO-1~")
        assert amounts(driver.funds()) == (Decimal("999999984223"), Decimal(15777))
        assert driver.read().json()["paymentRequested"]["money"]["amount"] == 10000


def test_invalid_repeat_is_invalid_before_it_is_a_repeat(merchant: Driver) -> None:
    merchant.created()
    answer = merchant.create(amount=0)
    assert (answer.status_code, answer.json()["code"]) == (400, "ATTRIBUTE_VALUE_INVALID")


@pytest.mark.parametrize(("options", "fault"), [({"visibility_lag_s": 30}, ""), ({}, "hide=30")])
def test_new_payout_is_hidden_for_the_lag_and_known_all_the_same(
    options: dict[str, Any], fault: str
) -> None:
    with echelon(**options) as driver:
        if fault:
            driver.fault(fault)
        driver.created()
        assert driver.read().status_code == 404
        assert driver.create().status_code == 409
        driver.advance(29)
        assert driver.read().status_code == 404
        driver.advance(1)
        assert driver.status() == "SUCCESS"


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("", ["PENDING", "SUCCESS"]),
        ("status=FAILED", ["PENDING", "FAILED"]),
        ("status=EXPIRED", ["PENDING", "EXPIRED"]),
        ("status=PENDING", ["PENDING"]),
        ("status=HALF_BAKED", ["PENDING", "HALF_BAKED"]),
        ("path=ACCEPTED>PROCESSING>SUCCESS", ["PENDING", "ACCEPTED", "PROCESSING", "SUCCESS"]),
        ("path=SUCCESS>FAILED", ["PENDING", "SUCCESS", "FAILED"]),
        ("returned=20", ["PENDING", "SUCCESS", "FAILED"]),
        ("settle=3", ["SUCCESS"]),
    ],
)
def test_payout_walks_the_way_it_was_told(merchant: Driver, fault: str, seen: list[str]) -> None:
    if fault:
        merchant.fault(fault, "PO-1")
    merchant.created()
    merchant.advance(5)
    walked: list[str] = []
    for _ in range(30):
        status = merchant.status()
        if status not in walked[-1:]:
            walked.append(status)
        merchant.advance(5)
    assert walked == seen


@pytest.mark.parametrize(
    ("fault", "during", "after"),
    [
        ("", (LESS, "12500"), (LESS, "0")),
        ("status=FAILED", (LESS, "12500"), (FULL, "0")),
        ("status=EXPIRED", (LESS, "12500"), (FULL, "0")),
        ("status=REJECTED", (LESS, "12500"), (FULL, "0")),
        ("status=CANCELLED", (LESS, "12500"), (FULL, "0")),
        ("status=CANCELED", (LESS, "12500"), (FULL, "0")),
        ("status=PENDING", (LESS, "12500"), (LESS, "12500")),
        ("status=HALF_BAKED", (LESS, "12500"), (LESS, "12500")),
        ("returned=20", (LESS, "12500"), (FULL, "0")),
    ],
)
def test_money_moves_with_the_status(
    merchant: Driver, fault: str, during: tuple[str, str], after: tuple[str, str]
) -> None:
    if fault:
        merchant.fault(fault, "PO-1")
    assert amounts(merchant.funds()) == amounts((FULL, "0"))
    merchant.created()
    assert amounts(merchant.funds()) == amounts(during)
    merchant.advance(100)
    assert amounts(merchant.funds()) == amounts(after)


@pytest.mark.parametrize(
    ("account", "at_60", "at_120"),
    [
        ("1110001", "FAILED", "FAILED"),
        ("1110002", "PENDING", "PENDING"),
        ("1110003", "SUCCESS", "FAILED"),
        ("1110004", "SUCCESS", "SUCCESS"),
        ("0001111", "SUCCESS", "SUCCESS"),
    ],
)
def test_end_of_the_account_number_tells_the_way(
    merchant: Driver, account: str, at_60: str, at_120: str
) -> None:
    merchant.created(account=account)
    assert merchant.status() == "PENDING"
    merchant.advance(60)
    assert merchant.status() == at_60
    merchant.advance(60)
    assert merchant.status() == at_120
    merchant.advance(10_000)
    assert merchant.status() == at_120


def test_fault_comes_before_the_end_of_the_account_number(merchant: Driver) -> None:
    merchant.fault("status=EXPIRED", "PO-1")
    merchant.created(account="1110003")
    merchant.advance(60)
    assert merchant.status() == "EXPIRED"


@pytest.mark.parametrize(
    ("style", "fault", "code"),
    [
        ("object", "status=FAILED", "CHANNEL_UNAVAILABLE"),
        ("object", "status=FAILED resolution=CHANNEL_LIMIT", "CHANNEL_LIMIT"),
        ("object", "status=EXPIRED", "ENTITY_EXPIRED"),
        ("object", "status=REJECTED", "SYSTEM"),
        ("list", "status=FAILED", "CHANNEL_UNAVAILABLE"),
        ("absent", "status=FAILED", None),
    ],
)
def test_failure_tells_its_reason_in_the_form_that_is_asked_for(
    style: str, fault: str, code: str | None
) -> None:
    with echelon(failure_reasons=style, settle_s=60) as driver:
        driver.fault(fault)
        driver.created()
        assert "failureReasons" not in driver.process()
        driver.advance(60)
        read = driver.read().json()
        assert "fee" not in read
        if code is None:
            assert "failureReasons" not in read["process"]
            return
        told = read["process"]["failureReasons"]
        (reason,) = told if style == "list" else [told]
        assert set(reason) == {"failedAt", "failureReasonCode", "message"}
        assert reason["failureReasonCode"] == code
        assert reason["failedAt"] == "2023-11-14T22:14:20.000Z" == read["process"]["processedAt"]


@pytest.mark.parametrize("low_balance", ["400", "422"])
def test_balance_that_is_too_low_for_amount_and_fee_is_a_refusal(low_balance: str) -> None:
    with echelon(low_balance=low_balance, balances={"IDR": Decimal(12499)}) as driver:
        answer = driver.create()
        assert answer.status_code == int(low_balance)
        assert answer.json()["code"] == "BALANCE_INSUFFICIENT"
        assert driver.ledger()["invoices"] == []
        assert driver.read().status_code == 404
        driver.control("POST", "balances", {"IDR": "12500"})
        assert driver.create().status_code == 200
        assert amounts(driver.funds()) == amounts(("0", "12500"))


def test_balance_that_is_too_low_fails_the_payout_where_it_is_told_later() -> None:
    with echelon(low_balance="failed", balances={"IDR": Decimal(12499)}) as driver:
        driver.created()
        assert driver.status() == "PENDING"
        driver.advance(1)
        reason = driver.process()["failureReasons"]
        assert (driver.status(), reason["failureReasonCode"]) == ("FAILED", "BALANCE_INSUFFICIENT")
        assert driver.ledger()["invoices"][0]["releases"] == []
        assert amounts(driver.funds()) == amounts(("12499", "0"))


@pytest.mark.parametrize("low_balance", ["422", "failed"])
def test_currency_without_a_balance_is_400(low_balance: Any) -> None:
    with echelon(low_balance=low_balance) as driver:
        answer = driver.create(currency="EUR")
        assert (answer.status_code, answer.json()["code"]) == (400, "ATTRIBUTE_VALUE_INVALID")
        assert driver.ledger()["invoices"] == []


@pytest.mark.parametrize(
    ("fault", "money"),
    [
        ("amount=9999", {"amount": 9999, "currencyCode": "IDR"}),
        ("currency=USD", {"amount": 10000, "currencyCode": "USD"}),
    ],
)
def test_answer_can_differ_from_what_was_sent(
    merchant: Driver, fault: str, money: dict[str, Any]
) -> None:
    merchant.fault(fault, "PO-1")
    assert merchant.create().json()["paymentRequested"]["money"] == money
    assert merchant.read().json()["paymentRequested"]["money"] == money
    merchant.created("PO-2")


def test_fees_are_those_of_the_options() -> None:
    with echelon(fees={"USD": Decimal("1.25")}) as driver:
        driver.created("PO-1")
        driver.created("PO-2", currency="USD", amount=5)
        driver.advance(1)
        assert "fee" not in driver.read("PO-1").json()
        assert driver.read("PO-2").json()["fee"] == {"amount": 1.25, "currencyCode": "USD"}
        assert driver.ledger("PO-2")["invoices"][0]["paid_out"] == "6.25"


def test_operators_are_the_two_of_the_page(merchant: Driver) -> None:
    answer = merchant.call("GET", "/payment-operators")
    assert answer.status_code == 200
    assert answer.json() == {
        "data": [
            {"code": "BNK_014", "name": "Bank Satu"},
            {"code": "BNK_000", "name": "Test bank"},
        ]
    }


def test_script_moves_a_payout_past_its_plan(merchant: Driver) -> None:
    merchant.created()
    merchant.control("POST", "invoices/PO-1", {"status": "REJECTED", "resolution": "IP_DENIED"})
    process = merchant.process()
    assert process["status"] == "REJECTED"
    assert process["failureReasons"]["failureReasonCode"] == "IP_DENIED"
    assert amounts(merchant.funds()) == amounts((FULL, "0"))
    merchant.advance(1000)
    assert merchant.status() == "REJECTED"


def test_script_that_pays_what_was_never_released_counts_as_a_release() -> None:
    with echelon(low_balance="failed", balances={"IDR": Decimal(0)}) as driver:
        driver.created()
        driver.control("POST", "invoices/PO-1", {"status": "SUCCESS"})
        assert driver.ledger()["invoices"][0]["releases"] == [START]


def test_audit_shows_each_movement_under_the_second_name_of_the_control_api(
    merchant: Driver,
) -> None:
    merchant.created(account="1110003")
    merchant.advance(120)
    told = merchant.http.get(merchant.running.public_base_url + "/__sim/ledger").json()
    (invoice,) = told[0]["invoices"]
    assert [each["status"] for each in invoice["history"]] == ["PENDING", "SUCCESS", "FAILED"]
    assert (invoice["writeoff"], invoice["releases"]) == ("12500.00", [START])
