"""What Ecart Pay's answers and deliveries say, read and nothing else: payouts, lists, tokens,
signatures.

Pure functions. What cannot be read exactly is None, never a guess, and no beneficiary data gets
into a text that leaves this module.

Source: Ecart Pay payouts, adapter and simulator reference, sections 3 to 10; read 2026-11-21.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import simplejson

from workers.providers import wire
from workers.providers.port import Delivery, News, Order, Reply
from workers.providers.transport import Answer, Lost
from workers.record.money import Currency, Money
from workers.record.status import Outcome

# A payout is scheduled if it is available so much later than now: clocks of one house differ.
SCHEDULED_AFTER = timedelta(minutes=1)

# A payout, and what it says. Source: sections 4, 5 and 7.

# 24 hexadecimal digits in every sample; only what could leave its place in a path is refused.
_PAYOUT_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)


def payout_id(value: Any) -> str | None:
    """An id that can stand in a path."""
    return value if isinstance(value, str) and _PAYOUT_ID.fullmatch(value) else None


def read_payout(value: Any) -> wire.Json | None:
    """The payout object; None unless it has an id and a status."""
    facts = wire.members(value)
    return facts if payout_id(facts.get("id")) and wire.text(facts.get("status")) else None


def reply(
    facts: wire.Json,
    answer: Answer,
    order: Order,
    *,
    states: Mapping[str, Outcome],
    two_step: bool,
) -> Reply:
    """What a payout object says about its payout.

    Args:
        answer: what it came in; its `Date` tells a payout that is scheduled.
        states: the outcome of every known status.
        two_step: whether our payouts wait for our confirmation.
    """
    status = wire.word(facts["status"])
    outcome, warnings = states.get(facts["status"], Outcome.PROCESSING), []
    if facts["status"] not in states:
        warnings.append(f"unlisted status: {status}")
    if outcome is Outcome.CREATED:
        why = _does_not_wait_for_us(facts, answer, two_step=two_step)
        if why is not None:
            outcome = Outcome.PROCESSING
            warnings.append(f"{status}: {why}")
    currency = wire.currency_of(facts.get("currency"))
    fee, rate = wire.money(facts.get("fee"), currency), wire.number(facts.get("exchange"))
    warnings += _unexpected(facts, fee, rate)
    final = outcome in (Outcome.REFUSED, Outcome.RETURNED)
    reference_id = wire.text(facts.get("reference_id"))
    return Reply(
        outcome=outcome,
        provider_payout_id=facts["id"],
        status=status,
        code=status if final else None,
        reason=f"Ecart Pay says {status}" if final else None,
        # One that is cut is longer than any of ours, so it cannot be taken for ours.
        reference_id=reference_id[:256] if reference_id else None,
        amount=wire.money(facts.get("amount"), currency),
        differs=tuple(_differs(facts, currency, order)),
        fee=fee,
        exchange_rate=None if rate is None else format(rate, "f"),
        warning="; ".join(warnings) or None,
    )


def _does_not_wait_for_us(facts: wire.Json, answer: Answer, *, two_step: bool) -> str | None:
    """Why a pending payout is not ours to release; None: it waits for that. Source: section 5."""
    if _is_scheduled(facts, answer):
        return "it is scheduled for a later time"
    told = facts.get("require_confirmation")
    waits = told if isinstance(told, bool) else two_step
    if waits and not two_step:
        return "it waits for a confirmation, and two_step = false sends none"
    return None if waits else "it needs no confirmation, and is not paid yet"


def _is_scheduled(facts: wire.Json, answer: Answer) -> bool:
    """Whether it is released later by itself, told by the provider's own clocks."""
    available_at = _time(facts.get("available_at"))
    told = (_time(facts.get("created_at")), _time(facts.get("updated_at")), _date(answer))
    nows = [now for now in told if now is not None]
    if available_at is None or not nows:
        return False
    return available_at - max(nows) > SCHEDULED_AFTER


def _time(value: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


def _date(answer: Answer) -> datetime | None:
    try:
        at = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _unexpected(facts: wire.Json, fee: Money | None, rate: Decimal | None) -> Iterator[str]:
    """A fee or a rate that nobody reckoned with. Source: section 4."""
    if facts.get("fee") is not None and (fee is None or fee.minor):
        yield f"fee: {'cannot be read' if fee is None else fee.named()}, expected: none"
    if facts.get("exchange") is not None and rate != 1:
        told = "cannot be read" if rate is None else format(rate, "f")
        yield f"exchange: {told}, expected: 1"


def _differs(facts: wire.Json, currency: Currency | None, order: Order) -> Iterator[str]:
    """What the payout says that is not what was sent, but for reference and amount."""
    if facts.get("amount") is not None and wire.money(facts["amount"], currency) is None:
        told = f"{facts['amount']} {facts.get('currency')}"
        yield f"amount: {wire.masked(told, order, chars_max=wire.WORD_CHARS_MAX)} cannot be read"
    elif facts.get("amount") is None and facts.get("currency") not in (
        None, order.amount.currency.code
    ):  # fmt: skip
        yield f"currency: {wire.word(facts['currency'])}, sent: {order.amount.currency.code}"
    email, sent = wire.text(facts.get("email")), str(order.fields.get("email", ""))
    if email is not None and email.strip().casefold() != sent.strip().casefold():
        yield "fields.email: another one than was sent"


# Lists. Source: section 7.


def read_list(document: Any, *names: str) -> list[wire.Json] | None:
    """A bare array, or the one under the first of `names` that is there; None unless every item of
    it is an object.
    """
    if isinstance(document, dict):
        document = next((document[name] for name in names if name in document), None)
    if not isinstance(document, list) or not all(isinstance(item, dict) for item in document):
        return None
    return document


class Page(NamedTuple):
    """One page of the ledger."""

    entries: Sequence[wire.Json]
    # The token of the next page; None where none is told.
    following: str | None
    # Whether the page says that no other follows.
    last: bool

    def hits(self, names: Sequence[str], reference_id: str) -> list[wire.Json]:
        """The entries that carry the reference id in one of those members."""
        return [e for e in self.entries if any(e.get(name) == reference_id for name in names)]

    def all_tell(self, names: Sequence[str]) -> bool:
        """Whether every entry has one of those members, so that one without our reference id is
        not ours.
        """
        return all(any(name in entry for name in names) for entry in self.entries)

    def new(self, seen: set[str]) -> set[str]:
        """What no page before had."""
        return {str(entry.get("id", entry)) for entry in self.entries} - seen


def read_page(answer: Answer) -> Page | None:
    """One page of the ledger; None where it is none."""
    document = answer.json()
    entries = read_list(document, "data", "transactions")
    if entries is None:
        return None
    told = wire.members(document)
    last = "next_token" in told and not told["next_token"]
    return Page(entries, wire.text(told.get("next_token")), last)


def spendable(document: Any, path: str) -> dict[Currency, Money] | None:
    """What can be spent in every currency, rounded down to the minor unit; None where one of them
    cannot be read, or there is none. Source: section 8.

    Args:
        path: where an amount stands, such as `{currency}.available`.
    """
    outer, _, inner = path.partition("{currency}")
    found: dict[Currency, Money] = {}
    for code, told in wire.members(_at(document, outer)).items():
        currency = wire.currency_of(code)
        if currency is None:
            continue
        exact = wire.number(_at(told, inner))
        if exact is None:
            return None
        minor = exact.scaleb(currency.exponent).to_integral_value(ROUND_FLOOR)
        found[currency] = Money(int(minor), currency)
    return found or None


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = wire.members(value).get(name) if name else value
    return value


# Tokens. Source: section 3.

_HEADER_WORD = re.compile(r"[!-~]{1,8192}", re.ASCII)
# Seconds since 1970 of the year 9999's end.
_EPOCH_MAX = 253_402_300_799


def read_token(cause: Answer | Lost) -> str | None:
    """The access token, if the answer has one that can stand in a header."""
    if isinstance(cause, Lost) or not 200 <= cause.status < 300:
        return None
    token = wire.members(cause.json()).get("token")
    return token if isinstance(token, str) and _HEADER_WORD.fullmatch(token) else None


def ends_at(token: str) -> datetime | None:
    """The end that a JWT tells of itself; None where it cannot be read."""
    try:
        claims = wire.read_json(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    except (ValueError, IndexError):
        return None
    end = wire.number(wire.members(claims).get("exp"))
    if end is None or not 0 <= end <= _EPOCH_MAX:
        return None
    return datetime.fromtimestamp(int(end), UTC)


# Webhooks. Source: section 9.

# Events of other parts of the platform. None is named for payouts, so any other one is looked at.
_NOT_PAYOUTS = re.compile(r"(billings?|billing_information|subscription|orders|withdrawals)\.")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BLANKS = re.compile(r"[ \t\r\n]*")
_decoder = json.JSONDecoder()


def verifies(delivery: Delivery, secret: str, *, scope: str, age_s_max: float) -> bool:
    """Whether the account's secret signed the delivery, and lately."""
    stamp = delivery.headers.get("x-pay-timestamp", "").strip()
    hook = delivery.headers.get("x-pay-webhook-id", "").strip()
    given = delivery.headers.get("x-pay-signature", "").strip().lower().removeprefix("sha256=")
    if not re.fullmatch(r"[0-9]{1,14}", stamp, re.ASCII):
        return False
    age = delivery.received_at - (_EPOCH + timedelta(milliseconds=int(stamp)))
    if abs(age) > timedelta(seconds=age_s_max):
        return False
    start = f"{stamp}.{hook}.".encode(errors="replace")
    right = False
    for signed in _signed(delivery.body, scope):
        digest = hmac.new(secret.encode(), start + signed, hashlib.sha256).hexdigest()
        right |= hmac.compare_digest(digest.encode(), given.encode(errors="replace"))
    return right


def _signed(body: bytes, scope: str) -> Iterator[bytes]:
    """What may have been signed: the data member, the body, or both, as it came and as JavaScript
    would write it.
    """
    wholes = {"data": (_data(body),), "body": (body,), "both": (_data(body), body)}
    for whole in wholes[scope]:
        if whole is not None:
            yield whole
            written = _as_javascript(whole)
            if written is not None and written != whole:
                yield written


def _data(body: bytes) -> bytes | None:
    """The bytes of the object's data member as they came; None unless it has exactly one."""
    found: list[str] = []
    try:
        text = body.decode()
        at = _skip(text, 0)
        if text[at : at + 1] != "{":
            return None
        while True:
            key, at = _decoder.raw_decode(text, _skip(text, at + 1))
            at = _skip(text, at)
            if not isinstance(key, str) or text[at : at + 1] != ":":
                return None
            start = _skip(text, at + 1)
            _, end = _decoder.raw_decode(text, start)
            if key == "data":
                found.append(text[start:end])
            at = _skip(text, end)
            if text[at : at + 1] != ",":
                break
    except (ValueError, RecursionError):
        return None
    ended = text[at : at + 1] == "}" and _skip(text, at + 1) == len(text)
    return found[0].encode() if ended and len(found) == 1 else None


def _skip(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    return blanks.end() if blanks else at


def _as_javascript(document: bytes) -> bytes | None:
    """The document as JSON.stringify writes it: no blanks, keys in order, letters as they are, and
    10.0 as 10.
    """
    try:
        value = json.loads(document, parse_float=_short)
        written = simplejson.dumps(
            value, use_decimal=True, separators=(",", ":"), ensure_ascii=False
        )
        return written.encode()
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _short(number: str) -> Decimal:
    exact = Decimal(number)
    # Outside this range JavaScript writes an exponent too.
    return Decimal(format(exact.normalize(), "f")) if -7 <= exact.adjusted() < 21 else exact


def news(delivery: Delivery) -> Sequence[News]:
    """What a verified delivery is about; empty where no payout of ours can be meant."""
    document = wire.members(wire.read_json(delivery.body))
    event, data = wire.text(document.get("event")) or "", wire.members(document.get("data"))
    found, reference_id = payout_id(data.get("id")), wire.text(data.get("reference_id"))
    if _NOT_PAYOUTS.match(event) or not (found or reference_id):
        return []
    hook = delivery.headers.get("x-pay-webhook-id", "").strip()
    key = f"{hook}:{event}:{found or reference_id}"
    return [News(provider_payout_id=found, reference_id=reference_id, key=key)]
