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

from workers.errors import UsageError
from workers.simulator import faults, server
from workers.simulator import payelata_life as life
from workers.simulator import payelata_views as views
from workers.simulator.ledger import Invoice, Step, mask
from workers.simulator.payelata_services import (
    INVALID,
    REQUIRED,
    SERVICES,
    Service,
    asked_by_test_fields,
    create_faults,
    read_attributes,
    read_decimal,
    read_json,
    reference_fault,
)
from workers.simulator.port import Action, Answer, Call, Letter, Parts, answer

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
_STATUS_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")


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

    def __init__(self, options: PayelataOptions, parts: Parts) -> None:
        self.prefix = options.prefix
        self._options = options
        self._ledger = parts.ledger
        self._clock = parts.clock
        self._faults = parts.faults
        self._post = parts.post
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
        for invoice in self._ledger.due(now):
            step = invoice.ahead[0]
            self._take(invoice, step, scripted=False)

    def move(
        self,
        invoice: Invoice,
        *,
        status: str,
        resolution: str,
        processed_amount: Decimal | None,
        now: float,
    ) -> None:
        if not _STATUS_WORD.fullmatch(status):
            raise UsageError("expected a status of lower-case letters, digits and _")
        if status in life.COMMITTING and not invoice.releases:
            self._release(invoice, now, [])
        self._take(invoice, Step(now, status, resolution, processed_amount), scripted=True)

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
        behaviour = self._behaviour(invoice)
        asked = attributes.get("options") or {}
        if asked.get("auto_process") is True or self._options.auto_process or behaviour.auto:
            self._queue(invoice, behaviour, now)
        return answer(201, views.private_document(invoice))

    def _covers(self, service: Service, amount: Decimal) -> bool:
        balance = self._ledger.balances.get(service.currency)
        return balance is not None and balance.active >= amount + service.fee(Decimal(amount))

    def _store(
        self, reference_id: str, attributes: dict[str, Any], service: Service, now: float
    ) -> Invoice:
        given = attributes["fields"] or {}
        default = (
            asked_by_test_fields(given, reference_id)
            if service.method == "test"
            else faults.NOTHING
        )
        behaviour = self._faults.behaviour(
            reference_id, len(self._ledger.invoices) + 1, default=default
        )
        amount = Decimal(attributes["amount"]) if behaviour.amount is None else behaviour.amount
        fee = service.fee(amount)
        test_mode = attributes.get("test_mode", not self._options.live)
        hide_s = self._options.find_delay_s if behaviour.hide_s is None else behaviour.hide_s
        invoice_id = f"cpoi_{secrets.token_hex(8)}"
        self._ledger.record(
            {
                "event": "invoice",
                "at": now,
                "id": invoice_id,
                "reference_id": reference_id,
                "service": service.code,
                "amount": str(amount),
                "currency": behaviour.currency or service.currency,
                "writeoff": str(amount + fee),
                "test_mode": test_mode != behaviour.mode_flipped,
                "visible_at": now + hide_s,
                "status": "created",
                "details": {
                    "method": service.method,
                    "fee": str(fee),
                    "description": attributes.get("description"),
                    "callback_url": attributes.get("callback_url"),
                    # As text: a number in it must come back exactly as it was sent.
                    "metadata": simplejson.dumps(attributes.get("metadata") or []),
                    "fields": mask(given) or [],
                    "customer_id": self._customer_id(attributes),
                    "test_status": default.status,
                    "test_resolution": default.resolution,
                },
            }
        )
        return self._ledger.by_id[invoice_id]

    def _customer_id(self, attributes: dict[str, Any]) -> str | None:
        customer = attributes.get("customer")
        if not customer:
            return None
        return views.customer_id(self._options.account_id, str(customer["reference_id"]))

    # Processing.

    def _process(self, invoice: Invoice) -> Answer | dict[str, Any]:
        if invoice.status != "created":
            return self.error(409)  # what a repeated call is told is our guess
        behaviour = self._behaviour(invoice)
        if behaviour.release_ignored and not invoice.ignored:
            self._ledger.record({"event": "ignored", "id": invoice.id})
        elif not invoice.queued:
            self._queue(invoice, behaviour, self._clock.now())
        return views.private_document(invoice)

    def _queue(self, invoice: Invoice, behaviour: faults.Behaviour, now: float) -> None:
        """Commit the money, if there is enough, and plan the way to the final status."""
        balance = self._ledger.balances.get(invoice.currency)
        enough = balance is None or balance.active >= invoice.writeoff
        if not enough:
            behaviour = faults.Behaviour(
                settle_s=behaviour.settle_s,
                release_s=behaviour.release_s,
                status="process_failed",
                resolution="insufficient_funds",
            )
        options = self._options
        ahead = life.plan(
            behaviour, now, release_s=options.release_delay_s, settle_s=options.settle_s
        )
        self._release(invoice, now, ahead, committed=enough)
        self.advance(now)

    def _release(
        self, invoice: Invoice, now: float, ahead: list[Step], *, committed: bool = True
    ) -> None:
        self._ledger.record(
            {
                "event": "release",
                "at": now,
                "id": invoice.id,
                "committed": committed,
                "ahead": [[each.at, each.status, each.resolution] for each in ahead],
            }
        )

    def _behaviour(self, invoice: Invoice) -> faults.Behaviour:
        details = invoice.details
        asked = faults.Behaviour(
            status=details["test_status"], resolution=details["test_resolution"]
        )
        return self._faults.behaviour(invoice.reference_id, invoice.serial, default=asked)

    def _take(self, invoice: Invoice, step: Step, *, scripted: bool) -> None:
        """Make a step a fact, with the money it moves and the callback it causes."""
        processed = life.processed_amount(invoice, step)
        held, spent = life.money_at(invoice, step.status, processed)
        self._ledger.record(
            {
                "event": "status",
                "at": step.at,
                "id": invoice.id,
                "status": step.status,
                "resolution": step.resolution,
                "processed_amount": None if processed is None else str(processed),
                "held": str(held),
                "spent": str(spent),
                "scripted": scripted,
            }
        )
        if self._options.callbacks_final_only and step.status not in life.FINAL:
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
            lambda: answer(200, views.page(self._visible(reference_id, call.now), size=PAGE_SIZE)),
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
                {"data": [views.public(each) for each in self._visible(reference_id, call.now)]},
            ),
        )

    def _visible(self, reference_id: str, now: float) -> list[Invoice]:
        found = self._ledger.by_reference.get(reference_id, [])
        return [each for each in reversed(found) if each.visible_at <= now]

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
