"""Whether a chunk of rows is free of faults, told column by column: most chunks of most files are.

It only ever says yes: of a chunk that it cannot vouch for as a whole, each row is checked by
itself, by the rules in `batches.rules`, and those alone say what is wrong. So a "no" too many here
costs time, and a "yes" too many would be a fault unseen: the tests compare the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import repeat

from batches.rules import PATTERN_CHARS_MAX, Match, Plan
from workers.errors import MoneyError
from workers.providers.port import Service
from workers.record.money import MINOR_DIGITS_MAX, Currency, Money

Columns = Mapping[str, Sequence[str]]
# Texts of a column that differ, each once: a service or a kind of account is one of a few.
Distinct = Mapping[str, set[str]]


def amounts_of(
    columns: Columns, distinct: Distinct, plan: Plan, *, description_chars_max: int
) -> Sequence[int] | None:
    """The amounts in minor units of a chunk whose rows all have that plan and no fault; None: at
    least one may have a fault.
    """
    if plan.flaws or plan.currency is None or plan.rules is None or plan.outer_rules:
        return None
    if plan.needs_customer_reference and any(name.startswith("customer.") for name in columns):
        return None
    if plan.reference is None or not _all_match(columns["reference_id"], plan.reference):
        return None
    if any(distinct.get("replaces", ())):
        return None
    if max(map(len, distinct.get("description", ("",)))) > description_chars_max:
        return None
    if not _fields_fit(columns, distinct, plan):
        return None
    minors = _minors(columns["amount"], plan.currency)
    if minors is None or not _within(minors, plan):
        return None
    return minors


def fees_of(service: Service | None, minors: Iterable[int], currency: Currency) -> Iterable[Money]:
    """The fee to expect for each amount."""
    if service is None:
        return repeat(Money(0, currency))
    if not service.fee_rate:
        # It does not depend on the amount.
        return repeat(service.fee(Money(0, currency)))
    return (service.fee(Money(minor, currency)) for minor in minors)


def _fields_fit(columns: Columns, distinct: Distinct, plan: Plan) -> bool:
    known = set()
    for name, required, match in plan.rules or ():
        column = f"fields.{name}"
        known.add(column)
        found = distinct.get(column)
        if found is None or "" in found:
            if required:
                return False
            found = (found or set()) - {""}
        if match is None or not found:
            continue
        if max(map(len, found)) > PATTERN_CHARS_MAX or not _all_match(found, match):
            return False
    others = (name for name in columns if name.startswith("fields.") and name not in known)
    return not any(distinct[name] != {""} for name in others)


def _minors(texts: Sequence[str], currency: Currency) -> Sequence[int] | None:
    if _all_match(texts, _exact(currency.exponent)):
        # Written with all the currency's decimals: without the point they are minor units.
        return [int(text.replace(".", "")) for text in texts]
    try:
        return [Money.parse(text, currency).minor for text in texts]
    except MoneyError:
        return None


@lru_cache(8)
def _exact(exponent: int) -> Match:
    whole = f"(?:0|[1-9][0-9]{{0,{MINOR_DIGITS_MAX - exponent - 1}}})"
    decimals = rf"\.[0-9]{{{exponent}}}" if exponent else ""
    return re.compile(whole + decimals, re.ASCII).fullmatch


def _within(minors: Sequence[int], plan: Plan) -> bool:
    if min(minors) < max(plan.minor_min, 1):
        return False
    if plan.minor_max is not None and max(minors) > plan.minor_max:
        return False
    step = plan.minor_step
    return step == 1 or not any(minor % step for minor in minors)


def _all_match(texts: Iterable[str], match: Match) -> bool:
    return None not in map(match, texts)
