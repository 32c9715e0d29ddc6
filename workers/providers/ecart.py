"""Payouts through Ecart Pay: from the merchant's balance to the account that an e-mail names.

Translates orders into its API's requests, and answers into replies. By default a payout is created
first, which moves no money, and confirmed by a second call. It must never conclude "not there" from
an answer that does not plainly say so: most payouts end inside one call, so a lost answer is the
main danger.

Source: Ecart Pay payouts, adapter and simulator reference, sections 1 to 12 (that page names the
provider's own pages); read 2026-11-21. Facts that it marks as inferred are settings.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import quote

from workers.errors import ProviderUnreachable
from workers.providers import ecart_words as words
from workers.providers import wire
from workers.providers.ecart_config import FACTS, EcartConfig, ErrorClass
from workers.providers.ecart_errors import NAME, Errors, expect_200, is_own, said
from workers.providers.port import (
    Capabilities,
    Delivery,
    Fact,
    FieldRule,
    News,
    Order,
    Reply,
    Service,
    WebhookAnswers,
    digest_of,
)
from workers.providers.tokens import NoToken, Token, Tokens
from workers.providers.transport import Answer, Lost, Transport
from workers.record.money import Currency, Money
from workers.record.status import Outcome

SERVICE = "balance"
TOKEN_NAME = "access"  # noqa: S105 - what the token is kept under
PAYOUTS, LEDGER, TOKEN = "/api/payouts", "/api/transactions", "/api/authorizations/token"
# The ledger's pages have numbers up to here, and tokens after. Source: section 7.
PAGE_NUMBER_MAX = 10
# So many payouts are read of what a ledger has under one reference id.
HITS_MAX = 5
UNREAD = "the reference id is taken, but its payout cannot be read"
PROBE = "the identical create is the probe: it is refused if the payout is there"
# A token is renewed so long before the end that it tells.
TOKEN_MARGIN = timedelta(minutes=1)

# One address, with nothing beside it. Simple, so that a long value is soon refused.
EMAIL = r"[^\s@,;<>]{1,64}@[A-Za-z0-9.-]{1,190}\.[A-Za-z0-9-]{2,63}"


def _capabilities(config: EcartConfig) -> Capabilities:
    char, _, chars_max = config.reference_id_pattern.removesuffix("}").rpartition("{1,")
    return Capabilities(
        currencies=config.currencies,
        reference_id_chars_max=int(chars_max),
        reference_id_char=char,
        two_step=config.two_step,  # section 5
        refuses_duplicates=True,  # a reference id is "usable only once": section 4
        look_up=bool(config.lookup_mode),  # section 7
        absence_conclusive_after_s=600,  # section 10
        balances=bool(config.balance_path),  # section 8
        services=False,  # there is one, and no call lists it
        webhooks=config.webhook_secret is not None,  # section 9
        # The ledger has transactions of all kinds, and no page says how to tell payouts apart.
        list_payouts=False,
    )


@dataclass(frozen=True, slots=True)
class _Doubt:
    """Why one way of looking a payout up cannot tell."""

    why: str
    # So soon it would be the same again.
    wait_s: int | None = None


class Ecart:
    """Ecart Pay's payouts.

    Source: Ecart Pay payouts, adapter and simulator reference; read 2026-11-21.
    """

    name: ClassVar[str] = "ecart"
    Config: ClassVar[type[EcartConfig]] = EcartConfig
    # With the defaults; an instance has those of its settings.
    capabilities: Capabilities = _capabilities(
        EcartConfig.model_validate({"public_key": "-", "private_key": "-", "webhook_secret": "-"})
    )
    # Source: section 12; a confirmed payout is most often paid at once, so it is read soon.
    account_defaults: ClassVar[Mapping[str, Any]] = {
        "service": SERVICE,
        "rate_per_s": 3,
        "in_flight_max": 5,
        "connect_timeout_s": 5,
        "read_timeout_s": 60,
        "poll_first_s": 5,
        # No event is named for payouts, so there is none to wait for. Source: section 9.
        "webhook_wait_s": 5,
        "poll_max_s": 120,
        "lookup_first_s": 5,
    }
    # Any 2xx is taken; a 4xx is never sent again. Source: section 9.
    webhook_answers: ClassVar[WebhookAnswers] = WebhookAnswers()
    facts: ClassVar[Sequence[Fact]] = FACTS

    # Source: section 7; `paid` and `pending` are documented, the others inferred. What is pending
    # waits for our confirmation, unless the payout says otherwise.
    states: ClassVar[Mapping[str, Outcome]] = {
        "paid": Outcome.PAID,
        "pending": Outcome.CREATED,
        "confirmed": Outcome.PROCESSING,
        "created": Outcome.PROCESSING,
        "processing": Outcome.PROCESSING,
        "cancelled": Outcome.REFUSED,
        "canceled": Outcome.REFUSED,
        "expired": Outcome.REFUSED,
        "failed": Outcome.REFUSED,
        "declined": Outcome.REFUSED,
        "error": Outcome.REFUSED,
        "refunded": Outcome.RETURNED,
    }
    # Source: section 10; the provider's list of codes could not be read.
    errors: ClassVar[Mapping[int, ErrorClass]] = {114: "token"}

    def __init__(self, config: EcartConfig, transport: Transport, tokens: Tokens) -> None:
        self._config = config
        self._transport = transport
        self._tokens = tokens
        self._states = {**self.states, **{w: Outcome(o) for w, o in config.status_map.items()}}
        self._errors = Errors({**self.errors, **config.error_map})
        identity = digest_of(self.name, config.base_url)
        self.capabilities = replace(_capabilities(config), identity=identity)

    def why_not(self, order: Order) -> Sequence[tuple[str, str]]:
        """Columns that have no place at Ecart Pay. Source: section 4."""
        return [
            (f"{family}.{next(iter(given))}", f"no value: {NAME} takes no {family} data")
            for family, given in (("customer", order.customer), ("context", order.context))
            if given
        ]

    # Calls about one payout: none raises for what the provider or the network did.

    def create(self, order: Order) -> Reply:
        """Store the payout, or pay it with `two_step = false`. Source: sections 4 and 10."""
        return self._told(lambda: self._create(order), without_token=Outcome.NOT_SENT)

    def process(self, order: Order, provider_payout_id: str) -> Reply:
        """Confirm a payout that waits for it. Source: sections 5 and 10."""
        return self._told(
            lambda: self._process(order, provider_payout_id), without_token=Outcome.NOT_SENT
        )

    def poll(self, order: Order, provider_payout_id: str) -> Reply:
        """Read by the provider's id. Source: section 7."""
        return self._told(
            lambda: self._poll(order, provider_payout_id), without_token=Outcome.UNKNOWN
        )

    def look_up(self, order: Order) -> Reply:
        """Find it by our reference id, in the ways of `lookup_mode` in turn; absent only if every
        one of them was answered and found nothing, or if the create itself is to be the probe.
        Source: section 7.
        """
        return self._told(lambda: self._look_up(order), without_token=Outcome.UNKNOWN)

    def read_webhook(self, delivery: Delivery) -> Sequence[News] | None:
        """What a verified delivery is about; none verifies without a `webhook_secret`.

        Source: section 9.
        """
        config = self._config
        if config.webhook_secret is None or not words.verifies(
            delivery,
            config.webhook_secret.get_secret_value(),
            scope=config.webhook_sign_scope,
            age_s_max=config.webhook_max_age_s,
        ):
            return None
        return words.news(delivery)

    # Questions asked before money moves.

    def balances(self) -> Mapping[Currency, Money]:
        """What can be spent, rounded down to the minor unit; empty where `balance_path` is.

        Source: section 8.
        """
        question, path = "its balances", self._config.balance_path
        if not path:
            return {}
        try:
            answer = self._call("GET", path)
        except NoToken as none:
            expect_200(none.cause, question)
            raise ProviderUnreachable(f"{NAME} gave no access token") from none
        told = expect_200(answer, question).json()
        spendable = words.spendable(told, self._config.balance_path_map)
        if spendable is None:
            raise ProviderUnreachable(
                f"{NAME}'s balances cannot be read: expected an amount for each currency at"
                f" {self._config.balance_path_map} (balance_path_map), or balance_path empty"
            )
        return spendable

    def services(self, currency: Currency) -> Sequence[Service]:
        """The one way to pay: to another account's balance. Source: section 4."""
        if currency.code not in self._config.currencies:
            return []
        email = FieldRule(
            name="email",
            required=True,
            pattern=EMAIL,
            label="e-mail of the beneficiary's Ecart Pay account",
            example="proveedor@example.com",
        )
        return [
            Service(
                code=SERVICE,
                currency=currency,
                beneficiary_currency=currency,
                decimals=min(self._config.amount_decimals, currency.exponent),
                fields=(email,),
            )
        ]

    def list_payouts(self, since: datetime, until: datetime) -> Iterator[Reply]:  # noqa: ARG002 - as the port asks
        """Nothing: the ledger does not tell payouts from other transactions."""
        return iter(())

    # Create, confirm, read.

    def _create(self, order: Order) -> Reply:
        answer = self._call("POST", PAYOUTS, content=self._create_body(order))
        if isinstance(answer, Lost):
            return wire.lost(answer)
        if not 200 <= answer.status < 300:
            return self._errors.refused(answer, order)
        payout = words.read_payout(answer.json())
        if payout is None or not wire.text(payout.get("reference_id")):
            return wire.unknown(answer, "no payout with its reference id in the answer")
        reply = self._reply(payout, answer, order)
        if self._config.two_step and reply.outcome is Outcome.PAID:
            early = "paid before it was confirmed"
            return replace(reply, warning="; ".join(filter(None, (early, reply.warning))))
        return reply

    def _process(self, order: Order, payout_id: str) -> Reply:
        answer = self._call("PUT", _path(self._config.confirm_path, payout_id), content=b"{}")
        if isinstance(answer, Lost):
            return wire.lost(answer)
        if 200 <= answer.status < 300:
            reply = self._read(answer, order, payout_id)
            # It was taken: whether it still waits, the next read says.
            taken = reply.outcome is Outcome.CREATED
            return replace(reply, outcome=Outcome.PROCESSING) if taken else reply
        if answer.status in (404, 405) and not is_own(answer):
            # No word of the provider's own: the address is wrong, and no payout is at fault.
            return self._errors.account_fault(answer, order, "confirm_path or base_url is wrong")
        return self._errors.not_done(answer, order)

    def _poll(self, order: Order, payout_id: str) -> Reply:
        answer = self._call("GET", _path(self._config.status_path, payout_id))
        if isinstance(answer, Lost):
            return wire.lost(answer)
        if answer.status == 200:
            return self._read(answer, order, payout_id)
        if answer.status == 404 and is_own(answer):
            return Reply(outcome=Outcome.NOT_FOUND, code="404", reason=said(answer, order))
        return self._errors.not_done(answer, order)

    # Look-ups: each way gives what it found, None for "nothing", or why it cannot tell.

    def _look_up(self, order: Order) -> Reply:
        ways: Mapping[str, Callable[[Order], Reply | _Doubt | None]] = {
            "get_by_ref": self._by_reference,
            "ledger": self._by_ledger,
        }
        modes, doubts = self._config.lookup_mode, dict[str, _Doubt]()
        if not modes:
            return Reply(outcome=Outcome.UNKNOWN, reason="lookup_mode names no way to look it up")
        for mode in modes:
            found = ways[mode](order) if mode in ways else None
            if isinstance(found, Reply):
                return found
            if found is not None:
                doubts[mode] = found
        reasons = [f"{mode}: {doubt.why}" for mode, doubt in doubts.items()]
        if "probe" in modes:
            return Reply(outcome=Outcome.NOT_FOUND, reason="; ".join([*reasons, PROBE]))
        # It was plainly answered that there is none, but the ledger does not confirm it.
        none = not doubts or (doubts.keys() == {"ledger"} and "get_by_ref" in modes)
        return Reply(
            outcome=Outcome.NOT_FOUND if none else Outcome.UNKNOWN,
            reason="; ".join(reasons) or None,
            proves_absence=not doubts,
            retry_after_s=max((doubt.wait_s or 0 for doubt in doubts.values()), default=0) or None,
        )

    def _by_reference(self, order: Order) -> Reply | _Doubt | None:
        answer = self._call("GET", PAYOUTS, params={"reference_id": order.reference_id})
        if isinstance(answer, Lost):
            return wire.lost(answer)
        if answer.status != 200:
            return self._no_answer(answer, order)
        items = words.read_list(answer.json(), "data", "payouts")
        if items is None:
            return _Doubt("the answer is not a list of payouts")
        hits = [item for item in items if item.get("reference_id") == order.reference_id]
        if not all(words.read_payout(hit) for hit in hits):
            return _exists(order, UNREAD)
        if hits:
            return _one_of({hit["id"]: self._reply(hit, answer, order) for hit in hits}, order)
        return _Doubt("the list is not filtered by the reference id") if items else None

    def _by_ledger(self, order: Order) -> Reply | _Doubt | None:
        """Source: section 7. Only the ledger's end proves absence: an empty page, or one of those
        with tokens that names no next.
        """
        config, seen, unmarked = self._config, set[str](), False
        size = {"limit": str(config.ledger_page_size)}
        params = {"page": "1", **size}
        for number in range(1, config.ledger_pages_max + 1):
            answer = self._call("GET", LEDGER, params=params)
            if isinstance(answer, Lost):
                return wire.lost(answer)
            if answer.status != 200:
                return self._no_answer(answer, order)
            page = words.read_page(answer)
            if page is None:
                return _Doubt("the answer is not a list of transactions")
            hits = page.hits(config.ledger_reference_fields, order.reference_id)
            if hits:
                return self._of_entries(hits, order)
            unmarked |= not page.all_tell(config.ledger_reference_fields)
            if not page.entries or (number >= PAGE_NUMBER_MAX and page.last):
                return _Doubt("some of its entries tell no reference id") if unmarked else None
            new = page.new(seen)
            if not new:
                return _too_long("the ledger repeats itself: it has no end")
            seen |= new
            if number < PAGE_NUMBER_MAX:
                params = {"page": str(number + 1), **size}
            elif page.following is not None:
                params = {"next": page.following, **size}
            else:
                return _too_long(f"page {number} does not tell where the ledger goes on")
        return _too_long("the ledger is longer than ledger_pages_max allows")

    def _of_entries(self, hits: Sequence[wire.Json], order: Order) -> Reply:
        """The payout of those entries, read by its id; a person's matter if it cannot be."""
        names = self._config.ledger_payout_id_fields
        told = (next(filter(None, (words.payout_id(h.get(n)) for n in names)), None) for h in hits)
        found: dict[str, Reply] = {}
        for payout_id in list(dict.fromkeys(one for one in told if one))[:HITS_MAX]:
            answer = self._call("GET", _path(self._config.status_path, payout_id))
            if isinstance(answer, Lost):
                return wire.lost(answer)
            if answer.status >= 500 or isinstance(self._no_answer(answer, order), Reply):
                # It may be read later.
                return self._errors.not_done(answer, order)
            payout = words.read_payout(answer.json()) if answer.status == 200 else None
            if payout and payout.get("reference_id") == order.reference_id:
                found[payout["id"]] = self._reply(payout, answer, order)
        return _one_of(found, order) if found else _exists(order, UNREAD)

    def _no_answer(self, answer: Answer, order: Order) -> Reply | _Doubt:
        """An error to one way of looking up: what ends the look-up, or why it does not tell."""
        reply = self._errors.not_done(answer, order)
        unsure = reply.outcome is Outcome.UNKNOWN
        return _Doubt(f"answered {answer.status}") if unsure else reply

    # Answers.

    def _reply(self, payout: wire.Json, answer: Answer, order: Order) -> Reply:
        return words.reply(
            payout, answer, order, states=self._states, two_step=self._config.two_step
        )

    def _read(self, answer: Answer, order: Order, payout_id: str) -> Reply:
        payout = words.read_payout(answer.json())
        if payout is None:
            return wire.unknown(answer, "the answer cannot be read")
        if payout["id"] != payout_id:
            return wire.unknown(answer, "the answer is about another payout")
        return self._reply(payout, answer, order)

    # Requests.

    def _create_body(self, order: Order) -> bytes:
        return wire.write_json(
            {
                "email": order.fields.get("email"),
                "reference_id": order.reference_id,
                "amount": wire.shortest(order.amount),
                "currency": order.amount.currency.code,
                "require_confirmation": self._config.two_step,
            }
        )

    def _told(self, call: Callable[[], Reply], *, without_token: Outcome) -> Reply:
        try:
            return call()
        except NoToken as none:
            return self._errors.without_token(none.cause, without_token)

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer | Lost:
        """The answer to a call with the account's token; a refused token is renewed, once.

        Raises:
            NoToken: it could not be fetched, so this call was not made or not taken.

        Source: sections 3 and 10.
        """

        def send(token: str) -> Answer | Lost:
            sent = f"Bearer {token}" if self._config.auth_scheme == "bearer" else token
            answer = self._transport.call(
                method,
                path,
                base_url=self._config.base_url,
                params=params,
                headers=self._headers(sent, has_body=content is not None),
                content=content,
            )
            return wire.without(answer, token)

        token = self._tokens.get(TOKEN_NAME, self._fetch)
        answer = send(token)
        if self._errors.refuses_token(answer):
            answer = send(self._tokens.get(TOKEN_NAME, self._fetch, refused=token))
        return answer

    def _fetch(self, now: datetime) -> Token:
        """A new token. Source: section 3."""
        config, key = self._config, self._config.private_key.get_secret_value()
        basic = base64.b64encode(f"{config.public_key}:{key}".encode()).decode()
        answer = wire.without(
            self._transport.call(
                "POST", TOKEN, base_url=config.base_url, headers=self._headers(f"Basic {basic}")
            ),
            basic,
            key,
        )
        token = words.read_token(answer)
        if token is None:
            raise NoToken(answer)
        until = now + timedelta(seconds=config.token_ttl_s)
        end = words.ends_at(token)
        return Token(token, until if end is None else min(until, end - TOKEN_MARGIN))

    def _headers(self, authorization: str, *, has_body: bool = False) -> Mapping[str, str]:
        headers = {"Authorization": authorization}
        if self._config.lang_cookie:
            # Else the words of errors are Spanish. Source: section 3.
            headers["Cookie"] = f"lang={self._config.lang_cookie}"
        return headers | ({"Content-Type": "application/json"} if has_body else {})


def _too_long(why: str) -> _Doubt:
    return _Doubt(why, wire.TOO_LONG_WAIT_S)


def _path(pattern: str, payout_id: str) -> str:
    return pattern.replace("{id}", quote(payout_id, safe=""))


def _one_of(found: Mapping[str, Reply], order: Order) -> Reply:
    if len(found) == 1:
        return next(iter(found.values()))
    return _exists(order, f"{len(found)} payouts carry this reference id")


def _exists(order: Order, differs: str) -> Reply:
    return Reply(
        outcome=Outcome.EXISTS,
        reason=differs,
        reference_id=order.reference_id,
        differs=(differs,),
    )
