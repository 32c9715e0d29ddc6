"""The settings of an Ecart Pay account: where it is, its keys, and all that is only inferred.

Source: Ecart Pay payouts, adapter and simulator reference, section 12 (read 2026-11-21); the
section of each fact stands beside its setting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from workers.errors import MoneyError
from workers.providers.port import Fact
from workers.record.money import Currency
from workers.settings import BaseUrl, Model, Seconds, Secret

# What the adapter relies on. Source: the section of the provider's page beside each.
FACTS = (
    Fact("create with a confirmation required stores, the confirmation pays", "documented", "4, 5"),
    Fact("a reference id can be used only once", "documented", "4"),
    Fact("a token is valid for an hour, and is sent raw", "documented", "3", ("auth_scheme",)),
    Fact("a fee of 0 and an exchange of 1 are normal; others are shown", "documented", "4"),
    Fact("the address of the confirmation", "documented", "5", ("confirm_path",)),
    Fact("a payout is read by its id", "seen", "7", ("status_path",)),
    Fact("payouts are found by our reference id", "assumed", "7", ("lookup_mode",)),
    Fact(
        "the ledger tells our reference id of every payout, confirmed or not",
        "assumed",
        "7",
        ("lookup_mode", "ledger_reference_fields", "ledger_payout_id_fields"),
    ),
    Fact(
        "the ledger's size of a page and its end", "assumed", "7",
        ("ledger_page_size", "ledger_pages_max"),
    ),
    Fact("the same create again cannot pay twice", "documented", "7", ("lookup_mode",)),
    Fact("a release that still reads pending was taken", "assumed", "5", ("process_repeat_s",)),
    Fact("a repeated release never credits twice", "assumed", "5", ("process_tries_max",)),
    Fact("statuses other than paid and pending", "assumed", "7", ("status_map",)),
    Fact("codes of errors other than 114", "assumed", "10", ("error_map",)),
    Fact("amounts have two decimals", "assumed", "4", ("amount_decimals",)),
    Fact("characters and length of a reference id", "assumed", "12", ("reference_id_pattern",)),
    Fact("currencies that can be paid", "seen", "4", ("currencies",)),
    Fact("the balances' address and shape", "assumed", "8", ("balance_path", "balance_path_map")),
    Fact("webhooks are signed with the account's webhook secret", "documented", "9"),
    Fact("the signature covers the data member alone", "seen", "9", ("webhook_sign_scope",)),
    Fact("a webhook older than ten minutes is a replay", "assumed", "9", ("webhook_max_age_s",)),
    Fact('"not found" is proof after ten minutes', "assumed", "10", ("lookup_grace_s",)),
    Fact("pace, room and time-outs of calls", "assumed", "12", ("rate_per_s", "read_timeout_s")),
)  # fmt: skip

LookupMode = Literal["get_by_ref", "ledger", "probe"]
ErrorClass = Literal[
    "token", "validation", "duplicate", "low_balance", "unknown_beneficiary", "account"
]
StatusClass = Literal["created", "processing", "paid", "refused", "returned"]

Count = Annotated[int, Field(ge=1)]
# An empty key would sign and open everything.
Key = Annotated[Secret, Field(min_length=1)]
# One payout's address, such as /api/payouts/{id}.
PayoutPath = Annotated[str, Field(pattern=r"^/[^?#{}]*\{id\}[^?#{}]*$")]
_Names = Annotated[tuple[str, ...], Field(min_length=1)]


def _split(value: Any) -> Any:
    """`get_by_ref,ledger` as a list, for settings that are written as text."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


def _check_currency(code: str) -> str:
    try:
        return Currency.of(code).code
    except MoneyError as error:
        raise ValueError(str(error)) from error


def _check_reference_pattern(pattern: str) -> str:
    if not re.fullmatch(r"\[[^\[\]]+\]\{1,[1-9][0-9]{0,2}\}", pattern, re.ASCII):
        raise ValueError("expected a set of characters and a length, such as [A-Za-z0-9-]{1,64}")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"expected a regular expression: {error}") from error
    return pattern


# Source: section 7.
DOCUMENTED_STATUSES: Mapping[str, StatusClass] = {"paid": "paid", "pending": "created"}


def _check_statuses(table: Mapping[str, StatusClass]) -> Mapping[str, StatusClass]:
    for word, meaning in table.items():
        known = DOCUMENTED_STATUSES.get(word.casefold())
        if word in DOCUMENTED_STATUSES or known not in (None, meaning):
            raise ValueError(f"{word!r} is documented, and means {known}")
    return table


class EcartConfig(Model):
    """An account's own keys. "Inferred" marks what no page of the provider says."""

    # Section 2; payouts for real are at https://ecartpay.com.
    base_url: BaseUrl = "https://sandbox.ecartpay.com"
    # A pair for paying out only; a colon would end the user name of HTTP Basic. Sections 2 and 3.
    public_key: Annotated[str, Field(pattern=r"^[!-9;-~]+$")]
    private_key: Key
    # Section 3. An empty cookie is not sent.
    auth_scheme: Literal["raw", "bearer"] = "raw"
    lang_cookie: Annotated[str, Field(pattern=r"^[A-Za-z-]*$")] = "en"
    token_ttl_s: Annotated[int, Field(ge=1, le=3600)] = 3300

    # Inferred, section 5: a create that is lost then leaves a payout that pays nobody.
    two_step: bool = True
    confirm_path: PayoutPath = "/api/payouts/{id}/confirm"
    status_path: PayoutPath = "/api/payouts/{id}"

    # Inferred, section 7: the ways to look a payout up, in order. With probe, what the others do
    # not find counts as absent, and the create that follows after `lookup_grace_s` is the test:
    # only after a sandbox has shown that a used reference id is refused.
    lookup_mode: Annotated[tuple[LookupMode, ...], BeforeValidator(_split)] = (
        "get_by_ref",
        "ledger",
    )
    # Inferred, section 7: where an entry of the ledger has our reference id and its payout's id.
    # `reference` is Ecart Pay's own.
    ledger_reference_fields: _Names = ("reference_id",)
    ledger_payout_id_fields: _Names = ("payout_id", "id")
    # Inferred, section 7. A ledger that is longer than this proves no absence.
    ledger_page_size: Count = 50
    ledger_pages_max: Count = 20

    # Inferred, sections 4 and 12.
    amount_decimals: Annotated[int, Field(ge=0, le=4)] = 2
    reference_id_pattern: Annotated[str, AfterValidator(_check_reference_pattern)] = (
        "[A-Za-z0-9-]{1,64}"
    )
    # Seen, section 4: the vendor's own list.
    currencies: tuple[Annotated[str, AfterValidator(_check_currency)], ...] = (
        "USD", "INR", "MXN", "BRL", "COP", "ARS", "GTQ", "CLP", "PEN", "CAD", "EUR", "AUD",
    )  # fmt: skip
    # Inferred, sections 7 and 10: on top of the adapter's own tables.
    status_map: Annotated[Mapping[str, StatusClass], AfterValidator(_check_statuses)] = Field(
        default_factory=dict
    )
    error_map: Mapping[int, ErrorClass] = Field(default_factory=dict)

    # Inferred, section 8; an empty path: balances are not asked for.
    balance_path: Annotated[str, Field(pattern=r"^(/[^?#]*)?$")] = "/api/transactions/summary"
    balance_path_map: Annotated[str, Field(pattern=r"^([^{}]+\.)?\{currency\}(\.[^{}]+)?$")] = (
        "{currency}.available"
    )

    # Section 9. Without it no webhook can be verified: all are dropped, and polling does the work.
    webhook_secret: Key | None = None
    webhook_sign_scope: Literal["data", "body", "both"] = "data"
    webhook_max_age_s: Annotated[Seconds, Field(le=86_400)] = 600
