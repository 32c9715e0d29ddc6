"""The control API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import START, Driver


def test_health_tells_the_time_and_the_size(driver: Driver) -> None:
    driver.created()
    assert driver.control("GET", "health").json() == {"healthy": True, "now": START, "invoices": 1}


def test_ledger_tells_every_reference_with_its_calls(driver: Driver) -> None:
    invoice_id = driver.created("r-1")
    driver.process(invoice_id)
    driver.read(invoice_id)
    driver.read(invoice_id)
    driver.find("r-1")
    driver.find("r-unknown")
    first, second = driver.control("GET", "ledger").json()
    assert first == driver.ledger("r-1")
    counts = {name: first[name] for name in ("creates", "processes", "reads", "finds")}
    assert counts == {"creates": 1, "processes": 1, "reads": 2, "finds": 1}
    (invoice,) = first["invoices"]
    assert (invoice["id"], invoice["amount"], invoice["currency"]) == (invoice_id, "25.5", "USD")
    assert (invoice["service"], invoice["test_mode"]) == ("payment_card_usd", True)
    assert invoice["releases"] == [START]
    assert (second["reference_id"], second["invoices"], second["finds"]) == ("r-unknown", [], 1)


def test_unknown_reference_is_404(driver: Driver) -> None:
    assert driver.control("GET", "ledger/nobody").status_code == 404


def test_calls_are_counted_by_endpoint(driver: Driver) -> None:
    driver.created()
    driver.balance()
    driver.call("GET", "/nowhere")
    calls = driver.control("GET", "calls").json()
    assert {name for name, count in calls.items() if count == 1} == {
        "create",
        "balances",
        "refused",
    }
    assert calls["process"] == 0


def test_faults_are_added_and_cleared(driver: Driver) -> None:
    added = driver.control("POST", "faults", {"reference_id": "r-1", "faults": "create:503*0 auto"})
    assert added.json() == {"added": 2}
    assert driver.create("r-1").status_code == 503
    assert driver.create("r-2").status_code == 201
    driver.control("DELETE", "faults")
    assert driver.create("r-1").status_code == 201


def test_clock_moves_by_seconds_or_to_a_moment(driver: Driver) -> None:
    driver.advance(10)
    assert driver.control("GET", "health").json()["now"] == START + 10
    moved = driver.control("POST", "clock", {"now": START + 100.5})
    assert moved.json() == {"now": START + 100.5}


def test_balances_are_set(driver: Driver) -> None:
    driver.control("POST", "balances", {"USD": "10.00", "KRW": 5})
    assert driver.balance("USD") == ("10.00", "0.00")
    assert driver.balance("KRW") == ("5", "0")


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("POST", "faults", {"faults": "create:explode"}),
        ("POST", "faults", {"reference_id": 5, "faults": "auto"}),
        ("POST", "faults", {}),
        ("POST", "clock", {"advance_s": -1}),
        ("POST", "clock", {"advance_s": "1"}),
        ("POST", "clock", {"now": START - 1}),
        ("POST", "clock", {}),
        ("POST", "balances", {}),
        ("POST", "balances", {"usd": "1"}),
        ("POST", "balances", {"USD": "1e9"}),
        ("POST", "balances", {"USD": True}),
        ("POST", "invoices/ID", {}),
        ("POST", "invoices/ID", {"status": "Not A Word"}),
        ("POST", "invoices/ID", {"status": "processed", "processed_amount": "much"}),
        ("POST", "callbacks", {"id": "nobody"}),
        ("POST", "callbacks", {"id": "ID"}),  # it has no address
        ("POST", "callbacks", {"id": "ID", "signature": "odd"}),
        ("POST", "callbacks", {"id": "ID", "times": 1000}),
        ("POST", "clock", []),
    ],
)
def test_call_that_cannot_be_carried_out_is_400_with_a_sentence(
    driver: Driver, method: str, path: str, document: Any
) -> None:
    invoice_id = driver.created()
    if isinstance(document, dict) and document.get("id") == "ID":
        document = {**document, "id": invoice_id}
    answer = driver.control(method, path.replace("ID", invoice_id), document)
    assert answer.status_code == 400
    assert len(answer.json()["error"]) > 5


def test_body_that_is_not_json_is_400(driver: Driver) -> None:
    answer = driver.http.post(f"{driver.control_url}/clock", content=b"{")
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "nothing"), ("DELETE", "ledger"), ("POST", "invoices/nobody")]
)
def test_unknown_call_is_404(driver: Driver, method: str, path: str) -> None:
    assert driver.control(method, path).status_code == 404


def test_script_moves_an_invoice(driver: Driver) -> None:
    invoice_id = driver.created()
    driver.process(invoice_id)
    driver.advance(5)
    assert driver.balance() == ("9999974.50", "0.00")
    moved = driver.control(
        "POST", f"invoices/{invoice_id}", {"status": "canceled", "resolution": "declined_error"}
    )
    assert moved.json()["status"] == "canceled"
    read = driver.read(invoice_id)
    assert (read["status"], read["resolution"]) == ("canceled", "declined_error")
    assert driver.balance() == ("10000000.00", "0.00")


def test_moved_invoice_forgets_its_plan(driver: Driver) -> None:
    invoice_id = driver.created()
    driver.process(invoice_id)
    driver.control("POST", f"invoices/{invoice_id}", {"status": "process_pending"})
    driver.advance(1000)
    assert driver.read(invoice_id)["status"] == "process_pending"


@pytest.mark.parametrize(("status", "releases"), [("processed", 1), ("terminated", 0)])
def test_script_that_commits_money_counts_as_a_release(
    driver: Driver, status: str, releases: int
) -> None:
    invoice_id = driver.created()
    driver.control("POST", f"invoices/{invoice_id}", {"status": status})
    assert len(driver.ledger()["invoices"][0]["releases"]) == releases


def test_partial_script_names_the_part(driver: Driver) -> None:
    invoice_id = driver.created()
    driver.process(invoice_id)
    part = {"status": "partially_processed", "processed_amount": "10.25"}
    driver.control("POST", f"invoices/{invoice_id}", part)
    assert driver.read(invoice_id)["processed_amount"] == 10.25
    assert driver.balance() == ("9999989.75", "0.00")


def test_control_needs_no_password_and_private_api_does(start: Callable[..., Driver]) -> None:
    driver = start()
    driver.auth = None
    assert driver.control("GET", "health").status_code == 200
    assert driver.call("GET", "/account/balances").status_code == 401
