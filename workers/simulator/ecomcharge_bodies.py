"""The eComCharge simulator's judgement of what a request body asks for.

Source: eComCharge payout API facts, sections 4.1, 7 and Part B, read 2026-11-21. Members and
lengths are from there; the wording of a fault is where a sample shows it, else our guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from workers.simulator.ledger import mask

Faults = dict[str, Any]

TEXT_MAX = 255
# Our guess: no limit is documented, and a longer number is no amount.
AMOUNT_MAX = 10**15
MAGIC_ENDING = 999

# Source: section 4.1.
_CUSTOMER_MAX = {
    "first_name": 60,
    "last_name": 60,
    "middle_name": 60,
    "state": 40,
    "city": 120,
    "zip": 40,
    "address": 510,
    "phone": 200,
    "external_id": 255,
}
_BILLING = (
    "first_name",
    "last_name",
    "middle_name",
    "country",
    "state",
    "city",
    "zip",
    "address",
    "phone",
)
_CUSTOMER = ("email", "birth_date", "gender", "device_id", "id_number", "taxpayer_id")
_US_ZIP = re.compile(r"\d{5}(-\d{4})?", re.ASCII)
_CARD_NUMBER = re.compile(r"\d{12,19}", re.ASCII)


def tracking_id(document: dict[str, Any]) -> str | None:
    """The id that a create names, if it is one."""
    asked = document.get("request")
    named = asked.get("tracking_id") if isinstance(asked, dict) else None
    return named if isinstance(named, str) and 0 < len(named) <= TEXT_MAX else None


def beyag_faults(asked: Mapping[str, Any], methods: Mapping[str, tuple[str, ...]]) -> Faults:
    """What is wrong with a create of Part A; empty if nothing is."""
    wrong = _common_faults(asked, blank="is missing")
    customer = asked.get("customer")
    if customer is not None:
        _keep(wrong, "customer", _customer_faults(customer))
    _keep(wrong, "method", _method_faults(asked.get("method"), methods))
    if "method" not in wrong:
        _check_template(wrong, asked, methods[asked["method"]["type"]])
    return wrong


def card_faults(asked: Mapping[str, Any]) -> Faults:
    """What is wrong with a create of Part B; empty if nothing is."""
    wrong = _common_faults(asked, blank="can't be blank")
    check = asked.get("duplicate_check")
    if check is not None and not isinstance(check, bool):
        wrong["duplicate_check"] = ["must be a boolean"]
    _keep(wrong, "recipient_credit_card", _card_faults(asked.get("recipient_credit_card")))
    return wrong


def card_key(asked: Mapping[str, Any]) -> str:
    """What tells one card from another: its token or its number. Never to be stored."""
    card = asked["recipient_credit_card"]
    return str(card.get("token") or card["number"])


def names_a_card_number(asked: Mapping[str, Any]) -> bool:
    return not asked["recipient_credit_card"].get("token")


def details_of_customer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The masked people of a create, in the two objects of an answer."""
    given = asked.get("customer") or {}
    customer = {"ip": asked.get("ip"), **{name: given.get(name) for name in _CUSTOMER}}
    billing = {name: given.get(name) for name in _BILLING}
    return {"customer": _masked(customer), "billing_address": _masked(billing)}


def details_of_card(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The masked card and people of a create."""
    card = asked["recipient_credit_card"]
    shown: dict[str, Any] = {"holder": None, "first_1": None, "last_4": None, "token": None}
    if card.get("holder"):
        shown["holder"] = mask(card["holder"])
    if card.get("token"):
        shown["token"] = mask(card["token"])
    else:
        masked = mask(card["number"], key="card_number")
        shown |= {"first_1": masked[0], "last_4": masked[-4:]}
    recipient, billing = asked.get("recipient"), asked.get("recipient_billing_address")
    return {
        "credit_card": shown,
        "customer": _masked(recipient if isinstance(recipient, dict) else {}),
        "billing_address": _masked(billing if isinstance(billing, dict) else {}),
    }


def _common_faults(asked: Mapping[str, Any], *, blank: str) -> Faults:
    wrong: Faults = {}
    amount, currency = asked.get("amount"), asked.get("currency")
    if amount is None:
        wrong["amount"] = [blank]
    elif not isinstance(amount, int) or isinstance(amount, bool):
        wrong["amount"] = ["must be an integer"]
    elif amount <= 0:
        wrong["amount"] = ["must be greater than 0"]
    elif amount >= AMOUNT_MAX:
        wrong["amount"] = [f"must be less than {AMOUNT_MAX}"]
    if currency is None:
        wrong["currency"] = [blank]
    elif not isinstance(currency, str) or not re.fullmatch("[A-Z]{3}", currency):
        wrong["currency"] = ["is invalid"]
    if asked.get("description") in (None, ""):
        wrong["description"] = [blank]
    for name in ("description", "tracking_id"):
        if asked.get(name) is not None:
            _keep(wrong, name, _text_faults(asked[name], TEXT_MAX))
    for name in ("notification_url", "verification_url", "language"):
        if asked.get(name) is not None and not isinstance(asked[name], str):
            wrong[name] = ["is invalid"]
    if asked.get("test") is not None and not isinstance(asked["test"], bool):
        wrong["test"] = ["must be a boolean"]
    return wrong


def _text_faults(value: Any, length_max: int) -> list[str]:
    if not isinstance(value, str):
        return ["must be a string"]
    if len(value) > length_max:
        return [f"is too long (maximum is {length_max} characters)"]
    return []


def _customer_faults(customer: Any) -> Faults | list[str]:
    if not isinstance(customer, dict):
        return ["is invalid"]
    given = {name: value for name, value in customer.items() if value is not None}
    wrong: Faults = {}
    for name, length_max in _CUSTOMER_MAX.items():
        if name in given:
            _keep(wrong, name, _text_faults(given[name], length_max))
    checks = {
        "country": r"[A-Z]{2}",
        "gender": "male|female",
        "email": r"[^@\s]+@[^@\s]+",
        "birth_date": r"\d{4}-\d{2}-\d{2}",
    }
    for name, pattern in checks.items():
        if name in given and not re.fullmatch(pattern, str(given[name])):
            wrong[name] = ["is invalid"]
    if given.get("country") == "US" and not _US_ZIP.fullmatch(str(given.get("zip", "00000"))):
        wrong["zip"] = ["is invalid"]
    return wrong


def _method_faults(method: Any, methods: Mapping[str, tuple[str, ...]]) -> Faults | list[str]:
    if method is None:
        return ["is missing"]
    if not isinstance(method, dict):
        return ["is invalid"]
    if method.get("type") in (None, ""):
        return {"type": ["is missing"]}
    if not isinstance(method["type"], str) or method["type"] not in methods:
        return {"type": ["is invalid"]}
    return {}


def _check_template(wrong: Faults, asked: Mapping[str, Any], wanted: tuple[str, ...]) -> None:
    for path in wanted:
        place, _, name = path.rpartition(".")
        place = place or "method"
        given = asked.get(place)
        within = wrong.setdefault(place, {})
        missing = not isinstance(given, dict) or given.get(name) in (None, "")
        if missing and isinstance(within, dict):
            within[name] = ["is missing"]
        if not within:
            del wrong[place]


def _card_faults(card: Any) -> Faults | list[str]:
    if card is None:
        return ["can't be blank"]
    if not isinstance(card, dict):
        return ["is invalid"]
    if card.get("token"):
        return {} if isinstance(card["token"], str) else {"token": ["is invalid"]}
    if card.get("number") is None:
        return {"number": ["can't be blank"]}
    if not isinstance(card["number"], str) or not _CARD_NUMBER.fullmatch(card["number"]):
        return {"number": ["is not a card number"]}
    return {}


def _keep(wrong: Faults, name: str, found: Faults | list[str]) -> None:
    if found:
        wrong[name] = found


def _masked(people: Mapping[str, Any]) -> dict[str, Any]:
    return {name: mask(value) for name, value in people.items() if value is not None}
