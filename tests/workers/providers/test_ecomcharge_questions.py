"""What eComCharge is asked before money moves, and what it tells and asks our receiver."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.workers.providers.ecomcharge_world import (
    ACCOUNT,
    HOOK,
    REFERENCE,
    UID,
    USD,
    adapter,
    basic,
    cards,
    delivery,
    order,
    told,
    transaction,
)
from workers.errors import AccountFault, ProviderUnreachable
from workers.providers.port import News, Question
from workers.record.money import Currency, Money

EUR = Currency.of("EUR")

# Balances.


def balance(status: int = 200, /, **changes: Any) -> httpx.Response:
    document = {
        "code": "S.0000", "status": "Successful", "message": "none", "gateway_id": 1234,
        "amount": 1290092, "currency": "USD", **changes,
    }  # fmt: skip
    return httpx.Response(status, json=document)


def test_without_a_gateway_there_is_no_balance_and_no_question() -> None:
    ecomcharge, server = adapter(balance())
    assert ecomcharge.balances() == {}
    assert server.asked == []


def test_a_balance_is_read_in_minor_units() -> None:
    ecomcharge, server = adapter(balance(), gateway_id=1234)
    assert ecomcharge.balances() == {USD: Money(1290092, USD)}
    assert server.targets == [("POST", "/beyag/balance")]
    assert server.sent == {"gateway_id": 1234}
    assert "x-api-version" not in server.asked[0].headers


def test_several_currencies_are_asked_for_one_by_one() -> None:
    ecomcharge, server = adapter(
        balance(), balance(currency="EUR", amount=7), gateway_id=1234,
        currency_decimals={"USD": 2, "EUR": 2},
    )  # fmt: skip
    assert ecomcharge.balances() == {USD: Money(1290092, USD), EUR: Money(7, EUR)}
    assert server.sent == {"gateway_id": 1234, "currency": "EUR"}


@pytest.mark.parametrize(
    ("settings", "asked"),
    [({}, {"gateway_id": "5"}), ({"balance_by": "currency"}, {"currency": "USD"})],
)
def test_a_card_balance_has_its_own_version_and_form(
    settings: dict[str, Any], asked: dict[str, str]
) -> None:
    result = {"gatewayId": 5, "account": "x", "amount": 6623, "currency": "USD"}
    answer = httpx.Response(200, json={"status": "successful", "result": result})
    ecomcharge, server = adapter(answer, **cards(gateway_id=5, cards_version="3", **settings))
    assert ecomcharge.balances() == {USD: Money(6623, USD)}
    assert (server.targets, server.sent) == ([("POST", "/balance")], {"request": asked})
    assert server.asked[0].headers["x-api-version"] == "2"


NO_BALANCE = [
    (balance(status="Failed", friendly_message="Try later"), "Try later"),
    (balance(code="F.0106"), "told: none"),
    (balance(currency="EUR"), "told one in EUR"),
    (balance(amount=None), "cannot be read"),
    (balance(amount=1.5), "cannot be read"),
    (httpx.Response(200, content=b"<html>"), "no message"),
    (httpx.Response(404, json={"message": "Not supported."}), "Not supported."),
    (httpx.Response(503), "answered 503"),
    (httpx.ConnectError("x"), "no connection"),
]


@pytest.mark.parametrize(("answer", "words"), NO_BALANCE)
def test_a_balance_that_is_not_told_is_never_taken_for_nothing(answer: Any, words: str) -> None:
    ecomcharge, _ = adapter(answer, gateway_id=1234)
    with pytest.raises(ProviderUnreachable, match=words):
        ecomcharge.balances()
    assert adapter(answer, gateway_id=1234, balance_required=False)[0].balances() == {}


def test_where_one_balance_is_missing_none_is_known() -> None:
    ecomcharge, _ = adapter(
        balance(), balance(status="Failed"), gateway_id=1234, balance_required=False,
        currency_decimals={"USD": 2, "EUR": 2},
    )  # fmt: skip
    assert ecomcharge.balances() == {}


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_the_accounts_fault_whatever_is_asked(status: int) -> None:
    ecomcharge, _ = adapter(httpx.Response(status), gateway_id=1, balance_required=False)
    for question in (ecomcharge.balances, lambda: ecomcharge.dry_run(order())):
        with pytest.raises(AccountFault, match=str(status)):
            question()


# Precheck.


def test_a_precheck_sends_the_create_without_its_key() -> None:
    ecomcharge, server = adapter(
        httpx.Response(200, json={"code": "S.0000", "status": "successful"}), told()
    )
    assert ecomcharge.dry_run(order()) is None
    ecomcharge.create(order())
    first, second = server.asked
    assert first.content == second.content
    assert first.url.path == "/beyag/transactions/payout/precheck"
    assert "requestid" not in first.headers


@pytest.mark.parametrize(
    ("status", "document", "words"),
    [
        (202, {"code": "F.0223", "status": "failed", "friendly_message": "Not allowed"},
         "F.0223: Not allowed"),
        (200, {"code": "F.0223", "status": "failed", "message": f"No {ACCOUNT}"}, "F.0223: No ***"),
        (422, {"code": "E.0625", "message": "x", "errors": [{"type": ["is missing"]}]},
         "E.0625: type: is missing"),
        (202, {}, "answered 202 without a reason"),
    ],
)  # fmt: skip
def test_a_precheck_that_says_no_says_why(status: int, document: Any, words: str) -> None:
    assert adapter(httpx.Response(status, json=document))[0].dry_run(order()) == words


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(404, json={"message": "Not found."}), "no precheck"),
        (httpx.Response(200, json={"status": "teleported"}), "cannot be read"),
        (httpx.Response(500), "answered 500"),
        (httpx.ReadTimeout("x"), "no answer"),
    ],
)
def test_a_precheck_that_is_not_answered_says_so(answer: Any, words: str) -> None:
    with pytest.raises(ProviderUnreachable, match=words):
        adapter(answer)[0].dry_run(order())


def test_a_precheck_of_an_amount_that_cannot_be_sent_asks_nobody() -> None:
    ecomcharge, server = adapter(told())
    assert "currency_decimals" in (ecomcharge.dry_run(order(amount=Money(1, EUR))) or "")
    assert server.asked == []


# Webhooks.

BODY = json.dumps({"transaction": transaction(status="successful")}).encode()
NEWS = News(
    provider_payout_id=UID,
    reference_id=REFERENCE,
    key=f"{UID}:successful:2024-01-10T10:00:01Z",
)
PRIVATE_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_KEY = base64.b64encode(
    PRIVATE_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
).decode()


def signature(body: bytes) -> str:
    return base64.b64encode(PRIVATE_KEY.sign(body, PKCS1v15(), SHA256())).decode()


def test_without_a_key_the_shops_credentials_verify() -> None:
    ecomcharge, _ = adapter()
    assert ecomcharge.read_webhook(delivery(BODY, authorization=basic())) == [NEWS]


FORGED = [
    "", "Basic", basic(secret="demo-secreT"), basic(shop="4243"), basic().lower(),
    basic() + "=", basic().removeprefix("Basic "), "Bearer demo-secret", "é",
]  # fmt: skip


@pytest.mark.parametrize("header", FORGED)
def test_other_credentials_do_not_verify(header: str) -> None:
    ecomcharge, _ = adapter()
    assert ecomcharge.read_webhook(delivery(BODY, authorization=header)) is None
    assert ecomcharge.read_webhook(delivery(BODY)) is None
    assert ecomcharge.read_question(delivery(BODY, authorization=header)) is None


def test_with_a_key_a_signature_over_the_raw_body_verifies() -> None:
    ecomcharge, _ = adapter(webhook_public_key=PUBLIC_KEY)
    signed = delivery(BODY, content_signature=signature(BODY))
    assert ecomcharge.read_webhook(signed) == [NEWS]


@pytest.mark.parametrize(
    "given",
    [
        "",
        "x",
        "é",
        "AAAA",
        signature(BODY) + "!",
        signature(BODY + b" "),
        signature(BODY)[:-8],
        PUBLIC_KEY,
    ],
)
def test_with_a_key_nothing_but_a_valid_signature_verifies(given: str) -> None:
    ecomcharge, _ = adapter(webhook_public_key=PUBLIC_KEY)
    forged = delivery(BODY, content_signature=given, authorization=basic())
    assert ecomcharge.read_webhook(forged) is None
    assert ecomcharge.read_webhook(delivery(BODY, authorization=basic())) is None


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"{}", b"[]", b'{"transaction": {"uid": ""}}',
     json.dumps({"transaction": transaction(type="payment")}).encode()],
)  # fmt: skip
def test_what_is_verified_but_about_no_payout_is_no_news(body: bytes) -> None:
    ecomcharge, _ = adapter()
    assert ecomcharge.read_webhook(delivery(body, authorization=basic())) == []


def test_news_of_a_payout_may_spell_its_type_otherwise() -> None:
    assert _news(type="Payout").provider_payout_id == UID


def _news(**changes: Any) -> News:
    body = json.dumps(transaction(**changes)).encode()
    (news,) = adapter()[0].read_webhook(delivery(body, authorization=basic())) or ()
    return news


def test_repeats_have_one_key_and_changes_another() -> None:
    first = _news()
    assert _news(message="again").key == first.key
    for change in ({"uid": "2-b"}, {"status": "failed"}, {"updated_at": "2024-01-10T10:00:02Z"}):
        assert _news(**change).key != first.key
    assert _news(updated_at=None).key == ""


def test_our_receiver_answers_200_or_401_with_nothing() -> None:
    answers = adapter()[0].webhook_answers
    assert (answers.taken, answers.forged) == ((200, b""), (401, b""))


# The platform's question before it pays.

VERIFYING: dict[str, Any] = {"verification": True, "callback_url": HOOK}
CREATED_AT = "2024-01-10T10:00:00.500Z"


def question(**changes: Any) -> tuple[Question, Any]:
    ecomcharge, _ = adapter(**VERIFYING)
    asked = json.dumps({"transaction": transaction(created_at=CREATED_AT, **changes)})
    found = ecomcharge.read_question(delivery(asked.encode(), authorization=basic()))
    assert found is not None
    return found, ecomcharge


def test_a_question_says_what_is_about_to_be_paid() -> None:
    asked, _ = question()
    assert (asked.provider_payout_id, asked.reference_id) == (UID, REFERENCE)
    assert (asked.amount, asked.differs) == (Money(2550, USD), ())


@pytest.mark.parametrize(
    "changes", [{"test": False}, {"type": "payment"}, {"currency": "EUR"}, {"amount": 25.5}]
)
def test_a_question_about_something_else_says_so(changes: dict[str, Any]) -> None:
    asked, _ = question(**changes)
    assert asked.differs != ()


@pytest.mark.parametrize("body", [b"", b"{}", b'{"transaction": {"uid": null}}'])
def test_a_question_that_cannot_be_read_is_declined(body: bytes) -> None:
    ecomcharge, _ = adapter(**VERIFYING)
    asked = ecomcharge.read_question(delivery(body, authorization=basic()))
    assert asked is not None
    assert (asked.provider_payout_id, asked.amount) == ("", None)
    assert asked.differs == ("the question cannot be read",)


@pytest.mark.parametrize("amount", ["2550", '"2550"', "2550.0", "255000000000000000001"])
def test_an_approval_repeats_amount_and_time_as_they_came(amount: str) -> None:
    body = (
        f'{{"transaction": {{"uid": "{UID}", "amount": {amount}, "currency": "USD",'
        f' "tracking_id": "{REFERENCE}", "created_at": "{CREATED_AT}"}}}}'
    )
    ecomcharge, _ = adapter(**VERIFYING)
    asked = ecomcharge.read_question(delivery(body.encode(), authorization=basic()))
    assert asked is not None
    answer = ecomcharge.answer_question(asked, allowed=True)
    expected = f'{{"code": 0, "uid": "{UID}", "amount": {amount}, "created_at": "{CREATED_AT}"}}'
    assert answer == expected.encode()


def test_a_refusal_has_another_code_and_names_nothing() -> None:
    asked, ecomcharge = question()
    answer = json.loads(ecomcharge.answer_question(asked, allowed=False))
    assert answer["code"] == 1
    assert set(answer) == {"code", "message", "friendly_message"}


def test_a_question_that_did_not_come_from_here_is_never_approved() -> None:
    ecomcharge, _ = adapter(**VERIFYING)
    made = Question(provider_payout_id=UID, reference_id=REFERENCE, amount=Money(2550, USD))
    assert json.loads(ecomcharge.answer_question(made, allowed=True))["code"] == 1
