"""Money, exact: integer minor units with their currency, and the only parsing and printing of
amounts.

Nothing is rounded in silence, and a float never comes near: a number that does not fit the currency
is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from workers.errors import MoneyError

# Source: ISO 4217 List One (SIX, "Current currency & funds code list"), read 2026-11-21. Codes
# without a minor unit (gold, test codes and the like) are left out: nobody is paid in them.
_TWO_DECIMALS = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE
CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD
HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK
MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD
RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH
USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG
"""
_OTHER_DECIMALS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
EXPONENTS: Mapping[str, int] = dict.fromkeys(_TWO_DECIMALS.split(), 2) | {
    code: exponent for exponent, codes in _OTHER_DECIMALS.items() for code in codes.split()
}

# 18 digits fit a signed 64-bit integer (9.2e18) with room for the sum of a batch's few largest
# rows.
MINOR_DIGITS_MAX = 18

# No amount has more zeros than this before or after its digits; a number that has is an attack.
_SHIFT_MAX = 100
_PLAIN_DECIMAL = re.compile(r"(0|[1-9][0-9]*)(?:\.([0-9]+))?", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Currency:
    """A currency and the number of decimals of its minor unit: `Currency("JPY", 0)`."""

    code: str
    exponent: int

    @classmethod
    def of(cls, code: str) -> Currency:
        """The ISO 4217 currency of that code.

        Raises:
            MoneyError: no such code; the message suggests the upper-case spelling where that is all
                that is wrong.
        """
        exponent = EXPONENTS.get(code)
        if exponent is not None:
            return cls(code, exponent)
        if code.strip().upper() in EXPONENTS:
            raise MoneyError(f"expected {code.strip().upper()}, in upper case and without blanks")
        raise MoneyError("expected a currency code of ISO 4217 in upper case, such as EUR")

    def __str__(self) -> str:
        return self.code


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units: `Money(1050, Currency.of("USD"))` is 10.50 USD."""

    minor: int
    currency: Currency

    @classmethod
    def parse(cls, text: str, currency: Currency) -> Money:
        """Read a plain decimal in major units, such as `1234.50`.

        Raises:
            MoneyError: a sign, blank, separator, exponent or leading zero, `.50`, `10.`, more
                decimals than the
                currency has, or more than 18 digits. The message says what was expected.
        """
        match = _PLAIN_DECIMAL.fullmatch(text)
        if match is None:
            raise MoneyError(_why_not_plain(text))
        whole, fraction = match[1], match[2] or ""
        if len(fraction) > currency.exponent:
            most = _decimals(currency.exponent)
            raise MoneyError(f"expected {most} for {currency.code}, found {len(fraction)}")
        if len(whole) + currency.exponent > MINOR_DIGITS_MAX:
            raise MoneyError(
                f"expected at most {MINOR_DIGITS_MAX - currency.exponent} digits before the point"
            )
        return cls(int(whole + fraction.ljust(currency.exponent, "0")), currency)

    @classmethod
    def from_number(cls, number: Decimal | int | str, currency: Currency) -> Money:
        """An amount as a provider writes it: a number or text in major units, where trailing zeros
        mean nothing.

        Raises:
            MoneyError: not a finite number, or it has a part smaller than the minor unit.
        """
        try:
            exact = Decimal(number)
            digits = exact.as_tuple()
        except (InvalidOperation, ValueError, TypeError) as error:
            raise MoneyError(f"not an amount of {currency.code}") from error
        # Scaled by hand: Decimal's own arithmetic rounds beyond its 28 digits.
        if not exact.is_finite() or not isinstance(digits.exponent, int):
            raise MoneyError(f"not an amount of {currency.code}")
        shift = digits.exponent + currency.exponent
        if not exact:
            return cls(0, currency)
        if abs(shift) > _SHIFT_MAX:
            raise MoneyError(f"not a whole number of {currency.code} minor units")
        whole = int("".join(map(str, digits.digits)))
        minor, rest = (whole * 10**shift, 0) if shift >= 0 else divmod(whole, 10**-shift)
        if rest or minor >= 10**MINOR_DIGITS_MAX:
            raise MoneyError(f"not a whole number of {currency.code} minor units")
        minor = -minor if digits.sign else minor
        return cls(minor, currency)

    def decimal(self) -> Decimal:
        """Major units, with exactly the currency's decimals: `Decimal("10.50")`."""
        return Decimal(self.minor).scaleb(-self.currency.exponent)

    def __str__(self) -> str:
        """Major units without the currency: `10.50`; `Money.parse` reads it back."""
        sign, digits = (
            "-" if self.minor < 0 else "",
            str(abs(self.minor)).rjust(self.currency.exponent + 1, "0"),
        )
        if self.currency.exponent == 0:
            return sign + digits
        return f"{sign}{digits[: -self.currency.exponent]}.{digits[-self.currency.exponent :]}"

    def __add__(self, other: Money) -> Money:
        self._same_currency(other)
        return Money(self.minor + other.minor, self.currency)

    def __sub__(self, other: Money) -> Money:
        self._same_currency(other)
        return Money(self.minor - other.minor, self.currency)

    def __lt__(self, other: Money) -> bool:
        self._same_currency(other)
        return self.minor < other.minor

    def __le__(self, other: Money) -> bool:
        self._same_currency(other)
        return self.minor <= other.minor

    def _same_currency(self, other: Money) -> None:
        if self.currency != other.currency:
            raise MoneyError(f"{self.currency.code} and {other.currency.code} do not add up")

    def named(self) -> str:
        """With grouping and currency, for people: `1,234.50 USD`."""
        whole, point, fraction = str(self).partition(".")
        sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
        return f"{sign}{int(digits):,}{point}{fraction} {self.currency.code}"


def total(amounts: Iterable[Money]) -> Mapping[Currency, Money]:
    """The sum for each currency, in order of the currency's code."""
    sums: dict[Currency, int] = {}
    for amount in amounts:
        sums[amount.currency] = sums.get(amount.currency, 0) + amount.minor
    return {currency: Money(sums[currency], currency) for currency in sorted(sums)}


def _decimals(count: int) -> str:
    return {0: "no decimals", 1: "at most 1 decimal"}.get(count, f"at most {count} decimals")


def _why_not_plain(text: str) -> str:
    """What was expected, told by what is most likely meant."""
    if text.strip() != text or " " in text:
        return "expected a plain decimal without blanks, such as 1234.50"
    if re.fullmatch(r"[+-]?[0-9.,]+[eE][+-]?[0-9]+", text):
        return (
            "expected all digits, found scientific notation; format the column as text and type the"
            " value again, such as 1234.50"
        )
    if text.startswith(("+", "-")):
        return "expected a plain decimal without a sign, such as 1234.50"
    if "," in text or "'" in text or "_" in text:
        return "expected a point before the decimals and no separators, such as 1234.50"
    if re.fullmatch(r"0[0-9]+(\.[0-9]*)?", text, re.ASCII):
        return "expected no leading zeros, such as 7.50"
    if text.startswith("."):
        return "expected a digit before the point, such as 0.50"
    if text.endswith("."):
        return "expected decimals after the point, or no point"
    return "expected a plain decimal, such as 1234.50"
