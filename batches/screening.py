"""Whether a chunk of rows is free of faults, told column by column: most chunks of most files are.

It only ever says yes: of a chunk that it cannot vouch for as a whole, each row is checked by
itself, by the rules in `batches.rules`, and those alone say what is wrong. So a "no" too many here
costs time, and a "yes" too many would be a fault unseen: the tests compare the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import repeat

from batches.rules import PATTERN_CHARS_MAX, Match, Plan
from workers.errors import MoneyError
from workers.providers.port import Service
from workers.record.canonical import quoted, quoted_ascii
from workers.record.money import MINOR_DIGITS_MAX, Currency, Money

Columns = Mapping[str, Sequence[str]]
# Texts of a column that differ, each once: a service or a kind of account is one of a few.
Distinct = Mapping[str, set[str]]
_OBJECTS = ("context", "customer", "fields", "metadata")


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


def texts_of(
    columns: Columns, minors: Iterable[int], *, account: str, service: str, currency: Currency
) -> Iterable[tuple[bytes, bytes]]:
    """What `canonical` and `payee` of each row's order will give, made for all of them at once;
    empty where the rows are not alike enough for that.
    """
    objects = {name: _alike(columns, f"{name}.") for name in _OBJECTS}
    shown = [columns["reference_id"], columns.get("description", ()), *columns.values()]
    if None in objects.values() or not all(map(_is_plain, shown)):
        return repeat((b"", b""))
    known = {name: found or {} for name, found in objects.items()}
    described = "description" in columns
    canonical = (
        f'{{"account":{_constant(account)},"amount_minor":%s,"context":{_template(known["context"])}'
        f',"currency":{_constant(currency.code)},"currency_exponent":{currency.exponent}'
        f',"customer":{_template(known["customer"])},"description":"{"%s" if described else ""}"'
        f',"fields":{_template(known["fields"])},"metadata":{_template(known["metadata"])}'
        f',"reference_id":"%s","replaces":"","service":{_constant(service)}}}'
    )
    minors = list(minors)
    rows = zip(
        minors,
        *known["context"].values(),
        *known["customer"].values(),
        *([columns["description"]] if described else []),
        *known["fields"].values(),
        *known["metadata"].values(),
        columns["reference_id"],
        strict=True,
    )
    canonicals = [(canonical % row).encode() for row in rows]
    fields = known["fields"]
    if not all("".join(cells).isascii() for cells in fields.values()):
        return zip(canonicals, repeat(b""), strict=False)
    payee = (
        f"[{_constant(account, quoted_ascii)},{_constant(service, quoted_ascii)},%s"
        f",{_constant(currency.code, quoted_ascii)},{_template(fields, quoted_ascii)}]"
    )
    payees = [(payee % row).encode() for row in zip(minors, *fields.values(), strict=True)]
    return zip(canonicals, payees, strict=True)


def _alike(columns: Columns, prefix: str) -> Columns | None:
    """The columns of an object that every row has, by their names in order; None: rows differ in
    which they have.
    """
    found = {}
    for column in sorted(name for name in columns if name.startswith(prefix)):
        name, cells = column.removeprefix(prefix), columns[column]
        if prefix != "fields." and "." in name:
            return None
        if "" not in cells:
            found[name] = cells
        elif any(cells):
            return None
    return found


def _is_plain(cells: Sequence[str]) -> bool:
    """Whether each cell stands in JSON as it is."""
    together = "".join(cells)
    return together.isprintable() and '"' not in together and "\\" not in together


def _template(columns: Columns, quote: Callable[[str], str] = quoted) -> str:
    pairs = (f'{_constant(name, quote)}:"%s"' for name in columns)
    return "{" + ",".join(pairs) + "}"


def _constant(text: str, quote: Callable[[str], str] = quoted) -> str:
    """A text of all rows, for a template."""
    return quote(text).replace("%", "%%")


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
