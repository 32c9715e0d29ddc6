"""The settings of an Echelon Pay account, and how well each thing that the adapter relies on is
known.

What no page of the provider says ("inferred") is a setting, so that an answer from the provider
changes a line of `paybatch.toml` and no code. It must never hold a secret that its repr shows.

Source: Echelon Pay outgoing payments, sections 2 to 8 and 11; read 2026-11-21. The section stands
beside each setting.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, Field, IPvAnyNetwork, model_validator

from workers.errors import MoneyError
from workers.providers.port import Fact
from workers.record.money import Currency
from workers.settings import BaseUrl, Model, Secret

# What the adapter relies on. Source: Echelon Pay outgoing payments, the section beside each.
FACTS = (
    Fact("a call carries a token for one payout's named operations", "documented", "3.1, 3.3"),
    Fact("a token lasts as long as was asked for", "documented", "3.3", ("token_validity_s",)),
    Fact("a token is left alone shortly before its end", "assumed", "11", ("token_margin_s",)),
    Fact("tokens by action exist", "documented", "3.2", ("token_mode",)),
    Fact("the action that pays out has a name", "assumed", "3.2", ("payout_action",)),
    Fact("one create pays: there is no second step", "documented", "4"),
    Fact("payouts are read by our own id, the address of each", "documented", "4, 5"),
    Fact("a refused token did nothing", "documented", "8; RFC 9110, 15.5.2 and 15.5.4"),
    Fact("a second create under one id never pays", "assumed", "8", ("refuses_duplicates",)),
    Fact(
        "characters and length of an id",
        "assumed",
        "4",
        ("reference_id_char", "reference_id_chars_max"),
    ),
    Fact("currencies that are paid", "assumed", "4", ("currencies",)),
    Fact("IDR is paid in whole numbers", "assumed", "4", ("currency_decimals",)),
    Fact("ways to pay beside BANK_TRANSFER", "assumed", "4", ("payment_method_codes", "service")),
    Fact("the banks' codes", "assumed", "4", ("operator_codes",)),
    Fact("fields of `account` beside name, number", "assumed", "4", ("extra_account_fields",)),
    Fact("SUCCESS is paid", "documented", "5"),
    Fact("FAILED and PENDING", "seen", "5", ("status_map",)),
    Fact("all other status words", "assumed", "5", ("status_map",)),
    Fact("sandbox payouts are marked as tests, real ones are not", "assumed", "5", ("test_mode",)),
    Fact("a beneficiary that is repeated is repeated as sent", "assumed", "5", ("compares_echo",)),
    Fact("codes of errors and what they mean", "assumed", "8", ("error_map",)),
    Fact(
        "where an error's code and words stand",
        "assumed",
        "8",
        ("error_code_paths", "error_message_paths"),
    ),
    Fact("a 400 or 422 stored nothing", "assumed", "8", ("refused_when_absent",)),
    Fact("a 429 stored nothing", "assumed", "8", ("rate_limited_is_not_created",)),
    Fact("any 404 in JSON is the platform's own", "assumed", "8", ("absence_needs_code",)),
    Fact('"not found" is proof after 15 minutes', "assumed", "8", ("lookup_grace_s",)),
    Fact("a callback is sent to the payout's own address", "documented", "7", ("callback_url",)),
    Fact("where a callback names the payout", "assumed", "7", ("callback_id_paths",)),
    Fact("where callbacks come from", "assumed", "7", ("callback_allowed_ips",)),
    Fact("no call for balances, services or a list is described", "documented", "6"),
    Fact("calls a second and in flight", "assumed", "8", ("rate_per_s", "in_flight_max")),
    Fact("time to connect", "assumed", "8", ("connect_timeout_s",)),
    Fact("time to answer", "seen", "8", ("read_timeout_s",)),
    Fact(
        "times between reads", "assumed", "7, 8", ("poll_first_s", "poll_max_s", "lookup_first_s")
    ),
)

# What a status word means for the payout.
Meaning = Literal["open", "paid", "partly_paid", "failed", "returned"]
# What an error code means: `validation` refuses the payout at once; `unlisted` takes a code out of
# the adapter's table, so that the payout is looked up.
Kind = Literal[
    "validation", "duplicate", "absent", "low_balance", "limit", "account", "temporary", "unlisted"
]
SANDBOX_URL = "https://api.sandbox.echelonpay.com"


def _known(code: str) -> str:
    try:
        return Currency.of(code).code
    except MoneyError as error:
        raise ValueError(str(error)) from error


def _of_one_plain_character(char: str) -> str:
    """A path, a token's operation and a callback must name an id in the same bytes."""
    try:
        matches = re.compile(char).fullmatch
    except re.error as error:
        raise ValueError(f"expected a regular expression of one character: {error}") from error
    # Up to Cyrillic: what a class such as `\w` takes beside ASCII shows there.
    taken = [c for c in map(chr, range(0x500)) if matches(c)]
    odd = [c for c in taken if c == "." or quote(c, safe="") != c]
    if not taken or odd:
        found = f"; it takes {odd[0]!r}" if odd else ""
        raise ValueError(f"expected letters, digits, '-', '_' or '~' of ASCII only{found}")
    return char


Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
# The words of a path into a JSON object, with points between: "error.code".
Paths = Annotated[tuple[Text, ...], Field(min_length=1)]
CurrencyCode = Annotated[str, AfterValidator(_known)]


class AccountField(Model):
    """A beneficiary field that goes into `account`."""

    required: bool = True
    # What the whole value must match; None: any value.
    pattern: Text | None = None
    label: str = ""
    example: str = ""


class EchelonConfig(Model):
    """An account's own keys. The way to pay of rows that name none is the account's `service`."""

    # Section 2: documented for the sandbox, inferred for the live host.
    base_url: BaseUrl = SANDBOX_URL
    # Section 2.
    api_version: Count = 2
    merchant_code: Text
    # An empty key would open every callback.
    secret: Annotated[Secret, Field(min_length=1)]
    # No default: a forgotten key must neither pay for real nor only seem to pay.
    test_mode: bool
    # Where the provider calls us, without the payout's own last part; None: nowhere.
    callback_url: BaseUrl | None = None

    # Section 3. By action, a token is limited to the amount too; its name for payouts is unknown.
    token_mode: Literal["operations", "action"] = "operations"  # noqa: S105 - no secret
    payout_action: Text | None = None
    # Section 3.3: 3600 is taken too, more is not known to be.
    token_validity_s: Annotated[int, Field(ge=1, le=3600)] = 600
    # Inferred, section 11.
    token_margin_s: Annotated[int, Field(ge=0)] = 60

    # Inferred, section 4.
    reference_id_char: Annotated[str, AfterValidator(_of_one_plain_character)] = "[A-Za-z0-9-]"
    reference_id_chars_max: Count = 36
    # Section 4 names these three; which of them an account has is the account's matter.
    currencies: Annotated[tuple[CurrencyCode, ...], Field(min_length=1)] = ("IDR", "USD", "INR")
    # Inferred, section 4: decimals where the platform takes fewer than ISO 4217 has.
    currency_decimals: Mapping[CurrencyCode, Annotated[int, Field(ge=0, le=4)]] = Field(
        default_factory=lambda: {"IDR": 0}
    )
    # Section 4: the only one known for payouts.
    payment_method_codes: Annotated[tuple[Text, ...], Field(min_length=1)] = ("BANK_TRANSFER",)
    # Inferred, section 4: the banks of a currency, {IDR = ["BNK_014"]}; one is required then.
    operator_codes: Mapping[CurrencyCode, Annotated[tuple[Text, ...], Field(min_length=1)]] = Field(
        default_factory=dict
    )
    # Inferred, section 4: {INR = {ifsc = {pattern = "[A-Z]{4}0[A-Z0-9]{6}"}}}; a rule for
    # `accountName` or `accountNumber` takes the place of ours.
    extra_account_fields: Mapping[CurrencyCode, Mapping[str, AccountField]] = Field(
        default_factory=dict
    )

    # On top of the adapter's tables; inferred but for SUCCESS, sections 5 and 8.
    status_map: Mapping[Text, Meaning] = Field(default_factory=dict)
    error_map: Mapping[Text, Kind] = Field(default_factory=dict)
    # Inferred, section 8.
    error_code_paths: Paths = ("code", "errorCode", "error.code", "failureReasonCode")
    error_message_paths: Paths = ("message", "error.message", "error")
    # Inferred, section 7.
    callback_id_paths: Paths = (
        "idEntity", "idPayout", "idPayment", "paymentMethodResponse.idPayout",
    )  # fmt: skip
    # Inferred, section 8: a second create under one id is refused or answered with the first.
    refuses_duplicates: bool = True
    # Inferred, section 8: a 400 or 422 is final when one look-up finds nothing.
    refused_when_absent: bool = True
    # Inferred, section 8. False: a 429 may have been stored.
    rate_limited_is_not_created: bool = True
    # Inferred, section 8. True: only a 404 whose code means "absent" says so.
    absence_needs_code: bool = False
    # Inferred, section 5: a beneficiary that an answer repeats otherwise has the payout held.
    compares_echo: bool = True

    # Section 11: addresses or networks that callbacks may come from; none: any.
    callback_allowed_ips: tuple[IPvAnyNetwork, ...] = ()

    def allows(self, sender: str) -> bool:
        """Whether a callback may come from that address."""
        if not self.callback_allowed_ips:
            return True
        try:
            address = ipaddress.ip_address(sender)
        except ValueError:
            return False
        return any(address in network for network in self.callback_allowed_ips)

    @property
    def by_action(self) -> bool:
        """Whether a create's token is asked for by action."""
        return self.token_mode == "action"  # noqa: S105 - no secret

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.by_action and self.payout_action is None:
            raise ValueError('payout_action is missing; token_mode = "action" needs it')
        if self.token_margin_s >= self.token_validity_s:
            raise ValueError(
                f"token_margin_s ({self.token_margin_s}) must be less than"
                f" token_validity_s ({self.token_validity_s})"
            )
        host = urlsplit(self.base_url).hostname
        if host == urlsplit(SANDBOX_URL).hostname and not self.test_mode:
            raise ValueError(f"base_url is the sandbox's ({host}), but test_mode = false")
        for names in self.extra_account_fields.values():
            if outside := names.keys() & {"paymentOperatorCode", "emailAddress"}:
                raise ValueError(f"extra_account_fields: {min(outside)} is no field of `account`")
        return self
