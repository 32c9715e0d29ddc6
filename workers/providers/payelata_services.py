"""Payelata's services as ours: limits, fees and field rules.

Pure functions of what was received. A rule that cannot be used is left out with a warning: the
provider judges the row then.

Source: Payelata API facts, sections 4.2 and 4.3; read 2026-11-21.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from workers.providers.port import FieldRule, Service
from workers.providers.wire import Json, currency_of, members, money, number, text, word
from workers.record.money import Currency, Money

_SWITCHES = ("available", "active", "enabled")
_JAVASCRIPT = re.compile(r"/(.*)/([a-z]*)", re.DOTALL)
_UNLIMITED = 10**30

Rules = Mapping[str, tuple[tuple[FieldRule, ...] | None, tuple[str, ...]]]


def read_service(
    told: Json,
    currency: Currency,
    *,
    test_mode: bool,
    limits_in_service_currency: bool,
    rate_in_percent: bool,
    decimals: Mapping[str, int],
) -> Service | None:
    """One service of the list; None where it does not pay from `currency`."""
    code, beneficiary = text(told.get("service")), told.get("service_currency")
    if code is None or told.get("currency") != currency.code:
        return None
    notes: list[str] = []
    least, most = None, None
    if limits_in_service_currency and beneficiary != currency.code:
        notes.append(f"its limits are in {word(beneficiary)}, not {currency}: they go unchecked")
    else:
        least, most = (_positive(told, n, currency, notes) for n in ("amount_min", "amount_max"))
    fix, low, high = (
        _positive(told, n, currency, notes) for n in ("fee_fix", "fee_min", "fee_max")
    )
    rate = number(told.get("fee_rate"))
    if rate is None:
        notes.append("its fee_rate cannot be read")
        rate = Decimal(0)
    mode = told.get("test_mode")
    of_our_mode = mode is None or mode == test_mode
    if not of_our_mode:
        notes.append(f"it is not for test_mode = {str(test_mode).lower()}")
    return Service(
        code=code,
        currency=currency,
        # Without one that we know its exponent is never used: the limits stay out.
        beneficiary_currency=currency_of(beneficiary) or Currency(word(beneficiary) or "?", 2),
        # Inferred, section 4.3: all three switches have to be on.
        usable=of_our_mode and all(told.get(name, True) == True for name in _SWITCHES),  # noqa: E712 - 1 too
        amount_min=least,
        amount_max=most,
        decimals=decimals.get(code),
        fee_rate=rate.scaleb(-2) if rate_in_percent else rate,
        fee_fix=fix,
        fee_min=low,
        fee_max=high,
        warnings=tuple(notes),
    )


def _positive(told: Json, name: str, currency: Currency, notes: list[str]) -> Money | None:
    """An amount, where zero and null say "none"."""
    if told.get(name) is None:
        return None
    amount = money(told[name], currency)
    if amount is None:
        notes.append(f"its {name} cannot be read exactly")
    return amount if amount and amount.minor > 0 else None


def amounts_to_ask(services: Sequence[Service], usual: Money) -> Iterator[Money]:
    """The fewest amounts so that each service's limits hold one of them: those that reach up to the
    smallest upper limit share an amount, then the same for the rest.

    Args:
        usual: asked for where no lower limit tells an amount.
    """
    waiting = sorted(services, key=_most)
    while waiting:
        most = _most(waiting[0])
        least = max(lower for s in waiting if (lower := _least(s)) <= most or s is waiting[0])
        yield Money(min(least, most) or min(usual.minor, most), usual.currency)
        waiting = [service for service in waiting[1:] if _least(service) > most]


def _least(service: Service) -> int:
    return service.amount_min.minor if service.amount_min else 0


def _most(service: Service) -> int:
    return service.amount_max.minor if service.amount_max else _UNLIMITED


def read_rules(document: Json) -> Rules:
    """The field rules in the answer to a prerequest, by the service's code."""
    data = members(document.get("data"))
    # Older answers wrap everything in `attributes`. Source: section 4.2.
    listed = members(data.get("attributes", data)).get("services")
    if isinstance(listed, list):
        listed = {members(item).get("code"): item for item in listed}
    return {
        code: _read_fields(members(service).get("fields"))
        for code, service in members(listed).items()
        if isinstance(code, str)
    }


def _read_fields(told: Any) -> tuple[tuple[FieldRule, ...] | None, tuple[str, ...]]:
    fields = list(told.values()) if isinstance(told, dict) else told
    if not isinstance(fields, list) or not all(text(members(f).get("key")) for f in fields):
        # A part of the rules would have other fields refused that the provider takes.
        return None, ("its field rules cannot be read",)
    notes: list[str] = []
    ordered = sorted(fields, key=_position)
    return tuple(_read_field(field, notes) for field in ordered), tuple(notes)


def _position(field: Json) -> Decimal:
    # Older answers say `weight`. Source: section 4.2.
    told = field.get("position", field.get("weight"))
    return number(told) or Decimal(0)


def _read_field(field: Json, notes: list[str]) -> FieldRule:
    name = field["key"]
    regexp = text(field.get("regexp"))
    pattern = None if regexp is None else usable_pattern(regexp)
    if regexp is not None and pattern is None:
        notes.append(f"its rule for {word(name)} cannot be used: the provider alone checks it")
    example = field.get("example")
    return FieldRule(
        name=name,
        required=field.get("required") in (True, "true", "1"),
        pattern=pattern,
        label=_in_english(field.get("label")),
        example="" if example is None or isinstance(example, dict | list) else str(example)[:100],
    )


def _in_english(label: Any) -> str:
    if isinstance(label, dict):
        label = label.get("en") or next(iter(label.values()), "")
    return label[:100] if isinstance(label, str) else ""


def usable_pattern(regexp: str) -> str | None:
    r"""The provider's pattern so that `re.fullmatch` judges as the provider does; None where Python
    cannot use it.

    `^\\d{12,19}$`, doubled after decoding as in the provider's sample, is `^\d{12,19}$`;
    JavaScript's `/^[a-z]+$/i` is `(?i)^[a-z]+$`; what is not anchored may stand anywhere.
    """
    pattern = regexp.replace("\\\\", "\\")
    flags = ""
    if (literal := _JAVASCRIPT.fullmatch(pattern)) is not None:
        pattern, flags = literal[1], "(?i)" if "i" in literal[2] else ""
    pattern = re.sub(r"(?<!\\)\(\?<(?![=!])", "(?P<", pattern)
    if not (pattern.startswith("^") and pattern.endswith("$") and not pattern.endswith(r"\$")):
        pattern = rf"[\s\S]*(?:{pattern})[\s\S]*"
    try:
        # A pattern that Python reads with a doubt may mean something else to the provider.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(flags + pattern)
    except (re.error, Warning, OverflowError, RecursionError):
        return None
    return flags + pattern


def with_rules(service: Service, rules: Rules | None) -> Service:
    """The service with its field rules, or with the reason why they are not known."""
    if not service.usable:
        return service
    if rules is None:
        why = "its field rules are unknown: public_key is not set"
        return replace(service, warnings=(*service.warnings, why))
    fields, notes = rules.get(service.code, (None, ("the provider did not tell its field rules",)))
    return replace(service, fields=fields, warnings=(*service.warnings, *notes))
