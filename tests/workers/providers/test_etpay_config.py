"""ETpay's settings, and what they ask of a row: the service's rules, RUTs, descriptions."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.workers.providers.etpay_world import CLP, NUMBER, RUT, adapter, config, order
from workers.providers.etpay import ETpayConfig
from workers.providers.etpay_config import BANK_CODES, STATUS_MAP, check_digit
from workers.providers.port import Order, Service
from workers.record.money import Currency, Money

# Settings.


@pytest.mark.parametrize(
    "missing", ["base_url", "merchant_code", "merchant_api_token", "username", "password"]
)
def test_address_and_credentials_have_no_default(missing: str) -> None:
    given_all = {
        "base_url": "https://api.example.test", "merchant_code": "cl_shop",
        "merchant_api_token": "a", "username": "u", "password": "p",
    }  # fmt: skip
    assert ETpayConfig.model_validate(given_all)
    with pytest.raises(ValidationError, match=missing):
        ETpayConfig.model_validate({k: v for k, v in given_all.items() if k != missing})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"base_url": "http://api.example.test"}, "https"),
        ({"base_url": "https://api.example.test/v1"}, "without /v1"),
        ({"merchant_code": ""}, "merchant_code"),
        ({"merchant_code": "cl shop"}, "merchant_code"),
        ({"merchant_api_token": ""}, "merchant_api_token"),
        ({"password": ""}, "password"),
        ({"username": ""}, "username"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"create_path": ""}, "expected a path"),
        ({"create_path": "v1/payouts"}, "expected a path"),
        ({"create_path": "/v1/pay outs"}, "expected a path"),
        ({"create_path": "/v1/payouts#x"}, "expected a path"),
        ({"create_path": "/v1/{payout_id}"}, "no placeholder here"),
        ({"login_path": "/{}"}, "no placeholder here"),
        ({"status_path": "/v1/payouts"}, r"expected \{payout_id\}"),
        ({"status_path": ""}, "expected a path"),
        ({"status_by_order_path": "/v1/payouts"}, r"expected \{merchant_order_id\}"),
        ({"list_path": "/v1/payouts?to={date_to}"}, r"expected \{date_from\}"),
        ({"list_path": "/v1/payouts?from={date_from}"}, r"expected \{date_to\}"),
        ({"field_map": {"request": {"rut": "account"}}}, "take the same place"),
        ({"field_map": {"request": {"rut": "amount"}}}, "take the same place"),
        ({"field_map": {"login": {"username": "merchant"}}}, "take the same place"),
        ({"field_map": {"request": {"amount": ""}}}, "amount"),
        ({"field_map": {"request": {"name": "a..b"}}}, "name"),
        ({"field_map": {"response": {"payout_id": ""}}}, "payout_id"),
        ({"field_map": {"request": {"colour": "x"}}}, "colour"),
        ({"status_map": {"done": "finished"}}, "status_map"),
        ({"error_map": {"E": {"class": "odd"}}}, "error_map"),
        ({"error_map": {"E": {"text": "no class"}}}, "error_map"),
        ({"range_timezone": "Chile/Nowhere"}, "range_timezone"),
        ({"range_timezone": "America"}, "range_timezone"),
        ({"range_timezone": "../etc/passwd"}, "range_timezone"),
        ({"account_number_pattern": "("}, "account_number_pattern"),
        ({"reference_id_char": "["}, "reference_id_char"),
        ({"bank_codes": {}}, "bank_codes"),
        ({"bank_codes": {"009": ""}, "bank_code_style": "etpay_enum"}, "bank_codes"),
        ({"auth_scheme": "basic"}, "auth_scheme"),
        ({"amount_max": 0}, "amount_max"),
        ({"lookup_days": 0}, "lookup_days"),
        ({"accepted_statuses": [99]}, "accepted_statuses"),
        ({"accepted_statuses": [200, 401]}, "accepted_statuses"),
        ({"status_map": {"PAGADO": "paid", "Pagado": "failed"}}, "another meaning"),
        (
            {"error_map": {"A1": {"class": "low_balance"}, "a1": {"class": "validation"}}},
            "another meaning",
        ),
        ({"required_fields": ["colour"]}, "required_fields"),
        ({"low_balance_words": [""]}, "low_balance_words"),
        ({"webhook_auth": "jwt_hs256"}, "needs webhook_secret"),
        ({"webhook_auth": "shared_secret_path"}, "needs webhook_secret"),
        ({"webhook_auth": "jwt_hs256", "webhook_secret": ""}, "webhook_secret"),
        ({"webhook_auth": "shared_secret_path", "webhook_secret": "x" * 15}, "at least 16"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_start(
    changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValidationError, match=expected):
        config(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"base_url": "https://api.example.test/v1", "create_path": "/payouts"},
        {"create_path": "/v1/{merchant_code}/payouts"},
        {"status_by_order_path": "", "list_path": "", "balance_path": ""},
        {"webhook_auth": "jwt_hs256", "webhook_secret": "short"},
        {"webhook_auth": "shared_secret_path", "webhook_secret": "x" * 16},
        {"webhook_secret": "unused"},
        {"field_map": {"request": {"merchant_code": "", "callback_url": "", "email": ""}}},
    ],
)
def test_settings_that_can_work_are_taken(changes: dict[str, Any]) -> None:
    assert config(**changes)


def test_the_defaults_are_the_pages() -> None:
    expected = {
        "login_path": "/v1/auth/login", "create_path": "/v1/payouts", "auth_scheme": "raw",
        "status_path": "/v1/payouts/{payout_id}", "balance_path": "/v1/balance",
        "token_refresh_margin_s": 120, "token_ttl_s": 3600, "bank_code_style": "cmf3",
        "login_fault_statuses": (400, 401, 403, 404, 405), "accepted_statuses": (200, 201),
        "not_created_statuses": (401, 403, 404, 405, 429), "trust_4xx": False,
        "create_is_idempotent": False, "webhook_auth": "confirm_by_status", "webhook_secret": None,
        "range_timezone": "America/Santiago", "list_limit": 100, "list_pages_max": 5000,
        "lookup_days": 3, "lookup_pages_max": 20, "amount_max": 100_000_000, "callback_url": None,
        "reference_id_chars_max": 64, "reference_id_char": "[A-Za-z0-9-]",
        "description_chars_max": 30, "description_forbids": ",",
    }  # fmt: skip
    settings = config()
    assert {name: getattr(settings, name) for name in expected} == expected
    assert set(settings.error_map) == {"po-invalid-account"}


@pytest.mark.parametrize(
    "limits",
    [
        {"token_refresh_margin_s": 0, "description_chars_max": 0},
        {"token_ttl_s": 1, "lookup_days": 2, "lookup_pages_max": 1},
        {"accepted_statuses": [200, 299], "lookup_days": 366},
        {"status_map": {"PAGADO": "paid", "Pagado": "paid"}},
    ],
)
def test_a_setting_may_be_at_its_limit(limits: dict[str, Any]) -> None:
    assert config(**limits)


@pytest.mark.parametrize(
    "beyond",
    [
        {"token_refresh_margin_s": -1}, {"token_ttl_s": 0}, {"lookup_days": 367},
        {"accepted_statuses": [300]}, {"accepted_statuses": [199]}, {"lookup_days": 1},
        {"not_created_statuses": [400]},
    ],
)  # fmt: skip
def test_a_setting_beyond_its_limit_is_refused(beyond: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(beyond))):
        config(**beyond)


def test_codes_and_words_are_known_in_any_case() -> None:
    settings = config(status_map={"PAGADO": "paid"}, error_map={"Po-1": {"class": "validation"}})
    assert settings.status_map["pagado"] == "paid"
    assert list(settings.error_map) == ["po-1"]


def test_an_accounts_statuses_go_on_top_of_the_table() -> None:
    settings = config(status_map={"abonado": "paid", "Approved": "paid"})
    assert settings.status_map == {**STATUS_MAP, "abonado": "paid", "approved": "paid"}


# The service.


def service(**changes: Any) -> Service:
    etpay, server = adapter(**changes)
    (found,) = etpay.services(CLP)
    assert server.asked == server.logged_in == []
    return found


def test_bank_transfers_in_whole_pesos_are_the_one_service() -> None:
    found = service()
    assert (found.code, found.currency, found.beneficiary_currency) == ("bank_transfer", CLP, CLP)
    assert (found.decimals, found.amount_max) == (0, Money(100_000_000, CLP))
    assert service(amount_max=5000).amount_max == Money(5000, CLP)
    etpay, _ = adapter()
    assert etpay.services(Currency.of("USD")) == []


def rules(**changes: Any) -> dict[str, tuple[bool, str | None]]:
    return {rule.name: (rule.required, rule.pattern) for rule in service(**changes).fields or ()}


def test_every_field_but_the_email_is_required_unless_set_otherwise() -> None:
    required = {name for name, (needed, _) in rules().items() if needed}
    assert required == {"name", "rut", "bank_code", "account_type", "account_number"}
    required = {name for name, (needed, _) in rules(required_fields=["email"]).items() if needed}
    assert required == {"email"}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("rut", ["111111111", "12345678K", "1234567K", "1234560"],
         ["11111111-1", "11.111.111-1", "12345678k", "1", "", "0123456789", "1234567890",
          "K2345678", "\uff11" * 9]),
        ("bank_code", list(BANK_CODES), ["37", "000", "0377", "CL_BCI", "037 ", ""]),
        ("account_type", ["cuenta_corriente", "cuenta_vista", "cuenta_ahorro", "cuenta_rut"],
         ["corriente", "CUENTA_RUT", ""]),
        ("account_number", ["1", "0012345678", "9" * 20], ["", "12-34", "9" * 21, "x1", "\uff11"]),
        ("email", ["camila@example.com", "a@b"], ["camila", "a@b@c", "a b@c", "@", "a@"]),
    ],
)  # fmt: skip
def test_a_fields_pattern_takes_the_whole_value(name: str, good: list[str], bad: list[str]) -> None:
    pattern = rules()[name][1] or ""
    assert [value for value in good if not re.fullmatch(pattern, value)] == []
    assert [value for value in bad if re.fullmatch(pattern, value)] == []


def test_every_rule_has_words_and_an_example_that_fits() -> None:
    for rule in service().fields or ():
        assert rule.label
        assert re.fullmatch(rule.pattern or ".+", rule.example)


def test_the_patterns_follow_the_settings() -> None:
    changed = rules(bank_codes={"9.9": "X"}, account_types={"a|b": "c"},
                    account_number_pattern="[0-9]{3}")  # fmt: skip
    assert changed["bank_code"][1] == r"9\.9"
    assert re.fullmatch(changed["account_type"][1] or "", "a") is None
    assert changed["account_number"][1] == "[0-9]{3}"


def test_with_etpays_own_names_only_banks_that_have_one_are_offered() -> None:
    offered = (rules(bank_code_style="etpay_enum")["bank_code"][1] or "").split("|")
    assert offered == ["001", "012", "014", "016", "037", "039", "051"]


# What a row must satisfy beside that.


def faults(an_order: Order, **changes: Any) -> list[tuple[str, str]]:
    etpay, server = adapter(**changes)
    found = list(etpay.why_not(an_order))
    assert server.asked == []
    return found


def columns(an_order: Order, **changes: Any) -> list[str]:
    return [column for column, _ in faults(an_order, **changes)]


def test_a_good_row_has_no_fault() -> None:
    assert faults(order()) == []
    assert faults(order(description="", fields={"email": None})) == []


def usual_formula(body: int) -> str:
    """Another way to the same digit: s = (s + d * (9 - i mod 6)) mod 11, from the right."""
    rest, place = 1, 0
    while body:
        rest = (rest + body % 10 * (9 - place % 6)) % 11
        body, place = body // 10, place + 1
    return str(rest - 1) if rest else "K"


@given(st.integers(min_value=1, max_value=99_999_999))
def test_the_check_digit_is_the_one_of_the_usual_formula(body: int) -> None:
    assert check_digit(str(body)) == usual_formula(body)


@given(st.integers(min_value=100_000, max_value=99_999_999), st.data())
def test_no_single_slip_in_a_rut_goes_unseen(body: int, data: st.DataObject) -> None:
    rut = f"{body}{check_digit(str(body))}"
    assert columns(order(fields={"rut": rut})) == []
    at = data.draw(st.integers(0, len(rut) - 1))
    digit = data.draw(st.sampled_from("0123456789").filter(lambda one: one != rut[at]))
    slipped = rut[:at] + digit + rut[at + 1 :]
    assert columns(order(fields={"rut": slipped})) == ["fields.rut"]
    at = data.draw(st.integers(0, len(rut) - 3))
    swapped = rut[:at] + rut[at + 1] + rut[at] + rut[at + 2 :]
    assert columns(order(fields={"rut": swapped})) == (["fields.rut"] if swapped != rut else [])


def test_a_rut_whose_check_digit_is_wrong_says_what_is_expected() -> None:
    assert faults(order(fields={"rut": "111111112"})) == [
        ("fields.rut", "a RUT whose check digit is right")
    ]


@pytest.mark.parametrize("rut", [None, "", "1", "K", "11.111.111-2", "abc", "²²²²²²²²1"])
def test_what_has_not_a_ruts_shape_is_left_to_the_fields_rule(rut: str | None) -> None:
    assert columns(order(fields={"rut": rut})) == []


def test_a_cuenta_rut_without_its_rut_is_left_to_the_fields_rule() -> None:
    for rut in (None, ""):
        kind = {"bank_code": "012", "account_type": "cuenta_rut", "rut": rut}
        assert columns(order(fields=kind)) == []


@pytest.mark.parametrize(
    ("bank", "kind", "number", "wrong"),
    [
        ("012", "cuenta_rut", "11111111", False),
        ("012", "cuenta_rut", RUT, True),
        ("012", "cuenta_rut", NUMBER, True),
        ("012", "cuenta_vista", NUMBER, False),
        ("037", "cuenta_rut", NUMBER, False),
    ],
)
def test_a_cuenta_rut_has_the_ruts_own_number(
    bank: str, kind: str, number: str, wrong: bool
) -> None:
    ours = order(fields={"bank_code": bank, "account_type": kind, "account_number": number})
    assert columns(ours) == (["fields.account_number"] if wrong else [])


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("x" * 30, []),
        ("ñ" * 30, []),
        ("x" * 31, ["at most 30 characters, found 31"]),
        ("Pago, mayo", ["a text without ,"]),
        ("x" * 30 + ",", ["at most 30 characters, found 31", "a text without ,"]),
    ],
)
def test_a_description_is_short_and_has_no_comma(description: str, expected: list[str]) -> None:
    found = faults(order(description=description))
    assert found == [("description", words) for words in expected]


def test_what_a_description_may_hold_can_be_set() -> None:
    ours = order(description="Pago, mayo; junio")
    assert columns(ours, description_forbids="", description_chars_max=40) == []
    assert faults(ours, description_forbids=";,") == [("description", "a text without ; ,")]


@pytest.mark.parametrize(
    ("given_objects", "expected"),
    [
        ({"customer": {"first_name": "Camila", "last_name": "Soto"}}, ["customer.first_name"]),
        ({"customer": {"address": {"city": "Arica"}}}, ["customer.address.city"]),
        ({"customer": {"address": {}}}, ["customer.address"]),
        ({"context": {"card": {"exp": "09"}}}, ["context.card.exp"]),
        ({"customer": {"id": "1"}, "context": {"ip": "x"}}, ["customer.id", "context.ip"]),
    ],
)
def test_columns_that_etpay_has_no_place_for_are_faults(
    given_objects: dict[str, Any], expected: list[str]
) -> None:
    found = faults(order(**given_objects))
    assert [column for column, _ in found] == expected
    for column, words in found:
        assert words == f"no value: ETpay takes no {column.partition('.')[0]} data"
