"""The account that the eComCharge simulator plays: its options, its words, its decimals.

Source: eComCharge payout API facts (the page), sections 1, 3, 5, 6 and 13, read 2026-11-21; "our
guess" marks what no source says.

A step's resolution is more than a code here, so that fault words and control calls can ask for
every answer of section 13:

    resolution=F_0114    the code F.0114, with its message
    resolution=form      the answer carries a `form`, which no worker can fill in
    resolution=leg_WORD  `payout.status` reads WORD, whatever the transaction's own status
    status=error resolution=no_uid
                         a create is answered with the status `error` and no uid; nothing is stored
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Literal

from workers.simulator import server
from workers.simulator.ledger import Invoice, Step
from workers.simulator.life import Words
from workers.simulator.port import number

BEYAG = "beyag"
CARDS = "cards"

# `failed` is also what a late correction of a success reads: the page knows no word for money that
# came back. Source: section 5.
WORDS = Words(
    created="pending",
    processing=None,
    processed="successful",
    returned="failed",
    committing=frozenset({"successful"}),
    paid=frozenset({"successful"}),
    given_back=frozenset({"failed", "expired", "error", "deleted"}),
    # The codes are those of section 6, the choice is our guess.
    resolutions={"failed": "F_0116", "expired": "F_0109", "error": "F_0128"},
)
DECLINED = ("failed", "F_0114")
VERIFICATION_REFUSED = ("failed", "F_0132")
NO_UID = "no_uid"
FORM = "form"
_LEG = "leg_"

# Source: section 3, the official PHP client's list, which is not that of ISO 4217; 2 otherwise.
DECIMALS: Mapping[str, int] = {
    code: decimals
    for decimals, codes in {
        0: "BIF BYR CLF CLP CVE DJF GNF IDR IQD IRR ISK JPY KMF KPW KRW LAK LBP MMK PYG RWF SLL "
        "STD UYI VND VUV XAF XOF XPF",
        1: "MOP",
        3: "BHD JOD KWD LYD OMR TND",
    }.items()
    for code in codes.split()
}
DEFAULT_BALANCES = {
    "USD": Decimal("10000000.00"),
    "EUR": Decimal("10000000.00"),
    "BYN": Decimal("10000000.00"),
    "JPY": Decimal(1000000000),
    "IDR": Decimal(1000000000),
    "KWD": Decimal("10000000.000"),
}
# The types that the page has seen (sections 4.1 and 10); their members are agreed per merchant.
DEFAULT_METHODS: Mapping[str, tuple[str, ...]] = {
    "bank_transfer": (),
    "visa": (),
    "ad_payments": (),
    "bogus": (),
}
# Source: section 6; the wording is ours.
MESSAGES: Mapping[str, str] = {
    "S.0000": "Successfully processed",
    "P.0001": "Waiting",
    "P.9999": "Status unknown",
    "F.0109": "Order expired",
    "F.0114": "Insufficient funds",
    "F.0116": "Rejected",
    "F.0128": "Invalid parameters",
    "F.0132": "Verification refused",
    "F.0999": "Unknown reason",
}
_CODE = re.compile(r"[SPFE]_\d{4}")
_OPEN = frozenset({"pending", "initial", "incomplete"})


@dataclass(frozen=True, kw_only=True)
class EcomchargeOptions(server.ServerOptions):
    """The shop and its habits; see the flags of the same names."""

    balances: dict[str, Decimal] = field(default_factory=lambda: dict(DEFAULT_BALANCES))
    # Both stand in the page as examples; they open nothing but this simulator.
    shop_id: str = "4242"
    secret_key: str = "demo-secret"  # noqa: S105 - as it stands in the page
    gateway_id: int = 85
    # Over `DECIMALS`.
    decimals: Mapping[str, int] = field(default_factory=dict)
    # Each type with the members it asks for, of `method` or, as `customer.email`, of `customer`.
    methods: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(DEFAULT_METHODS))
    settle_s: float = 0.5
    find_delay_s: float = 0.0
    request_id: Literal["replay", "ignore"] = "replay"
    # How long the first request of a RequestID counts as running, and what a repeat then gets.
    busy_s: float = 0.0
    busy_answer: Literal["409", "429", "wait"] = "409"
    verification: Literal["obey", "ignore"] = "obey"
    # What no answer, or a 5xx, to the verification call does.
    verification_silence: Literal["decline", "release", "hold"] = "decline"
    # None: beside the ledger; without a ledger one is made for this process.
    private_key: Path | None = None
    low_balance: Literal["failed", "422"] = "failed"
    # The HTTP status of a create that is answered with a payout already failed.
    declined_http: Literal[200, 202, 422] = 200
    magic: bool = True
    form: bool = False
    codes: bool = False
    phone_number: bool = False
    decoys: bool = False
    card_numbers: bool = True
    card_find: Literal["transactions", "transaction", "list"] = "transactions"
    balance_call: bool = True
    precheck: bool = True
    webhooks: bool = True
    forged_basic: bool = False

    def exponent(self, currency: str) -> int:
        """The decimals of a currency's minor unit, as this account has them."""
        return self.decimals.get(currency, DECIMALS.get(currency, 2))

    def minor(self, amount: Decimal, currency: str) -> Decimal | int:
        """An amount as it stands in JSON; a fault can make it less than a minor unit."""
        return number(amount.scaleb(self.exponent(currency)))

    def major(self, amount_minor: int, currency: str) -> Decimal:
        """An amount as the ledger has it."""
        return Decimal(amount_minor).scaleb(-self.exponent(currency))


def code_of(step: Step) -> str:
    """The processing code of a step: what its resolution says, or what its status means."""
    if _CODE.fullmatch(step.resolution):
        return step.resolution.replace("_", ".")
    if step.status in WORDS.paid:
        return "S.0000"
    if step.status in WORDS.given_back:
        return "F.0999"
    return "P.0001" if step.status in _OPEN else "P.9999"


def message_of(step: Step) -> str:
    return MESSAGES.get(code_of(step), "Declined")


def leg_of(step: Step) -> str:
    """The status of the gateway's leg."""
    return step.resolution.removeprefix(_LEG) if step.resolution.startswith(_LEG) else step.status


def is_open(step: Step) -> bool:
    return step.status in _OPEN


def part_of(invoice: Invoice) -> str:
    """`BEYAG` or `CARDS`."""
    part: str = invoice.details["part"]
    return part
