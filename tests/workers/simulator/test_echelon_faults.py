"""Every fault point of the Echelon Pay simulator strikes, before the call and after it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from .echelon_driver import START, Driver, echelon

POINTS = ("token", "create", "read", "services")


@pytest.fixture
def merchant() -> Iterator[Driver]:
    with echelon(settle_s=60) as driver:
        yield driver


def ready(driver: Driver, point: str) -> Callable[[], httpx.Response]:
    """A good call of that point, its token in hand."""
    paths = {
        "create": ("POST", "/payouts/PO-1"),
        "read": ("GET", "/payouts/PO-1"),
        "services": ("GET", "/payment-operators"),
    }
    if point == "token":
        return lambda: driver.ask_token("POST /payouts/PO-1")
    if point == "read":
        driver.created()
    method, path = paths[point]
    token: str = driver.ask_token(f"{method} {path}").json()["token"]
    if point == "create":
        return lambda: driver.create(token=token)
    return lambda: driver.call(method, path, token=token)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("effect", ["503", "503-after"])
def test_refusal_strikes_once_in_the_provider_s_own_form(
    merchant: Driver, point: str, effect: str
) -> None:
    call = ready(merchant, point)
    merchant.fault(f"{point}:{effect}")
    answer = call()
    assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
    if point == "create":
        assert len(merchant.ledger()["invoices"]) == (1 if effect == "503-after" else 0)
    expected = 409 if (point, effect) == ("create", "503-after") else 200
    assert call().status_code == expected
    assert merchant.calls()[point] >= 2


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("effect", ["drop", "drop-after"])
def test_lost_answer_strikes_before_or_after_the_work(
    merchant: Driver, point: str, effect: str
) -> None:
    call = ready(merchant, point)
    merchant.fault(f"{point}:{effect}")
    with pytest.raises(httpx.RemoteProtocolError):
        call()
    stored = merchant.ledger()["invoices"] if point == "create" else []
    assert [each["releases"] for each in stored] == (
        [[START]] if (point, effect) == ("create", "drop-after") else []
    )
    if point != "services":  # it is about no payout
        assert merchant.ledger()["swallowed"] == [
            {"point": point, "effect": effect, "applied": effect == "drop-after"}
        ]
    assert call().status_code == (409 if stored else 200)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("status", [401, 404, 409, 429])
def test_any_status_can_be_told_with_a_live_token(
    merchant: Driver, point: str, status: int
) -> None:
    call = ready(merchant, point)
    merchant.fault(f"{point}:{status}*2")
    answers = [call() for _ in range(3)]
    assert [each.status_code for each in answers] == [status, status, 200]
    assert set(answers[0].json()) == {"code", "message"}
    assert ("Retry-After" in answers[0].headers) == (status == 429)


def test_fault_of_one_payout_leaves_the_others_alone(merchant: Driver) -> None:
    merchant.fault("create:500-after", "PO-2")
    assert merchant.create("PO-1").status_code == 200
    assert merchant.create("PO-2").status_code == 500
    assert merchant.status("PO-2") == "PENDING"


@pytest.mark.parametrize("garbled", ["garbage", "empty", "cut"])
def test_answer_can_be_spoilt_after_the_payout_is_stored(merchant: Driver, garbled: str) -> None:
    merchant.fault(f"create:{garbled}-after")
    try:
        answer = merchant.create()
    except httpx.RemoteProtocolError:
        assert garbled == "cut"
    else:
        with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)):
            answer.json()
    assert len(merchant.ledger()["invoices"]) == 1
