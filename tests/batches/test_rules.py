"""What an account, its services and their field rules make of a row."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from batches.faults import FaultKind
from batches.rules import PLANS_MAX, AccountRules, Planner, check_amount, template_columns
from workers.errors import ProviderUnreachable
from workers.providers.port import Capabilities, FieldRule, Service
from workers.record.money import Currency, Money

EUR, USD, JPY = (Currency.of(code) for code in ("EUR", "USD", "JPY"))
CAPABILITIES: dict[str, Any] = {
    "reference_id_chars_max": 20,
    "reference_id_char": "[A-Z]",
    "two_step": True,
    "refuses_duplicates": True,
    "look_up": True,
    "balances": True,
    "services": True,
    "webhooks": True,
    "list_payouts": True,
    "absence_conclusive_after_s": 600,
    "customer_reference": True,
}


def service(code: str = "bank", **changes: Any) -> Service:
    usual: dict[str, Any] = {"currency": EUR, "beneficiary_currency": EUR, "fields": ()}
    return Service(code=code, **{**usual, **changes})


def planner(*services: Service, **changes: Any) -> Planner:
    capabilities = Capabilities(**{**CAPABILITIES, **changes.pop("capabilities", {})})
    usual: dict[str, Any] = {"services": lambda _: services, "service": None}
    rules = AccountRules(name="main", capabilities=capabilities, **{**usual, **changes})
    return Planner({"main": rules}, usual_account="main")


def flaw_of(plans: Planner, *, account: str = "", currency: str = "EUR", code: str = "") -> Any:
    (flaw,) = plans.plan(account, currency, code).flaws
    return flaw


def amount_flaws(text: str, one: Service) -> tuple[Money | None, list[tuple[FaultKind, str]]]:
    flaws: list[Any] = []
    money = check_amount(text, planner(one).plan("", "EUR", "bank"), flaws)
    return money, [(kind, expected) for _, kind, expected in flaws]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("4.99", FaultKind.BELOW_MINIMUM),
        ("5.00", None),
        ("10.00", None),
        ("10.01", FaultKind.ABOVE_MAXIMUM),
        ("0", FaultKind.AMOUNT_ZERO),
    ],
)
def test_limits_of_a_service_are_inclusive(text: str, kind: FaultKind | None) -> None:
    one = service(amount_min=Money(500, EUR), amount_max=Money(1000, EUR))
    money, flaws = amount_flaws(text, one)
    assert [found for found, _ in flaws] == ([kind] if kind else [])
    # It is read all the same: what else is wrong with its row can be told.
    assert money == Money.parse(text, EUR)


@pytest.mark.parametrize(("text", "good"), [("7", True), ("7.00", True), ("7.50", False)])
def test_a_service_may_take_fewer_decimals(text: str, good: bool) -> None:
    _, flaws = amount_flaws(text, service(decimals=0))
    assert (flaws == []) == good
    assert [kind for kind, _ in flaws] == ([] if good else [FaultKind.TOO_MANY_DECIMALS])


def test_limits_in_another_currency_are_a_warning() -> None:
    plans = planner(service(amount_min=Money(500, USD)))
    assert plans.plan("", "EUR", "bank").flaws == []
    assert "limits are not in EUR" in plans.warnings[0]


def test_services_are_asked_for_once_for_each_currency() -> None:
    asked: list[Currency] = []

    def services(currency: Currency) -> list[Service]:
        asked.append(currency)
        return [service()]

    plans = planner(services=services)
    for code in ("bank", "x", "y", ""):
        plans.plan("", "EUR", code)
    plans.plan("", "USD", "bank")
    assert asked == [EUR, USD]


def test_a_provider_that_does_not_answer_is_not_a_fault_of_the_row() -> None:
    def services(_: Currency) -> list[Service]:
        raise ProviderUnreachable

    with pytest.raises(ProviderUnreachable):
        planner(services=services).plan("", "EUR", "bank")


@pytest.mark.parametrize(
    ("row", "flaw"),
    [
        ({"account": "Main"}, ("account", FaultKind.ACCOUNT_UNKNOWN, "did you mean main?")),
        ({"code": "Bank"}, ("service", FaultKind.SERVICE_UNKNOWN, "did you mean bank?")),
        ({"code": "zzz"}, ("service", FaultKind.SERVICE_UNKNOWN, ": bank, card")),
        ({"code": "off"}, ("service", FaultKind.SERVICE_UNUSABLE, "can be used now: bank, card")),
        ({}, ("service", FaultKind.REQUIRED, ": bank, card")),
        ({"currency": "XXX"}, ("currency", FaultKind.CURRENCY_UNKNOWN, "ISO 4217")),
        ({"currency": "eur"}, ("currency", FaultKind.CURRENCY_UNKNOWN, "EUR, in upper case")),
    ],
)
def test_what_was_expected_helps_to_mend_it(row: dict[str, str], flaw: tuple[str, ...]) -> None:
    column, kind, expected = flaw_of(
        planner(service(), service("card"), service("off", usable=False)), **row
    )
    assert (column, kind) == flaw[:2]
    assert flaw[2] in expected


def test_a_currency_outside_the_capabilities_is_refused_without_asking() -> None:
    plans = planner(services=lambda _: (), capabilities={"currencies": ("EUR", "GBP")})
    assert flaw_of(plans, currency="JPY")[1] is FaultKind.CURRENCY_NOT_OFFERED


def test_a_service_left_out_is_the_accounts_own_or_the_only_one() -> None:
    assert planner(service(), service("card"), service="card").plan("", "EUR", "").code == "card"
    assert planner(service(), service("off", usable=False)).plan("", "EUR", "").code == "bank"


def test_an_account_that_cannot_list_services_is_a_warning() -> None:
    plans = planner(capabilities={"services": False})
    assert plans.plan("", "EUR", "any").code == "any"
    assert "cannot list its services" in plans.warnings[0]
    assert flaw_of(plans)[1] is FaultKind.REQUIRED


def test_unknown_field_rules_are_one_warning_and_no_fault() -> None:
    plans = planner(service(fields=None))
    assert [plans.plan(account, "EUR", "bank").flaws for account in ("", "main")] == [[], []]
    assert len(plans.warnings) == 1


@pytest.mark.parametrize("pattern", ["(", "(a+)+", "([a-z]+ ?)*", "(?:a|b*)+", "(a{2,})+"])
def test_a_pattern_that_could_hang_or_fails_is_left_to_the_provider(pattern: str) -> None:
    rule = FieldRule(name="name", required=True, pattern=pattern)
    plans = planner(service(fields=(rule,)))
    plan = plans.plan("", "EUR", "bank")
    assert plan.rules == [("name", True, None)]
    assert "the pattern of name" in plans.warnings[0]


@pytest.mark.parametrize("pattern", [r"\d{12,19}", r"(\d{4} ?){4}", r"[a-z]+@[a-z.]+", r"\(a+\)+"])
def test_harmless_patterns_are_used(pattern: str) -> None:
    rule = FieldRule(name="name", required=True, pattern=pattern)
    plans = planner(service(fields=(rule,)))
    assert plans.plan("", "EUR", "bank").rules != [("name", True, None)]
    assert plans.warnings == []


def test_plans_of_a_hostile_file_do_not_pile_up() -> None:
    plans = planner(service())
    for number in range(PLANS_MAX + 10):
        plans.plan("", "EUR", f"s{number}")
    assert len(plans.plans) <= PLANS_MAX


def test_a_template_has_the_required_fields_first() -> None:
    rules = (
        FieldRule(name="note", required=False),
        FieldRule(name="iban", required=True),
        FieldRule(name="customer.first_name", required=True),
    )
    assert template_columns(service(fields=rules, fee_rate=Decimal(0))) == [
        "reference_id",
        "amount",
        "currency",
        "service",
        "description",
        "fields.iban",
        "customer.first_name",
        "fields.note",
    ]
    assert template_columns(service(fields=None))[-1] == "description"
