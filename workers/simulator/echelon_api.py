"""What the Echelon Pay simulator answers: tokens, checks and the order of events, as pure logic.

It shares nothing with the adapter, so that it cannot share its mistakes; the sockets are in
`server`, the memory in `ledger`.

Source: Echelon Pay outgoing payments (the page), read 2026-11-21; "our guess" marks what no source
says. Duplicates, errors and callbacks are not documented by the provider at all: each of them is a
switch.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import simplejson

from workers.simulator import echelon_views as views
from workers.simulator import faults, server
from workers.simulator.desk import Desk, Habits, Instruction
from workers.simulator.echelon_views import INVALID, REQUIRED, VALUE, WORDS
from workers.simulator.ledger import Invoice, Step
from workers.simulator.port import Action, Answer, Call, Ladder, Letter, Parts, answer, read_json

API_VERSION = "2"
# Source: the page, section 10.
VALIDITY_S_MAX = 3600
DEFAULT_BALANCES = {
    "IDR": Decimal(1_000_000_000_000),
    "USD": Decimal("10000000.00"),
    "INR": Decimal("1000000000.00"),
}
# Source: the page, sections 4 and 5; a currency without one costs nothing.
DEFAULT_FEES = {"IDR": Decimal(2500), "USD": Decimal("0.1")}
# Paid, and then the bank sends the money back.
RETURNED = ("SUCCESS", "FAILED")
# How a payout goes by the end of its account number. Source: the page, section 10.
BY_ACCOUNT_ENDING = {
    "0001": faults.Behaviour(status="FAILED"),
    "0002": faults.Behaviour(status="PENDING"),
    "0003": faults.Behaviour(path=RETURNED),
}

# The rules for an id are not known; these are the ones that the page gives the adapter.
_ID = re.compile("[A-Za-z0-9-]{1,36}")
_OPERATION = re.compile("[A-Z]{3,7} /.*")
_PAYOUT_OPERATION = re.compile("[A-Z]+ /payouts/([^/]+)")
_PATHS = re.compile("/auth-tokens(-by-action)?|/payouts/[^/]+|/payment-operators")


@dataclass(frozen=True, kw_only=True)
class EchelonOptions(server.ServerOptions):
    """The merchant and its habits; see the flags of the same names."""

    balances: dict[str, Decimal] = field(default_factory=lambda: dict(DEFAULT_BALANCES))
    # These two stand in the page as examples; they open nothing but this simulator.
    merchant_code: str = "M-4711"
    secret: str = "s3cret"  # noqa: S105 - an example, as said
    # The same at every start, so that a token outlives a restart.
    jwt_key: str = "platform-key-demo"
    # What the provider calls the action is not known.
    payout_action: str = "PAYOUT_CREATE"
    live: bool = False
    settle_s: float = 0.5
    visibility_lag_s: float = 0.0
    duplicates: Literal["conflict_409", "return_existing", "error_400", "pay-again"] = (
        "conflict_409"
    )
    low_balance: Literal["400", "422", "failed"] = "422"
    fees: dict[str, Decimal] = field(default_factory=lambda: dict(DEFAULT_FEES))
    callback_style: Literal["id_only", "full_object"] = "id_only"
    callbacks: Literal["sent", "lost", "doubled", "foreign"] = "sent"
    failure_reasons: views.FailureReasons = "object"


class Echelon:
    """The provider; see `port.Api`."""

    prefix = ""
    # Five tries in all. Source: the page, section 10, where it is the simulator's choice; no answer
    # of the receiver is known to end them early.
    ladder = Ladder((10, 20, 40, 80), delivered=lambda status: 200 <= status < 300)

    def __init__(self, options: EchelonOptions, parts: Parts) -> None:
        self._options = options
        self._ledger = parts.ledger
        self._post = parts.post
        habits = Habits(settle_s=options.settle_s, hide_s=options.visibility_lag_s)
        failed = ("FAILED", "BALANCE_INSUFFICIENT")
        self._desk = Desk(parts, WORDS, habits, self._tell, failed=failed)

    def route(self, call: Call) -> Action | Answer:
        if call.headers.get("X-API-Version") != API_VERSION:
            return views.refusal(400, VALUE, f"expected the header X-API-Version: {API_VERSION}")
        match [call.method, *call.path.split("/")[1:]]:
            case ["POST", "auth-tokens"]:
                return self._route_token(call, self._by_operations)
            case ["POST", "auth-tokens-by-action"]:
                return self._route_token(call, self._by_action)
            case ["POST", "payouts", id_payout] if id_payout:
                return self._authorized(
                    call, lambda claims: self._route_create(call, unquote(id_payout), claims)
                )
            case ["GET", "payouts", id_payout] if id_payout:
                return self._authorized(call, lambda _: self._route_read(call, unquote(id_payout)))
            case ["GET", "payment-operators"]:
                return self._authorized(
                    call, lambda _: Action("services", None, lambda: answer(200, views.operators()))
                )
        if _PATHS.fullmatch(call.path):
            return views.error(405)
        return views.refusal(404, "NOT_FOUND", "No such path")

    def error(self, status: int) -> Answer:
        return views.error(status)

    def advance(self, now: float) -> None:
        self._desk.advance(now)

    def move(self, invoice: Invoice, **how: Any) -> None:
        self._desk.move(invoice, **how)

    # Tokens.

    def _route_token(
        self, call: Call, read: Callable[[Mapping[str, Any]], dict[str, Any] | Answer]
    ) -> Action | Answer:
        asked = read_json(call.body)
        if asked is None:
            unreadable = views.refusal(400, INVALID, "the body is not a JSON object")
            return Action("token", None, lambda: unreadable)
        if not all(asked.get(name) for name in ("merchantCode", "secret")):
            missing = views.refusal(400, REQUIRED, "merchantCode and secret are required")
            return Action("token", None, lambda: missing)
        if not self._is_merchant(asked):
            return views.refusal(401, "CREDENTIALS_INVALID", "merchantCode or secret is wrong")
        granted = _validity_fault(asked) or read(asked)
        if isinstance(granted, Answer):
            return Action("token", None, lambda: granted)
        ids = {
            match[1]
            for operation in granted["operations"]
            if (match := _PAYOUT_OPERATION.fullmatch(operation))
        }
        reference_id = ids.pop() if len(ids) == 1 else None
        return Action(
            "token", reference_id, lambda: self._token(granted, asked["validitySecs"], call.now)
        )

    def _is_merchant(self, asked: Mapping[str, Any]) -> bool:
        code, secret = str(asked["merchantCode"]), str(asked["secret"])
        right = f"{self._options.merchant_code}\n{self._options.secret}"
        sent = f"{code}\n{secret}".encode("utf-8", "surrogatepass")
        return hmac.compare_digest(sent, right.encode())

    def _by_operations(self, asked: Mapping[str, Any]) -> dict[str, Any] | Answer:
        operations = asked.get("operations")
        if not operations:
            return views.refusal(400, REQUIRED, "operations is required")
        if not isinstance(operations, list) or not all(
            isinstance(each, str) and _OPERATION.fullmatch(each) for each in operations
        ):
            return views.refusal(400, VALUE, "operations: expected such as GET /payouts/PO-1")
        return {"operations": operations}

    def _by_action(self, asked: Mapping[str, Any]) -> dict[str, Any] | Answer:
        """What such a token carries is our guess: the operations on its one id, and the money."""
        id_payment, money = asked.get("idPayment"), asked.get("money")
        if not isinstance(id_payment, str) or not id_payment:
            return views.refusal(400, REQUIRED, "idPayment is required")
        if asked.get("action") == self._options.payout_action:
            operations = [f"{method} /payouts/{id_payment}" for method in ("POST", "GET")]
        elif asked.get("action") == "PAYIN_CREATE":
            operations = [f"POST /payins/{id_payment}"]
        else:
            return views.refusal(400, VALUE, "action has a value that is not known")
        if money is None:
            return {"operations": operations}
        if views.read_money(money) is None:
            return views.refusal(400, VALUE, "money has a value that is not allowed")
        limit = {name: money[name] for name in ("currencyCode", "amount")}
        return {"operations": operations, "money": limit}

    def _token(self, granted: Mapping[str, Any], validity_s: int, now: float) -> Answer:
        claims = {
            **granted,
            "exp": int(now) + validity_s,
            "jti": str(uuid.uuid4()),
            "iat": int(now),
            "sub": self._options.merchant_code,
        }
        return answer(200, {"token": make_token(claims, self._options.jwt_key)})

    def _authorized(
        self, call: Call, then: Callable[[Mapping[str, Any]], Action | Answer]
    ) -> Action | Answer:
        """Go on with the token's claims, if there is a live token for this very call."""
        scheme, _, token = call.headers.get("Authorization", "").partition(" ")
        claims = read_token(token, self._options.jwt_key) if scheme == "Bearer" else None
        if claims is None or claims["exp"] <= call.now:
            return views.error(401)
        if claims["sub"] != self._options.merchant_code:
            return views.error(401)
        if f"{call.method} {unquote(call.path)}" not in claims["operations"]:
            return views.error(403)
        return then(claims)

    # Payouts.

    def _route_create(
        self, call: Call, id_payout: str, claims: Mapping[str, Any]
    ) -> Action | Answer:
        if not _ID.fullmatch(id_payout):
            return views.refusal(400, VALUE, "idPayout has a value that is not allowed")
        asked = read_json(call.body)
        return Action(
            "create", id_payout, lambda: self._create(id_payout, asked, claims, now=call.now)
        )

    def _create(
        self,
        id_payout: str,
        asked: Mapping[str, Any] | None,
        claims: Mapping[str, Any],
        *,
        now: float,
    ) -> Answer:
        order = views.read_order(asked)
        if isinstance(order, Answer):
            return order
        if "money" in claims and views.read_money(claims["money"]) != (
            order.amount,
            order.currency,
        ):
            return views.refusal(403, "FORBIDDEN", "The token is for another amount or currency")
        earlier = self._ledger.by_reference.get(id_payout)
        if earlier and self._options.duplicates != "pay-again":
            return self._repeated(earlier[0])
        if order.currency not in self._ledger.balances:
            return views.refusal(400, VALUE, "paymentRequested.money: no account in this currency")
        fee = self._options.fees.get(order.currency, Decimal(0))
        low = self._options.low_balance
        if low != "failed" and not self._desk.covers(order.currency, order.amount + fee):
            return views.refusal(int(low), "BALANCE_INSUFFICIENT", "The balance is too low")
        invoice = self._desk.store(
            Instruction(
                # Only a payout that the provider would never make needs another name.
                id=f"{id_payout}~{secrets.token_hex(4)}" if earlier else id_payout,
                reference_id=id_payout,
                service=views.METHOD,
                amount=order.amount,
                currency=order.currency,
                fee=fee,
                test_mode=not self._options.live,
                details=order.masked(),
                asked=BY_ACCOUNT_ENDING.get(order.account["accountNumber"][-4:], faults.NOTHING),
            ),
            now,
        )
        # Money that comes back has been away for as long as it takes to pay.
        returned = self._desk.behaviour(invoice).path == RETURNED
        settle_s = 2 * self._options.settle_s if returned else None
        self._desk.release(invoice, now, settle_s=settle_s)
        return answer(200, views.taken(invoice))

    def _repeated(self, first: Invoice) -> Answer:
        if self._options.duplicates == "return_existing":
            return answer(200, views.taken(first))
        status = 409 if self._options.duplicates == "conflict_409" else 400
        return views.refusal(status, "ENTITY_DUPLICATED", "Payment with this id already exists")

    def _route_read(self, call: Call, id_payout: str) -> Action:
        def perform() -> Answer:
            shown = self._desk.visible(id_payout, call.now)
            if not shown:
                return views.refusal(404, "ENTITY_NOT_FOUND", "No payment with this id")
            # Where there are two, the address is still that of the first.
            first = shown[-1]
            return answer(200, views.document(first, first.step, self._options.failure_reasons))

        return Action("read", id_payout if _ID.fullmatch(id_payout) else None, perform)

    # Callbacks.

    def _tell(self, invoice: Invoice) -> None:
        manner = self._options.callbacks
        if invoice.status in views.OPEN or manner == "lost":
            return
        named = self._another_id(invoice) if manner == "foreign" else invoice.reference_id
        url = invoice.details["callback_url"]
        if url is None:
            return
        letter = self._write(url, invoice, invoice.step, named)
        for _ in range(2 if manner == "doubled" else 1):
            self._post(invoice, letter)

    def letter(self, invoice: Invoice, *, status: str | None, signature: str) -> Letter | None:
        """A callback; no signature is known, so the proof is the address that only we two know.

        A wrong signature guesses the last part of its path, an absent one leaves it out.
        """
        url = invoice.details["callback_url"]
        if url is None:
            return None
        if signature != "good":
            parts = urlsplit(url)
            above = parts.path.rpartition("/")[0]
            path = f"{above}/{secrets.token_hex(8)}" if signature == "wrong" else above
            url = parts._replace(path=path).geturl()
        return self._write(url, invoice, _step(invoice, status), invoice.reference_id)

    def _write(self, url: str, invoice: Invoice, step: Step, named: str) -> Letter:
        """A body of the chosen style; both are assumed by the page, section 7."""
        document: dict[str, Any] = {"idEntity": named}
        if self._options.callback_style == "full_object":
            document = views.document(invoice, step, self._options.failure_reasons)
            document["paymentMethodResponse"]["idPayout"] = named
        sent = answer(200, document)
        return Letter(url, sent.body, sent.headers)

    def _another_id(self, invoice: Invoice) -> str:
        """The newest other payout's, or one that nobody has."""
        others = (each.reference_id for each in reversed(self._ledger.invoices))
        invented = f"PO-{secrets.token_hex(6)}"
        return next((each for each in others if each != invoice.reference_id), invented)


def _validity_fault(asked: Mapping[str, Any]) -> Answer | None:
    validity_s = asked.get("validitySecs")
    if validity_s is None:
        return views.refusal(400, REQUIRED, "validitySecs is required")
    if (
        isinstance(validity_s, bool)
        or not isinstance(validity_s, int)
        or not 1 <= validity_s <= VALIDITY_S_MAX
    ):
        return views.refusal(400, VALUE, f"validitySecs: expected 1 to {VALIDITY_S_MAX}")
    return None


def _step(invoice: Invoice, status: str | None) -> Step:
    """The last step of that status, or a claim to it at the present one's time."""
    if status is None:
        return invoice.step
    for step in reversed(invoice.history):
        if step.status == status:
            return step
    return Step(invoice.step.at, status)


def make_token(claims: Mapping[str, Any], key: str) -> str:
    """A JWT by HS256. Source: RFC 7515, and the page, section 3.3."""
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    signed = ".".join(
        _base64url(simplejson.dumps(each, separators=(",", ":")).encode()) for each in parts
    )
    return f"{signed}.{_base64url(_mac(signed, key))}"


def read_token(token: str, key: str) -> dict[str, Any] | None:
    """The claims of a token that was made with that key; None for any other text."""
    signed, _, signature = token.rpartition(".")
    right = _base64url(_mac(signed, key)).encode()
    if not hmac.compare_digest(signature.encode("utf-8", "surrogateescape"), right):
        return None
    return read_json(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))


def _mac(signed: str, key: str) -> bytes:
    text = signed.encode("utf-8", "surrogateescape")
    return hmac.digest(key.encode(), text, hashlib.sha256)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
