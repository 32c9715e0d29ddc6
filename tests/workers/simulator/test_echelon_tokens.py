"""Who may call the Echelon Pay simulator: the version, the token, its life and its operations."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from .echelon_driver import START, Driver, decoded, echelon, jwt, order

BOTH = ("POST /payouts/PO-1", "GET /payouts/PO-1")
KEY = "platform-key-demo"


@pytest.fixture
def merchant() -> Iterator[Driver]:
    with echelon() as driver:
        yield driver


def told(answer: httpx.Response) -> tuple[int, str]:
    document = answer.json()
    assert set(document) == {"code", "message"}
    return answer.status_code, document["code"]


def live_claims(**more: Any) -> dict[str, Any]:
    now = int(START)
    return {"operations": list(BOTH), "exp": now + 600, "iat": now, "sub": "M-4711", **more}


def test_token_is_a_jwt_with_the_claims_of_the_page(merchant: Driver) -> None:
    answer = merchant.ask_token(*BOTH)
    assert (answer.status_code, set(answer.json())) == (200, {"token"})
    token = answer.json()["token"]
    header, claims = decoded(token)
    assert header == {"alg": "HS256", "typ": "JWT"}
    assert list(claims) == ["operations", "exp", "jti", "iat", "sub"]
    assert claims["operations"] == list(BOTH)
    assert (claims["iat"], claims["exp"], claims["sub"]) == (START, START + 600, "M-4711")
    again = merchant.ask_token(*BOTH).json()["token"]
    assert uuid.UUID(claims["jti"]) != uuid.UUID(decoded(again)[1]["jti"])


def test_token_made_by_hand_with_the_key_of_the_platform_is_good(merchant: Driver) -> None:
    token = jwt({"alg": "HS256", "typ": "JWT"}, live_claims(), KEY)
    assert merchant.create(token=token).status_code == 200
    assert merchant.read(token=token).status_code == 200


@pytest.mark.parametrize("version", [None, "1", "2.0", ""])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/auth-tokens"),
        ("POST", "/auth-tokens-by-action"),
        ("POST", "/payouts/PO-1"),
        ("GET", "/payouts/PO-1"),
        ("GET", "/payment-operators"),
        ("GET", "/nowhere"),
    ],
)
def test_version_that_is_missing_or_another_is_400(
    merchant: Driver, method: str, path: str, version: str | None
) -> None:
    headers = {} if version is None else {"X-API-Version": version}
    token = jwt({"alg": "HS256"}, live_claims(operations=[f"{method} {path}"]), KEY)
    headers["Authorization"] = f"Bearer {token}"
    answer = merchant.http.request(method, merchant.running.base_url + path, headers=headers)
    assert told(answer) == (400, "ATTRIBUTE_VALUE_INVALID")


@pytest.mark.parametrize("wrong", [{"merchantCode": "M-4712"}, {"secret": "s3cret2"}])
def test_wrong_merchant_or_secret_is_401(merchant: Driver, wrong: dict[str, str]) -> None:
    assert told(merchant.ask_token(*BOTH, **wrong)) == (401, "CREDENTIALS_INVALID")
    assert told(merchant.ask_action_token(**wrong)) == (401, "CREDENTIALS_INVALID")
    assert merchant.calls()["token"] == 0


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"merchantCode": None}, "ATTRIBUTE_REQUIRED"),
        ({"secret": ""}, "ATTRIBUTE_REQUIRED"),
        ({"operations": None}, "ATTRIBUTE_REQUIRED"),
        ({"operations": []}, "ATTRIBUTE_REQUIRED"),
        ({"operations": "POST /payouts/PO-1"}, "ATTRIBUTE_VALUE_INVALID"),
        ({"operations": ["POST payouts/PO-1"]}, "ATTRIBUTE_VALUE_INVALID"),
        ({"operations": [BOTH[0], 5]}, "ATTRIBUTE_VALUE_INVALID"),
        ({"validitySecs": None}, "ATTRIBUTE_REQUIRED"),
        ({"validitySecs": 0}, "ATTRIBUTE_VALUE_INVALID"),
        ({"validitySecs": 3601}, "ATTRIBUTE_VALUE_INVALID"),
        ({"validitySecs": 1.5}, "ATTRIBUTE_VALUE_INVALID"),
        ({"validitySecs": True}, "ATTRIBUTE_VALUE_INVALID"),
        ({"validitySecs": "600"}, "ATTRIBUTE_VALUE_INVALID"),
    ],
)
def test_token_call_that_is_not_well_formed_is_400(
    merchant: Driver, wrong: dict[str, Any], code: str
) -> None:
    assert told(merchant.ask_token(**{"operations": list(BOTH), **wrong})) == (400, code)


@pytest.mark.parametrize("path", ["/auth-tokens", "/auth-tokens-by-action"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"validitySecs":NaN}', b"[" * 100_000])
def test_token_call_that_cannot_be_read_is_400(merchant: Driver, path: str, body: bytes) -> None:
    answer = merchant.send("POST", path, content=body)
    assert told(answer) == (400, "ATTRIBUTE_INVALID")


@pytest.mark.parametrize("validity_s", [1, 600, 3600])
def test_token_lives_as_long_as_it_was_asked_for(merchant: Driver, validity_s: int) -> None:
    token = merchant.ask_token(*BOTH, validitySecs=validity_s).json()["token"]
    assert merchant.create(token=token).status_code == 200
    merchant.advance(validity_s - 1)
    assert merchant.read(token=token).status_code == 200
    merchant.advance(1)
    assert told(merchant.read(token=token)) == (401, "UNAUTHORIZED")
    assert told(merchant.create("PO-1", token=token)) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer nonsense",
        "Bearer a.b.c",
        "Basic TS00NzExOnMzY3JldA==",
        f"Token {jwt({'alg': 'HS256'}, live_claims(), KEY)}",
        f"Bearer {jwt({'alg': 'HS256'}, live_claims(), 'another key')}",
        f"Bearer {jwt({'alg': 'HS256'}, live_claims(), KEY)}A",
        f"Bearer {jwt({'alg': 'HS256'}, live_claims(), KEY).rpartition('.')[0]}.",
        f"Bearer {jwt({'alg': 'none'}, live_claims(), '').rpartition('.')[0]}.",
        f"Bearer {jwt({'alg': 'HS256'}, live_claims(exp=int(START)), KEY)}",
        f"Bearer {jwt({'alg': 'HS256'}, live_claims(sub='M-4712'), KEY)}",
    ],
)
def test_token_that_is_missing_forged_or_expired_is_401(
    merchant: Driver, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for method, body in (("POST", order()), ("GET", None)):
        answer = merchant.send(method, "/payouts/PO-1", headers=headers, json=body)
        assert told(answer) == (401, "UNAUTHORIZED")
    assert merchant.send("GET", "/payment-operators", headers=headers).status_code == 401
    assert merchant.control("GET", "ledger").json() == []


def test_claims_of_another_token_do_not_fit_its_signature(merchant: Driver) -> None:
    narrow = jwt({"alg": "HS256"}, live_claims(operations=[BOTH[1]]), KEY)
    wide = jwt({"alg": "HS256"}, live_claims(), KEY)
    mixed = ".".join([*wide.split(".")[:2], narrow.split(".")[2]])
    assert merchant.create(token=mixed).status_code == 401


@pytest.mark.parametrize(
    "operations",
    [
        ["GET /payouts/PO-1"],
        ["POST /payouts/PO-2"],
        ["POST /payouts/PO-11"],
        ["POST /payouts/PO"],
        ["POST /payouts/*"],
        ["POST /payouts/po-1"],
        ["GET /payment-operators"],
    ],
)
def test_operation_that_the_token_does_not_list_is_403(
    merchant: Driver, operations: list[str]
) -> None:
    token = merchant.ask_token(*operations).json()["token"]
    assert told(merchant.create(token=token)) == (403, "FORBIDDEN")
    assert merchant.calls()["create"] == 0


def test_reading_wants_its_own_operation(merchant: Driver) -> None:
    token = merchant.ask_token("POST /payouts/PO-1").json()["token"]
    assert merchant.create(token=token).status_code == 200
    assert told(merchant.read(token=token)) == (403, "FORBIDDEN")
    assert merchant.call("GET", "/payment-operators", token=token).status_code == 403


def test_path_is_compared_with_the_operation_unescaped(merchant: Driver) -> None:
    token = merchant.ask_token(*BOTH).json()["token"]
    answer = merchant.call("POST", "/payouts/PO%2D1", token=token, json=order())
    assert answer.status_code == 200
    assert len(merchant.ledger("PO-1")["invoices"]) == 1


def test_token_by_action_is_good_for_its_one_payout(merchant: Driver) -> None:
    answer = merchant.ask_action_token()
    token = answer.json()["token"]
    assert (answer.status_code, decoded(token)[1]["operations"]) == (200, list(BOTH))
    assert merchant.create("PO-2", token=token).status_code == 403
    assert merchant.create("PO-1", token=token).status_code == 200
    assert merchant.read("PO-1", token=token).status_code == 200


@pytest.mark.parametrize(
    ("amount", "currency", "status"),
    [(10000, "IDR", 200), (10000.0, "IDR", 200), (10001, "IDR", 403), (10000, "USD", 403)],
)
def test_token_by_action_is_good_for_its_money_only(
    merchant: Driver, amount: float, currency: str, status: int
) -> None:
    money = {"amount": 10000, "currencyCode": "IDR"}
    token = merchant.ask_action_token(money=money).json()["token"]
    assert merchant.create(token=token, amount=amount, currency=currency).status_code == status
    assert len(merchant.ledger()["invoices"]) == (1 if status == 200 else 0)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"action": "PAYOUT"}, "ATTRIBUTE_VALUE_INVALID"),
        ({"action": None}, "ATTRIBUTE_VALUE_INVALID"),
        ({"idPayment": ""}, "ATTRIBUTE_REQUIRED"),
        ({"idPayment": 7}, "ATTRIBUTE_REQUIRED"),
        ({"money": {"amount": 1}}, "ATTRIBUTE_VALUE_INVALID"),
        ({"money": {"amount": "1", "currencyCode": "IDR"}}, "ATTRIBUTE_VALUE_INVALID"),
        ({"validitySecs": 3601}, "ATTRIBUTE_VALUE_INVALID"),
        ({"secret": None}, "ATTRIBUTE_REQUIRED"),
    ],
)
def test_action_call_that_is_not_well_formed_is_400(
    merchant: Driver, wrong: dict[str, Any], code: str
) -> None:
    assert told(merchant.ask_action_token(**wrong)) == (400, code)


def test_token_for_a_pay_in_is_no_token_for_a_payout(merchant: Driver) -> None:
    answer = merchant.ask_action_token(action="PAYIN_CREATE")
    assert answer.status_code == 200
    assert merchant.create(token=answer.json()["token"]).status_code == 403


def test_payout_action_is_named_by_the_options() -> None:
    with echelon(payout_action="DISBURSE") as driver:
        assert driver.ask_action_token().status_code == 400
        token = driver.ask_action_token(action="DISBURSE").json()["token"]
        assert driver.create(token=token).status_code == 200


@pytest.mark.parametrize("by_action", [False, True])
def test_token_call_is_known_by_the_payout_it_is_for(merchant: Driver, by_action: bool) -> None:
    merchant.fault("token:503", "PO-1")
    other = "PO-2"
    if by_action:
        assert merchant.ask_action_token(idPayment=other).status_code == 200
        assert told(merchant.ask_action_token()) == (503, "SERVICE_UNAVAILABLE")
    else:
        assert merchant.ask_token(f"GET /payouts/{other}").status_code == 200
        # For two payouts at once it is for neither.
        merchant.fault("token:503", other)
        assert merchant.ask_token(*BOTH, f"GET /payouts/{other}").status_code == 200
        assert told(merchant.ask_token(*BOTH)) == (503, "SERVICE_UNAVAILABLE")
    assert merchant.ledger("PO-1")["swallowed"] == [
        {"point": "token", "effect": "503", "applied": False}
    ]
