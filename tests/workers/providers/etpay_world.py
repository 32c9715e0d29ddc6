"""An adapter of ETpay before a server that answers what a test tells it to, and logs anyone in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx

from tests.carriers import answered_by
from workers.providers.etpay import ETpay, ETpayConfig
from workers.providers.etpay_words import Reader
from workers.providers.port import Order, Reply
from workers.providers.tokens import OwnTokens
from workers.record.money import Currency, Money

REFERENCE = "po-2031-000017"
ID = "pyt_8Zk2"
NAME, RUT, NUMBER, EMAIL = "Camila Soto", "111111111", "12345678", "camila@example.com"
API_TOKEN, PASSWORD, ACCESS = "demo-api-token", "demo-pass-phrase", "eyJraWQiOi.demo.access"
SECRETS = (API_TOKEN, PASSWORD, ACCESS)
CLP = Currency.of("CLP")
HTML = b"<html><body>502 Bad Gateway 12345678</body></html>"
# In Chile it is the first of January still.
DATE = "Thu, 02 Jan 2031 02:30:00 GMT"
DAYS = {"date_from": "2030-12-29", "date_to": "2031-01-02"}
# Far enough away, in milliseconds.
TOKEN_ENDS = 4102444800000

Answering = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


def login(token: str = ACCESS, ends: Any = TOKEN_ENDS) -> httpx.Response:
    auth = {"tokenExp": ends, "Authorization": token}
    return httpx.Response(200, json={"msg": "ok", "auth": auth, "user": {"name": "Ana"}})


@dataclass
class Server:
    """Answers in turn, the last one for ever, and keeps what it was asked; logins apart."""

    answers: list[Answering]
    logins: list[Answering] = field(default_factory=lambda: [login()])
    asked: list[httpx.Request] = field(default_factory=list)
    logged_in: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        is_login = request.url.path.endswith("/login")
        (self.logged_in if is_login else self.asked).append(request)
        answers = self.logins if is_login else self.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    @property
    def sent(self) -> Any:
        return json.loads(self.asked[-1].content, parse_float=Decimal)

    @property
    def paths(self) -> list[str]:
        return [request.url.raw_path.decode() for request in self.asked]


def config(**changes: Any) -> ETpayConfig:
    return ETpayConfig(
        **{
            "base_url": "https://api.example.test",
            "merchant_code": "cl_shop",
            "merchant_api_token": API_TOKEN,
            "username": "payouts@shop.example",
            "password": PASSWORD,
            **changes,
        }
    )


def adapter(
    *answers: Answering, logins: list[Answering] | None = None, **changes: Any
) -> tuple[ETpay, Server]:
    server = Server(list(answers) or [httpx.Response(500)], logins or [login()])
    settings = config(**changes)
    transport = answered_by(server, settings.base_url)
    return ETpay(settings, transport, OwnTokens()), server


def order(**changes: Any) -> Order:
    fields = {
        "name": NAME, "rut": RUT, "email": EMAIL, "bank_code": "037",
        "account_type": "cuenta_corriente", "account_number": NUMBER,
    }  # fmt: skip
    fields |= changes.pop("fields", {})
    return Order(
        **{
            "reference_id": REFERENCE,
            "account": "main",
            "amount": Money(45990, CLP),
            "service": "bank_transfer",
            "fields": {name: value for name, value in fields.items() if value is not None},
            "description": "Pago proveedor 17",
            **changes,
        }
    )


def payout(**changes: Any) -> dict[str, Any]:
    return {
        "payout_id": ID, "merchant_order_id": REFERENCE, "status": "pending", "amount": 45990,
        "currency": "CLP", "error_code": None, "error_message": None,
        "created_at": "2031-01-02T12:00:00Z", **changes,
    }  # fmt: skip


def answer(status: int, document: Any, **headers: str) -> httpx.Response:
    """An answer of ETpay's own, with its date; strings may hold what UTF-8 cannot."""
    body = json.dumps(document).encode()
    return httpx.Response(status, content=body, headers={"Date": DATE, **headers})


def one(code: int = 200, **changes: Any) -> httpx.Response:
    return answer(code, {"msg": "ok", "payout": payout(**changes)})


def other(name: str, **changes: Any) -> dict[str, Any]:
    return payout(payout_id=f"pyt_{name}", merchant_order_id=f"other-{name}", **changes)


def listed(*items: Any, **rest: Any) -> httpx.Response:
    document = {"msg": "ok", "payouts": list(items), "page": 1, "pages": 1, **rest}
    return answer(200, document)


def error(status: int, code: Any = None, message: Any = None, **headers: str) -> httpx.Response:
    document = {"msg": "error", "error": {"code": code, "message": message}}
    return answer(status, document, **headers)


NOTHING = error(404, "PO-NOT-FOUND", "no such payout")
CALLS = ("create", "process", "poll", "look_up")


def ask(call: str, *answers: Answering, an_order: Order | None = None, **changes: Any) -> Reply:
    """The reply of one call of the port to those answers."""
    etpay, _ = adapter(*answers, **changes)
    ours = an_order or order()
    arguments = (ours,) if call in ("create", "look_up") else (ours, ID)
    reply = getattr(etpay, call)(*arguments)
    assert isinstance(reply, Reply)
    return reply


def read(facts: dict[str, Any], an_order: Order | None = None, **changes: Any) -> Reply:
    """What one payout's object says."""
    reader = Reader(config(**changes))
    found = reader.payout({"payout": facts})
    assert found is not None
    return reader.reply(found, an_order)
