"""Money is read and printed exactly, or refused."""

from __future__ import annotations

from decimal import Decimal

import iso4217
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.errors import MoneyError
from workers.record.money import EXPONENTS, MINOR_DIGITS_MAX, Currency, Money, total

USD, JPY, KWD, CLF = (Currency.of(code) for code in ("USD", "JPY", "KWD", "CLF"))
MINOR_MAX = 10**MINOR_DIGITS_MAX - 1
CODES = st.sampled_from(sorted(EXPONENTS))
MINORS = st.integers(0, MINOR_MAX)

# Codes of ISO 4217 that have no minor unit: nobody is paid in them.
NO_MINOR_UNIT = {
    *("XAU", "XAG", "XPD", "XPT"),  # metals
    *("XBA", "XBB", "XBC", "XBD"),  # European bond market units
    *("XDR", "XSU", "XUA"),  # units of account of the IMF, of SUCRE and of the African bank
    *("XTS", "XXX"),  # for tests, and for no currency
}


@given(code=CODES, minor=MINORS)
@example(code="USD", minor=MINOR_MAX)
@example(code="CLF", minor=1)
@example(code="JPY", minor=0)
def test_what_is_printed_is_read_back(code: str, minor: int) -> None:
    money = Money(minor, Currency.of(code))
    assert Money.parse(str(money), money.currency) == money


@given(code=CODES, minor=st.integers(-MINOR_MAX, MINOR_MAX), zeros=st.integers(0, 60))
def test_a_providers_number_is_read_exactly_whatever_its_form(
    code: str, minor: int, zeros: int
) -> None:
    money = Money(minor, Currency.of(code))
    exponent = money.currency.exponent
    point = "" if exponent else "."
    for number in (
        str(money),
        money.decimal(),
        f"{money}{point}{'0' * zeros}",
        f"{minor}e-{exponent}",
        f"{minor}{'0' * zeros}E-{exponent + zeros}",
    ):
        assert Money.from_number(number, money.currency) == money


@given(code=CODES, minor=MINORS)
def test_the_decimal_is_exact_and_has_the_currencys_places(code: str, minor: int) -> None:
    money = Money(minor, Currency.of(code))
    assert money.decimal() * 10**money.currency.exponent == minor
    assert format(money.decimal(), "f") == str(money)


def test_every_exponent_is_that_of_an_independent_iso_4217_list() -> None:
    published = {one.code: one.exponent for one in iso4217.Currency}
    assert {code: published.get(code) for code in EXPONENTS} == dict(EXPONENTS)


def test_only_codes_without_a_minor_unit_are_left_out() -> None:
    left_out = {one.code: one.exponent for one in iso4217.Currency if one.code not in EXPONENTS}
    assert left_out == dict.fromkeys(NO_MINOR_UNIT)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("usd", "expected USD, in upper case"),
        (" USD", "expected USD, in upper case and without blanks"),
        ("Usd ", "expected USD"),
        ("XXX", "ISO 4217"),
        ("XAU", "ISO 4217"),
        ("BTC", "ISO 4217"),
        ("", "ISO 4217"),
        ("840", "ISO 4217"),
    ],
)
def test_an_unknown_currency_is_refused_with_what_was_expected(code: str, expected: str) -> None:
    with pytest.raises(MoneyError, match=expected):
        Currency.of(code)


REFUSED = [
    ("", USD, "plain decimal"),
    ("+1", USD, "without a sign"),
    ("-1", USD, "without a sign"),
    ("-0.00", USD, "without a sign"),
    ("\N{MINUS SIGN}1", USD, "plain decimal"),
    (" 1", USD, "without blanks"),
    ("1 ", USD, "without blanks"),
    ("1\n", USD, "without blanks"),
    ("\t1", USD, "without blanks"),
    ("1 000", USD, "without blanks"),
    ("1\N{NO-BREAK SPACE}000", USD, "plain decimal"),
    ("1,000.00", USD, "no separators"),
    ("10,50", USD, "no separators"),
    ("1'000", USD, "no separators"),
    ("1_000", USD, "no separators"),
    ("1.000.00", USD, "plain decimal"),
    ("1e3", USD, "scientific notation"),
    ("1.5E+10", USD, "scientific notation"),
    ("4.00E-05", USD, "scientific notation"),
    ("007.50", USD, "leading zeros"),
    ("00", USD, "leading zeros"),
    ("00.5", USD, "leading zeros"),
    (".5", USD, "a digit before the point"),
    (".", USD, "a digit before the point"),
    ("1.", USD, "decimals after the point"),
    ("1.005", USD, "expected at most 2 decimals for USD, found 3"),
    ("1.000", USD, "expected at most 2 decimals for USD, found 3"),
    ("100.00", JPY, "expected no decimals for JPY, found 2"),
    ("100.0", JPY, "expected no decimals for JPY, found 1"),
    ("1.0000", KWD, "expected at most 3 decimals for KWD, found 4"),
    ("1.00000", CLF, "expected at most 4 decimals for CLF, found 5"),
    ("10000000000000000", USD, "at most 16 digits"),
    ("1" * 19, JPY, "at most 18 digits"),
    ("1" * 5000, JPY, "at most 18 digits"),
    ("\N{ARABIC-INDIC DIGIT ONE}", USD, "plain decimal"),
    ("\N{FULLWIDTH DIGIT ONE}0.50", USD, "plain decimal"),
    ("1\N{SUPERSCRIPT TWO}", USD, "plain decimal"),
    ("0x10", USD, "plain decimal"),
    ("NaN", USD, "plain decimal"),
    ("Infinity", USD, "plain decimal"),
    ("$5", USD, "plain decimal"),
    ("5USD", USD, "plain decimal"),
    ("(5.00)", USD, "plain decimal"),
    ("=1+1", USD, "plain decimal"),
]


@pytest.mark.parametrize(("text", "currency", "expected"), REFUSED)
def test_an_amount_that_is_no_plain_decimal_is_refused(
    text: str, currency: Currency, expected: str
) -> None:
    with pytest.raises(MoneyError, match=expected):
        Money.parse(text, currency)


@given(text=st.text(alphabet="0123456789.,-+eE ٣_", max_size=25), code=CODES)
def test_a_text_is_read_as_the_same_number_or_refused(text: str, code: str) -> None:
    currency = Currency.of(code)
    try:
        money = Money.parse(text, currency)
    except MoneyError:
        return
    assert money.decimal() == Decimal(text)
    assert money.minor <= MINOR_MAX


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("0", USD, 0),
        ("0.01", USD, 1),
        ("7.5", USD, 750),
        ("7", USD, 700),
        ("9999999999999999.99", USD, MINOR_MAX),
        ("9" * 18, JPY, MINOR_MAX),
        ("0.001", KWD, 1),
        ("1.2345", CLF, 12345),
    ],
)
def test_fewer_decimals_than_the_currency_has_are_filled_up(
    text: str, currency: Currency, minor: int
) -> None:
    assert Money.parse(text, currency) == Money(minor, currency)


@pytest.mark.parametrize(
    ("number", "currency", "minor"),
    [
        (10, USD, 1000),
        (Decimal("10.5"), USD, 1050),
        ("10.50000", USD, 1050),
        (Decimal("100.00"), JPY, 100),
        ("1E+3", USD, 100_000),
        (Decimal("1E+3"), JPY, 1000),
        ("-2.50", USD, -250),
        (-3, JPY, -3),
        (0, USD, 0),
        ("-0.00", USD, 0),
        ("0e9999999", USD, 0),
        ("10." + "0" * 35, USD, 1000),
        (Decimal("12345678901234.56"), USD, 1_234_567_890_123_456),
    ],
)
def test_trailing_zeros_of_a_providers_number_mean_nothing(
    number: Decimal | int | str, currency: Currency, minor: int
) -> None:
    assert Money.from_number(number, currency) == Money(minor, currency)


@pytest.mark.parametrize(
    ("number", "currency"),
    [
        ("NaN", USD),
        (Decimal("sNaN"), USD),
        ("Infinity", USD),
        (Decimal("-Infinity"), USD),
        ("1e9999999", USD),
        ("1e-9999999", USD),
        (Decimal("1E+999999"), JPY),
        ("0.001", USD),
        ("-0.001", USD),
        ("0.5", JPY),
        ("10." + "0" * 34 + "1", USD),
        ("0." + "3" * 35, USD),
        (10**17, USD),
        ("1" + "0" * 60, JPY),
        ("", USD),
        ("ten", USD),
        ("1,000", USD),
    ],
)
def test_a_number_that_does_not_fit_the_currency_is_refused(
    number: Decimal | int | str, currency: Currency
) -> None:
    with pytest.raises(MoneyError, match=f"{currency.code}"):
        Money.from_number(number, currency)


def test_totals_are_kept_apart_by_currency_in_order_of_its_code() -> None:
    sums = total([Money(5, USD), Money(7, JPY), Money(6, USD), Money(-1, JPY)])
    assert list(sums.items()) == [(JPY, Money(6, JPY)), (USD, Money(11, USD))]
    assert total([]) == {}


def test_a_total_beyond_64_bits_is_still_exact() -> None:
    sums = total([Money(MINOR_MAX, USD)] * 1000)
    assert sums[USD].minor == MINOR_MAX * 1000


@pytest.mark.parametrize("operation", ["__add__", "__sub__", "__lt__", "__le__"])
def test_two_currencies_do_not_add_up(operation: str) -> None:
    with pytest.raises(MoneyError, match="USD and JPY do not add up"):
        getattr(Money(1, USD), operation)(Money(1, JPY))


def test_the_same_code_with_another_exponent_is_another_currency() -> None:
    with pytest.raises(MoneyError, match="do not add up"):
        Money(1, USD) + Money(1, Currency("USD", 3))


def test_amounts_of_one_currency_are_added_and_compared() -> None:
    assert Money(5, USD) + Money(6, USD) == Money(11, USD)
    assert Money(5, USD) - Money(6, USD) == Money(-1, USD)
    assert Money(5, USD) < Money(6, USD)
    assert Money(6, USD) <= Money(6, USD)
    assert not Money(6, USD) < Money(6, USD)


@pytest.mark.parametrize(
    ("money", "shown"),
    [
        (Money(123_456_789, USD), "1,234,567.89 USD"),
        (Money(5, USD), "0.05 USD"),
        (Money(-123_456, USD), "-1,234.56 USD"),
        (Money(1_234_567, JPY), "1,234,567 JPY"),
        (Money(1, CLF), "0.0001 CLF"),
    ],
)
def test_people_read_amounts_with_grouping_and_currency(money: Money, shown: str) -> None:
    assert money.named() == shown
