"""The five providers as the tests need them: a simulator, an account, an order, and their answers.

Whatever all providers must do is tested once, over these.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.worlds import order
from workers.record.model import Order
from workers.record.money import Currency, Money
from workers.simulator.server import Running


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One provider."""

    name: str
    # The class of the simulator's options, in its module.
    options: str
    # Options of every run; and those under which a second create of a reference id is a second
    # payout.
    usual: Mapping[str, Any] = field(default_factory=dict)
    harsh: Mapping[str, Any] = field(default_factory=dict)
    # The account's own settings, beside its address.
    account: Mapping[str, Any]
    # What an order of 10.00 (or 1,000 pesos) looks like.
    order: Mapping[str, Any]
    currency: str = "USD"
    minor: int = 1000
    # The boundary that a call is: token, create, process, read, find or list.
    boundary: Callable[[httpx.Request], str]
    # An error in the provider's own form, and a refusal of the payout that its tables list.
    error: Callable[[int], Any]
    refusal: tuple[int, Any]
    # What a look-up is answered that finds nothing, by boundary; and the faults that say so.
    absent: Mapping[str, tuple[int, Any]]
    not_found: Sequence[tuple[str, str]]
    # In a create's answer: the amount, and another one.
    amount: tuple[bytes, bytes]
    # Faults that its adapter tells apart from others of their class, by boundary.
    apart: Mapping[str, Sequence[set[str]]] = field(default_factory=dict)
    # What the crash points set otherwise: a look-up whose length grows would make lives differ.
    crash_account: Mapping[str, Any] = field(default_factory=dict)
    # A look-up reads the provider's list of some days, and needs another payout there.
    lists_days: bool = False
    # A release is asked for, though the create's own answer may end the payout.
    two_step: bool = False

    def serve(self, **options: Any) -> AbstractContextManager[Running]:
        """Run its simulator in this process."""
        module = importlib.import_module(f"workers.simulator.{self.name}")
        running: AbstractContextManager[Running] = module.serve(
            getattr(module, self.options)(**{**self.usual, **options})
        )
        return running

    def account_at(self, running: Running) -> dict[str, Any]:
        """The account's settings for a simulator that runs."""
        at = {"base_url": running.base_url}
        if self.name == "payelata":
            at["public_base_url"] = running.public_base_url
        return {"provider": self.name, "rate_per_s": 0, **at, **self.account}

    def an_order(self, **changes: Any) -> Order:
        amount = Money(self.minor, Currency.of(self.currency))
        return order(**{"amount": amount, **self.order, **changes})


def _payelata_boundary(request: httpx.Request) -> str:
    if request.method == "POST":
        return "process" if request.url.path.endswith("/process") else "create"
    return "find" if "filter" in request.url.query.decode() else "read"


def _ecomcharge_boundary(request: httpx.Request) -> str:
    path = request.url.path
    if path.endswith("/balance"):
        return "read"
    if request.method == "POST":
        return "create"
    return "find" if "/tracking_id/" in path else "read"


def _echelon_boundary(request: httpx.Request) -> str:
    if request.url.path.startswith("/auth-tokens"):
        return "token"
    return "create" if request.method == "POST" else "read"


def _ecart_boundary(request: httpx.Request) -> str:
    path = request.url.path
    if path.endswith("/token"):
        return "token"
    if request.method == "POST":
        return "create"
    if request.method == "PUT":
        return "process"
    if path.endswith("/transactions"):
        return "list"
    return "find" if b"reference_id" in request.url.query else "read"


def _etpay_boundary(request: httpx.Request) -> str:
    query = request.url.query
    if request.url.path.endswith("/login"):
        return "token"
    if request.method == "POST":
        return "create"
    if b"merchant_order_id" in query:
        return "find"
    return "list" if b"date_from" in query else "read"


PAYELATA = Kind(
    name="payelata",
    options="PayelataOptions",
    harsh={"allow_duplicates": True},
    account={
        "account_id": "coma_Demo0000Demo0001",
        "api_key": "demo-api-key",
        "public_key": "pk_test_demo",
        "signing_key": "sk_test_demo",
        "test_mode": True,
    },
    order={"service": "test_usd", "fields": {"account": "987654321"}},
    two_step=True,
    boundary=_payelata_boundary,
    error=lambda status: {"errors": [{"status": "Error", "code": str(status)}]},
    refusal=(422, {"errors": {"amount": "This value is not valid."}}),
    absent={"find": (200, {"data": [], "meta": {"count": 0, "size": 20}})},
    not_found=(("find", "404:undone"), ("find", "absent:undone")),
    # The simulator writes amounts of 10.00 as the number 10.
    amount=(b'"amount":10,', b'"amount":99,'),
)

ECOMCHARGE = Kind(
    name="ecomcharge",
    options="EcomchargeOptions",
    # Refused at once, not stored and then declined.
    usual={"low_balance": "422"},
    harsh={"request_id": False},
    account={
        "shop_id": "4242",
        "secret_key": "demo-secret",
        "currency_decimals": {"USD": 2},
        "methods": {
            "bank_transfer": {
                "required": ["account_number"],
                "customer_required": ["first_name", "last_name"],
            }
        },
        "gateway_id": 85,
        "test_mode": True,
    },
    order={
        "service": "bank_transfer",
        "fields": {"account_number": "987654321"},
        "customer": {"first_name": "Jane", "last_name": "Roe"},
    },
    boundary=_ecomcharge_boundary,
    error=lambda status: {"message": f"Error {status}"},
    refusal=(422, {"message": "x", "errors": {"request": {"amount": ["is missing"]}}}),
    absent={"find": (200, {"transactions": []})},
    not_found=(("find", "absent:undone"),),
    amount=(b'"amount":1000,', b'"amount":9900,'),
)

# A new token is fetched, and the call made again.
_TOKEN_REFUSED = {"401:undone"}
_NEW_TOKEN = dict.fromkeys(("create", "process", "read", "find", "list"), (_TOKEN_REFUSED,))

ECHELON = Kind(
    name="echelon",
    apart={each: ({"401:undone", "403:undone"},) for each in ("create", "read")},
    options="EchelonOptions",
    harsh={"duplicates": "pay-again"},
    account={"merchant_code": "M-4711", "secret": "s3cret", "test_mode": True},
    order={
        "service": "BANK_TRANSFER",
        "fields": {
            "accountName": "Siti Rahma",
            "accountNumber": "987654321",
            "paymentOperatorCode": "BNK_014",
        },
    },
    boundary=_echelon_boundary,
    error=lambda status: {"code": f"X{status}", "message": "x"},
    # No code of a refusal is known; what is not listed is looked up, and then it is one.
    refusal=(422, {"code": "ATTRIBUTE_INVALID", "message": "x"}),
    absent={"read": (404, {"code": "ENTITY_NOT_FOUND", "message": "x"})},
    not_found=(("read", "404:undone"),),
    amount=(b'"amount":10,', b'"amount":99,'),
)

ECART = Kind(
    name="ecart",
    options="EcartOptions",
    harsh={"duplicate_status": "pay-again"},
    # A wrong path of the confirmation is told from a payout that is not there.
    apart={**_NEW_TOKEN, "process": (_TOKEN_REFUSED, {"404:undone"})},
    crash_account={"lookup_mode": "get_by_ref"},
    account={
        "public_key": "pub_demo",
        "private_key": "priv_demo",
        "webhook_secret": "whsec_demo",
        "error_map": {9001: "duplicate", 9002: "low_balance", 9005: "validation"},
    },
    order={"service": "balance", "fields": {"email": "jane@example.com"}},
    two_step=True,
    boundary=_ecart_boundary,
    error=lambda status: {"statusCode": status, "error": "Error", "message": "x"},
    refusal=(422, {"statusCode": 422, "error": "x", "message": "x", "code": 9005}),
    absent={"find": (200, {"data": []}), "list": (200, {"data": []})},
    not_found=(("find", "absent:undone"),),
    amount=(b'"amount":10,', b'"amount":99,'),
)

ETPAY = Kind(
    name="etpay",
    options="EtpayOptions",
    harsh={"duplicates": "pay_again"},
    # What a login is that was not understood, is told from one that was not answered.
    apart={**_NEW_TOKEN, "token": ({"400:undone"},)},
    lists_days=True,
    account={
        "merchant_code": "cl_demo",
        "merchant_api_token": "demo-api-token",
        "username": "payouts@demo.example",
        "password": "demo-password",
        "error_map": {"PO-INVALID-ACCOUNT": {"class": "validation"}},
    },
    order={
        "service": "bank_transfer",
        "fields": {
            "name": "Camila Soto",
            "rut": "111111111",
            "email": "camila@example.com",
            "bank_code": "037",
            "account_type": "cuenta_corriente",
            "account_number": "987654321",
        },
    },
    currency="CLP",
    boundary=_etpay_boundary,
    error=lambda status: {"msg": "error", "error": {"code": f"X{status}", "message": "x"}},
    refusal=(422, {"msg": "error", "error": {"code": "PO-INVALID-ACCOUNT", "message": "x"}}),
    absent={"find": (404, {"msg": "error", "error": {"code": "NOT_FOUND", "message": "x"}})},
    # The list by date shows it all the same.
    not_found=(),
    amount=(b'"amount":1000,', b'"amount":9900,'),
)

KINDS = {kind.name: kind for kind in (PAYELATA, ECOMCHARGE, ECHELON, ECART, ETPAY)}
