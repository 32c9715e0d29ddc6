"""The Payelata adapter's calls: every HTTP answer of every call, and what goes over the wire."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from tests.workers.providers.payelata_world import (
    CALLS,
    CARD,
    HOLDER,
    HTML,
    ID,
    KEY,
    LISTED_404,
    REFERENCE,
    TOKEN,
    USD,
    adapter,
    ask,
    config,
    invoice,
    listed,
    one,
    order,
)
from workers.providers.payelata import Payelata, PayelataConfig
from workers.providers.payelata_words import STATES
from workers.providers.port import load_provider
from workers.record.money import Currency, Money
from workers.record.status import Outcome

# What is sent.


def test_create_sends_the_documented_body() -> None:
    payelata, server = adapter(one(201), callback_url="https://worker.example/webhooks/main")
    payelata.create(
        order(
            description="Payout 42",
            context=MappingProxyType({"card": MappingProxyType({"exp_month": "09"})}),
            customer={"reference_id": "cust-7"},
            metadata={"batch": "A"},
        )
    )
    assert server.sent == {
        "data": {
            "type": "payout-invoice",
            "attributes": {
                "reference_id": REFERENCE,
                "service": "payment_card_usd",
                "currency": "USD",
                "amount": Decimal("25.5"),
                "test_mode": True,
                "fields": {"card_number": CARD},
                "description": "Payout 42",
                "callback_url": "https://worker.example/webhooks/main",
                "context": {"card": {"exp_month": "09"}},
                "customer": {"reference_id": "cust-7"},
                "metadata": {"batch": "A"},
                "options": {"auto_process": False, "allow_partially": False, "split_mode": False},
            },
        }
    }
    request = server.asked[0]
    assert (request.method, str(request.url)) == (
        "POST", "https://api.example.test/api/payout-invoices"
    )  # fmt: skip
    assert request.headers["authorization"] == f"Basic {TOKEN}"
    assert request.headers["content-type"] == "application/json"


def test_what_an_order_lacks_is_not_sent_and_the_mode_always_is() -> None:
    payelata, server = adapter(one(201, test_mode=False), test_mode=False, auto_process=True,
                               public_key=None, signing_key=None)  # fmt: skip
    payelata.create(order())
    attributes = server.sent["data"]["attributes"]
    assert set(attributes) == {
        "reference_id", "service", "currency", "amount", "test_mode", "fields", "options"
    }  # fmt: skip
    assert attributes["test_mode"] is False
    assert attributes["options"]["auto_process"] is True


@pytest.mark.parametrize(
    ("minor", "currency", "written"),
    [
        (2550, "USD", b'"amount": 25.5,'),
        (2500, "USD", b'"amount": 25,'),
        (1, "USD", b'"amount": 0.01,'),
        (10, "USD", b'"amount": 0.1,'),
        (100055, "USD", b'"amount": 1000.55,'),
        (10**17 + 1, "USD", b'"amount": 1000000000000000.01,'),
        (1000, "JPY", b'"amount": 1000,'),
        (10**9, "JPY", b'"amount": 1000000000,'),
        (1, "KWD", b'"amount": 0.001,'),
        (1234567, "KWD", b'"amount": 1234.567,'),
        (1, "CLF", b'"amount": 0.0001,'),
    ],
)
def test_amounts_are_exact_on_the_wire_and_read_back(
    minor: int, currency: str, written: bytes
) -> None:
    amount = Money(minor, Currency.of(currency))

    def echo(request: httpx.Request) -> httpx.Response:
        sent = json.loads(request.content, parse_float=Decimal)["data"]["attributes"]
        document = json.dumps({"data": invoice(amount="@", currency=currency)})
        return httpx.Response(201, content=document.replace('"@"', str(sent["amount"])))

    payelata, server = adapter(echo)
    reply = payelata.create(order(amount=amount))
    assert written in server.asked[0].content
    assert reply.amount == amount


def test_process_poll_and_look_up_ask_the_documented_addresses() -> None:
    payelata, server = adapter(one(), one(), listed())
    payelata.process(order(), ID)
    payelata.poll(order(), ID)
    payelata.look_up(order())
    assert [(r.method, r.url.raw_path.decode(), r.content) for r in server.asked] == [
        ("POST", f"/api/payout-invoices/{ID}/process", b"{}"),
        ("GET", f"/api/payout-invoices/{ID}", b""),
        ("GET", f"/api/payout-invoices?filter%5Breference_id%5D={REFERENCE}", b""),
    ]
    assert {r.headers["authorization"] for r in server.asked} == {f"Basic {TOKEN}"}


def test_process_without_a_body_says_no_content_type() -> None:
    payelata, server = adapter(one(), process_body="")
    payelata.process(order(), ID)
    assert server.asked[0].content == b""
    assert "content-type" not in server.asked[0].headers


def test_an_id_never_leaves_its_place_in_the_path() -> None:
    payelata, server = adapter(one())
    payelata.poll(order(), "../account?x=1#y")
    assert server.asked[0].url.raw_path == b"/api/payout-invoices/..%2Faccount%3Fx%3D1%23y"


# Statuses, in every call that may bring one.


@pytest.mark.parametrize("status", [*STATES, "teleported"])
@pytest.mark.parametrize("call", CALLS)
def test_status_decides_the_outcome_of_every_call(call: str, status: str) -> None:
    expected = STATES.get(status, (Outcome.PROCESSING, ""))[0]
    if call == "process" and status == "created":
        expected = Outcome.PROCESSING
    answers = {"create": one(201, status=status), "look_up": listed(invoice(status=status))}
    reply = ask(call, answers.get(call, one(200, status=status)))
    assert (reply.outcome, reply.status) == (expected, status)
    assert reply.provider_payout_id == ID
    assert (reply.reference_id, reply.amount, reply.fee) == (
        REFERENCE, Money(2550, USD), Money(75, USD)
    )  # fmt: skip
    assert reply.differs == ()


# HTTP, the whole table of every call.

FAULTS = dict.fromkeys((401, 403, 404, 405), Outcome.ACCOUNT_FAULT)
DOUBTS = dict.fromkeys(
    (204, 206, 301, 302, 303, 307, 308, 400, 402, 406, 408, 410, 413, 415, 418, 423, 425, 431, 451,
     500, 501, 502, 503, 504, 520, 599), Outcome.UNKNOWN,
)  # fmt: skip
BY_CALL = {
    "create": {409: Outcome.EXISTS, 422: Outcome.UNKNOWN},
    "process": {201: Outcome.UNKNOWN, 202: Outcome.UNKNOWN, 404: Outcome.UNKNOWN,
                409: Outcome.UNKNOWN,
                422: Outcome.UNKNOWN},
    "poll": {404: Outcome.UNKNOWN, 409: Outcome.UNKNOWN, 422: Outcome.UNKNOWN},
    "look_up": {404: Outcome.UNKNOWN, 409: Outcome.UNKNOWN, 422: Outcome.UNKNOWN},
}  # fmt: skip
HTTP = [
    (call, status, outcome)
    for call in CALLS
    for status, outcome in (
        FAULTS | DOUBTS | {200: Outcome.UNKNOWN, 429: Outcome.NOT_SENT} | BY_CALL[call]
    ).items()
]
BODIES = (b"", HTML, b"[]", b"null", b'{"data": 7}', b'{"data": {"id": "x"}}', b"\xff\xfe", b"NaN")


@pytest.mark.parametrize(("call", "status", "outcome"), HTTP)
def test_http_status_decides_where_the_body_says_nothing(
    call: str, status: int, outcome: Outcome
) -> None:
    for body in BODIES:
        reply = ask(call, httpx.Response(status, content=body, headers={"location": "/x"}))
        assert reply.outcome is outcome, body
        assert reply.code == str(status)
        assert bool(reply.account_fault) is (outcome is Outcome.ACCOUNT_FAULT)
        judged = call == "create" and 400 <= status < 500 and outcome is Outcome.UNKNOWN
        assert bool(reply.refusal) is (judged and status not in (408, 425))
        assert CARD not in repr(reply)


@pytest.mark.parametrize("body", BODIES)
def test_an_unreadable_201_is_unknown(body: bytes) -> None:
    assert ask("create", httpx.Response(201, content=body)).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "document",
    [
        {"data": {**invoice(), "type": "payment-invoices"}},
        {"data": {**invoice(), "id": ""}},
        {"data": {**invoice(), "id": "../x"}},
        {"data": {**invoice(), "attributes": []}},
        {"data": invoice(status=None)},
        {"data": [invoice()]},
        {"data": invoice(), "errors": [{"code": "500"}]},
    ],
)
def test_a_wrong_shape_is_unknown(document: Any) -> None:
    for call, status in (("create", 201), ("create", 200), ("process", 200), ("poll", 200)):
        reply = ask(call, httpx.Response(status, json=document))
        assert reply.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("status", [200, 202])
def test_a_200_or_202_counts_only_with_our_payout_in_it(status: int) -> None:
    assert ask("create", one(status)).outcome is Outcome.CREATED
    assert ask("create", one(status, reference_id="another")).outcome is Outcome.UNKNOWN
    assert ask("create", one(status), accepts_200_and_202=False).outcome is Outcome.UNKNOWN


def test_a_201_with_another_reference_or_amount_tells_them() -> None:
    reply = ask("create", one(201, reference_id="another", amount="25.51"))
    assert (reply.reference_id, reply.amount) == ("another", Money(2551, USD))


def test_a_409_is_not_read_even_if_it_looks_like_a_refusal() -> None:
    document = {"errors": {"amount": "Wrong."}, "data": invoice(status="process_failed")}
    reply = ask("create", httpx.Response(409, json=document))
    assert reply.outcome is Outcome.EXISTS
    assert (reply.provider_payout_id, reply.status) == (None, None)


@pytest.mark.parametrize("call", ["process", "poll"])
def test_an_answer_about_another_payout_is_unknown(call: str) -> None:
    reply = ask(call, one(payout_id="cpoi_Other", status="processed"))
    assert reply.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("call", ["poll", "look_up"])
def test_a_404_in_the_platforms_own_words_is_not_found(call: str) -> None:
    reply = ask(call, httpx.Response(404, json=LISTED_404))
    assert reply.outcome is Outcome.NOT_FOUND
    assert reply.account_fault is None


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (httpx.ConnectError("x"), Outcome.NOT_SENT),
        (httpx.ConnectTimeout("x"), Outcome.NOT_SENT),
        (httpx.PoolTimeout("x"), Outcome.NOT_SENT),
        (httpx.ReadTimeout("x"), Outcome.UNKNOWN),
        (httpx.WriteError("x"), Outcome.UNKNOWN),
        (httpx.RemoteProtocolError("x"), Outcome.UNKNOWN),
    ],
)
def test_a_lost_call_keeps_what_the_transport_says(
    call: str, error: Exception, outcome: Outcome
) -> None:
    reply = ask(call, error)
    assert (reply.outcome, reply.code) == (outcome, type(error).__name__)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 5),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "0"}, 1),
        ({"Retry-After": "99999999999999999999"}, 3600),
        ({"Retry-After": "-3"}, 5),
        ({"Retry-After": "soon"}, 5),
        ({"Retry-After": "Tue, 14 Nov 2023 22:14:20 GMT",
          "Date": "Tue, 14 Nov 2023 22:13:20 GMT"}, 60),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:00 GMT",
          "Date": "Tue, 14 Nov 2023 22:13:20 GMT"}, 1),
        ({"Retry-After": "Tue, 14 Nov 2023 22:14:20 GMT"}, 5),
    ],
)  # fmt: skip
def test_a_429_was_turned_away_and_says_how_long_to_wait(
    call: str, headers: dict[str, str], seconds: int
) -> None:
    reply = ask(call, httpx.Response(429, headers=headers))
    assert (reply.outcome, reply.code, reply.retry_after_s) == (Outcome.NOT_SENT, "429", seconds)


def test_a_429_may_be_set_to_be_in_doubt() -> None:
    reply = ask("create", httpx.Response(429), rate_limited_is_not_created=False)
    assert reply.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_an_account_fault_names_the_status_and_the_likely_cause(status: int) -> None:
    reply = ask("create", httpx.Response(status))
    assert str(status) in (reply.account_fault or "")
    assert any(word in (reply.account_fault or "") for word in ("api_key", "IP", "base_url"))
    assert not reply.low_balance


# Secrets and people.


def hostile(status: int) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        told = f"{request.headers.get('authorization')} {KEY} {CARD} 4000 0000 0000 0002 {HOLDER}"
        forms: list[Any] = [
            {"amount": told}, [{"title": told, "detail": told}], {"fields": {CARD: [told]}}, told
        ]  # fmt: skip
        return httpx.Response(status, json={"errors": forms[status % 4], "detail": told})

    return answer


@pytest.mark.parametrize("status", [201, *range(400, 432), 500, 501, 502, 503])
@pytest.mark.parametrize("call", CALLS)
def test_no_reply_holds_a_secret_or_a_beneficiary(call: str, status: int) -> None:
    payelata, _ = adapter(hostile(status))
    sent = order(fields={"card_number": CARD, "name": HOLDER})
    arguments = (sent,) if call in ("create", "look_up") else (sent, ID)
    text = repr(getattr(payelata, call)(*arguments))
    for private in (KEY, TOKEN, CARD, "4000 0000", HOLDER):
        assert private not in text


# Settings.


def test_the_adapter_is_installed_and_takes_its_limits_from_the_settings() -> None:
    assert load_provider("payelata").__name__ == Payelata.__name__
    payelata, _ = adapter(reference_id_chars_max=36, reference_id_char="[a-f0-9-]")
    assert payelata.capabilities.reference_id_chars_max == 36
    assert payelata.capabilities.reference_id_char == "[a-f0-9-]"
    assert payelata.capabilities.two_step
    assert KEY not in repr(config())


def test_who_is_paid_through_is_the_address_and_the_account() -> None:
    usual = adapter()[0].capabilities.identity
    for changes in ({"base_url": "https://other.example.test"}, {"account_id": "coma_Other"}):
        assert adapter(**changes)[0].capabilities.identity not in ("", usual)
    rotated = adapter(api_key="new", public_key="pk_test_new", signing_key="sk_test_new")[0]
    assert rotated.capabilities.identity == usual


@pytest.mark.parametrize(
    "changes",
    [
        {"api_key": ""},
        {"signing_key": ""},
        {"account_id": "coma:x"},
        {"account_id": ""},
        {"base_url": "http://api.example.test"},
        {"public_key": "pk_live_demo"},
        {"signing_key": "sk_live_demo"},
        {"test_mode": False},
        {"public_base_url": None},
        {"api_kez": "x"},
    ],
)
def test_settings_that_cannot_be_right_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**changes)


def test_the_mode_has_no_default() -> None:
    with pytest.raises(ValidationError):
        PayelataConfig(base_url="https://x.test", account_id="a", api_key="k")
