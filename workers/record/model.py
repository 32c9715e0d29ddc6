"""What the record holds and what passes between the record and a provider, as frozen values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from workers.record.canonical import quoted, quoted_ascii, sorted_ascii_object, sorted_object
from workers.record.money import Money
from workers.record.status import Outcome, State

JsonObject = Mapping[str, Any]
_NOTHING: JsonObject = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Actor:
    """A person who does something, and from where."""

    name: str
    # The machine and program, or the address of a browser: for the record, never a proof.
    origin: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class Order:
    """One payout as its maker wrote it: what is approved, sealed and sent."""

    # Our id of the payout, unique for ever in its account; the provider's idempotency key.
    reference_id: str
    # The name of the account in the settings that pays it.
    account: str
    amount: Money
    # The provider's service or method.
    service: str
    # Beneficiary fields as the service asks for them; personal data, like `context` and `customer`.
    fields: JsonObject = field(default_factory=dict, repr=False)
    context: JsonObject = field(default_factory=dict, repr=False)
    customer: JsonObject = field(default_factory=dict, repr=False)
    metadata: JsonObject = field(default_factory=dict, repr=False)
    description: str = ""
    # The reference id of the failed payout that this one pays again.
    replaces: str = ""
    # How often the provider had refused it for lack of money, before any doubt: where it keeps
    # what it answered to an idempotency key, the next create needs the next key. Not the maker's,
    # so not part of what is sealed.
    key_no: int = 0

    def __init__(
        self,
        *,
        reference_id: str,
        account: str,
        amount: Money,
        service: str,
        fields: JsonObject = _NOTHING,
        context: JsonObject = _NOTHING,
        customer: JsonObject = _NOTHING,
        metadata: JsonObject = _NOTHING,
        description: str = "",
        replaces: str = "",
        key_no: int = 0,
    ) -> None:
        # A file has a million of these. What dataclasses write for a frozen class looks every name
        # up again; this takes less than half the time.
        _set_reference_id(self, reference_id)
        _set_account(self, account)
        _set_amount(self, amount)
        _set_service(self, service)
        _set_fields(self, fields)
        _set_context(self, context)
        _set_customer(self, customer)
        _set_metadata(self, metadata)
        _set_description(self, description)
        _set_replaces(self, replaces)
        _set_key_no(self, key_no)

    def canonical(self) -> bytes:
        """The same bytes for the same content, whatever the order of columns: what is hashed and
        sealed.
        """
        amount = self.amount
        return (
            f'{{"account":{quoted(self.account)}'
            f',"amount_minor":{amount.minor}'
            f',"context":{sorted_object(self.context) if self.context else "{}"}'
            f',"currency":{quoted(amount.currency.code)}'
            f',"currency_exponent":{amount.currency.exponent}'
            f',"customer":{sorted_object(self.customer) if self.customer else "{}"}'
            f',"description":{quoted(self.description)}'
            f',"fields":{sorted_object(self.fields)}'
            f',"metadata":{sorted_object(self.metadata)}'
            f',"reference_id":{quoted(self.reference_id)}'
            f',"replaces":{quoted(self.replaces)}'
            f',"service":{quoted(self.service)}}}'
        ).encode()

    def payee(self) -> bytes:
        """The same bytes for the same beneficiary and amount: what a fingerprint is made of."""
        return (
            f"[{quoted_ascii(self.account)},{quoted_ascii(self.service)}"
            f",{self.amount.minor},{quoted_ascii(self.amount.currency.code)}"
            f",{sorted_ascii_object(self.fields)}]"
        ).encode()


(
    _set_reference_id, _set_account, _set_amount, _set_service, _set_fields, _set_context,
    _set_customer, _set_metadata, _set_description, _set_replaces, _set_key_no,
) = (getattr(Order, name).__set__ for name in Order.__dataclass_fields__)  # fmt: skip


class ContentHash:
    """SHA-256 over the rows of a file in order; equal for equal normalised content."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, order: Order) -> None:
        self.add_all([order.canonical()])

    def add_all(self, canonicals: Iterable[bytes]) -> None:
        """Add rows, in their order, by what the `Order.canonical` of each is."""
        # Hashing each row first keeps rows apart: no two sequences of rows share their bytes.
        digest = hashlib.sha256
        self._digest.update(b"".join([digest(one).digest() for one in canonicals]))

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a provider's answer says about one payout."""

    outcome: Outcome
    # The provider's id of the payout; None where the answer names none.
    provider_payout_id: str | None = None
    # The provider's own word, kept raw and shown.
    status: str | None = None
    # Why, in the provider's code and words; never beneficiary data.
    code: str | None = None
    reason: str | None = None
    # What the answer says was asked for; None where it does not say.
    reference_id: str | None = None
    amount: Money | None = None
    # Other facts of the answer that are not what was sent: ("service: card, sent: pix",).
    differs: tuple[str, ...] = ()
    fee: Money | None = None
    processed: Money | None = None
    exchange_rate: str | None = None
    # False: a look-up found nothing, but in a way that proves nothing of what was sent before.
    proves_absence: bool = True
    # The provider asks us to wait that long before the next call.
    retry_after_s: int | None = None
    # A refusal that no table lists, which may or may not have stored the payout: equal text, equal
    # refusal.
    refusal: str | None = None
    # The account's fault shows in this answer too (low balance, revoked rights): it is to be
    # paused.
    account_fault: str | None = None
    # The pause is for lack of money: open payouts are still read.
    low_balance: bool = False
    # Why only a person can say what is to become of the payout, though no money moved.
    needs_person: str | None = None
    # Something a person should see though the outcome stands: "partially_canceled".
    warning: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """That a provider told something of a payout; what it says decides nothing."""

    # The same for a repeated delivery and for no other of the account.
    key: str
    provider_payout_id: str | None = None
    reference_id: str | None = None
    # Its word for where the payout stands, as our own questions have it; None: not known. Who is
    # told what is known already need not ask.
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of one payout, if it is still as it was read."""

    payout_id: int
    reference_id: str
    claim_no: int
    source: State
    # Columns and their new values, the state among them where it moves.
    values: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """One payout as the table has it."""

    id: int
    batch_id: str
    row: int
    reference_id: str
    account: str
    provider: str
    service: str
    amount: Money
    state: State
    provider_payout_id: str | None
    provider_status: str | None
    # The provider's id that it asked about and was told to pay under.
    confirmed_id: str | None
    attempts: int
    # Attempts that an account fault answered: they do not count against the limit.
    attempts_excused: int
    # Attempts before a person had it tried anew: they do not count any more.
    attempts_base: int
    # The claim's number: every write-back names it, so a worker that lost its claim cannot write.
    claim_no: int
    claimed_until: datetime | None
    # When the first create was intended, and the latest.
    sent_at: datetime | None
    last_sent_at: datetime | None
    # How often the payout was looked up without being found since the latest create.
    lookups: int
    # How often it was read since its state last changed; decides the next delay.
    polls: int
    # When its release was last asked for, and how often.
    released_at: datetime | None
    releases: int
    # Unlisted refusals of its creates: the first and the latest.
    refusal_first: str | None
    refusal_last: str | None
    # When a create of it was first left open: it may have been sent, whatever was answered later.
    doubted_at: datetime | None
    # How often it was refused for lack of money, before any doubt: the number of its idempotency
    # key.
    key_no: int
    # Sent before and proven absent, where a repeat needs the same key: until when it may be sent
    # again.
    repeat_until: datetime | None
    # Through whom and in what shape it was sent; None: not known.
    shape: str | None
    # An accepted answer that differed from what was sent; a second doubt holds the payout.
    doubt: str | None
    settled_at: datetime | None
    # The record was put back to an earlier state: even its first create may be a second one. Not a
    # column: a claim says it of the create that it is for.
    looks_first: bool = False
    # What is known of it and not stored yet: only what the provider would say again, and only while
    # its next answer is waited for.
    untold: Change | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one person would have become of a held payout, until another one says the same."""

    target: State
    at: datetime
    actor: str
    reason: str
