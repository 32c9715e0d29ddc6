"""The Payelata adapter's calls: every HTTP answer of every call, and what goes over the wire."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from workers.errors import AccountFault, ProviderUnreachable
from workers.providers.payelata import Payelata, PayelataConfig
from workers.providers.payelata_words import STATES
from workers.providers.port import Order, Reply, load_provider
from workers.providers.transport import Transport
from workers.record.money import Currency, Money
from workers.record.status import Outcome

REFERENCE = "b7e1-item-000042"
ID = "cpoi_Demo0000Demo0042"
CARD = "4000000000000002"
HOLDER = "JANE ROE"
KEY = "demo-api-key"
TOKEN = "Y29tYV9EZW1vMDAwMERlbW8wMDAxOmRlbW8tYXBpLWtleQ=="
HTML = b"<html><body>502 Bad Gateway 4000000000000002</body></html>"
LISTED_404 = {"errors": [{"status": "Not Found", "code": "404"}]}
USD = Currency.of("USD")

Answering = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _one_ssl_context(monkeypatch: pytest.MonkeyPatch) -> None:
    # Loading the system's certificates takes longer than a test.
    monkeypatch.setattr(ssl, "create_default_context", lambda: CONTEXT)


CONTEXT = ssl.create_default_context()


@dataclass
class Server:
    """Answers in turn, the last one for ever, and keeps what it was asked."""

    answers: list[Answering]
    asked: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    @property
    def sent(self) -> Any:
        return json.loads(self.asked[-1].content, parse_float=Decimal)


def config(**changes: Any) -> PayelataConfig:
    return PayelataConfig(
        **{
            "base_url": "https://api.example.test/api",
            "public_base_url": "https://api.example.test",
            "account_id": "coma_Demo0000Demo0001",
            "api_key": KEY,
            "public_key": "pk_test_demo",
            "signing_key": "sk_test_demo",
            "test_mode": True,
            **changes,
        }
    )


def adapter(*answers: Answering, **changes: Any) -> tuple[Payelata, Server]:
    server = Server(list(answers) or [httpx.Response(500)])
    settings = config(**changes)
    return Payelata(
        settings, Transport(settings.base_url, transport=httpx.MockTransport(server))
    ), server


def order(**changes: Any) -> Order:
    return Order(
        **{
            "reference_id": REFERENCE,
            "account": "main",
            "amount": Money(2550, USD),
            "service": "payment_card_usd",
            "fields": {"card_number": CARD},
            **changes,
        }
    )


def invoice(payout_id: str = ID, **attributes: Any) -> dict[str, Any]:
    service = attributes.pop("service_id", "payment_card_usd")
    facts = {
        "status": "created", "resolution": "ok", "amount": 25.5, "currency": "USD",
        "reference_id": REFERENCE, "test_mode": True, "fee": 0.75, "exchange_rate": 1,
        "processed_amount": None, "processed_fee": 0, "created": 1700000000,
        "fields": {"card_number": "400000******0002"},
        **attributes,
    }  # fmt: skip
    related = {"payout-service": {"data": {"type": "payout-services", "id": service}}}
    return {
        "type": "payout-invoices", "id": payout_id, "attributes": facts, "relationships": related
    }  # fmt: skip


def one(code: int = 200, payout_id: str = ID, **attributes: Any) -> httpx.Response:
    return httpx.Response(code, json={"data": invoice(payout_id, **attributes)})


def listed(*items: Any, **rest: Any) -> httpx.Response:
    document = {
        "data": list(items),
        "meta": {"count": len(items), "size": 20, "before": "", "after": ""},
        "links": {"prev": "", "next": ""},
        **rest,
    }
    return httpx.Response(200, json=document)


def ask(call: str, answer: Answering, **changes: Any) -> Reply:
    """The reply of one call of the port to one answer."""
    payelata, _ = adapter(answer, **changes)
    arguments = (order(),) if call in ("create", "look_up") else (order(), ID)
    reply = getattr(payelata, call)(*arguments)
    assert isinstance(reply, Reply)
    return reply


CALLS = ("create", "process", "poll", "look_up")


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


# Look-ups.


def test_look_up_finds_nothing_only_in_an_empty_list() -> None:
    assert ask("look_up", listed()).outcome is Outcome.NOT_FOUND


def test_several_hits_are_for_a_person() -> None:
    reply = ask("look_up", listed(invoice("cpoi_A"), invoice("cpoi_B")))
    assert reply.outcome is Outcome.EXISTS
    assert reply.differs == ("2 payouts carry this reference id",)
    twice = ask("look_up", listed(invoice("cpoi_A"), invoice("cpoi_A")))
    assert twice.outcome is Outcome.CREATED


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"data": {}},
        {"data": invoice()},
        {"data": None},
        {"data": [None]},
        {"data": [{"type": "payout-invoices", "id": "cpoi_A"}]},
        {"data": [invoice("cpoi_A", reference_id="another"), 7]},
        {"data": [], "errors": [{"code": "500"}]},
        {"data": [], "meta": {"count": 3, "size": 20}},
    ],
)
def test_a_body_that_is_no_list_is_never_absence(document: Any) -> None:
    assert ask("look_up", httpx.Response(200, json=document)).outcome is Outcome.UNKNOWN


def others(*names: str, **rest: Any) -> httpx.Response:
    return listed(*(invoice(f"cpoi_{n}", reference_id=f"other-{n}") for n in names), **rest)


def link(query: str) -> dict[str, Any]:
    return {"links": {"next": f"/api/payout-invoices?{query}"}}


def test_a_server_that_ignores_the_filter_is_read_on_to_its_end() -> None:
    hit = listed(invoice())
    payelata, server = adapter(others("a", "b", **link("page%5Bafter%5D=cpoi_b")), hit)
    assert payelata.look_up(order()).outcome is Outcome.CREATED
    assert server.asked[1].url.params["page[after]"] == "cpoi_b"
    assert server.asked[1].url.path == "/api/payout-invoices"

    payelata, _ = adapter(others("a", **link("page=2")), others("b"))
    assert payelata.look_up(order()).outcome is Outcome.NOT_FOUND


def test_a_reference_that_only_resembles_ours_is_no_hit() -> None:
    for reference in (REFERENCE.upper(), f"{REFERENCE}0", None):
        answer = listed(invoice("cpoi_a", reference_id=reference, status="processed"))
        assert ask("look_up", answer).outcome is Outcome.NOT_FOUND


@pytest.mark.parametrize(
    "later",
    [
        httpx.Response(500),
        httpx.Response(404, json=LISTED_404),
        httpx.Response(200, content=HTML),
        others("a", **link("page=2")),
        listed(**link("page=3")),
    ],
)
def test_a_list_that_breaks_off_proves_nothing(later: httpx.Response) -> None:
    payelata, _ = adapter(others("a", **link("page=2")), later)
    assert payelata.look_up(order()).outcome is Outcome.UNKNOWN


def test_a_full_page_without_a_link_is_read_on_by_the_cursor() -> None:
    names = [str(number) for number in range(20)]
    payelata, server = adapter(others(*names), listed())
    assert payelata.look_up(order()).outcome is Outcome.NOT_FOUND
    assert dict(server.asked[1].url.params) == {
        "filter[reference_id]": REFERENCE, "page[after]": "cpoi_19"
    }  # fmt: skip
    # The cursor is ignored too: the end was never seen.
    assert ask("look_up", others(*names)).outcome is Outcome.UNKNOWN


def test_look_up_gives_up_after_its_pages() -> None:
    pages = iter(range(100))
    answer: Answering = lambda _: others(str(next(pages)), **link("page=next"))  # noqa: E731
    payelata, server = adapter(answer, find_pages_max=3)
    assert payelata.look_up(order()).outcome is Outcome.UNKNOWN
    assert len(server.asked) == 3


def test_links_are_never_followed_to_another_host() -> None:
    elsewhere = {"links": {"next": "https://evil.example/steal?page=2"}}
    payelata, server = adapter(others("a", **elsewhere), listed())
    payelata.look_up(order())
    assert {request.url.host for request in server.asked} == {"api.example.test"}


# Webhooks.


def signed(body: bytes, key: bytes = b"sk_test_demo") -> str:
    return base64.b64encode(hashlib.sha1(key + body + key).digest()).decode()


VECTOR = b'{"data":{"type":"payout-invoices","id":"cpoi_Demo0000Demo0001"}}'


@pytest.mark.parametrize("name", ["X-Signature", "x-signature", "X-SIGNATURE"])
def test_webhook_of_the_pages_test_vector(name: str) -> None:
    payelata, server = adapter()
    found = payelata.read_webhook({name: "NzPvg8FNNOPAzW0Twu4OrTTLziI="}, VECTOR)
    assert list(found) == ["cpoi_Demo0000Demo0001"]
    assert server.asked == []


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, VECTOR),
        ({"X-Signature": ""}, VECTOR),
        ({"X-Signature": "é\udcff"}, VECTOR),
        ({"X-Signature": signed(VECTOR, b"sk_live_demo")}, VECTOR),
        ({"X-Signature": signed(VECTOR)}, VECTOR + b" "),
        ({"X-Signature": hashlib.sha1(b"sk_test_demo" + VECTOR).hexdigest()}, VECTOR),
        ({"X-Signature": signed(b"no json")}, b"no json"),
        ({"X-Signature": signed(b'{"data":{"type":"payment-invoices","id":"x"}}')},
         b'{"data":{"type":"payment-invoices","id":"x"}}'),
        ({"X-Signature": signed(b'{"data":[]}')}, b'{"data":[]}'),
    ],
)  # fmt: skip
def test_a_webhook_that_is_not_verified_and_shaped_wakes_nothing(
    headers: dict[str, str], body: bytes
) -> None:
    assert list(adapter()[0].read_webhook(headers, body)) == []


def test_without_a_signing_key_no_webhook_counts() -> None:
    payelata, _ = adapter(signing_key=None)
    assert list(payelata.read_webhook({"X-Signature": signed(VECTOR, b"")}, VECTOR)) == []


# The provider's list.


def test_list_payouts_reads_the_window_newest_first() -> None:
    def at(name: str, created: int) -> dict[str, Any]:
        return invoice(f"cpoi_{name}", reference_id=name, created=created)

    payelata, server = adapter(
        listed(at("e", 500), at("d", 400), **link("page%5Bafter%5D=cpoi_d")),
        listed(at("c", 300), at("b", 200), at("a", 100), **link("page=3")),
    )
    window = (datetime.fromtimestamp(second, UTC) for second in (200, 500))
    assert [reply.reference_id for reply in payelata.list_payouts(*window)] == ["d", "c", "b"]
    assert len(server.asked) == 2


def test_list_payouts_ends_where_a_page_brings_nothing_new() -> None:
    window = (datetime.fromtimestamp(0, UTC), datetime.fromtimestamp(2**33, UTC))
    payelata, server = adapter(others("a", **link("page=2")))
    assert len(list(payelata.list_payouts(*window))) == 1
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (httpx.Response(401), AccountFault),
        (httpx.Response(500), ProviderUnreachable),
        (httpx.Response(200, content=HTML), ProviderUnreachable),
        (listed({"type": "payout-invoices"}), ProviderUnreachable),
        (httpx.ReadTimeout("x"), ProviderUnreachable),
    ],
)
def test_list_payouts_is_never_cut_short_in_silence(
    answer: Answering, raised: type[Exception]
) -> None:
    window = (datetime.fromtimestamp(0, UTC), datetime.fromtimestamp(2**33, UTC))
    payelata, _ = adapter(others("a", **link("page=2")), answer)
    with pytest.raises(raised):
        list(payelata.list_payouts(*window))
    pages = iter(range(100))
    endless: Answering = lambda _: others(str(next(pages)), **link("page=n"))  # noqa: E731
    with pytest.raises(ProviderUnreachable):
        list(adapter(endless, list_pages_max=3)[0].list_payouts(*window))


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
        PayelataConfig(base_url="https://x.test", account_id="a", api_key="k")  # type: ignore[call-arg]
