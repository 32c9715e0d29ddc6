"""An adapter of eComCharge before a server that answers what a test tells it to."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from tests.carriers import answered_by
from workers.providers.ecomcharge import EComCharge
from workers.providers.ecomcharge_config import EComChargeConfig
from workers.providers.port import Delivery, Order, Reply
from workers.record.money import Currency, Money

REFERENCE = "b7e1-item-000042"
UID = "2-52671c0042"
ACCOUNT = "4000000000000002"
HOLDER = "JANE ROE"
SECRET = "demo-secret"
# Shop 4242 with demo-secret. Source: eComCharge payout API facts, section 2.
BASIC = "NDI0MjpkZW1vLXNlY3JldA=="
HTML = b"<html><body>502 Bad Gateway 4000000000000002</body></html>"
NOT_FOUND = {"message": "Not found."}
HOOK = "https://worker.example/webhooks/main"
USD = Currency.of("USD")
CALLS = ("create", "poll", "look_up")

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
        return json.loads(self.asked[-1].content)

    @property
    def targets(self) -> list[tuple[str, str]]:
        return [(request.method, request.url.raw_path.decode()) for request in self.asked]


def config(**changes: Any) -> EComChargeConfig:
    return EComChargeConfig(
        **{
            "base_url": "https://api.example.test/beyag",
            "shop_id": "4242",
            "secret_key": SECRET,
            "currency_decimals": {"USD": 2},
            "methods": {"bank_transfer": {"required": ["account_number"]}},
            "test_mode": True,
            **changes,
        }
    )


def cards(**changes: Any) -> dict[str, Any]:
    """The settings of a shop with the card API."""
    methods = {"credit_card": {"required": ["token"]}}
    return {"api": "cards", "base_url": "https://cards.example.test", "methods": methods, **changes}


def adapter(*answers: Answering, **changes: Any) -> tuple[EComCharge, Server]:
    server = Server(list(answers) or [httpx.Response(500)])
    settings = config(**changes)
    transport = answered_by(server, settings.base_url)
    return EComCharge(settings, transport), server


def order(**changes: Any) -> Order:
    return Order(
        **{
            "reference_id": REFERENCE,
            "account": "main",
            "amount": Money(2550, USD),
            "service": "bank_transfer",
            "fields": {"account_number": ACCOUNT},
            **changes,
        }
    )


def transaction(**changes: Any) -> dict[str, Any]:
    """A payout as the page's sample has it. Source: section 4.1."""
    return {
        "uid": UID, "type": "payout", "status": "pending", "amount": 2550, "currency": "USD",
        "description": "Payout 42", "created_at": "2024-01-10T10:00:00Z",
        "updated_at": "2024-01-10T10:00:01Z", "paid_at": None, "method_type": "bank_transfer",
        "tracking_id": REFERENCE, "message": "Waiting", "test": True, "language": "en",
        **changes,
    }  # fmt: skip


def told(code: int = 200, /, **changes: Any) -> httpx.Response:
    return httpx.Response(code, json={"transaction": transaction(**changes)})


def listed(*items: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"transactions": list(items)})


def ask(call: str, answer: Answering, sent: Order | None = None, **changes: Any) -> Reply:
    """The reply of one call of the port to one answer."""
    ecomcharge, _ = adapter(answer, **changes)
    arguments = (UID,) if call in ("poll", "process") else ()
    reply = getattr(ecomcharge, call)(sent or order(), *arguments)
    assert isinstance(reply, Reply)
    return reply


def delivery(body: bytes, **headers: str) -> Delivery:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Delivery(headers=named, body=body, received_at=datetime(2024, 1, 10, 10, 0, tzinfo=UTC))


def basic(shop: str = "4242", secret: str = SECRET) -> str:
    return "Basic " + base64.b64encode(f"{shop}:{secret}".encode()).decode()
