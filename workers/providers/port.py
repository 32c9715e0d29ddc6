"""What every provider's adapter offers, and the way to get one by name.

An adapter is pure translation: an order to a request, an answer to a reply. It never retries,
sleeps, reads the environment or touches a state. What a provider cannot do is said in its
`Capabilities` and decides behaviour; the name never does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel

from workers.errors import SettingsError
from workers.providers.tokens import Tokens
from workers.providers.transport import Transport
from workers.record.model import Order, Reply
from workers.record.money import Currency, Money

__all__ = [
    "Capabilities",
    "Delivery",
    "DryRunner",
    "Fact",
    "FieldRule",
    "News",
    "Order",
    "Provider",
    "Question",
    "Reply",
    "Service",
    "Support",
    "Verifier",
    "WebhookAnswers",
    "digest_of",
    "installed_providers",
    "load_provider",
    "takes_all",
]

ENTRY_POINTS = "paybatch.providers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a provider does and does not do; each fact has its source in the adapter's docstring."""

    # None: whatever the account's services say.
    currencies: tuple[str, ...] | None = None
    reference_id_chars_max: int
    # The characters a reference id may have, as a regular expression of one character.
    reference_id_char: str
    # A create only stores; a second call releases the money.
    two_step: bool
    # A second create with the same reference id is refused, so it is safe once absence is proven.
    refuses_duplicates: bool
    # A create that is sent again with the same key and the same bytes, so long after its first
    # send, is the same create; None: the provider knows no such key.
    repeatable_for_s: float | None = None
    # Digests of whom we pay through (address and merchant), and of the settings that shape a
    # create's bytes, where repeating needs the same bytes. A payout that may have been sent is
    # sent again only where both are as they were.
    identity: str = ""
    shape: str = ""
    # A payout can be looked up by our reference id.
    look_up: bool
    # So long after the send, and after three look-ups, "not found" proves absence: the default of
    # `lookup_grace_s`.
    absence_conclusive_after_s: float
    # A refusal that no table lists is final when one look-up finds nothing.
    refused_when_absent: bool = False
    # The account's balance can be asked for.
    balances: bool
    # The provider lists what the account can pay; else the adapter tells it from its settings.
    services: bool
    # The provider tells us of changes; such news only wakes a payout.
    webhooks: bool
    # The provider asks us, while it pays, whether it should: see `Verifier`.
    verifies: bool = False
    # The provider can be asked beforehand whether it would take a payout: see `DryRunner`.
    dry_run: bool = False
    # Payouts can be listed by date, for reconciliation.
    list_payouts: bool
    # Any `customer.*` column needs `customer.reference_id` beside it.
    customer_reference: bool = False


def digest_of(*parts: object) -> str:
    """A short digest for `identity` and `shape`; equal for equal parts."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


Support = Literal["documented", "seen", "assumed"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that an adapter relies on, and how well it is known."""

    claim: str
    # By the provider itself, in public code of its clients, or by nobody.
    support: Support
    # Where in the provider's page.
    source: str
    # The settings that change it; what is assumed has at least one.
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A request to our webhook receiver, as it came."""

    # What follows `/webhooks/ACCOUNT/` in its path; empty for nothing.
    tail: str = ""
    # Names in lower case.
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    # Whose request it is, as the server or the proxy before it tells; empty: not known.
    sender: str = ""
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a delivery is about. It wakes that payout, and its state is asked for."""

    provider_payout_id: str | None = None
    reference_id: str | None = None
    # The payout's status there, written as in the replies' `status`; None: it is not told, or it is
    # not all that decides. What we know already by asking wakes nobody.
    status: str | None = None
    # The same for a repeated delivery and for no other; empty: the body tells them apart.
    key: str = ""


@dataclass(frozen=True, slots=True)
class WebhookAnswers:
    """What the provider expects of our receiver: status and body."""

    # Stored, or stored before.
    taken: tuple[int, bytes] = (200, b"")
    # It does not verify.
    forged: tuple[int, bytes] = (401, b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A provider's question whether it should pay what it is about to pay."""

    provider_payout_id: str
    reference_id: str
    # None: it cannot be read exactly.
    amount: Money | None
    # What is otherwise not as it was sent, in words.
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRule:
    """One beneficiary field that a service asks for."""

    name: str
    required: bool
    # A compiled-and-tested regular expression that the whole value must match; None: any value.
    pattern: str | None = None
    label: str = ""
    example: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One way to pay that the account has: its limits, fees and fields."""

    code: str
    # The currency that the account pays in, and the one that the beneficiary gets.
    currency: Currency
    beneficiary_currency: Currency
    # False: the provider lists it, but not for use now.
    usable: bool = True
    # Limits of an order's amount, in `currency`; None: none known.
    amount_min: Money | None = None
    amount_max: Money | None = None
    # Decimals that the service takes; None: those of the currency.
    decimals: int | None = None
    # The fee is `fee_rate` (a fraction of the amount) plus `fee_fix`, within its own limits.
    fee_rate: Decimal = Decimal(0)
    fee_fix: Money | None = None
    fee_min: Money | None = None
    fee_max: Money | None = None
    # None: the provider did not tell its rules, so it alone can judge.
    fields: tuple[FieldRule, ...] | None = None
    # What could not be used of the provider's rules, in words for a person.
    warnings: tuple[str, ...] = ()

    def fee(self, amount: Money) -> Money:
        """The fee to expect for `amount`, rounded up to the minor unit."""
        share = (amount.minor * self.fee_rate).to_integral_value(ROUND_CEILING)
        minor = int(share) + (self.fee_fix.minor if self.fee_fix else 0)
        if self.fee_min is not None:
            minor = max(minor, self.fee_min.minor)
        if self.fee_max is not None and self.fee_max.minor > 0:
            minor = min(minor, self.fee_max.minor)
        return Money(minor, amount.currency)


def takes_all(order: Order) -> Sequence[tuple[str, str]]:  # noqa: ARG001 - as the port asks
    """The `why_not` of an adapter that has no rules beside those that its provider's services list;
    known by its identity, so that it need not be asked for each of a million orders.
    """
    return ()


class Provider(Protocol):
    """An adapter. Every call that moves or reads a payout answers with a `Reply` and raises nothing
    for what the provider or the network did; the questions asked before money moves raise
    `AccountFault` or `ProviderUnreachable`.
    """

    name: ClassVar[str]
    # With the default settings; an instance has those of its own settings.
    capabilities: Capabilities
    # The keys of `[accounts.NAME]` that are this provider's own; validated with all other settings.
    Config: ClassVar[type[BaseModel]]
    # This provider's defaults of the keys that every account has: {"rate_per_s": 3}.
    account_defaults: ClassVar[Mapping[str, Any]]
    webhook_answers: ClassVar[WebhookAnswers]
    facts: ClassVar[Sequence[Fact]]

    def __init__(self, config: Any, transport: Transport, tokens: Tokens) -> None: ...

    def why_not(self, order: Order) -> Sequence[tuple[str, str]]:
        """What of an order the provider would not take, beside what its services' rules say: each
        a column ("fields.rut") and what was expected there. Asks nobody. The order may break those
        rules, so that all faults of a row are told at once: any field may be missing or wrong.
        """
        ...

    def create(self, order: Order) -> Reply:
        """Have the provider store the payout; in one step it also pays it."""
        ...

    def process(self, order: Order, provider_payout_id: str) -> Reply:
        """Release the money of a created payout, where the provider has two steps."""
        ...

    def poll(self, order: Order, provider_payout_id: str) -> Reply:
        """What became of it, by the provider's id."""
        ...

    def look_up(self, order: Order) -> Reply:
        """What became of it, by our reference id; NOT_FOUND when the provider has none."""
        ...

    def read_webhook(self, delivery: Delivery) -> Sequence[News] | None:
        """What a delivery is about, empty if about no payout; None if it does not verify."""
        ...

    def balances(self) -> Mapping[Currency, Money]:
        """What can be spent, per currency; empty where the account keeps no balances.

        Raises:
            AccountFault: the account is not usable.
            ProviderUnreachable: no answer.
        """
        ...

    def services(self, currency: Currency) -> Sequence[Service]:
        """What the account can pay from that currency; a number of calls that depends on the
        services alone.

        Raises:
            AccountFault: the account is not usable.
            ProviderUnreachable: no answer.
        """
        ...

    def list_payouts(self, since: datetime, until: datetime) -> Iterator[Reply]:
        """The provider's own list of what was created from `since` on and before `until`, for
        reconciliation; nothing where it has none.

        Raises:
            AccountFault, ProviderUnreachable: before the first payout or between two.
        """
        ...


@runtime_checkable
class Verifier(Protocol):
    """An adapter whose provider asks before it pays; `capabilities.verifies` says whether it is
    told to. Its questions arrive at `/webhooks/ACCOUNT/verify`.
    """

    def read_question(self, delivery: Delivery) -> Question | None:
        """What is asked; None if it does not verify."""
        ...

    def answer_question(self, question: Question, *, allowed: bool) -> bytes:
        """The body of our answer, which has status 200."""
        ...


@runtime_checkable
class DryRunner(Protocol):
    """An adapter whose provider can be asked beforehand; `capabilities.dry_run` says whether it
    is to be asked.
    """

    def dry_run(self, order: Order) -> str | None:
        """Why the provider would refuse the payout, in its own words, masked; None: it would take
        it. Moves no money.

        Raises:
            AccountFault: the account is not usable.
            ProviderUnreachable: no answer.
        """
        ...


def installed_providers() -> Sequence[str]:
    """The names under which adapters are installed."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINTS)})


def load_provider(name: str) -> type[Provider]:
    """The adapter installed under that name; a plug-in adds one by the entry point
    `paybatch.providers`.

    Raises:
        SettingsError: none is installed under that name, or several are, or it is no adapter.
    """
    points = {point.value: point for point in entry_points(group=ENTRY_POINTS, name=name)}
    if not points:
        known = ", ".join(installed_providers())
        raise SettingsError([f"provider {name!r} is not installed; installed are: {known}"])
    if len(points) > 1:
        which = " and ".join(sorted(map(_plug_in, points.values())))
        raise SettingsError(
            [f"provider {name!r} is installed more than once: {which}; uninstall all but one"]
        )
    (point,) = points.values()
    try:
        adapter: type[Provider] = point.load()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise SettingsError(
            [f"provider {name!r}, {_plug_in(point)}, cannot be imported: {why}"]
        ) from error
    if missing := _missing(adapter):
        raise SettingsError(
            [f"provider {name!r}, {_plug_in(point)}, is no adapter; it lacks: {missing}"]
        )
    return adapter


def _plug_in(point: EntryPoint) -> str:
    """`acme:Acme of acme-paybatch 0.1`."""
    return f"{point.value} of {point.dist.name} {point.dist.version}" if point.dist else point.value


def _missing(adapter: object) -> str:
    """What of the port an adapter does not have."""
    if not isinstance(adapter, type):
        return "a class"
    members = [*Provider.__annotations__, *vars(Provider)]
    # What is only inherited from the port itself is not there either.
    return ", ".join(
        each
        for each in members
        if not each.startswith("_")
        and getattr(adapter, each, None) in (None, getattr(Provider, each, None))
    )
