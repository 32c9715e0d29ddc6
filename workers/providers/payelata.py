"""Payouts through Payelata, a white label of the Corefy (formerly PayCore.io) platform.

Translates orders into its merchant API's requests, and answers into replies. A payout is created
first and released by a second call. It must never conclude "not there" or "refused" from an answer
that does not plainly say so.

Source: Payelata API facts, sections 1 to 9 (that page names the provider's own pages); read
2026-11-21. Facts that it marks as inferred are settings in `PayelataConfig`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote

import simplejson

from workers.errors import AccountFault, ProviderUnreachable
from workers.providers import payelata_errors as errors
from workers.providers import payelata_words as words
from workers.providers import wire
from workers.providers.payelata_config import FACTS, PayelataConfig
from workers.providers.payelata_services import (
    Rules,
    amounts_to_ask,
    read_rules,
    read_service,
    with_rules,
)
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
    takes_all,
)
from workers.providers.tokens import Tokens
from workers.providers.transport import Answer, Lost, Transport
from workers.record.money import Currency, Money
from workers.record.status import Outcome


def _capabilities(chars_max: int, char: str, *, webhooks: bool = True) -> Capabilities:
    return Capabilities(
        reference_id_chars_max=chars_max,
        reference_id_char=char,
        two_step=True,  # sections 4.4 and 4.5
        refuses_duplicates=True,  # 409 for a reference id that is taken: section 6
        look_up=True,  # section 4.6
        absence_conclusive_after_s=600,
        balances=True,  # section 4.1
        services=True,  # sections 4.2 and 4.3
        webhooks=webhooks,  # section 7; only what is signed with a key that we know counts
        list_payouts=True,  # section 4.7
        customer_reference=True,  # section 4.4
    )


class Payelata:
    """Payelata's merchant API.

    Source: Payelata API facts, sections 1 to 9; read 2026-11-21.
    """

    name: ClassVar[str] = "payelata"
    Config: ClassVar[type[PayelataConfig]] = PayelataConfig
    # With the defaults; an instance has those of its settings.
    capabilities: Capabilities = _capabilities(64, "[A-Za-z0-9._-]")

    account_defaults: ClassVar[Mapping[str, Any]] = {}
    # Exactly 200 counts as delivered. Source: section 7.
    webhook_answers: ClassVar[WebhookAnswers] = WebhookAnswers()
    facts: ClassVar[Sequence[Fact]] = FACTS

    def __init__(
        self,
        config: PayelataConfig,
        transport: Transport,
        tokens: Tokens | None = None,  # noqa: ARG002 - every call carries the key itself
    ) -> None:
        self._config = config
        self._transport = transport
        can = _capabilities(
            config.reference_id_chars_max,
            config.reference_id_char,
            webhooks=config.signing_key is not None,
        )
        identity = digest_of(self.name, config.base_url, config.account_id)
        self.capabilities = replace(can, identity=identity)

    # Nothing beside the services' own rules, which the provider lists.
    why_not = staticmethod(takes_all)

    # Calls about one payout: none raises for what the provider or the network did.

    def create(self, order: Order) -> Reply:
        """Store the payout. Source: Payelata API facts, sections 4.4 and 6."""
        answer = self._call("POST", "/payout-invoices", content=self._create_body(order))
        if isinstance(answer, Lost):
            return wire.lost(answer)
        if answer.status == 201:
            return self._from_invoice(answer, order)
        if answer.status in (200, 202) and self._config.accepts_200_and_202:
            reply = self._from_invoice(answer, order)
            ours = reply.reference_id == order.reference_id
            return reply if ours else wire.unknown(answer, "no payout of ours in the answer")
        if answer.status == 409:
            return Reply(outcome=Outcome.EXISTS, code="409", reason="the reference id is taken")
        if answer.status == 422:
            return errors.refused(
                answer,
                order,
                duplicate_words=self._config.duplicate_words,
                low_balance_words=self._config.low_balance_words,
            )
        if answer.status == 429 and not self._config.rate_limited_is_not_created:
            return replace(wire.rate_limited(answer), outcome=Outcome.UNKNOWN)
        return errors.not_done(answer, order, judged=True)

    def process(self, order: Order, provider_payout_id: str) -> Reply:
        """Release the money. Source: Payelata API facts, section 4.5."""
        path = f"/payout-invoices/{quote(provider_payout_id, safe='')}/process"
        answer = self._call("POST", path, content=self._config.process_body.encode() or None)
        if isinstance(answer, Lost):
            return wire.lost(answer)
        if answer.status == 404:
            # We know the invoice, so this is no wrong address: whether it still waits, a read says.
            return wire.unknown(answer, "the release was not taken")
        if answer.status != 200:
            return errors.not_done(answer, order)
        reply = self._from_invoice(answer, order, asked=provider_payout_id)
        if reply.outcome is Outcome.CREATED:
            # The call only queues the work: its answer may still say `created`. Source: 4.5.
            return replace(reply, outcome=Outcome.PROCESSING)
        return reply

    def poll(self, order: Order, provider_payout_id: str) -> Reply:
        """Read by the provider's id. Source: Payelata API facts, section 4.6."""
        answer = self._call("GET", f"/payout-invoices/{quote(provider_payout_id, safe='')}")
        if isinstance(answer, Lost):
            return wire.lost(answer)
        if answer.status == 200:
            return self._from_invoice(answer, order, asked=provider_payout_id)
        return errors.not_found(answer) if answer.status == 404 else errors.not_done(answer, order)

    def look_up(self, order: Order) -> Reply:
        """Read by our reference id. A server that ignores the filter answers with its whole list,
        which is read on, within a limit: only its end proves absence.

        Source: Payelata API facts, sections 4.6 and 4.7.
        """
        params: Mapping[str, str] = {self._config.find_parameter: order.reference_id}
        seen: set[str] = set()
        for _ in range(self._config.find_pages_max):
            answer = self._call("GET", "/payout-invoices", params=params)
            if isinstance(answer, Lost):
                return wire.lost(answer)
            if answer.status == 404:
                broken = wire.unknown(answer, "the list broke off")
                return broken if seen else errors.not_found(answer)
            if answer.status != 200:
                return errors.not_done(answer, order)
            page = self._page(answer, params)
            if page is None:
                return wire.unknown(answer, "the answer is not a list of payouts")
            hits = {hit.id: hit for hit in page.items if hit.reference_id == order.reference_id}
            if hits:
                return self._from_hits(list(hits.values()), order)
            new = page.new(seen)
            if page.items and not new:
                return wire.unknown(answer, "the list repeats itself: it has no end")
            if page.following is None:
                return Reply(outcome=Outcome.NOT_FOUND)
            seen |= new
            params = page.following
        return Reply(
            outcome=Outcome.UNKNOWN,
            reason="the list is longer than what a look-up may read",
            retry_after_s=wire.TOO_LONG_WAIT_S,
        )

    def read_webhook(self, delivery: Delivery) -> Sequence[News] | None:
        """The payout that a verified delivery is about; none verifies without a `signing_key`.

        Source: Payelata API facts, section 7.
        """
        if self._config.signing_key is None:
            return None
        key = self._config.signing_key.get_secret_value().encode()
        # The provider's scheme, dated as it is; hence a delivery only wakes its payout.
        digest = hashlib.sha1(key + delivery.body + key).digest()  # noqa: S324 - as they do
        given = delivery.headers.get("x-signature", "")
        if not hmac.compare_digest(
            base64.b64encode(digest), given.strip().encode(errors="replace")
        ):
            return None
        data = wire.members(wire.read_json(delivery.body)).get("data")
        found = words.payout_id(data)
        if found is None:
            return []
        attributes = wire.members(wire.members(data).get("attributes"))
        return [
            News(
                provider_payout_id=found,
                reference_id=wire.text(attributes.get("reference_id")),
                status=wire.word(attributes.get("status")),
            )
        ]

    # Questions asked before and after money moves.

    def balances(self) -> Mapping[Currency, Money]:
        """What can be spent, rounded down to the minor unit; empty for an account that keeps no
        balances, which means "not known" and not "nothing".

        Source: Payelata API facts, section 4.1.
        """
        profile = _attributes(self._ask("/account/profile", question="its profile"))
        status = profile.get("status")
        if not isinstance(status, str):
            raise ProviderUnreachable("Payelata's account profile has no status")
        if status != "active":
            raise AccountFault(
                f"the Payelata account is {wire.word(status)!r}; only an active one can pay"
            )
        if profile.get("ledger_scheme") == "none":
            return {}
        accounts = _attributes(self._ask("/account/balances", question="its balances")).get(
            "currency_accounts"
        )
        # PHP writes an empty object as [].
        if not isinstance(accounts, dict) and accounts != []:
            raise ProviderUnreachable("Payelata's balances cannot be read")
        known = {wire.currency_of(code): account for code, account in dict(accounts).items()}
        spendable = {
            currency: words.spendable(account, currency, overdraft=self._config.count_overdraft)
            for currency, account in known.items()
            if currency is not None
        }
        for currency, money in spendable.items():
            if money is None:
                raise ProviderUnreachable(f"Payelata's {currency} balance cannot be read")
        return {currency: money for currency, money in spendable.items() if money is not None}

    def services(self, currency: Currency) -> Sequence[Service]:
        """What the account can pay in that currency, sorted by code. The field rules come from
        the public API, in as few calls as the services' limits allow; without a `public_key` they
        are not known.

        Source: Payelata API facts, sections 4.2 and 4.3.
        """
        found: dict[str, Service] = {}
        for attributes in self._service_list():
            service = read_service(
                attributes,
                currency,
                test_mode=self._config.test_mode,
                limits_in_service_currency=self._config.limits_currency == "service",
                rate_in_percent=self._config.fee_rate_unit == "percent",
                decimals=self._config.service_decimals,
            )
            # Listed twice, once for each mode: the usable one counts.
            if service and (service.code not in found or service.usable):
                found[service.code] = service
        rules = self._field_rules(currency, [s for s in found.values() if s.usable])
        return [with_rules(found[code], rules) for code in sorted(found)]

    def list_payouts(self, since: datetime, until: datetime) -> Iterator[Reply]:
        """The payouts created from `since` on and before `until`, newest first.

        Raises:
            AccountFault, ProviderUnreachable: before the first payout or between two.

        Source: Payelata API facts, section 4.7.
        """
        params: Mapping[str, str] = {}
        seen: set[str] = set()
        for _ in range(self._config.list_pages_max):
            page = self._page(
                errors.expect_200(
                    self._call("GET", "/payout-invoices", params=params), "its payouts"
                ),
                params,
            )
            if page is None:
                raise ProviderUnreachable("Payelata's list of payouts cannot be read")
            for invoice in page.items:
                created = wire.number(invoice.attributes.get("created"))
                if created is not None and created < Decimal(since.timestamp()):
                    return
                early = created is None or created < Decimal(until.timestamp())
                if early and invoice.id not in seen:
                    yield words.reply(invoice, test_mode=self._config.test_mode)
            new = page.new(seen)
            if page.following is None or not new:
                return
            seen |= new
            params = page.following
        raise ProviderUnreachable("Payelata's list of payouts has more pages than list_pages_max")

    # Requests.

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer | Lost:
        key = self._config.api_key.get_secret_value()
        token = base64.b64encode(f"{self._config.account_id}:{key}".encode()).decode()
        headers = {"Authorization": f"Basic {token}"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        answer = self._transport.call(
            method,
            path,
            base_url=self._config.base_url,
            params=params or None,
            headers=headers,
            content=content,
        )
        return wire.without(answer, token, key)

    def _create_body(self, order: Order) -> bytes:
        config = self._config
        optional = {
            "description": order.description,
            "callback_url": config.callback_url,
            "context": wire.plain(order.context),
            "customer": wire.plain(order.customer),
            "metadata": wire.plain(order.metadata),
        }
        attributes = {
            "reference_id": order.reference_id,
            "service": order.service,
            "currency": order.amount.currency.code,
            "amount": wire.shortest(order.amount),
            "test_mode": config.test_mode,
            "fields": wire.plain(order.fields),
            **{key: value for key, value in optional.items() if value},
            # One payout never pays by halves. Source: section 4.4.
            "options": {
                "auto_process": config.auto_process,
                "allow_partially": False,
                "split_mode": False,
            },
        }
        document = {"data": {"type": "payout-invoice", "attributes": attributes}}
        return simplejson.dumps(document, use_decimal=True).encode()

    # Answers.

    def _reply(self, invoice: words.Invoice, order: Order) -> Reply:
        config = self._config
        return words.reply(
            invoice, test_mode=config.test_mode, order=order, echo=config.compares_echo
        )

    def _from_invoice(self, answer: Answer, order: Order, *, asked: str | None = None) -> Reply:
        invoice = words.read_document(answer)
        if invoice is None:
            return wire.unknown(answer, "the answer cannot be read")
        if asked is not None and invoice.id != asked:
            return wire.unknown(answer, "the answer is about another payout")
        return self._reply(invoice, order)

    def _from_hits(self, hits: Sequence[words.Invoice], order: Order) -> Reply:
        if len(hits) == 1:
            return self._reply(hits[0], order)
        differs = f"{len(hits)} payouts carry this reference id"
        return Reply(
            outcome=Outcome.EXISTS,
            reason=differs,
            reference_id=order.reference_id,
            differs=(differs,),
        )

    def _page(self, answer: Answer, params: Mapping[str, str]) -> words.Page | None:
        return words.read_page(
            answer,
            params,
            cursor_parameter=self._config.cursor_parameter,
            size_default=self._config.list_page_size,
        )

    def _ask(
        self, path: str, *, question: str, params: Mapping[str, str] | None = None
    ) -> wire.Json:
        return wire.members(
            errors.expect_200(self._call("GET", path, params=params), question).json()
        )

    # Services.

    def _service_list(self) -> Iterator[wire.Json]:
        params = {"page[number]": "1", "page[size]": str(self._config.services_page_size)}
        for number in range(1, self._config.services_pages_max + 1):
            document = self._ask("/payout-services", question="its services", params=params)
            data = document.get("data")
            if not isinstance(data, list):
                raise ProviderUnreachable("Payelata's services cannot be read")
            yield from (wire.members(wire.members(item).get("attributes")) for item in data)
            following = words.query(wire.members(document.get("links")).get("next"))
            pages = wire.number(wire.members(document.get("meta")).get("pages"))
            if not following and pages is not None and pages > number:
                following = {**params, "page[number]": str(number + 1)}
            if not data or not following:
                return
            params = following
        raise ProviderUnreachable("Payelata lists more services than services_pages_max allows")

    def _field_rules(self, currency: Currency, usable: Sequence[Service]) -> Rules | None:
        """What the public API tells; None without a key to ask it with."""
        config = self._config
        if config.public_key is None:
            return None
        usual = Money.parse(str(config.prerequest_amount), currency)
        rules: dict[str, Any] = {}
        for amount in amounts_to_ask(usable, usual):
            question = {
                "currency": currency.code,
                "amount": wire.shortest(amount),
                "public_key": config.public_key.get_secret_value(),
            }
            answer = self._transport.call(
                "POST",
                "/public-api/payout-prerequest",
                base_url=config.public_base_url,
                headers={"Content-Type": "application/json"},
                content=simplejson.dumps(question, use_decimal=True).encode(),
            )
            told = read_rules(wire.members(errors.expect_200(answer, "the field rules").json()))
            # A service's rules are the same for every amount: the first answer that has them.
            rules = {**told, **rules}
        return rules


def _attributes(document: wire.Json) -> wire.Json:
    return wire.members(wire.members(document.get("data")).get("attributes"))
