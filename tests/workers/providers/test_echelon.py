"""The Echelon Pay adapter's calls: what goes over the wire, and every answer to every call."""

from __future__ import annotations

import json
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.providers.echelon_world import (
    ACCOUNT,
    CALLS,
    HOLDER,
    HTML,
    IDR,
    READS,
    REFERENCE,
    USD,
    adapter,
    ask,
    document,
    error,
    order,
    read,
    taken,
)
from workers.providers.echelon import Echelon
from workers.record.money import Currency, Money
from workers.record.status import Outcome

# What is sent.


def test_create_sends_the_documented_request() -> None:
    echelon, server = adapter(taken(), callback_url="https://pay.example/webhooks/main")
    fields = {
        "paymentOperatorCode": "BNK_014",
        "emailAddress": "siti@example.com",
        "bankBranch": "Utara",
        "accountNumber": ACCOUNT,
        "accountName": HOLDER,
    }
    echelon.create(order(fields=MappingProxyType(fields), description="x", metadata={"a": "b"}))
    tail = server.sent["callbackUrl"].removeprefix("https://pay.example/webhooks/main/")
    assert len(bytes.fromhex(tail)) == 32
    assert server.sent == {
        "paymentRequested": {"money": {"amount": 10000, "currencyCode": "IDR"}},
        "paymentMethod": {
            "paymentMethodCode": "BANK_TRANSFER",
            "account": {"accountName": HOLDER, "accountNumber": ACCOUNT, "bankBranch": "Utara"},
            "paymentOperatorCode": "BNK_014",
            "emailAddress": "siti@example.com",
        },
        "callbackUrl": f"https://pay.example/webhooks/main/{tail}",
    }
    request = server.asked[0]
    assert (request.method, str(request.url)) == (
        "POST", f"https://api.example.test/payouts/{REFERENCE}"
    )  # fmt: skip
    assert request.headers["accept"] == "application/json"
    assert request.headers["x-api-version"] == "2"
    assert request.headers["content-type"] == "application/json"


def test_what_an_order_lacks_is_not_sent() -> None:
    echelon, server = adapter(taken())
    echelon.create(order(fields={"accountName": HOLDER, "accountNumber": ACCOUNT}))
    assert set(server.sent) == {"paymentRequested", "paymentMethod"}
    assert set(server.sent["paymentMethod"]) == {"paymentMethodCode", "account"}


@pytest.mark.parametrize("name", READS)
def test_a_read_asks_for_our_own_id_and_sends_no_body(name: str) -> None:
    ask_adapter, server = adapter(read())
    arguments = (order(),) if name == "look_up" else (order(), REFERENCE)
    getattr(ask_adapter, name)(*arguments)
    (request,) = server.asked
    assert (request.method, request.url.path, request.content) == (
        "GET", f"/payouts/{REFERENCE}", b""
    )  # fmt: skip
    assert request.headers["x-api-version"] == "2"
    assert "content-type" not in request.headers


def test_the_api_version_is_a_setting() -> None:
    echelon, server = adapter(taken(), api_version=3)
    echelon.create(order())
    every = [*server.asked, *server.asked_tokens]
    assert [request.headers["x-api-version"] for request in every] == ["3", "3"]


def test_a_create_is_the_same_bytes_for_the_same_order() -> None:
    echelon, server = adapter(taken(), callback_url="https://pay.example/webhooks/main")
    fields = {"accountName": HOLDER, "accountNumber": ACCOUNT, "bankName": "A", "emailAddress": "e"}
    echelon.create(order(fields=fields))
    echelon.create(order(fields=dict(reversed(fields.items()))))
    again, other = adapter(taken(), callback_url="https://pay.example/webhooks/main")
    again.create(order(fields=fields))
    assert len({request.content for request in [*server.asked, *other.asked]}) == 1


@pytest.mark.parametrize("name", ["create", "look_up"])
def test_an_id_never_leaves_its_place_in_the_path(name: str) -> None:
    echelon, server = adapter(read())
    getattr(echelon, name)(order(reference_id="../auth-tokens?x=1#y"))
    assert server.asked[0].url.raw_path == b"/payouts/..%2Fauth-tokens%3Fx%3D1%23y"


@pytest.mark.parametrize(
    ("minor", "currency", "written"),
    [
        (10_000_00, "IDR", b'"amount": 10000,'),
        (4205, "USD", b'"amount": 42.05,'),
        (10, "USD", b'"amount": 0.1,'),
        (1, "USD", b'"amount": 0.01,'),
        (10**17 + 1, "USD", b'"amount": 1000000000000000.01,'),
        (10**17, "INR", b'"amount": 1000000000000000,'),
        (1, "KWD", b'"amount": 0.001,'),
    ],
)
def test_amounts_are_plain_numbers_on_the_wire(minor: int, currency: str, written: bytes) -> None:
    echelon, server = adapter(taken())
    echelon.create(order(amount=Money(minor, Currency.of(currency))))
    assert written in server.asked[0].content


@given(minor=st.integers(1, 10**18 - 1), code=st.sampled_from(["IDR", "USD", "INR", "JPY", "KWD"]))
def test_every_amount_is_read_back_as_it_was_sent(minor: int, code: str) -> None:
    amount = Money(minor, Currency.of(code))

    def echo(request: httpx.Request) -> httpx.Response:
        sent = request.content.partition(b'"money": ')[2].partition(b"}")[0] + b"}"
        body = json.dumps(document(money="@")).encode()
        return httpx.Response(200, content=body.replace(b'"@"', sent))

    reply = adapter(echo)[0].create(order(amount=amount))
    assert (reply.outcome, reply.amount, reply.differs) == (Outcome.PROCESSING, amount, ())


# Taken, or not what was sent.


@pytest.mark.parametrize("status", [200, 201, 202])
def test_any_2xx_with_our_id_and_money_is_taken(status: int) -> None:
    reply = ask("create", taken(status))
    assert reply.outcome is Outcome.PROCESSING
    assert (reply.provider_payout_id, reply.reference_id) == (REFERENCE, REFERENCE)
    assert reply.amount == Money(10_000_00, IDR)
    assert (reply.status, reply.warning, reply.differs) == (None, None, ())


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"\xff", b"NaN", HTML, b"{}", b'{"paymentMethodResponse": 7}',
        json.dumps(document(payout_id=None)).encode(),
        json.dumps(document(payout_id="")).encode(),
        json.dumps(document(payout_id=17)).encode(),
        json.dumps({**document(), "paymentRequested": {}}).encode(),
        json.dumps({**document(), "paymentRequested": None}).encode(),
    ],
)  # fmt: skip
def test_a_2xx_without_our_id_or_money_concludes_nothing(body: bytes) -> None:
    reply = ask("create", httpx.Response(200, content=body))
    assert (reply.outcome, reply.refusal) == (Outcome.UNKNOWN, None)


def test_a_create_answered_for_another_id_concludes_nothing_and_says_so() -> None:
    reply = ask("create", taken(payout_id="PO-2031-000018"))
    assert reply.outcome is Outcome.UNKNOWN
    assert reply.reference_id == "PO-2031-000018"
    assert reply.provider_payout_id is None
    assert reply.differs == ("the answer is about another payout",)


@pytest.mark.parametrize("name", CALLS)
def test_other_money_is_told_as_it_is(name: str) -> None:
    money = {"amount": Decimal(10001), "currencyCode": "USD"}
    told = json.dumps(document(money={**money, "amount": 10001}))
    reply = ask(name, httpx.Response(200, content=told))
    assert reply.outcome is Outcome.PROCESSING
    assert reply.amount == Money(10001_00, USD)


@pytest.mark.parametrize(
    "money",
    [
        {}, [], "10000", {"amount": 10000}, {"currencyCode": "IDR"},
        {"amount": "ten", "currencyCode": "IDR"}, {"amount": True, "currencyCode": "IDR"},
        {"amount": 10000.005, "currencyCode": "IDR"}, {"amount": 10000, "currencyCode": "XXX"},
        {"amount": 10000, "currencyCode": "idr"}, {"amount": 10000, "currencyCode": 360},
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", CALLS)
def test_money_that_cannot_be_read_exactly_differs(name: str, money: Any) -> None:
    reply = ask(name, read("SUCCESS", money=money))
    assert reply.amount is None
    assert reply.differs == ("paymentRequested.money: it cannot be read exactly",)


@pytest.mark.parametrize(
    ("word", "outcome"), [("SUCCESS", Outcome.PAID), ("FAILED", Outcome.REFUSED)]
)
def test_a_create_that_answers_with_the_first_payout_has_its_status(
    word: str, outcome: Outcome
) -> None:
    assert ask("create", read(word)).outcome is outcome


# Statuses.


@pytest.mark.parametrize("word", Echelon.states)
@pytest.mark.parametrize("name", READS)
def test_the_status_decides_the_outcome(name: str, word: str) -> None:
    reply = ask(name, read(word))
    outcome, why = Echelon.states[word]
    assert (reply.outcome, reply.status, reply.warning) == (outcome, word, None)
    assert (reply.provider_payout_id, reply.reference_id) == (REFERENCE, REFERENCE)
    assert (reply.amount, reply.differs) == (Money(10_000_00, IDR), ())
    refused = outcome is Outcome.REFUSED
    assert (reply.code, reply.reason) == ((word, why) if refused else (None, None))


def test_the_table_of_statuses_is_the_page_s() -> None:
    by_outcome: dict[Outcome, set[str]] = {}
    for word, (outcome, _) in Echelon.states.items():
        by_outcome.setdefault(outcome, set()).add(word)
    assert by_outcome == {
        Outcome.PAID: {"SUCCESS"},
        Outcome.REFUSED: {"FAILED", "EXPIRED", "REJECTED", "CANCELLED", "CANCELED"},
        Outcome.PROCESSING: {"PENDING", "CREATED", "PROCESSING", "ACCEPTED", "WAITING"},
    }


@pytest.mark.parametrize("word", ["TELEPORTED", "success", "Failed", "SUCCESS "])
@pytest.mark.parametrize("name", READS)
def test_an_unlisted_status_is_open_and_shown(name: str, word: str) -> None:
    reply = ask(name, read(word))
    assert reply.outcome is Outcome.PROCESSING
    assert reply.status == word.strip()
    assert reply.warning == f"unlisted status: {word.strip()}"


@pytest.mark.parametrize("word", [None, 7, True, [], {"a": 1}])
def test_a_read_without_a_status_word_is_open_and_shown(word: Any) -> None:
    reply = ask("poll", read(word))
    assert (reply.outcome, reply.status) == (Outcome.PROCESSING, None)
    assert reply.warning == "the answer has no status"


@pytest.mark.parametrize(
    ("meaning", "outcome"),
    [
        ("open", Outcome.PROCESSING),
        ("paid", Outcome.PAID),
        ("partly_paid", Outcome.PARTLY_PAID),
        ("failed", Outcome.REFUSED),
        ("returned", Outcome.RETURNED),
    ],
)
def test_the_settings_go_on_top_of_the_statuses(meaning: str, outcome: Outcome) -> None:
    for word in ("REVERSED", "EXPIRED"):
        reply = ask("poll", read(word), status_map={word: meaning})
        assert (reply.outcome, reply.warning) == (outcome, None)
    assert ask("poll", read("SUCCESS"), status_map={"EXPIRED": meaning}).outcome is Outcome.PAID


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", HTML, b'{"process": {"status": "SUCCESS"}}'])
@pytest.mark.parametrize("name", READS)
def test_a_read_that_is_about_no_payout_concludes_nothing(name: str, body: bytes) -> None:
    assert ask(name, httpx.Response(200, content=body)).outcome is Outcome.UNKNOWN


def test_a_read_may_leave_out_the_id_that_was_asked_for() -> None:
    reply = ask("look_up", read("SUCCESS", payout_id=None))
    assert (reply.outcome, reply.reference_id) == (Outcome.PAID, None)


def test_a_read_of_another_payout_tells_its_id() -> None:
    reply = ask("poll", read("SUCCESS", payout_id="PO-" + "9" * 400))
    assert reply.reference_id is not None
    assert reply.reference_id.startswith("PO-999")
    assert len(reply.reference_id) == 256


# HTTP, the whole table of both calls, where the body says nothing.

FAULTS = dict.fromkeys((401, 403, 405), Outcome.ACCOUNT_FAULT) | {429: Outcome.NOT_SENT}
DOUBTS = dict.fromkeys(
    (301, 302, 303, 307, 308, 400, 402, 406, 408, 410, 413, 415, 418, 422, 423, 425, 451,
     500, 501, 502, 503, 504, 520, 599), Outcome.UNKNOWN,
)  # fmt: skip
CREATE = FAULTS | DOUBTS | {404: Outcome.ACCOUNT_FAULT, 409: Outcome.EXISTS}
READ = FAULTS | DOUBTS | {404: Outcome.UNKNOWN, 409: Outcome.UNKNOWN}
HTTP = [("create", status, outcome) for status, outcome in CREATE.items()]
HTTP += [(name, status, outcome) for name in READS for status, outcome in READ.items()]


@pytest.mark.parametrize(("name", "status", "outcome"), HTTP)
def test_http_status_decides_where_the_body_says_nothing(
    name: str, status: int, outcome: Outcome
) -> None:
    for body in (b"", HTML, b"[]", b"null", b"{}", b"\xff\xfe", b"NaN"):
        answer = httpx.Response(status, content=body, headers={"location": "/x"})
        reply = ask(name, answer)
        assert reply.outcome is outcome, body
        assert (reply.refusal is None) is not (name == "create" and status in (400, 422))
        assert (reply.account_fault is None) is (outcome is not Outcome.ACCOUNT_FAULT)
        assert reply.code == str(status)
        assert reply.reason


@pytest.mark.parametrize("name", CALLS)
def test_a_redirect_is_not_followed(name: str) -> None:
    echelon, server = adapter(httpx.Response(302, headers={"location": "/payouts/x"}), read())
    arguments = (order(),) if name in ("create", "look_up") else (order(), REFERENCE)
    assert getattr(echelon, name)(*arguments).reason == "answered 302, not followed"
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [404, 409, 422, 500])
@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_repeated_but_for_a_refused_token(name: str, status: int) -> None:
    echelon, server = adapter(error(status, "X"))
    arguments = (order(),) if name in ("create", "look_up") else (order(), REFERENCE)
    getattr(echelon, name)(*arguments)
    assert (len(server.asked), len(server.asked_tokens)) == (1, 1)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (httpx.ConnectError("x"), Outcome.NOT_SENT),
        (httpx.ConnectTimeout("x"), Outcome.NOT_SENT),
        (httpx.ReadTimeout("x"), Outcome.UNKNOWN),
        (httpx.RemoteProtocolError("x"), Outcome.UNKNOWN),
        (httpx.WriteError("x"), Outcome.UNKNOWN),
    ],
)
def test_a_lost_call_is_what_the_transport_says(
    name: str, failure: Exception, outcome: Outcome
) -> None:
    reply = ask(name, failure)
    assert (reply.outcome, reply.code) == (outcome, type(failure).__name__)
