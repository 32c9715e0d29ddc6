"""The paths of the eComCharge simulator: who may call, what a repeat does, where the money goes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any

import pytest

from .ecomcharge_world import CARD, PAYOUTS, Driver, beyag_body, shop

FULL = 1_000_000_000
LISTED = "/v2/transactions/tracking_id"


@pytest.mark.parametrize(
    ("host", "method", "path"),
    [
        ("beyag", "POST", PAYOUTS),
        ("beyag", "GET", "/transactions/x"),
        ("beyag", "GET", "/transactions/tracking_id/x"),
        ("beyag", "POST", "/transactions/x/renotify"),
        ("beyag", "POST", "/transactions/payout/precheck"),
        ("beyag", "POST", "/balance"),
        ("beyag", "GET", "/nowhere"),
        ("cards", "POST", PAYOUTS),
        ("cards", "GET", "/transactions/x"),
        ("cards", "GET", f"{LISTED}/x"),
        ("cards", "POST", "/balance"),
        ("cards", "GET", "/nowhere"),
    ],
)
def test_every_call_wants_the_shop_and_its_key(host: str, method: str, path: str) -> None:
    with shop() as driver:
        wrong_shop = {
            "message": "Invalid shop_id/secret_key.",
            "errors": {"system": ["System error."]},
        }
        for auth, told in (
            (None, {"message": "Unauthorized"}),
            (("4242", "wrong"), wrong_shop),
            (("4243", "demo-secret"), wrong_shop),
            (("", ""), wrong_shop),
        ):
            driver.auth = auth
            answer = getattr(driver, host)(method, path, json=beyag_body())
            assert (answer.status_code, answer.json()) == (401, told)
        assert driver.invoices() == []


def test_shop_and_key_can_be_others() -> None:
    with shop(shop_id="7", secret_key="other") as driver:
        assert driver.pay().status_code == 401
        driver.auth = ("7", "other")
        assert driver.pay().status_code == 200


@pytest.mark.parametrize(
    ("host", "method", "path", "status"),
    [
        ("beyag", "GET", "/nowhere", 404),
        ("beyag", "GET", "", 404),
        ("beyag", "GET", "/transactions/unknown", 404),
        ("beyag", "POST", "/transactions/unknown/renotify", 404),
        ("beyag", "GET", "/transactions/tracking_id/a/b", 404),
        ("beyag", "POST", "/transactions/payouts/precheck", 404),
        ("beyag", "GET", f"{LISTED}/x", 404),
        ("beyag", "GET", "/balance", 405),
        ("beyag", "DELETE", PAYOUTS, 405),
        ("beyag", "PUT", "/transactions/tracking_id/x", 405),
        ("beyag", "GET", "/transactions/x/renotify", 405),
        ("cards", "POST", "/transactions/payout", 405),
        ("cards", "GET", "/transactions/unknown", 404),
        ("cards", "GET", "/transactions/tracking_id/x", 404),
        ("cards", "POST", "/balance", 404),
        ("cards", "DELETE", f"{LISTED}/x", 405),
    ],
)
def test_wrong_place_or_method_is_refused(host: str, method: str, path: str, status: int) -> None:
    with shop() as driver:
        answer = getattr(driver, host)(method, path)
        told = {404: "Not found.", 405: "Method Not Allowed"}[status]
        assert (answer.status_code, answer.json()) == (status, {"message": told})


def test_create_is_found_at_both_paths() -> None:
    with shop() as driver:
        driver.paid(path="/transactions/payout")
        driver.paid(path="/transactions/payouts")
        assert len(driver.find()) == 2


def test_tracking_id_is_not_unique_and_every_create_pays() -> None:
    with shop() as driver:
        uids = [driver.paid()["uid"] for _ in range(2)]
        assert driver.find() == uids[::-1]
        assert driver.releases() == 2
        assert driver.balance() == FULL - 2 * 2550


def test_request_id_pays_once_and_answers_with_the_fresh_status() -> None:
    with shop() as driver:
        first = driver.paid(key="k-1")
        assert driver.paid(key="k-1") == first
        driver.advance(1)
        again = driver.paid(key="k-1", amount=9999, reference="r-2")
        assert (again["uid"], again["status"], again["amount"]) == (
            first["uid"],
            "successful",
            2550,
        )
        assert driver.paid(key="k-2")["uid"] != first["uid"]
        assert driver.releases() == 2


def test_request_id_is_forgotten_after_a_day() -> None:
    with shop() as driver:
        first = driver.paid(key="k-1")
        driver.advance(86_399)
        assert driver.paid(key="k-1")["uid"] == first["uid"]
        driver.advance(1)
        second = driver.paid(key="k-1")
        assert second["uid"] != first["uid"]
        assert driver.paid(key="k-1")["uid"] == second["uid"]
        assert driver.releases() == 2


def test_request_id_can_be_ignored() -> None:
    with shop(request_id="ignore") as driver:
        assert driver.paid(key="k-1")["uid"] != driver.paid(key="k-1")["uid"]
        assert driver.releases() == 2


def test_request_id_repeats_a_refusal_too() -> None:
    with shop() as driver:
        refused = driver.pay(key="k-1", amount=0)
        again = driver.pay(key="k-1")
        assert (again.status_code, again.json()) == (422, refused.json())
        assert driver.releases() == 0


def test_request_id_counts_for_each_host_by_itself() -> None:
    with shop() as driver:
        driver.paid(key="k-1")
        first = driver.pay_card(key="k-1").json()["transaction"]["uid"]
        assert driver.pay_card(key="k-1").json()["transaction"]["uid"] == first
        assert driver.releases() == 2


def test_request_id_of_a_call_that_never_arrived_is_free() -> None:
    with shop() as driver:
        driver.fault("create:503")
        assert driver.pay(key="k-1").status_code == 503
        assert driver.pay(key="k-1").status_code == 200
        assert driver.releases() == 1


@pytest.mark.parametrize("told", ["409", "429", "wait"])
def test_repeat_while_the_first_is_running_gets_what_the_account_says(told: str) -> None:
    with shop(busy_s=5, busy_answer=told) as driver:
        first = driver.paid(key="k-1")["uid"]
        driver.advance(4)
        repeat = driver.pay(key="k-1")
        assert repeat.status_code == (200 if told == "wait" else int(told))
        driver.advance(1)
        assert driver.paid(key="k-1")["uid"] == first
        assert driver.releases() == 1


def test_semicolon_makes_several_ids() -> None:
    with shop() as driver:
        joined = driver.paid(reference="a;b")
        alone = driver.paid(reference="b")
        assert driver.find("a") == [joined["uid"]]
        assert driver.find("b") == [alone["uid"], joined["uid"]]
        assert driver.find("a;b") == driver.find("a%3Bb") == []


def test_find_shows_nothing_as_200_and_an_empty_list() -> None:
    with shop() as driver:
        answer = driver.beyag("GET", "/transactions/tracking_id/none")
        assert (answer.status_code, answer.json()) == (200, {"transactions": []})


def test_find_lags_behind_and_a_read_does_not() -> None:
    with shop(find_delay_s=10) as driver:
        uid = driver.paid()["uid"]
        driver.pay_card()
        assert driver.find() == []
        assert driver.cards("GET", f"{LISTED}/r-1").json() == {"transactions": []}
        assert driver.read(uid)["uid"] == uid
        driver.advance(10)
        assert driver.find() == [uid]
        driver.fault("hide=60", "r-2")
        driver.paid("r-2")
        driver.advance(59)
        assert driver.find("r-2") == []
        driver.advance(1)
        assert len(driver.find("r-2")) == 1


def test_hosts_do_not_show_each_others_payouts() -> None:
    with shop() as driver:
        beyag = driver.paid()["uid"]
        card = driver.pay_card().json()["transaction"]["uid"]
        assert driver.find() == [beyag]
        assert [
            each["uid"] for each in driver.cards("GET", f"{LISTED}/r-1").json()["transactions"]
        ] == [card]
        assert driver.beyag("GET", f"/transactions/{card}").status_code == 404
        assert driver.cards("GET", f"/transactions/{beyag}").status_code == 404


# Cards.


def test_same_card_and_amount_within_30_seconds_is_refused() -> None:
    with shop() as driver:
        assert driver.pay_card("r-1").status_code == 200
        driver.advance(29)
        again = driver.pay_card("r-2")
        assert (again.status_code, again.json()["errors"]) == (
            422,
            {"base": ["Duplicate transaction"]},
        )
        assert driver.pay_card("r-2", version="3").json()["code"] == "E.1025"
        driver.advance(1)
        assert driver.pay_card("r-2").status_code == 200
        assert (driver.releases("r-1"), driver.releases("r-2")) == (1, 1)


@pytest.mark.parametrize(
    "other",
    [
        {"amount": 2551},
        {"currency": "EUR"},
        {"recipient_credit_card": {"number": CARD[:-1] + "9"}},
        {"recipient_credit_card": {"token": "tok-1"}},
        {"duplicate_check": False},
    ],
)
def test_another_card_amount_or_no_check_is_no_duplicate(other: dict[str, Any]) -> None:
    with shop() as driver:
        driver.pay_card()
        assert driver.pay_card(**other).status_code == 200
        assert driver.releases() == 2


def test_same_token_and_amount_is_a_duplicate_and_its_request_id_is_not() -> None:
    with shop() as driver:
        card = {"token": "tok-1"}
        assert driver.pay_card(key="k-1", recipient_credit_card=card).status_code == 200
        assert driver.pay_card(recipient_credit_card=card).status_code == 422
        assert driver.pay_card("r-2", recipient_credit_card={"token": "tok-2"}).status_code == 200
        assert driver.pay_card(key="k-1", recipient_credit_card=card).status_code == 200
        assert driver.releases() == 1


def test_beyag_has_no_duplicate_check() -> None:
    with shop() as driver:
        driver.paid(duplicate_check=True)
        driver.paid(duplicate_check=True)
        assert driver.releases() == 2


def test_card_numbers_can_be_forbidden_and_tokens_not() -> None:
    with shop(card_numbers=False) as driver:
        refused = driver.pay_card()
        assert (refused.status_code, refused.json()["code"]) == (422, "E.1065")
        assert driver.pay_card(recipient_credit_card={"token": "tok-1"}).status_code == 200
        assert driver.releases() == 1


# Statuses and money.


@pytest.mark.parametrize(
    ("fault", "end", "spent"),
    [
        ("", "successful", 2550),
        ("status=failed", "failed", 0),
        ("status=expired", "expired", 0),
        ("status=error", "error", 0),
        ("status=deleted", "deleted", 0),
        ("path=initial>incomplete>successful", "successful", 2550),
        ("status=incomplete", "incomplete", 2550),
        ("status=initial", "initial", 2550),
        ("status=brand_new", "brand_new", 2550),
        ("path=successful>failed", "failed", 0),
        ("path=failed>successful", "successful", 2550),
        ("returned=60", "failed", 0),
    ],
)
def test_end_of_a_payout_moves_the_money(fault: str, end: str, spent: int) -> None:
    with shop(settle_s=5) as driver:
        driver.fault(fault or "settle=5")
        uid = driver.paid()["uid"]
        assert driver.read(uid)["status"] == "pending"
        assert driver.balance() == FULL - 2550
        driver.advance(65)
        assert driver.read(uid)["status"] == end
        assert driver.balance() == FULL - spent
        assert driver.releases() == 1


def test_late_change_is_made_by_control_call_too() -> None:
    with shop() as driver:
        uid = driver.paid()["uid"]
        driver.advance(1)
        driver.move(uid, "failed", resolution="F_0116")
        assert driver.read(uid)["status"] == "failed"
        assert driver.read(uid)["paid_at"] is None
        assert driver.balance() == FULL
        driver.move(uid, "successful")
        assert driver.balance() == FULL - 2550
        assert driver.releases() == 1


def test_amount_that_ends_in_999_fails_unless_switched_off() -> None:
    with shop() as driver:
        uids = [driver.paid(amount=each)["uid"] for each in (999, 12_999, 9990)]
        card = driver.pay_card(amount=999).json()["transaction"]["uid"]
        driver.advance(1)
        ends = [driver.read(each)["status"] for each in uids]
        assert ends == ["failed", "failed", "successful"]
        assert (
            driver.cards("GET", f"/transactions/{card}").json()["transaction"]["status"] == "failed"
        )
        assert driver.balance() == FULL - 9990
    with shop(magic=False) as driver:
        uid = driver.paid(amount=999)["uid"]
        driver.advance(1)
        assert driver.read(uid)["status"] == "successful"


def test_settling_at_once_answers_with_the_end() -> None:
    with shop(settle_s=0) as driver:
        assert driver.paid()["status"] == "successful"


@pytest.mark.parametrize("http", [200, 202, 422])
def test_declined_payout_comes_with_the_http_status_of_the_account(http: int) -> None:
    with shop(settle_s=0, declined_http=http) as driver:
        declined = driver.pay(amount=999)
        assert (declined.status_code, declined.json()["transaction"]["status"]) == (http, "failed")
        assert driver.pay_card(amount=999).status_code == http
        assert driver.pay().status_code == 200


def test_error_without_a_uid_stores_nothing() -> None:
    with shop(declined_http=202) as driver:
        driver.fault("status=error resolution=no_uid", "r-1")
        answer = driver.pay()
        assert answer.status_code == 202
        assert answer.json()["transaction"] == {
            "type": "payout",
            "status": "error",
            "tracking_id": "r-1",
            "message": "The request was not accepted",
        }
        assert driver.invoices() == []
        assert driver.pay("r-2").status_code == 200


def poor_shop(**options: Any) -> AbstractContextManager[Driver]:
    return shop(balances={"USD": Decimal("30.00")}, **options)


def test_low_balance_fails_the_payout_and_commits_nothing() -> None:
    with poor_shop(codes=True) as driver:
        driver.paid("r-1")
        second = driver.paid("r-2")
        assert second["status"] == "pending"
        driver.advance(1)
        failed = driver.read(second["uid"])
        assert (failed["status"], failed["code"]) == ("failed", "F.0114")
        assert failed["message"] == "Insufficient funds"
        assert driver.releases("r-2") == 0
        assert driver.balance() == 450


def test_low_balance_is_422_where_the_account_says_so() -> None:
    with poor_shop(low_balance="422") as driver:
        driver.paid("r-1")
        refused = driver.pay("r-2")
        assert refused.status_code == 422
        assert refused.json()["errors"] == {"request": {"base": ["Insufficient funds"]}}
        assert driver.pay_card("r-2").json()["message"] == "Insufficient funds."
        assert driver.invoices("r-2") == []


@pytest.mark.parametrize(
    ("fault", "member", "value"),
    [
        ("amount=99.99", "amount", 9999),
        ("amount=0.001", "amount", 0.1),
        ("currency=EUR", "currency", "EUR"),
        ("mode-flipped", "test", False),
    ],
)
def test_fault_changes_what_is_stored(fault: str, member: str, value: Any) -> None:
    with shop() as driver:
        driver.fault(fault)
        paid = driver.paid()
        assert paid[member] == value
        assert driver.read(paid["uid"])[member] == value


def test_calls_are_counted_under_their_tracking_id() -> None:
    with shop() as driver:
        uid = driver.paid()["uid"]
        driver.read(uid)
        driver.find()
        driver.pay(amount=0)
        known = driver.control("GET", "ledger/r-1").json()
        assert (known["creates"], known["reads"], known["finds"]) == (2, 1, 1)
