"""How the eComCharge simulator writes its answers: the JSON shapes and nothing else.

Source: eComCharge payout API facts, sections 4 (Part A), 7 (errors), 8 and Part B, read 2026-11-21.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from workers.simulator.ecomcharge_account import (
    BEYAG,
    CARDS,
    FORM,
    WORDS,
    EcomchargeOptions,
    code_of,
    is_open,
    leg_of,
    message_of,
    part_of,
)
from workers.simulator.ledger import Invoice, Step
from workers.simulator.port import Answer, answer

# Source: sections 4.2 and Part B.
BEYAG_FOUND_MAX = 100
CARDS_FOUND_MAX = 10
# These two stand in for the platform's own pages, which nobody is to be sent to.
_RECEIPTS = "https://gateway.example/customer/transactions"
_FORMS = "https://provider.example/payout"


# Errors, section 7.


def error(status: int) -> Answer:
    """That status in the platform's words; which form goes with which status is partly our guess:
    only 401, 404 and 422 are shown.
    """
    if status == 404:
        return answer(404, {"message": "Not found."})
    if status == 422:
        return invalid({"base": ["is invalid"]}, part=BEYAG)
    phrase = HTTPStatus(status).phrase
    if status >= 500:
        trouble = {"gateway": "is temporarily unavailable"}
        return answer(status, {"response": {"message": phrase, "errors": trouble}})
    return answer(status, {"message": phrase})


def wrong_shop() -> Answer:
    return answer(
        401, {"message": "Invalid shop_id/secret_key.", "errors": {"system": ["System error."]}}
    )


def invalid(wrong: dict[str, Any], *, part: str, v3: bool = False) -> Answer:
    """422, in the form of the part and of the version asked for; beyag knows no versions."""
    if part == BEYAG:
        return answer(422, {"message": "Unprocessable entity", "errors": {"request": wrong}})
    if v3:
        return _coded("E.1025", "Invalid request params", wrong)
    return answer(422, {"message": f"{_sentence(wrong)}.", "errors": wrong})


def invalid_balance(wrong: dict[str, Any]) -> Answer:
    """422 of a balance call; the form is our guess."""
    return _coded("E.1025", "Invalid request params", wrong)


def invalid_precheck(wrong: dict[str, Any]) -> Answer:
    """422: a list of faults, each under the last part of its name."""
    return answer(
        422,
        {
            "code": "E.0625",
            "message": "Invalid transaction parameters",
            "friendly_message": "Invalid transaction parameters",
            "errors": [{path.rpartition(".")[2]: told} for path, told in _leaves(wrong)],
        },
    )


def no_card_numbers() -> Answer:
    """The code is documented, its form is our guess."""
    wrong = {"recipient_credit_card": {"number": ["is not permitted"]}}
    return _coded("E.1065", "Card numbers are not permitted for the shop", wrong)


def rejected(asked: dict[str, Any], http: int) -> Answer:
    """The status `error` without a uid: nothing was stored."""
    told = {
        "type": "payout",
        "status": "error",
        "tracking_id": asked.get("tracking_id"),
        "message": "The request was not accepted",
    }
    return answer(http, {"transaction": told})


def _coded(code: str, friendly: str, wrong: dict[str, Any]) -> Answer:
    return answer(
        422,
        {"code": code, "friendly_message": friendly, "message": _sentence(wrong), "errors": wrong},
    )


def _sentence(wrong: dict[str, Any]) -> str:
    """The first fault in words: `Amount must be greater than 0`."""
    path, (told, *_) = _leaves(wrong)[0]
    name = path.rpartition(".")[2]
    return told if name == "base" else f"{name.replace('_', ' ').capitalize()} {told}"


def _leaves(wrong: dict[str, Any], above: str = "") -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for name, told in wrong.items():
        if isinstance(told, dict):
            found += _leaves(told, f"{above}{name}.")
        else:
            found.append((above + name, told))
    return found


# Transactions, section 4 and Part B.


def document(
    invoice: Invoice, options: EcomchargeOptions, *, step: Step | None = None, v3: bool = False
) -> dict[str, Any]:
    """A transaction as an answer or a webhook carries it."""
    if v3:
        return _flat(invoice, options)
    return {"transaction": transaction(invoice, options, step)}


def transaction(
    invoice: Invoice, options: EcomchargeOptions, step: Step | None = None
) -> dict[str, Any]:
    """The nested shape; as it was at an earlier step, or as a made-up one would have it."""
    step = step or invoice.step
    details, part = invoice.details, part_of(invoice)
    shown = _head(invoice, options, step) | {
        "message": message_of(step),
        "language": details["language"],
        "receipt_url": f"{_RECEIPTS}/{invoice.id}/{_digest(invoice.id, 'receipt')}",
        "payout": {
            "status": leg_of(step),
            "gateway_id": options.gateway_id,
            "ref_id": str(int(_digest(invoice.id, "ref"), 16)),
            "message": message_of(step),
            "bank_code": None,
            "rrn": None,
        },
        "customer": dict(details["customer"]),
        "billing_address": _billing(details["billing_address"], options),
    }
    if part == CARDS:
        shown["payment_method_type"] = "credit_card"
        shown["credit_card"] = details["credit_card"]
        shown["manually_corrected_at"] = _corrected_at(invoice, step)
    else:
        shown["method_type"] = invoice.service
    if options.codes:
        code = code_of(step)
        shown |= {"code": code, "friendly_message": message_of(step)}
    if step.resolution == FORM or (options.form and is_open(step)):
        shown["form"] = {"action": f"{_FORMS}/{invoice.id}", "method": "GET", "fields": []}
    return shown


def _flat(invoice: Invoice, options: EcomchargeOptions) -> dict[str, Any]:
    """API v3, of the card host only."""
    step = invoice.step
    return _head(invoice, options, step) | {
        "code": code_of(step),
        "friendly_message": message_of(step),
        "message": message_of(step),
        "manually_corrected_at": _corrected_at(invoice, step),
    }


def _head(invoice: Invoice, options: EcomchargeOptions, step: Step) -> dict[str, Any]:
    return {
        "uid": invoice.id,
        "type": "payout",
        "status": step.status,
        "amount": options.minor(invoice.amount, invoice.currency),
        "currency": invoice.currency,
        "description": invoice.details["description"],
        "created_at": moment(invoice.created),
        "updated_at": moment(step.at),
        "paid_at": moment(step.at) if step.status in WORDS.paid else None,
        "tracking_id": invoice.reference_id or None,
        "test": invoice.test_mode,
    }


def _billing(address: dict[str, Any], options: EcomchargeOptions) -> dict[str, Any]:
    if not options.phone_number or "phone" not in address:
        return dict(address)
    # The platform once showed it as a number; of a masked one only the last digits are left.
    digits = "".join(filter(str.isdigit, address["phone"]))
    return address | {"phone": int(digits or "0")}


def _corrected_at(invoice: Invoice, step: Step) -> str | None:
    """When a final status was made another one."""
    earlier = [each.status for each in invoice.history[:-1]]
    changed = step is invoice.step and step.status not in earlier[-1:]
    return moment(step.at) if changed and WORDS.final & set(earlier) else None


def found_by_beyag(shown: Sequence[dict[str, Any]]) -> Answer:
    return answer(200, {"transactions": shown[:BEYAG_FOUND_MAX]})


def found_by_cards(shown: Sequence[dict[str, Any]], form: str, *, v3: bool) -> Answer:
    """One of the three shapes seen; what none found looks like is our guess.

    Args:
        form: `transactions` or `list`; `transaction` for a single one without a list.
    """
    several = list(shown[:CARDS_FOUND_MAX])
    if form == "list":
        return answer(200, several)
    if form == "transaction" and not several:
        return error(404)
    if form == "transaction" and len(several) == 1:
        return answer(200, several[0] if v3 else {"transaction": several[0]})
    return answer(200, {"transactions": several})


def shown_by_cards(invoice: Invoice, options: EcomchargeOptions, *, v3: bool) -> dict[str, Any]:
    """One entry of a list."""
    return _flat(invoice, options) if v3 else transaction(invoice, options)


def decoys(tracking_id: str) -> list[dict[str, Any]]:
    """What a find may show that is not the payout asked for: a payment of the same tracking id,
    and a payout of another one.
    """
    strange = {"status": "successful", "amount": 100, "currency": "USD"}
    return [
        {"uid": "2-0000decoy1", "type": "payment", "tracking_id": tracking_id, **strange},
        {"uid": "2-0000decoy2", "type": "payout", "tracking_id": f"{tracking_id}-2", **strange},
    ]


# Balances and the precheck, sections 4.3 and 4.4 and Part B.


def beyag_balance(gateway_id: int, account: Any, amount: Any, currency: str) -> Answer:
    return answer(
        200,
        {
            "code": "S.0000",
            "status": "Successful",
            "message": "none",
            "friendly_message": "Successfully processed",
            "gateway_id": gateway_id,
            "account": account,
            "amount": amount,
            "currency": currency,
            "provider_info": {"BankCode": 200},
        },
    )


def card_balance(gateway_id: int, account: Any, amount: Any, currency: str) -> Answer:
    result = {
        "gatewayId": gateway_id,
        "account": account,
        "amount": amount,
        "currency": currency,
        "bankInfo": {},
    }
    return answer(200, {"status": "successful", "result": result})


def precheck(gateway_id: int, currency: str, *, allowed: bool) -> Answer:
    """200, or 202 for what is not allowed."""
    status = "successful" if allowed else "failed"
    message = f"Transaction is {'allowed' if allowed else 'not allowed'}"
    told: dict[str, Any] = {
        "code": "S.0000" if allowed else "F.0223",
        "message": message,
        "friendly_message": message,
        "status": status,
        "smart_routing_verification": {"status": status},
    }
    if allowed:
        told["commission"] = {"minimum": 0, "percent": 0, "bank_fee": 0, "currency": currency}
        told["precheck"] = {"gateway_id": gateway_id, "status": status, "provider_raw": {}}
    return answer(200 if allowed else 202, told)


def moment(at: float) -> str:
    """`2024-01-10T10:00:00Z`, or `2024-01-10T10:00:00.500Z`: the samples have both."""
    spec = "seconds" if at == int(at) else "milliseconds"
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec=spec)
    return text.removesuffix("+00:00") + "Z"


def _digest(uid: str, salt: str) -> str:
    return hashlib.sha256(f"{salt}:{uid}".encode()).hexdigest()[:8]
