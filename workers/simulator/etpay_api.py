"""What the ETpay simulator answers: paths, checks and the order of events, as pure logic.

ETpay publishes its login and that its calls exist; their paths, fields and words are the page's
assumption. This file shares nothing with the adapter, so that it cannot share its mistakes.

Source: ETpay payouts (the page), read 2026-11-21; "our guess" marks what not even the page says.
"""

from __future__ import annotations

import hmac
import re
import secrets
import string
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

import simplejson

from workers.simulator import etpay_checks as checks
from workers.simulator import etpay_views as views
from workers.simulator import server
from workers.simulator.desk import Desk, Habits, Instruction
from workers.simulator.etpay_views import WORDS
from workers.simulator.ledger import Invoice, mask
from workers.simulator.port import (
    JSON_HEADERS,
    Action,
    Answer,
    Call,
    Ladder,
    Letter,
    Parts,
    answer,
    number,
    read_json,
)

DEFAULT_BALANCES = {"CLP": Decimal(10_000_000_000)}
PAGE_LIMIT_MAX = 100
_CREDENTIALS = ("username", "password", "merchant.code", "merchant.api_token")
_ID_LETTERS = string.ascii_letters + string.digits
_DAY = re.compile(r"20\d\d-\d\d-\d\d", re.ASCII)
_PATHS = re.compile(r"/v1/(auth/login|balance|payouts(/[^/]+)?)")

Duplicates = Literal["pay_again", "conflict_409", "return_existing"]


@dataclass(frozen=True, kw_only=True)
class EtpayOptions(server.ServerOptions):
    """The merchant and ETpay's habits; see the flags of the same names."""

    balances: dict[str, Decimal] = field(default_factory=lambda: dict(DEFAULT_BALANCES))
    # These open nothing but this simulator.
    merchant_code: str = "cl_demo"
    merchant_api_token: str = "demo-api-token"  # noqa: S105 - invented
    username: str = "payouts@demo.example"
    password: str = "demo-password"  # noqa: S105 - invented
    token_ttl_s: float = 3600.0
    auth_scheme: Literal["raw", "bearer"] = "raw"
    duplicates: Duplicates = "pay_again"
    settle_s: float = 0.5
    low_balance: Literal["refused", "rejected"] = "refused"
    amount_max: int = 100_000_000
    # Of a create that is taken, and of one that is not.
    created_status: Literal[200, 201] = 201
    refused_status: Literal[400, 422] = 422
    # Whether the merchant is shown payout error codes: at ETpay a feature to be switched on.
    error_codes: bool = True
    # What a query by order id answers: one payout, or a page of them.
    order_answer: Literal["payout", "payouts"] = "payout"
    # How long a new payout is not shown: by the date query, and by either query.
    list_lag_s: float = 0.0
    find_delay_s: float = 0.0
    time_zone: str = "America/Santiago"
    date_to_exclusive: bool = False
    webhook_url: str | None = None
    webhook_auth: Literal["none", "jwt"] = "none"
    webhook_secret: str = "demo-webhook-secret"  # noqa: S105 - invented
    # Every Nth payout's webhooks are lost; 0 loses none, 1 all.
    lose_webhooks: int = 0


class Etpay:
    """The provider; see `port.Api`."""

    prefix = ""
    # ETpay publishes no retries: these waits, that any 2xx is taken, and that a 4xx is repeated
    # like any other failure are our choice, the one that asks most of a receiver.
    ladder = Ladder([60, 300, 900, 3600, 21_600], delivered=lambda status: 200 <= status < 300)

    def __init__(self, options: EtpayOptions, parts: Parts) -> None:
        self._options = options
        self._ledger = parts.ledger
        self._clock = parts.clock
        self._post = parts.post
        habits = Habits(settle_s=options.settle_s, hide_s=options.find_delay_s)
        failed = ("rejected", views.NO_FUNDS)
        self._desk = Desk(parts, WORDS, habits, self._tell, failed=failed)
        self._zone = ZoneInfo(options.time_zone)
        # In memory only: a restart ends every token.
        self._tokens: dict[str, int] = {}

    def route(self, call: Call) -> Action | Answer:
        path = call.path.rstrip("/")
        if (call.method, path) == ("POST", "/v1/auth/login"):
            return Action("token", None, lambda: self._login(call))
        if not path.startswith("/v1/"):
            return self.error(404)
        if not self._is_logged_in(call):
            return self.error(401)
        match [call.method, *path.split("/")[2:]]:
            case ["POST", "payouts"]:
                return self._route_create(call)
            case ["GET", "payouts", payout_id]:
                return self._route_read(payout_id)
            case ["GET", "payouts"]:
                return self._route_query(call)
            case ["GET", "balance"]:
                return Action("balances", None, self._balance)
        return self.error(405 if _PATHS.fullmatch(path) else 404)

    def error(self, status: int) -> Answer:
        return views.error(status)

    def advance(self, now: float) -> None:
        self._desk.advance(now)

    def move(self, invoice: Invoice, **how: Any) -> None:
        self._desk.move(invoice, **how)

    def letter(self, invoice: Invoice, *, status: str | None, signature: str) -> Letter | None:
        """The payout as a status call shows it, plain or as a JWT's claims.

        Without JWTs there is nothing to sign, so all three signatures are the same letter.
        """
        options = self._options
        url = invoice.details["webhook_url"] or options.webhook_url
        if url is None:
            return None
        payout = views.full(invoice, status=status, codes=options.error_codes)
        body: dict[str, Any] = {"payout": payout}
        if options.webhook_auth == "jwt":
            key = options.webhook_secret + ("" if signature == "good" else "-of-a-forger")
            claims = {**payout, "iat": int(self._clock.now())}
            body = {"jwt": views.jwt(claims, None if signature == "absent" else key)}
        return Letter(url, simplejson.dumps(body, separators=(",", ":")).encode(), JSON_HEADERS)

    # Logging in.

    def _login(self, call: Call) -> Answer:
        asked = read_json(call.body)
        sent = [checks.at(asked, path) for path in _CREDENTIALS]
        if not all(isinstance(each, str) for each in sent):
            return self.error(400)
        options = self._options
        known = (
            options.username,
            options.password,
            options.merchant_code,
            options.merchant_api_token,
        )
        good = [_is_same(mine, theirs) for mine, theirs in zip(known, sent, strict=True)]
        # A merchant to act for, which the page names, can only be our own here.
        acted_for = checks.at(asked, "merchant_code")
        if not all(good) or acted_for not in (None, options.merchant_code):
            return self.error(401)
        now_ms = int(call.now * 1000)
        self._tokens = {token: end for token, end in self._tokens.items() if end > now_ms}
        # Whether a new token ends the older ones is not said: they live on (our guess).
        token = f"eyJraWQiOi{secrets.token_urlsafe(32)}"
        self._tokens[token] = now_ms + int(options.token_ttl_s * 1000)
        return views.login(token, expires_ms=self._tokens[token], username=options.username)

    def _is_logged_in(self, call: Call) -> bool:
        sent = call.headers.get("Authorization", "")
        if self._options.auth_scheme == "bearer":
            scheme, _, sent = sent.partition(" ")
            if scheme != "Bearer":
                return False
        return call.now * 1000 < self._tokens.get(sent, 0)

    # Creating.

    def _route_create(self, call: Call) -> Action:
        asked = read_json(call.body)
        if asked is None:
            return Action("create", None, lambda: self.error(400))
        order_id = asked.get("merchant_order_id")
        known = order_id if checks.is_order_id(order_id) else None
        return Action("create", known, lambda: self._create(asked, call.now))

    def _create(self, asked: dict[str, Any], now: float) -> Answer:
        options = self._options
        # The merchant may be left out (our guess), but it cannot be another.
        if checks.at(asked, "merchant.code") not in (None, options.merchant_code):
            return self.error(403)
        if wrong := checks.create_refusal(asked, amount_max=options.amount_max):
            return self._refusal(options.refused_status, wrong.code, wrong.message)
        earlier = self._ledger.by_reference.get(asked["merchant_order_id"])
        if earlier and options.duplicates == "conflict_409":
            return self._refusal(409, "PO-DUPLICATE", "This merchant_order_id has a payout.")
        if earlier and options.duplicates == "return_existing":
            return answer(200, {"msg": "ok", "payout": views.brief(earlier[0])})
        covered = self._desk.covers("CLP", Decimal(asked["amount"]))
        if options.low_balance == "refused" and not covered:
            return self._refusal(
                options.refused_status, "PO-INSUFFICIENT-FUNDS", "Insufficient funds."
            )
        invoice = self._store(asked, now)
        self._desk.release(invoice, now)
        return answer(options.created_status, {"msg": "ok", "payout": views.brief(invoice)})

    def _store(self, asked: dict[str, Any], now: float) -> Invoice:
        return self._desk.store(
            Instruction(
                id="pyt_" + "".join(secrets.choice(_ID_LETTERS) for _ in range(12)),
                reference_id=asked["merchant_order_id"],
                service="bank_transfer",
                amount=Decimal(asked["amount"]),
                currency=asked["currency"],
                details={
                    "description": asked.get("description"),
                    "beneficiary": mask(asked["beneficiary"]),
                    "account": mask(asked["account"]),
                    "webhook_url": asked.get("webhook_url"),
                },
                asked=checks.asked_by_test_values(asked["account"]),
            ),
            now,
        )

    def _refusal(self, status: int, code: str, message: str) -> Answer:
        return views.refusal(status, code if self._options.error_codes else None, message)

    def _tell(self, invoice: Invoice) -> None:
        """Send the webhook of a final state; nothing is told of the way to it."""
        nth = self._options.lose_webhooks
        if invoice.status not in WORDS.final or (nth and invoice.serial % nth == 0):
            return
        letter = self.letter(invoice, status=None, signature="good")
        if letter is not None:
            self._post(invoice, letter)

    # Reading.

    def _route_read(self, payout_id: str) -> Action:
        invoice = self._ledger.by_id.get(payout_id)
        if invoice is None:
            return Action("read", None, lambda: self.error(404))
        return Action("read", invoice.reference_id, lambda: self._shown(invoice))

    def _shown(self, invoice: Invoice) -> Answer:
        payout = views.full(invoice, codes=self._options.error_codes)
        return answer(200, {"msg": "ok", "payout": payout})

    def _route_query(self, call: Call) -> Action:
        arguments = call.arguments()
        order_id = arguments.get("merchant_order_id")
        if order_id is None:
            return Action("list", None, lambda: self._list(arguments, call.now))
        known = order_id if checks.is_order_id(order_id) else None
        return Action("find", known, lambda: self._find(order_id, call.now))

    def _find(self, order_id: str, now: float) -> Answer:
        if not checks.is_order_id(order_id):
            return self.error(400)
        found = self._desk.visible(order_id, now)
        if self._options.order_answer == "payouts":
            return views.page(found, at=1, limit=PAGE_LIMIT_MAX)
        # Of several payouts of one order id the newest is shown (our guess).
        return self._shown(found[0]) if found else self.error(404)

    def _list(self, arguments: dict[str, str], now: float) -> Answer:
        """The payouts created on the days asked for, the oldest first (our guess)."""
        start, end = _day(arguments.get("date_from")), _day(arguments.get("date_to"))
        at = _whole(arguments.get("page", "1"))
        limit = _whole(arguments.get("limit", str(PAGE_LIMIT_MAX)))
        if start is None or end is None or end < start or not at or not limit:
            return self.error(400)
        if limit > PAGE_LIMIT_MAX:
            return self.error(400)
        if not self._options.date_to_exclusive:
            end += timedelta(days=1)
        return views.page(self._created_between(start, end, now), at=at, limit=limit)

    def _created_between(self, start: date, end: date, now: float) -> Sequence[Invoice]:
        """Those of the days from `start` until before `end` that the date query shows by now."""
        kept = self._ledger.invoices
        first = bisect_left(kept, self._midnight(start), key=_created)
        past = bisect_left(kept, self._midnight(end), key=_created)
        lag_s = self._options.list_lag_s
        return [
            each for each in kept[first:past] if max(each.visible_at, each.created + lag_s) <= now
        ]

    def _midnight(self, day: date) -> float:
        return datetime.combine(day, time.min, self._zone).timestamp()

    def _balance(self) -> Answer:
        balance = self._ledger.balances.get("CLP")
        available = 0 if balance is None else number(balance.active)
        return answer(200, {"msg": "ok", "balance": {"available": available, "currency": "CLP"}})


def _created(invoice: Invoice) -> float:
    return invoice.created


def _is_same(mine: str, theirs: str) -> bool:
    return hmac.compare_digest(mine.encode(), theirs.encode("utf-8", "surrogatepass"))


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text and _DAY.fullmatch(text) else None
    except ValueError:
        return None


def _whole(text: str) -> int:
    """A count from 1; 0 for anything else."""
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,5}", text, re.ASCII) else 0
