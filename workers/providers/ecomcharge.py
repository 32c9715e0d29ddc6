"""Payouts through eComCharge, which runs the beGateway platform: its "beyag" API or its card API.

Translates orders into requests and answers into replies. The tracking id is not unique there, so a
create that is sent again must be the same request to the byte, under the same RequestID; it must
never conclude "not there" or "failed" from an answer that does not plainly say so.

Source: eComCharge payout API facts, sections 1 to 10 and part B (that page names the provider's own
pages); read 2026-11-21. Facts that it marks as inferred are settings in `EComChargeConfig`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from workers.errors import ProviderUnreachable
from workers.providers import ecomcharge_errors as errors
from workers.providers import ecomcharge_words as words
from workers.providers import wire
from workers.providers.ecomcharge_config import (
    CARD_MEMBERS,
    CARD_PLACES,
    FACTS,
    EComChargeConfig,
    read_public_key,
    why_not_customer,
)
from workers.providers.port import (
    Capabilities,
    Delivery,
    Fact,
    FieldRule,
    News,
    Order,
    Question,
    Reply,
    Service,
    WebhookAnswers,
    digest_of,
)
from workers.providers.tokens import Tokens
from workers.providers.transport import Answer, Lost, Transport
from workers.record.money import Currency, Money
from workers.record.status import Outcome

PROVIDER = words.PROVIDER
DESCRIPTION_CHARS_MAX = 255
# Source: section 4.2 and part B.
FIND_PATHS: Mapping[str, str] = {
    "beyag": "/transactions/tracking_id/",
    "cards": "/v2/transactions/tracking_id/",
}
_DECLINED = "not approved, or not what was approved"


def _capabilities(config: EComChargeConfig | None = None) -> Capabilities:
    resend_within_s = 72_000 if config is None else config.resend_within_s
    return Capabilities(
        currencies=tuple(config.currency_decimals) if config else None,
        # 255 are allowed, and `;` would make two ids of one; it becomes a part of a path: 4.1.
        reference_id_chars_max=64,
        reference_id_char="[A-Za-z0-9-]",
        two_step=False,  # section 4.1
        refuses_duplicates=False,  # section 7: several payouts may carry one tracking id
        repeatable_for_s=resend_within_s or None,  # sections 2 and 7
        shape=_shape(config) if config else "",
        look_up=True,  # section 4.2
        absence_conclusive_after_s=600,
        balances=config is not None and config.gateway_id is not None,  # section 4.3
        services=False,  # section 4.1: no list of methods
        webhooks=True,  # section 9
        verifies=config is not None and _verification_url(config) is not None,  # section 8
        dry_run=config is not None and config.precheck,  # section 4.4
        list_payouts=False,  # section 11: whether reports have payouts was not found
    )


def _verification_url(config: EComChargeConfig) -> str | None:
    if not config.verification or config.callback_url is None:
        return None
    return f"{config.callback_url}/verify"


def _shape(config: EComChargeConfig) -> str:
    """A digest of every setting that a create's address and bytes are made of."""
    shaping = {
        "api", "base_url", "create_path", "shop_id", "cards_version", "test_mode", "language",
        "callback_url", "verification", "currency_decimals", "sender", "sender_billing_address",
        "additional_data",
    }  # fmt: skip
    shaped = wire.write_json(_sorted(config.model_dump(mode="json", include=shaping)))
    return hashlib.sha256(shaped).hexdigest()[:16]


def _sorted(value: Any) -> Any:
    """Plain JSON whose bytes do not depend on the order of columns or settings."""
    if isinstance(value, Mapping):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return wire.plain(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Question):
    """The platform's question, with what its answer has to repeat as it came."""

    amount_told: Any
    created_at: Any


class EComCharge:
    """eComCharge's payouts, by either of its APIs.

    Source: eComCharge payout API facts, sections 1 to 10 and part B; read 2026-11-21.
    """

    name: ClassVar[str] = "ecomcharge"
    Config: ClassVar[type[EComChargeConfig]] = EComChargeConfig
    # With the defaults; an instance has those of its settings.
    capabilities: Capabilities = _capabilities()
    # Inferred, sections 2 and 12: a longer wait makes fewer unknown results.
    account_defaults: ClassVar[Mapping[str, Any]] = {
        "rate_per_s": 5,
        "connect_timeout_s": 5,
        "read_timeout_s": 60,
        "poll_first_s": 5,
        "poll_max_s": 900,
        "lookup_first_s": 5,
    }
    # Inferred, section 9: the answer it expects was not found.
    webhook_answers: ClassVar[WebhookAnswers] = WebhookAnswers()
    facts: ClassVar[Sequence[Fact]] = FACTS
    states: ClassVar[Mapping[str, tuple[Outcome, str]]] = words.STATES
    errors: ClassVar[Mapping[str, words.Means]] = words.CODES

    def __init__(
        self,
        config: EComChargeConfig,
        transport: Transport,
        tokens: Tokens | None = None,  # noqa: ARG002 - every call carries the key itself
    ) -> None:
        self._config = config
        self._transport = transport
        secret = config.secret_key.get_secret_value()
        self._basic = base64.b64encode(f"{config.shop_id}:{secret}".encode()).decode()
        self._public_key = (
            read_public_key(config.webhook_public_key) if config.webhook_public_key else None
        )
        identity = digest_of(self.name, config.base_url, config.shop_id)
        self.capabilities = replace(_capabilities(config), identity=identity)

    def why_not(self, order: Order) -> Sequence[tuple[str, str]]:
        """Source: section 4.1 and part B."""
        found = list(why_not_customer(order.customer, self._config.api))
        if order.context:
            found.append(
                (f"context.{next(iter(order.context))}", f"no value: {PROVIDER} takes none")
            )
        if len(order.description) > DESCRIPTION_CHARS_MAX:
            found.append(("description", f"at most {DESCRIPTION_CHARS_MAX} characters"))
        if self._config.api == "cards" and len({"number", "token"} & order.fields.keys()) != 1:
            found.append(("fields.token", "either a card's token or its number"))
        return found

    # Calls about one payout: none raises for what the provider or the network did.

    def create(self, order: Order) -> Reply:
        """Have the payout stored and paid. Source: sections 4.1 and 7."""
        amount = words.to_theirs(order.amount, self._config.currency_decimals)
        if amount is None:
            # Only changed settings lead here: the services' rules are checked before approval.
            why = f"{order.amount.named()} is not a whole amount by currency_decimals; nothing sent"
            return Reply(outcome=Outcome.UNKNOWN, reason=why, needs_person=why)
        content = self._create_body(order, amount)
        # The idempotency key, section 2; what was answered to one is answered to it again, so the
        # create after a lack of money needs another. No reference id has a point.
        number = f".{order.key_no}" if order.key_no else ""
        key = {"RequestID": order.reference_id + number}
        answer = self._call("POST", self._config.create_path, content=content, headers=key)
        if isinstance(answer, Lost):
            return wire.lost(answer)
        # An id means that it was stored, whatever the HTTP status. Source: section 4.1.
        told = words.one(answer.json())
        if told is not None:
            return words.reply(told, self._config, order)
        return errors.not_created(answer, order, self._config)

    def process(self, order: Order, provider_payout_id: str) -> Reply:  # noqa: ARG002 - as the port
        """Nothing: the create has released the money."""
        return Reply(outcome=Outcome.NOT_SENT, reason=f"{PROVIDER} has no second step")

    def poll(self, order: Order, provider_payout_id: str) -> Reply:
        """Read by the provider's id. Source: section 4.2."""
        answer = self._call("GET", f"/transactions/{quote(provider_payout_id, safe='')}")
        if isinstance(answer, Lost):
            return wire.lost(answer)
        if answer.status == 404:
            return errors.not_found(answer, self._config)
        if not 200 <= answer.status < 300:
            return errors.not_done(answer, order)
        told = words.one(answer.json())
        if told is None:
            return wire.unknown(answer, "the answer cannot be read")
        if words.uid_of(told) != provider_payout_id:
            return wire.unknown(answer, "the answer is about another payout")
        return words.reply(told, self._config, order)

    def look_up(self, order: Order) -> Reply:
        """Read by our reference id, which several may carry. Source: section 4.2 and part B."""
        path = FIND_PATHS[self._config.api] + quote(order.reference_id, safe="")
        answer = self._call("GET", path)
        if isinstance(answer, Lost):
            return wire.lost(answer)
        if answer.status == 404:
            return errors.not_found(answer, self._config)
        if answer.status != 200:
            return errors.not_done(answer, order)
        return words.from_list(answer, order, self._config)

    def read_webhook(self, delivery: Delivery) -> Sequence[News] | None:
        """The payout that a verified delivery is about. Source: section 9."""
        public = self._public_key
        if not (_is_signed(delivery, public) if public else self._is_basic(delivery)):
            return None
        told = words.one(wire.read_json(delivery.body))
        if told is None or words.type_of(told) not in (None, "payout"):
            return []
        uid = words.uid_of(told)
        marks = [uid, wire.text(told.get("status")), wire.text(told.get("updated_at"))]
        key = ":".join(mark for mark in marks if mark) if all(marks) else ""
        reference_id = wire.text(told.get("tracking_id"))
        return [News(provider_payout_id=uid, reference_id=reference_id, key=key)]

    # The platform's own question before it pays. Source: section 8.

    def read_question(self, delivery: Delivery) -> Question | None:
        """What is asked; one that cannot be read says so in `differs`."""
        if not self._is_basic(delivery):
            return None
        told = words.one(wire.read_json(delivery.body)) or {}
        currency = wire.currency_of(told.get("currency"))
        amount = words.to_ours(told.get("amount"), currency, self._config.currency_decimals)
        differs = words.differences(told, amount, self._config)
        return Asked(
            provider_payout_id=words.uid_of(told) or "",
            reference_id=wire.text(told.get("tracking_id")) or "",
            amount=amount,
            differs=tuple(differs) if told else ("the question cannot be read",),
            amount_told=told.get("amount"),
            created_at=told.get("created_at"),
        )

    def answer_question(self, question: Question, *, allowed: bool) -> bytes:
        """Code 0 with what was asked, to the digit; any other code declines."""
        if not allowed or not isinstance(question, Asked):
            return wire.write_json({"code": 1, "message": _DECLINED, "friendly_message": _DECLINED})
        answer = {
            "code": 0,
            "uid": question.provider_payout_id,
            "amount": question.amount_told,
            "created_at": question.created_at,
        }
        return wire.write_json({key: value for key, value in answer.items() if value is not None})

    # Questions asked before money moves.

    def dry_run(self, order: Order) -> str | None:
        """Why the platform would not take the payout. Source: section 4.4."""
        amount = words.to_theirs(order.amount, self._config.currency_decimals)
        if amount is None:
            return f"{order.amount.named()} is not a whole amount by currency_decimals"
        # Without a RequestID: a create that followed under the same one would get this answer.
        content = self._create_body(order, amount)
        answer = self._call("POST", self._config.precheck_path, content=content)
        if isinstance(answer, Answer) and answer.status in (202, 400, 422):
            return errors.refusal(answer, order)
        if isinstance(answer, Answer) and answer.status == 404:
            raise ProviderUnreachable(f"{PROVIDER}: the shop has no precheck; set precheck = false")
        done = self._expect_200(answer, "a precheck")
        told = wire.members(done.json())
        if _is_success(told):
            return None
        if str(told.get("status")).lower() == "failed":
            return errors.refusal(done, order)
        raise ProviderUnreachable(f"{PROVIDER}'s precheck cannot be read")

    def balances(self) -> Mapping[Currency, Money]:
        """What the payment provider behind the shop holds, rounded down to our minor unit.

        Source: section 4.3 and part B.
        """
        if self._config.gateway_id is None:
            return {}
        try:
            found = [self._balance(code) for code in self._config.currency_decimals]
        except ProviderUnreachable:
            # One that is missing would count as nothing, so then none is known.
            if self._config.balance_required:
                raise
            return {}
        return {money.currency: money for money in found}

    def services(self, currency: Currency) -> Sequence[Service]:
        """The methods of the settings. Source: section 4.1: there is no list to ask for."""
        decimals = self._config.currency_decimals.get(currency.code)
        if decimals is None:
            return []
        return [
            Service(
                code=kind,
                currency=currency,
                beneficiary_currency=currency,
                decimals=min(decimals, currency.exponent),
                fields=self._rules(kind),
            )
            for kind in sorted(self._config.methods)
        ]

    def list_payouts(self, since: datetime, until: datetime) -> Iterator[Reply]:  # noqa: ARG002 - as the port
        """Nothing: no list of payouts by date is known. Source: section 11."""
        return iter(())

    # Requests.

    def _call(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        version: str | None = None,
    ) -> Answer | Lost:
        sent = {"Authorization": f"Basic {self._basic}", **(headers or {})}
        if self._config.api == "cards" and (version := version or self._config.cards_version):
            sent["X-API-Version"] = version
        if content is not None:
            sent["Content-Type"] = "application/json"
        answer = self._transport.call(
            method, path, base_url=self._config.base_url, headers=sent, content=content
        )
        return wire.without(answer, self._basic, self._config.secret_key.get_secret_value())

    def _create_body(self, order: Order, amount: int) -> bytes:
        """The same bytes for the same order, whatever the order of its columns."""
        config = self._config
        optional = {
            "language": config.language,
            "notification_url": config.callback_url,
            "verification_url": _verification_url(config),
            "additional_data": _sorted(config.additional_data),
        }
        request: dict[str, Any] = {
            "amount": amount,
            "currency": order.amount.currency.code,
            "description": order.description or f"Payout {order.reference_id}",
            "test": config.test_mode,
            "tracking_id": order.reference_id,
            **{key: value for key, value in optional.items() if value},
        }
        customer, fields = _sorted(order.customer), _sorted(order.fields)
        if config.api == "cards":
            request |= self._of_cards(request, customer, fields)
        else:
            if "ip" in customer:
                request["ip"] = customer.pop("ip")
            if customer:
                request["customer"] = customer
            request["method"] = {**fields, "type": order.service}
        return wire.write_json({"request": request})

    def _of_cards(
        self, request: Mapping[str, Any], customer: dict[str, Any], fields: dict[str, Any]
    ) -> dict[str, Any]:
        """Whom a card payout pays, and who pays. Source: part B."""
        places: dict[str, dict[str, Any]] = {
            "recipient": {},
            "recipient_billing_address": {},
            "sender": _sorted(self._config.sender),
            "sender_billing_address": _sorted(self._config.sender_billing_address),
            "additional_data": dict(request.get("additional_data", {})),
        }
        for name, value in customer.items():
            places[CARD_PLACES.get(name, "recipient")][name] = value
        return {
            # A payout of the same amount to the same card within 30 s is turned down.
            "duplicate_check": True,
            "recipient_credit_card": fields,
            **{place: values for place, values in places.items() if values},
        }

    # Answers.

    def _expect_200(self, answer: Answer | Lost, question: str) -> Answer:
        faults = {status: errors.ACCOUNT_FAULTS[status] for status in (401, 403)}
        return wire.expect_200(answer, question, PROVIDER, faults=faults, said=errors.said)

    def _balance(self, code: str) -> Money:
        config, question = self._config, f"its {code} balance"
        asked: dict[str, Any] = {"gateway_id": config.gateway_id}
        if config.api == "cards":
            by_currency = config.balance_by == "currency"
            inner = {"currency": code} if by_currency else {"gateway_id": str(config.gateway_id)}
            asked = {"request": inner}
        elif len(config.currency_decimals) > 1:
            asked["currency"] = code
        answer = self._call("POST", "/balance", content=wire.write_json(asked), version="2")
        done = self._expect_200(answer, question)
        document = wire.members(done.json())
        if not _is_success(document):
            said = errors.said(done) or "no message"
            raise ProviderUnreachable(f"{PROVIDER} was asked for {question} and told: {said}")
        told = wire.members(document.get("result")) or document
        currency = wire.currency_of(told.get("currency"))
        if currency is None or currency.code != code:
            other = words.word(told.get("currency"), None) or "no currency"
            raise ProviderUnreachable(
                f"{PROVIDER} was asked for {question} and told one in {other}"
            )
        money = words.spendable(told.get("amount"), currency, config.currency_decimals)
        if money is None:
            raise ProviderUnreachable(f"{PROVIDER}'s {code} balance cannot be read")
        return money

    def _rules(self, kind: str) -> tuple[FieldRule, ...]:
        method = self._config.methods[kind]
        members = [*method.required, *(n for n in method.optional if n not in method.required)]
        cards = self._config.api == "cards"
        rules = [
            FieldRule(
                name=name,
                required=name in method.required,
                pattern=CARD_MEMBERS[name] if cards else None,
                label=name.replace("_", " "),
            )
            for name in members
        ]
        customer = [
            FieldRule(name=f"customer.{name}", required=True, label=name.replace("_", " "))
            for name in method.customer_required
        ]
        return (*rules, *customer)

    # What comes to our receiver.

    def _is_basic(self, delivery: Delivery) -> bool:
        """Whether it carries the shop's own credentials, exactly; in constant time."""
        given = delivery.headers.get("authorization", "")
        return hmac.compare_digest(f"Basic {self._basic}".encode(), given.encode(errors="replace"))


def _is_signed(delivery: Delivery, key: RSAPublicKey) -> bool:
    """Whether the raw body carries the platform's signature. Source: section 9."""
    try:
        given = "".join(delivery.headers.get("content-signature", "").split())
        signature = base64.b64decode(given, validate=True)
        key.verify(signature, delivery.body, PKCS1v15(), SHA256())
    except (binascii.Error, ValueError, InvalidSignature):
        return False
    return True


def _is_success(told: wire.Json) -> bool:
    # The status is written `Successful` too. Source: section 4.3.
    return str(told.get("status")).lower() == "successful" and told.get("code") in (None, "S.0000")
