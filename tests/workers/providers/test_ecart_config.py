"""The settings of an Ecart Pay account, its capabilities and its facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from tests.workers.providers.ecart_world import KEY, SECRET, adapter, config
from workers.providers.ecart import Ecart, EcartConfig
from workers.settings import AccountSettings

DEFAULT_CURRENCIES = [
    "USD", "INR", "MXN", "BRL", "COP", "ARS", "GTQ", "CLP", "PEN", "CAD", "EUR", "AUD"
]  # fmt: skip


def test_the_pages_defaults() -> None:
    settings = EcartConfig.model_validate({"public_key": "pub", "private_key": "priv"})
    told = settings.model_dump(exclude={"public_key", "private_key"})
    assert told == {
        "base_url": "https://sandbox.ecartpay.com", "auth_scheme": "raw", "lang_cookie": "en",
        "token_ttl_s": 3300, "two_step": True, "confirm_path": "/api/payouts/{id}/confirm",
        "status_path": "/api/payouts/{id}", "lookup_mode": ("get_by_ref", "ledger"),
        "ledger_reference_fields": ("reference_id",),
        "ledger_payout_id_fields": ("payout_id", "id"), "ledger_page_size": 50,
        "ledger_pages_max": 20, "amount_decimals": 2, "reference_id_pattern": "[A-Za-z0-9-]{1,64}",
        "currencies": tuple(DEFAULT_CURRENCIES), "status_map": {}, "error_map": {},
        "balance_path": "/api/transactions/summary", "balance_path_map": "{currency}.available",
        "webhook_secret": None, "webhook_sign_scope": "data", "webhook_max_age_s": 600,
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"public_key": "a:b"}, {"public_key": "ñ"}, {"public_key": ""}, {"private_key": ""},
        {"webhook_secret": ""}, {"base_url": "http://ecartpay.com"}, {"auth_scheme": "basic"},
        {"lang_cookie": "en; x=y"}, {"token_ttl_s": 0}, {"token_ttl_s": 3601},
        {"confirm_path": "/api/payouts/confirm"}, {"confirm_path": "api/{id}"},
        {"status_path": "/api/{id}?x=y"}, {"status_path": "/api/{other}"},
        {"lookup_mode": "get_by_ref,guess"}, {"ledger_page_size": 0}, {"ledger_pages_max": 0},
        {"ledger_reference_fields": []}, {"ledger_payout_id_fields": []},
        {"amount_decimals": -1}, {"amount_decimals": 5},
        {"reference_id_pattern": "[a-z]+"}, {"reference_id_pattern": "[z-a]{1,5}"},
        {"reference_id_pattern": "[a-z]{0,5}"}, {"reference_id_pattern": "[a-z]{1,0}"},
        {"currencies": ["XXX"]}, {"currencies": ["mxn"]},
        {"status_map": {"x": "held"}}, {"status_map": {"paid": "refused"}},
        {"status_map": {"paid": "paid"}}, {"status_map": {"pending": "processing"}},
        {"status_map": {"Paid": "refused"}}, {"error_map": {"x": "token"}}, {"error_map": {1: "x"}},
        {"balance_path": "summary"}, {"balance_path_map": "available"},
        {"balance_path_map": "{currency}available"}, {"webhook_sign_scope": "all"},
        {"webhook_max_age_s": 0}, {"webhook_max_age_s": 86_401}, {"spelt_wrong": 1},
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**wrong)


def test_settings_may_be_written_as_text() -> None:
    settings = config(lookup_mode=" ledger, probe ,", error_map={"9001": "duplicate"})
    assert settings.lookup_mode == ("ledger", "probe")
    assert settings.error_map == {9001: "duplicate"}
    assert config(lookup_mode="").lookup_mode == ()
    assert config(lookup_mode=["ledger"]).lookup_mode == ("ledger",)


def test_secrets_are_not_shown() -> None:
    assert KEY not in repr(config())
    assert SECRET not in repr(config())


def test_the_capabilities() -> None:
    can = Ecart.capabilities
    assert can == replace(adapter()[0].capabilities, identity="")
    assert can.currencies == tuple(DEFAULT_CURRENCIES)
    assert (can.reference_id_chars_max, can.reference_id_char) == (64, "[A-Za-z0-9-]")
    assert (can.two_step, can.refuses_duplicates, can.look_up, can.balances, can.webhooks) == (
        True, True, True, True, True
    )  # fmt: skip
    assert (can.services, can.list_payouts, can.dry_run, can.verifies) == (False,) * 4
    assert can.absence_conclusive_after_s == 600


def test_who_is_paid_through_is_the_address() -> None:
    usual = adapter()[0].capabilities.identity
    assert adapter(base_url="https://other.example.test")[0].capabilities.identity not in (
        "", usual
    )  # fmt: skip
    rotated = adapter(public_key="new", private_key="new", webhook_secret="new")[0]
    assert rotated.capabilities.identity == usual


def test_a_documented_status_may_be_spelt_otherwise() -> None:
    spelt = {"Paid": "paid", "PENDING": "created", "abonado": "paid"}
    assert config(status_map=spelt).status_map == spelt


def test_the_capabilities_follow_the_settings() -> None:
    ecart, _ = adapter(
        two_step=False, reference_id_pattern="[a-z_]{1,12}", currencies=["MXN"], lookup_mode=""
    )
    can = ecart.capabilities
    assert (can.two_step, can.currencies, can.look_up) == (False, ("MXN",), False)
    assert (can.reference_id_chars_max, can.reference_id_char) == (12, "[a-z_]")


def test_the_accounts_defaults_are_settings_of_every_account() -> None:
    settings = AccountSettings.model_validate({"provider": "ecart", **Ecart.account_defaults})
    assert settings.options == {}
    assert (settings.service, settings.rate_per_s, settings.in_flight_max) == ("balance", 3, 5)
    assert (settings.poll_first_s, settings.poll_max_s, settings.lookup_first_s) == (5, 120, 5)
    assert (settings.connect_timeout_s, settings.read_timeout_s) == (5, 60)


def test_webhooks_are_answered_as_the_provider_expects() -> None:
    answers = Ecart.webhook_answers
    assert (answers.taken, answers.forged) == ((200, b""), (401, b""))


@pytest.mark.parametrize("fact", Ecart.facts, ids=lambda fact: str(fact.claim))
def test_what_is_assumed_names_settings_that_exist(fact: Any) -> None:
    known = {*EcartConfig.model_fields, *AccountSettings.model_fields}
    assert set(fact.settings) <= known
    assert fact.settings or fact.support != "assumed"
    assert fact.source


def test_every_setting_that_is_inferred_is_told_as_a_fact() -> None:
    told = {name for fact in Ecart.facts for name in fact.settings}
    inferred = {
        "confirm_path", "status_path", "lookup_mode", "amount_decimals", "reference_id_pattern",
        "status_map", "error_map", "balance_path", "balance_path_map", "webhook_sign_scope",
        "webhook_max_age_s", "ledger_reference_fields", "ledger_payout_id_fields",
        "ledger_page_size", "ledger_pages_max", "currencies",
    }  # fmt: skip
    assert inferred <= told
