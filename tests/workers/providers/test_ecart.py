"""The Ecart Pay adapter's calls: what goes over the wire, and every answer of every call."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.providers.ecart_world import (
    BASIC,
    CALLS,
    EMAIL,
    HTML,
    ID,
    KEY,
    MXN,
    REFERENCE,
    TOKEN_PATH,
    adapter,
    ask,
    error,
    one,
    order,
    payout,
    reply_of,
)
from workers.errors import AccountFault, ProviderUnreachable
from workers.providers.ecart import Ecart
from workers.record.money import Currency, Money
from workers.record.status import Outcome

# What is sent.


@pytest.mark.parametrize("two_step", [True, False])
def test_create_sends_the_documented_body_and_headers(two_step: bool) -> None:
    ecart, server = adapter(one(), two_step=two_step)
    ecart.create(order(description="not sent", metadata={"batch": "A"}))
    request = server.asked[0]
    assert server.sent == {
        "email": EMAIL, "reference_id": REFERENCE, "amount": Decimal("250.5"), "currency": "MXN",
        "require_confirmation": two_step,
    }  # fmt: skip
    assert (request.method, str(request.url)) == (
        "POST", "https://sandbox.example.test/api/payouts"
    )  # fmt: skip
    assert request.headers["authorization"] == "tok-1"
    assert request.headers["cookie"] == "lang=en"
    assert request.headers["content-type"] == "application/json"


def test_the_same_order_is_sent_in_the_same_bytes() -> None:
    ecart, server = adapter(one())
    ecart.create(order(fields={"email": EMAIL}))
    ecart.create(order(fields={"email": EMAIL}))
    assert server.asked[0].content == server.asked[1].content


@given(minor=st.integers(1, 10**18 - 1), code=st.sampled_from(["MXN", "CLP", "USD"]))
@settings(deadline=None)
def test_amounts_are_exact_on_the_wire_and_read_back(minor: int, code: str) -> None:
    amount = Money(minor, Currency.of(code))

    def echo(request: httpx.Request) -> httpx.Response:
        written = re.search(rb'"amount": ([0-9.]+),', request.content)
        assert written is not None
        document = json.dumps(payout(amount="@", currency=code)).encode()
        return httpx.Response(200, content=document.replace(b'"@"', written[1]))

    ecart, server = adapter(echo)
    assert ecart.create(order(amount=amount)).amount == amount
    assert server.sent["amount"] == amount.decimal()


def test_process_poll_and_look_up_ask_the_documented_addresses() -> None:
    ecart, server = adapter(one(), one(), httpx.Response(200, json=[payout()]))
    for call in ("process", "poll", "look_up"):
        reply_of(ecart, call)
    assert server.paths == [
        f"PUT /api/payouts/{ID}/confirm",
        f"GET /api/payouts/{ID}",
        f"GET /api/payouts?reference_id={REFERENCE}",
    ]
    assert [r.content for r in server.asked] == [b"{}", b"", b""]
    assert ["content-type" in r.headers for r in server.asked] == [True, False, False]


def test_paths_are_settings_and_an_id_never_leaves_its_place() -> None:
    ecart, server = adapter(
        one(), confirm_path="/api/payouts/{id}/confirmation", status_path="/api/v2/payouts/{id}"
    )
    ecart.process(order(), "../x?y=1#z")
    ecart.poll(order(), "../x?y=1#z")
    assert server.paths == [
        "PUT /api/payouts/..%2Fx%3Fy%3D1%23z/confirmation",
        "GET /api/v2/payouts/..%2Fx%3Fy%3D1%23z",
    ]


# Statuses, in every call that may bring one.


@pytest.mark.parametrize("status", [*Ecart.states, "teleported"])
@pytest.mark.parametrize("call", CALLS)
def test_status_decides_the_outcome_of_every_call(call: str, status: str) -> None:
    expected = Ecart.states.get(status, Outcome.PROCESSING)
    if call == "process" and status == "pending":
        expected = Outcome.PROCESSING
    listed = httpx.Response(200, json=[payout(status=status)])
    reply = ask(call, listed if call == "look_up" else one(status=status))
    assert (reply.outcome, reply.status) == (expected, status)
    assert reply.provider_payout_id == ID
    assert (reply.reference_id, reply.amount) == (REFERENCE, Money(25050, MXN))
    assert (reply.differs, reply.fee, reply.exchange_rate) == ((), Money(0, MXN), "1")
    final = expected in (Outcome.REFUSED, Outcome.RETURNED)
    assert (reply.code, reply.reason) == (
        (status, f"Ecart Pay says {status}") if final else (None, None)
    )


def test_an_unlisted_status_is_open_and_shown() -> None:
    assert ask("poll", one(status="teleported")).warning == "unlisted status: teleported"


@pytest.mark.parametrize(
    ("word", "given", "outcome"),
    [
        ("teleported", "refused", Outcome.REFUSED),
        ("failed", "processing", Outcome.PROCESSING),
        ("credited", "paid", Outcome.PAID),
        ("awaiting", "created", Outcome.CREATED),
    ],
)
def test_status_map_goes_on_top_of_the_table(word: str, given: str, outcome: Outcome) -> None:
    reply = ask("poll", one(status=word), status_map={word: given})
    assert (reply.outcome, reply.warning) == (outcome, None)
    assert ask("poll", one(status="paid"), status_map={word: given}).outcome is Outcome.PAID


@pytest.mark.parametrize("status_code", [200, 201, 202])
def test_any_2xx_with_our_payout_is_accepted(status_code: int) -> None:
    assert ask("create", one(status_code)).outcome is Outcome.CREATED
    assert ask("process", one(status_code, status="paid")).outcome is Outcome.PAID


def test_a_payout_that_was_paid_without_our_confirmation_is_paid_and_shown() -> None:
    reply = ask("create", one(status="paid", fee=3))
    assert reply.outcome is Outcome.PAID
    assert reply.warning == "paid before it was confirmed; fee: 3.00 MXN, expected: none"
    assert ask("create", one(status="paid"), two_step=False).warning is None


def test_another_reference_or_amount_is_told() -> None:
    reply = ask("create", one(reference_id="another", amount=250.51))
    assert (reply.reference_id, reply.amount) == ("another", Money(25051, MXN))


BODIES = (b"", HTML, b"[]", b"null", b"7", b'{"data": 7}', b"\xff\xfe", b"NaN", b'{"id": "x"}')


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("call", ["create", "process", "poll"])
def test_an_unreadable_200_is_unknown(call: str, body: bytes) -> None:
    reply = ask(call, httpx.Response(200, content=body))
    assert (reply.outcome, reply.code, reply.provider_payout_id) == (Outcome.UNKNOWN, "200", None)
    assert reply.refusal is None


@pytest.mark.parametrize("change", [{"reference_id": None}, {"reference_id": ""}, {"id": "../x"},
                                    {"status": None}])  # fmt: skip
def test_a_create_that_does_not_name_our_payout_is_unknown(change: dict[str, Any]) -> None:
    assert ask("create", httpx.Response(200, json={**payout(), **change})).outcome is (
        Outcome.UNKNOWN
    )


@pytest.mark.parametrize("call", ["process", "poll"])
def test_an_answer_about_another_payout_is_unknown(call: str) -> None:
    assert ask(call, one(payout_id="another", status="paid")).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("error_class", "outcome"),
    [
        (httpx.ConnectError, Outcome.NOT_SENT),
        (httpx.ConnectTimeout, Outcome.NOT_SENT),
        (httpx.ReadTimeout, Outcome.UNKNOWN),
        (httpx.RemoteProtocolError, Outcome.UNKNOWN),
    ],
)
def test_a_lost_call_keeps_what_the_transport_says(
    call: str, error_class: type[httpx.HTTPError], outcome: Outcome
) -> None:
    reply = ask(call, error_class("x"))
    assert (reply.outcome, reply.code) == (outcome, error_class.__name__)


# Tokens.


def test_the_token_call_is_as_documented_and_its_token_is_used_again() -> None:
    ecart, server = adapter(one())
    ecart.create(order())
    ecart.poll(order(), ID)
    (call,) = server.token_calls
    assert (call.method, call.url.path, call.content) == ("POST", TOKEN_PATH, b"")
    assert call.headers["authorization"] == f"Basic {BASIC}"
    assert call.headers["cookie"] == "lang=en"
    assert [r.headers["authorization"] for r in server.asked] == ["tok-1", "tok-1"]


def test_scheme_and_cookie_are_settings() -> None:
    ecart, server = adapter(one(), auth_scheme="bearer", lang_cookie="")
    ecart.create(order())
    assert server.asked[0].headers["authorization"] == "Bearer tok-1"
    assert all("cookie" not in r.headers for r in (*server.asked, *server.token_calls))


@pytest.mark.parametrize("refusal", [error(401, 114), httpx.Response(401), error(400, 114)])
@pytest.mark.parametrize("call", ["create", "process", "poll"])
def test_a_refused_token_is_renewed_and_the_same_request_sent_once_more(
    call: str, refusal: httpx.Response
) -> None:
    ecart, server = adapter(refusal, one(status="paid"))
    assert reply_of(ecart, call).outcome is Outcome.PAID
    first, second = server.asked
    assert (first.method, first.url, first.content) == (second.method, second.url, second.content)
    assert [r.headers["authorization"] for r in server.asked] == ["tok-1", "tok-2"]


@pytest.mark.parametrize("call", CALLS)
def test_a_second_refusal_of_the_token_stands(call: str) -> None:
    ecart, server = adapter(error(401, 114, "El token tok-2 no es válido."))
    reply = reply_of(ecart, call)
    assert reply.outcome is Outcome.ACCOUNT_FAULT
    assert reply.account_fault == (
        "Ecart Pay answered 401: public_key or private_key is wrong, or the pair was revoked"
        " (code 114: El token *** no es válido.)"
    )
    assert (len(server.asked), len(server.token_calls)) == (2, 2)


WITHOUT_TOKEN = [
    (error(401, 7), Outcome.ACCOUNT_FAULT, None),
    (error(403), Outcome.ACCOUNT_FAULT, None),
    (httpx.Response(404), Outcome.ACCOUNT_FAULT, None),
    (httpx.Response(405), Outcome.ACCOUNT_FAULT, None),
    (httpx.Response(429, headers={"retry-after": "7"}), None, 7),
    (httpx.Response(429), None, 5),
    (httpx.Response(503, headers={"retry-after": "9"}), None, 9),
    (httpx.Response(500), None, None),
    (httpx.Response(302, headers={"location": "/x"}), None, None),
    (httpx.Response(200, json={"token": ""}), None, None),
    (httpx.Response(200, json={"token": "two words"}), None, None),
    (httpx.Response(200, json={"token": "línea"}), None, None),
    (httpx.Response(200, content=HTML), None, None),
    (httpx.ReadTimeout("x"), None, None),
    (httpx.ConnectError("x"), None, None),
]


@pytest.mark.parametrize(("answer", "outcome", "wait_s"), WITHOUT_TOKEN)
@pytest.mark.parametrize("call", CALLS)
def test_without_a_token_nothing_is_asked(
    call: str, answer: Any, outcome: Outcome | None, wait_s: int | None
) -> None:
    ecart, server = adapter(one(), token_answers=(answer,))
    reply = reply_of(ecart, call)
    not_asked = Outcome.NOT_SENT if call in ("create", "process") else Outcome.UNKNOWN
    assert reply.outcome is (outcome or not_asked)
    assert reply.retry_after_s == wait_s
    assert reply.code
    assert reply.reason
    assert (server.asked, len(server.token_calls)) == ([], 1)


def test_a_create_whose_token_cannot_be_renewed_was_not_taken() -> None:
    ecart, server = adapter(error(401, 114), token_answers=(
        httpx.Response(200, json={"token": "tok-1"}), httpx.ReadTimeout("x")
    ))  # fmt: skip
    reply = ecart.create(order())
    assert (reply.outcome, reply.code) == (Outcome.NOT_SENT, "ReadTimeout")
    assert len(server.asked) == 1


@pytest.mark.parametrize("call", CALLS)
def test_no_secret_gets_into_a_reply(call: str) -> None:
    for status in (400, 401, 403, 404, 422, 500):

        def echo(request: httpx.Request, status: int = status) -> httpx.Response:
            return error(status, 77, f"Bad: {request.headers['authorization']} {EMAIL}")

        assert "tok-" not in repr(ask(call, echo))
        assert EMAIL not in repr(ask(call, echo))
        told = f"{KEY} {BASIC}"
        reply = repr(ask(call, one(), token_answers=(error(status, 77, told),)))
        assert "code 77: *** ***" in reply


# Questions asked before money moves.

SUMMARY = {"MXN": {"available": 10500.257, "pending": 300}, "USD": {"available": 0},
           "CLP": {"available": "12"}, "points": {"available": "many"}}  # fmt: skip


def test_balances_are_what_can_be_spent_rounded_down() -> None:
    ecart, server = adapter(httpx.Response(200, json=SUMMARY))
    usd, clp = Currency.of("USD"), Currency.of("CLP")
    assert ecart.balances() == {MXN: Money(1050025, MXN), usd: Money(0, usd), clp: Money(12, clp)}
    assert server.paths == ["GET /api/transactions/summary"]


def test_balances_address_and_shape_are_settings() -> None:
    ecart, server = adapter(
        httpx.Response(200, json={"data": {"MXN": 7.5}}),
        balance_path="/api/balance",
        balance_path_map="data.{currency}",
    )
    assert ecart.balances() == {MXN: Money(750, MXN)}
    assert server.paths == ["GET /api/balance"]
    without, server = adapter(balance_path="")
    assert (without.balances(), without.capabilities.balances, server.asked) == ({}, False, [])


@pytest.mark.parametrize("document", [{}, [], None, {"MXN": 5}, {"MXN": {"available": None}},
                                      {"XXX": {"available": 5}}])  # fmt: skip
def test_balances_that_cannot_be_read_are_told_not_guessed(document: Any) -> None:
    ecart, _ = adapter(httpx.Response(200, json=document))
    with pytest.raises(ProviderUnreachable, match="balance_path_map"):
        ecart.balances()


@pytest.mark.parametrize(
    ("answers", "token_answers", "raised"),
    [
        ([error(403)], (), AccountFault),
        ([error(401, 114)], (), AccountFault),
        ([error(500)], (), ProviderUnreachable),
        ([httpx.ReadTimeout("x")], (), ProviderUnreachable),
        ([one()], (error(401),), AccountFault),
        ([one()], (error(503),), ProviderUnreachable),
        ([one()], (httpx.Response(200, json={}),), ProviderUnreachable),
    ],
)
def test_balances_raise_what_stops_them(
    answers: list[Any], token_answers: tuple[Any, ...], raised: type[Exception]
) -> None:
    ecart, _ = adapter(*answers, token_answers=token_answers)
    with pytest.raises(raised):
        ecart.balances()


def test_the_one_service_asks_for_an_email_and_no_provider() -> None:
    ecart, server = adapter()
    for code, decimals in (("MXN", 2), ("CLP", 0)):
        (service,) = ecart.services(Currency.of(code))
        assert (service.code, service.currency.code, service.decimals) == (
            "balance", code, decimals
        )  # fmt: skip
        assert service.beneficiary_currency == service.currency
        assert [(rule.name, rule.required) for rule in service.fields or ()] == [("email", True)]
    assert ecart.services(Currency.of("JPY")) == []
    assert adapter(amount_decimals=0)[0].services(MXN)[0].decimals == 0
    assert server.asked == server.token_calls == []


@pytest.mark.parametrize(
    ("email", "taken"),
    [
        (EMAIL, True), ("a.b+c@mail.example.com.mx", True), ("ñandú@example.com", True),
        ("", False), ("proveedor", False), ("a@b", False), ("a@@example.com", False),
        ("a b@example.com", False), ("a@example.com,b@example.com", False),
        ("A <a@example.com>", False), ("a@example.com\n", False), ("a@exa mple.com", False),
    ],
)  # fmt: skip
def test_an_email_is_one_plain_address(email: str, taken: bool) -> None:
    (rule,) = adapter()[0].services(MXN)[0].fields or ()
    assert rule.pattern
    assert bool(re.fullmatch(rule.pattern, email)) is taken
    assert re.fullmatch(rule.pattern, rule.example)


def test_columns_without_a_place_are_told_once_a_family() -> None:
    ecart, _ = adapter()
    assert ecart.why_not(order()) == []
    given = order(customer={"first_name": "A", "last_name": "B"}, context={"card": {"x": "1"}})
    assert ecart.why_not(given) == [
        ("customer.first_name", "no value: Ecart Pay takes no customer data"),
        ("context.card", "no value: Ecart Pay takes no context data"),
    ]


def test_the_provider_lists_no_payouts() -> None:
    ecart, server = adapter()
    now = datetime(2031, 1, 1, tzinfo=UTC)
    assert list(ecart.list_payouts(now, now)) == []
    assert (ecart.capabilities.list_payouts, server.token_calls) == (False, [])
