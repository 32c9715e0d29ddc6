"""Payouts through ETpay, in Chilean pesos.

Translates orders into its requests, and answers into replies. A create pays in one step, and one
that is repeated is taken to pay twice. It must never conclude "not there" without a date query
that shows other payouts, nor take a webhook for more than a hint.

ETpay has published the flow, the login and which operations there are. It has not published the
paths, fields, status words and error codes of the payout calls, how webhooks are signed, or what
a second create with the same reference id does: these are settings, and their defaults an assumed
contract.

Source: "ETpay payouts (Chile)", sections 1 to 11 (that page names the provider's own pages); read
2026-11-21. What it marks as inferred is a setting in `ETpayConfig`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, ClassVar
from urllib.parse import quote
from zoneinfo import ZoneInfo

from workers.errors import ProviderUnreachable
from workers.providers import etpay_webhooks as webhooks
from workers.providers import etpay_words as words
from workers.providers import wire
from workers.providers.etpay_config import (
    CLP,
    FACTS,
    PROVIDER,
    SERVICE,
    STATUS_MAP,
    ErrorClass,
    ETpayConfig,
    service,
    why_not,
)
from workers.providers.etpay_words import ACCOUNT_FAULTS
from workers.providers.port import (
    Capabilities,
    Delivery,
    Fact,
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

TOKEN = "access"  # noqa: S105 - the name of the token


def _capabilities(config: ETpayConfig) -> Capabilities:
    return Capabilities(
        currencies=("CLP",),
        reference_id_chars_max=config.reference_id_chars_max,
        reference_id_char=config.reference_id_char,
        two_step=False,  # section 4
        refuses_duplicates=config.create_is_idempotent,  # section 9
        look_up=bool(config.status_by_order_path or config.list_path),  # sections 5 and 6
        absence_conclusive_after_s=3600,  # section 9
        balances=bool(config.balance_path),  # section 7
        services=False,
        webhooks=True,  # section 8
        list_payouts=bool(config.list_path),  # section 6
    )


class _BrokenOff(Exception):
    """The date query was not read to its end."""

    def __init__(self, cause: Answer | Lost, why: str = "", *, wait_s: int | None = None) -> None:
        super().__init__(why)
        self.cause = cause
        self.why = why
        # So soon it would be the same again.
        self.wait_s = wait_s


class ETpay:
    """ETpay's payouts, as far as they are known; the rest is settings.

    Source: "ETpay payouts (Chile)", sections 1 to 11; read 2026-11-21.
    """

    name: ClassVar[str] = "etpay"
    Config: ClassVar[type[ETpayConfig]] = ETpayConfig
    # With the defaults; an instance has those of its settings.
    capabilities: Capabilities = _capabilities(
        ETpayConfig.model_construct()  # type: ignore[call-arg]  # only defaults are read
    )
    # Section 11.
    account_defaults: ClassVar[Mapping[str, Any]] = {
        "service": SERVICE,
        "rate_per_s": 2,
        "in_flight_max": 4,
        "connect_timeout_s": 5,
        "read_timeout_s": 60,
        "poll_first_s": 300,
        "poll_max_s": 3600,
        "lookup_first_s": 30,
    }
    # Section 8.
    webhook_answers: ClassVar[WebhookAnswers] = WebhookAnswers()
    facts: ClassVar[Sequence[Fact]] = FACTS
    # With the default settings; sections 5 and 9.
    states: ClassVar[Mapping[str, Outcome]] = {
        word: words.STATES[form] for word, form in STATUS_MAP.items()
    }
    errors: ClassVar[Mapping[ErrorClass, Outcome]] = words.ERRORS

    def __init__(self, config: ETpayConfig, transport: Transport, tokens: Tokens) -> None:
        self._config = config
        self._transport = transport
        self._tokens = tokens
        self._read = words.Reader(config)
        self._zone = ZoneInfo(config.range_timezone)
        identity = digest_of(self.name, config.base_url, config.merchant_code)
        self.capabilities = replace(_capabilities(config), identity=identity)

    def why_not(self, order: Order) -> Sequence[tuple[str, str]]:
        """Source: section 4."""
        return tuple(why_not(self._config, order))

    # Calls about one payout: none raises for what the provider or the network did.

    def create(self, order: Order) -> Reply:
        """Have it paid. Source: sections 4 and 9."""
        config = self._config
        try:
            answer = self._send(
                "POST",
                self._path(config.create_path),
                content=self._create_body(order),
                again=401 in config.not_created_statuses,
            )
        except NoToken as none:
            return self._read.no_token(none.cause, Outcome.NOT_SENT)
        if isinstance(answer, Lost):
            return wire.lost(answer)
        if answer.status not in config.accepted_statuses:
            return self._read.refused(answer, order)
        payout = self._read.payout(answer.json())
        if payout is None:
            return wire.unknown(answer, "the answer cannot be read")
        return self._read.reply(payout, order)

    def process(self, order: Order, provider_payout_id: str) -> Reply:
        """There is no second step: what became of the one."""
        return self.poll(order, provider_payout_id)

    def poll(self, order: Order, provider_payout_id: str) -> Reply:
        """Read by the provider's id. Source: section 5."""
        path = self._path(self._config.status_path, payout_id=provider_payout_id)
        try:
            answer = self._send("GET", path)
        except NoToken as none:
            return self._read.no_token(none.cause, Outcome.UNKNOWN)
        if isinstance(answer, Lost):
            return wire.lost(answer)
        if answer.status == 404:
            return self._read.not_found(answer)
        if answer.status != 200:
            return self._read.not_done(answer, order)
        payout = self._read.payout(answer.json())
        if payout is None:
            return wire.unknown(answer, "the answer cannot be read")
        if payout.id != provider_payout_id:
            return wire.unknown(answer, "the answer is about another payout")
        return self._read.reply(payout, order)

    def look_up(self, order: Order) -> Reply:
        """Read by our reference id, then by date: only both together prove absence, and only if
        the date query shows other payouts. One that finds nothing while the other does not tell is
        "not found" without proof. Source: sections 5, 6 and 9.
        """
        try:
            return self._looked_up(order)
        except NoToken as none:
            return self._read.no_token(none.cause, Outcome.UNKNOWN)

    def _looked_up(self, order: Order) -> Reply:
        config = self._config
        if config.status_by_order_path:
            path = self._path(config.status_by_order_path, merchant_order_id=order.reference_id)
        else:
            # Of this answer only its date is used: the days to ask for are counted back from it.
            path = self._list_path(date(2000, 1, 1), date(2000, 1, 1), 1)
        answer = self._send("GET", path)
        if isinstance(answer, Lost):
            return wire.lost(answer)
        first = Reply(
            outcome=Outcome.NOT_FOUND,
            reason="absence cannot be proved: no query by our own id is set",
            proves_absence=False,
        )
        if config.status_by_order_path:
            first = self._by_reference(answer, order)
        if first.outcome not in (Outcome.NOT_FOUND, Outcome.UNKNOWN) or first.retry_after_s:
            return first
        days = words.days_before(answer, self._zone, config.lookup_days)
        if config.list_path and days is not None:
            return self._by_days(order, days, otherwise=first)
        if first.outcome is Outcome.UNKNOWN:
            return first
        why = "no date to count back from is told" if config.list_path else "no date query is set"
        return wire.unknown(answer, f"absence cannot be proved: {why}")

    def _by_reference(self, answer: Answer, order: Order) -> Reply:
        if answer.status == 404:
            return self._read.not_found(answer)
        if answer.status != 200:
            return self._read.not_done(answer, order)
        payouts = self._read.payouts(answer.json())
        if payouts is None:
            return wire.unknown(answer, "the answer cannot be read")
        # Other payouts than what was asked for: it is not there, but nothing says so plainly.
        others = "the query by our own id shows other payouts" if payouts else None
        none = Reply(outcome=Outcome.NOT_FOUND, reason=others)
        return self._from_hits(payouts, order) or none

    def _by_days(self, order: Order, days: tuple[date, date], *, otherwise: Reply) -> Reply:
        """What the date query says: `otherwise` where it works and does not have it either."""
        seen: list[words.Found] = []
        try:
            for payouts in self._pages(*days, pages_max=self._config.lookup_pages_max):
                seen += payouts
        except _BrokenOff as broken:
            return self._from_hits(seen, order) or self._not_listed(broken, order, otherwise)
        if not seen:
            # Without another payout there nothing shows that the query works.
            return replace(
                otherwise,
                proves_absence=False,
                reason=otherwise.reason or "the date query shows no payouts at all",
            )
        return self._from_hits(seen, order) or otherwise

    def read_webhook(self, delivery: Delivery) -> Sequence[News] | None:
        """The payout that a delivery is about; by default it is a mere hint. Source: section 8."""
        return webhooks.read(self._config, delivery)

    # Questions asked before and after money moves.

    def balances(self) -> Mapping[Currency, Money]:
        """What can be spent; empty where no path for it is set. Source: section 7."""
        if not self._config.balance_path:
            return {}
        document = self._ask(self._path(self._config.balance_path), "its balance").json()
        of = self._config.field_map.response
        currency = self._read.currency(document, of.balance_currency)
        balance = wire.money(words.at(document, of.balance), currency)
        if balance is None:
            raise ProviderUnreachable(f"{PROVIDER}'s balance cannot be read exactly")
        return {balance.currency: balance}

    def services(self, currency: Currency) -> Sequence[Service]:
        """Transfers to bank accounts in Chile, as the settings describe them; asks nobody.

        Source: section 4.
        """
        return [service(self._config)] if currency == CLP else []

    def list_payouts(self, since: datetime, until: datetime) -> Iterator[Reply]:
        """The payouts created from `since` on and before `until`; those whose time of creation
        is not told too.

        Raises:
            AccountFault, ProviderUnreachable: before the first payout or between two.

        Source: section 6.
        """
        if not self._config.list_path:
            return
        known: set[str] = set()
        # A day more on each side: nobody knows where its days begin.
        first = words.local_day(since, self._zone) - timedelta(days=1)
        last = words.local_day(until, self._zone) + timedelta(days=1)
        for payout in self._listed(first, last):
            created = self._read.created_at(payout, self._zone)
            if payout.id not in known and (created is None or since <= created < until):
                yield self._read.reply(payout)
            known.add(payout.id)

    # Requests.

    def _path(self, template: str, **values: str) -> str:
        values["merchant_code"] = self._config.merchant_code
        return words.filled(template, values, partial(quote, safe=""))

    def _list_path(self, first: date, last: date, number: int) -> str:
        return self._path(
            self._config.list_path,
            date_from=first.isoformat(),
            date_to=last.isoformat(),
            page=str(number),
            limit=str(self._config.list_limit),
        )

    def _send(
        self, method: str, path: str, *, content: bytes | None = None, again: bool = True
    ) -> Answer | Lost:
        """One call with a token; once more with a new one where it is refused. Source: section 9.

        Raises:
            NoToken: there is none, and nothing was sent that the provider took.
        """
        token = self._tokens.get(TOKEN, self._log_in)
        answer = self._send_with(token, method, path, content)
        if again and isinstance(answer, Answer) and answer.status == 401:
            token = self._tokens.get(TOKEN, self._log_in, refused=token)
            answer = self._send_with(token, method, path, content)
        return answer

    def _send_with(
        self, token: str, method: str, path: str, content: bytes | None
    ) -> Answer | Lost:
        scheme = "Bearer " if self._config.auth_scheme == "bearer" else ""
        headers = {"Authorization": scheme + token}
        if content is not None:
            headers["Content-Type"] = "application/json"
        answer = self._transport.call(
            method, path, base_url=self._config.base_url, headers=headers, content=content
        )
        return wire.without(answer, token, *self._secrets())

    def _secrets(self) -> tuple[str, str]:
        config = self._config
        return config.password.get_secret_value(), config.merchant_api_token.get_secret_value()

    def _log_in(self, now: datetime) -> Token:
        """A new token. Moves no money, and carries no token itself. Source: section 3."""
        config, document = self._config, dict[str, Any]()
        for name, path in config.field_map.login.model_dump().items():
            value = getattr(config, name)
            shown = value if isinstance(value, str) else value.get_secret_value()
            words.put(document, path, shown)
        answer = self._transport.call(
            "POST",
            self._path(config.login_path),
            base_url=config.base_url,
            headers={"Content-Type": "application/json"},
            content=wire.write_json(document),
        )
        if isinstance(answer, Lost) or answer.status != 200:
            raise NoToken(wire.without(answer, *self._secrets()))
        told = answer.json()
        token = self._read.token(told)
        if token is None:
            raise NoToken(answer)
        margin = timedelta(seconds=config.token_refresh_margin_s)
        return Token(token, self._read.token_ends(told, now) - margin)

    def _create_body(self, order: Order) -> bytes:
        """Source: section 4."""
        config, fields, callback_url = self._config, order.fields, self._config.callback_url
        bank_code, account_type = (str(fields.get(n, "")) for n in ("bank_code", "account_type"))
        tail = webhooks.tail(config)
        values = {
            "merchant_code": config.merchant_code,
            "merchant_api_token": config.merchant_api_token.get_secret_value(),
            "reference_id": order.reference_id,
            "amount": wire.shortest(order.amount),
            "currency": order.amount.currency.code,
            "description": order.description,
            "name": fields.get("name"),
            "rut": fields.get("rut"),
            "email": fields.get("email"),
            "bank_code": config.banks.get(bank_code, bank_code),
            "account_type": config.account_types.get(account_type, account_type),
            "account_number": fields.get("account_number"),
            "callback_url": callback_url and (f"{callback_url}/{tail}" if tail else callback_url),
        }
        document: dict[str, Any] = {}
        for name, path in config.field_map.request.model_dump().items():
            if path and values[name] not in (None, ""):
                words.put(document, path, values[name])
        return wire.write_json(document)

    # Answers.

    def _from_hits(self, payouts: Sequence[words.Found], order: Order) -> Reply | None:
        """The payout that has our reference id; None where none has."""
        hits = {hit.id: hit for hit in payouts if hit.reference_id == order.reference_id}
        if not hits:
            return None
        if len(hits) == 1:
            return self._read.reply(next(iter(hits.values())), order)
        differs = f"{len(hits)} payouts carry this reference id"
        return Reply(
            outcome=Outcome.EXISTS,
            reason=differs,
            reference_id=order.reference_id,
            differs=(differs,),
        )

    # The date query. Source: section 6.

    def _pages(self, first: date, last: date, *, pages_max: int) -> Iterator[Sequence[words.Found]]:
        """Its pages from first to last. A server may give fewer payouts a page than it was asked
        for: the end is where its own count says, or else the first empty page.

        Raises:
            NoToken, _BrokenOff: it cannot be read on.
        """
        seen: set[str] = set()
        for number in range(1, pages_max + 1):
            answer = self._send("GET", self._list_path(first, last, number))
            if isinstance(answer, Lost) or answer.status != 200:
                raise _BrokenOff(answer)
            page = self._read.page(answer.json())
            if page is None:
                raise _BrokenOff(answer, "the answer is not a list of payouts")
            new = {payout.id for payout in page.payouts} - seen
            if page.payouts and not new:
                raise _BrokenOff(answer, "the list repeats itself: it has no end")
            seen |= new
            yield page.payouts
            pages = page.pages
            if "{page}" not in self._config.list_path and pages is None:
                pages = 1
            if not page.payouts and pages is not None and pages > number:
                raise _BrokenOff(answer, "an empty page before the last one")
            if number >= pages if pages is not None else not page.payouts:
                return
        why = f"the list has more than {pages_max} pages"
        raise _BrokenOff(answer, why, wait_s=wire.TOO_LONG_WAIT_S)

    def _not_listed(self, broken: _BrokenOff, order: Order, otherwise: Reply) -> Reply:
        """What a look-up says whose date query broke off: not found, but without proof, where the
        query by our own id has said that there is none.
        """
        reply = self._why_not_listed(broken, order)
        none = otherwise.outcome is Outcome.NOT_FOUND and otherwise.reason is None
        if reply.outcome is not Outcome.UNKNOWN or not none:
            return reply
        return replace(
            reply,
            outcome=Outcome.NOT_FOUND,
            proves_absence=False,
            retry_after_s=max(reply.retry_after_s or 0, wire.TOO_LONG_WAIT_S),
        )

    def _why_not_listed(self, broken: _BrokenOff, order: Order) -> Reply:
        if isinstance(broken.cause, Lost):
            return wire.lost(broken.cause)
        if broken.why:
            return replace(wire.unknown(broken.cause, broken.why), retry_after_s=broken.wait_s)
        if broken.cause.status == 404:
            return wire.unknown(broken.cause, "the date query answered 404: is list_path right?")
        return self._read.not_done(broken.cause, order)

    def _listed(self, first: date, last: date) -> Iterator[words.Found]:
        try:
            for page in self._pages(first, last, pages_max=self._config.list_pages_max):
                yield from page
        except NoToken as none:
            raise self._no_login(none.cause) from none
        except _BrokenOff as broken:
            if not broken.why:
                self._expect_200(broken.cause, "its payouts")
            raise ProviderUnreachable(f"{PROVIDER}'s payouts: {broken.why}") from broken

    def _ask(self, path: str, question: str) -> Answer:
        try:
            answer = self._send("GET", path)
        except NoToken as none:
            raise self._no_login(none.cause) from none
        return self._expect_200(answer, question)

    def _expect_200(self, answer: Answer | Lost, question: str) -> Answer:
        return wire.expect_200(
            answer, question, PROVIDER, faults=ACCOUNT_FAULTS, said=self._read.said
        )

    def _no_login(self, cause: Answer | Lost) -> ProviderUnreachable:
        """What a question ends with that got no token; raises AccountFault where that is why."""
        wire.expect_200(
            cause, "a login", PROVIDER, faults=self._read.login_faults, said=self._read.said
        )
        return ProviderUnreachable(f"{PROVIDER} was asked for a login and gave no token")
