"""The eComCharge adapter's calls: every HTTP answer of every call, and what goes over the wire."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import httpx
import pytest

from tests.workers.providers.ecomcharge_world import (
    ACCOUNT,
    BASIC,
    CALLS,
    HOLDER,
    HOOK,
    HTML,
    NOT_FOUND,
    REFERENCE,
    SECRET,
    UID,
    USD,
    adapter,
    ask,
    cards,
    listed,
    order,
    told,
    transaction,
)
from workers.providers.ecomcharge import EComCharge
from workers.providers.port import DryRunner, Order, Provider, Verifier
from workers.record.money import Currency, Money
from workers.record.status import Outcome

# What is sent.

CUSTOMER = {
    "first_name": "Jane", "last_name": "Roe", "country": "US", "email": "jane@example.org",
    "birth_date": "1990-01-31",
}  # fmt: skip


def test_create_sends_the_documented_body() -> None:
    ecomcharge, server = adapter(
        told(), callback_url=HOOK, verification=True, language="en",
        additional_data={"contract": ["x"]},
    )  # fmt: skip
    ecomcharge.create(
        order(description="Payout 42", customer=MappingProxyType({**CUSTOMER, "ip": "192.0.2.10"}))
    )
    assert server.sent == {
        "request": {
            "amount": 2550,
            "currency": "USD",
            "description": "Payout 42",
            "test": True,
            "tracking_id": REFERENCE,
            "language": "en",
            "ip": "192.0.2.10",
            "notification_url": HOOK,
            "verification_url": f"{HOOK}/verify",
            "additional_data": {"contract": ["x"]},
            "customer": CUSTOMER,
            "method": {"type": "bank_transfer", "account_number": ACCOUNT},
        }
    }
    request = server.asked[0]
    assert (request.method, str(request.url)) == (
        "POST", "https://api.example.test/beyag/transactions/payouts"
    )  # fmt: skip
    assert request.headers["authorization"] == f"Basic {BASIC}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["requestid"] == REFERENCE
    assert "x-api-version" not in request.headers


@pytest.mark.parametrize(("key_no", "key"), [(0, REFERENCE), (1, f"{REFERENCE}.1"),
                                             (12, f"{REFERENCE}.12")])  # fmt: skip
def test_after_plain_refusals_the_same_bytes_go_out_under_the_next_key(
    key_no: int, key: str
) -> None:
    ecomcharge, server = adapter(told())
    ecomcharge.create(order(key_no=key_no))
    ecomcharge.create(order())
    assert server.asked[0].headers["requestid"] == key
    assert server.asked[0].content == server.asked[1].content


def test_what_an_order_lacks_is_not_sent_and_the_description_has_a_default() -> None:
    ecomcharge, server = adapter(told(test=False), test_mode=False, verification=True)
    ecomcharge.create(order())
    assert server.sent == {
        "request": {
            "amount": 2550,
            "currency": "USD",
            "description": f"Payout {REFERENCE}",
            "test": False,
            "tracking_id": REFERENCE,
            "method": {"type": "bank_transfer", "account_number": ACCOUNT},
        }
    }


def test_a_card_payout_has_each_column_in_its_place() -> None:
    ecomcharge, server = adapter(
        told(), **cards(
            callback_url=HOOK, sender={"email": "pay@example.org"},
            sender_billing_address={"country": "US"}, additional_data={"contract": ["card"]},
        )
    )  # fmt: skip
    document = {"type": "passport", "number": "X1"}
    ecomcharge.create(order(
        service="credit_card", fields={"token": "tok-1", "holder": HOLDER},
        customer={**CUSTOMER, "ip": "192.0.2.10", "document": document},
    ))  # fmt: skip
    request = server.sent["request"]
    assert {name: request[name] for name in request if name not in ("amount", "currency")} == {
        "description": f"Payout {REFERENCE}",
        "test": True,
        "tracking_id": REFERENCE,
        "notification_url": HOOK,
        "duplicate_check": True,
        "recipient_credit_card": {"token": "tok-1", "holder": HOLDER},
        "recipient": {
            "email": "jane@example.org", "birth_date": "1990-01-31", "ip": "192.0.2.10"
        },
        "recipient_billing_address": {"first_name": "Jane", "last_name": "Roe", "country": "US"},
        "sender": {"email": "pay@example.org"},
        "sender_billing_address": {"country": "US"},
        "additional_data": {"contract": ["card"], "document": document},
    }  # fmt: skip


def test_a_bare_card_payout_names_no_empty_places() -> None:
    ecomcharge, server = adapter(told(), **cards())
    ecomcharge.create(order(service="credit_card", fields={"token": "tok-1"}))
    assert set(server.sent["request"]) == {
        "amount", "currency", "description", "test", "tracking_id", "duplicate_check",
        "recipient_credit_card",
    }  # fmt: skip


@pytest.mark.parametrize("settings", [{}, cards()])
def test_a_create_has_the_same_bytes_whatever_the_order_of_columns(
    settings: dict[str, Any],
) -> None:
    ecomcharge, server = adapter(told(), **settings)
    columns = {"b": "1", "a": "2", "c": "3"}
    nested = {"document": {"type": "passport", "number": "X1"}, "country": "US"}
    other = {"country": "US", "document": {"number": "X1", "type": "passport"}}
    ecomcharge.create(order(fields=columns, customer=nested))
    ecomcharge.create(order(fields=dict(sorted(columns.items())), customer=other))
    ecomcharge.create(order(fields=columns, customer=nested, metadata={"team": "A"}))
    first, *repeats = [request.content for request in server.asked]
    assert set(repeats) == {first}


def test_no_column_can_change_the_method() -> None:
    ecomcharge, server = adapter(told())
    ecomcharge.create(order(fields={"type": "bogus", "account_number": "1"}))
    assert server.sent["request"]["method"]["type"] == "bank_transfer"


def test_the_create_address_is_a_setting() -> None:
    ecomcharge, server = adapter(told(), create_path="/transactions/payout")
    ecomcharge.create(order())
    assert server.targets == [("POST", "/beyag/transactions/payout")]


def test_reads_ask_the_documented_addresses_without_an_idempotency_key() -> None:
    ecomcharge, server = adapter(told(), listed())
    ecomcharge.poll(order(), UID)
    ecomcharge.look_up(order())
    assert server.targets == [
        ("GET", f"/beyag/transactions/{UID}"),
        ("GET", f"/beyag/transactions/tracking_id/{REFERENCE}"),
    ]
    assert all("requestid" not in request.headers for request in server.asked)
    assert all("content-type" not in request.headers for request in server.asked)
    assert {request.headers["authorization"] for request in server.asked} == {f"Basic {BASIC}"}


def test_cards_are_found_at_their_own_address_and_in_the_version_asked_for() -> None:
    ecomcharge, server = adapter(told(), **cards(cards_version="3"))
    ecomcharge.look_up(order())
    ecomcharge.create(order(fields={"token": "tok-1"}))
    assert server.targets == [
        ("GET", f"/v2/transactions/tracking_id/{REFERENCE}"),
        ("POST", "/transactions/payouts"),
    ]
    assert {request.headers["x-api-version"] for request in server.asked} == {"3"}


def test_an_id_never_leaves_its_place_in_the_path() -> None:
    ecomcharge, server = adapter(told())
    ecomcharge.poll(order(), "../balance?x=1#y")
    ecomcharge.look_up(order(reference_id="a/b;c"))
    assert [target for _, target in server.targets] == [
        "/beyag/transactions/..%2Fbalance%3Fx%3D1%23y",
        "/beyag/transactions/tracking_id/a%2Fb%3Bc",
    ]


@pytest.mark.parametrize(
    ("minor", "currency", "decimals"), [(2550, "EUR", 2), (2551, "USD", 1), (105, "IDR", 0)]
)
def test_an_amount_that_has_no_exact_minor_units_there_is_never_sent(
    minor: int, currency: str, decimals: int
) -> None:
    known = {"USD": decimals} if currency == "EUR" else {currency: decimals}
    ecomcharge, server = adapter(told(), currency_decimals=known)
    reply = ecomcharge.create(order(amount=Money(minor, Currency.of(currency))))
    assert (reply.outcome, server.asked) == (Outcome.UNKNOWN, [])
    assert "currency_decimals" in (reply.needs_person or "")


# HTTP, the whole table of every call, where the body names no payout.

FAULTS = dict.fromkeys((401, 403, 404, 405), Outcome.ACCOUNT_FAULT)
DOUBTS = dict.fromkeys(
    (200, 201, 202, 204, 206, 301, 302, 303, 307, 308, 400, 402, 406, 408, 410, 413, 415, 418, 422,
     423, 425, 431, 451, 500, 501, 502, 503, 504, 520, 599), Outcome.UNKNOWN,
)  # fmt: skip
BY_CALL = {
    "create": {409: Outcome.EXISTS},
    "poll": {404: Outcome.UNKNOWN, 409: Outcome.UNKNOWN},
    "look_up": {404: Outcome.UNKNOWN, 409: Outcome.UNKNOWN},
}
HTTP = [
    (call, status, outcome)
    for call in CALLS
    for status, outcome in (FAULTS | DOUBTS | {429: Outcome.NOT_SENT} | BY_CALL[call]).items()
]
BODIES = (
    b"", HTML, b"null", b"7", b'{"transaction": 7}', b'{"transaction": {}}', b"\xff\xfe", b"NaN",
    b'{"transaction": {"uid": ""}}', b'{"transactions": null}', b'{"transaction": {"uid": "../x"}}',
    b'{"transactions": [7]}', b"{}", b'{"transaction": {"uid": 7, "status": "failed"}}',
)  # fmt: skip


@pytest.mark.parametrize(("call", "status", "outcome"), HTTP)
def test_http_status_decides_where_the_body_names_no_payout(
    call: str, status: int, outcome: Outcome
) -> None:
    for body in BODIES:
        reply = ask(call, httpx.Response(status, content=body, headers={"location": "/x"}))
        assert reply.outcome is outcome, body
        assert reply.code == str(status)
        assert bool(reply.account_fault) is (outcome is Outcome.ACCOUNT_FAULT)
        judged = call == "create" and 400 <= status < 500 and outcome is Outcome.UNKNOWN
        named = status in (400, 422) and b'"transaction"' in body
        assert bool(reply.refusal) is (judged and status not in (408, 425) and not named), body
        assert ACCOUNT not in repr(reply)


@pytest.mark.parametrize("status", [200, 201, 202, 302, 400, 401, 404, 409, 422, 429, 500, 503])
def test_a_create_whose_answer_has_an_id_was_stored_whatever_its_http_status(status: int) -> None:
    reply = ask("create", told(status, status="successful"))
    assert (reply.outcome, reply.provider_payout_id) == (Outcome.PAID, UID)
    assert (reply.reference_id, reply.amount) == (REFERENCE, Money(2550, USD))
    failed = ask("create", told(status, status="failed", message="Refused."))
    assert (failed.outcome, failed.code, failed.reason) == (Outcome.REFUSED, "failed", "Refused.")


@pytest.mark.parametrize("status", [300, 302, 400, 404, 422, 500, 502])
@pytest.mark.parametrize("call", ["poll", "look_up"])
def test_a_read_is_believed_only_if_it_was_answered_well(call: str, status: int) -> None:
    assert ask(call, told(status, status="failed")).outcome is Outcome.UNKNOWN


def test_a_read_about_another_payout_is_unknown() -> None:
    reply = ask("poll", told(uid="2-other", status="failed"))
    assert (reply.outcome, reply.provider_payout_id) == (Outcome.UNKNOWN, None)


@pytest.mark.parametrize("call", ["poll", "look_up"])
@pytest.mark.parametrize(
    "document", [NOT_FOUND, {"response": {"message": "Record not found"}}]
)  # fmt: skip
def test_a_404_in_the_platforms_own_words_is_not_found(call: str, document: Any) -> None:
    assert ask(call, httpx.Response(404, json=document)).outcome is Outcome.NOT_FOUND
    unlisted = ask(call, httpx.Response(404, json=document), absent_words=("gone",))
    assert unlisted.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (httpx.ConnectError("x"), Outcome.NOT_SENT),
        (httpx.ConnectTimeout("x"), Outcome.NOT_SENT),
        (httpx.ReadTimeout("x"), Outcome.UNKNOWN),
        (httpx.RemoteProtocolError("x"), Outcome.UNKNOWN),
    ],
)
def test_a_lost_call_keeps_what_the_transport_says(
    call: str, error: Exception, outcome: Outcome
) -> None:
    reply = ask(call, error)
    assert (reply.outcome, reply.code) == (outcome, type(error).__name__)


@pytest.mark.parametrize("call", CALLS)
def test_a_429_was_turned_away_and_says_how_long_to_wait(call: str) -> None:
    reply = ask(call, httpx.Response(429, headers={"Retry-After": "7"}))
    assert (reply.outcome, reply.code, reply.retry_after_s) == (Outcome.NOT_SENT, "429", 7)


def test_a_429_may_be_set_to_be_in_doubt() -> None:
    reply = ask("create", httpx.Response(429), rate_limited_is_not_created=False)
    assert (reply.outcome, reply.retry_after_s) == (Outcome.UNKNOWN, 5)


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "secret_key"), (403, "may not"), (404, "base_url"), (405, "create_path")],
)
def test_an_account_fault_names_the_status_and_the_likely_cause(status: int, words: str) -> None:
    reply = ask("create", httpx.Response(status, json={"message": "Unauthorized"}))
    assert f"eComCharge answered {status}" in (reply.account_fault or "")
    assert words in (reply.account_fault or "")
    assert not reply.low_balance


def test_there_is_no_second_step() -> None:
    ecomcharge, server = adapter(told())
    reply = ecomcharge.process(order(), UID)
    assert (reply.outcome, server.asked) == (Outcome.NOT_SENT, [])


# Secrets and people.


@pytest.mark.parametrize("status", [200, *range(400, 432), 500, 502])
@pytest.mark.parametrize("call", CALLS)
def test_no_reply_holds_a_secret_or_a_beneficiary(call: str, status: int) -> None:
    def hostile(request: httpx.Request) -> httpx.Response:
        words = f"{ACCOUNT} 4000 0000 0000 0002 {HOLDER}"
        if status >= 400:
            words += f" {request.headers.get('authorization')} {SECRET}"
        forms: list[Any] = [
            {"errors": {"request": {words: [words]}}, "code": words},
            {"errors": words, "message": words},
            {"response": {"message": words}},
            {"transaction": transaction(status="failed", message=words, code=words, type=words)},
            {"transactions": [transaction(status=words, amount=words, test=words)]},
        ]
        return httpx.Response(status, json=forms[status % 5])

    sent = order(fields={"account_number": ACCOUNT}, customer={"first_name": HOLDER})
    text = repr(ask(call, hostile, sent))
    for private in (SECRET, BASIC, ACCOUNT, "4000 0000", HOLDER):
        assert private not in text


# Capabilities.


def test_the_adapter_is_what_the_port_asks_for() -> None:
    ecomcharge, _ = adapter()
    provider: Provider = ecomcharge
    assert isinstance(ecomcharge, Verifier)
    assert isinstance(ecomcharge, DryRunner)
    assert provider.name == "ecomcharge"
    can = EComCharge.capabilities
    assert (can.two_step, can.refuses_duplicates, can.look_up) == (False, False, True)
    assert (can.repeatable_for_s, can.absence_conclusive_after_s) == (72_000, 600)
    assert (can.reference_id_chars_max, can.reference_id_char) == (64, "[A-Za-z0-9-]")
    assert (can.services, can.list_payouts, can.webhooks) == (False, False, True)
    assert list(ecomcharge.list_payouts(*[None] * 2)) == []  # type: ignore[arg-type]


def test_capabilities_follow_the_settings() -> None:
    usual = adapter()[0].capabilities
    assert (usual.balances, usual.verifies, usual.dry_run) == (False, False, False)
    assert (usual.currencies, usual.repeatable_for_s) == (("USD",), 72_000)
    full = adapter(
        gateway_id=7, verification=True, callback_url=HOOK, precheck=True, resend_within_s=0,
        currency_decimals={"USD": 2, "JPY": 0},
    )[0].capabilities  # fmt: skip
    assert (full.balances, full.verifies, full.dry_run) == (True, True, True)
    assert (full.currencies, full.repeatable_for_s) == (("USD", "JPY"), None)
    assert not adapter(verification=True)[0].capabilities.verifies


def test_who_is_paid_through_is_the_address_and_the_shop() -> None:
    usual = adapter()[0].capabilities.identity
    for changes in ({"base_url": "https://other.example.test"}, {"shop_id": "4243"}):
        assert adapter(**changes)[0].capabilities.identity not in ("", usual)
    rotated = adapter(secret_key="new", language="en")[0]
    assert (EComCharge.capabilities.identity, rotated.capabilities.identity) == ("", usual)


@pytest.mark.parametrize(
    "changes",
    [
        {"base_url": "https://other.example.test/beyag"}, {"create_path": "/transactions/payout"},
        {"test_mode": False}, {"callback_url": HOOK}, {"language": "en"}, {"shop_id": "4243"},
        {"currency_decimals": {"USD": 3}}, {"additional_data": {"contract": ["x"]}}, cards(),
    ],
)  # fmt: skip
def test_every_setting_of_a_create_changes_its_shape(changes: dict[str, Any]) -> None:
    assert adapter(**changes)[0].capabilities.shape != adapter()[0].capabilities.shape


def test_other_settings_leave_the_shape_as_it_is() -> None:
    usual = adapter(callback_url=HOOK)[0].capabilities.shape
    same = adapter(callback_url=HOOK, secret_key="other", gateway_id=7, precheck=True)[0]
    assert same.capabilities.shape == usual
    asking = adapter(callback_url=HOOK, verification=True)[0]
    assert asking.capabilities.shape != usual
    swapped = [
        adapter(currency_decimals=dict(pairs))[0].capabilities.shape
        for pairs in ((("USD", 2), ("EUR", 2)), (("EUR", 2), ("USD", 2)))
    ]
    assert swapped[0] == swapped[1]


def test_the_same_body_goes_out_for_the_same_shape() -> None:
    def sent(**changes: Any) -> bytes:
        ecomcharge, server = adapter(told(), **changes)
        ecomcharge.create(Order(**{**_plain(order())}))
        return server.asked[0].content

    assert sent() == sent(gateway_id=7, precheck=True, methods={"other": {}})
    assert json.loads(sent()) != json.loads(sent(language="en"))


def _plain(sent: Order) -> dict[str, Any]:
    names = ("reference_id", "account", "amount", "service", "fields")
    return {name: getattr(sent, name) for name in names}
