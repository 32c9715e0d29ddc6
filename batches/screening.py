"""Whether a chunk of rows is free of faults, told column by column: most chunks of most files are.

It only ever says yes: of a chunk that it cannot vouch for as a whole, each row is checked by
itself, by the rules in `batches.rules`, and those alone say what is wrong. So a "no" too many here
costs time, and a "yes" too many would be a fault unseen: the tests compare the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from batches.cells import words_of
from batches.loading import Chunk
from batches.rules import PATTERN_CHARS_MAX, Match, Plan
from workers.errors import MoneyError
from workers.providers.port import Service
from workers.record.alike import Alike, Cells, Template, in_order
from workers.record.canonical import quoted, quoted_ascii
from workers.record.money import MINOR_DIGITS_MAX, Currency, Money

Columns = Mapping[str, Sequence[str]]
# The texts of each column, each at least once: a service or a kind of account is one of a few.
Distinct = Mapping[str, Sequence[str]]
_OTHERS = ("context", "customer", "metadata")


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


def fees_of(service: Service | None, minors: Sequence[int], currency: Currency) -> Sequence[int]:
    """The fee to expect for each amount, in minor units."""
    if service is None:
        return [0] * len(minors)
    if not service.fee_rate:
        # It does not depend on the amount.
        return [service.fee(Money(0, currency)).minor] * len(minors)
    return [service.fee(Money(minor, currency)).minor for minor in minors]


@dataclass(frozen=True, slots=True)
class Texts:
    """What rows that are alike are hashed by, made for all of them at once."""

    alike: Alike
    canonicals: list[bytes]
    # None: to be made row by row.
    payees: list[bytes] | None


def texts_of(
    chunk: Chunk, minors: Sequence[int], *, account: str, service: str, currency: Currency
) -> Texts | None:
    """What `canonical` and `payee` of each row's order will give; None where the rows are not alike
    enough for that.
    """
    alike = _alike(chunk.columns)
    if alike is None or not _is_plain(chunk):
        return None
    canonical, count, amounts = Template(), len(minors), list(map(str, minors))
    canonical.add(f'{{"account":{quoted(account)},"amount_minor":', amounts)
    canonical.add_object(',"context":', in_order(alike.context))
    canonical.add(f',"currency":{quoted(currency.code)},"currency_exponent":{currency.exponent}')
    canonical.add_object(',"customer":', in_order(alike.customer))
    canonical.add(',"description":"', alike.description)
    canonical.add_object('","fields":', in_order(alike.fields))
    canonical.add_object(',"metadata":', in_order(alike.metadata))
    canonical.add(',"reference_id":"', chunk.columns["reference_id"])
    canonical.add(f'","replaces":"","service":{quoted(service)}}}')
    payees: list[bytes] | None = None
    if all(chunk.together(f"fields.{name}").isascii() for name in alike.fields):
        payee = Template()
        payee.add(f"[{quoted_ascii(account)},{quoted_ascii(service)},", amounts)
        payee.add_object(f",{quoted_ascii(currency.code)},", in_order(alike.fields), quoted_ascii)
        payee.add("]")
        payees = payee.bytes(count)
    return Texts(alike, canonical.bytes(count), payees)


def _alike(columns: Columns) -> Alike | None:
    """The rows' own data; None: rows differ in which names their objects have."""
    found = {prefix: _alike_object(columns, prefix) for prefix in ("fields", *_OTHERS)}
    if None in found.values():
        return None
    return Alike(
        **{prefix: columns or {} for prefix, columns in found.items()},
        description=_cells(columns.get("description", ("",))),
    )


def _alike_object(columns: Columns, prefix: str) -> Mapping[str, Cells] | None:
    found: dict[str, Cells] = {}
    for column, cells in columns.items():
        if not column.startswith(f"{prefix}."):
            continue
        name = column.removeprefix(f"{prefix}.")
        if prefix != "fields" and "." in name:
            return None
        if "" not in words_of(cells):
            found[name] = _cells(cells)
        elif any(words_of(cells)):
            return None
    return found


def _cells(cells: Sequence[str]) -> Cells:
    words = words_of(cells)
    return words[0] if len(words) == 1 else cells


def _is_plain(chunk: Chunk) -> bool:
    """Whether each cell stands in JSON as it is."""
    return len(chunk.printable) == len(chunk.columns) and not any(
        '"' in text or "\\" in text for text in map(chunk.together, chunk.columns)
    )


def _fields_fit(columns: Columns, distinct: Distinct, plan: Plan) -> bool:
    known = set()
    for name, required, match in plan.rules or ():
        column = f"fields.{name}"
        known.add(column)
        found = distinct.get(column)
        if found is None or "" in found:
            if required:
                return False
            found = [text for text in found or () if text]
        if match is None or not found:
            continue
        if max(map(len, found)) > PATTERN_CHARS_MAX or not _all_match(found, match):
            return False
    others = (name for name in columns if name.startswith("fields.") and name not in known)
    return not any(any(distinct[name]) for name in others)


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
