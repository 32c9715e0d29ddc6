"""An adapter of Payelata before a server that answers what a test tells it to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx

from tests.carriers import answered_by
from workers.providers.payelata import Payelata, PayelataConfig
from workers.providers.port import Order, Reply
from workers.record.money import Currency, Money

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
    return Payelata(settings, answered_by(server, settings.base_url)), server


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
