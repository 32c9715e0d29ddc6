"""Look-ups and lists of the Ecart Pay simulator: what is found, in what order, page by page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from workers.simulator import ecart_views as views

from .ecart_driver import Driver, starter


@pytest.fixture
def start() -> Iterator[Callable[..., Driver]]:
    with starter() as begin:
        yield begin


@pytest.fixture
def driver(start: Callable[..., Driver]) -> Driver:
    return start()


def many(driver: Driver, count: int) -> None:
    for number in range(1, count + 1):
        driver.created(f"r-{number}", amount=number)


def references(page: Any) -> list[str]:
    return [each["reference_id"] for each in page["data"]]


def newest(first: int, last: int) -> list[str]:
    return [f"r-{number}" for number in range(first, last - 1, -1)]


# One payout.


def test_read_shows_what_the_create_showed(driver: Driver) -> None:
    payout = driver.created()
    assert driver.read(payout["id"]) == payout


@pytest.mark.parametrize("require_confirmation", [True, False])
def test_find_by_own_reference_shows_the_payout(driver: Driver, require_confirmation: bool) -> None:
    payout = driver.created(require_confirmation=require_confirmation)
    driver.created("r-10")
    assert driver.find() == {"data": [payout]}
    assert driver.find("nobody") == {"data": []}


@pytest.mark.parametrize("shape", ["data", "payouts", "bare"])
def test_list_has_the_form_of_the_switch(start: Callable[..., Driver], shape: str) -> None:
    driver = start(list_shape=shape)
    payout = driver.created()
    found = driver.find()
    assert (found if shape == "bare" else found[shape]) == [payout]


def test_find_does_not_exist_where_it_is_off(start: Callable[..., Driver]) -> None:
    driver = start(lookup="off")
    payout = driver.created()
    answer = driver.call("GET", "/api/payouts?reference_id=r-1")
    assert answer.status_code == 404
    assert "code" not in answer.json()
    assert driver.call("GET", "/api/payouts").status_code == 404
    assert driver.read(payout["id"]) == payout


def test_ignored_reference_finds_the_newest_payouts(start: Callable[..., Driver]) -> None:
    driver = start(lookup="ignored")
    many(driver, 12)
    assert references(driver.find("nobody")) == newest(12, 3)


def test_without_a_reference_the_newest_payouts_are_listed(driver: Driver) -> None:
    many(driver, 12)
    assert references(driver.call("GET", "/api/payouts").json()) == newest(12, 3)


def test_new_payout_is_hidden_for_the_time_of_the_account(start: Callable[..., Driver]) -> None:
    driver = start(find_delay_s=5)
    payout = driver.created()
    driver.advance(4)
    assert (driver.find(), references(driver.lines())) == ({"data": []}, [])
    assert driver.read(payout["id"]) == payout
    driver.advance(1)
    assert (driver.find(), references(driver.lines())) == ({"data": [payout]}, ["r-1"])


def test_new_payout_is_hidden_for_the_time_of_a_fault(driver: Driver) -> None:
    driver.fault("hide=30", "r-1")
    driver.created("r-1")
    driver.created("r-2")
    assert (driver.find("r-1"), references(driver.lines())) == ({"data": []}, ["r-2"])
    driver.advance(30)
    assert references(driver.lines()) == ["r-2", "r-1"]


# The ledger.


def test_line_has_the_names_that_the_page_assumes(driver: Driver) -> None:
    payout = driver.created()
    (line,) = driver.lines()["data"]
    line_id = line.pop("id")
    assert re.fullmatch("[0-9a-f]{24}", line_id)
    assert line_id != payout["id"]
    assert re.fullmatch(r"TR\d{8}A", line["transaction_id"])
    del line["transaction_id"]
    same = ("account_id", "reference_id", "reference", "status", "amount", "fee", "currency")
    assert line == {
        **{name: payout[name] for name in same},
        "type": "payout",
        "created_at": payout["created_at"],
    }
    read = driver.call("GET", f"/api/transactions/{line_id}").json()
    assert read == driver.lines()["data"][0]


@pytest.mark.parametrize(
    ("hold", "shown"), [(True, ["r-1", "pending"]), (False, [])], ids=["held", "not held"]
)
def test_pending_payout_has_a_line_where_its_money_is_held(
    start: Callable[..., Driver], hold: bool, shown: list[str]
) -> None:
    driver = start(hold_on_pending=hold)
    payout_id = driver.pending()
    line = driver.call("GET", f"/api/transactions/{views.transaction_id(payout_id)}")
    assert line.status_code == (200 if hold else 404)
    assert [
        each[name] for each in driver.lines()["data"] for name in ("reference_id", "status")
    ] == (shown)
    driver.confirm(payout_id)
    assert references(driver.lines()) == ["r-1"]


def test_numbered_pages_hold_ten_and_end_at_the_tenth(driver: Driver) -> None:
    many(driver, 13)
    first, second, third = (driver.lines(f"page={number}") for number in (1, 2, 3))
    assert driver.lines() == first
    assert (references(first), references(second)) == (newest(13, 4), newest(3, 1))
    assert (first["page"], first["limit"], first["next_token"] is None) == (1, 10, False)
    assert (second["next_token"], references(third), third["next_token"]) == (None, [], None)
    assert driver.call("GET", "/api/transactions?page=10").status_code == 200
    assert driver.call("GET", "/api/transactions?page=11").status_code == 400


def test_tokens_go_on_past_the_tenth_page_and_back(driver: Driver) -> None:
    many(driver, 24)
    tenth = driver.lines("page=10&limit=2")
    assert references(tenth) == newest(6, 5)
    eleventh = driver.lines(f"limit=2&next={tenth['next_token']}")
    last = driver.lines(f"limit=2&next={eleventh['next_token']}")
    assert (references(eleventh), references(last)) == (newest(4, 3), newest(2, 1))
    assert last["next_token"] is None
    assert "page" not in eleventh
    back = driver.lines(f"limit=2&prev={last['token_page']}")
    assert references(back) == references(eleventh)
    assert back["token_page"] == eleventh["token_page"]
    assert back["next_token"] == eleventh["next_token"]
    front = driver.lines("limit=2")
    assert references(driver.lines(f"limit=2&prev={front['token_page']}")) == []


def test_token_is_not_moved_by_new_payouts(driver: Driver) -> None:
    many(driver, 4)
    first = driver.lines("limit=2")
    driver.created("r-5")
    assert references(driver.lines(f"limit=2&next={first['next_token']}")) == newest(2, 1)
    assert references(driver.lines("limit=2&page=2")) == newest(3, 2)


def test_page_is_never_longer_than_the_account_allows(start: Callable[..., Driver]) -> None:
    driver = start(page_size_max=3)
    many(driver, 5)
    page = driver.lines("limit=100")
    assert (references(page), page["limit"]) == (newest(5, 3), 3)
    assert references(driver.lines("page=2")) == newest(2, 1)


def test_lines_can_be_sifted_by_status_and_date(driver: Driver) -> None:
    driver.created("r-1")
    driver.advance(86_400)
    driver.authorization = None
    driver.created("r-2", email="luis+failed@example.com")
    first, second = "2031-01-02T12:00:00.889Z", "2031-01-03T12:00:00.889Z"
    for query, expected in {
        "status=paid": ["r-1"],
        "status=failed": ["r-2"],
        "status=strange": [],
        "date_from=2031-01-03": ["r-2"],
        "date_to=2031-01-02": ["r-1"],
        "date_from=2031-01-02&date_to=2031-01-03": ["r-2", "r-1"],
        f"date_from={first}&date_to={first}": ["r-1"],
        f"date_from={second}": ["r-2"],
        "date_to=2031-01-02T12:00:00.888Z": [],
        "date_from=2031-01-04": [],
    }.items():
        assert references(driver.lines(query)) == expected, query


def test_moment_that_is_shown_is_the_one_that_is_sifted_by(start: Callable[..., Driver]) -> None:
    for fraction in (0.8894, 0.8896):
        driver = start(manual_clock=1_925_121_600 + fraction)
        shown = driver.created()["created_at"]
        assert references(driver.lines(f"date_from={shown}&date_to={shown}")) == ["r-1"]


def test_next_page_of_a_sifted_list_is_sifted_too(driver: Driver) -> None:
    for number in range(1, 7):
        word = "failed" if number % 2 else "none"
        driver.created(f"r-{number}", email=f"luis+{word}@example.com")
    first = driver.lines("status=failed&limit=2")
    assert references(first) == ["r-5", "r-3"]
    rest = driver.lines(f"status=failed&limit=2&next={first['next_token']}")
    assert (references(rest), rest["next_token"]) == (["r-1"], None)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("page=0", "page"),
        ("page=x", "page"),
        ("page=11", "page"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("next=nonsense", "next"),
        ("next=", "next"),
        ("next=%C3%B1", "next"),
        ("prev=bGluZSB4", "prev"),
        ("date_from=yesterday", "date_from"),
        ("date_to=2031-02-30", "date_to"),
    ],
)
def test_argument_that_cannot_be_read_is_400(driver: Driver, query: str, name: str) -> None:
    answer = driver.call("GET", f"/api/transactions?{query}", headers={"Cookie": "lang=en"})
    assert (answer.status_code, answer.json()["code"]) == (400, 9005)
    assert answer.json()["message"] == f"The field {name} is not valid."


# Shapes.


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (1_925_121_600.889, "2031-01-02T12:00:00.889Z"),
        (1_925_121_600, "2031-01-02T12:00:00.000Z"),
        (1_925_121_599.999_9, "2031-01-02T12:00:00.000Z"),
    ],
)
def test_moment_has_milliseconds(at: float, text: str) -> None:
    assert views.moment(at) == text


def test_line_and_payout_know_each_other() -> None:
    for payout_id in ("68a1c0d3f6ea776ee3b37498", "0" * 24, "f" * 24):
        line_id = views.transaction_id(payout_id)
        assert line_id != payout_id
        assert views.payout_id_of(line_id) == payout_id
    assert views.payout_id_of("summary") is None
