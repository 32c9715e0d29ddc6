"""How the Payelata simulator writes its answers: the JSON shapes and nothing else.

Source: Payelata API facts, sections 4 (each shape), 6 (errors) and 7 (callbacks).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from http import HTTPStatus
from typing import Any

import simplejson

from workers.record.money import EXPONENTS
from workers.simulator.ledger import ZERO, Balance, Invoice, Step
from workers.simulator.payelata_services import Service
from workers.simulator.port import Answer, answer, number

# Bodies always say `/api`, whatever prefix the host has (section 1).
LINKS = "/api"
# Any fixed moment: the account is older than its invoices.
_ACCOUNT_CREATED = 1_600_000_000


def error(status: int) -> Answer:
    """The list form, and the object form for 422."""
    if status == 422:
        return invalid({"amount": "This value should be greater than 0."})
    return answer(status, {"errors": [_error(status)]})


def invalid(wrong: Mapping[str, str]) -> Answer:
    """422, keyed by attribute or field."""
    return answer(422, {"errors": dict(wrong)})


def conflict(first: Invoice) -> Answer:
    """409 with the first invoice; that it stands under `data` is our guess."""
    return answer(409, {"errors": [_error(409)], "data": private(first)})


def _error(status: int) -> dict[str, str]:
    phrase = HTTPStatus(status).phrase
    named = {"status": phrase, "code": str(status)}
    if status == 500:
        named |= {"title": phrase, "detail": "Something went wrong."}
    return named


def private_document(invoice: Invoice) -> dict[str, Any]:
    return {"data": private(invoice)}


def private(invoice: Invoice, step: Step | None = None) -> dict[str, Any]:
    """The private shape; as it was at an earlier step, or as a made-up one would have it."""
    step = step or invoice.step
    details = invoice.details
    paid = _paid_by(invoice, step)
    fee = Decimal(details["fee"])
    amount = number(invoice.amount)
    relationships = {
        "payout-service": {"data": {"type": "payout-services", "id": invoice.service}},
        "payout-method": {"data": {"type": "payout-methods", "id": details["method"]}},
    }
    if details["customer_id"] is not None:
        relationships["customer"] = {"data": {"type": "customers", "id": details["customer_id"]}}
    return {
        "type": "payout-invoices",
        "id": invoice.id,
        "attributes": {
            "serial_number": invoice.id.removeprefix("cpoi_"),
            "status": step.status,
            "resolution": step.resolution,
            "amount": amount,
            "payout_amount": amount,
            "currency": invoice.currency,
            "service_currency": invoice.currency,
            "service_amount": amount,
            "service_payout_amount": amount,
            "reference_id": invoice.reference_id,
            "test_mode": invoice.test_mode,
            "description": details["description"],
            "fee": number(fee),
            "writeoff": number(invoice.writeoff),
            "exchange_rate": 1,
            **_processed(paid, fee),
            "metadata": json.loads(details["metadata"], parse_float=Decimal),
            "created": int(invoice.created),
            "updated": int(step.at),
            "fields": details["fields"],
            "callback_url": details["callback_url"],
            "source": "merchant_api",
            "callback_logs": [],
        },
        "relationships": relationships,
        "links": {"self": f"{LINKS}/payout-invoices/{invoice.id}"},
    }


def _paid_by(invoice: Invoice, step: Step) -> Step | None:
    """The step, up to that one, that last said how much was paid."""
    told = [each for each in (*invoice.history, step) if each.processed_amount is not None]
    return next((each for each in reversed(told) if each.at <= step.at), None)


def _processed(paid: Step | None, fee: Decimal) -> dict[str, Any]:
    if paid is None or paid.processed_amount is None:
        return {
            "processed": None,
            "processed_amount": None,
            "processed_fee": 0,
            "processed_writeoff": None,
        }
    return {
        "processed": int(paid.at),
        "processed_amount": number(paid.processed_amount),
        "processed_fee": number(fee),
        "processed_writeoff": number(paid.processed_amount + fee),
    }


def public_document(invoice: Invoice) -> dict[str, Any]:
    return {"data": public(invoice)}


def public(invoice: Invoice) -> dict[str, Any]:
    """The flat, reduced view (section 4.6)."""
    attributes = private(invoice)["attributes"]
    named = ("serial_number", "created", "status", "resolution", "test_mode", "currency")
    money = ("amount", "payout_amount", "service_amount", "service_payout_amount")
    last = ("service_currency", "processed", "processed_amount")
    return {
        "id": invoice.id,
        **{name: attributes[name] for name in (*named, *money, *last)},
        "service": invoice.service,
        "service_method": invoice.details["method"],
    }


def page(invoices: Sequence[Invoice], *, size: int, more: bool = False) -> dict[str, Any]:
    """A cursor page; `count` is of this page, and a cursor of nothing null: both our guess."""
    before, after = (invoices[0].id, invoices[-1].id) if invoices else (None, None)
    following = f"{LINKS}/payout-invoices?page%5Bafter%5D={after}" if more else ""
    return {
        "data": [private(each) for each in invoices],
        "meta": {"count": len(invoices), "size": size, "before": before, "after": after},
        "links": {"prev": "", "next": following},
    }


def service(each: Service, *, test_mode: bool) -> dict[str, Any]:
    """A service (section 4.3)."""
    return {
        "type": "payout-services",
        "id": each.id,
        "attributes": {
            "service": each.code,
            "service_method": each.method,
            "service_currency": each.currency,
            "available": True,
            "active": True,
            "enabled": each.enabled,
            "amount_min": number(each.amount_min),
            "amount_max": number(each.amount_max),
            "fee_min": number(each.fee_min),
            "fee_max": number(each.fee_max),
            "fee_rate": number(each.fee_rate),
            "fee_fix": number(each.fee_fix),
            "currency": each.currency,
            "test_mode": test_mode,
        },
        "relationships": {
            "payout-method": {"data": {"type": "payout-methods", "id": each.method}},
            "payout-service": {"data": {"type": "payout-services", "id": each.code}},
        },
        "links": {"self": f"{LINKS}/payout-services/{each.id}"},
    }


def service_page(
    services: Sequence[Service], at: int, size: int, *, test_mode: bool
) -> dict[str, Any]:
    """A numbered page; past the last one it is empty."""
    pages = max(1, -(-len(services) // size))

    def link(wanted: int) -> str:
        return f"{LINKS}/payout-services?page%5Bnumber%5D={wanted}&page%5Bsize%5D={size}"

    return {
        "data": [
            service(each, test_mode=test_mode) for each in services[(at - 1) * size : at * size]
        ],
        "meta": {"total": len(services), "pages": pages, "page": at},
        "links": {
            "first": link(1),
            "next": link(at + 1) if at < pages else "",
            "last": link(pages),
        },
    }


def balances(account_id: str, of: Mapping[str, Balance]) -> dict[str, Any]:
    """Decimal strings, one account a currency (section 4.1)."""
    accounts = {currency: _balance(account_id, currency, each) for currency, each in of.items()}
    return {
        "data": {
            "type": "account",
            "id": account_id,
            "attributes": {"currency_accounts": accounts},
            "links": {"self": f"{LINKS}/account/balances"},
        }
    }


def _balance(account_id: str, currency: str, balance: Balance) -> dict[str, Any]:
    decimals = EXPONENTS.get(currency, 2)
    return {
        "account_id": f"comca_{_digest(account_id, currency)}",
        "active_balance": f"{balance.active:.{decimals}f}",
        "pending_balance": f"{balance.pending:.{decimals}f}",
        "reserved_balance": f"{ZERO:.{decimals}f}",
        "overdraft_limit": f"{ZERO:.{decimals}f}",
        "balance_lower_limit": None,
    }


def profile(account_id: str, *, callback_url: str | None) -> dict[str, Any]:
    """An active account; the scheme's name is our guess, only `none` is documented."""
    return {
        "data": {
            "type": "account",
            "id": account_id,
            "attributes": {
                "status": "active",
                "callback_url": callback_url,
                "ledger_scheme": "multi_currency",
                "api_ip_white_list": [],
                "time_zone": "UTC",
                "created": _ACCOUNT_CREATED,
                "updated": _ACCOUNT_CREATED,
            },
            "links": {"self": f"{LINKS}/account/profile"},
        }
    }


def prerequest(
    currency: str, amount: Decimal, usable: Sequence[Service], *, test_mode: bool
) -> dict[str, Any]:
    """Services open for a currency and amount, with their field rules (section 4.2)."""
    return {
        "data": {
            "currency": currency,
            "amount": number(amount),
            "test_mode": test_mode,
            "services": {each.code: _open_service(each, amount) for each in usable},
            "methods": {each.method: _method(each.method) for each in usable},
            "account": {"name": "Demo", "description": "", "icon": "", "website": ""},
        }
    }


def _open_service(each: Service, amount: Decimal) -> dict[str, Any]:
    return {
        "code": each.code,
        "method": each.method,
        "currency": each.currency,
        "amount_min": number(each.amount_min),
        "amount_max": number(each.amount_max),
        "exchange_rate": 1,
        "amount": f"{amount:.2f}",
        "fields": [
            {
                "key": rule.key,
                "type": "string",
                "label": {"en": rule.key.replace("_", " ").capitalize()},
                "hint": {"en": rule.key.replace("_", " ").capitalize()},
                "example": None,
                # The sample's backslashes are still doubled after JSON decoding.
                "regexp": rule.regexp.replace("\\", "\\\\"),
                "required": rule.required,
                "position": position,
            }
            for position, rule in enumerate(each.fields)
        ],
    }


def _method(code: str) -> dict[str, Any]:
    return {
        "code": code,
        "category": "bank_card" if "card" in code else code,
        "name": {"en": code.replace("_", " ").capitalize()},
        "logo": "",
        "icon": "",
        "metadata": None,
        "position": None,
        "hide": None,
    }


def callback_body(invoice: Invoice, status: str | None) -> bytes:
    """The private read as it was in that status; a status it never had is simply claimed."""
    step = invoice.step
    if status is not None:
        had = [each for each in invoice.history if each.status == status]
        step = had[-1] if had else Step(step.at, status)
    document = {"data": private(invoice, step)}
    return simplejson.dumps(document, separators=(",", ":")).encode()


def customer_id(account_id: str, reference_id: str) -> str:
    """The same customer has the same id; the customer's data are not kept."""
    return f"cus_{_digest(account_id, reference_id)}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
