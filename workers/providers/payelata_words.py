"""Payelata's words as ours: the tables of its statuses and resolutions, and the reading of its
answers.

Pure functions of what was received. What cannot be read exactly is never guessed: it is None, or
told as something that differs. No beneficiary data gets into a text that leaves this module.

Source: Payelata API facts, sections 3 to 7 and 9; read 2026-11-21.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from workers.providers import wire
from workers.providers.port import Order, Reply
from workers.providers.transport import Answer
from workers.record.money import Currency, Money
from workers.record.status import Outcome

# Source: Payelata API facts, section 5. The words beside an outcome are its warning for a person.
STATES: Mapping[str, tuple[Outcome, str]] = {
    "created": (Outcome.CREATED, ""),
    "processing": (Outcome.PROCESSING, ""),
    "process_pending": (Outcome.PROCESSING, ""),
    "process_error": (Outcome.PROCESSING, "unexpected error at the provider, still open"),
    "processed": (Outcome.PAID, ""),
    "partially_processed": (Outcome.PARTLY_PAID, ""),
    "process_failed": (Outcome.REFUSED, ""),
    "expired": (Outcome.REFUSED, ""),
    "terminated": (Outcome.REFUSED, ""),
    # A reversal that is under way may still fail: the money is with the beneficiary until it ended.
    "canceling": (Outcome.PAID, "a reversal is under way"),
    "cancel_pending": (Outcome.PAID, "a reversal was tried and its result is not known"),
    "cancel_error": (Outcome.PAID, "a reversal met a technical fault and is still open"),
    "canceled": (Outcome.RETURNED, ""),
    "partially_canceled": (Outcome.PAID, "a part of the money came back"),
    "cancel_failed": (Outcome.PAID, ""),
}

# Why a final status is what it is, where the resolution does not say it. Source: section 5.
STATUS_REASONS: Mapping[str, str] = {
    "process_failed": "the payout failed and the provider's attempts are used up",
    "expired": "the payout's time ran out before it was paid",
    "terminated": "the payout was cancelled at the provider before it was processed",
    "partially_processed": "less than ordered was paid",
    "canceled": "the payout was reversed in full and the amount came back",
}


class Resolution(NamedTuple):
    """Whose matter a resolution is, and what it says to whoever reads the results."""

    group: str
    words: str


# Source: Payelata API facts, section 5.1. Documented in upper case for the low-level payout and in
# lower case on invoices; compared in lower case (inferred).
RESOLUTIONS: Mapping[str, Resolution] = {
    "ok": Resolution("ok", ""),
    "connection_error": Resolution("not decided", "the paying bank could not be reached"),
    "provider_internal_error": Resolution("not decided", "the paying bank had an internal error"),
    "connection_timeout_error": Resolution("not decided", "the paying bank did not answer in time"),
    "general_error": Resolution("not decided", "an error of the paying bank without details"),
    "unknown": Resolution("not decided", "the paying bank gave no clear answer"),
    "invalid_details": Resolution("recipient", "the beneficiary's details are not valid"),
    "recipient_not_found": Resolution("recipient", "the beneficiary's account was not found"),
    "invalid_recipient": Resolution("recipient", "the beneficiary's account cannot be paid to"),
    "invalid_amount": Resolution("recipient", "the amount is not accepted"),
    "invalid_method": Resolution("recipient", "this way of paying is not accepted"),
    "limit_violation": Resolution("recipient", "a limit of the service or beneficiary is exceeded"),
    "insufficient_funds": Resolution("funds", "the account at the provider has too little money"),
    "invalid_credentials": Resolution("setup", "the provider's access to the bank is set up wrong"),
    "forbidden_ip": Resolution("setup", "an IP address is not on the white list"),
    "signature_error": Resolution("setup", "a signature between provider and bank is wrong"),
    "access_error": Resolution("setup", "access to the service was refused"),
    "access_denied": Resolution("setup", "access to the service was denied"),
    "invalid_request": Resolution("setup", "the provider's request to the bank was not valid"),
    "request_error": Resolution("setup", "the provider's request to the bank failed"),
    "duplicated_id": Resolution("duplicate", "the bank has seen this payout's id before"),
    "antifraud_error": Resolution("refused", "stopped by the provider's fraud checks"),
    "declined_error": Resolution("refused", "declined by the paying bank"),
    "general_fatal_error": Resolution("refused", "refused for good, without details"),
    "internal_error": Resolution("refused", "refused after an internal error at the provider"),
    "operation_expired": Resolution("refused", "the operation's time ran out"),
    "processing_error": Resolution("refused", "refused while it was being processed"),
}


def spendable(account: Any, currency: Currency, *, overdraft: bool) -> Money | None:
    """What one currency's account can pay out, rounded down to the minor unit; None where it cannot
    be read.

    Source: Payelata API facts, section 4.1; what adds up to it is inferred there.
    """
    told = wire.members(account)
    active, lower = (
        wire.number(told.get("active_balance")),
        wire.number(told.get("balance_lower_limit")),
    )
    if active is None or (lower is None and told.get("balance_lower_limit") is not None):
        return None
    credit = wire.number(told.get("overdraft_limit")) if overdraft else None
    exact = (active + (credit or Decimal(0)) - (lower or Decimal(0))).scaleb(currency.exponent)
    return Money(int(exact.to_integral_value(ROUND_FLOOR)), currency)


# An invoice, and what it says.

_PAYOUT_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Invoice:
    """One payout as the private API shows it."""

    id: str
    status: str
    attributes: wire.Json
    # The service's code, where the answer names it.
    services: tuple[str, ...]

    @property
    def reference_id(self) -> str | None:
        value = self.attributes.get("reference_id")
        # One that is cut is longer than any of ours, so it cannot be taken for ours.
        return value[:256] if isinstance(value, str) else None


def payout_id(data: Any) -> str | None:
    """The id of a payout's resource object; None for a resource of another kind."""
    resource = wire.members(data)
    # Requests say payout-invoice and answers payout-invoices. Source: section 4.4.
    if resource.get("type") not in ("payout-invoice", "payout-invoices"):
        return None
    found = resource.get("id")
    return found if isinstance(found, str) and _PAYOUT_ID.fullmatch(found) else None


def read_invoice(data: Any) -> Invoice | None:
    """The invoice in a resource object; None unless it has an id and a status.

    Source: Payelata API facts, section 4.4.
    """
    found = payout_id(data)
    attributes = wire.members(wire.members(data).get("attributes"))
    status = wire.text(attributes.get("status"))
    if found is None or status is None:
        return None
    related = wire.members(
        wire.members(wire.members(data).get("relationships")).get("payout-service")
    )
    named = (
        wire.text(wire.members(related.get("data")).get("id")),
        wire.text(attributes.get("service")),
    )
    return Invoice(found, status, attributes, tuple(name for name in named if name))


def read_document(answer: Answer) -> Invoice | None:
    """The one invoice that an answer holds; None where it holds errors or anything else."""
    document = wire.members(answer.json())
    return None if document.get("errors") else read_invoice(document.get("data"))


def reply(
    invoice: Invoice, *, test_mode: bool, order: Order | None = None, echo: bool = True
) -> Reply:
    """What an invoice says about its payout: the status decides, the resolution explains.

    Args:
        test_mode: the account's mode, which the invoice's has to be.
        order: what was sent; None where it is not known, as in a list.
        echo: what the invoice repeats of the description, fields and metadata is compared too.
    """
    facts = invoice.attributes
    currency = wire.currency_of(facts.get("currency"))
    amount = wire.money(facts.get("amount"), currency)
    processed = wire.money(facts.get("processed_amount"), currency)
    # The fee to expect stands in `fee`, the one that was taken in `processed_fee`. Source: 4.4.
    fee = wire.money(facts.get("processed_fee"), currency)
    rate = wire.number(facts.get("exchange_rate"))
    outcome, warning = STATES.get(invoice.status, (Outcome.PROCESSING, "unlisted status"))
    if invoice.status == "partially_canceled":
        warning += f": {_part(processed, amount)}"
    warnings = [f"{warning}: {wire.word(invoice.status)}"] if warning else []
    explained = _explained(invoice, outcome)
    return Reply(
        outcome=outcome,
        provider_payout_id=invoice.id,
        status=wire.word(invoice.status),
        code=explained.code,
        reason=_reason(invoice.status, explained.reason, processed, amount),
        reference_id=invoice.reference_id,
        amount=amount,
        differs=(*_differs(invoice, amount, test_mode, order, echo=echo), *explained.differs),
        fee=fee if fee and fee.minor else wire.money(facts.get("fee"), currency),
        processed=processed,
        exchange_rate=None if rate is None else format(rate, "f"),
        account_fault=explained.account_fault,
        low_balance=explained.low_balance,
        warning="; ".join([*warnings, *explained.warnings]) or None,
    )


def _part(processed: Money | None, amount: Money | None) -> str:
    told = "an amount that is not told" if processed is None else processed.named()
    return f"{told} of {'an amount not told' if amount is None else amount.named()} was processed"


def _reason(
    status: str, explained: str | None, processed: Money | None, amount: Money | None
) -> str | None:
    if status == "partially_processed":
        return f"{STATUS_REASONS[status]}: {_part(processed, amount)}"
    return explained or STATUS_REASONS.get(status)


class _Explained(NamedTuple):
    """What the resolution adds to the outcome that the status decided."""

    code: str | None = None
    reason: str | None = None
    account_fault: str | None = None
    low_balance: bool = False
    differs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def _explained(invoice: Invoice, outcome: Outcome) -> _Explained:
    """Source: Payelata API facts, section 5.1."""
    code = wire.word(invoice.attributes.get("resolution"))
    if code is None or code.lower() == "ok":
        # A refusal always has a code; where no resolution gives it, the status does.
        return _Explained(code=wire.word(invoice.status) if outcome is Outcome.REFUSED else None)
    group, words = RESOLUTIONS.get(code.lower(), ("", "unlisted resolution, see its code"))
    warnings = () if group else (f"unlisted resolution: {code}",)
    if group == "duplicate":
        warnings = (f"{code}: a person should ask the provider whether the payout was paid before",)
    if outcome in (Outcome.CREATED, Outcome.PAID):
        # Nothing failed, so there is no failure to explain; a person may want to know it still.
        return _Explained(warnings=warnings or (f"resolution: {code}",))
    if outcome is not Outcome.REFUSED:
        # It may tell of an earlier attempt of the provider's: no reason to stop the account.
        return _Explained(code, words, warnings=warnings)
    return _Explained(
        code,
        words,
        account_fault=f"{code}: {words}" if group in ("funds", "setup") else None,
        low_balance=group == "funds",
        # Money may have moved under the id that the bank saw before: failing it by itself would
        # invite a second payment.
        differs=(f"resolution: {code}, {words}",) if group == "duplicate" else (),
        warnings=warnings,
    )


def _differs(
    invoice: Invoice, amount: Money | None, test_mode: bool, order: Order | None, *, echo: bool
) -> tuple[str, ...]:
    """What the invoice says that is not what was sent, but for reference and amount."""
    facts, found = invoice.attributes, []
    if amount is None and facts.get("amount") is not None:
        told = f"{facts['amount']} {facts.get('currency')}"
        found.append(
            f"amount: {wire.masked(told, chars_max=wire.WORD_CHARS_MAX)} cannot be read exactly"
        )
    mode = facts.get("test_mode")
    # `1` equals True and `0` False, as PHP may write them.
    if mode is not None and mode != test_mode:
        found.append(f"test_mode: {wire.word(str(mode).lower())}, sent: {str(test_mode).lower()}")
    for service in dict.fromkeys(invoice.services):
        if order is not None and service != order.service:
            found.append(f"service: {wire.word(service)}, sent: {order.service}")
    if echo and order is not None:
        found += _echoed_otherwise(facts, order)
    return tuple(found)


def _echoed_otherwise(facts: wire.Json, order: Order) -> Iterator[str]:
    """What the invoice repeats of the order, and repeats otherwise: it is another payout then.

    Fields come back masked in an unknown way (section 4.4 shows cards), so only what is visible at
    their ends is compared; values are never told.
    """
    told = wire.text(facts.get("description"))
    if told and order.description and not order.description.startswith(told):
        yield "description: another one than was sent"
    fields = wire.members(facts.get("fields"))
    for name, sent in order.fields.items():
        shown = wire.text(fields.get(name))
        if shown is None:
            continue
        start, star, rest = shown.partition("*")
        end = rest.rpartition("*")[2]
        same = str(sent).startswith(start) and str(sent).endswith(end) if star else shown == sent
        if not same:
            yield f"fields.{name}: another value than was sent"
    metadata = wire.members(facts.get("metadata"))
    for name, sent in order.metadata.items():
        shown = wire.text(metadata.get(name))
        if shown is not None and shown != str(sent):
            yield f"metadata.{name}: another value than was sent"


# The list of payouts.


class Page(NamedTuple):
    """One page of the list of payouts."""

    items: Sequence[Invoice]
    # The query of the next page; None at the end.
    following: Mapping[str, str] | None

    def new(self, seen: set[str]) -> set[str]:
        """The ids that no page before had."""
        return {item.id for item in self.items} - seen


def query(link: Any) -> dict[str, str]:
    """A link's query alone: its host and path are never followed. Source: sections 1 and 4.7."""
    try:
        return dict(parse_qsl(urlsplit(link).query)) if isinstance(link, str) else {}
    except ValueError:
        return {}


def read_page(
    answer: Answer, params: Mapping[str, str], *, cursor_parameter: str, size_default: int
) -> Page | None:
    """One page of the list of payouts; None unless every item of it can be read."""
    document = wire.members(answer.json())
    data, meta = document.get("data"), wire.members(document.get("meta"))
    if not isinstance(data, list) or document.get("errors"):
        return None
    items = [read_invoice(item) for item in data]
    read = [item for item in items if item and "reference_id" in item.attributes]
    count, size = meta.get("count"), meta.get("size")
    # An empty page that counts payouts contradicts itself.
    if len(read) < len(data) or (not data and isinstance(count, int) and count > 0):
        return None
    following = query(wire.members(document.get("links")).get("next"))
    page_size = size if isinstance(size, int) and size > 0 else size_default
    if not following and read and len(read) >= page_size:
        after = wire.text(meta.get("after")) or read[-1].id
        following = {**params, cursor_parameter: after}
    return Page(read, following or None)
