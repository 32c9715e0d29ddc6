"""The JSON of the eComCharge simulator, shape by shape."""

from __future__ import annotations

from typing import Any

import pytest

from workers.simulator.ecomcharge_views import error, moment

from .ecomcharge_world import CUSTOMER, PAYOUTS, beyag_body, shop

PRECHECK = "/transactions/payout/precheck"
CREATED = "2023-11-14T22:13:20Z"


def test_transaction_of_beyag_is_the_pages() -> None:
    with shop() as driver:
        paid = driver.paid(customer=CUSTOMER, ip="192.0.2.10", language="de")
        uid, receipt, ref = paid["uid"], paid["receipt_url"], paid["payout"]["ref_id"]
        assert paid == {
            "uid": uid,
            "type": "payout",
            "status": "pending",
            "amount": 2550,
            "currency": "USD",
            "description": "Payout 42",
            "created_at": CREATED,
            "updated_at": CREATED,
            "paid_at": None,
            "method_type": "bank_transfer",
            "tracking_id": "r-1",
            "message": "Waiting",
            "test": True,
            "language": "de",
            "receipt_url": receipt,
            "payout": {
                "status": "pending",
                "gateway_id": 85,
                "ref_id": ref,
                "message": "Waiting",
                "bank_code": None,
                "rrn": None,
            },
            "customer": {"ip": "******2.10", "email": "************.org"},
            "billing_address": {
                "first_name": "****",
                "last_name": "***",
                "country": "**",
                "phone": "********4321",
            },
        }
        assert uid.startswith("2-")
        assert uid in receipt
        assert ref.isdigit()
        driver.advance(0.5)
        done = driver.read(uid)
        changed = {name for name in done if done[name] != paid[name]}
        assert changed == {"status", "updated_at", "paid_at", "message", "payout"}
        assert done["paid_at"] == done["updated_at"] == "2023-11-14T22:13:20.500Z"
        assert (done["status"], done["payout"]["status"]) == ("successful", "successful")


def test_payout_without_a_tracking_id_has_none() -> None:
    with shop() as driver:
        answer = driver.beyag("POST", PAYOUTS, json=beyag_body(None, test=None))
        transaction = answer.json()["transaction"]
        assert (transaction["tracking_id"], transaction["test"]) == (None, False)


def test_card_transaction_has_its_card_and_no_method() -> None:
    with shop() as driver:
        paid = driver.pay_card().json()["transaction"]
        assert paid["uid"].count("-") == 4
        assert paid["payment_method_type"] == "credit_card"
        assert "method_type" not in paid
        assert paid["credit_card"]["last_4"] == "0001"
        assert paid["payout"]["gateway_id"] == 85
        assert paid["manually_corrected_at"] is None


def test_third_version_is_flat_and_coded_at_the_card_host_only() -> None:
    with shop() as driver:
        flat = driver.pay_card(version="3").json()
        assert flat == {
            "uid": flat["uid"],
            "type": "payout",
            "status": "pending",
            "amount": 2550,
            "currency": "USD",
            "description": "Payout 42",
            "created_at": CREATED,
            "updated_at": CREATED,
            "paid_at": None,
            "tracking_id": "r-1",
            "test": True,
            "code": "P.0001",
            "friendly_message": "Waiting",
            "message": "Waiting",
            "manually_corrected_at": None,
        }
        path = f"/transactions/{flat['uid']}"
        assert driver.cards("GET", path, version="3").json() == flat
        assert driver.cards("GET", path).json()["transaction"]["uid"] == flat["uid"]
        listed = "/v2/transactions/tracking_id/r-1"
        assert driver.cards("GET", listed, version="3").json() == {"transactions": [flat]}
        ignored = driver.beyag("POST", PAYOUTS, json=beyag_body(), headers={"X-API-Version": "3"})
        assert ignored.json()["transaction"]["status"] == "pending"


def test_correction_of_a_final_status_is_dated_at_the_card_host() -> None:
    with shop() as driver:
        uid = driver.pay_card().json()["transaction"]["uid"]
        driver.advance(1)
        path = f"/transactions/{uid}"
        assert driver.cards("GET", path).json()["transaction"]["manually_corrected_at"] is None
        driver.advance(59)
        driver.move(uid, "failed")
        corrected = driver.cards("GET", path).json()["transaction"]
        assert corrected["manually_corrected_at"] == "2023-11-14T22:14:20Z"
        assert driver.cards("GET", path, version="3").json()["manually_corrected_at"] is not None


@pytest.mark.parametrize(
    ("form", "none", "one", "two"),
    [
        (
            "transactions",
            {"transactions": []},
            {"transactions": ["a"]},
            {"transactions": ["b", "a"]},
        ),
        ("list", [], ["a"], ["b", "a"]),
        (
            "transaction",
            {"message": "Not found."},
            {"transaction": "a"},
            {"transactions": ["b", "a"]},
        ),
    ],
)
def test_card_find_has_three_shapes(form: str, none: Any, one: Any, two: Any) -> None:
    names: dict[str, str] = {}

    def named(told: Any) -> Any:
        """The answer with each transaction as the letter of its payout."""
        if isinstance(told, list):
            return [named(each) for each in told]
        if "uid" in told:
            return names[told["uid"]]
        return {name: each if isinstance(each, str) else named(each) for name, each in told.items()}

    with shop(card_find=form) as driver:
        path = "/v2/transactions/tracking_id/r-1"
        found = driver.cards("GET", path)
        assert (found.status_code, named(found.json())) == (
            404 if form == "transaction" else 200,
            none,
        )
        names[driver.pay_card().json()["transaction"]["uid"]] = "a"
        assert named(driver.cards("GET", path).json()) == one
        names[driver.pay_card(amount=1).json()["transaction"]["uid"]] = "b"
        assert named(driver.cards("GET", path).json()) == two


def test_finds_show_the_newest_hundred_and_the_newest_ten() -> None:
    with shop() as driver:
        uids = [driver.paid()["uid"] for _ in range(101)]
        assert driver.find() == uids[:0:-1]
        cards = [driver.pay_card(amount=each).json()["transaction"]["uid"] for each in range(1, 12)]
        found = driver.cards("GET", "/v2/transactions/tracking_id/r-1").json()["transactions"]
        assert [each["uid"] for each in found] == cards[:0:-1]


def test_decoys_stand_before_what_was_asked_for() -> None:
    with shop(decoys=True) as driver:
        uid = driver.paid()["uid"]
        found = driver.beyag("GET", "/transactions/tracking_id/r-1").json()["transactions"]
        assert [(each["type"], each["tracking_id"]) for each in found] == [
            ("payment", "r-1"),
            ("payout", "r-1-2"),
            ("payout", "r-1"),
        ]
        assert found[-1]["uid"] == uid
        cards = driver.cards("GET", "/v2/transactions/tracking_id/r-9").json()["transactions"]
        assert [each["type"] for each in cards] == ["payment", "payout"]


def test_phone_is_a_number_where_the_account_says_so() -> None:
    with shop(phone_number=True) as driver:
        assert driver.paid(customer=CUSTOMER)["billing_address"]["phone"] == 4321
        assert driver.paid(customer={"phone": "n/a"})["billing_address"]["phone"] == 0
        assert "phone" not in driver.paid()["billing_address"]


def test_form_is_carried_while_a_payout_is_open() -> None:
    with shop(form=True) as driver:
        paid = driver.paid()
        assert paid["form"]["method"] == "GET"
        assert paid["form"]["fields"] == []
        assert paid["form"]["action"].endswith(paid["uid"])
        driver.advance(1)
        assert "form" not in driver.read(paid["uid"])


@pytest.mark.parametrize("code", ["form", "leg_pending", "F_0114"])
def test_resolution_asks_for_an_answer_of_the_page(code: str) -> None:
    with shop(codes=True) as driver:
        driver.fault(f"status=failed settle=0 resolution={code}")
        paid = driver.paid()
        assert paid["status"] == "failed"
        assert ("form" in paid) == (code == "form")
        assert paid["payout"]["status"] == ("pending" if code == "leg_pending" else "failed")
        assert paid["code"] == ("F.0114" if code == "F_0114" else "F.0999")
        assert paid["friendly_message"] == paid["message"] == paid["payout"]["message"]


def test_transactions_carry_no_code_unless_asked() -> None:
    with shop() as driver:
        assert not {"code", "friendly_message", "form"} & driver.paid().keys()


def test_balance_of_beyag_is_not_wrapped() -> None:
    with shop(gateway_id=1234) as driver:
        asked = {"gateway_id": 1234, "account": "4070", "currency": "EUR"}
        assert driver.beyag("POST", "/balance", json=asked).json() == {
            "code": "S.0000",
            "status": "Successful",
            "message": "none",
            "friendly_message": "Successfully processed",
            "gateway_id": 1234,
            "account": "4070",
            "amount": 1_000_000_000,
            "currency": "EUR",
            "provider_info": {"BankCode": 200},
        }
        told = driver.beyag("POST", "/balance", json={"gateway_id": 1234}).json()
        assert (told["account"], told["currency"]) == (None, "USD")


@pytest.mark.parametrize("asked", [{"account": "4070"}, {"currency": "USD"}, {"gateway_id": "85"}])
def test_balance_of_the_card_host_is_wrapped(asked: dict[str, str]) -> None:
    with shop() as driver:
        answer = driver.cards("POST", "/balance", version="2", json={"request": asked})
        assert answer.json() == {
            "status": "successful",
            "result": {
                "gatewayId": 85,
                "account": asked.get("account"),
                "amount": 1_000_000_000,
                "currency": "USD",
                "bankInfo": {},
            },
        }


@pytest.mark.parametrize(
    ("asked", "errors"),
    [
        ({}, {"gateway_id": ["is missing"]}),
        ({"gateway_id": "85"}, {"gateway_id": ["is invalid"]}),
        ({"gateway_id": 86}, {"gateway_id": ["is invalid"]}),
        ({"gateway_id": 85, "currency": "CHF"}, {"currency": ["is not supported"]}),
    ],
)
def test_balance_refuses_in_the_coded_form(asked: dict[str, Any], errors: dict[str, Any]) -> None:
    with shop() as driver:
        answer = driver.beyag("POST", "/balance", json=asked)
        assert (answer.status_code, answer.json()["code"]) == (422, "E.1025")
        assert answer.json()["errors"] == errors


def test_balance_call_can_be_missing_at_the_gateway() -> None:
    with shop(balance_call=False) as driver:
        answer = driver.beyag("POST", "/balance", json={"gateway_id": 85})
        assert (answer.status_code, list(answer.json()["errors"])) == (422, ["base"])
        card = {"request": {"gateway_id": "85"}}
        assert driver.cards("POST", "/balance", version="2", json=card).status_code == 422


def test_balance_of_the_card_host_wants_its_wrapper_and_its_gateway() -> None:
    with shop() as driver:
        refused: list[Any] = [
            {"gateway_id": "85"},
            {"request": {}},
            {"request": {"gateway_id": "86"}},
        ]
        for asked in refused:
            assert driver.cards("POST", "/balance", version="2", json=asked).status_code == 422


def test_precheck_allows_refuses_and_never_pays() -> None:
    with shop() as driver:
        allowed = driver.beyag("POST", PRECHECK, json=beyag_body())
        assert (allowed.status_code, allowed.json()["code"]) == (200, "S.0000")
        assert allowed.json()["status"] == "successful"
        assert allowed.json()["commission"]["currency"] == "USD"
        assert allowed.json()["smart_routing_verification"] == {"status": "successful"}
        assert allowed.json()["precheck"]["gateway_id"] == 85
        for amount in (1999, 10**12):
            answer = driver.beyag("POST", PRECHECK, json=beyag_body(amount=amount))
            assert (answer.status_code, answer.json()["code"]) == (202, "F.0223")
            assert answer.json()["status"] == "failed"
            assert not {"commission", "precheck"} & answer.json().keys()
        assert driver.invoices() == []
        assert driver.control("GET", "calls").json()["precheck"] == 3


def test_precheck_lists_the_faults() -> None:
    with shop() as driver:
        answer = driver.beyag("POST", PRECHECK, json=beyag_body(amount=0, method={}))
        assert (answer.status_code, answer.json()["code"]) == (422, "E.0625")
        assert answer.json()["errors"] == [
            {"amount": ["must be greater than 0"]},
            {"type": ["is missing"]},
        ]
        naked = driver.beyag("POST", PRECHECK, json=beyag_body()["request"])
        assert naked.json()["errors"] == [{"request": ["is missing"]}]


def test_precheck_is_404_where_the_shop_has_none() -> None:
    with shop(precheck=False) as driver:
        assert driver.beyag("POST", PRECHECK, json=beyag_body()).status_code == 404


def test_error_has_the_form_of_its_status() -> None:
    assert error(404).body == b'{"message":"Not found."}'
    assert error(401).body == b'{"message":"Unauthorized"}'
    assert error(503).body == (
        b'{"response":{"message":"Service Unavailable",'
        b'"errors":{"gateway":"is temporarily unavailable"}}}'
    )
    assert error(422).body == (
        b'{"message":"Unprocessable entity","errors":{"request":{"base":["is invalid"]}}}'
    )
    assert error(429).status == 429


def test_moment_is_utc_with_a_fraction_only_where_there_is_one() -> None:
    assert moment(0) == "1970-01-01T00:00:00Z"
    assert moment(1_704_880_800.5) == "2024-01-10T10:00:00.500Z"
