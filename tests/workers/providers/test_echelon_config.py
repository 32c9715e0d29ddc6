"""The settings of an Echelon Pay account, and what the adapter tells of itself by them."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from tests.workers.providers.echelon_world import HOLDER, IDR, SECRET, USD, adapter, config, order
from workers.providers.echelon import Echelon, EchelonConfig
from workers.providers.echelon_config import FACTS
from workers.providers.port import FieldRule, Provider
from workers.record.money import Currency
from workers.settings import AccountSettings

REQUIRED = {"merchant_code": "M-4711", "secret": SECRET, "test_mode": True}


def test_only_the_keys_and_the_mode_have_no_default() -> None:
    settings = EchelonConfig.model_validate(REQUIRED)
    assert settings.base_url == "https://api.sandbox.echelonpay.com"
    for name in REQUIRED:
        with pytest.raises(ValidationError, match=name):
            EchelonConfig.model_validate({k: v for k, v in REQUIRED.items() if k != name})


def test_the_secret_is_never_shown() -> None:
    assert "s3cret" not in repr(config())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"secret": ""}, "at least 1"),
        ({"merchant_code": ""}, "at least 1"),
        ({"base_url": "http://api.example.test"}, "https"),
        ({"token_mode": "action"}, "payout_action is missing"),
        ({"token_mode": "both"}, "operations"),
        ({"token_validity_s": 60}, "token_margin_s (60) must be less than token_validity_s (60)"),
        ({"token_validity_s": 3601}, "3600"),
        ({"test_mode": False, "base_url": "https://api.sandbox.echelonpay.com/"}, "the sandbox's"),
        ({"currencies": ["IDR", "XXX"]}, "currency code"),
        ({"currencies": []}, "at least 1"),
        ({"currency_decimals": {"idr": 0}}, "expected IDR"),
        ({"operator_codes": {"IDR": []}}, "at least 1"),
        ({"extra_account_fields": {"IDR": {"emailAddress": {}}}}, "emailAddress is no field of"),
        ({"status_map": {"X": "lost"}}, "status_map"),
        ({"error_map": {"X": "fatal"}}, "error_map"),
        ({"callback_id_paths": []}, "at least 1"),
        ({"reference_id_char": "["}, "regular expression"),
        ({"reference_id_char": "[A-Z]{2}"}, "letters, digits"),
        ({"reference_id_char": "[A-Z/]"}, "it takes '/'"),
        ({"reference_id_char": "[A-Z.]"}, "it takes '.'"),
        ({"reference_id_char": "[A-Z %]"}, "it takes ' '"),
        ({"reference_id_char": r"\w"}, "it takes"),
        ({"payment_method_code": "BANK_TRANSFER"}, "payment_method_code"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_was_expected(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)):
        config(**changes)


@pytest.mark.parametrize("char", ["[A-Za-z0-9-]", "[0-9]", "[A-Z_~]", r"(?a:[^\W])"])
def test_an_id_s_character_may_be_any_that_a_path_carries_as_it_is(char: str) -> None:
    assert config(reference_id_char=char).reference_id_char == char


# What the adapter tells of itself.


def test_the_adapter_is_a_provider() -> None:
    provider: type[Provider] = Echelon
    assert provider.name == "echelon"


def test_the_class_has_the_capabilities_of_the_default_settings() -> None:
    can = Echelon.capabilities
    assert can == replace(adapter()[0].capabilities, identity="")
    assert (can.reference_id_char, can.reference_id_chars_max) == ("[A-Za-z0-9-]", 36)
    assert can.currencies == ("IDR", "USD", "INR")
    assert can.absence_conclusive_after_s == 900
    yes = {"refuses_duplicates", "refused_when_absent", "look_up", "webhooks"}
    no = {"two_step", "balances", "services", "list_payouts", "verifies", "dry_run"}
    assert {name for name in yes | no if getattr(can, name)} == yes
    assert can.repeatable_for_s is None


def test_who_is_paid_through_is_the_address_and_the_merchant() -> None:
    usual = adapter()[0].capabilities.identity
    for changes in ({"base_url": "https://other.example.test"}, {"merchant_code": "M-4712"}):
        assert adapter(**changes)[0].capabilities.identity not in ("", usual)
    assert adapter(secret="new")[0].capabilities.identity == usual


def test_an_instance_has_the_capabilities_of_its_settings() -> None:
    changes = {
        "currencies": ("USD",),
        "reference_id_char": "[A-Z]",
        "reference_id_chars_max": 20,
        "refuses_duplicates": False,
        "refused_when_absent": False,
    }
    can = adapter(**changes)[0].capabilities
    assert {name: getattr(can, name) for name in changes} == changes


def test_the_account_s_defaults_are_the_page_s() -> None:
    settings = AccountSettings.model_validate(
        {"provider": "echelon", **Echelon.account_defaults, "lookup_grace_s": 900}
    )
    assert Echelon.account_defaults.keys() <= AccountSettings.model_fields.keys()
    assert (settings.rate_per_s, settings.in_flight_max) == (5, 10)
    assert (settings.connect_timeout_s, settings.read_timeout_s) == (5, 90)
    assert (settings.poll_first_s, settings.poll_max_s, settings.lookup_first_s) == (60, 900, 5)
    assert settings.service == "BANK_TRANSFER"


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.claim)
def test_what_is_assumed_is_a_setting(fact: Any) -> None:
    known = EchelonConfig.model_fields.keys() | AccountSettings.model_fields.keys()
    assert set(fact.settings) <= known
    assert fact.settings or fact.support == "documented"


def test_every_setting_that_no_page_grounds_is_a_fact_s() -> None:
    own = {"base_url", "api_version", "merchant_code", "secret"}
    named = {name for fact in FACTS for name in fact.settings}
    assert EchelonConfig.model_fields.keys() - own <= named


# What it can pay.


def test_what_cannot_be_asked_for_is_empty() -> None:
    echelon, server = adapter()
    when = datetime(2031, 1, 1, tzinfo=UTC)
    assert echelon.balances() == {}
    assert list(echelon.list_payouts(when, when)) == []
    assert [service.code for service in echelon.services(IDR)] == ["BANK_TRANSFER"]
    assert (server.asked, server.asked_tokens) == ([], [])


def test_a_currency_that_is_not_paid_has_no_service() -> None:
    assert adapter()[0].services(Currency.of("EUR")) == []
    assert adapter(currencies=("EUR",))[0].services(IDR) == []


def test_each_way_to_pay_of_the_settings_is_a_service() -> None:
    found = adapter(payment_method_codes=("BANK_TRANSFER", "WALLET"))[0].services(USD)
    assert [(one.code, one.currency, one.beneficiary_currency) for one in found] == [
        ("BANK_TRANSFER", USD, USD), ("WALLET", USD, USD)
    ]  # fmt: skip


def test_idr_is_paid_in_whole_numbers() -> None:
    echelon = adapter()[0]
    assert [echelon.services(currency)[0].decimals for currency in (IDR, USD)] == [0, None]
    assert adapter(currency_decimals={"USD": 1})[0].services(IDR)[0].decimals is None


def rules(currency: Currency, **changes: Any) -> dict[str, FieldRule]:
    (service,) = adapter(**changes)[0].services(currency)
    assert service.fields is not None
    found = {rule.name: rule for rule in service.fields}
    assert len(found) == len(service.fields)
    return found


def takes(rule: FieldRule, value: str) -> bool:
    return rule.pattern is None or re.fullmatch(rule.pattern, value) is not None


def test_name_and_number_are_required_and_the_rest_may_be_given() -> None:
    found = rules(USD)
    assert {name: rule.required for name, rule in found.items()} == {
        "accountName": True,
        "accountNumber": True,
        "paymentOperatorCode": False,
        "emailAddress": False,
    }
    assert list(found) == ["accountName", "accountNumber", "paymentOperatorCode", "emailAddress"]


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("siti@example.com", True), ("a@b", True), ("siti", False), ("@b", False), ("a@", False),
        ("a@b@c", False), ("a b@c", False), ("", False),
    ],
)  # fmt: skip
def test_an_e_mail_address_has_one_at_sign_and_no_blank(value: str, good: bool) -> None:
    assert takes(rules(USD)["emailAddress"], value) is good


def test_the_banks_of_the_settings_are_the_only_ones_and_one_is_required() -> None:
    operators = {"IDR": ["BNK_014", "BNK.0"]}
    rule = rules(IDR, operator_codes=operators)["paymentOperatorCode"]
    assert (rule.required, rule.example) == (True, "BNK_014")
    values = ("BNK_014", "BNK.0", "BNK_0", "BNKx0", "BNK_014BNK.0", "XBNK_014", "")
    assert [takes(rule, value) for value in values] == [True, True] + [False] * 5
    assert rules(USD, operator_codes=operators)["paymentOperatorCode"].required is False


def test_a_currency_s_further_fields_come_from_the_settings() -> None:
    ifsc = {"pattern": "[A-Z]{4}0[A-Z0-9]{6}", "label": "IFSC", "example": "ABCD0123456"}
    extra = {"INR": {"ifsc": ifsc, "bankName": {"required": False}}}
    found = rules(Currency.of("INR"), extra_account_fields=extra)
    assert found["ifsc"] == FieldRule(name="ifsc", required=True, **ifsc)
    assert found["bankName"] == FieldRule(name="bankName", required=False)
    assert "ifsc" not in rules(IDR, extra_account_fields=extra)


def test_a_rule_of_the_settings_takes_the_place_of_ours() -> None:
    extra = {"IDR": {"accountNumber": {"pattern": "[0-9]{10}"}}}
    assert rules(IDR, extra_account_fields=extra)["accountNumber"].pattern == "[0-9]{10}"


# What it cannot.


def test_an_order_that_fits_has_no_fault() -> None:
    assert adapter()[0].why_not(order(description="x", metadata={"a": "b"})) == []


def test_columns_without_a_place_are_named() -> None:
    given = {"first_name": HOLDER, "address": {"country": "ID"}}
    found = adapter()[0].why_not(order(customer=given, context={"card": {"exp": "09"}}))
    assert found == [
        ("customer.first_name", "no value: Echelon Pay takes no customer data"),
        ("context.card", "no value: Echelon Pay takes no context data"),
    ]
