"""The ETpay adapter's calls: what goes over the wire, tokens, and every HTTP answer."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.workers.providers.etpay_world import (
    ACCESS,
    API_TOKEN,
    CALLS,
    CLP,
    HTML,
    ID,
    NUMBER,
    PASSWORD,
    REFERENCE,
    RUT,
    SECRETS,
    Answering,
    adapter,
    ask,
    config,
    error,
    listed,
    one,
    order,
    payout,
)
from workers.errors import AccountFault, ProviderUnreachable
from workers.providers.etpay import ETpay, ETpayConfig
from workers.providers.tokens import NoToken, Token
from workers.providers.transport import Answer
from workers.record.money import Currency, Money
from workers.record.status import Outcome
from workers.settings import AccountSettings

# What is sent.


def test_create_sends_the_assumed_body() -> None:
    etpay, server = adapter(one(), callback_url="https://pay.shop.example/webhooks/main")
    etpay.create(order())
    assert server.sent == {
        "merchant": {"code": "cl_shop"},
        "merchant_order_id": REFERENCE,
        "amount": 45990,
        "currency": "CLP",
        "description": "Pago proveedor 17",
        "beneficiary": {"name": "Camila Soto", "rut": RUT, "email": "camila@example.com"},
        "account": {"bank_code": "037", "type": "cuenta_corriente", "number": NUMBER},
        "webhook_url": "https://pay.shop.example/webhooks/main",
    }
    request = server.asked[0]
    assert (request.method, str(request.url)) == ("POST", "https://api.example.test/v1/payouts")
    assert request.headers["authorization"] == ACCESS
    assert request.headers["content-type"] == "application/json"


def test_what_an_order_or_the_settings_lack_is_not_sent() -> None:
    etpay, server = adapter(one())
    etpay.create(order(description="", fields={"email": None}))
    assert "description" not in server.sent
    assert "webhook_url" not in server.sent
    assert server.sent["beneficiary"] == {"name": "Camila Soto", "rut": RUT}


def test_the_login_carries_the_four_credentials_and_no_token() -> None:
    etpay, server = adapter(one())
    etpay.create(order())
    request = server.logged_in[0]
    assert (request.method, str(request.url)) == ("POST", "https://api.example.test/v1/auth/login")
    assert "authorization" not in request.headers
    assert json.loads(request.content) == {
        "username": "payouts@shop.example",
        "password": PASSWORD,
        "merchant": {"code": "cl_shop", "api_token": API_TOKEN},
    }


def test_every_place_word_and_path_of_the_contract_can_be_set() -> None:
    fields = {
        "login": {"merchant_code": "shop"},
        "request": {"rut": "to.tax_id", "currency": "", "merchant_api_token": "key",
                    "name": "to.n"},
        "response": {"token": "t", "payout": "", "payout_id": "id", "status": "data.word",
                     "reference_id": "ours", "amount": "data.pesos"},
    }  # fmt: skip
    answer = {"id": 77, "ours": REFERENCE, "data": {"word": "LISTA", "pesos": "45990"}}
    etpay, server = adapter(
        httpx.Response(202, json=answer),
        logins=[httpx.Response(200, json={"t": "other-token"})],
        field_map=fields,
        status_map={"lista": "paid"},
        create_path="/pay/{merchant_code}?fast=1",
        accepted_statuses=[202],
        auth_scheme="bearer",
        account_types={"cuenta_corriente": "Cuenta Corriente"},
        bank_code_style="etpay_enum",
    )
    reply = etpay.create(order())
    assert (reply.outcome, reply.provider_payout_id) == (Outcome.PAID, "77")
    assert (reply.reference_id, reply.amount) == (REFERENCE, Money(45990, CLP))
    assert server.paths == ["/pay/cl_shop?fast=1"]
    assert server.asked[0].headers["authorization"] == "Bearer other-token"
    assert json.loads(server.logged_in[0].content)["shop"] == "cl_shop"
    assert server.sent["to"] == {"n": "Camila Soto", "tax_id": RUT}
    assert server.sent["key"] == API_TOKEN
    assert "currency" not in server.sent
    assert server.sent["account"]["bank_code"] == "CL_SANTANDER"
    assert server.sent["account"]["type"] == "Cuenta Corriente"


@pytest.mark.parametrize("pesos", [1, 10, 100, 45990, 100_000_000, 10**17 + 1])
def test_pesos_are_whole_numbers_on_the_wire_and_read_back(pesos: int) -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        return one(amount=json.loads(request.content)["amount"])

    etpay, server = adapter(echo)
    reply = etpay.create(order(amount=Money(pesos, CLP)))
    assert f'"amount": {pesos},'.encode() in server.asked[0].content
    assert reply.amount == Money(pesos, CLP)


def test_a_create_has_the_same_bytes_whenever_it_is_sent() -> None:
    etpay, server = adapter(httpx.Response(500))
    etpay.create(order())
    etpay.create(order())
    again, other = adapter(httpx.Response(500))
    again.create(order())
    bodies = [request.content for request in (*server.asked, *other.asked)]
    assert len(bodies) == 3
    assert len(set(bodies)) == 1


def test_reads_ask_the_assumed_addresses() -> None:
    etpay, server = adapter(one())
    etpay.poll(order(), ID)
    etpay.process(order(), ID)
    etpay.look_up(order())
    assert [(request.method, request.content) for request in server.asked] == [("GET", b"")] * 3
    by_reference = f"/v1/payouts?merchant_order_id={REFERENCE}"
    assert server.paths == [f"/v1/payouts/{ID}", f"/v1/payouts/{ID}", by_reference]
    assert "content-type" not in server.asked[0].headers


def test_an_id_never_leaves_its_place_in_the_path() -> None:
    etpay, server = adapter(one(), merchant_code="cl/../x", balance_path="/{merchant_code}")
    etpay.poll(order(), "../account?x=1#y")
    with pytest.raises(ProviderUnreachable):
        etpay.balances()
    assert server.paths == ["/v1/payouts/..%2Faccount%3Fx%3D1%23y", "/cl%2F..%2Fx"]


NOW = datetime(2031, 1, 2, 12, 0, tzinfo=UTC)

# Answers.

LOST: list[tuple[Exception, Outcome]] = [
    (httpx.ConnectError("x"), Outcome.NOT_SENT),
    (httpx.ReadTimeout("x"), Outcome.UNKNOWN),
]


@pytest.mark.parametrize(("failure", "outcome"), LOST)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_without_an_answer_keeps_what_the_transport_knows(
    call: str, failure: Exception, outcome: Outcome
) -> None:
    assert ask(call, failure).outcome is outcome


@pytest.mark.parametrize("code", [200, 201])
def test_a_create_that_was_taken_is_under_way(code: int) -> None:
    reply = ask("create", one(code))
    assert reply.outcome is Outcome.PROCESSING
    assert (reply.provider_payout_id, reply.reference_id) == (ID, REFERENCE)
    assert (reply.status, reply.amount, reply.differs) == ("pending", Money(45990, CLP), ())


BAD_IDS = (None, "", True, 1.5, "a b", "ñ", "..", ".", "x" * 129, "\ud800")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, content=HTML),
        httpx.Response(201, content=b""),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"msg": "ok"}),
        httpx.Response(200, json={"payout": [payout()]}),
        httpx.Response(200, json={"payouts": [payout()]}),
        *(one(payout_id=bad) for bad in BAD_IDS),
    ],
)
@pytest.mark.parametrize("call", ["create", "process", "poll"])
def test_an_answer_without_a_payout_is_unknown(call: str, answer: httpx.Response) -> None:
    reply = ask(call, answer)
    assert (reply.outcome, reply.refusal) == (Outcome.UNKNOWN, None)


@pytest.mark.parametrize("status", [202, 204, 206, 301, 302, 307, 308, 500, 502, 503, 504, 599])
@pytest.mark.parametrize("call", CALLS)
def test_any_other_answer_is_unknown_even_with_a_payout_in_it(call: str, status: int) -> None:
    reply = ask(call, httpx.Response(status, json={"payout": payout()}))
    assert (reply.outcome, reply.code, reply.refusal) == (Outcome.UNKNOWN, str(status), None)


def test_a_redirect_is_not_followed() -> None:
    etpay, server = adapter(httpx.Response(307, headers={"Location": "https://evil.example"}))
    assert etpay.create(order()).reason == "answered 307, not followed"
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [403, 405])
@pytest.mark.parametrize("call", CALLS)
def test_what_blames_the_account_is_no_payouts_fault(call: str, status: int) -> None:
    reply = ask(call, error(status, "E", "no"))
    assert reply.outcome is Outcome.ACCOUNT_FAULT
    assert (reply.account_fault or "").startswith(f"ETpay answered {status}: ")


@pytest.mark.parametrize("call", CALLS)
def test_too_many_calls_are_not_sent_and_say_how_long_to_wait(call: str) -> None:
    reply = ask(call, error(429, **{"Retry-After": "30"}))
    assert (reply.outcome, reply.retry_after_s) == (Outcome.NOT_SENT, 30)


def test_a_404_blames_the_account_on_create_only() -> None:
    assert ask("create", error(404, "E")).outcome is Outcome.ACCOUNT_FAULT
    for call in ("process", "poll"):
        assert ask(call, error(404, "PO-NOT-FOUND")).outcome is Outcome.NOT_FOUND
        for foreign in (httpx.Response(404, content=HTML), error(404, None, "Not Found")):
            assert ask(call, foreign).outcome is Outcome.UNKNOWN


def test_a_read_about_another_payout_says_nothing() -> None:
    reply = ask("poll", one(payout_id="pyt_other", status="completed"))
    assert reply.outcome is Outcome.UNKNOWN


def test_a_server_that_asks_for_time_is_given_it() -> None:
    assert ask("poll", httpx.Response(503, headers={"Retry-After": "9"})).retry_after_s == 9
    assert ask("create", httpx.Response(503)).retry_after_s is None


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 500])
def test_no_reply_repeats_a_secret_or_the_beneficiary(call: str, status: int) -> None:
    said = f"{' '.join(SECRETS)} {RUT} {NUMBER} Camila Soto camila@example.com"
    shown = repr(ask(call, error(status, "E", said)))
    for private in (*SECRETS, RUT, NUMBER, "Camila", "camila"):
        assert private not in shown


def test_no_repr_shows_a_secret() -> None:
    settings = config(webhook_secret="demo-webhook-secret")
    shown = repr(settings) + repr(Token(ACCESS, NOW)) + repr(NoToken(Answer(401, {}, b"")))
    assert not [s for s in (*SECRETS, "demo-webhook-secret") if s in shown]


# The account.


@pytest.mark.parametrize(
    ("balance", "money"),
    [
        ({"available": 1500000, "currency": "CLP"}, Money(1500000, CLP)),
        ({"available": "1500000.00"}, Money(1500000, CLP)),
        ({"available": 0, "currency": "clp"}, Money(0, CLP)),
        ({"available": -5}, Money(-5, CLP)),
        ({"available": Decimal("10.5"), "currency": "USD"}, Money(1050, Currency.of("USD"))),
    ],
)
def test_the_balance_is_what_is_available(balance: Any, money: Money) -> None:
    body = json.dumps({"msg": "ok", "balance": balance}, default=float)
    etpay, server = adapter(httpx.Response(200, content=body))
    assert etpay.balances() == {money.currency: money}
    assert server.paths == ["/v1/balance"]


@pytest.mark.parametrize(
    "balance", [None, {}, {"available": None}, {"available": "1.500.000"}, {"available": 1.5},
                {"available": 5, "currency": "XXX"}],
)  # fmt: skip
def test_a_balance_that_cannot_be_read_is_never_guessed(balance: Any) -> None:
    etpay, _ = adapter(httpx.Response(200, json={"balance": balance}))
    with pytest.raises(ProviderUnreachable, match="cannot be read"):
        etpay.balances()


def test_without_a_balance_path_nothing_is_asked() -> None:
    etpay, server = adapter(balance_path="")
    assert etpay.balances() == {}
    assert server.asked == server.logged_in == []


@pytest.mark.parametrize("question", ["balances", "list_payouts"])
def test_a_question_tells_whether_account_or_network_is_at_fault(question: str) -> None:
    def asking(answer: Answering) -> None:
        etpay, _ = adapter(answer)
        times = (NOW, NOW) if question == "list_payouts" else ()
        list(getattr(etpay, question)(*times))

    for status in (401, 403, 404, 405):
        with pytest.raises(AccountFault, match=f"answered {status}"):
            asking(error(status))
    with pytest.raises(ProviderUnreachable, match="answered 500: E9: oops"):
        asking(error(500, "E9", "oops"))
    with pytest.raises(ProviderUnreachable, match="answered 502: no message"):
        asking(httpx.Response(502, content=HTML))
    for failed in (error(500), error(429), error(400, "E"), httpx.ReadTimeout("x"), listed(7)):
        with pytest.raises(ProviderUnreachable, match="ETpay"):
            asking(failed)


# What it declares.


def test_the_class_declares_what_an_instance_with_default_settings_does() -> None:
    etpay, _ = adapter()
    assert ETpay.capabilities == replace(etpay.capabilities, identity="")
    assert etpay.capabilities.currencies == ("CLP",)
    assert etpay.capabilities.absence_conclusive_after_s == 3600
    assert (etpay.capabilities.reference_id_chars_max, etpay.capabilities.reference_id_char) == (
        64, "[A-Za-z0-9-]"
    )  # fmt: skip


def test_who_is_paid_through_is_the_address_and_the_merchant() -> None:
    usual = adapter()[0].capabilities.identity
    for changes in ({"base_url": "https://other.example.test"}, {"merchant_code": "cl_other"}):
        assert adapter(**changes)[0].capabilities.identity not in ("", usual)
    rotated = adapter(password="new", merchant_api_token="new", username="new")[0]
    assert rotated.capabilities.identity == usual


@pytest.mark.parametrize(
    ("changes", "capability", "value"),
    [
        ({}, "two_step", False),
        ({}, "refuses_duplicates", False),
        ({"create_is_idempotent": True}, "refuses_duplicates", True),
        ({}, "look_up", True),
        ({"list_path": ""}, "look_up", True),
        ({"status_by_order_path": ""}, "look_up", True),
        ({"list_path": "", "status_by_order_path": ""}, "look_up", False),
        ({}, "balances", True),
        ({"balance_path": ""}, "balances", False),
        ({}, "list_payouts", True),
        ({"list_path": ""}, "list_payouts", False),
        ({}, "webhooks", True),
        ({}, "services", False),
        ({"reference_id_chars_max": 20}, "reference_id_chars_max", 20),
    ],
)
def test_capabilities_follow_the_settings(
    changes: dict[str, Any], capability: str, value: object
) -> None:
    etpay, _ = adapter(**changes)
    assert getattr(etpay.capabilities, capability) == value


def test_each_fact_names_settings_that_exist_and_what_is_assumed_has_one() -> None:
    known = {*ETpayConfig.model_fields, *AccountSettings.model_fields}
    for fact in ETpay.facts:
        assert set(fact.settings) <= known, fact.claim
        assert fact.settings or fact.support != "assumed", fact.claim
    inferred = {name for fact in ETpay.facts if fact.support == "assumed" for name in fact.settings}
    given = {"base_url", "merchant_code", "merchant_api_token", "username", "password"}
    documented = {"login_path", "bank_codes", "bank_code_style"}
    assert set(ETpayConfig.model_fields) - given - documented <= inferred


def test_account_defaults_are_the_pages_and_keys_of_every_account() -> None:
    assert ETpay.account_defaults == {
        "service": "bank_transfer", "rate_per_s": 2, "in_flight_max": 4, "connect_timeout_s": 5,
        "read_timeout_s": 60, "poll_first_s": 300, "poll_max_s": 3600, "lookup_first_s": 30,
    }  # fmt: skip
    account = AccountSettings.model_validate({"provider": "etpay", **ETpay.account_defaults})
    assert account.options == {}
