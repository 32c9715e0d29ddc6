"""Payouts through Echelon Pay, and through other hosts of the same white label.

Translates orders into requests and answers into replies. The id in a payout's address is our own,
so it can be read after any lost answer; each payout has a token of its own. It must never send one
payout under two ids, nor let a token or the secret into a reply.

The platform has no place for a description, metadata or customer: the first two stay with us.

Source: Echelon Pay outgoing payments, sections 1 to 11 (that page names the provider's own pages);
read 2026-11-21. Facts that it marks as inferred are settings in `EchelonConfig`.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import quote

from workers.providers import echelon_words as words
from workers.providers import wire
from workers.providers.echelon_config import FACTS, EchelonConfig, Kind
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
from workers.providers.tokens import Fetch, NoToken, Token, Tokens
from workers.providers.transport import Answer, Lost, Transport
from workers.record.money import Currency, Money
from workers.record.status import Outcome

# An Authorization header takes no other characters; a JWT has some hundred of them.
_TOKEN = re.compile(r"[!-~]{1,8192}", re.ASCII)
# Fields that stand beside `account`, not in it. Source: section 4.
_BESIDE = ("paymentOperatorCode", "emailAddress")


def _capabilities(config: EchelonConfig) -> Capabilities:
    return Capabilities(
        currencies=config.currencies,
        reference_id_chars_max=config.reference_id_chars_max,
        reference_id_char=config.reference_id_char,
        two_step=False,  # section 4
        refuses_duplicates=config.refuses_duplicates,  # section 8
        look_up=True,  # section 5: the id in the address is ours
        absence_conclusive_after_s=900,  # section 8
        refused_when_absent=config.refused_when_absent,  # section 8
        balances=False,  # section 6
        services=False,  # section 6
        webhooks=True,  # section 7
        list_payouts=False,  # section 6
    )


class Echelon:
    """Echelon Pay's outgoing payments.

    Source: Echelon Pay outgoing payments, sections 1 to 11; read 2026-11-21.
    """

    name: ClassVar[str] = "echelon"
    Config: ClassVar[type[EchelonConfig]] = EchelonConfig
    # With the defaults; an instance has those of its settings.
    capabilities: Capabilities = _capabilities(
        EchelonConfig.model_validate({"merchant_code": "-", "secret": "-", "test_mode": True})
    )
    # Sections 7, 8 and 11. A new payout costs two calls: its token and its create.
    account_defaults: ClassVar[Mapping[str, Any]] = {
        "rate_per_s": 5,
        "in_flight_max": 10,
        "connect_timeout_s": 5,
        "read_timeout_s": 90,
        "poll_first_s": 60,
        "poll_max_s": 900,
        "lookup_first_s": 5,
        "service": "BANK_TRANSFER",
    }
    # Section 7; a wrong last part of the address is no address of ours.
    webhook_answers: ClassVar[WebhookAnswers] = WebhookAnswers(
        taken=(200, b"{}"), forged=(404, b"")
    )
    facts: ClassVar[Sequence[Fact]] = FACTS
    states: ClassVar[Mapping[str, tuple[Outcome, str]]] = words.STATES
    errors: ClassVar[Mapping[str, Kind]] = words.ERRORS

    def __init__(self, config: EchelonConfig, transport: Transport, tokens: Tokens) -> None:
        self._config = config
        self._transport = transport
        self._tokens = tokens
        self._reader = words.Reader(config)
        identity = digest_of(self.name, config.base_url, config.merchant_code)
        self.capabilities = replace(_capabilities(config), identity=identity)
        self._secret = config.secret.get_secret_value()
        self._callback_key = hmac.digest(self._secret.encode(), b"paybatch callback", "sha256")

    def why_not(self, order: Order) -> Sequence[tuple[str, str]]:
        """Columns that the platform has no place for."""
        return [
            (f"{family}.{next(iter(given))}", f"no value: {words.PROVIDER} takes no {family} data")
            for family, given in (("customer", order.customer), ("context", order.context))
            if given
        ]

    # Calls about one payout: none raises for what the provider or the network did.

    def create(self, order: Order) -> Reply:
        """Have it paid. Source: Echelon Pay outgoing payments, sections 4 and 8."""
        try:
            answer = self._call("POST", order.reference_id, order, self._create_body(order))
        except NoToken as none:
            return words.without_token(none.cause, Outcome.NOT_SENT)
        if isinstance(answer, Lost):
            return wire.lost(answer)
        return self._reader.created(answer, order)

    def process(self, order: Order, provider_payout_id: str) -> Reply:
        """There is no second step: what became of it."""
        return self.poll(order, provider_payout_id)

    def poll(self, order: Order, provider_payout_id: str) -> Reply:
        """Read by the provider's id, which is ours.

        Source: Echelon Pay outgoing payments, sections 5 and 8.
        """
        try:
            answer = self._call("GET", provider_payout_id, order)
        except NoToken as none:
            return words.without_token(none.cause, Outcome.UNKNOWN)
        if isinstance(answer, Lost):
            return wire.lost(answer)
        return self._reader.read(answer, order, provider_payout_id)

    def look_up(self, order: Order) -> Reply:
        """Read by our reference id, which is the provider's."""
        return self.poll(order, order.reference_id)

    def read_webhook(self, delivery: Delivery) -> Sequence[News] | None:
        """The payout that a delivery is about, if it came to that payout's own address. Nothing
        else of it can be verified, so it only wakes the payout.

        Source: Echelon Pay outgoing payments, section 7.
        """
        if not self._config.allows(delivery.sender):
            return None
        document = wire.read_json(delivery.body)
        given = delivery.tail.encode(errors="replace")
        for path in self._config.callback_id_paths:
            found = words.at(document, path)
            if isinstance(found, str) and hmac.compare_digest(self._tail(found).encode(), given):
                return [News(reference_id=found, provider_payout_id=found)]
        return None

    # Questions asked before and after money moves.

    def balances(self) -> Mapping[Currency, Money]:
        """None can be asked for. Source: Echelon Pay outgoing payments, section 6."""
        return {}

    def services(self, currency: Currency) -> Sequence[Service]:
        """The ways to pay that the settings name.

        Source: Echelon Pay outgoing payments, sections 4 and 6.
        """
        if currency.code not in self._config.currencies:
            return []
        fields = tuple(self._field_rules(currency))
        return [
            Service(
                code=code,
                currency=currency,
                beneficiary_currency=currency,
                decimals=self._config.currency_decimals.get(currency.code),
                fields=fields,
            )
            for code in self._config.payment_method_codes
        ]

    def list_payouts(
        self,
        since: datetime,  # noqa: ARG002 - as the port asks
        until: datetime,  # noqa: ARG002 - as the port asks
    ) -> Iterator[Reply]:
        """There is no list. Source: Echelon Pay outgoing payments, section 6."""
        return iter(())

    def _field_rules(self, currency: Currency) -> Iterator[FieldRule]:
        """Source: Echelon Pay outgoing payments, section 4."""
        extra = self._config.extra_account_fields.get(currency.code, {})
        ours = {"accountName": "account holder's name", "accountNumber": "account number"}
        for name, label in ours.items():
            if name not in extra:
                yield FieldRule(name=name, required=True, label=label)
        for name, rule in extra.items():
            yield FieldRule(name=name, **rule.model_dump())
        codes = self._config.operator_codes.get(currency.code, ())
        yield FieldRule(
            name="paymentOperatorCode",
            required=bool(codes),
            pattern="|".join(map(re.escape, codes)) or None,
            label="bank code",
            example=(*codes, "BNK_014")[0],
        )
        yield FieldRule(
            name="emailAddress",
            required=False,
            pattern=r"[^@\s]+@[^@\s]+",
            label="e-mail address",
            example="jane@example.com",
        )

    # Requests.

    def _call(
        self, method: str, payout_id: str, order: Order, content: bytes | None = None
    ) -> Answer | Lost:
        """One call about one payout. A token that is refused is replaced, and the call made once
        more: the second answer stands. Source: section 8.

        Raises:
            NoToken: the call was not made, or was refused and there is no other token.
        """
        name, fetch = self._token_for(method, payout_id, order)
        token = self._tokens.get(name, fetch)
        answer = self._send(method, payout_id, token, content)
        if isinstance(answer, Answer) and answer.status in (401, 403):
            token = self._tokens.get(name, fetch, refused=token)
            answer = self._send(method, payout_id, token, content)
        return answer

    def _send(
        self, method: str, payout_id: str, token: str, content: bytes | None
    ) -> Answer | Lost:
        answer = self._transport.call(
            method,
            f"/payouts/{quote(payout_id, safe='')}",
            base_url=self._config.base_url,
            headers={**self._headers(content), "Authorization": f"Bearer {token}"},
            content=content,
        )
        return wire.without(answer, token, self._secret)

    def _headers(self, content: bytes | None) -> dict[str, str]:
        """Source: section 2. What we accept is said by the transport."""
        headers = {"X-API-Version": str(self._config.api_version)}
        return headers if content is None else {**headers, "Content-Type": "application/json"}

    def _token_for(self, method: str, payout_id: str, order: Order) -> tuple[str, Fetch]:
        """The name of the token that a call needs, and how it is fetched. A token by action is for
        the create alone: what else it would allow no page says. Source: section 3.
        """
        by_action = self._config.by_action
        allows: Mapping[str, Any]
        if by_action and method == "POST":
            name, path = f"payout {payout_id} create", "/auth-tokens-by-action"
            action = self._config.payout_action
            allows = {"action": action, "idPayment": payout_id, "money": _money(order)}
        else:
            name, path = f"payout {payout_id}", "/auth-tokens"
            # Unlike the call's own path, an operation is not percent-encoded. Source: section 4.
            verbs = ("GET",) if by_action else ("POST", "GET")
            allows = {"operations": [f"{verb} /payouts/{payout_id}" for verb in verbs]}
        content = wire.write_json(
            {
                "merchantCode": self._config.merchant_code,
                "secret": self._secret,
                "validitySecs": self._config.token_validity_s,
                **allows,
            }
        )
        return name, lambda now: self._fetch(now, path, content)

    def _fetch(self, now: datetime, path: str, content: bytes) -> Token:
        """Make a token call. Source: section 3."""
        answer = self._transport.call(
            "POST",
            path,
            base_url=self._config.base_url,
            headers=self._headers(content),
            content=content,
        )
        if isinstance(answer, Lost) or not 200 <= answer.status < 300:
            raise NoToken(wire.without(answer, self._secret))
        token = wire.text(wire.members(answer.json()).get("token"))
        if token is None or not _TOKEN.fullmatch(token):
            raise NoToken(answer)
        end = now + timedelta(seconds=self._config.token_validity_s)
        end = min(_ends_at(token) or end, end)
        return Token(token, end - timedelta(seconds=self._config.token_margin_s))

    def _create_body(self, order: Order) -> bytes:
        """The same bytes for the same order, however its fields are sorted. Source: section 4."""
        fields = wire.plain(order.fields)
        document: dict[str, Any] = {
            "paymentRequested": {"money": _money(order)},
            "paymentMethod": {
                "paymentMethodCode": order.service,
                "account": {name: fields[name] for name in sorted(fields) if name not in _BESIDE},
                **{name: fields[name] for name in _BESIDE if name in fields},
            },
        }
        if self._config.callback_url is not None:
            tail = self._tail(order.reference_id)
            document["callbackUrl"] = f"{self._config.callback_url}/{tail}"
        return wire.write_json(document)

    def _tail(self, payout_id: str) -> str:
        """The last part of a payout's callback address, which nobody else can make: section 7."""
        # Half a character may come in from outside; it is no id of ours.
        message = payout_id.encode(errors="surrogatepass")
        return hmac.digest(self._callback_key, message, "sha256").hex()


def _money(order: Order) -> Mapping[str, Any]:
    """Major units as an exact number. Source: section 4."""
    return {"amount": wire.shortest(order.amount), "currencyCode": order.amount.currency.code}


def _ends_at(token: str) -> datetime | None:
    """When a JWT ends, None for another token; only the platform could verify it: section 3.3."""
    parts = token.split(".")
    try:
        claims = base64.urlsafe_b64decode(parts[1] + "==") if len(parts) == 3 else b""
        end = wire.number(wire.members(wire.read_json(claims)).get("exp"))
        return datetime.fromtimestamp(int(end), UTC) if end is not None and end > 0 else None
    except (ValueError, OverflowError, OSError):
        return None
