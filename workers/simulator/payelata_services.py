"""The services of the Payelata simulator, and its judgement of what a create asks for.

Source: Payelata API facts, sections 4.2, 4.3, 4.4, 8 and 9. Names of services and fields are from
there; limits, fees and regular expressions are our invention, since they are per account.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from workers.record.money import Currency
from workers.simulator import faults
from workers.simulator.port import number, read_json

# Our guess (section 12: not documented), the cautious one of section 4.6.
_REFERENCE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Source: Payelata API facts, section 8.
_TEST_WORD = r"^[A-Za-z\- ]{2,64}$"

REQUIRED = "This value should not be blank."
INVALID = "This value is not valid."


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One entry of a service's `fields`."""

    key: str
    regexp: str
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A way to pay out in one currency; fees are percent and major units."""

    code: str
    method: str
    currency: str
    amount_min: Decimal
    amount_max: Decimal
    fields: tuple[FieldRule, ...]
    # Fewer than the currency has where the service takes whole numbers only (section 3).
    decimals: int
    fee_rate: Decimal = Decimal(0)
    fee_fix: Decimal = Decimal(0)
    fee_min: Decimal = Decimal(0)
    fee_max: Decimal = Decimal(0)
    enabled: bool = True

    @property
    def id(self) -> str:
        """`comcpos_` and 16 characters, the same in every run."""
        return "comcpos_" + hashlib.sha256(self.code.encode()).hexdigest()[:16]

    def fee(self, amount: Decimal) -> Decimal:
        """The fee on top of the amount; a `fee_max` of 0 sets no limit (our guess)."""
        fee = max(self.fee_fix + amount * self.fee_rate / 100, self.fee_min)
        if self.fee_max:
            fee = min(fee, self.fee_max)
        smallest = Decimal(1).scaleb(-Currency.of(self.currency).exponent)
        return fee.quantize(smallest, ROUND_HALF_UP)

    def takes(self, amount: Decimal) -> bool:
        return self.amount_min <= amount <= self.amount_max


def _service(
    code: str, limits: tuple[int, int], *rules: FieldRule, fee: str = "", **more: Any
) -> Service:
    """A service from a line of the table below.

    Args:
        fee: rate, fix, min, max; nothing for no fee.
    """
    method, _, currency = code.rpartition("_")
    fees = [Decimal(each) for each in fee.split()] or [Decimal(0)] * 4
    named = dict(zip(("fee_rate", "fee_fix", "fee_min", "fee_max"), fees, strict=True))
    return Service(
        code=code,
        method=method,
        currency=currency.upper(),
        amount_min=Decimal(limits[0]),
        amount_max=Decimal(limits[1]),
        fields=rules,
        **{"decimals": Currency.of(currency.upper()).exponent, **named, **more},
    )


_CARD = FieldRule("card_number", r"^\d{12,19}$")
_BANK = (
    FieldRule("account_number", r"^\d{4,20}$"),
    FieldRule("bank_code", r"^[A-Za-z0-9]{2,11}$"),
    FieldRule("account_type", r"^[A-Za-z_]{2,20}$"),
    FieldRule("beneficiary_document_type", r"^[A-Za-z_]{2,20}$"),
    FieldRule("beneficiary_document_id", r"^[A-Za-z0-9.\-]{4,20}$"),
)
_NAME = FieldRule("beneficiary_full_name", r"^[^\d]{2,100}$")

SERVICES: dict[str, Service] = {
    each.code: each
    for each in (
        _service("payment_card_usd", (1, 5000), _CARD),
        _service("bank_transfer_usd", (1, 50000), *_BANK, fee="0 1.5 0 0"),
        _service(
            "test_usd",
            (1, 100000),
            FieldRule("account", r"^\d+$"),
            FieldRule("test_details_success_rate", r"^(\d{1,2}|100)$", required=False),
            FieldRule("test_details_payout_status", _TEST_WORD, required=False),
            FieldRule("test_details_payout_resolution", _TEST_WORD, required=False),
        ),
        _service("payment_card_eur", (1, 5000), _CARD, fee="1 0 0.5 10"),
        _service("bank_transfer_mxn", (10, 500000), *_BANK, fee="0.5 5 0 0"),
        _service("bank_transfer_clp", (1000, 5000000), *_BANK),
        _service(
            "pix_brl",
            (1, 20000),
            FieldRule("pix_key", r"^[A-Za-z0-9+@._\-]{3,77}$"),
            FieldRule("document_type", r"^(CPF|CNPJ)$"),
            FieldRule("document_id", r"^\d{11,14}$"),
        ),
        _service(
            "upi_inr",
            (100, 200000),
            FieldRule("vpa", r"^[A-Za-z0-9.\-_]{2,64}@[A-Za-z]{2,32}$"),
            FieldRule("account_number", r"^\d{9,18}$"),
            _NAME,
            FieldRule("beneficiary_address", r"^.{3,200}$", required=False),
            FieldRule("ifsc_bank_code", r"^[A-Z]{4}0[A-Z0-9]{6}$", required=False),
            FieldRule("pan_number", r"^[A-Z]{5}\d{4}[A-Z]$", required=False),
            decimals=0,
        ),
        _service(
            "swift_jpy",
            (1, 999999),
            FieldRule("account_number", r"^[A-Za-z0-9]{4,34}$"),
            FieldRule("bank_code", r"^[A-Z0-9]{8,11}$"),
            _NAME,
        ),
        _service(
            "binancepay_usd",
            (1, 5000),
            FieldRule("recipient_type", r"^(EMAIL|BINANCE_ID)$"),
            FieldRule("recipient_id", r"^.{3,100}$"),
            enabled=False,
        ),
    )
}


def reference_fault(value: Any) -> str | None:
    """What is wrong with a `reference_id`."""
    if value in (None, ""):
        return REQUIRED
    if not isinstance(value, str) or not _REFERENCE_ID.fullmatch(value):
        return INVALID
    return None


def create_faults(attributes: dict[str, Any], service: Service) -> dict[str, str]:
    """What is wrong with a create for that service, keyed by attribute or field; empty if nothing.

    The messages never repeat a value.
    """
    wrong = _attribute_faults(attributes)
    if attributes.get("currency") not in (None, "", service.currency):
        wrong["currency"] = f"This service pays out {service.currency}."
    if message := _amount_fault(attributes.get("amount"), service):
        wrong["amount"] = message
    return wrong | _field_faults(attributes, service)


def asked_by_test_fields(fields: dict[str, Any], reference_id: str) -> faults.Behaviour:
    """The life that the test fields ask for: `PROCESS-FAILED` is `process_failed`.

    A success rate below 100 decides by a hash of the reference id, the same in every run. Which
    status and resolution words the provider takes is not documented; any word is our guess.
    """
    status = _plain_word(fields.get("test_details_payout_status"))
    resolution = _plain_word(fields.get("test_details_payout_resolution"))
    rate = str(fields.get("test_details_success_rate", 100))
    drawn = int.from_bytes(hashlib.sha256(reference_id.encode()).digest()[:4]) % 100
    if status is None and drawn >= int(rate):
        status = "process_failed"
    return faults.Behaviour(status=status, resolution=resolution)


def _plain_word(value: Any) -> str | None:
    return re.sub(r"[-\s]+", "_", value.strip().lower()) if value else None


def _attribute_faults(attributes: dict[str, Any]) -> dict[str, str]:
    wrong: dict[str, str] = {}
    if attributes.get("currency") in (None, ""):
        wrong["currency"] = REQUIRED
    if not isinstance(attributes.get("test_mode", False), bool):
        wrong["test_mode"] = "This value should be of type bool."
    for name in ("description", "callback_url", "token"):
        if not isinstance(attributes.get(name), str | None):
            wrong[name] = "This value should be of type string."
    for name in ("customer", "options", "metadata", "context"):
        if not isinstance(attributes.get(name) or {}, dict):
            wrong[name] = "This value should be of type object."
    customer = attributes.get("customer")
    if isinstance(customer, dict) and not customer.get("reference_id"):
        wrong["customer.reference_id"] = REQUIRED
    return wrong


def _amount_fault(amount: Any, service: Service) -> str | None:
    if amount is None:
        return REQUIRED
    # The page shows numbers only; that text is refused is our guess, the strict one.
    if isinstance(amount, bool) or not isinstance(amount, int | Decimal):
        return "This value should be of type numeric."
    amount = Decimal(amount)
    if amount <= 0:
        return "This value should be greater than 0."
    if not service.takes(amount):
        least, most = number(service.amount_min), number(service.amount_max)
        return f"This value should be between {least} and {most}."
    if amount != amount.quantize(Decimal(1).scaleb(-service.decimals)):
        return f"This value should have at most {service.decimals} decimals."
    return None


def _field_faults(attributes: dict[str, Any], service: Service) -> dict[str, str]:
    given = attributes.get("fields")
    if given is None:
        return {"fields": REQUIRED}
    if given == []:  # as PHP writes an empty object
        given = {}
    if not isinstance(given, dict):
        return {"fields": "This value should be of type object."}
    wrong: dict[str, str] = {}
    for rule in service.fields:
        value = given.get(rule.key)
        if value in (None, ""):
            # A saved card's token stands in for its number.
            if rule.required and not (rule.key == "card_number" and attributes.get("token")):
                wrong[rule.key] = REQUIRED
        elif isinstance(value, bool) or not isinstance(value, str | int):
            wrong[rule.key] = "This value should be of type string."
        elif not re.fullmatch(rule.regexp, str(value), re.ASCII):
            wrong[rule.key] = INVALID
    return wrong


def read_attributes(body: bytes) -> dict[str, Any] | None:
    """A create's attributes; None if the document is not of that form."""
    document = read_json(body)
    match document:
        case {"data": {"type": "payout-invoice", "attributes": dict() as attributes}}:
            return attributes
    return None


def read_decimal(value: Any) -> Decimal | None:
    """An amount of a prerequest, which may be text."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        amount = Decimal(value)
    except ArithmeticError:
        return None
    return amount if amount.is_finite() else None
