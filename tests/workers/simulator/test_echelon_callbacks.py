"""Callbacks of the Echelon Pay simulator: hints with an id, their address and their repeats."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from .echelon_driver import Driver, Hook, echelon, hook, order

Until = Callable[[Callable[[], Any]], Any]


@pytest.fixture
def target() -> Iterator[Hook]:
    with hook() as kept:
        yield kept


def answered(driver: Driver, count: int) -> bool:
    """Whether that many tries were made, and all of them have come to an end."""
    told = driver.callbacks()
    return sum(len(each["answers"]) for each in told) == count


def test_callback_is_the_id_alone_after_processing(target: Hook, until: Until) -> None:
    with echelon(settle_s=60) as driver:
        driver.created(callback_url=target.url)
        driver.advance(59)
        assert driver.callbacks() == []
        driver.advance(1)
        until(lambda: target.received)
    ((path, headers, body),) = target.received
    assert (path, body) == ("/hooks/3f9c", {"idEntity": "PO-1"})
    assert headers["Content-Type"] == "application/json"
    assert not {name for name in headers if "sign" in name.lower() or name == "Authorization"}


def test_full_object_is_what_a_get_shows(target: Hook, until: Until) -> None:
    with echelon(callback_style="full_object", failure_reasons="list") as driver:
        driver.created("PO-1", callback_url=target.url)
        driver.created("PO-2", callback_url=target.url, account="1110001")
        driver.advance(1)
        until(lambda: len(target.received) == 2)
        shown = [driver.read(each).json() for each in ("PO-1", "PO-2")]
    by_id = {each["paymentMethodResponse"]["idPayout"]: each for each in target.bodies()}
    assert [by_id["PO-1"], by_id["PO-2"]] == shown
    assert by_id["PO-2"]["process"]["failureReasons"][0]["failureReasonCode"]


@pytest.mark.parametrize("word", ["PENDING", "PROCESSING", "ACCEPTED", "CREATED", "WAITING"])
def test_payout_on_its_way_is_not_told(target: Hook, until: Until, word: str) -> None:
    with echelon() as driver:
        driver.fault(f"path={word}>SUCCESS settle=10")
        driver.created(callback_url=target.url)
        driver.advance(5)
        assert driver.status() == word
        assert driver.callbacks() == []
        driver.advance(5)
        until(partial(answered, driver, 1))
        assert [each["status"] for each in driver.callbacks()] == ["SUCCESS"]


def test_word_that_nobody_knows_and_a_late_failure_are_told(target: Hook, until: Until) -> None:
    with echelon(settle_s=60) as driver:
        driver.fault("status=HALF_BAKED", "PO-2")
        driver.created("PO-1", callback_url=target.url, account="1110003")
        driver.created("PO-2", callback_url=target.url)
        driver.advance(120)
        until(partial(answered, driver, 3))
        told = [(each["id"], each["status"]) for each in driver.callbacks()]
    assert sorted(told) == [("PO-1", "FAILED"), ("PO-1", "SUCCESS"), ("PO-2", "HALF_BAKED")]


@pytest.mark.parametrize("status", [500, 404, 302])
def test_callback_is_tried_five_times_with_doubling_waits(
    target: Hook, until: Until, status: int
) -> None:
    target.status = status
    with echelon() as driver:
        driver.created(callback_url=target.url)
        driver.advance(1)
        until(partial(answered, driver, 1))
        for tries, wait_s in ((1, 10), (2, 20), (3, 40), (4, 80)):
            driver.advance(wait_s - 1)
            assert len(driver.callbacks()[0]["tried_at"]) == tries  # one second too early
            driver.advance(1)
            until(partial(answered, driver, tries + 1))
        driver.advance(10_000)
        (told,) = driver.callbacks()
    assert (told["answers"], told["delivered"]) == ([status] * 5, False)
    first, *later = told["tried_at"]
    assert [at - first for at in later] == [10, 30, 70, 150]


@pytest.mark.parametrize("status", [200, 202, 204])
def test_any_2xx_is_taken_and_never_repeated(target: Hook, until: Until, status: int) -> None:
    target.status = 503
    with echelon() as driver:
        driver.created(callback_url=target.url)
        driver.advance(1)
        until(partial(answered, driver, 1))
        target.status = status
        driver.advance(10)
        until(partial(answered, driver, 2))
        driver.advance(10_000)
        (told,) = driver.callbacks()
    assert (told["answers"], told["delivered"]) == ([503, status], True)


def test_callback_can_be_lost(target: Hook) -> None:
    with echelon(callbacks="lost") as driver:
        driver.created(callback_url=target.url)
        driver.advance(1)
        assert driver.status() == "SUCCESS"
        assert driver.callbacks() == []


def test_callback_can_come_doubled(target: Hook, until: Until) -> None:
    with echelon(callbacks="doubled") as driver:
        driver.created(callback_url=target.url)
        driver.advance(1)
        until(partial(answered, driver, 2))
    assert target.bodies() == [{"idEntity": "PO-1"}] * 2


@pytest.mark.parametrize("style", ["id_only", "full_object"])
def test_callback_can_name_another_payout_at_the_address_of_the_first(
    target: Hook, until: Until, style: str
) -> None:
    with echelon(callbacks="foreign", callback_style=style) as driver:
        driver.created("PO-1", callback_url=target.url)
        driver.advance(1)
        until(partial(answered, driver, 1))
        driver.created("PO-2", callback_url=target.url)
        driver.advance(1)
        until(partial(answered, driver, 2))
    ids = [
        each["idEntity"] if style == "id_only" else each["paymentMethodResponse"]["idPayout"]
        for each in target.bodies()
    ]
    assert ids[0] not in ("PO-1", "PO-2")  # there was no other yet, so nobody's
    assert ids[1] == "PO-1"


def test_callback_can_come_before_the_create_is_answered(target: Hook, until: Until) -> None:
    with echelon() as driver:
        driver.fault("create:slow=60 settle=0", "PO-1")
        token = driver.ask_token("POST /payouts/PO-1").json()["token"]
        request = driver.http.build_request(
            "POST",
            f"{driver.running.base_url}/payouts/PO-1",
            headers={"X-API-Version": "2", "Authorization": f"Bearer {token}"},
            json=order(callback_url=target.url),
        )
        head = "".join(f"{name}: {each}\r\n" for name, each in request.headers.items())
        port = request.url.port
        assert port is not None
        with socket.create_connection(("127.0.0.1", port)) as waiting:
            waiting.sendall(f"POST /payouts/PO-1 HTTP/1.1\r\n{head}\r\n".encode())
            waiting.sendall(request.read())
            until(lambda: target.received)
            assert select.select([waiting], [], [], 0)[0] == []  # nothing to read yet
        assert target.bodies() == [{"idEntity": "PO-1"}]


def test_claimed_status_is_told_and_changes_nothing(target: Hook) -> None:
    with echelon(callback_style="full_object", settle_s=60) as driver:
        driver.created(callback_url=target.url)
        claim = {"id": "PO-1", "statuses": ["SUCCESS", "PENDING"], "times": 2}
        sent = driver.control("POST", "callbacks", claim).json()["sent"]
        assert [each["answer"] for each in sent] == [200] * 4
        assert driver.status() == "PENDING"
    told = [each["process"]["status"] for each in target.bodies()]
    assert told == ["SUCCESS", "SUCCESS", "PENDING", "PENDING"]


def test_forged_callback_does_not_know_the_address(target: Hook) -> None:
    with echelon(settle_s=60) as driver:
        driver.created(callback_url=target.url + "?from=echelon")
        for signature in ("good", "wrong", "absent"):
            driver.control("POST", "callbacks", {"id": "PO-1", "signature": signature})
    good, wrong, absent = (path for path, _, _ in target.received)
    assert (good, absent) == ("/hooks/3f9c?from=echelon", "/hooks?from=echelon")
    above, _, guessed = wrong.removesuffix("?from=echelon").rpartition("/")
    assert above == "/hooks"
    assert guessed not in ("", "3f9c")
    assert target.bodies() == [{"idEntity": "PO-1"}] * 3


def test_no_callback_leaves_for_a_stranger_or_without_an_address() -> None:
    with echelon() as driver:
        driver.created("PO-1", callback_url="https://shop.example/hooks/echelon/3f9c")
        driver.created("PO-2")
        driver.advance(1)
        assert driver.status("PO-2") == "SUCCESS"
        assert driver.callbacks() == []
        for id_payout in ("PO-1", "PO-2"):
            assert driver.control("POST", "callbacks", {"id": id_payout}).status_code == 400


def test_host_that_was_allowed_gets_its_callback(target: Hook) -> None:
    with echelon(callback_hosts=("shop.example",)) as driver:
        driver.created("PO-1", callback_url="https://other.example/hooks/1")
        driver.created("PO-2", callback_url="https://shop.example/hooks/2")
        driver.advance(1)
        assert [each["id"] for each in driver.callbacks()] == ["PO-2"]
