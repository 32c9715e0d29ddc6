"""The ETpay simulator's statuses with the money they move, and its webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from .conftest import Receiver
from .etpay_driver import FULL, START, EtpayDriver, etpays

Start = Callable[..., EtpayDriver]
Until = Callable[[Callable[[], Any]], Any]
TAKEN = FULL - 45990


@pytest.fixture
def start() -> Iterator[Start]:
    with etpays() as begin:
        yield begin


def walk(driver: EtpayDriver, payout_id: str, *, seconds: int) -> list[tuple[str, int]]:
    """Each status with the balance beside it, read every second."""
    seen: list[tuple[str, int]] = []
    for _ in range(seconds + 1):
        stand = (driver.read(payout_id)["status"], driver.available())
        if stand not in seen[-1:]:
            seen.append(stand)
        driver.advance(1)
    return seen


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", [("pending", TAKEN), ("completed", TAKEN)]),
        *(
            (f"status={word}", [("pending", TAKEN), (word, TAKEN)])
            for word in ("processing", "in_progress", "approved", "paid", "success", "COMPLETED")
        ),
        *(
            (f"status={word}", [("pending", TAKEN), (word, FULL)])
            for word in ("rejected", "failed", "error", "cancelled", "canceled", "REJECTED")
        ),
        ("status=half_baked", [("pending", TAKEN), ("half_baked", TAKEN)]),
        (
            "path=processing>approved>paid",
            [("pending", TAKEN), ("processing", TAKEN), ("approved", TAKEN), ("paid", TAKEN)],
        ),
        ("returned=4", [("pending", TAKEN), ("completed", TAKEN), ("returned", FULL)]),
        ("path=paid>reversed", [("pending", TAKEN), ("paid", TAKEN), ("reversed", FULL)]),
        ("path=paid>rejected", [("pending", TAKEN), ("paid", TAKEN), ("rejected", FULL)]),
        ("release=3", [("pending", TAKEN), ("completed", TAKEN)]),
    ],
)
def test_payout_walks_the_way_it_was_told_and_the_money_with_it(
    start: Start, words: str, expected: list[tuple[str, int]]
) -> None:
    driver = start(settle_s=6)
    driver.harm(words)
    assert walk(driver, driver.created(), seconds=12) == expected


def test_settle_time_is_a_setting_and_a_word(start: Start) -> None:
    driver = start(settle_s=10)
    slow = driver.created("po-1")
    driver.harm("settle=3", "po-2")
    quick = driver.created("po-2")
    seen = []
    for _ in range(4):
        driver.advance(2.5)
        seen.append((driver.read(slow)["status"], driver.read(quick)["status"]))
    assert seen == [
        ("pending", "pending"),
        ("pending", "completed"),
        ("pending", "completed"),
        ("completed", "completed"),
    ]
    at_once = start(settle_s=0).create().json()["payout"]
    assert at_once["status"] == "completed"


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        ({"number": "55550001"}, [("pending", TAKEN), ("rejected", FULL)]),
        ({"number": "55550002"}, [("pending", TAKEN)]),
        (
            {"number": "55550003"},
            [("pending", TAKEN), ("completed", TAKEN), ("returned", FULL)],
        ),
        (
            {"number": "55550001", "bank_code": "CL_TEST"},
            [("pending", TAKEN), ("completed", TAKEN)],
        ),
        ({"number": "55550001", "bank_code": "999"}, [("pending", TAKEN), ("completed", TAKEN)]),
        ({"number": "00015555"}, [("pending", TAKEN), ("completed", TAKEN)]),
    ],
)
def test_account_decides_how_a_payout_ends(
    start: Start, account: dict[str, str], expected: list[tuple[str, int]]
) -> None:
    driver = start(settle_s=4)
    assert walk(driver, driver.created(account=account), seconds=8) == expected


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("status=rejected", "PO-BANK-REJECTED"),
        ("status=cancelled", "PO-CANCELLED"),
        ("returned=0", "PO-RETURNED"),
        ("status=rejected resolution=R07", "R07"),
        ("status=completed resolution=R07", None),
        ("status=processing", None),
    ],
)
def test_failed_payout_says_why(start: Start, words: str, code: str | None) -> None:
    driver = start(settle_s=1)
    driver.harm(words)
    payout_id = driver.created()
    assert driver.read(payout_id)["error_code"] is None
    driver.advance(1)
    read = driver.read(payout_id)
    assert read["error_code"] == code
    assert bool(read["error_message"]) == bool(code)


def test_failed_payout_has_no_code_where_codes_are_switched_off(start: Start) -> None:
    driver = start(settle_s=0, error_codes=False)
    read = driver.read(driver.created(account={"number": "55550001"}))
    assert (read["error_code"], read["error_message"]) == (None, "The bank refused the payout.")


def test_bank_can_return_a_paid_payout_by_control_call(start: Start) -> None:
    driver = start(settle_s=0)
    payout_id = driver.created()
    driver.advance(100)
    assert driver.available() == TAKEN
    moved = driver.control("POST", f"invoices/{payout_id}", {"status": "returned"})
    assert moved.json()["status"] == "returned"
    read = driver.read(payout_id)
    assert (read["status"], read["updated_at"]) == ("returned", "2023-11-14T22:15:00Z")
    assert driver.available() == FULL


# Webhooks.


def told(receiver: Receiver) -> list[Any]:
    return [json.loads(body) for _, body in receiver.received]


def statuses(receiver: Receiver) -> list[str]:
    return [each["payout"]["status"] for each in told(receiver)]


def test_final_state_is_told_as_the_status_call_shows_it(
    start: Start, receiver: Receiver, until: Until
) -> None:
    driver = start(settle_s=5)
    driver.harm("path=processing>completed")
    payout_id = driver.created(webhook_url=receiver.url)
    driver.advance(4)
    assert driver.control("GET", "callbacks").json() == []
    driver.advance(1)
    until(lambda: receiver.received)
    assert told(receiver) == [{"payout": driver.read(payout_id)}]
    assert statuses(receiver) == ["completed"]


def test_money_that_came_back_is_told_too(start: Start, receiver: Receiver, until: Until) -> None:
    driver = start(settle_s=5, webhook_url=receiver.url)
    driver.created(account={"number": "55550003"})
    for seconds, expected in ((2.5, ["completed"]), (2.5, ["completed", "returned"])):
        driver.advance(seconds)
        until(partial(lambda told: statuses(receiver) == told, expected))


def test_address_of_the_payout_comes_before_that_of_the_merchant(
    start: Start, receiver: Receiver, until: Until
) -> None:
    driver = start(settle_s=0, webhook_url="http://127.0.0.1:9/nobody")
    driver.created(webhook_url=receiver.url)
    until(lambda: statuses(receiver) == ["completed"])


def test_payout_without_an_address_tells_nobody(start: Start) -> None:
    driver = start(settle_s=0)
    driver.created()
    assert driver.control("GET", "callbacks").json() == []


def test_no_webhook_leaves_for_a_host_that_was_not_allowed(start: Start) -> None:
    driver = start(settle_s=0)
    payout_id = driver.created(webhook_url="https://pay.shop.example/hooks/etpay")
    assert driver.control("GET", "callbacks").json() == []
    assert driver.control("POST", "callbacks", {"id": payout_id}).status_code == 400


@pytest.mark.parametrize(("nth", "told_of"), [(0, [1, 2, 3]), (1, []), (2, [1, 3])])
def test_every_nth_webhook_can_be_lost(
    start: Start, receiver: Receiver, nth: int, told_of: list[int]
) -> None:
    driver = start(settle_s=0, webhook_url=receiver.url, lose_webhooks=nth)
    ids = [driver.created(f"po-{number}") for number in (1, 2, 3)]
    queued = [each["id"] for each in driver.control("GET", "callbacks").json()]
    assert queued == [ids[number - 1] for number in told_of]


def check_jwt(token: str, secret: str) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Header, claims, and whether the token is signed with that secret."""
    head, claims, signature = token.split(".")
    assert "=" not in token
    expected = hmac.new(secret.encode(), f"{head}.{claims}".encode(), hashlib.sha256).digest()

    def opened(part: str) -> bytes:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

    return json.loads(opened(head)), json.loads(opened(claims)), opened(signature) == expected


@pytest.mark.parametrize(
    ("signature", "good", "algorithm"),
    [("good", True, "HS256"), ("wrong", False, "HS256"), ("absent", False, "none")],
)
def test_jwt_is_signed_well_or_badly_as_asked(
    start: Start, receiver: Receiver, signature: str, good: bool, algorithm: str
) -> None:
    driver = start(settle_s=60, webhook_auth="jwt", webhook_secret="s3cret")
    payout_id = driver.created(webhook_url=receiver.url)
    forged = {"id": payout_id, "statuses": ["completed"], "signature": signature}
    answer = driver.control("POST", "callbacks", forged).json()
    assert answer == {"sent": [{"status": "completed", "answer": 200}]}
    (document,) = told(receiver)
    assert list(document) == ["jwt"]
    head, claims, is_signed = check_jwt(document["jwt"], "s3cret")
    assert (head, is_signed) == ({"alg": algorithm, "typ": "JWT"}, good)
    assert document["jwt"].endswith(".") == (signature == "absent")
    read = driver.read(payout_id)
    assert read["status"] == "pending"
    assert claims == {**read, "status": "completed", "iat": int(START)}


def test_webhook_of_a_final_state_is_a_good_jwt_where_asked_for(
    start: Start, receiver: Receiver, until: Until
) -> None:
    driver = start(settle_s=0, webhook_auth="jwt", webhook_url=receiver.url)
    driver.created(account={"number": "55550001"})
    until(lambda: receiver.received)
    _, claims, is_signed = check_jwt(told(receiver)[0]["jwt"], "demo-webhook-secret")
    assert is_signed
    assert (claims["status"], claims["error_code"]) == ("rejected", "PO-BANK-REJECTED")


@pytest.mark.parametrize("signature", ["good", "wrong", "absent"])
def test_unsigned_webhook_is_plain_whatever_is_asked(
    start: Start, receiver: Receiver, signature: str
) -> None:
    driver = start()
    payout_id = driver.created(webhook_url=receiver.url)
    driver.control("POST", "callbacks", {"id": payout_id, "signature": signature})
    assert told(receiver) == [{"payout": driver.read(payout_id)}]


def test_webhooks_come_doubled_and_out_of_order_when_asked(
    start: Start, receiver: Receiver, until: Until
) -> None:
    driver = start(settle_s=0, webhook_url=receiver.url)
    payout_id = driver.created()
    until(lambda: len(receiver.received) == 1)
    driver.advance(10)
    driver.control("POST", f"invoices/{payout_id}", {"status": "returned"})
    until(lambda: len(receiver.received) == 2)
    receiver.received.clear()
    asked = {"id": payout_id, "statuses": ["returned", "completed"], "times": 2}
    driver.control("POST", "callbacks", asked)
    assert statuses(receiver) == ["returned", "returned", "completed", "completed"]
    times = [each["payout"]["updated_at"] for each in told(receiver)]
    assert times == ["2023-11-14T22:13:30Z"] * 2 + ["2023-11-14T22:13:20Z"] * 2


@pytest.mark.parametrize("status", [302, 401, 404, 500])
def test_webhook_not_taken_is_repeated_by_the_ladder(
    start: Start, receiver: Receiver, until: Until, status: int
) -> None:
    driver = start(settle_s=0, webhook_url=receiver.url)
    receiver.status = status
    driver.created()

    def answers() -> list[int]:
        delivery = driver.control("GET", "callbacks").json()[0]
        said: list[int] = delivery["answers"]
        return said if len(said) == len(delivery["tried_at"]) else []

    until(lambda: len(answers()) == 1)
    for tries, wait_s in enumerate((60, 300, 900, 3600, 21_600), start=1):
        driver.advance(wait_s - 1)
        assert len(answers()) == tries  # one second too early
        driver.advance(1)
        until(partial(lambda n: len(answers()) == n, tries + 1))
    driver.advance(86_400)
    assert answers() == [status] * 6  # then it gives up


@pytest.mark.parametrize("status", [200, 204])
def test_webhook_that_was_taken_is_not_repeated(
    start: Start, receiver: Receiver, until: Until, status: int
) -> None:
    driver = start(settle_s=0, webhook_url=receiver.url)
    receiver.status = status
    driver.created()
    until(lambda: driver.control("GET", "callbacks").json()[0]["delivered"])
    driver.advance(86_400)
    assert driver.control("GET", "callbacks").json()[0]["answers"] == [status]
