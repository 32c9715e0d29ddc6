"""Webhooks of the Ecart Pay simulator: who is told, what is signed, how often it is tried."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .ecart_driver import START, Driver, Receiver, receiving, starter

Until = Callable[[Callable[[], Any]], Any]
EVENT = "transfer.created"


@pytest.fixture
def start() -> Iterator[Callable[..., Driver]]:
    with starter() as begin:
        yield begin


@pytest.fixture
def merchant() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def register(driver: Driver, url: str, *events: str) -> Any:
    body = {"url": url, "events": list(events)}
    return driver.call("POST", "/api/webhooks", json=body)


def is_signed(letter: tuple[dict[str, str], bytes], *, scope: str = "data") -> bool:
    """Checked from the raw bytes, as a merchant could do it."""
    headers, body = letter
    signed = body
    if scope == "data":
        opening = b'{"event":"transfer.created","data":'
        assert body.startswith(opening)
        assert body.endswith(b"}}")
        signed = body[len(opening) : -1]
    framed = f"{headers['x-pay-timestamp']}.{headers['x-pay-webhook-id']}.".encode() + signed
    expected = hmac.new(b"whsec_demo", framed, hashlib.sha256).hexdigest()
    return headers.get("x-pay-signature") == f"SHA256={expected}"


def answers(driver: Driver, *expected: int) -> Callable[[], bool]:
    return lambda: [each["answers"] for each in driver.callbacks()] == [list(expected)]


# Registration.


def test_registered_address_is_told_of_a_credit(
    start: Callable[..., Driver], merchant: Receiver, until: Until
) -> None:
    driver = start()
    registered = register(driver, merchant.url, EVENT)
    assert registered.status_code == 200
    assert registered.json() == {
        "id": registered.json()["id"],
        "url": merchant.url,
        "events": [EVENT],
    }
    payout = driver.created()
    (letter,) = until(lambda: merchant.received)
    assert json.loads(letter[1]) == {"event": EVENT, "data": payout}
    assert letter[0]["content-type"] == "application/json"
    assert letter[0]["x-pay-timestamp"] == str(int(START * 1000))
    assert is_signed(letter)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "url"),
        ({"url": "ftp://127.0.0.1/", "events": [EVENT]}, "url"),
        ({"url": "http://", "events": [EVENT]}, "url"),
        ({"url": 7, "events": [EVENT]}, "url"),
        ({"url": "http://127.0.0.1/"}, "events"),
        ({"url": "http://127.0.0.1/", "events": []}, "events"),
        ({"url": "http://127.0.0.1/", "events": EVENT}, "events"),
        ({"url": "http://127.0.0.1/", "events": [EVENT, "payouts.paid"]}, "events"),
        ({"url": "http://127.0.0.1/", "events": [[EVENT]]}, "events"),
        ([], "body"),
    ],
)
def test_registration_that_cannot_be_read_is_400(
    start: Callable[..., Driver], body: Any, name: str
) -> None:
    driver = start()
    answer = driver.call("POST", "/api/webhooks", json=body, headers={"Cookie": "lang=en"})
    assert (answer.status_code, answer.json()["code"]) == (400, 9005)
    assert answer.json()["message"] == f"The field {name} is not valid."


def test_address_for_other_events_is_told_nothing(
    start: Callable[..., Driver], merchant: Receiver
) -> None:
    driver = start()
    register(driver, merchant.url, "orders.create", "withdrawals.paid")
    payout = driver.created()
    assert driver.callbacks() == []
    asked = {"id": payout["id"]}
    assert driver.control("POST", "callbacks", asked).status_code == 400


def test_every_registered_address_is_told(
    start: Callable[..., Driver], merchant: Receiver, until: Until
) -> None:
    driver = start(callback_url=merchant.url)
    register(driver, merchant.url + "/2", EVENT)
    driver.created()
    until(lambda: len(merchant.received) == 2)


def test_secret_can_be_fetched(start: Callable[..., Driver]) -> None:
    path = "/api/authorizations/credentials/webhooks"
    assert start().call("GET", path).json() == {"secret": "whsec_demo"}
    assert start(webhook_secret="another").call("GET", path).json() == {"secret": "another"}


# What is told.


def test_only_a_credit_is_told(
    start: Callable[..., Driver], merchant: Receiver, until: Until
) -> None:
    driver = start(callback_url=merchant.url)
    driver.created("r-1", email="luis+failed@example.com")
    waiting = driver.pending("r-2")
    cancelled = driver.pending("r-3")
    driver.control("POST", f"invoices/{cancelled}", {"status": "cancelled"})
    assert driver.callbacks() == []
    driver.confirm(waiting, "2031-01-02T12:10:00.000Z")
    assert driver.callbacks() == []
    driver.advance(600)
    until(lambda: [each["id"] for each in merchant.data()] == [waiting])


def test_signature_covers_the_body_where_the_switch_says_so(
    start: Callable[..., Driver], merchant: Receiver, until: Until
) -> None:
    start(callback_url=merchant.url, sign_scope="body").created()
    (letter,) = until(lambda: merchant.received)
    assert is_signed(letter, scope="body")
    assert not is_signed(letter)


@pytest.mark.parametrize("kind", ["delivery", "subscription"])
def test_webhook_id_names_the_delivery_or_the_subscription(
    start: Callable[..., Driver], merchant: Receiver, until: Until, kind: str
) -> None:
    driver = start(webhook_id=kind)
    subscription = register(driver, merchant.url, EVENT).json()["id"]
    driver.created("r-1")
    driver.created("r-2")
    until(lambda: len(merchant.received) == 2)
    ids = {headers["x-pay-webhook-id"] for headers, _ in merchant.received}
    if kind == "subscription":
        assert ids == {subscription}
    else:
        assert len(ids) == 2
        assert subscription not in ids


@pytest.mark.parametrize(
    ("signature", "present", "good"),
    [("good", True, True), ("wrong", True, False), ("absent", False, False)],
)
def test_letter_can_be_forged_doubled_and_false(
    start: Callable[..., Driver], merchant: Receiver, signature: str, present: bool, good: bool
) -> None:
    driver = start()
    payout_id = driver.pending()
    register(driver, merchant.url, EVENT)
    asked = {"id": payout_id, "statuses": ["paid", None], "times": 2, "signature": signature}
    sent = driver.control("POST", "callbacks", asked).json()["sent"]
    assert [each["answer"] for each in sent] == [200] * 4
    told = [each["status"] for each in merchant.data()]
    assert told == ["paid", "paid", "pending", "pending"]
    for letter in merchant.received:
        assert ("x-pay-signature" in letter[0]) is present
        assert is_signed(letter) is good
        assert "x-pay-webhook-id" in letter[0]


# Repeats.


@pytest.mark.parametrize(("attempts", "waits"), [(5, (10, 15, 20, 25)), (6, (10, 15, 20, 25, 30))])
def test_failed_delivery_is_repeated_by_the_ladder_of_the_page(
    start: Callable[..., Driver],
    merchant: Receiver,
    until: Until,
    attempts: int,
    waits: tuple[int, ...],
) -> None:
    driver = start(callback_url=merchant.url, webhook_attempts=attempts)
    merchant.status = 500
    driver.created()
    until(answers(driver, 500))
    for count, wait_s in enumerate(waits, start=2):
        driver.advance(wait_s - 1)
        assert len(driver.callbacks()[0]["tried_at"]) == count - 1  # one second too early
        driver.advance(1)
        until(answers(driver, *[500] * count))
    driver.advance(3000)
    assert len(driver.callbacks()[0]["tried_at"]) == attempts  # given up for good
    assert driver.callbacks()[0]["delivered"] is False
    headers = [letter[0] for letter in merchant.received]
    assert len({each["x-pay-webhook-id"] for each in headers}) == 1
    assert all(is_signed(letter) for letter in merchant.received)


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 499])
def test_4xx_is_never_repeated(
    start: Callable[..., Driver], merchant: Receiver, until: Until, status: int
) -> None:
    driver = start(callback_url=merchant.url)
    merchant.status = status
    driver.created()
    until(answers(driver, status))
    driver.advance(3000)
    assert (len(driver.callbacks()[0]["tried_at"]), len(merchant.received)) == (1, 1)
    assert driver.callbacks()[0]["delivered"] is False


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_every_2xx_is_success(
    start: Callable[..., Driver], merchant: Receiver, until: Until, status: int
) -> None:
    driver = start(callback_url=merchant.url)
    merchant.status = status
    driver.created()
    until(answers(driver, status))
    driver.advance(3000)
    assert len(driver.callbacks()[0]["tried_at"]) == 1
    assert driver.callbacks()[0]["delivered"] is True


@pytest.mark.parametrize("status", [302, 503])
def test_other_failures_are_repeated_until_success(
    start: Callable[..., Driver], merchant: Receiver, until: Until, status: int
) -> None:
    driver = start(callback_url=merchant.url)
    merchant.status = status
    driver.created()
    until(answers(driver, status))
    merchant.status = 200
    driver.advance(10)
    until(answers(driver, status, 200))
    driver.advance(3000)
    assert len(driver.callbacks()[0]["tried_at"]) == 2


def test_nobody_there_is_tried_again(start: Callable[..., Driver], until: Until) -> None:
    driver = start(callback_url="http://127.0.0.1:9/nobody")
    driver.created()
    until(answers(driver, 0))
    driver.advance(10)
    until(answers(driver, 0, 0))


def test_strangers_host_gets_no_callback(start: Callable[..., Driver]) -> None:
    driver = start(callback_url="http://hooks.example.com/ecart")
    payout = driver.created()
    assert driver.callbacks() == []
    answer = driver.control("POST", "callbacks", {"id": payout["id"]})
    assert (answer.status_code, "may be written to" in answer.text) == (400, True)
