"""The paths of the Ecart Pay simulator: who may call, what is taken, what a repeat does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from .ecart_driver import Driver, starter

AT = "2031-01-02T12:00:00.889Z"
LATER = "2031-01-05T15:00:00.000Z"
PHRASES = {400: "Bad Request", 404: "Not Found", 409: "Conflict", 422: "Unprocessable Entity"}


@pytest.fixture
def start() -> Iterator[Callable[..., Driver]]:
    with starter() as begin:
        yield begin


@pytest.fixture
def driver(start: Callable[..., Driver]) -> Driver:
    return start()


def refusal(answer: httpx.Response) -> tuple[int, Any]:
    """Status and code of a refusal in the form of section 10."""
    document = answer.json()
    assert document["statusCode"] == answer.status_code
    assert set(document) <= {"statusCode", "error", "message", "code"}
    if answer.status_code in PHRASES:
        # Python gave 422 another name in 3.13.
        assert document["error"] in (PHRASES[answer.status_code], "Unprocessable Content")
    return answer.status_code, document.get("code")


PATHS = [
    ("POST", "/api/payouts"),
    ("GET", "/api/payouts?reference_id=r-1"),
    ("GET", "/api/payouts/68a1c0d3f6ea776ee3b37498"),
    ("PUT", "/api/payouts/68a1c0d3f6ea776ee3b37498/confirm"),
    ("GET", "/api/transactions"),
    ("GET", "/api/transactions/summary"),
    ("GET", "/api/transactions/68a1c0d3f6ea776ee3b37498"),
    ("POST", "/api/webhooks"),
    ("GET", "/api/authorizations/credentials/webhooks"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_every_call_wants_a_token(driver: Driver, method: str, path: str) -> None:
    for driver.authorization in ("", "wrong", "Basic cHViX2RlbW86cHJpdl9kZW1v"):
        answer = driver.call(method, path)
        assert answer.status_code == 401
        assert answer.json() == {
            "statusCode": 401,
            "error": "Unauthorized",
            "message": "El token no es válido.",
            "code": 114,
        }


@pytest.mark.parametrize(
    ("cookie", "message"),
    [
        ("lang=en", "The account does not exist."),
        ("a=b; lang=en", "The account does not exist."),
        ("lang=es", "La cuenta no existe."),
        ("xlang=en", "La cuenta no existe."),
    ],
)
def test_texts_are_spanish_unless_the_cookie_says_english(
    driver: Driver, cookie: str, message: str
) -> None:
    body = {"email": "unknown@example.com", "reference_id": "r", "amount": 1, "currency": "MXN"}
    answer = driver.call("POST", "/api/payouts", json=body, headers={"Cookie": cookie})
    assert answer.json()["message"] == message


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, None),
        ("GET", "/payouts", 404, None),
        ("GET", "/api/nowhere", 404, None),
        ("GET", "/api/", 404, None),
        ("DELETE", "/api/payouts/68a1c0d3f6ea776ee3b37498", 404, None),
        ("PUT", "/api/payouts/68a1c0d3f6ea776ee3b37498/confirmation", 404, None),
        ("GET", "/api/transactions/balance-details", 404, None),
        ("PUT", "/api/payouts/68a1c0d3f6ea776ee3b37498", 405, None),
        ("GET", "/api/payouts/68a1c0d3f6ea776ee3b37498", 404, 9007),
        ("GET", "/api/payouts/x", 404, 9007),
        ("PUT", "/api/payouts/68a1c0d3f6ea776ee3b37498/confirm", 404, 9007),
        ("GET", "/api/transactions/68a1c0d3f6ea776ee3b37498", 404, 9007),
        ("GET", "/api/transactions/x", 404, 9007),
    ],
)
def test_wrong_path_has_no_code_and_an_unknown_payout_has_one(
    driver: Driver, method: str, path: str, status: int, code: int | None
) -> None:
    assert refusal(driver.call(method, path)) == (status, code)


# Creating.


def test_payout_without_confirmation_is_paid_in_the_answer(driver: Driver) -> None:
    payout = driver.created("po-2031-000017")
    ids = [payout.pop(name) for name in ("id", "authorization_id", "reference")]
    assert all(re.fullmatch("[0-9a-f]{24}", each) for each in ids)
    assert len(set(ids)) == 3
    assert payout == {
        "account_id": "67dfab0626e963414d247523",
        "reference_id": "po-2031-000017",
        "status": "paid",
        "currency": "MXN",
        "amount": 250.5,
        "fee": 0,
        "exchange": 1,
        "available_at": AT,
        "require_confirmation": False,
        "created_at": AT,
        "updated_at": AT,
    }
    assert driver.releases("po-2031-000017") == 1


def test_payout_with_confirmation_is_pending_and_nothing_is_released(driver: Driver) -> None:
    payout = driver.created(require_confirmation=True, available_at=LATER)
    assert (payout["status"], payout["require_confirmation"]) == ("pending", True)
    assert payout["available_at"] == LATER
    driver.advance(3000)  # the token is still good
    assert driver.read(payout["id"])["status"] == "pending"
    assert driver.releases() == 0


@pytest.mark.parametrize(
    ("amount", "kept"),
    [(10, "10"), (0.01, "0.01"), (2.5, "2.5"), (250.50, "250.5"), (999999.99, "999999.99")],
)
def test_amount_comes_back_exactly(driver: Driver, amount: float, kept: str) -> None:
    answer = driver.create(amount=amount)
    assert f'"amount":{kept},' in answer.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"email": ...},
        {"email": ""},
        {"email": "luis"},
        {"email": "luis@@example.com"},
        {"email": 7},
        {"reference_id": ...},
        {"reference_id": ""},
        {"reference_id": 17},
        {"reference_id": "a b"},
        {"reference_id": "r" * 65},
        {"amount": ...},
        {"amount": 0},
        {"amount": -1},
        {"amount": "250.50"},
        {"amount": True},
        {"amount": 2.505},
        {"amount": 1e300},
        {"currency": ...},
        {"currency": "mxn"},
        {"currency": "JPY"},
        {"currency": ["MXN"]},
        {"require_confirmation": "true"},
        {"require_confirmation": 1},
        {"available_at": LATER},
        {"require_confirmation": True, "available_at": "2031-01-05"},
        {"require_confirmation": True, "available_at": "2031-13-05T15:00:00.000Z"},
        {"require_confirmation": True, "available_at": 1925121600},
        {"items": {"name": "x"}},
    ],
)
def test_wrong_field_is_400_and_nothing_is_stored(driver: Driver, wrong: dict[str, Any]) -> None:
    asked = {"reference_id": "r-1", **wrong}
    answer = driver.create(**asked)
    assert refusal(answer) == (400, 9005)
    assert list(wrong)[-1] in answer.json()["message"]
    assert driver.control("GET", "health").json()["invoices"] == 0


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'"x"', b'{"amount": NaN}', b"\xff", b"9" * 5000]
)
def test_unreadable_body_is_400(driver: Driver, body: bytes) -> None:
    assert refusal(driver.call("POST", "/api/payouts", content=body)) == (400, 9005)


def test_whole_amounts_only_where_the_account_says_so(start: Callable[..., Driver]) -> None:
    driver = start(amount_decimals=0)
    assert refusal(driver.create(amount=250.5)) == (400, 9005)
    assert driver.created(amount=250)["amount"] == 250


@pytest.mark.parametrize(
    ("recipients", "email", "known"),
    [
        (("*@example.com",), "luis@example.com", True),
        (("*@example.com",), "LUIS@Example.com", True),
        (("*@example.com",), "luis@example.org", False),
        (("*@example.com",), "unknown@example.com", False),
        (("*@example.com",), "Unknown.7@example.com", False),
        (("luis@example.com", "ana@example.org"), "ana@example.org", True),
        (("luis@example.com", "ana@example.org"), "eva@example.org", False),
    ],
)
def test_unknown_recipient_is_404_with_a_code(
    start: Callable[..., Driver], recipients: tuple[str, ...], email: str, known: bool
) -> None:
    driver = start(recipients=recipients)
    answer = driver.create(email=email)
    if known:
        assert answer.status_code == 200
    else:
        assert refusal(answer) == (404, 9004)
        assert driver.ledger()["invoices"] == []


def test_refused_reference_can_be_used_afterwards(driver: Driver) -> None:
    assert driver.create(email="unknown@example.com").status_code == 404
    assert driver.created()["status"] == "paid"


# Repeats.


@pytest.mark.parametrize("status", ["409", "400", "422"])
def test_used_reference_is_refused_with_the_status_of_the_switch(
    start: Callable[..., Driver], status: str
) -> None:
    driver = start(duplicate_status=status)
    first = driver.created()
    for again in ({}, {"amount": 30}, {"email": "ana@example.com"}, {"require_confirmation": True}):
        assert refusal(driver.create(**again)) == (int(status), 9001)
    assert (len(driver.ledger()["invoices"]), driver.releases()) == (1, 1)
    assert driver.read(first["id"]) == first


def test_used_reference_stays_used_when_its_payout_failed(driver: Driver) -> None:
    assert driver.created(email="luis+failed@example.com")["status"] == "failed"
    assert refusal(driver.create()) == (409, 9001)


def test_second_payout_is_paid_where_the_switch_says_pay_again(
    start: Callable[..., Driver],
) -> None:
    driver = start(duplicate_status="pay-again")
    first, second = driver.created(), driver.created()
    assert first["id"] != second["id"]
    assert driver.releases() == 2
    assert driver.balance() == (9_999_499, 0)
    assert [each["id"] for each in driver.find()["data"]] == [second["id"], first["id"]]


# Confirming.


def test_confirmation_credits_at_once(driver: Driver) -> None:
    payout_id = driver.pending()
    driver.advance(60)
    confirmed = driver.confirm(payout_id)
    assert confirmed.status_code == 200
    assert confirmed.json()["status"] == "paid"
    assert confirmed.json()["available_at"] == "2031-01-02T12:01:00.889Z"
    assert confirmed.json()["updated_at"] == "2031-01-02T12:01:00.889Z"
    assert driver.releases() == 1


def test_confirmation_without_a_body_credits_too(driver: Driver) -> None:
    answer = driver.call("PUT", f"/api/payouts/{driver.pending()}/confirm")
    assert answer.json()["status"] == "paid"


def test_confirmation_for_later_is_paid_at_its_time(driver: Driver) -> None:
    payout_id = driver.pending()
    at = "2031-01-02T12:10:00.123Z"
    scheduled = driver.confirm(payout_id, at).json()
    assert (scheduled["status"], scheduled["available_at"]) == ("pending", at)
    driver.advance(599.2)
    assert driver.read(payout_id)["status"] == "pending"
    driver.advance(0.1)
    paid = driver.read(payout_id)
    assert (paid["status"], paid["available_at"], paid["updated_at"]) == ("paid", at, at)
    assert driver.releases() == 1


def test_confirmation_for_the_past_credits_now(driver: Driver) -> None:
    paid = driver.confirm(driver.pending(), "2030-01-01T00:00:00.000Z").json()
    assert (paid["status"], paid["available_at"]) == ("paid", AT)


@pytest.mark.parametrize("available_at", ["soon", "2031-01-05", 7, "2031-02-30T00:00:00.000Z"])
def test_unreadable_time_of_a_confirmation_is_400(driver: Driver, available_at: Any) -> None:
    payout_id = driver.pending()
    assert refusal(driver.confirm(payout_id, available_at)) == (400, 9005)
    assert driver.read(payout_id)["status"] == "pending"


def test_unreadable_confirmation_is_400(driver: Driver) -> None:
    payout_id = driver.pending()
    assert refusal(driver.confirm(payout_id, json=[])) == (400, 9005)
    assert driver.releases() == 0


def test_only_what_asked_for_it_can_be_confirmed(driver: Driver) -> None:
    assert refusal(driver.confirm(driver.created()["id"])) == (400, 9006)
    assert driver.releases() == 1


@pytest.mark.parametrize("available_at", [None, LATER])
@pytest.mark.parametrize("policy", ["200", "400"])
def test_repeated_confirmation_never_credits_again(
    start: Callable[..., Driver], policy: str, available_at: str | None
) -> None:
    driver = start(repeat_confirm=policy)
    payout_id = driver.pending()
    first = driver.confirm(payout_id, available_at)
    again = driver.confirm(payout_id)
    assert again.status_code == int(policy)
    if policy == "200":
        assert again.json() == first.json()
    else:
        assert refusal(again) == (400, 9006)
    assert driver.releases() == 1
    driver.advance(3000)  # the token is still good
    assert driver.read(payout_id)["status"] == ("pending" if available_at else "paid")
    assert driver.releases() == 1


@pytest.mark.parametrize("status", ["cancelled", "expired", "failed"])
def test_closed_payout_cannot_be_confirmed(driver: Driver, status: str) -> None:
    payout_id = driver.pending()
    driver.control("POST", f"invoices/{payout_id}", {"status": status})
    assert refusal(driver.confirm(payout_id)) == (400, 9006)
    assert (driver.read(payout_id)["status"], driver.releases()) == (status, 0)


def test_one_confirmation_is_ignored_where_a_fault_says_so(driver: Driver) -> None:
    driver.fault("release-ignored", "r-1")
    payout_id = driver.pending()
    assert driver.confirm(payout_id).json()["status"] == "pending"
    assert driver.confirm(payout_id).json()["status"] == "paid"
    assert driver.releases() == 1


def test_payout_is_released_without_confirmation_where_a_fault_says_so(driver: Driver) -> None:
    driver.fault("auto", "r-1")
    assert driver.created(require_confirmation=True)["status"] == "paid"
    assert driver.releases() == 1
