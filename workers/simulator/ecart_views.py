"""How the Ecart Pay simulator writes its answers: the JSON shapes and error codes, nothing else.

Source: Ecart Pay payouts (the page), sections 4 and 5 (payout), 7 (ledger), 8 (summary), 9
(webhooks) and 10 (errors), read 2026-11-21; "our guess" marks what no source says.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Any

from workers.simulator.ledger import ZERO, Balance, Invoice
from workers.simulator.port import Answer, Call, answer, number

# Source: section 10, from a real answer.
INVALID_TOKEN = 114
# Source: section 11; these exist in this simulator only.
DUPLICATE = 9001
LOW_BALANCE = 9002
# Our guess, all of them: the provider's list could not be read.
WRONG_KEYS = 9003
UNKNOWN_RECIPIENT = 9004
INVALID = 9005
NOT_CONFIRMABLE = 9006
UNKNOWN_PAYOUT = 9007

# Spanish, and English for a client that sends `Cookie: lang=en`. Only the first is the provider's.
_MESSAGES: Mapping[int, tuple[str, str]] = {
    INVALID_TOKEN: ("El token no es válido.", "The token is not valid."),
    DUPLICATE: ("La referencia ya fue utilizada.", "The reference was already used."),
    LOW_BALANCE: ("Saldo insuficiente.", "Insufficient balance."),
    WRONG_KEYS: ("Las credenciales no son válidas.", "The credentials are not valid."),
    UNKNOWN_RECIPIENT: ("La cuenta no existe.", "The account does not exist."),
    INVALID: ("El campo {field} no es válido.", "The field {field} is not valid."),
    NOT_CONFIRMABLE: ("El pago no se puede confirmar.", "The payout cannot be confirmed."),
    UNKNOWN_PAYOUT: ("El pago no existe.", "The payout does not exist."),
}


def error(
    status: int, code: int | None = None, *, call: Call | None = None, field: str = ""
) -> Answer:
    """The form of section 10; without a code it is the web server's own, our guess."""
    phrase = HTTPStatus(status).phrase
    document: dict[str, Any] = {"statusCode": status, "error": phrase, "message": phrase}
    if code is not None:
        english = call is not None and re.search(
            r"(^|;)\s*lang=en(;|$)", call.headers.get("Cookie", "")
        )
        document["message"] = _MESSAGES[code][1 if english else 0].format(field=field)
        document["code"] = code
    return answer(status, document)


def payout(invoice: Invoice, *, account_id: str, status: str | None = None) -> dict[str, Any]:
    """The object of section 4.

    Args:
        status: a word to claim instead of the present one.
    """
    details = invoice.details
    return {
        "id": invoice.id,
        "authorization_id": details["authorization_id"],
        "account_id": account_id,
        "reference_id": invoice.reference_id,
        "reference": details["reference"],
        "status": status or invoice.status,
        "currency": invoice.currency,
        "amount": number(invoice.amount),
        "fee": number(Decimal(details["fee"])),
        "exchange": number(Decimal(details["exchange"])),
        "available_at": moment(_available_at(invoice)),
        "require_confirmation": details["require_confirmation"],
        "created_at": moment(invoice.created),
        "updated_at": moment(invoice.step.at),
    }


def _available_at(invoice: Invoice) -> float:
    """When it was or will be credited; else what the create asked for, or the creation itself."""
    for step in (*invoice.history, *invoice.ahead):
        if step.status == "paid":
            return step.at
    asked: float | None = invoice.details["available_at"]
    return invoice.created if asked is None else asked


def payouts(found: Sequence[Invoice], *, account_id: str, shape: str) -> Any:
    """A list of payouts in one of the three forms that section 7 holds possible."""
    shown = [payout(each, account_id=account_id) for each in found]
    return shown if shape == "bare" else {shape: shown}


def transaction_id(payout_id: str) -> str:
    """The id of a payout's ledger line: its neighbour, so that neither has to be remembered."""
    return _neighbour(payout_id, 1)


def payout_id_of(transaction_id: str) -> str | None:
    """The payout of a ledger line; None for what is no id."""
    if not re.fullmatch("[0-9a-f]{24}", transaction_id):
        return None
    return _neighbour(transaction_id, -1)


def _neighbour(id_: str, distance: int) -> str:
    return f"{(int(id_, 16) + distance) % 16**24:024x}"


def transaction(invoice: Invoice, *, account_id: str) -> dict[str, Any]:
    """A ledger line. The names are those that section 7 assumes; `type` is our guess."""
    return {
        "id": transaction_id(invoice.id),
        "account_id": account_id,
        "transaction_id": f"TR{invoice.serial:08d}A",
        "reference_id": invoice.reference_id,
        "reference": invoice.details["reference"],
        "type": "payout",
        "status": invoice.status,
        "amount": number(invoice.amount),
        "fee": number(Decimal(invoice.details["fee"])),
        "currency": invoice.currency,
        "created_at": moment(invoice.created),
    }


def ledger_page(
    shown: Sequence[Invoice], *, account_id: str, page: int | None, limit: int, more: bool
) -> dict[str, Any]:
    """Lines with the tokens of this page and of the next; section 7 names them, no more."""
    document: dict[str, Any] = {
        "data": [transaction(each, account_id=account_id) for each in shown],
        "limit": limit,
        "token_page": page_token(shown[0]) if shown else None,
        "next_token": page_token(shown[-1]) if more else None,
    }
    if page is not None:
        document["page"] = page
    return document


def page_token(invoice: Invoice) -> str:
    """A place in the ledger list: `prev` shows what stands before it, `next` what comes after."""
    return base64.urlsafe_b64encode(f"line {invoice.serial}".encode()).decode().rstrip("=")


def summary(balances: Mapping[str, Balance], held: Mapping[str, Decimal]) -> dict[str, Any]:
    """The totals per currency, in the form that section 8 assumes.

    Args:
        held: what pending payouts keep from being spent.
    """
    return {
        currency: {
            "available": number(balance.active - held.get(currency, ZERO)),
            "pending": number(balance.pending + held.get(currency, ZERO)),
        }
        for currency, balance in sorted(balances.items())
    }


def moment(at: float) -> str:
    """ISO 8601 UTC with milliseconds: `2031-01-02T12:00:00.889Z`."""
    # A sum of seconds may be a hair below the millisecond it stands for.
    text = datetime.fromtimestamp(round(at, 3), UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
