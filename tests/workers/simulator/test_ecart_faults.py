"""Every call of the Ecart Pay simulator can be harmed, before it is carried out and after."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from .ecart_driver import Driver, starter

Call = Callable[[Driver, str], httpx.Response]


@pytest.fixture
def start() -> Iterator[Callable[..., Driver]]:
    with starter() as begin:
        yield begin


@pytest.fixture
def driver(start: Callable[..., Driver]) -> Driver:
    return start()


CALLS: dict[str, list[Call]] = {
    "create": [lambda driver, _: driver.create("r-2")],
    "process": [lambda driver, payout_id: driver.confirm(payout_id)],
    "read": [
        lambda driver, payout_id: driver.call("GET", f"/api/payouts/{payout_id}"),
        lambda driver, _: driver.call(
            "GET", f"/api/transactions/{driver.lines()['data'][0]['id']}"
        ),
    ],
    "find": [lambda driver, _: driver.call("GET", "/api/payouts?reference_id=r-1")],
    "list": [
        lambda driver, _: driver.call("GET", "/api/transactions"),
        lambda driver, _: driver.call("GET", "/api/payouts"),
    ],
    "balances": [lambda driver, _: driver.call("GET", "/api/transactions/summary")],
    "token": [lambda driver, _: driver.ask_token()],
    "profile": [
        lambda driver, _: driver.call("GET", "/api/authorizations/credentials/webhooks"),
        lambda driver, _: driver.call(
            "POST",
            "/api/webhooks",
            json={"url": "http://127.0.0.1:9/", "events": ["transfer.created"]},
        ),
    ],
}
TABLE = [
    pytest.param(point, call, id=f"{point}-{place}")
    for point, calls in CALLS.items()
    for place, call in enumerate(calls)
]


@pytest.mark.parametrize(("point", "call"), TABLE)
def test_fault_before_leaves_nothing_behind(driver: Driver, point: str, call: Call) -> None:
    payout_id = driver.pending("r-1")
    driver.fault(f"{point}:503")
    answer = call(driver, payout_id)
    assert (answer.status_code, answer.json()["statusCode"]) == (503, 503)
    assert driver.control("GET", "calls").json()[point] >= 1
    assert driver.control("GET", "health").json()["invoices"] == 1
    assert driver.releases("r-1") == 0
    assert call(driver, payout_id).status_code == 200  # it struck once only


@pytest.mark.parametrize(("point", "call"), TABLE)
def test_fault_after_comes_when_all_is_done(driver: Driver, point: str, call: Call) -> None:
    payout_id = driver.pending("r-1")
    driver.fault(f"{point}:drop-after")
    with pytest.raises(httpx.TransportError):
        call(driver, payout_id)
    assert driver.control("GET", "health").json()["invoices"] == (2 if point == "create" else 1)
    assert driver.releases("r-1") == (1 if point == "process" else 0)
    again = call(driver, payout_id)
    assert again.status_code == (409 if point == "create" else 200)
    if point == "create":
        assert driver.releases("r-2") == 1


@pytest.mark.parametrize(
    ("fault", "swallowed"),
    [
        ("create:500", {"point": "create", "effect": "500", "applied": False}),
        ("create:500-after", {"point": "create", "effect": "500-after", "applied": True}),
        ("create:reset-after", {"point": "create", "effect": "reset-after", "applied": True}),
        ("create:garbage-after", {"point": "create", "effect": "garbage-after", "applied": True}),
    ],
)
def test_ledger_knows_what_the_client_could_not(
    driver: Driver, fault: str, swallowed: dict[str, Any]
) -> None:
    driver.fault(fault, "r-1")
    try:
        driver.create("r-1")
    except httpx.TransportError:
        assert "reset" in fault
    assert driver.ledger("r-1")["swallowed"] == [swallowed]
    assert len(driver.ledger("r-1")["invoices"]) == int(swallowed["applied"])


def test_confirmation_whose_answer_is_lost_is_never_credited_twice(driver: Driver) -> None:
    payout_id = driver.pending()
    driver.fault("process:hang-after", "r-1")
    with pytest.raises(httpx.ReadTimeout):
        driver.confirm(payout_id, timeout=0.2)
    assert driver.read(payout_id)["status"] == "paid"
    assert driver.confirm(payout_id).json()["status"] == "paid"
    assert driver.releases() == 1


def test_revoked_token_reads_like_an_expired_one(driver: Driver) -> None:
    driver.fault("create:401", "r-1")
    answer = driver.create()
    assert (answer.status_code, answer.json()["code"]) == (401, 114)
    driver.authorization = driver.token()
    assert driver.create().status_code == 200


@pytest.mark.parametrize("status", [400, 403, 404, 422, 429, 500, 502])
def test_made_up_refusal_has_the_form_of_the_provider_and_no_code(
    driver: Driver, status: int
) -> None:
    driver.fault(f"create:{status}", "r-1")
    answer = driver.create()
    assert answer.status_code == status
    assert set(answer.json()) == {"statusCode", "error", "message"}
    assert (answer.headers.get("Retry-After") == "1") is (status == 429)


@pytest.mark.parametrize("policy", ["409", "pay-again"])
def test_many_creates_at_once_are_one_payout_unless_the_switch_pays_again(
    start: Callable[..., Driver], policy: str
) -> None:
    driver = start(duplicate_status=policy)
    driver.authorization = driver.token()
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(driver.create().status_code))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [200] * 8 if policy == "pay-again" else [200] + [409] * 7
    assert sorted(answers) == expected
    assert driver.releases() == expected.count(200)
