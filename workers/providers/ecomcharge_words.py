"""eComCharge's words as ours: its statuses, codes and amounts, and the reading of its payouts.

Pure functions of what was received. What cannot be read exactly is never guessed, a failure that
may be about money already paid is never called one, and no beneficiary data gets into a text that
leaves this module.

Source: eComCharge payout API facts, sections 3 to 7 and part B; read 2026-11-21.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from workers.providers import wire
from workers.providers.ecomcharge_config import EComChargeConfig, flat
from workers.providers.port import Order, Reply
from workers.providers.transport import Answer
from workers.record.money import Currency, Money
from workers.record.status import Outcome

PROVIDER = "eComCharge"
# The most that a list by tracking id holds. Source: section 4.2 and part B.
LIST_MAX: Mapping[str, int] = {"beyag": 100, "cards": 10}

# Source: section 5. The words beside an outcome are its warning for a person.
STATES: Mapping[str, tuple[Outcome, str]] = {
    "successful": (Outcome.PAID, ""),
    "failed": (Outcome.REFUSED, ""),
    "pending": (Outcome.PROCESSING, ""),
    "initial": (Outcome.PROCESSING, ""),
    "incomplete": (Outcome.PROCESSING, "it waits for a further step, such as 3-D Secure"),
    "expired": (Outcome.REFUSED, ""),
    # With an id it was stored all the same, so it is read on.
    "error": (Outcome.PROCESSING, "the provider calls it an error, but has stored it"),
    "deleted": (Outcome.REFUSED, "it was removed over the provider's API"),
}
# Words for a failure in a gateway's own part, `payout.status`, of a transaction that failed.
LEG_FAILED = frozenset({"error", "declined", "rejected", "canceled", "cancelled"})


class Means(StrEnum):
    """What a code says of a payout."""

    DONE = "done"
    # Nothing is decided, whatever the status.
    OPEN = "still open"
    # Another payout like it is known: money may have moved under that one.
    DUPLICATE = "the provider takes it for a duplicate of another one"
    # The order is not there: a payout that has it failed; an answer without one decides nothing.
    ABSENT = "the order was not found"
    FUNDS = "the account at the provider has too little money"
    SETUP = "the shop is not set up for it"
    RECIPIENT = "the beneficiary's account or card is wrong, blocked or expired"
    TEMPORARY = "a temporary fault at the provider or a bank"
    LASTING = "a lasting fault at the provider or a bank"
    LIMIT = "a limit is exceeded"
    INVALID = "the request's values are not valid"
    REFUSED = "refused by the provider or a bank"


_CODES = {
    Means.DONE: "S.0000",
    Means.OPEN: "P.0001 P.9999 F.1000",
    Means.DUPLICATE: "F.0108 F.0135",
    Means.ABSENT: "F.0110",
    Means.FUNDS: "F.0114",
    Means.SETUP: "F.0102 F.0103 F.0104 F.0106 F.0107 F.0113 F.0128 E.1065",
    Means.RECIPIENT: "F.0100 F.0101 F.0111 F.0126 F.0127 F.0133",
    Means.TEMPORARY: "F.0117 F.0119 F.0121",
    Means.LASTING: "F.0118 F.0120 F.0122",
    Means.LIMIT: "F.0123 F.0124 F.0125",
    Means.INVALID: "E.0625 E.1025",
    Means.REFUSED: "F.0105 F.0109 F.0115 F.0116 F.0132 F.0223 F.0996 F.0997 F.0998 F.0999",
}
# Source: section 6.
CODES: Mapping[str, Means] = {
    code: means for means, codes in _CODES.items() for code in codes.split()
}


# Money. Source: section 3.


def to_theirs(amount: Money, decimals: Mapping[str, int]) -> int | None:
    """The amount in the platform's minor units; None where it has no exact one."""
    theirs = decimals.get(amount.currency.code)
    if theirs is None:
        return None
    shift = theirs - amount.currency.exponent
    whole, rest = _shifted(amount.minor, shift)
    return None if rest else whole


def to_ours(value: Any, currency: Currency | None, decimals: Mapping[str, int]) -> Money | None:
    """The platform's minor units as an amount; None where there is no exact one."""
    exact = wire.number(value)
    if exact is None or currency is None or currency.code not in decimals:
        return None
    whole, rest = _shifted(int(exact), currency.exponent - decimals[currency.code])
    return None if rest or exact != int(exact) else Money(whole, currency)


def spendable(value: Any, currency: Currency, decimals: Mapping[str, int]) -> Money | None:
    """As `to_ours`, rounded down to our minor unit."""
    exact = wire.number(value)
    if exact is None or exact != int(exact):
        return None
    return Money(_shifted(int(exact), currency.exponent - decimals[currency.code])[0], currency)


def _shifted(minor: int, places: int) -> tuple[int, int]:
    return (minor * 10**places, 0) if places >= 0 else divmod(minor, 10**-places)


# Answers about payouts. Source: sections 4.1, 4.2 and part B.

_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)


def uid_of(told: wire.Json) -> str | None:
    """The platform's id of what is told."""
    found = told.get("uid")
    return found if isinstance(found, str) and _UID.fullmatch(found) else None


def entries(document: Any) -> list[wire.Json] | None:
    """What an answer tells of, in any of its shapes: nested, a list under a name, a bare list, or
    flat; None where it is none of these.
    """
    if isinstance(document, dict):
        if isinstance(document.get("transaction"), dict):
            around = ("form", "code", "message", "friendly_message")
            outer = {name: document[name] for name in around if name in document}
            return [{**outer, **document["transaction"]}]
        if "uid" in document:
            return [document]
        document = document.get("transactions")
    if not isinstance(document, list):
        return None
    items = [wire.members(item) for item in document]
    return [wire.members(item["transaction"]) if "transaction" in item else item for item in items]


def type_of(told: wire.Json) -> str | None:
    """What kind of transaction it is, in lower case; None where it does not say."""
    value = told.get("type")
    return None if value is None else str(value).lower()


def one(document: Any) -> wire.Json | None:
    """The one payout that an answer is about; None unless it has an id."""
    found = entries(document)
    return found[0] if found and len(found) == 1 and uid_of(found[0]) else None


def word(value: Any, order: Order | None) -> str | None:
    """A status, code or other short value, safe to keep and to show; None where there is none."""
    if value is None or value == "":
        return None
    if not isinstance(value, str | int | Decimal):
        return "neither text nor a number"
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return wire.masked(shown, order, chars_max=wire.WORD_CHARS_MAX) or None


def reply(told: wire.Json, config: EComChargeConfig, order: Order | None = None) -> Reply:
    """What the platform tells of a payout that it has."""
    amount = to_ours(
        told.get("amount"), wire.currency_of(told.get("currency")), config.currency_decimals
    )
    state = _state(told, config, order)
    base = Reply(
        outcome=state.outcome,
        provider_payout_id=uid_of(told),
        status=word(told.get("status"), order),
        reference_id=_tracking_id(told),
        amount=amount,
        differs=(
            *differences(told, amount, config, order),
            *state.differs,
            *_echo(told, config, order),
        ),
        warning="; ".join(state.warnings) or None,
    )
    if state.outcome is Outcome.REFUSED:
        return _failed(base, told, config, order)
    code = told.get("code")
    if state.outcome is Outcome.PAID and code is not None and means_of(code) is not Means.DONE:
        return _warned(base, f"code: {word(code, order)}")
    return base


def means_of(code: Any) -> Means | None:
    """What a code says; None where no table lists it."""
    return CODES.get(code) if isinstance(code, str) else None


def _tracking_id(told: wire.Json) -> str | None:
    value = told.get("tracking_id")
    # One that is cut is longer than any of ours, so it cannot be taken for ours.
    return value[:256] if isinstance(value, str) else None


class _State(NamedTuple):
    outcome: Outcome
    warnings: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()


def _outcome(status: str, config: EComChargeConfig, order: Order | None) -> tuple[Outcome, str]:
    name = status.lower()
    if name in config.statuses:
        return Outcome(config.statuses[name]), ""
    return STATES.get(name, (Outcome.PROCESSING, f"unlisted status: {word(status, order)}"))


def _state(told: wire.Json, config: EComChargeConfig, order: Order | None) -> _State:
    """The status decides; where the gateway's own says otherwise, the payout is open as long as
    one of them is. Source: sections 4.1 and 5.
    """
    status = wire.text(told.get("status"))
    if status is None:
        return _State(Outcome.PROCESSING, ("the answer has no status",))
    outcome, warning = _outcome(status, config, order)
    warnings = [warning]
    differs: tuple[str, ...] = ()
    leg = wire.text(wire.members(told.get("payout")).get("status"))
    if leg is not None and leg.lower() != status.lower():
        other, warning = _outcome(leg, config, order)
        name = leg.lower()
        if outcome is Outcome.REFUSED and name in LEG_FAILED and name not in config.statuses:
            other, warning = Outcome.REFUSED, ""
        warnings.append(warning)
        if Outcome.PROCESSING in (outcome, other):
            outcome = Outcome.PROCESSING
        elif other is not outcome:
            differs = (f"status: {word(status, order)}, payout.status: {word(leg, order)}",)
    if told.get("form") and outcome is Outcome.PROCESSING:
        warnings.append("it waits for a form in a browser, which no worker can fill in")
    if told.get("manually_corrected_at"):
        warnings.append("it was corrected by hand at the provider")
    return _State(outcome, tuple(dict.fromkeys(filter(None, warnings))), differs)


def _failed(base: Reply, told: wire.Json, config: EComChargeConfig, order: Order | None) -> Reply:
    """Why a payout failed, and whether that is this payout's own matter. Source: section 6."""
    means, code = means_of(told.get("code")), word(told.get("code"), order)
    leg = wire.members(told.get("payout"))
    words = (told.get("friendly_message"), told.get("message"), leg.get("message"))
    reason = wire.masked("; ".join(dict.fromkeys(filter(None, map(wire.text, words)))), order)
    if means in (Means.OPEN, Means.DONE):
        still_open = replace(base, outcome=Outcome.PROCESSING)
        return _warned(still_open, f"says {base.status}, but its code is {code}")
    if means is None and code is not None:
        base = _warned(base, f"unlisted code: {code}")
    if means is Means.DUPLICATE or holds(reason, config.duplicate_words):
        # It may be our own payout that the provider knows already: failing this one by itself
        # would invite a second payment.
        told_as = f"says {base.status} as a duplicate: {code or reason}"
        base = replace(base, differs=(*base.differs, told_as))
    reason = reason or str(means or "")
    low = means is Means.FUNDS or holds(reason, config.low_balance_words)
    blames = low or means is Means.SETUP
    return replace(
        base,
        code=code or base.status,
        reason=reason or f"says {base.status}",
        account_fault=f"{PROVIDER} refuses: {named(code, reason)}" if blames else None,
        low_balance=low,
    )


def _warned(base: Reply, warning: str) -> Reply:
    return replace(base, warning="; ".join(filter(None, (base.warning, warning))))


def named(code: str | None, reason: str) -> str:
    return ": ".join(filter(None, (code, reason)))


def holds(words: str, wanted: Sequence[str]) -> bool:
    return any(part.lower() in words.lower() for part in wanted)


def differences(
    told: wire.Json, amount: Money | None, config: EComChargeConfig, order: Order | None = None
) -> Iterator[str]:
    """What is told that is not what was sent, but for reference and amount."""
    currency = told.get("currency")
    if told.get("amount") is None:
        if order is not None and currency not in (None, order.amount.currency.code):
            yield f"currency: {word(currency, order)}, sent: {order.amount.currency}"
    elif amount is None:
        shown = f"{word(told['amount'], order)} {word(currency, order)}"
        yield f"amount: {shown} cannot be read exactly"
    mode = told.get("test")
    if mode is not None and mode != config.test_mode:
        yield f"test: {word(mode, order)}, sent: {str(config.test_mode).lower()}"
    if type_of(told) not in (None, "payout"):
        yield f"type: {word(told['type'], order)}, sent: payout"


def _echo(told: wire.Json, config: EComChargeConfig, order: Order | None) -> Iterator[str]:
    """What the answer repeats of the order, and repeats otherwise; values are never told.

    Source: section 4.1; `phone` may come back as a number.
    """
    if order is None or not config.compares_echo:
        return
    method = told.get("method_type")
    if config.api == "beyag" and method not in (None, order.service):
        yield f"method_type: {word(method, order)}, sent: {order.service}"
    repeated = {**wire.members(told.get("customer")), **wire.members(told.get("billing_address"))}
    for name, sent in flat(order.customer):
        shown = repeated.get(name)
        given = isinstance(shown, str | int) and shown not in ("", False, True)
        # A number has lost its leading zeros.
        zeros = "" if isinstance(shown, str) else "0"
        same = _bare(str(shown)).lstrip(zeros) == _bare(str(sent)).lstrip(zeros)
        if given and "*" not in str(shown) and not same:
            yield f"customer.{name}: another value than was sent"


def _bare(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


# Looked up by our reference id. Source: section 4.2.


def from_list(answer: Answer, order: Order, config: EComChargeConfig) -> Reply:
    """What a list by tracking id says: the one payout that did not fail is ours."""
    document = answer.json()
    listed = entries(document)
    outer = wire.members(document)
    if outer.get("errors") or wire.members(outer.get("response")).get("errors"):
        return wire.unknown(answer, "the answer tells of errors")
    if listed is None:
        return wire.unknown(answer, "the answer is not a list of payouts")
    if any(map(_unreadable, listed)):
        return wire.unknown(answer, "a payout of the list cannot be read")
    ours = [told for told in listed if told.get("tracking_id") == order.reference_id]
    hits = {uid_of(told): told for told in ours if type_of(told) in (None, "payout")}
    found = _from_hits(list(hits.values()), order, config) if hits else None
    known = (None, "payout", *config.payment_types)
    strange = any(type_of(told) not in known for told in ours)
    if strange and (found is None or found.outcome is Outcome.REFUSED):
        return wire.unknown(answer, "a transaction of an unlisted type carries this reference id")
    if found is not None:
        return found
    # Absence is proven only by a whole list of what was asked for.
    if len(ours) < len(listed):
        return wire.unknown(answer, "the list holds what was not asked for")
    if len(listed) >= LIST_MAX[config.api]:
        full = wire.unknown(answer, "the list is full, and the payout may be beyond its end")
        return replace(full, retry_after_s=wire.TOO_LONG_WAIT_S)
    return Reply(outcome=Outcome.NOT_FOUND)


def _unreadable(told: wire.Json) -> bool:
    """Whether this may be a payout of ours and cannot be told; payments are listed too."""
    if type_of(told) not in (None, "payout"):
        return False
    # Without a type, only a payout's own member tells it from a payment.
    typed = told.get("type") is not None or isinstance(told.get("payout"), dict)
    return not (typed and uid_of(told) and wire.text(told.get("tracking_id")))


def _from_hits(hits: list[wire.Json], order: Order, config: EComChargeConfig) -> Reply:
    # Times of one platform sort as text; sorting is stable, and the list is newest first.
    newest_first = sorted(hits, key=lambda told: str(told.get("created_at") or ""), reverse=True)
    replies = [reply(told, config, order) for told in newest_first]
    alive = [found for found in replies if found.outcome is not Outcome.REFUSED]
    if len(alive) < 2:
        return (alive or replies)[0]
    differs = f"{len(alive)} payouts that did not fail carry this reference id"
    return Reply(
        outcome=Outcome.EXISTS,
        reason=differs,
        reference_id=order.reference_id,
        differs=(differs,),
    )
