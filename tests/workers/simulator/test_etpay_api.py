"""The paths of the ETpay simulator: creates, duplicates, look-ups, the date query, faults."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from workers.simulator import faults
from workers.simulator.faults import STATUSES

from .etpay_driver import FULL, START, EtpayDriver, etpays

Start = Callable[..., EtpayDriver]


@pytest.fixture
def start() -> Iterator[Start]:
    with etpays() as begin:
        yield begin


@pytest.fixture
def driver(start: Start) -> EtpayDriver:
    return start()


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_create_takes_the_money_and_is_pending(driver: EtpayDriver) -> None:
    answer = driver.create()
    assert answer.status_code == 201
    document = answer.json()
    payout_id = document["payout"].pop("payout_id")
    assert payout_id.startswith("pyt_")
    assert document == {
        "msg": "ok",
        "payout": {
            "merchant_order_id": "po-1",
            "status": "pending",
            "amount": 45990,
            "currency": "CLP",
            "created_at": "2023-11-14T22:13:20Z",
        },
    }
    assert type(document["payout"]["amount"]) is int
    (payout,) = driver.payouts()
    assert (payout["releases"], payout["pending"]) == ([START], "45990")
    assert driver.available() == FULL - 45990


def test_status_of_a_taken_create_is_a_setting(start: Start) -> None:
    assert start(created_status=200).create().status_code == 200


# Duplicates.


def test_second_create_of_an_order_pays_again(driver: EtpayDriver) -> None:
    ids = [driver.created(), driver.created()]
    assert ids[0] != ids[1]
    assert [each["id"] for each in driver.payouts()] == ids
    assert [each["releases"] for each in driver.payouts()] == [[START], [START]]
    assert driver.available() == FULL - 2 * 45990


def test_second_create_can_be_409(start: Start) -> None:
    driver = start(duplicates="conflict_409")
    driver.created()
    answer = driver.create(amount=10)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "PO-DUPLICATE"
    assert len(driver.payouts()) == 1
    assert driver.available() == FULL - 45990


def test_second_create_can_be_the_first_payout(start: Start) -> None:
    driver = start(duplicates="return_existing", settle_s=5)
    first = driver.create().json()["payout"]
    driver.advance(5)
    answer = driver.create(amount=10)
    assert answer.status_code == 200
    assert answer.json() == {"msg": "ok", "payout": {**first, "status": "completed"}}
    assert len(driver.payouts()) == 1
    assert driver.available() == FULL - 45990


@pytest.mark.parametrize("duplicates", ["conflict_409", "return_existing"])
def test_concurrent_creates_of_one_order_make_one_payout(start: Start, duplicates: str) -> None:
    driver = start(duplicates=duplicates)
    driver.available()  # logs in
    answers: list[int] = []
    gate = threading.Barrier(6)

    def attempt() -> None:
        gate.wait()
        answers.append(driver.create().status_code)

    threads = [threading.Thread(target=attempt) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers).count(201) == 1
    assert len(driver.payouts()) == 1


def test_refused_create_does_not_use_up_its_order_id(start: Start) -> None:
    driver = start(duplicates="conflict_409")
    assert driver.create(amount=0).status_code == 422
    assert driver.create().status_code == 201


# Funds.


@pytest.mark.parametrize("refused_status", [400, 422])
def test_balance_that_is_too_low_refuses_the_create(start: Start, refused_status: int) -> None:
    driver = start(balances={"CLP": Decimal(45989)}, refused_status=refused_status)
    answer = driver.create()
    assert answer.status_code == refused_status
    assert answer.json()["error"] == {
        "code": "PO-INSUFFICIENT-FUNDS",
        "message": "Insufficient funds.",
    }
    assert driver.payouts() == []
    assert driver.create(amount=45989).status_code == 201
    assert driver.available() == 0


def test_balance_that_is_too_low_can_reject_later(start: Start) -> None:
    driver = start(balances={"CLP": Decimal(100)}, low_balance="rejected")
    payout_id = driver.created()
    assert driver.read(payout_id)["status"] == "pending"
    driver.advance(1)
    read = driver.read(payout_id)
    assert (read["status"], read["error_code"]) == ("rejected", "R01")
    assert driver.payouts()[0]["releases"] == []
    assert driver.available() == 100


def test_balance_is_whole_pesos(start: Start) -> None:
    driver = start(balances={"CLP": Decimal(1500000)})
    answer = driver.call("GET", "balance")
    assert answer.text == '{"msg":"ok","balance":{"available":1500000,"currency":"CLP"}}'


# Look-ups.


def test_read_and_find_show_the_same_payout(start: Start) -> None:
    driver = start(settle_s=9)
    payout_id = driver.created()
    driver.created("po-2")
    driver.advance(9)
    answer = driver.call("GET", f"payouts/{payout_id}")
    assert answer.status_code == 200
    assert answer.json() == {
        "msg": "ok",
        "payout": {
            "payout_id": payout_id,
            "merchant_order_id": "po-1",
            "status": "completed",
            "amount": 45990,
            "currency": "CLP",
            "error_code": None,
            "error_message": None,
            "created_at": "2023-11-14T22:13:20Z",
            "updated_at": "2023-11-14T22:13:29Z",
        },
    }
    assert driver.find().json() == answer.json()
    counts = driver.ledger()
    assert (counts["reads"], counts["finds"]) == (1, 1)


def test_unknown_payout_and_order_are_404(driver: EtpayDriver) -> None:
    driver.created()
    for answer in (driver.call("GET", "payouts/pyt_unknown"), driver.find("po-2")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("order_id", ["", "po 1", "a" * 65])
def test_find_by_what_is_no_order_id_is_400(driver: EtpayDriver, order_id: str) -> None:
    assert driver.find(order_id).status_code == 400
    assert driver.control("GET", "ledger").json() == []


def test_find_shows_the_newest_of_two_payouts(driver: EtpayDriver) -> None:
    driver.created()
    newest = driver.created()
    assert driver.find().json()["payout"]["payout_id"] == newest


def test_find_can_be_a_page_that_shows_both_payouts(start: Start) -> None:
    driver = start(order_answer="payouts")
    ids = [driver.created(), driver.created()]
    page = driver.find().json()
    assert [each["payout_id"] for each in page["payouts"]] == ids[::-1]
    assert (page["page"], page["pages"], page["total"]) == (1, 1, 2)
    none = driver.find("po-2")
    assert (none.status_code, none.json()["payouts"], none.json()["total"]) == (200, [], 0)


@pytest.mark.parametrize(("options", "words"), [({"find_delay_s": 30}, ""), ({}, "hide=30")])
def test_new_payout_is_hidden_from_queries_but_not_from_its_id(
    start: Start, options: dict[str, Any], words: str
) -> None:
    driver = start(**options)
    driver.harm(words)
    payout_id = driver.created()
    driver.advance(29)
    assert driver.read(payout_id)["status"] == "completed"
    assert (driver.find().status_code, driver.orders()) == (404, [])
    driver.advance(1)
    assert (driver.find().status_code, driver.orders()) == (200, ["po-1"])


def test_date_query_lags_behind_the_query_by_order(start: Start) -> None:
    driver = start(list_lag_s=60)
    driver.created("po-1")
    driver.advance(59)
    driver.created("po-2")
    assert driver.find("po-1").status_code == 200
    assert driver.dates("2023-11-14", "2023-11-14").json()["total"] == 0
    driver.advance(1)
    assert driver.orders() == ["po-1"]


# The date query.


def test_date_query_shows_payouts_in_brief_the_oldest_first(start: Start) -> None:
    driver = start(settle_s=0)
    first = driver.created("po-1")
    driver.advance(1)
    driver.created("po-2")
    page = driver.dates("2023-11-14", "2023-11-14").json()
    assert [each["merchant_order_id"] for each in page["payouts"]] == ["po-1", "po-2"]
    assert page["payouts"][0] == {
        "payout_id": first,
        "merchant_order_id": "po-1",
        "status": "completed",
        "amount": 45990,
        "currency": "CLP",
        "created_at": "2023-11-14T22:13:20Z",
    }
    assert {**page, "payouts": []} == {
        "msg": "ok",
        "payouts": [],
        "page": 1,
        "pages": 1,
        "total": 2,
    }


# Santiago is three hours behind UTC in summer, four in winter.
@pytest.mark.parametrize(
    ("made_at", "day", "before", "after"),
    [
        ("2031-01-02T03:00:00+00:00", "2031-01-02", "2031-01-01", "2031-01-03"),
        ("2031-01-03T02:59:59+00:00", "2031-01-02", "2031-01-01", "2031-01-03"),
        ("2031-07-02T04:00:00+00:00", "2031-07-02", "2031-07-01", "2031-07-03"),
        ("2031-07-03T03:59:59+00:00", "2031-07-02", "2031-07-01", "2031-07-03"),
    ],
)
def test_days_are_those_of_santiago_and_both_ends_are_in(
    start: Start, made_at: str, day: str, before: str, after: str
) -> None:
    driver = start(manual_clock=moment(made_at))
    driver.created()
    for date_from, date_to in ((day, day), (before, day), (day, after), (before, after)):
        assert driver.orders(date_from, date_to) == ["po-1"]
    for other in (before, after):
        assert driver.orders(other, other) == []


def test_time_zone_and_the_last_day_can_be_otherwise(start: Start) -> None:
    made_at = moment("2031-01-03T01:00:00+00:00")
    utc = start(manual_clock=made_at, time_zone="UTC")
    utc.created()
    assert utc.orders("2031-01-02", "2031-01-02") == []
    assert utc.orders("2031-01-03", "2031-01-03") == ["po-1"]
    without = start(manual_clock=made_at, date_to_exclusive=True)
    without.created()
    assert without.orders("2031-01-02", "2031-01-02") == []
    assert without.orders("2031-01-02", "2031-01-03") == ["po-1"]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
def test_pages_show_every_payout_once(driver: EtpayDriver, count: int) -> None:
    made = [f"po-{number}" for number in range(count)]
    for each in made:
        driver.created(each)
    seen: list[str] = []
    pages = max(1, (count + 1) // 2)
    for at in range(1, pages + 2):
        page = driver.dates("2023-11-13", "2023-11-15", page=at, limit=2).json()
        shown = [each["merchant_order_id"] for each in page["payouts"]]
        assert (page["page"], page["pages"], page["total"]) == (at, pages, count)
        assert len(shown) == min(2, max(0, count - 2 * (at - 1)))
        seen += shown
    assert seen == made


def test_page_has_a_hundred_payouts_unless_told(driver: EtpayDriver) -> None:
    for number in range(101):
        driver.created(f"po-{number}")
    assert len(driver.orders()) == 100
    last = driver.dates("2023-11-14", "2023-11-14", page=2).json()
    assert [each["merchant_order_id"] for each in last["payouts"]] == ["po-100"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "date_from=2031-01-02",
        "date_to=2031-01-02",
        "date_from=2031-01-03&date_to=2031-01-02",
        "date_from=2031-02-30&date_to=2031-03-01",
        "date_from=20310102&date_to=20310103",
        "date_from=2031-01-02T00:00:00Z&date_to=2031-01-03",
        "date_from=2031-01-02&date_to=2031-01-02&page=0",
        "date_from=2031-01-02&date_to=2031-01-02&page=x",
        "date_from=2031-01-02&date_to=2031-01-02&limit=0",
        "date_from=2031-01-02&date_to=2031-01-02&limit=101",
    ],
)
def test_date_query_that_cannot_be_read_is_400(driver: EtpayDriver, query: str) -> None:
    answer = driver.call("GET", f"payouts?{query}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BAD_REQUEST")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "nowhere", 404),
        ("GET", "payouts/x/y", 404),
        ("DELETE", "payouts", 405),
        ("PUT", "payouts/x", 405),
        ("POST", "balance", 405),
        ("GET", "auth/login", 405),
    ],
)
def test_wrong_place_or_method_is_an_error_of_the_usual_form(
    driver: EtpayDriver, method: str, path: str, status: int
) -> None:
    answer = driver.call(method, path)
    assert answer.status_code == status
    assert (answer.json()["msg"], set(answer.json()["error"])) == ("error", {"code", "message"})
    assert driver.http.get(f"{driver.base_url}/v2/balance").status_code == 404


# Faults.


def perform(driver: EtpayDriver, point: str) -> httpx.Response:
    """The call of that point; those about a payout are about `po-1`."""
    match point:
        case "token":
            return driver.log_in()
        case "create":
            return driver.create("po-1")
        case "read":
            payout_id = driver.payouts("po-1")[0]["id"]
            return driver.call("GET", f"payouts/{payout_id}")
        case "find":
            return driver.find("po-1")
        case "list":
            return driver.dates("2023-11-14", "2023-11-14")
    return driver.call("GET", "balance")


GOOD = {"token": 200, "create": 201, "read": 200, "find": 200, "list": 200, "balances": 200}


@pytest.mark.parametrize("point", GOOD)
def test_each_point_is_struck_before_the_call(driver: EtpayDriver, point: str) -> None:
    if point in ("read", "find"):
        driver.created("po-1")
    driver.available()
    counted = driver.calls(point)
    driver.harm(f"{point}:503")
    answer = perform(driver, point)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "INTERNAL_ERROR")
    if point == "create":
        assert driver.payouts() == []
        assert driver.ledger()["swallowed"][0]["applied"] is False
    assert perform(driver, point).status_code == GOOD[point]
    assert driver.calls(point) == counted + 2


@pytest.mark.parametrize("point", GOOD)
def test_each_point_is_struck_after_the_call(driver: EtpayDriver, point: str) -> None:
    if point in ("read", "find"):
        driver.created("po-1")
    driver.available()
    counted = driver.calls(point)
    driver.harm(f"{point}:drop-after")
    with pytest.raises(httpx.TransportError):
        perform(driver, point)
    assert driver.calls(point) == counted + 1
    if point == "create":
        (payout,) = driver.payouts()
        assert payout["releases"] == [START]
        assert driver.find().json()["payout"]["payout_id"] == payout["id"]
    assert perform(driver, point).status_code == GOOD[point]


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_has_the_usual_form(driver: EtpayDriver, status: int) -> None:
    driver.harm(f"create:{status}=3" if status == 429 else f"create:{status}")
    answer = driver.create()
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message"}
    assert answer.headers.get("Retry-After") == ("3" if status == 429 else None)
    assert driver.payouts() == []


def test_refused_token_in_the_middle_of_a_batch_harms_no_other_row(driver: EtpayDriver) -> None:
    driver.harm("create:401", "po-2")
    assert [driver.create(f"po-{n}").status_code for n in (1, 2, 3)] == [201, 401, 201]
    assert driver.create("po-2").status_code == 201


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [("amount=99", "amount", 99), ("currency=USD", "currency", "USD")],
)
def test_answer_can_differ_from_what_was_sent(
    start: Start, words: str, name: str, value: Any
) -> None:
    driver = start(faults=faults.parse(words))
    payout = driver.create().json()["payout"]
    assert payout[name] == value
    assert driver.read(payout["payout_id"])[name] == value
