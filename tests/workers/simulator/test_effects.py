"""Each fault as the client sees it, and what the ledger says afterwards."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest

from workers.simulator.effects import HUGE_BYTES
from workers.simulator.faults import STATUSES

from .conftest import Driver

BROKEN = (httpx.RemoteProtocolError, httpx.ReadError)
# How long a call waits that will never be answered; less than the pause of a drip.
PATIENCE_S = 0.15


def _is_html(answer: httpx.Response) -> bool:
    return answer.status_code == 502 and answer.headers["content-type"] == "text/html"


def _is_garbage(answer: httpx.Response) -> bool:
    with pytest.raises(ValueError, match=r"."):
        answer.json()
    return answer.status_code == 201 and len(answer.content) > 0


def _is_empty(answer: httpx.Response) -> bool:
    return answer.status_code == 201 and answer.content == b""


def _is_huge(answer: httpx.Response) -> bool:
    return answer.status_code == 201 and len(answer.content) == HUGE_BYTES


def _is_status(status: int) -> Callable[[httpx.Response], bool]:
    def check(answer: httpx.Response) -> bool:
        errors = answer.json()["errors"]
        form = dict if status == 422 else list
        return answer.status_code == status and isinstance(errors, form)

    return check


UNANSWERED = {
    "drop": httpx.RemoteProtocolError,
    "reset": httpx.ReadError,
    "hang": httpx.ReadTimeout,
    "drip": httpx.ReadTimeout,
    "cut": httpx.RemoteProtocolError,
}
ANSWERED = {
    "html": _is_html,
    "garbage": _is_garbage,
    "empty": _is_empty,
    "huge": _is_huge,
    **{str(status): _is_status(status) for status in STATUSES},
}


def patience(kind: str) -> float:
    return PATIENCE_S if UNANSWERED.get(kind) is httpx.ReadTimeout else 5


BEFORE = ["drop", "reset", "hang", "drip", "html", *(str(status) for status in STATUSES)]
AFTER = [f"{each}-after" for each in (*UNANSWERED, *ANSWERED)]


@pytest.mark.parametrize("effect", [*BEFORE, *AFTER])
def test_client_sees_the_fault_and_the_ledger_tells_the_truth(driver: Driver, effect: str) -> None:
    kind, _, after = effect.partition("-")
    fault = f"create:{effect}"
    if kind in UNANSWERED:
        with pytest.raises(UNANSWERED[kind]):
            driver.create(simulate=fault, timeout=patience(kind))
    else:
        assert ANSWERED[kind](driver.create(simulate=fault))
    known = driver.ledger()
    assert known["creates"] == 1
    assert len(known["invoices"]) == (1 if after else 0)
    assert known["swallowed"] == [{"point": "create", "effect": effect, "applied": bool(after)}]
    assert len(driver.find().json()["data"]) == (1 if after else 0)
    again = driver.create(simulate=fault)  # used up, so this one is answered truthfully
    assert again.status_code == (409 if after else 201)
    assert len(driver.ledger()["invoices"]) == 1


@pytest.mark.parametrize("effect", ["drop-after", "reset-after", "hang-after", "500-after"])
def test_lost_answer_to_process_has_released_once(driver: Driver, effect: str) -> None:
    invoice_id = driver.created(simulate=f"process:{effect}")
    try:
        answer = driver.process(invoice_id, timeout=patience(effect.partition("-")[0]))
        assert answer.status_code == 500
    except (*BROKEN, httpx.ReadTimeout):
        assert effect != "500-after"
    assert len(driver.ledger()["invoices"][0]["releases"]) == 1
    assert driver.process(invoice_id).status_code == 409
    assert len(driver.ledger()["invoices"][0]["releases"]) == 1


def test_process_that_is_dropped_before_has_released_nothing(driver: Driver) -> None:
    invoice_id = driver.created(simulate="process:drop")
    with pytest.raises(httpx.RemoteProtocolError):
        driver.process(invoice_id)
    assert driver.ledger()["invoices"][0]["releases"] == []
    assert driver.read(invoice_id)["status"] == "created"


@pytest.mark.parametrize(
    ("point", "path"),
    [
        ("balances", "/account/balances"),
        ("profile", "/account/profile"),
        ("services", "/payout-services"),
        ("list", "/payout-invoices"),
        ("find", "/payout-invoices?filter[reference_id]=r-1"),
        ("any", "/account/balances"),
    ],
)
def test_every_point_can_be_struck(driver: Driver, point: str, path: str) -> None:
    assert driver.control("POST", "faults", {"faults": f"{point}:503"}).status_code == 200
    assert [driver.call("GET", path).status_code for _ in range(2)] == [503, 200]


@pytest.mark.parametrize(("spec", "header"), [("429", "1"), ("429=7", "7"), ("429=0.5", "0.5")])
def test_429_says_when_to_come_back(driver: Driver, spec: str, header: str) -> None:
    answer = driver.create(simulate=f"create:{spec}")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, header)


def test_302_names_another_place(driver: Driver) -> None:
    answer = driver.create(simulate="create:302")
    assert (answer.status_code, answer.headers["location"]) == (302, "/moved")


def test_slow_answer_is_applied_at_once(driver: Driver) -> None:
    with pytest.raises(httpx.ReadTimeout):
        driver.create(simulate="create:slow=5", timeout=0.1)
    assert len(driver.ledger()["invoices"]) == 1


def test_slow_answer_comes_in_the_end(driver: Driver) -> None:
    started = time.monotonic()
    assert driver.create(simulate="create:slow=0.1").status_code == 201
    assert time.monotonic() - started >= 0.1


def test_drip_keeps_the_connection_alive(driver: Driver) -> None:
    driver.control("POST", "faults", {"faults": "balances:drip balances:drip-after"})
    address = urlsplit(driver.base_url)
    request = (
        b"GET /api/account/balances HTTP/1.1\r\nHost: x\r\nAuthorization: Basic "
        b"Y29tYV9EZW1vMDAwMERlbW8wMDAxOmRlbW8tYXBpLWtleQ==\r\n\r\n"
    )
    with ExitStack() as stack:
        connections = [
            stack.enter_context(
                socket.create_connection((address.hostname, address.port), timeout=2)
            )
            for _ in range(2)
        ]
        header, body = connections
        header.sendall(request)
        assert header.recv(4096) == b"HTTP/1.1 200 OK\r\nX-Slow: "
        body.sendall(request)
        assert body.recv(4096).endswith(b"\r\n\r\n")
        # Half a second later a byte on each.
        assert [each.recv(4096) for each in connections] == [b"x", b" "]


def test_hanging_call_does_not_hold_up_others(driver: Driver) -> None:
    with pytest.raises(httpx.ReadTimeout):
        driver.create(simulate="create:hang*0", timeout=0.1)
    assert driver.create("r-2").status_code == 201
