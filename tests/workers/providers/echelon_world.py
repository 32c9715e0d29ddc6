"""An adapter of Echelon Pay before a server that gives tokens and answers what a test says."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx

from tests.carriers import answered_by
from workers.providers.echelon import Echelon, EchelonConfig
from workers.providers.port import Order, Reply
from workers.providers.tokens import Fetch, Token
from workers.record.money import Currency, Money

REFERENCE = "PO-2031-000017"
ACCOUNT = "1234567890"
HOLDER = "Siti Rahma"
SECRET = 's3cret-"of\\tests'
IDR = Currency.of("IDR")
USD = Currency.of("USD")
NOW = datetime(2031, 1, 2, 12, tzinfo=UTC)
HTML = b"<html><body>404 Not Found 1234567890</body></html>"
# A create has no second step, and a read is one call by two names.
READS = ("poll", "look_up", "process")
CALLS = ("create", *READS)

Answering = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


IN_TEN_MINUTES = int(NOW.timestamp()) + 600


def jwt(exp: Any = IN_TEN_MINUTES, *, number: int = 0) -> str:
    """A token as the platform makes them; the number tells two apart."""
    parts = (json.dumps(part).encode() for part in ({"alg": "HS256"}, {"exp": exp, "jti": number}))
    head, claims = (base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
    return f"{head}.{claims}.c2ln"


def token_answer(text: Any = None, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json={"token": jwt() if text is None else text})


@dataclass
class Server:
    """Answers calls about payouts in turn, the last one for ever, and token calls likewise; keeps
    what it was asked.
    """

    answers: list[Answering]
    tokens: list[Answering]
    asked: list[httpx.Request] = field(default_factory=list)
    asked_tokens: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        about_tokens = request.url.path.startswith("/auth-tokens")
        answers = self.tokens if about_tokens else self.answers
        (self.asked_tokens if about_tokens else self.asked).append(request)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    @property
    def sent(self) -> Any:
        return json.loads(self.asked[-1].content, parse_float=Decimal)


class Keeper:
    """Keeps tokens at a time that the test sets, and who asked for them."""

    def __init__(self) -> None:
        self.now = NOW
        self.kept: dict[str, Token] = {}
        self.asked: list[tuple[str, str | None]] = []

    def get(self, name: str, fetch: Fetch, *, refused: str | None = None) -> str:
        self.asked.append((name, refused))
        kept = self.kept.get(name)
        if kept is None or kept.usable_until <= self.now or kept.text == refused:
            self.kept[name] = kept = fetch(self.now)
        return kept.text


def config(**changes: Any) -> EchelonConfig:
    return EchelonConfig(
        **{
            "base_url": "https://api.example.test",
            "merchant_code": "M-4711",
            "secret": SECRET,
            "test_mode": True,
            **changes,
        }
    )


def adapter(
    *answers: Answering,
    tokens: tuple[Answering, ...] = (),
    keeper: Keeper | None = None,
    **changes: Any,
) -> tuple[Echelon, Server]:
    server = Server(list(answers) or [httpx.Response(500)], list(tokens) or [token_answer()])
    settings = config(**changes)
    transport = answered_by(server, settings.base_url)
    return Echelon(settings, transport, keeper or Keeper()), server


def order(**changes: Any) -> Order:
    return Order(
        **{
            "reference_id": REFERENCE,
            "account": "main",
            "amount": Money(10_000_00, IDR),
            "service": "BANK_TRANSFER",
            "fields": {
                "accountName": HOLDER,
                "accountNumber": ACCOUNT,
                "paymentOperatorCode": "BNK_014",
            },
            **changes,
        }
    )


def document(
    payout_id: Any = REFERENCE,
    *,
    money: Any = None,
    method: Mapping[str, Any] | None = None,
    process: Any = None,
    **rest: Any,
) -> dict[str, Any]:
    """A payout as a create answers with it; with `process`, as a read does."""
    told = {"amount": 10000, "currencyCode": "IDR"} if money is None else money
    return {
        "paymentRequested": {"money": told},
        "paymentMethodResponse": {
            "paymentMethodCode": "BANK_TRANSFER", "idPayout": payout_id, **(method or {})
        },
        **({} if process is None else {"process": process}),
        **rest,
    }  # fmt: skip


def taken(status: int = 200, **changes: Any) -> httpx.Response:
    """The answer to a create."""
    return httpx.Response(status, json=document(**changes))


def read(word: Any = "PENDING", *, process: Any = None, **changes: Any) -> httpx.Response:
    """The answer to a read."""
    told = {"status": word, "isTest": True, **(process or {})}
    return httpx.Response(200, json=document(process=told, **changes))


def error(status: int, code: Any = None, message: Any = None, **headers: str) -> httpx.Response:
    told = {"code": code, "message": message}
    body = {key: value for key, value in told.items() if value is not None}
    return httpx.Response(status, json=body, headers=headers)


def call(echelon: Echelon, name: str, **changes: Any) -> Reply:
    """One call of the port about the usual order."""
    arguments = (order(**changes),) if name in ("create", "look_up") else (order(), REFERENCE)
    reply = getattr(echelon, name)(*arguments)
    assert isinstance(reply, Reply)
    return reply


def ask(name: str, *answers: Answering, **changes: Any) -> Reply:
    """The reply of one call of the port to those answers."""
    return call(adapter(*answers, **changes)[0], name)
