"""The settings of an eComCharge account, what customer data it takes, and the facts relied on.

It must never guess how many decimals a currency has there: the platform's table is not ISO 4217's,
and a wrong guess is a payout a hundred times too large.

Source: eComCharge payout API facts; the section stands at each key; read 2026-11-21.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pydantic import AfterValidator, Field, JsonValue, model_validator

from workers.errors import MoneyError
from workers.providers.port import Fact
from workers.record.money import Currency
from workers.settings import BaseUrl, Model, Secret

# What the adapter relies on. Source: eComCharge payout API facts, the section beside each.
FACTS = (
    Fact("one call creates and pays", "documented", "4.1"),
    Fact("amounts are whole minor units", "documented", "3"),
    Fact("statuses", "documented", "5"),
    Fact("payouts are found by tracking id, which need not be unique", "documented", "4.2, 7"),
    Fact(
        'an unknown payout is 404 "Not found." or an empty list', "seen", "4.2", ("absent_words",)
    ),
    Fact("callbacks come with Basic credentials and a signature", "documented", "9"),
    Fact("the platform asks verification_url before it pays", "documented", "8", ("verification",)),
    Fact("a card is not paid the same amount twice within 30 s", "documented", "B"),
    Fact("codes", "seen", "6"),
    Fact("a 422 with errors created nothing", "seen", "7"),
    Fact("a payout can be asked for beforehand", "seen", "4.4", ("precheck",)),
    Fact(
        "the same RequestID and bytes are the same payout for 24 h",
        "assumed",
        "2, 7",
        ("resend_within_s",),
    ),
    Fact("decimals of each currency", "assumed", "3", ("currency_decimals",)),
    Fact("a method's members", "assumed", "4.1", ("methods",)),
    Fact("creates go to the plural address", "assumed", "4", ("create_path", "precheck_path")),
    Fact("which statuses are final", "assumed", "5", ("statuses",)),
    Fact("an error without an id is looked up", "assumed", "5, 7", ("error_is_refusal",)),
    Fact("a 429 created nothing", "assumed", "7", ("rate_limited_is_not_created",)),
    Fact("words that speak of a duplicate", "assumed", "7", ("duplicate_words",)),
    Fact("which transactions are payments and no payouts", "assumed", "4.2", ("payment_types",)),
    Fact("words that blame the balance", "assumed", "6", ("low_balance_words",)),
    Fact("faults of the gateway or system judge no payout", "assumed", "7", ("unsure_fields",)),
    Fact("answers repeat what was sent", "assumed", "4.1", ("compares_echo",)),
    Fact("the host's balance calls", "assumed", "4.3", ("gateway_id", "balance_required")),
    Fact("what a card balance is asked by", "assumed", "B", ("balance_by",)),
    Fact("cards answer in the nested form", "assumed", "B", ("cards_version",)),
    Fact("what an acquirer needs to know", "assumed", "B", ("sender", "additional_data")),
    Fact('"not found" is proof after ten minutes', "assumed", "7, 14", ("lookup_grace_s",)),
    Fact("five calls a second are allowed", "assumed", "12", ("rate_per_s",)),
    Fact("a create may take a minute", "assumed", "2", ("read_timeout_s", "call_deadline_s")),
    Fact("how often to read", "assumed", "12", ("poll_first_s", "poll_max_s")),
)

# Customer data.

_ADDRESS = {
    "first_name": 60, "last_name": 60, "country": 2, "city": 120, "state": 40, "zip": 40,
    "address": 510, "phone": 200,
}  # fmt: skip
_PERSON = {"ip": 45, "email": 255, "birth_date": 10}
_DOCUMENT = ("type", "issuer", "series", "number", "issued_at", "valid_until")
# The most characters of each `customer` column, by API. The page gives cards no lengths: theirs
# are those of beyag. `ip` stands beside `customer` in beyag's request. Source: 4.1 and part B.
CUSTOMER: Mapping[str, Mapping[str, int]] = {
    "beyag": {
        **_ADDRESS, **_PERSON, "middle_name": 60, "gender": 6, "device_id": 255, "id_number": 255,
        "taxpayer_id": 255, "external_id": 255,
    },
    "cards": {**_ADDRESS, **_PERSON, **{f"document.{name}": 255 for name in _DOCUMENT}},
}  # fmt: skip
# Where a card payout's request has each customer column. Source: part B.
CARD_PLACES: Mapping[str, str] = {
    **dict.fromkeys(_ADDRESS, "recipient_billing_address"),
    **dict.fromkeys(_PERSON, "recipient"),
    "document": "additional_data",
}
# The members of `recipient_credit_card`, with the patterns of the certain ones. Source: part B.
CARD_MEMBERS: Mapping[str, str | None] = {
    "number": "[0-9]{12,19}",
    "holder": None,
    "exp_month": "0[1-9]|1[0-2]",
    "exp_year": "20[0-9]{2}",
    "token": None,
}
_PATTERNS: Mapping[str, tuple[str, str]] = {
    "country": ("[A-Z]{2}", "a country code of two capital letters, such as US"),
    "gender": ("male|female", "male or female"),
    "email": (r"[^@\s]+@[^@\s]+", "an address such as jane@example.org"),
}
_US_ZIP = re.compile("[0-9]{5}(-[0-9]{4})?", re.ASCII)


def flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its dotted name: ("document.number", 7) from {"document": {"number": 7}}."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def why_not_customer(customer: Mapping[str, Any], api: str) -> Iterator[tuple[str, str]]:
    """What of the customer columns that API does not take. Source: section 4.1."""
    known = CUSTOMER[api]
    for name, value in flat(customer):
        column = f"customer.{name}"
        if name not in known:
            yield column, f"no value: eComCharge takes {', '.join(known)}"
            continue
        told = str(value)
        if len(told) > known[name]:
            yield column, f"at most {known[name]} characters"
        elif (expected := _expected(name, told, customer)) is not None:
            yield column, expected


def _expected(name: str, told: str, customer: Mapping[str, Any]) -> str | None:
    pattern, expected = _PATTERNS.get(name, ("", ""))
    if pattern and re.fullmatch(pattern, told, re.ASCII) is None:
        return expected
    if name == "zip" and customer.get("country") == "US" and _US_ZIP.fullmatch(told) is None:
        return "5 digits, or 5 and 4, such as 10001-0001"
    try:
        if name == "birth_date":
            if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", told, re.ASCII) is None:
                return "a date such as 1990-01-31"
            date.fromisoformat(told)
        elif name == "ip":
            ipaddress.ip_address(told)
    except ValueError:
        return "a date such as 1990-01-31" if name == "birth_date" else "an IP address"
    return None


# Keys and templates.


def read_public_key(text: str) -> RSAPublicKey:
    """The shop's public key as the back office shows it: bare base64, with or without line breaks.

    Raises:
        ValueError: it is none.

    Source: section 9.
    """
    bare = "".join(line for line in text.split("\n") if not line.startswith("-----"))
    try:
        key = load_der_public_key(base64.b64decode("".join(bare.split()), validate=True))
    except (binascii.Error, ValueError) as error:
        raise ValueError("expected the shop's public key as the back office shows it") from error
    if not isinstance(key, RSAPublicKey):
        raise ValueError("expected an RSA key")
    return key


def _is_public_key(text: str) -> str:
    read_public_key(text)
    return text


def _is_currency(code: str) -> str:
    try:
        return Currency.of(code).code
    except MoneyError as error:
        raise ValueError(str(error)) from error


# An empty key would open everything.
Key = Annotated[Secret, Field(min_length=1)]
CurrencyCode = Annotated[str, AfterValidator(_is_currency)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
# A status as the tables have it: in lower case.
StatusWord = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]
Path = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_-]+)+$")]


# Both of these create; section 4.
CREATE_PATHS = ("/transactions/payouts", "/transactions/payout")


class Method(Model):
    """What one payout method asks for. Source: section 4.1."""

    # Members of `method`, or of `recipient_credit_card`: the file's fields.NAME.
    required: tuple[Name, ...] = ()
    optional: tuple[Name, ...] = ()
    # The file's customer.NAME.
    customer_required: tuple[Name, ...] = ()


class EComChargeConfig(Model):
    """An account's own keys. "Inferred" marks what no page of the provider says.

    Source: eComCharge payout API facts; the section stands at each key.
    """

    # The host with `/beyag`, or the card host; section 1.
    base_url: BaseUrl
    # Which of the two payout APIs the shop has; sections A and B.
    api: Literal["beyag", "cards"] = "beyag"
    # A colon would end the user name of HTTP Basic; section 2.
    shop_id: Annotated[str, Field(pattern=r"^[!-9;-~]+$", coerce_numbers_to_str=True)]
    secret_key: Key
    # With it only signed callbacks count, without it those with the shop's credentials; section 9.
    webhook_public_key: Annotated[str, AfterValidator(_is_public_key)] | None = None
    # Decimals of the platform's minor unit, to be confirmed by support; only these currencies are
    # paid. Section 3.
    currency_decimals: Annotated[
        Mapping[CurrencyCode, Annotated[int, Field(ge=0, le=4)]], Field(min_length=1)
    ]
    # What each method asks for, by its type; section 4.1.
    methods: Annotated[Mapping[Name, Method], Field(min_length=1)]
    # Without it no balance can be asked for; section 4.3.
    gateway_id: int | None = None
    # No default: a forgotten key must neither pay for real nor only seem to pay. Section 10.
    test_mode: bool
    # Where the platform calls us; None: it is not asked to.
    callback_url: BaseUrl | None = None
    # Have the platform ask us before it pays, at `callback_url` + /verify. What it does when we do
    # not answer is not documented: ask its support first. Section 8.
    verification: bool = False
    # Ask beforehand whether a payout would be taken; section 4.4.
    precheck: bool = False
    # The language of its texts.
    language: Annotated[str, Field(pattern=r"^[a-z]{2}$")] | None = None

    # Inferred, section 7: a create may be sent again for so long; 0: never. Keys are kept for 24 h.
    resend_within_s: Annotated[int, Field(ge=0, le=86_400)] = 72_000
    # Inferred, section 4: pages say plural, the official client posts to the singular.
    create_path: Path = CREATE_PATHS[0]
    precheck_path: Path = "/transactions/payout/precheck"
    # Inferred, section 5: what a status means, where it is not what the table says.
    statuses: Mapping[StatusWord, Literal["processing", "paid", "refused"]] = Field(
        default_factory=dict
    )
    # Inferred, sections 5 and 7: an answer with status `error` and no id refuses the payout. False:
    # it is looked up first.
    error_is_refusal: bool = False
    # Inferred, section 7: no create that is answered 429 is stored. False: it may be.
    rate_limited_is_not_created: bool = True
    # Words are compared in lower case. Inferred, sections 6 and 7.
    duplicate_words: tuple[str, ...] = (
        "duplicate", "already exists", "already been taken", "already been used",
        "being processed", "in progress",
    )  # fmt: skip
    low_balance_words: tuple[str, ...] = ("insufficient funds",)
    # Inferred, section 7: errors under these names tell nothing of the payout.
    unsure_fields: tuple[str, ...] = ("gateway", "system")
    # Inferred, section 4.2: types that a list by tracking id may hold beside payouts. Any other may
    # have paid somebody, so it proves no absence.
    payment_types: tuple[StatusWord, ...] = (
        "payment", "authorization", "capture", "void", "refund", "chargeback", "tokenization",
        "checkup",
    )  # fmt: skip
    # A 404 with one of these messages is the platform's own; section 4.2.
    absent_words: tuple[str, ...] = ("not found.", "record not found")
    # Inferred, section 4.1: an answer that repeats a method or customer otherwise is held.
    compares_echo: bool = True
    # Inferred, section 4.3: False: without a balance go on, unchecked.
    balance_required: bool = True

    # For cards alone, part B. Inferred: the form of the answers, None being the nested one.
    cards_version: Literal["2", "3"] | None = None
    # Inferred: which of the two the bank wants.
    balance_by: Literal["gateway_id", "currency"] = "gateway_id"
    # Who pays, where the acquirer asks for it.
    sender: Mapping[Name, str] = Field(default_factory=dict)
    sender_billing_address: Mapping[Name, str] = Field(default_factory=dict)
    # Sent with every payout where an agreement asks for it; sections 4.1 and B.
    additional_data: Mapping[Name, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_the_api(self) -> Self:
        cards = self.api == "cards"
        if self.precheck_path in (self.create_path, *CREATE_PATHS):
            raise ValueError(f"precheck_path must not be where payouts are created: {CREATE_PATHS}")
        if self.precheck and cards:
            raise ValueError('precheck = true needs api = "beyag"')
        for name, known in (("sender", _PERSON), ("sender_billing_address", _ADDRESS)):
            given = getattr(self, name)
            if given and not cards:
                raise ValueError(f'{name} needs api = "cards"')
            if unknown := sorted(given.keys() - known.keys()):
                raise ValueError(f"{name} takes {', '.join(known)}; found {unknown[0]}")
        for kind, method in self.methods.items():
            members = {*method.required, *method.optional}
            if "type" in members:
                raise ValueError(f"methods.{kind}: the type is its name, it needs no member type")
            if cards and (other := sorted(members - CARD_MEMBERS.keys())):
                raise ValueError(
                    f"methods.{kind}: a card has {', '.join(CARD_MEMBERS)}; found {other[0]}"
                )
            if missing := sorted(set(method.customer_required) - CUSTOMER[self.api].keys()):
                raise ValueError(
                    f"methods.{kind}.customer_required: expected customer members such as"
                    f" first_name; found {missing[0]}"
                )
        return self
