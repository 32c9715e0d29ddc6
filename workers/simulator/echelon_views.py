"""The JSON of the Echelon Pay simulator: what a create must say, and what it is told.

Source: Echelon Pay outgoing payments (the page), sections 4 to 8 and 10, read 2026-11-21; "our
guess" marks what no source says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlsplit

from workers.errors import MoneyError
from workers.record.money import Currency, Money
from workers.simulator.ledger import Invoice, Step, mask
from workers.simulator.life import Words
from workers.simulator.port import Answer, answer, number

FailureReasons = Literal["object", "list", "absent"]

METHOD = "BANK_TRANSFER"
# Source: the page, section 10.
OPERATORS = {"BNK_014": "Bank Satu", "BNK_000": "Test bank"}
# Source: the page, section 5: SUCCESS is the provider's, FAILED a client's, the others inferred.
WORDS = Words(
    created="PENDING",
    processing=None,
    processed="SUCCESS",
    returned="FAILED",
    committing=frozenset({"SUCCESS"}),
    paid=frozenset({"SUCCESS"}),
    given_back=frozenset({"FAILED", "EXPIRED", "REJECTED", "CANCELLED", "CANCELED"}),
    # The codes are those of section 8, the choice is our guess.
    resolutions={"FAILED": "CHANNEL_UNAVAILABLE", "EXPIRED": "ENTITY_EXPIRED"},
)
# On the way: nothing has been processed yet, so no callback is due.
OPEN = frozenset({"PENDING", "CREATED", "PROCESSING", "ACCEPTED", "WAITING"})

REQUIRED, INVALID, VALUE = "ATTRIBUTE_REQUIRED", "ATTRIBUTE_INVALID", "ATTRIBUTE_VALUE_INVALID"
# Of an error that a fault makes; any other status says what HTTP calls it. Our guess.
_CODES = {
    400: INVALID,
    404: "ENTITY_NOT_FOUND",
    409: "ENTITY_DUPLICATED",
    422: VALUE,
    500: "SYSTEM",
}
# Source: the page, section 4: whole numbers, though ISO 4217 has two decimals.
_WHOLE = frozenset({"IDR"})
# That all of these but the e-mail and the address are required is our guess.
_REQUIRED = (
    "paymentRequested.money",
    "paymentMethod.paymentMethodCode",
    "paymentMethod.account.accountName",
    "paymentMethod.account.accountNumber",
    "paymentMethod.paymentOperatorCode",
)
_TEXTS = (*_REQUIRED[1:], "paymentMethod.emailAddress", "callbackUrl")


@dataclass(frozen=True, slots=True)
class Order:
    """What a create asks for; the account as it was sent, to be masked by whoever keeps it."""

    amount: Decimal
    currency: str
    operator: str
    account: Mapping[str, str]
    email: str | None
    callback_url: str | None

    def masked(self) -> dict[str, Any]:
        """What the ledger may know of it."""
        return {
            "operator": self.operator,
            "account": mask(self.account),
            "email": None if self.email is None else mask(self.email),
            "callback_url": self.callback_url,
        }


# Reading.


def read_money(value: Any) -> tuple[Decimal, str] | None:
    """Amount and currency of a `money` object; None if it is not one, or nothing to pay.

    An amount written as text is refused: the page shows numbers only.
    """
    match value:
        case {"amount": int() | Decimal() as amount, "currencyCode": str() as code}:
            pass
        case _:
            return None
    try:
        money = Money.from_number(amount, Currency.of(code))
    except MoneyError:
        return None
    exact = money.decimal()
    if isinstance(amount, bool) or money.minor <= 0 or (code in _WHOLE and exact != int(exact)):
        return None
    return exact, code


def read_order(document: Mapping[str, Any] | None) -> Order | Answer:
    """What a create asks for, or the refusal of the first thing that is wrong with it."""
    if document is None:
        return refusal(400, INVALID, "the body is not a JSON object")
    for path in _REQUIRED:
        if _at(document, path) in (None, ""):
            return refusal(400, REQUIRED, f"{path} is required")
    for path in _TEXTS:
        if not isinstance(_at(document, path), str | None):
            return refusal(400, INVALID, f"{path} is not text")
    method = document["paymentMethod"]
    account = method["account"]
    if not all(isinstance(each, str) for each in account.values()):
        return refusal(400, INVALID, "paymentMethod.account holds something that is not text")
    money = read_money(document["paymentRequested"]["money"])
    address = document.get("callbackUrl")
    wrong = "paymentRequested.money" if money is None else _wrong_value(method, address)
    if money is None or wrong is not None:
        return refusal(400, VALUE, f"{wrong} has a value that is not allowed")
    return Order(
        *money,
        operator=method["paymentOperatorCode"],
        account=account,
        email=method.get("emailAddress"),
        callback_url=address,
    )


def _wrong_value(method: Mapping[str, Any], address: str | None) -> str | None:
    """The first of the texts that cannot be; what is allowed is our guess."""
    account_number, email = method["account"]["accountNumber"], method.get("emailAddress")
    allowed = {
        "paymentMethod.paymentMethodCode": method["paymentMethodCode"] == METHOD,
        "paymentMethod.account.accountNumber": re.fullmatch("[0-9A-Za-z]{4,34}", account_number),
        "paymentMethod.paymentOperatorCode": method["paymentOperatorCode"] in OPERATORS,
        "paymentMethod.emailAddress": email is None or re.fullmatch(r"[^@\s]+@[^@\s]+", email),
        "callbackUrl": address is None or _is_address(address),
    }
    return next((path for path, good in allowed.items() if not good), None)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


# Answering.


def refusal(status: int, code: str, message: str) -> Answer:
    """An error body; its form is assumed by the page, section 8."""
    return answer(status, {"code": code, "message": message})


def error(status: int) -> Answer:
    """An error of which only the status is known."""
    known = HTTPStatus(status)
    return refusal(status, _CODES.get(status, known.name), known.phrase)


def taken(invoice: Invoice) -> dict[str, Any]:
    """The answer to a create: no status, only that it is taken."""
    return {
        "paymentRequested": {"money": _money(invoice.amount, invoice.currency)},
        "paymentMethodResponse": {
            "paymentMethodCode": invoice.service,
            "idPayout": invoice.reference_id,
        },
    }


def document(invoice: Invoice, step: Step, style: FailureReasons) -> dict[str, Any]:
    """A payout as a GET shows it, at a step of its history."""
    process: dict[str, Any] = {"status": step.status, "createdAt": moment(invoice.created)}
    if step.status in WORDS.final:
        process["processedAt"] = moment(step.at)
    process["isTest"] = invoice.test_mode
    if step.status in WORDS.given_back and style != "absent":
        reason = _failure_reason(step)
        process["failureReasons"] = [reason] if style == "list" else reason
    told = taken(invoice)
    fee = Decimal(invoice.details["fee"])
    return {
        "paymentRequested": told["paymentRequested"],
        "process": process,
        # That a payout has a fee only once it is paid is our guess.
        **({"fee": _money(fee, invoice.currency)} if step.status in WORDS.paid and fee else {}),
        "paymentMethodResponse": told["paymentMethodResponse"],
    }


def _failure_reason(step: Step) -> dict[str, Any]:
    usual = WORDS.resolutions.get(step.status, "SYSTEM")
    return {
        "failedAt": moment(step.at),
        "failureReasonCode": usual if step.resolution == "ok" else step.resolution,
        "message": "The payout was not carried out",
    }


def operators() -> dict[str, Any]:
    """The banks; the form of the list is assumed by the page, section 6."""
    return {"data": [{"code": code, "name": name} for code, name in OPERATORS.items()]}


def moment(at: float) -> str:
    """Unix seconds as the provider writes them: `2031-01-02T12:00:00.313Z`."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _money(amount: Decimal, currency: str) -> dict[str, Any]:
    return {"amount": number(amount), "currencyCode": currency}
