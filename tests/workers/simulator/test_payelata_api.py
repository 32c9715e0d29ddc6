"""The paths of the Payelata simulator: who may call, what is found, what a repeat does."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from .conftest import START, Driver


def error_code(answer: httpx.Response) -> str:
    (error,) = answer.json()["errors"]
    assert isinstance(error["status"], str)
    code: str = error["code"]
    return code


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/account/balances"),
        ("GET", "/account/profile"),
        ("GET", "/payout-services"),
        ("POST", "/payout-invoices"),
        ("POST", "/payout-invoices/x/process"),
        ("GET", "/payout-invoices/x"),
        ("GET", "/payout-invoices"),
    ],
)
def test_private_api_wants_the_account_and_its_key(driver: Driver, method: str, path: str) -> None:
    for auth in (
        None,
        ("coma_Demo0000Demo0001", "wrong"),
        ("coma_Demo0000Demo0002", "demo-api-key"),
        ("", ""),
    ):
        driver.auth = auth
        answer = driver.call(method, path)
        assert answer.status_code == 401
        assert answer.json() == {"errors": [{"status": "Unauthorized", "code": "401"}]}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/payout-invoices/x/y", 404),
        ("GET", "/payout-services/a/b", 404),
        ("GET", "/payout-invoices/cpoi_unknown", 404),
        ("GET", "/payout-services/comcpos_unknown", 404),
        ("POST", "/payout-invoices/cpoi_unknown/process", 404),
        ("DELETE", "/payout-invoices", 405),
        ("PUT", "/payout-invoices/x", 405),
        ("GET", "/payout-invoices/x/process", 405),
        ("POST", "/account/balances", 405),
        ("POST", "/payout-services", 405),
    ],
)
def test_wrong_place_or_method_is_the_list_form(
    driver: Driver, method: str, path: str, status: int
) -> None:
    answer = driver.call(method, path)
    assert (answer.status_code, error_code(answer)) == (status, str(status))


def test_prefix_can_be_another_or_none(start: Callable[..., Driver]) -> None:
    for prefix in ("", "/v1"):
        driver = start(prefix=prefix)
        assert driver.base_url.endswith(prefix)
        assert driver.call("GET", "/account/profile").status_code == 200
        link = driver.create().json()["data"]["links"]["self"]
        assert link.startswith("/api/payout-invoices/cpoi_")


def test_second_create_is_409_with_the_first_invoice_unchanged(driver: Driver) -> None:
    first = driver.create().json()["data"]
    answer = driver.create(amount=30)
    assert (answer.status_code, error_code(answer)) == (409, "409")
    assert answer.json()["data"] == first
    (invoice,) = driver.ledger()["invoices"]
    assert (invoice["amount"], invoice["status"], invoice["releases"]) == ("25.5", "created", [])
    assert driver.ledger()["creates"] == 2


def test_duplicates_are_two_invoices_where_allowed(start: Callable[..., Driver]) -> None:
    driver = start(allow_duplicates=True)
    ids = [driver.created(), driver.created()]
    assert ids[0] != ids[1]
    for each in ids:
        driver.process(each)
    known = driver.ledger()
    assert [each["id"] for each in known["invoices"]] == ids
    assert sum(len(each["releases"]) for each in known["invoices"]) == 2
    assert {each["id"] for each in driver.find().json()["data"]} == set(ids)


def test_process_counts_once_and_then_is_409(driver: Driver) -> None:
    invoice_id = driver.created()
    assert driver.process(invoice_id).status_code == 200
    again = driver.process(invoice_id)
    assert (again.status_code, error_code(again)) == (409, "409")
    assert driver.ledger()["invoices"][0]["releases"] == [START]
    assert driver.ledger()["processes"] == 2


def test_process_within_the_release_delay_counts_once(start: Callable[..., Driver]) -> None:
    driver = start(release_delay_s=10)
    invoice_id = driver.created()
    for _ in range(3):
        answer = driver.process(invoice_id)
        assert answer.status_code == 200
        assert answer.json()["data"]["attributes"]["status"] == "created"
        driver.advance(1)
    assert driver.ledger()["invoices"][0]["releases"] == [START]
    assert driver.balance() == ("9999974.50", "25.50")


def test_ignored_process_call_needs_a_second_one(driver: Driver) -> None:
    invoice_id = driver.created(simulate="release-ignored")
    answer = driver.process(invoice_id)
    assert answer.status_code == 200
    assert answer.json()["data"]["attributes"]["status"] == "created"
    driver.advance(1000)
    assert driver.read(invoice_id)["status"] == "created"
    assert driver.ledger()["invoices"][0]["releases"] == []
    driver.process(invoice_id)
    assert len(driver.ledger()["invoices"][0]["releases"]) == 1


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({"auto_process": True}, {}),
        ({}, {"options": {"auto_process": True}}),
        ({}, {"simulate": "auto"}),
    ],
)
def test_auto_process_releases_at_create(
    start: Callable[..., Driver], options: dict[str, Any], more: dict[str, Any]
) -> None:
    driver = start(**options)
    answer = driver.create(**more)
    assert answer.json()["data"]["attributes"]["status"] == "processing"
    assert driver.ledger()["invoices"][0]["releases"] == [START]
    assert driver.process(answer.json()["data"]["id"]).status_code == 409
    assert len(driver.ledger()["invoices"][0]["releases"]) == 1


def test_auto_process_false_waits(driver: Driver) -> None:
    answer = driver.create(options={"auto_process": False, "split_mode": False})
    assert answer.json()["data"]["attributes"]["status"] == "created"


@pytest.mark.parametrize("path", ["filter[reference_id]=r-1", "filter%5Breference_id%5D=r-1"])
def test_find_takes_brackets_raw_and_encoded(driver: Driver, path: str) -> None:
    invoice_id = driver.created()
    driver.created("r-2")
    found = driver.call("GET", f"/payout-invoices?{path}").json()
    assert [each["id"] for each in found["data"]] == [invoice_id]
    assert driver.ledger()["finds"] == 1


def test_find_without_a_hit_is_an_empty_list(driver: Driver) -> None:
    answer = driver.find("nobody")
    assert (answer.status_code, answer.json()["data"]) == (200, [])


def test_unknown_filter_is_ignored(driver: Driver) -> None:
    driver.created("r-1")
    driver.created("r-2")
    answer = driver.call("GET", "/payout-invoices?filter[reference]=r-1")
    assert len(answer.json()["data"]) == 2


@pytest.mark.parametrize(
    ("options", "simulate"), [({"find_delay_s": 30}, "settle=1"), ({}, "hide=30")]
)
def test_new_invoice_is_hidden_from_find_but_not_from_read(
    start: Callable[..., Driver], options: dict[str, Any], simulate: str
) -> None:
    driver = start(**options)
    invoice_id = driver.created(simulate=simulate)
    assert driver.find().json()["data"] == []
    assert driver.call("GET", "/payout-invoices").json()["data"] == []
    assert driver.read(invoice_id)["status"] == "created"
    assert driver.create().status_code == 409
    driver.advance(29)
    assert driver.find().json()["data"] == []
    driver.advance(1)
    assert len(driver.find().json()["data"]) == 1


@pytest.mark.parametrize("count", [0, 20, 21, 41])
def test_list_pages_show_every_invoice_once_newest_first(driver: Driver, count: int) -> None:
    ids = [driver.created(f"r-{number}") for number in range(count)]
    seen: list[str] = []
    path = "/payout-invoices"
    while path:
        page = driver.call("GET", path).json()
        shown = [each["id"] for each in page["data"]]
        meta = page["meta"]
        assert (meta["size"], meta["count"]) == (20, len(shown))
        assert [meta["before"], meta["after"]] == ([shown[0], shown[-1]] if shown else [None] * 2)
        seen += shown
        path = page["links"]["next"].removeprefix("/api")
        assert not path or len(shown) == 20
    assert seen == ids[::-1]


def test_cursor_is_taken_raw_too(driver: Driver) -> None:
    first, second = driver.created("r-1"), driver.created("r-2")
    page = driver.call("GET", f"/payout-invoices?page[after]={second}").json()
    assert [each["id"] for each in page["data"]] == [first]
    assert driver.call("GET", "/payout-invoices?page[after]=cpoi_unknown").status_code == 400


def test_balance_that_is_too_low_is_refused_at_create(start: Callable[..., Driver]) -> None:
    driver = start(balances={"USD": Decimal("25.49")})
    answer = driver.create()
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["amount"])
    assert driver.ledger()["invoices"] == []
    assert driver.create(amount=25.49).status_code == 201


@pytest.mark.parametrize("low_balance", ["422", "failed"])
def test_balance_that_is_too_low_at_process_fails_the_invoice(
    start: Callable[..., Driver], low_balance: str
) -> None:
    driver = start(balances={"USD": Decimal("40.00")}, low_balance=low_balance)
    first, second = driver.created("r-1"), driver.created("r-2")
    driver.process(first)
    assert driver.process(second).status_code == 200
    driver.advance(1)
    read = driver.read(second)
    assert (read["status"], read["resolution"]) == ("process_failed", "insufficient_funds")
    assert driver.ledger("r-2")["invoices"][0]["releases"] == []
    assert driver.balance() == ("14.50", "0.00")


def test_balance_that_is_too_low_is_taken_at_create_where_it_fails_later(
    start: Callable[..., Driver],
) -> None:
    driver = start(balances={"USD": Decimal("1.00")}, low_balance="failed")
    assert driver.create().status_code == 201


@pytest.mark.parametrize(
    ("simulate", "attribute", "value"),
    [
        ("amount=99.5", "amount", 99.5),
        ("currency=EUR", "currency", "EUR"),
        ("mode-flipped", "test_mode", False),
    ],
)
def test_answer_can_differ_from_what_was_sent(
    driver: Driver, simulate: str, attribute: str, value: Any
) -> None:
    answer = driver.create(simulate=simulate)
    invoice_id = answer.json()["data"]["id"]
    assert answer.json()["data"]["attributes"][attribute] == value
    assert driver.read(invoice_id)[attribute] == value
    driver.process(invoice_id)  # a client that should have stopped: the ledger shows it
    assert driver.ledger()["invoices"][0]["releases"] == [START]


def test_bad_specification_in_a_row_is_ignored(driver: Driver) -> None:
    invoice_id = driver.created(simulate="create:explode")
    driver.process(invoice_id)
    driver.advance(1)
    assert driver.read(invoice_id)["status"] == "processed"


@pytest.mark.parametrize(("live", "mode"), [(False, True), (True, False)])
def test_mode_of_the_account_holds_where_none_is_sent(
    start: Callable[..., Driver], live: bool, mode: bool
) -> None:
    driver = start(live=live)
    sent = driver.create("r-1", test_mode=not mode)
    assert sent.json()["data"]["attributes"]["test_mode"] is not mode
    document = json.loads(sent.request.content)
    del document["data"]["attributes"]["test_mode"]
    document["data"]["attributes"]["reference_id"] = "r-2"
    silent = driver.call("POST", "/payout-invoices", json=document)
    assert silent.json()["data"]["attributes"]["test_mode"] is mode
    service = driver.call("GET", "/payout-services").json()["data"][0]
    assert service["attributes"]["test_mode"] is mode


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"{}",
        b'{"data":[]}',
        b'{"data":{"type":"payout-invoice"}}',
        b'{"data":{"type":"payout-invoice","attributes":[]}}',
        b'{"data":{"type":"payout-invoices","attributes":{}}}',
        b'{"data":{"type":"payout-invoice","attributes":{"amount":NaN}}}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_document_that_cannot_be_read_is_400(driver: Driver, body: bytes) -> None:
    answer = driver.call("POST", "/payout-invoices", content=body)
    assert (answer.status_code, error_code(answer)) == (400, "400")
    assert driver.control("GET", "ledger").json() == []


def test_public_views_are_flat_and_want_the_public_key(driver: Driver) -> None:
    invoice_id = driver.created()
    for path in (f"payout-invoices/{invoice_id}", "payout-invoices?filter[reference_id]=r-1"):
        joint = "&" if "?" in path else "?"
        url = f"{driver.public_url}/{path}"
        assert driver.http.get(url).status_code == 401
        assert driver.http.get(f"{url}{joint}public_key=wrong").status_code == 401
        data = driver.http.get(f"{url}{joint}public_key=pk_test_demo").json()["data"]
        flat = data[0] if isinstance(data, list) else data
        assert (flat["id"], flat["status"], flat["amount"]) == (invoice_id, "created", 25.5)
        assert "fields" not in flat
        assert "reference_id" not in flat


def test_public_api_cannot_create_or_process(driver: Driver) -> None:
    invoice_id = driver.created()
    key = "?public_key=pk_test_demo"
    created = driver.http.post(f"{driver.public_url}/payout-invoices{key}")
    processed = driver.http.post(f"{driver.public_url}/payout-invoices/{invoice_id}/process{key}")
    assert (created.status_code, processed.status_code) == (405, 404)
    assert driver.ledger()["invoices"][0]["releases"] == []
