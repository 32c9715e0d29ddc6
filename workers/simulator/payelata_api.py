"""What the Payelata simulator answers: paths, checks and the order of events, as pure logic.

It shares nothing with the adapter, so that it cannot share its mistakes; the sockets
are in `server`, the memory in `ledger`.

Source: Payelata API facts (the page), read 2026-11-21; "our guess" marks what no source says.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import Any, Literal

import simplejson

from workers.simulator import faults, server
from workers.simulator import payelata_views as views
from workers.simulator.desk import Desk, Habits, Instruction
from workers.simulator.ledger import Invoice, mask
from workers.simulator.life import Words
from workers.simulator.payelata_services import (
    INVALID,
    REQUIRED,
    SERVICES,
    Service,
    asked_by_test_fields,
    create_faults,
    read_attributes,
    read_decimal,
    reference_fault,
)
from workers.simulator.port import Action, Answer, Call, Ladder, Letter, Parts, answer, read_json

log = logging.getLogger(__name__)

PAGE_SIZE = 20
DEFAULT_BALANCES = {
    "USD": Decimal("10000000.00"),
    "EUR": Decimal("10000000.00"),
    "MXN": Decimal("10000000.00"),
    "BRL": Decimal("10000000.00"),
    "INR": Decimal("10000000.00"),
    "CLP": Decimal(1000000000),
    "JPY": Decimal(1000000000),
}
# Source: Payelata API facts, sections 5 and 11.
WORDS = Words(
    created="created",
    processing="processing",
    processed="processed",
    returned="canceled",
    committing=frozenset(
        {"processing", "process_pending", "process_error", "processed", "partially_processed"}
    ),
    paid=frozenset({"processed", "cancel_failed"}),
    given_back=frozenset({"process_failed", "expired", "terminated", "canceled"}),
    partly=frozenset({"partially_processed", "partially_canceled"}),
    # The codes are those of section 5.1, the choice is our guess.
    resolutions={"process_failed": "declined_error", "expired": "operation_expired"},
)


@dataclass(frozen=True, kw_only=True)
class PayelataOptions(server.ServerOptions):
    """The account and its habits; see the flags of the same names."""

    balances: dict[str, Decimal] = field(default_factory=lambda: dict(DEFAULT_BALANCES))
    account_id: str = "coma_Demo0000Demo0001"
    # These three stand in the page as examples; they open nothing but this simulator.
    api_key: str = "demo-api-key"
    public_key: str = "pk_test_demo"
    signing_key: str = "sk_test_demo"
    live: bool = False
    prefix: str = "/api"
    settle_s: float = 0.5
    release_delay_s: float = 0.0
    auto_process: bool = False
    low_balance: Literal["422", "failed"] = "422"
    find_delay_s: float = 0.0
    allow_duplicates: bool = False
    callback_url: str | None = None
    callbacks_final_only: bool = False


class Payelata:
    """The provider; see `port.Api`."""

    # The n-th retry comes n minutes after the previous, up to 100 tries. Source: section 7.
    ladder = Ladder([60 * n for n in range(1, 100)], delivered=lambda status: status == 200)

    def __init__(self, options: PayelataOptions, parts: Parts) -> None:
        self.prefix = options.prefix
        self._options = options
        self._ledger = parts.ledger
        self._clock = parts.clock
        self._faults = parts.faults
        self._post = parts.post
        habits = Habits(
            settle_s=options.settle_s,
            release_s=options.release_delay_s,
            hide_s=options.find_delay_s,
        )
        failed = ("process_failed", "insufficient_funds")
        self._desk = Desk(parts, WORDS, habits, self._tell, failed=failed)
        login = f"{options.account_id}:{options.api_key}".encode()
        self._authorization = b"Basic " + base64.b64encode(login)

    def route(self, call: Call) -> Action | Answer:
        path = call.path
        if path.startswith("/public-api/"):
            return self._route_public(call, path.removeprefix("/public-api").rstrip("/"))
        if not path.startswith(self.prefix + "/"):
            return self.error(404)
        sent = call.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(sent, self._authorization):
            return self.error(401)
        return self._route_private(call, path.removeprefix(self.prefix).rstrip("/"))

    def _route_private(self, call: Call, path: str) -> Action | Answer:
        # As seen by the platform: `/payout-invoices/{id}/process` is `["", _, id, "process"]`.
        match [call.method, *path.split("/")[1:]]:
            case ["POST", "payout-invoices"]:
                return self._route_create(call)
            case ["POST", "payout-invoices", invoice_id, "process"]:
                return self._about("process", invoice_id, self._process)
            case ["GET", "payout-invoices", invoice_id]:
                return self._about("read", invoice_id, views.private_document)
            case ["GET", "payout-invoices"]:
                return self._route_search(call)
            case ["GET", "payout-services", *rest] if len(rest) <= 1:
                return Action("services", None, lambda: self._services(call, *rest))
            case ["GET", "account", "balances"]:
                return Action("balances", None, self._balances)
            case ["GET", "account", "profile"]:
                return Action("profile", None, self._profile)
        return self.error(405 if _PRIVATE_PATHS.fullmatch(path) else 404)

    def _route_public(self, call: Call, path: str) -> Action | Answer:
        match [call.method, *path.split("/")[1:]]:
            case ["POST", "payout-prerequest"]:
                return self._route_prerequest(call)
            case ["GET", "payout-invoices", *rest] if len(rest) <= 1:
                # Where the key goes in a public GET is not shown; in the query is our guess.
                if call.arguments().get("public_key") != self._options.public_key:
                    return self.error(401)
                if rest:
                    return self._about("read", rest[0], views.public_document)
                return self._route_public_find(call)
        return self.error(405 if _PUBLIC_PATHS.fullmatch(path) else 404)

    def error(self, status: int) -> Answer:
        """The list form, and the object form for 422."""
        return views.error(status)

    def advance(self, now: float) -> None:
        self._desk.advance(now)

    def move(self, invoice: Invoice, **how: Any) -> None:
        self._desk.move(invoice, **how)

    def letter(self, invoice: Invoice, *, status: str | None, signature: str) -> Letter | None:
        url = invoice.details["callback_url"] or self._options.callback_url
        if url is None:
            return None
        body = views.callback_body(invoice, status)
        headers = {"Content-Type": "application/json"}
        if signature != "absent":
            key = self._options.signing_key + ("" if signature == "good" else "-of-a-forger")
            headers["X-Signature"] = sign(body, key)
        return Letter(url, body, headers)

    # Creating.

    def _route_create(self, call: Call) -> Action | Answer:
        attributes = read_attributes(call.body)
        if attributes is None:
            # Unreadable, so no reference id can be told: a 400 is our guess.
            return Action("create", None, lambda: self.error(400))
        reference_id = attributes.get("reference_id")
        if message := reference_fault(reference_id):
            return Action(
                "create", None, lambda: views.invalid({"reference_id": message or INVALID})
            )
        assert isinstance(reference_id, str)  # noqa: S101 - reference_fault says so
        self._learn(reference_id, attributes)
        return Action(
            "create", reference_id, lambda: self._create(reference_id, attributes, call.now)
        )

    def _learn(self, reference_id: str, attributes: dict[str, Any]) -> None:
        """Keep the faults that the row itself asks for."""
        metadata = attributes.get("metadata")
        text = metadata.get("simulate") if isinstance(metadata, dict) else None
        if not isinstance(text, str) or self._ledger.scripts.get(reference_id) == text:
            return
        try:
            self._faults.learn(reference_id, faults.parse(text))
        except faults.BadSpec:
            log.warning("simulate_ignored reference_id=%s reason=bad_spec", reference_id)
            return
        self._ledger.record({"event": "script", "reference_id": reference_id, "text": text})

    def _create(self, reference_id: str, attributes: dict[str, Any], now: float) -> Answer:
        earlier = self._ledger.by_reference.get(reference_id)
        if earlier and not self._options.allow_duplicates:
            return views.conflict(earlier[0])
        code = attributes.get("service")
        if not isinstance(code, str) or not code:
            return views.invalid({"service": REQUIRED})
        service = SERVICES.get(code)
        if service is None or not service.enabled:
            return self.error(404)  # section 6 lists 404 for a wrong service; its form is our guess
        if wrong := create_faults(attributes, service):
            return views.invalid(wrong)
        if self._options.low_balance == "422" and not self._covers(service, attributes["amount"]):
            return views.invalid({"amount": "Insufficient funds."})
        invoice = self._store(reference_id, attributes, service, now)
        asked = attributes.get("options") or {}
        behaviour = self._desk.behaviour(invoice)
        if asked.get("auto_process") is True or self._options.auto_process or behaviour.auto:
            self._desk.release(invoice, now)
        return answer(201, views.private_document(invoice))

    def _covers(self, service: Service, amount: Decimal) -> bool:
        return self._desk.covers(service.currency, amount + service.fee(Decimal(amount)))

    def _store(
        self, reference_id: str, attributes: dict[str, Any], service: Service, now: float
    ) -> Invoice:
        given = attributes["fields"] or {}
        is_test = service.method == "test"
        amount = Decimal(attributes["amount"])
        return self._desk.store(
            Instruction(
                id=f"cpoi_{secrets.token_hex(8)}",
                reference_id=reference_id,
                service=service.code,
                amount=amount,
                currency=service.currency,
                fee=service.fee(amount),
                test_mode=attributes.get("test_mode", not self._options.live),
                details={
                    "method": service.method,
                    "description": attributes.get("description"),
                    "callback_url": attributes.get("callback_url"),
                    # As text: a number in it must come back exactly as it was sent.
                    "metadata": simplejson.dumps(attributes.get("metadata") or []),
                    "fields": mask(given) or [],
                    "customer_id": self._customer_id(attributes),
                },
                asked=asked_by_test_fields(given, reference_id) if is_test else faults.NOTHING,
            ),
            now,
        )

    def _customer_id(self, attributes: dict[str, Any]) -> str | None:
        customer = attributes.get("customer")
        if not customer:
            return None
        return views.customer_id(self._options.account_id, str(customer["reference_id"]))

    # Processing.

    def _process(self, invoice: Invoice) -> Answer | dict[str, Any]:
        if invoice.status != "created":
            return self.error(409)  # what a repeated call is told is our guess
        behaviour = self._desk.behaviour(invoice)
        if behaviour.release_ignored and not invoice.ignored:
            self._ledger.record({"event": "ignored", "id": invoice.id})
        elif not invoice.queued:
            self._desk.release(invoice, self._clock.now())
        return views.private_document(invoice)

    def _tell(self, invoice: Invoice) -> None:
        if self._options.callbacks_final_only and invoice.status not in WORDS.final:
            return
        letter = self.letter(invoice, status=None, signature="good")
        if letter is not None:
            self._post(invoice, letter)

    # Reading.

    def _about(
        self, point: str, invoice_id: str, tell: Callable[[Invoice], Answer | dict[str, Any]]
    ) -> Action:
        invoice = self._ledger.by_id.get(invoice_id)
        if invoice is None:
            return Action(point, None, lambda: self.error(404))

        def perform() -> Answer:
            told = tell(invoice)
            return told if isinstance(told, Answer) else answer(200, told)

        return Action(point, invoice.reference_id, perform)

    def _route_search(self, call: Call) -> Action:
        arguments = call.arguments()
        reference_id = arguments.get("filter[reference_id]")
        if reference_id is None:
            # An unknown filter is ignored, as section 4.6 warns.
            return Action("list", None, lambda: self._list(arguments, call.now))
        return Action(
            "find",
            reference_id or None,
            lambda: answer(
                200, views.page(self._desk.visible(reference_id, call.now), size=PAGE_SIZE)
            ),
        )

    def _route_public_find(self, call: Call) -> Action | Answer:
        reference_id = call.arguments().get("filter[reference_id]")
        if not reference_id:
            return self.error(404)  # the public view has no list
        return Action(
            "find",
            reference_id,
            lambda: answer(
                200,
                {
                    "data": [
                        views.public(each) for each in self._desk.visible(reference_id, call.now)
                    ]
                },
            ),
        )

    def _list(self, arguments: dict[str, str], now: float) -> Answer:
        """Newest first; the name of the cursor is our guess, since no source shows it."""
        cursor = arguments.get("page[after]")
        if cursor is not None and cursor not in self._ledger.by_id:
            return self.error(400)
        end = len(self._ledger.invoices)
        if cursor is not None:
            end = self._ledger.by_id[cursor].serial - 1
        older = (self._ledger.invoices[place] for place in range(end - 1, -1, -1))
        visible = (each for each in older if each.visible_at <= now)
        shown = list(islice(visible, PAGE_SIZE + 1))
        more = len(shown) > PAGE_SIZE
        return answer(200, views.page(shown[:PAGE_SIZE], size=PAGE_SIZE, more=more))

    def _services(self, call: Call, *wanted: str) -> Answer:
        test_mode = not self._options.live
        if wanted:
            for service in SERVICES.values():
                if service.id == wanted[0]:
                    return answer(200, {"data": views.service(service, test_mode=test_mode)})
            return self.error(404)
        arguments = call.arguments()
        try:
            at = int(arguments.get("page[number]", "1"))
            size = int(arguments.get("page[size]", PAGE_SIZE))
        except ValueError:
            return self.error(400)
        if at < 1 or not 1 <= size <= 100:
            return self.error(400)
        return answer(
            200, views.service_page(list(SERVICES.values()), at, size, test_mode=test_mode)
        )

    def _balances(self) -> Answer:
        return answer(200, views.balances(self._options.account_id, self._ledger.balances))

    def _profile(self) -> Answer:
        return answer(
            200, views.profile(self._options.account_id, callback_url=self._options.callback_url)
        )

    def _route_prerequest(self, call: Call) -> Action | Answer:
        asked = read_json(call.body)
        if asked is None:
            return self.error(400)
        if asked.get("public_key") != self._options.public_key:
            return self.error(401)
        return Action("prerequest", None, lambda: self._prerequest(asked))

    def _prerequest(self, asked: dict[str, Any]) -> Answer:
        currency, amount = asked.get("currency"), read_decimal(asked.get("amount"))
        if not isinstance(currency, str) or not currency:
            return views.invalid({"currency": REQUIRED})
        if amount is None or amount <= 0:
            return views.invalid({"amount": "This value should be greater than 0."})
        usable = [
            each
            for each in SERVICES.values()
            if each.enabled and each.currency == currency and each.takes(amount)
        ]
        return answer(
            200, views.prerequest(currency, amount, usable, test_mode=not self._options.live)
        )


_PRIVATE_PATHS = re.compile(
    r"/payout-invoices(/[^/]+(/process)?)?|/payout-services(/[^/]+)?|/account/(balances|profile)"
)
_PUBLIC_PATHS = re.compile(r"/payout-invoices(/[^/]+)?|/payout-prerequest")


def sign(body: bytes, key: str) -> str:
    """The `X-Signature` of a callback: base64 of the SHA-1 of key, body, key.

    Source: Payelata API facts, section 7.
    """
    framed = key.encode() + body + key.encode()
    return base64.b64encode(hashlib.sha1(framed).digest()).decode()  # noqa: S324 - as they do
