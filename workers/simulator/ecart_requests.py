"""What the Ecart Pay simulator is asked, and what is wrong with it: bodies, queries, moments.

Nothing here knows the account.

Source: Ecart Pay payouts (the page), sections 4 (create), 7 (ledger list) and 9 (webhooks), read
2026-11-21; "our guess" marks what no source says.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeGuard

from workers.simulator.ledger import Invoice

# Source: section 4.
CURRENCIES = ("USD", "INR", "MXN", "BRL", "COP", "ARS", "GTQ", "CLP", "PEN", "CAD", "EUR", "AUD")
# Source: section 7.
PAGE_MAX = 10
# Our guess.
PAGE_SIZE = 10
# Source: section 9.
EVENTS = (
    "billing_information.updated",
    "billing_information.deleted",
    "billings.create",
    "subscription.created",
    "subscription.payment_success",
    "subscription.payment_failed",
    "subscription.paused",
    "subscription.cancelled",
    "transfer.created",
    "orders.confirmation",
    "orders.create",
    "orders.update",
    "withdrawals.processing",
    "withdrawals.paid",
    "withdrawals.cancelled",
    "transactions.paid",
)
# No account of ours holds more; beyond it a number is an attack.
AMOUNT_MAX = Decimal(10**12)

# Our guess, a little wider than the careful one of section 12.
_REFERENCE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def is_reference_id(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and _REFERENCE_ID.fullmatch(value) is not None


def webhook_fault(asked: dict[str, Any]) -> str | None:
    """The first field of a registration that is not as section 9 says."""
    url, events = asked.get("url"), asked.get("events")
    if not isinstance(url, str) or not re.fullmatch(r"https?://[^\s/]\S*", url):
        return "url"
    if not isinstance(events, list) or not events or any(each not in EVENTS for each in events):
        return "events"
    return None


def create_fault(asked: dict[str, Any], *, decimals: int) -> str | None:
    """The first field of a create that is not as section 4 says, but for its reference."""
    confirmed_later = asked.get("require_confirmation")
    email = asked.get("email")
    if not isinstance(email, str) or not _EMAIL.fullmatch(email):
        return "email"
    amount = asked.get("amount")
    if isinstance(amount, bool) or not isinstance(amount, int | Decimal):
        return "amount"
    if not 0 < amount <= AMOUNT_MAX or Decimal(amount) != round(Decimal(amount), decimals):
        return "amount"
    if asked.get("currency") not in CURRENCIES:
        return "currency"
    if not isinstance(confirmed_later, bool | None):
        return "require_confirmation"
    at = asked.get("available_at")
    if at is not None and (not confirmed_later or read_moment(at) is None):
        return "available_at"
    if not isinstance(asked.get("items"), list | None):
        return "items"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a ledger list is asked for; `before` and `after` are serial numbers."""

    page: int | None
    limit: int
    before: int | None
    after: int | None
    status: str | None
    date_from: float
    date_to: float

    def takes(self, invoice: Invoice) -> bool:
        # To the millisecond, as it is shown.
        created = round(invoice.created, 3)
        dated = self.date_from <= created <= self.date_to
        return dated and self.status in (None, invoice.status)


def read_list(asked: dict[str, str], *, size_max: int) -> Listing | str:
    """The listing, or the name of the argument that is wrong; names are those of section 7."""
    for name in ("page", "limit"):
        if not re.fullmatch(r"[1-9]\d{0,5}", asked.get(name, "1"), re.ASCII):
            return name
    places = {name: read_page_token(asked[name]) for name in ("prev", "next") if name in asked}
    for name, place in places.items():
        if place is None:
            return name
    page = None if places else int(asked.get("page", "1"))
    if page is not None and page > PAGE_MAX:
        return "page"
    first = read_bound(asked.get("date_from", "1970-01-01"), end=False)
    last = read_bound(asked.get("date_to", "9999-12-31"), end=True)
    if first is None or last is None:
        return "date_from" if first is None else "date_to"
    return Listing(
        page=page,
        # A higher limit than the highest is lowered without a word (our guess).
        limit=min(int(asked.get("limit", PAGE_SIZE)), size_max),
        before=places.get("prev"),
        after=places.get("next"),
        status=asked.get("status"),
        date_from=first,
        date_to=last,
    )


def read_page_token(token: str) -> int | None:
    """The serial number that a token stands for."""
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except ValueError:
        return None
    match = re.fullmatch(r"line (\d{1,12})", text, re.ASCII)
    return None if match is None else int(match[1])


def read_moment(value: Any) -> float | None:
    """Unix seconds of such a text; None if it is not one."""
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        return None


def read_bound(text: str, *, end: bool) -> float | None:
    """A date filter: a moment, or a day, whose end is the last of its milliseconds (our guess)."""
    if _DAY.fullmatch(text):
        text += "T23:59:59.999Z" if end else "T00:00:00.000Z"
    return read_moment(text)
