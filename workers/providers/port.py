"""What every provider's adapter offers, and the way to get one by name.

An adapter is pure translation: an order to a request, an answer to a reply. It never retries,
sleeps, reads the environment or touches a state. What a provider cannot do is said in its
`Capabilities` and decides behaviour; the name never does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from workers.errors import SettingsError
from workers.providers.transport import Transport
from workers.record.model import Order, Reply
from workers.record.money import Currency, Money

__all__ = [
    "Capabilities",
    "FieldRule",
    "Order",
    "Provider",
    "Reply",
    "Service",
    "load_provider",
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
    # A payout can be looked up by our reference id.
    look_up: bool
    balances: bool
    services: bool
    webhooks: bool
    list_payouts: bool


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


class Provider(Protocol):
    """An adapter. Every call that moves or reads a payout answers with a `Reply` and raises nothing
    for what the provider or the network did; the questions asked before money moves raise
    `AccountFault` or `ProviderUnreachable`.
    """

    name: ClassVar[str]
    capabilities: Capabilities
    # The keys of `[accounts.NAME]` that are this provider's own; validated with all other settings.
    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: Any, transport: Transport) -> None: ...

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

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> Sequence[str]:
        """The provider payout ids that a verified delivery is about; empty for one that does not
        verify.
        """
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
        """The provider's own list, newest first, for reconciliation."""
        ...


def load_provider(name: str) -> type[Provider]:
    """The adapter installed under that name; a plug-in adds one by the entry point
    `paybatch.providers`.

    Raises:
        SettingsError: none is installed under that name.
    """
    installed = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in installed:
        known = ", ".join(sorted(installed))
        raise SettingsError([f"provider {name!r} is not installed; installed are: {known}"])
    adapter: type[Provider] = installed[name].load()
    return adapter
