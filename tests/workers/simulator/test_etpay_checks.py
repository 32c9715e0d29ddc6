"""What the ETpay simulator takes for a create and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from workers.simulator.etpay_checks import at, is_rut

from .etpay_driver import FULL, EtpayDriver, etpays, order

Start = Callable[..., EtpayDriver]


@pytest.fixture
def start() -> Iterator[Start]:
    with etpays() as begin:
        yield begin


@pytest.fixture
def driver(start: Start) -> EtpayDriver:
    return start()


def changed(path: str, value: Any) -> dict[str, Any]:
    """An order with another value at a dotted path; None takes it away."""
    document = order()
    *outer, name = path.split(".")
    inner = at(document, ".".join(outer)) if outer else document
    inner[name] = value
    if value is None:
        del inner[name]
    return document


@pytest.mark.parametrize(
    ("body", "digit"),
    [
        ("11111111", "1"),
        ("22222222", "2"),
        ("12345678", "5"),
        ("10000013", "K"),
        ("20000000", "5"),
        ("7654321", "6"),
        ("1000005", "K"),
        ("10000004", "0"),
        ("999999", "K"),
    ],
)
def test_one_check_digit_only_makes_a_rut(body: str, digit: str) -> None:
    # The long way round: the digit that makes the weighted sum a multiple of eleven.
    weights = [2, 3, 4, 5, 6, 7, 2, 3]
    weighed = sum(int(each) * weight for each, weight in zip(body[::-1], weights, strict=False))
    makes_eleven = [n for n in range(11) if (weighed + n) % 11 == 0]
    assert makes_eleven == [10 if digit == "K" else int(digit)]
    assert [each for each in "0123456789Kk" if is_rut(body + each)] == [digit]


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("merchant_order_id", None, "PO-MISSING-FIELD"),
        ("merchant_order_id", "", "PO-INVALID-ORDER-ID"),
        ("merchant_order_id", "po 1", "PO-INVALID-ORDER-ID"),
        ("merchant_order_id", "po_1", "PO-INVALID-ORDER-ID"),
        ("merchant_order_id", "é", "PO-INVALID-ORDER-ID"),
        ("merchant_order_id", "a" * 65, "PO-INVALID-ORDER-ID"),
        ("merchant_order_id", 5, "PO-INVALID-ORDER-ID"),
        ("amount", None, "PO-MISSING-FIELD"),
        ("amount", 0, "PO-INVALID-AMOUNT"),
        ("amount", -1, "PO-INVALID-AMOUNT"),
        ("amount", 45990.0, "PO-INVALID-AMOUNT"),
        ("amount", 0.5, "PO-INVALID-AMOUNT"),
        ("amount", "45990", "PO-INVALID-AMOUNT"),
        ("amount", True, "PO-INVALID-AMOUNT"),
        ("amount", 100_000_001, "PO-INVALID-AMOUNT"),
        ("currency", None, "PO-MISSING-FIELD"),
        ("currency", "USD", "PO-INVALID-CURRENCY"),
        ("currency", "clp", "PO-INVALID-CURRENCY"),
        ("description", "a" * 31, "PO-INVALID-DESCRIPTION"),
        ("description", "uno, dos", "PO-INVALID-DESCRIPTION"),
        ("description", 5, "PO-INVALID-DESCRIPTION"),
        ("beneficiary", None, "PO-MISSING-FIELD"),
        ("beneficiary", [], "PO-MISSING-FIELD"),
        ("beneficiary.name", None, "PO-MISSING-FIELD"),
        ("beneficiary.name", " ", "PO-INVALID-NAME"),
        ("beneficiary.rut", None, "PO-MISSING-FIELD"),
        ("beneficiary.rut", "111111112", "PO-INVALID-RUT"),
        ("beneficiary.rut", "11.111.111-1", "PO-INVALID-RUT"),
        ("beneficiary.rut", "11111111-1", "PO-INVALID-RUT"),
        ("beneficiary.rut", "10000013k", "PO-INVALID-RUT"),
        ("beneficiary.rut", 111111111, "PO-INVALID-RUT"),
        ("beneficiary.email", "camila", "PO-INVALID-EMAIL"),
        ("account", None, "PO-MISSING-FIELD"),
        ("account.bank_code", None, "PO-MISSING-FIELD"),
        ("account.bank_code", "37", "PO-INVALID-BANK"),
        ("account.bank_code", "002", "PO-INVALID-BANK"),
        ("account.bank_code", "cl_estado", "PO-INVALID-BANK"),
        ("account.bank_code", [], "PO-INVALID-BANK"),
        ("account.type", None, "PO-MISSING-FIELD"),
        ("account.type", "Cuenta Corriente", "PO-INVALID-ACCOUNT-TYPE"),
        ("account.number", None, "PO-MISSING-FIELD"),
        ("account.number", "12-345", "PO-INVALID-ACCOUNT"),
        ("account.number", "1" * 21, "PO-INVALID-ACCOUNT"),
        ("account.number", 12345678, "PO-INVALID-ACCOUNT"),
        ("webhook_url", "ftp://x/", "PO-INVALID-WEBHOOK"),
        ("webhook_url", "/hooks", "PO-INVALID-WEBHOOK"),
    ],
)
def test_create_with_a_wrong_field_is_422_and_stores_nothing(
    driver: EtpayDriver, path: str, value: Any, code: str
) -> None:
    answer = driver.call("POST", "payouts", json=changed(path, value))
    assert answer.status_code == 422
    document = answer.json()
    assert (document["msg"], document["error"]["code"]) == ("error", code)
    assert document["error"]["message"].startswith(path)
    if str(value).strip():
        assert str(value) not in document["error"]["message"].removeprefix(path)
    assert driver.control("GET", "health").json()["invoices"] == 0
    assert driver.available() == FULL


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("merchant", None),
        ("merchant_order_id", "A" * 64),
        ("amount", 1),
        ("amount", 100_000_000),
        ("description", None),
        ("description", "a" * 30),
        ("beneficiary.email", None),
        ("beneficiary.rut", "10000013K"),
        *(("account.bank_code", code) for code in ("001", "730", "CL_ESTADO", "CL_TEST", "999")),
        *(("account.type", word) for word in ("cuenta_vista", "cuenta_ahorro")),
        ("webhook_url", "https://pay.shop.example/hooks/etpay/3f9c"),
    ],
)
def test_create_at_the_edge_is_taken(driver: EtpayDriver, path: str, value: Any) -> None:
    assert driver.call("POST", "payouts", json=changed(path, value)).status_code == 201


@pytest.mark.parametrize(
    ("bank_code", "number", "status"),
    [
        ("012", "11111111", 201),
        ("CL_ESTADO", "11111111", 201),
        ("012", "111111111", 422),
        ("012", "22222222", 422),
        ("037", "11111111", 422),
    ],
)
def test_cuenta_rut_is_the_rut_without_its_check_digit_at_banco_estado(
    driver: EtpayDriver, bank_code: str, number: str, status: int
) -> None:
    account = {"type": "cuenta_rut", "bank_code": bank_code, "number": number}
    assert driver.create(account=account).status_code == status


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"amount":NaN}', b"[" * 100_000]
)
def test_create_that_cannot_be_read_is_400(driver: EtpayDriver, body: bytes) -> None:
    answer = driver.call("POST", "payouts", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BAD_REQUEST")
    assert driver.calls("create") == 1


def test_create_for_another_merchant_is_403(driver: EtpayDriver) -> None:
    answer = driver.create(merchant={"code": "cl_other"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")
    assert driver.payouts() == []


def test_refusals_can_be_400_and_without_a_code(start: Start) -> None:
    driver = start(refused_status=400, error_codes=False, duplicates="conflict_409")
    answer = driver.create(amount=0)
    assert answer.status_code == 400
    assert answer.json() == {"msg": "error", "error": {"message": "amount is not valid."}}
    driver.created()
    assert list(driver.create().json()["error"]) == ["message"]
    # Only payouts' codes are a feature to be switched on.
    driver.token = "expired"
    assert driver.create().json()["error"]["code"] == "UNAUTHORIZED"


def test_ceiling_of_amounts_is_a_setting(start: Start) -> None:
    driver = start(amount_max=500)
    assert [driver.create(amount=amount).status_code for amount in (500, 501)] == [201, 422]
