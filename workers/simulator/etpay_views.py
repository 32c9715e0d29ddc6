"""The JSON of the ETpay simulator: payouts, pages, errors and webhooks.

Source: ETpay payouts (the page), sections 3 to 9, read 2026-11-21. All shapes but the login's are
the page's own assumption; "our guess" marks what not even the page says.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import simplejson

from workers.simulator.ledger import Invoice, Step
from workers.simulator.life import Words
from workers.simulator.port import Answer, answer, number

BANK_REJECTED, CANCELLED, RETURNED, NO_FUNDS = (
    "PO-BANK-REJECTED",
    "PO-CANCELLED",
    "PO-RETURNED",
    "R01",
)
_TEXTS = {
    BANK_REJECTED: "The bank refused the payout.",
    CANCELLED: "The payout was cancelled.",
    RETURNED: "The money came back after it was paid.",
    NO_FUNDS: "Insufficient funds.",
}


def _any_case(*words: str) -> frozenset[str]:
    # The page takes status words in any case, so a fault may ask for `COMPLETED`.
    return frozenset(spelt for word in words for spelt in (word, word.upper(), word.capitalize()))


_PAID = _any_case("completed", "paid", "success", "successful")
_CAUSES = {
    BANK_REJECTED: _any_case("rejected", "failed", "error"),
    CANCELLED: _any_case("cancelled", "canceled"),
    RETURNED: _any_case("returned", "reversed", "refunded"),
}
# Source: the page, section 5. A payout is pending from its create to its end.
WORDS = Words(
    created="pending",
    processing=None,
    processed="completed",
    returned="returned",
    committing=_PAID | _any_case("pending", "processing", "in_progress", "approved"),
    paid=_PAID,
    given_back=frozenset().union(*_CAUSES.values()),
    resolutions={word: code for code, words in _CAUSES.items() for word in words},
)

_ERRORS = {
    302: ("MOVED", "Moved."),
    400: ("BAD_REQUEST", "The request cannot be read."),
    401: ("UNAUTHORIZED", "The token or the credentials are missing, wrong or expired."),
    403: ("FORBIDDEN", "Not allowed for this merchant."),
    404: ("NOT_FOUND", "There is nothing here."),
    405: ("METHOD_NOT_ALLOWED", "Not with this method."),
    409: ("CONFLICT", "There is a payout already."),
    422: ("UNPROCESSABLE", "The request cannot be carried out."),
    429: ("TOO_MANY_REQUESTS", "Too many requests."),
}


def error(status: int) -> Answer:
    """The error body of that status; only `UNAUTHORIZED` is the page's, the rest our guess."""
    return refusal(status, *_ERRORS.get(status, ("INTERNAL_ERROR", "Something went wrong.")))


def refusal(status: int, code: str | None, message: str) -> Answer:
    """The error body; None leaves the code out, as for a merchant without payout error codes."""
    said = {"message": message} if code is None else {"code": code, "message": message}
    return answer(status, {"msg": "error", "error": said})


def login(token: str, *, expires_ms: int, username: str) -> Answer:
    """The answer to a login; the person is invented."""
    return answer(
        200,
        {
            "msg": "ok",
            "auth": {"tokenExp": expires_ms, "Authorization": token},
            "user": {"name": "Ana", "lastnames": "Rojas", "email": username},
        },
    )


def brief(invoice: Invoice) -> dict[str, Any]:
    """A payout as a create and a date query show it."""
    return {
        "payout_id": invoice.id,
        "merchant_order_id": invoice.reference_id,
        "status": invoice.status,
        "amount": number(invoice.amount),
        "currency": invoice.currency,
        "created_at": _utc(invoice.created),
    }


def full(invoice: Invoice, *, status: str | None = None, codes: bool = True) -> dict[str, Any]:
    """A payout as a status call and a webhook show it.

    Args:
        status: a status of its history, or any word to claim; None for the present one.
        codes: whether the merchant is shown payout error codes.
    """
    step = _step(invoice, status)
    code = _cause(step)
    shown = brief(invoice)
    created_at = shown.pop("created_at")
    return {
        **shown,
        "status": step.status,
        "error_code": code if codes else None,
        "error_message": None if code is None else _TEXTS.get(code, "The payout was not made."),
        "created_at": created_at,
        "updated_at": _utc(step.at),
    }


def page(found: Sequence[Invoice], *, at: int, limit: int) -> Answer:
    """The page of that number, counted from 1; there is always one, if an empty one."""
    shown = found[(at - 1) * limit : at * limit]
    return answer(
        200,
        {
            "msg": "ok",
            "payouts": [brief(each) for each in shown],
            "page": at,
            "pages": max(1, -(-len(found) // limit)),
            "total": len(found),
        },
    )


def jwt(claims: dict[str, Any], secret: str | None) -> str:
    """A JWT of those claims, HS256; unsigned, with `alg` none, where there is no secret."""
    head = {"alg": "none" if secret is None else "HS256", "typ": "JWT"}
    signed = ".".join(
        _base64(simplejson.dumps(part, separators=(",", ":")).encode()) for part in (head, claims)
    )
    if secret is None:
        return f"{signed}."
    return f"{signed}.{_base64(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"


def _step(invoice: Invoice, status: str | None) -> Step:
    if status is None:
        return invoice.step
    known = (each for each in invoice.history if each.status == status)
    return next(known, Step(invoice.step.at, status))


def _cause(step: Step) -> str | None:
    """Why the payout was not made or came back; None while it was not."""
    if step.status not in WORDS.given_back:
        return None
    return WORDS.resolutions[step.status] if step.resolution == "ok" else step.resolution


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
