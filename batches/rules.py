"""What the rows of one account, currency and service must satisfy, prepared once and applied fast.

The account's capabilities, its services and their field rules become one `Plan`; each function
after it applies one rule to one row. What cannot be checked becomes a warning, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batches.faults import PERSONAL, FaultKind, nearest
from workers.errors import MoneyError
from workers.providers.port import Capabilities, FieldRule, Service, takes_all
from workers.record.model import JsonObject, Order
from workers.record.money import Currency, Money

# A pattern's work may grow with the square of the value, so a value has an end.
PATTERN_CHARS_MAX = 500
# The plans of hostile files, each row with a service of its own, must not fill the memory.
PLANS_MAX = 10_000
SCIENTIFIC = re.compile(r"[0-9](?:[.,][0-9]+)?[eE]\+[0-9]{1,3}", re.ASCII)
# A repeated group that repeats within, such as (a+)+, may take 2^n steps to say no to n characters.
_EXPLOSIVE = re.compile(r"\((?:[^()\\]|\\.)*(?:[+*]|\{\d*,\})(?:[^()\\]|\\.)*\)(?:[+*]|\{\d*,\})")

# A fault without its line and value: column, kind, expected.
Flaw = tuple[str, FaultKind, str]
Match = Callable[[str], object]
# Name, required, and what the whole value must match.
Rule = tuple[str, bool, Match | None]
# Stands in where a row's own currency is unknown, so that its amount is looked at all the same.
_ANY_CURRENCY = Currency("", 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRules:
    """What an account can pay, as its settings and its provider tell."""

    name: str
    capabilities: Capabilities
    # The service of rows that name none.
    service: str | None
    # Asked at most once for each currency; what it raises passes through.
    services: Callable[[Currency], Sequence[Service]]
    # What an order has that the provider would not take, beside the services' rules.
    why_not: Callable[[Order], Sequence[tuple[str, str]]] = takes_all


@dataclass(slots=True)
class Plan:
    """What holds for all rows of one account, currency and service."""

    account: str
    currency: Currency | None = None
    service: Service | None = None
    code: str = ""
    # Faults that every such row has.
    flaws: list[Flaw] = field(default_factory=list)
    # The service's limits in minor units; an amount is a whole number of steps.
    minor_min: int = 1
    minor_max: int | None = None
    minor_step: int = 1
    reference: Match | None = None
    reference_chars_max: int = 0
    reference_expected: str = ""
    # None: unknown, the provider alone judges.
    rules: list[Rule] | None = None
    # Rules for columns outside fields.*, by the column's name: customer.first_name.
    outer_rules: list[Rule] = field(default_factory=list)
    # What a field's value must be, for people.
    wanted: dict[str, str] = field(default_factory=dict)
    needs_customer_reference: bool = False
    why_not: Callable[[Order], Sequence[tuple[str, str]]] = takes_all


class Planner:
    """Makes the plans of a file; the provider is asked once for each account and currency."""

    def __init__(self, accounts: Mapping[str, AccountRules], *, usual_account: str) -> None:
        self._accounts = accounts
        self._usual_account = usual_account
        self._services: dict[tuple[str, Currency], Sequence[Service]] = {}
        # By the cells account, currency and service as they stand in the file.
        self.plans: dict[tuple[str, str, str], Plan] = {}
        # What could not be checked, each once, in words for a person.
        self.warnings: list[str] = []

    def plan(self, account: str, currency: str, service: str) -> Plan:
        """What holds for rows with those three cells, made once.

        Raises:
            AccountFault, ProviderUnreachable: the account's services could not be asked for.
        """
        if (made := self.plans.get((account, currency, service))) is not None:
            return made
        plan = Plan(account or self._usual_account)
        try:
            plan.currency = Currency.of(currency)
        except MoneyError as error:
            kind = FaultKind.CURRENCY_UNKNOWN if currency else FaultKind.REQUIRED
            plan.flaws.append(("currency", kind, _expected(error)))
        rules = self._accounts.get(plan.account)
        if rules is None:
            expected = _one_of(plan.account, list(self._accounts), "an account of the settings")
            plan.flaws.append(("account", FaultKind.ACCOUNT_UNKNOWN, expected))
        else:
            _plan_reference(plan, rules.capabilities)
            plan.needs_customer_reference = rules.capabilities.customer_reference
            plan.why_not = rules.why_not
            if plan.currency is not None:
                self._plan_service(plan, rules, plan.currency, service or rules.service or "")
        if len(self.plans) >= PLANS_MAX:
            self.plans.clear()
        self.plans[account, currency, service] = plan
        return plan

    def _plan_service(
        self, plan: Plan, rules: AccountRules, currency: Currency, wanted: str
    ) -> None:
        offered = rules.capabilities.currencies
        if offered is not None and currency.code not in offered:
            expected = f"a currency that account {rules.name} pays: {', '.join(offered)}"
            plan.flaws.append(("currency", FaultKind.CURRENCY_NOT_OFFERED, expected))
            return
        plan.code = wanted
        services = self._services_of(rules, currency)
        if not services and not rules.capabilities.services:
            if not wanted:
                plan.flaws.append(("service", FaultKind.REQUIRED, "the provider's service code"))
            self._warn(f"account {rules.name} cannot list its services: they were not checked")
            return
        usable = [service for service in services if service.usable]
        if not services:
            expected = f"a currency that account {rules.name} has a service for"
            plan.flaws.append(("currency", FaultKind.CURRENCY_NOT_OFFERED, expected))
            return
        if not wanted and len(usable) == 1:
            wanted = usable[0].code
        service = next((service for service in services if service.code == wanted), None)
        if service is None or not service.usable:
            plan.flaws.append(_no_service(wanted, service, [one.code for one in usable], currency))
            return
        plan.code, plan.service = wanted, service
        self._plan_limits(plan, service, currency)
        self._plan_fields(plan, service)

    def _plan_limits(self, plan: Plan, service: Service, currency: Currency) -> None:
        for warning in service.warnings:
            self._warn(f"service {service.code}: {warning}")
        low, high = service.amount_min, service.amount_max
        if any(limit is not None and limit.currency != currency for limit in (low, high)):
            self._warn(f"service {service.code}: its limits are not in {currency}: not checked")
            return
        plan.minor_min = low.minor if low is not None else 1
        plan.minor_max = high.minor if high is not None else None
        if service.decimals is not None:
            plan.minor_step = 10 ** max(currency.exponent - service.decimals, 0)

    def _plan_fields(self, plan: Plan, service: Service) -> None:
        if service.fields is None:
            self._warn(f"service {service.code}: its field rules are not known: not checked")
            return
        plan.rules = []
        for rule in service.fields:
            outer = rule.name.startswith(PERSONAL)
            checked = (rule.name, rule.required, self._pattern(service, rule))
            (plan.outer_rules if outer else plan.rules).append(checked)
            label = f"{rule.label} " if rule.label else ""
            plan.wanted[rule.name] = f"{label}matching {rule.pattern}"

    def _pattern(self, service: Service, rule: FieldRule) -> Callable[[str], object] | None:
        if rule.pattern is None:
            return None
        try:
            if _EXPLOSIVE.search(rule.pattern) is None:
                return re.compile(rule.pattern).fullmatch
            why = "could take for ever"
        except (re.error, OverflowError, RecursionError):
            why = "is not a usable expression"
        self._warn(f"service {service.code}: the pattern of {rule.name} {why}: not checked")
        return None

    def _services_of(self, rules: AccountRules, currency: Currency) -> Sequence[Service]:
        key = (rules.name, currency)
        if key not in self._services:
            self._services[key] = rules.services(currency)
        return self._services[key]

    def _warn(self, warning: str) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)


def template_columns(service: Service) -> list[str]:
    """The columns of a file for that service: ours first, then its fields, required ones first."""
    rules = sorted(service.fields or (), key=lambda rule: not rule.required)
    return [
        "reference_id", "amount", "currency", "service", "description",
        *(_column(rule.name) for rule in rules),
    ]  # fmt: skip


# One rule each; what they add is told with line and value by `_Found`


def check_amount(text: str, plan: Plan, flaws: list[Flaw]) -> Money | None:
    """The amount, also when a limit is not kept; None when it cannot be read."""
    currency = plan.currency or _ANY_CURRENCY
    try:
        money = Money.parse(text, currency)
    except MoneyError as error:
        flaws.append(("amount", _kind_of_amount(text, currency), _expected(error)))
        return None
    minor = money.minor
    if minor >= plan.minor_min and minor % plan.minor_step == 0 and minor > 0:
        if plan.minor_max is not None and minor > plan.minor_max:
            most = Money(plan.minor_max, currency).named()
            flaws.append(("amount", FaultKind.ABOVE_MAXIMUM, f"at most {most} for {plan.code}"))
    elif minor == 0:
        flaws.append(("amount", FaultKind.AMOUNT_ZERO, "more than zero"))
    elif minor < plan.minor_min:
        least = Money(plan.minor_min, currency).named()
        flaws.append(("amount", FaultKind.BELOW_MINIMUM, f"at least {least} for {plan.code}"))
    else:
        least = Money(plan.minor_step, currency).named()
        expected = f"a multiple of {least} for {plan.code}"
        flaws.append(("amount", FaultKind.TOO_MANY_DECIMALS, expected))
    return money


def _expected(error: MoneyError) -> str:
    """What was expected, as it stands behind that word."""
    return str(error).removeprefix("expected ")


def _kind_of_amount(text: str, currency: Currency) -> FaultKind:
    if not text:
        return FaultKind.REQUIRED
    if SCIENTIFIC.fullmatch(text):
        return FaultKind.SCIENTIFIC_NOTATION
    plain = re.fullmatch(r"(?:0|[1-9][0-9]*)(?:\.([0-9]+))?", text, re.ASCII)
    if plain is None:
        return FaultKind.NOT_PLAIN_DECIMAL
    if len(plain[1] or "") > currency.exponent:
        return FaultKind.TOO_MANY_DECIMALS
    return FaultKind.AMOUNT_TOO_LARGE


def _plan_reference(plan: Plan, capabilities: Capabilities) -> None:
    char, most = capabilities.reference_id_char, capabilities.reference_id_chars_max
    plan.reference = re.compile(f"(?:{char}){{1,{most}}}").fullmatch
    plan.reference_chars_max = most
    plan.reference_expected = f"only characters of {char}"


def why_not_reference(reference: str, plan: Plan, flaws: list[Flaw]) -> None:
    column = "reference_id"
    if not reference:
        flaws.append((column, FaultKind.REQUIRED, "a reference id, unique for ever"))
    elif plan.reference is not None:
        if len(reference) > plan.reference_chars_max:
            expected = f"at most {plan.reference_chars_max} characters, found {len(reference)}"
            flaws.append((column, FaultKind.REFERENCE_TOO_LONG, expected))
        if plan.reference(reference[: plan.reference_chars_max]) is None:
            flaws.append((column, FaultKind.REFERENCE_CHARACTER, plan.reference_expected))


def fields_fit(fields: JsonObject, plan: Plan) -> bool:
    """The fast answer for a row without fault."""
    seen = 0
    for name, required, match in plan.rules or ():
        value = fields.get(name)
        if value is None:
            if required:
                return False
            continue
        seen += 1
        if match is not None and (len(value) > PATTERN_CHARS_MAX or match(value) is None):
            return False
    return seen == len(fields)


def why_not_fields(fields: JsonObject, plan: Plan, flaws: list[Flaw]) -> None:
    if plan.rules is None:
        return
    for rule in plan.rules:
        _check_field(rule, fields.get(rule[0]), plan, flaws)
    names = [name for name, _, _ in plan.rules]
    for name in fields.keys() - set(names):
        expected = f"no value: service {plan.code} does not ask for it"
        if (meant := nearest(name, names)) is not None:
            expected += f"; did you mean {_column(meant)}?"
        flaws.append((_column(name), FaultKind.FIELD_UNKNOWN, expected))


def check_outer(plan: Plan, objects: Mapping[str, JsonObject], flaws: list[Flaw]) -> None:
    for rule in plan.outer_rules:
        value: Any = objects
        for part in rule[0].split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        _check_field(rule, value, plan, flaws)


def _check_field(rule: Rule, value: str | None, plan: Plan, flaws: list[Flaw]) -> None:
    name, required, match = rule
    column = _column(name)
    if value is None:
        if required:
            flaws.append((column, FaultKind.REQUIRED, f"a value: service {plan.code} needs it"))
    elif match is not None and len(value) > PATTERN_CHARS_MAX:
        expected = f"at most {PATTERN_CHARS_MAX} characters"
        flaws.append((column, FaultKind.FIELD_TOO_LONG, expected))
    elif match is not None and match(value) is None:
        flaws.append((column, FaultKind.PATTERN_MISMATCH, plan.wanted[name]))


def _column(name: str) -> str:
    """The column of a service's field; a few name a customer or context column themselves."""
    return name if name.startswith(PERSONAL) else f"fields.{name}"


def _no_service(
    wanted: str, service: Service | None, usable: list[str], currency: Currency
) -> Flaw:
    if service is not None:
        expected = _one_of("", usable, f"a service for {currency} that can be used now")
        return "service", FaultKind.SERVICE_UNUSABLE, expected
    expected = _one_of(wanted, usable, f"a service for {currency}")
    return "service", FaultKind.SERVICE_UNKNOWN if wanted else FaultKind.REQUIRED, expected


def _one_of(given: str, known: Sequence[str], what: str) -> str:
    meant = nearest(given, known) if given else None
    if meant is not None:
        return f"{what}; did you mean {meant}?"
    return f"{what}: {', '.join(known)}" if 0 < len(known) <= 8 else what
