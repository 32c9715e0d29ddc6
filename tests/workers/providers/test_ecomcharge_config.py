"""An eComCharge account's settings, the rules of its files, and what is told of both."""

from __future__ import annotations

import base64
import re
from datetime import date
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from tests.workers.providers.ecomcharge_world import SECRET, USD, adapter, cards, config, order
from workers.providers.ecomcharge import EComCharge
from workers.providers.ecomcharge_config import CUSTOMER, EComChargeConfig, read_public_key
from workers.record.money import Currency
from workers.settings import AccountSettings

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
DER = KEY.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
OTHER_KIND = ec.generate_private_key(ec.SECP256R1()).public_key()

# Settings.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"secret_key": ""}, "secret_key"),
        ({"shop_id": "42:42"}, "shop_id"),
        ({"shop_id": ""}, "shop_id"),
        ({"base_url": "http://api.example.test"}, "https"),
        ({"currency_decimals": {}}, "currency_decimals"),
        ({"currency_decimals": {"usd": 2}}, "USD"),
        ({"currency_decimals": {"ZZZ": 2}}, "ISO 4217"),
        ({"currency_decimals": {"USD": 5}}, "currency_decimals"),
        ({"currency_decimals": {"USD": -1}}, "currency_decimals"),
        ({"methods": {}}, "methods"),
        ({"methods": {"visa": {"required": ["type"]}}}, "no member type"),
        ({"methods": {"visa": {"needs": ["x"]}}}, "needs"),
        ({"methods": {"visa": {"customer_required": ["name"]}}}, "found name"),
        ({"webhook_public_key": "demo"}, "back office"),
        ({"resend_within_s": 86_401}, "resend_within_s"),
        ({"create_path": "transactions"}, "create_path"),
        ({"create_path": "/pay", "precheck_path": "/pay"}, "precheck_path must not be"),
        ({"precheck_path": "/transactions/payouts"}, "precheck_path must not be"),
        ({"precheck_path": "/transactions/payout"}, "precheck_path must not be"),
        ({"payment_types": ["Payment"]}, "payment_types"),
        ({"create_path": "/transactions/payouts?x=1"}, "create_path"),
        ({"statuses": {"expired": "unknown"}}, "statuses"),
        ({"statuses": {"Expired": "refused"}}, "statuses"),
        ({"additional_data": {"since": date(2024, 1, 10)}}, "additional_data"),
        ({"sender": {"email": "x@example.org"}}, "cards"),
        ({"sender_billing_address": {"city": "x"}}, "cards"),
        (cards(sender={"name": "x"}), "found name"),
        (cards(precheck=True), "beyag"),
        (cards(methods={"visa": {"required": ["account"]}}), "found account"),
        (cards(methods={"visa": {"customer_required": ["gender"]}}), "found gender"),
        ({"secret_kez": "x"}, "secret_kez"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        config(**changes)


@pytest.mark.parametrize("name", ["test_mode", "currency_decimals", "methods", "secret_key"])
def test_what_must_not_be_guessed_has_no_default(name: str) -> None:
    values = config().model_dump(exclude={name}, exclude_defaults=True)
    values.setdefault("secret_key", SECRET)
    if name == "secret_key":
        del values["secret_key"]
    with pytest.raises(ValidationError, match=name):
        EComChargeConfig(**values)


def test_a_shop_id_may_be_a_number_and_a_secret_is_never_shown() -> None:
    assert config(shop_id=4242).shop_id == "4242"
    assert SECRET not in repr(config())
    assert config(**cards(methods={"visa": {"optional": ["number", "holder"]}})).api == "cards"


def test_a_public_key_is_read_with_or_without_its_line_breaks() -> None:
    bare = base64.b64encode(DER).decode()
    lines = "\n".join(bare[at : at + 64] for at in range(0, len(bare), 64))
    framed = f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n"
    for text in (bare, lines, framed):
        assert read_public_key(text).public_numbers() == KEY.public_numbers()
        assert config(webhook_public_key=text).webhook_public_key == text


def test_a_public_key_with_anything_else_in_it_is_refused() -> None:
    bare = base64.b64encode(DER).decode()
    with pytest.raises(ValueError, match="back office"):
        read_public_key(f"{bare[:40]}!{bare[40:]}")


def test_a_key_of_another_kind_is_refused() -> None:
    der = OTHER_KIND.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValueError, match="RSA"):
        read_public_key(base64.b64encode(der).decode())


# What is told of the adapter.


def test_every_assumption_names_settings_that_exist() -> None:
    known = {*EComChargeConfig.model_fields, *AccountSettings.model_fields}
    for fact in EComCharge.facts:
        assert set(fact.settings) <= known, fact
        assert fact.settings or fact.support != "assumed", fact
        assert fact.source


def test_account_defaults_are_settings_of_every_account() -> None:
    AccountSettings(provider="ecomcharge", **EComCharge.account_defaults)
    assert set(EComCharge.account_defaults) <= set(AccountSettings.model_fields)
    assert EComCharge.account_defaults == {
        "rate_per_s": 5, "connect_timeout_s": 5, "read_timeout_s": 60, "poll_first_s": 5,
        "poll_max_s": 900, "lookup_first_s": 5,
    }  # fmt: skip


# Services.


def test_a_method_is_a_service_with_the_fields_of_its_template() -> None:
    ecomcharge, _ = adapter(
        methods={
            "visa": {},
            "bank_transfer": {
                "required": ["account_number", "bank"],
                "optional": ["branch", "bank"],
                "customer_required": ["first_name"],
            },
        }
    )
    bank, visa = ecomcharge.services(USD)
    assert (bank.code, visa.code, visa.fields) == ("bank_transfer", "visa", ())
    assert [(rule.name, rule.required) for rule in bank.fields or ()] == [
        ("account_number", True),
        ("bank", True),
        ("branch", False),
        ("customer.first_name", True),
    ]
    assert (bank.currency, bank.beneficiary_currency, bank.usable) == (USD, USD, True)


@pytest.mark.parametrize(
    ("code", "decimals", "taken"), [("USD", 2, 2), ("USD", 0, 0), ("JPY", 2, 0), ("IDR", 0, 0)]
)
def test_a_service_takes_the_decimals_that_both_sides_have(
    code: str, decimals: int, taken: int
) -> None:
    ecomcharge, _ = adapter(currency_decimals={code: decimals})
    assert [one.decimals for one in ecomcharge.services(Currency.of(code))] == [taken]


def test_a_currency_without_confirmed_decimals_is_not_paid() -> None:
    ecomcharge, server = adapter()
    assert ecomcharge.services(Currency.of("EUR")) == []
    assert server.asked == []


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("number", ["4000000000000002"], ["4000", "4000 0000 0000 0002", "x" * 16]),
        ("exp_month", ["01", "12"], ["1", "13", "00"]),
        ("exp_year", ["2030"], ["30", "1999"]),
        ("holder", ["JANE ROE"], []),
    ],
)
def test_card_members_have_patterns(name: str, good: list[str], bad: list[str]) -> None:
    ecomcharge, _ = adapter(**cards(methods={"visa": {"optional": [name]}}))
    (service,) = ecomcharge.services(USD)
    (rule,) = service.fields or ()
    assert (rule.name, rule.required) == (name, False)
    assert all(rule.pattern is None or re.fullmatch(rule.pattern, value) for value in good)
    assert not any(re.fullmatch(rule.pattern or "", value) for value in bad)


# What no service rule says.

# Source: eComCharge payout API facts, section 4.1; 255 where it gives none.
LENGTHS = {
    "first_name": 60, "last_name": 60, "middle_name": 60, "state": 40, "city": 120, "zip": 40,
    "address": 510, "phone": 200, "external_id": 255, "device_id": 255, "id_number": 255,
    "taxpayer_id": 255,
}  # fmt: skip


@pytest.mark.parametrize(("name", "most"), LENGTHS.items())
def test_a_customer_column_has_an_end(name: str, most: int) -> None:
    ecomcharge, _ = adapter()
    assert ecomcharge.why_not(order(customer={name: "x" * most})) == []
    long = ecomcharge.why_not(order(customer={name: "x" * (most + 1)}))
    assert long == [(f"customer.{name}", f"at most {most} characters")]


@pytest.mark.parametrize(
    ("customer", "expected"),
    [
        ({"zip": "x" * 40, "country": "GB"}, {}),
        ({"zip": "10001-0001", "country": "US"}, {}),
        ({"zip": "1000", "country": "US"}, {"customer.zip": "10001-0001"}),
        ({"country": "us"}, {"customer.country": "two capital letters"}),
        ({"country": "USA"}, {"customer.country": "at most 2"}),
        ({"gender": "female"}, {}),
        ({"gender": "f"}, {"customer.gender": "male or female"}),
        ({"email": "jane"}, {"customer.email": "an address"}),
        ({"birth_date": "1990-02-28"}, {}),
        ({"birth_date": "1990-02-30"}, {"customer.birth_date": "a date"}),
        ({"birth_date": "19900228"}, {"customer.birth_date": "a date"}),
        ({"ip": "192.0.2.10"}, {}),
        ({"ip": "2001:db8::1"}, {}),
        ({"ip": "192.0.2.300"}, {"customer.ip": "an IP address"}),
        ({"reference_id": "x"}, {"customer.reference_id": "no value"}),
        ({"name": {"first": "x"}}, {"customer.name.first": "no value"}),
        ({"document": {"number": "x"}}, {"customer.document.number": "no value"}),
    ],
)
def test_customer_columns_are_those_of_the_api(
    customer: dict[str, Any], expected: dict[str, str]
) -> None:
    found = dict(adapter()[0].why_not(order(customer=customer)))
    assert found.keys() == expected.keys()
    for column, words in expected.items():
        assert words in found[column]


def test_cards_have_customer_columns_of_their_own() -> None:
    ecomcharge, _ = adapter(**cards())
    columns = {"document": {"type": "passport", "series": "X"}, "city": "x", "gender": "male"}
    found = ecomcharge.why_not(order(fields={"token": "t"}, customer=columns))
    assert [column for column, _ in found] == ["customer.gender"]
    assert "document.number" in CUSTOMER["cards"]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"token": "t"}, False),
        ({"number": "4000000000000002", "holder": "JANE ROE"}, False),
        ({"holder": "JANE ROE"}, True),
        ({"token": "t", "number": "4000000000000002"}, True),
    ],
)
def test_a_card_is_named_by_its_token_or_by_its_number(fields: dict[str, str], wrong: bool) -> None:
    found = adapter(**cards())[0].why_not(order(fields=fields))
    assert [column for column, _ in found] == (["fields.token"] if wrong else [])
    assert adapter()[0].why_not(order(fields=fields)) == []


def test_context_has_no_place_and_a_description_has_an_end() -> None:
    ecomcharge, _ = adapter()
    found = ecomcharge.why_not(order(context={"a": "1", "b": "2"}, description="x" * 256))
    assert [column for column, _ in found] == ["context.a", "description"]
    assert ecomcharge.why_not(order(description="x" * 255, metadata={"team": "A"})) == []
