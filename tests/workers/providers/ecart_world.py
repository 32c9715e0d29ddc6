"""An adapter of Ecart Pay before a server that answers what a test tells it to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx

from tests.carriers import answered_by
from workers.providers.ecart import Ecart, EcartConfig
from workers.providers.port import Delivery, Order, Reply
from workers.providers.tokens import OwnTokens
from workers.record.money import Currency, Money

REFERENCE = "po-2031-000017"
ID = "68a1c0d3f6ea776ee3b37498"
EMAIL = "proveedor@example.com"
KEY = "priv-demo-key"
BASIC = base64.b64encode(f"pub-demo-key:{KEY}".encode()).decode()
SECRET = "whsec_demo"
MXN = Currency.of("MXN")
TOKEN_PATH = "/api/authorizations/token"
HTML = b"<html><body>502 Bad Gateway proveedor@example.com</body></html>"

Answering = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


def jwt(**claims: Any) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'HS512', 'typ': 'JWT'})}.{part(claims)}.c2lnbmF0dXJl"


@dataclass
class Server:
    """Gives a new token to each token call, and other answers in turn, the last one for ever."""

    answers: list[Answering]
    token_answers: list[Answering] = field(default_factory=list)
    asked: list[httpx.Request] = field(default_factory=list)
    token_calls: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == TOKEN_PATH:
            self.token_calls.append(request)
            if not self.token_answers:
                return httpx.Response(200, json={"token": f"tok-{len(self.token_calls)}"})
            answer = self.token_answers.pop(0)
        else:
            self.asked.append(request)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    @property
    def sent(self) -> Any:
        return json.loads(self.asked[-1].content, parse_float=Decimal)

    @property
    def paths(self) -> list[str]:
        return [f"{r.method} {r.url.raw_path.decode()}" for r in self.asked]


def config(**changes: Any) -> EcartConfig:
    return EcartConfig.model_validate(
        {
            "base_url": "https://sandbox.example.test",
            "public_key": "pub-demo-key",
            "private_key": KEY,
            "webhook_secret": SECRET,
            **changes,
        }
    )


def adapter(
    *answers: Answering, token_answers: tuple[Answering, ...] = (), **changes: Any
) -> tuple[Ecart, Server]:
    server = Server(list(answers) or [httpx.Response(500)], list(token_answers))
    settings = config(**changes)
    transport = answered_by(server, settings.base_url)
    return Ecart(settings, transport, OwnTokens()), server


def order(**changes: Any) -> Order:
    return Order(
        **{
            "reference_id": REFERENCE,
            "account": "main",
            "amount": Money(25050, MXN),
            "service": "balance",
            "fields": {"email": EMAIL},
            **changes,
        }
    )


def payout(payout_id: str = ID, **changes: Any) -> dict[str, Any]:
    return {
        "id": payout_id, "authorization_id": "68a1c000e1fd65512e9c5264",
        "account_id": "67dfab0626e963414d247523", "reference_id": REFERENCE,
        "reference": "68a1c0d3f6ea776ee3b37495", "status": "pending", "currency": "MXN",
        "amount": 250.5, "fee": 0, "exchange": 1, "available_at": "2031-01-02T12:00:00.889Z",
        "require_confirmation": True, "created_at": "2031-01-02T12:00:00.891Z",
        "updated_at": "2031-01-02T12:00:00.891Z", **changes,
    }  # fmt: skip


def one(status_code: int = 200, **changes: Any) -> httpx.Response:
    return httpx.Response(status_code, json=payout(**changes))


def error(
    status: int, code: int | None = None, message: Any = "No.", **rest: Any
) -> httpx.Response:
    document = {"statusCode": status, "error": "Error", "message": message}
    return httpx.Response(
        status, json=document if code is None else {**document, "code": code}, **rest
    )


CALLS = ("create", "process", "poll", "look_up")


def ask(call: str, *answers: Answering, **changes: Any) -> Reply:
    """The reply of one call of the port to those answers."""
    ecart, _ = adapter(*answers, **changes)
    return reply_of(ecart, call)


def reply_of(ecart: Ecart, call: str) -> Reply:
    arguments = (order(),) if call in ("create", "look_up") else (order(), ID)
    reply = getattr(ecart, call)(*arguments)
    assert isinstance(reply, Reply)
    return reply


# Webhooks. The vector of the provider's page, section 9.
HOOK, STAMP_MS = "hook_demo_1", "1924992000000"
STAMP = datetime(2031, 1, 1, tzinfo=UTC)
VECTOR = (
    '{"id":"68a1c0d3f6ea776ee3b37498","reference_id":"po-2031-000017","amount":250.5,"note":"niño"}'
).encode()
VECTOR_SIGNATURE = "SHA256=e525a51c35487434546b01ff496ee1e6ac96de6e3651a1e0c4b4ead7035818ec"


def sign(signed: bytes, stamp: str = STAMP_MS, hook: str = HOOK, secret: str = SECRET) -> str:
    text = f"{stamp}.{hook}.".encode() + signed
    return "SHA256=" + hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def delivery(
    body: bytes, signature: str, *, stamp: str = STAMP_MS, received_at: datetime = STAMP
) -> Delivery:
    headers = {
        "x-pay-timestamp": stamp, "x-pay-webhook-id": HOOK, "x-pay-signature": signature
    }  # fmt: skip
    return Delivery(headers=headers, body=body, received_at=received_at)
