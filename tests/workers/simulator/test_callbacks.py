"""Callbacks: what is sent, how it is signed, and how often it is tried."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from workers.simulator.payelata import sign

from .conftest import Driver, Receiver

Until = Callable[[Callable[[], Any]], Any]


def statuses(receiver: Receiver) -> list[str]:
    return [json.loads(body)["data"]["attributes"]["status"] for _, body in receiver.received]


def test_signature_of_the_test_vector() -> None:
    """Source: Payelata API facts, section 7."""
    body = b'{"data":{"type":"payout-invoices","id":"cpoi_Demo0000Demo0001"}}'
    assert len(body) == 64
    assert sign(body, "sk_test_demo") == "NzPvg8FNNOPAzW0Twu4OrTTLziI="


def test_every_change_is_told_and_signed(
    start: Callable[..., Driver], receiver: Receiver, until: Until
) -> None:
    driver = start(settle_s=5, callback_url=receiver.url)
    invoice_id = driver.created()
    driver.process(invoice_id)
    until(lambda: statuses(receiver) == ["processing"])
    driver.advance(5)
    until(lambda: statuses(receiver) == ["processing", "processed"])
    for signature, body in receiver.received:
        assert signature == sign(body, "sk_test_demo")
    read = driver.call("GET", f"/payout-invoices/{invoice_id}").json()
    assert json.loads(receiver.received[-1][1]) == read


def test_address_of_the_invoice_comes_first(
    start: Callable[..., Driver], receiver: Receiver, until: Until
) -> None:
    driver = start(callback_url="http://127.0.0.1:9/nobody")
    driver.process(driver.created(callback_url=receiver.url))
    until(lambda: statuses(receiver) == ["processing"])


def test_only_final_statuses_where_the_account_says_so(
    start: Callable[..., Driver], receiver: Receiver, until: Until
) -> None:
    driver = start(callbacks_final_only=True, callback_url=receiver.url)
    driver.process(driver.created(simulate="path=process_pending>processed"))
    driver.advance(5)
    until(lambda: statuses(receiver) == ["processed"])
    assert [each["status"] for each in driver.control("GET", "callbacks").json()] == ["processed"]


def test_nth_retry_comes_n_minutes_after_the_previous(
    start: Callable[..., Driver], receiver: Receiver, until: Until
) -> None:
    driver = start(callbacks_final_only=True, callback_url=receiver.url)
    receiver.status = 500

    def tries() -> list[float]:
        delivery = driver.control("GET", "callbacks").json()[0]
        tried: list[float] = delivery["tried_at"]
        return tried if len(delivery["answers"]) == len(tried) else []

    def tried(times: int) -> bool:
        return len(tries()) == times

    driver.process(driver.created(simulate="settle=0"))
    until(partial(tried, 1))
    for retry in (1, 2, 3):
        driver.advance(60 * retry - 1)
        assert len(tries()) == retry  # one second too early
        if retry == 3:
            receiver.status = 200
        driver.advance(1)
        until(partial(tried, retry + 1))
    first, *later = tries()
    assert [at - first for at in later] == [60, 180, 360]
    delivery = driver.control("GET", "callbacks").json()[0]
    assert (delivery["answers"], delivery["delivered"]) == ([500, 500, 500, 200], True)
    driver.advance(3600)
    assert len(tries()) == 4  # delivered, so never again


@pytest.mark.parametrize("status", [201, 204, 302])
def test_anything_but_200_is_a_failure(
    start: Callable[..., Driver], receiver: Receiver, until: Until, status: int
) -> None:
    driver = start(callbacks_final_only=True, callback_url=receiver.url)
    receiver.status = status
    driver.process(driver.created(simulate="settle=0"))
    delivery = until(
        lambda: [each for each in driver.control("GET", "callbacks").json() if each["answers"]]
    )[0]
    assert (delivery["answers"], delivery["delivered"]) == ([status], False)


def test_nobody_there_is_no_answer_and_tried_again(
    start: Callable[..., Driver], until: Until
) -> None:
    driver = start(callbacks_final_only=True, callback_url="http://127.0.0.1:9/nobody")
    driver.process(driver.created(simulate="settle=0"))
    for answers in ([0], [0, 0]):
        until(lambda: driver.control("GET", "callbacks").json()[0]["answers"])
        driver.advance(60)
        until(partial(_answered, driver, answers))


def _answered(driver: Driver, answers: list[int]) -> bool:
    told: list[int] = driver.control("GET", "callbacks").json()[0]["answers"]
    return told[: len(answers)] == answers


def test_no_callback_leaves_for_a_host_that_was_not_allowed(driver: Driver) -> None:
    driver.process(driver.created(callback_url="https://worker.example/callbacks/payelata"))
    driver.advance(5)
    assert driver.control("GET", "callbacks").json() == []


@pytest.mark.parametrize(("signature", "good"), [("good", 1), ("wrong", 0), ("absent", 0)])
def test_forged_callback_has_no_good_signature(
    driver: Driver, receiver: Receiver, signature: str, good: int
) -> None:
    invoice_id = driver.created(callback_url=receiver.url)
    forged = {"id": invoice_id, "statuses": ["processed"], "signature": signature}
    answer = driver.control("POST", "callbacks", forged)
    assert answer.json() == {"sent": [{"status": "processed", "answer": 200}]}
    ((header, body),) = receiver.received
    assert (header == sign(body, "sk_test_demo")) == bool(good)
    assert (header is None) == (signature == "absent")
    assert statuses(receiver) == ["processed"]
    assert driver.read(invoice_id)["status"] == "created"


def test_callbacks_come_doubled_and_out_of_order_when_asked(
    driver: Driver, receiver: Receiver, until: Until
) -> None:
    invoice_id = driver.created()
    driver.process(invoice_id)
    driver.advance(5)
    driver.control("POST", "clock", {"advance_s": 1})
    moved = driver.created("r-2", callback_url=receiver.url, simulate="settle=10")
    driver.process(moved)
    driver.advance(10)
    # Those that it sends by itself are on their way in their own time.
    until(lambda: len(receiver.received) == 2)
    receiver.received.clear()
    swapped = {"id": moved, "statuses": ["processed", "processing"], "times": 2}
    assert len(driver.control("POST", "callbacks", swapped).json()["sent"]) == 4
    told = [json.loads(body)["data"]["attributes"] for _, body in receiver.received[-4:]]
    assert [each["status"] for each in told] == ["processed"] * 2 + ["processing"] * 2
    assert told[0]["updated"] - told[2]["updated"] == 10  # by this the receiver can tell
    assert told[0]["processed_amount"] == 25.5
    assert told[2]["processed_amount"] is None
