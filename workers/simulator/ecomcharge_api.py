"""What the eComCharge simulator answers: paths, checks and the order of events, as pure logic.

Both hosts of the platform stand behind one address: "beyag" (alternative methods) below `/beyag`,
the card gateway at the root. They share the balances and nothing else: neither finds the other's
payouts. Besides, `GET /__key` shows the public key of the webhooks, as the back office would.

Nothing here is unique by tracking id: a second create really is a second payout, unless it carries
the first one's `RequestID`. That is what a worker is tried with.

Source: eComCharge payout API facts (the page), read 2026-11-21; "our guess" marks what no source
says.
"""

from __future__ import annotations

import base64
import hmac
import logging
import re
import secrets
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import simplejson

from workers.simulator import ecomcharge_bodies as bodies
from workers.simulator import ecomcharge_views as views
from workers.simulator import faults
from workers.simulator.desk import Desk, Habits, Instruction
from workers.simulator.ecomcharge_account import (
    BEYAG,
    CARDS,
    DECLINED,
    NO_UID,
    VERIFICATION_REFUSED,
    WORDS,
    EcomchargeOptions,
    part_of,
)
from workers.simulator.ecomcharge_signing import Signer
from workers.simulator.ledger import Invoice, Step
from workers.simulator.port import Action, Answer, Call, Ladder, Letter, Parts, answer, read_json

log = logging.getLogger(__name__)

PREFIX = "/beyag"
KEY_PATH = "/__key"
# How long a RequestID is remembered. Source: section 2.
KEY_KEPT_S = 24 * 3600
# Source: Part B, `duplicate_check`.
DUPLICATE_WINDOW_S = 30


class Ecomcharge:
    """The provider; see `port.Api`."""

    prefix = PREFIX
    # Our choice: the page found neither the repeats nor what answer ends them.
    ladder = Ladder([60, 300, 900, 3600, 21_600], delivered=lambda status: status == 200)

    def __init__(self, options: EcomchargeOptions, parts: Parts) -> None:
        self._options = options
        self._ledger = parts.ledger
        self._clock = parts.clock
        self._faults = parts.faults
        self._post = parts.post
        self._ask = parts.ask
        beside = (
            None
            if options.ledger is None
            else options.ledger.with_name(f"{options.ledger.name}.key.pem")
        )
        self._signer = Signer.of(options.private_key or beside)
        habits = Habits(settle_s=options.settle_s, hide_s=options.find_delay_s)
        self._desk = Desk(parts, WORDS, habits, self._tell, failed=DECLINED)
        login = f"{options.shop_id}:{options.secret_key}".encode()
        self._authorization = b"Basic " + base64.b64encode(login)
        # What a repeat of a part's RequestID is told, and since when.
        self._told: dict[tuple[str, str], tuple[float, Callable[[Call], Answer]]] = {}
        # When a card last got an amount. It holds card numbers, so it stays in memory: a restart
        # forgets 30 seconds of them, which is the harsher way.
        self._paid_cards: dict[tuple[str, int, str], float] = {}
        # References that `;` makes several ids of.
        self._joined: list[str] = []
        # Payouts whose verification a stopped simulator left open.
        self._unasked: list[Invoice] = []
        for invoice in self._ledger.invoices:
            self._recall(invoice)
            if self._awaits_verification(invoice):
                self._unasked.append(invoice)

    def route(self, call: Call) -> Action | Answer:
        if (call.method, call.path) == ("GET", KEY_PATH):
            key = self._signer.public_text().encode()
            return Action(
                "services", None, lambda: Answer(200, key, {"Content-Type": "text/plain"})
            )
        sent = call.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not sent.startswith(b"Basic "):
            return self.error(401)
        if not hmac.compare_digest(sent, self._authorization):
            return views.wrong_shop()  # which 401 is sent when is our guess
        path = call.path.rstrip("/")
        if path == PREFIX or path.startswith(PREFIX + "/"):
            return self._route_beyag(call, path.removeprefix(PREFIX))
        return self._route_cards(call, path)

    def _route_beyag(self, call: Call, path: str) -> Action | Answer:
        match [call.method, *map(unquote, path.split("/")[1:])]:
            case ["POST", "transactions", "payouts" | "payout"]:
                return self._route_create(call, BEYAG)
            case ["POST", "transactions", "payout", "precheck"] if self._options.precheck:
                return self._route_precheck(call)
            case ["POST", "transactions", uid, "renotify"]:
                return self._about(BEYAG, uid, self._renotify)
            case ["GET", "transactions", "tracking_id", tracking_id]:
                return Action("find", tracking_id, lambda: self._find_beyag(tracking_id, call.now))
            case ["GET", "transactions", uid]:
                return self._about(BEYAG, uid, lambda each: answer(200, self._document(each)))
            case ["POST", "balance"]:
                return Action("balances", None, lambda: self._balance_of_beyag(call.body))
        return self.error(405 if _BEYAG_PATHS.fullmatch(path) else 404)

    def _route_cards(self, call: Call, path: str) -> Action | Answer:
        v3 = _version(call) == "3"
        match [call.method, *map(unquote, path.split("/")[1:])]:
            case ["POST", "transactions", "payouts"]:
                return self._route_create(call, CARDS)
            case ["GET", "v2", "transactions", "tracking_id", tracking_id]:
                return Action(
                    "find", tracking_id, lambda: self._find_cards(tracking_id, call.now, v3=v3)
                )
            case ["GET", "transactions", uid]:
                return self._about(
                    CARDS, uid, lambda each: answer(200, self._document(each, v3=v3))
                )
            case ["POST", "balance"] if _version(call) == "2":
                return Action("balances", None, lambda: self._balance_of_cards(call.body))
        return self.error(405 if _CARD_PATHS.fullmatch(path) else 404)

    def error(self, status: int) -> Answer:
        return views.error(status)

    def advance(self, now: float) -> None:
        unasked, self._unasked = self._unasked, []
        for invoice in unasked:
            self._verify(invoice)
        self._desk.advance(now)

    def move(self, invoice: Invoice, **how: Any) -> None:
        self._desk.move(invoice, **how)

    def letter(self, invoice: Invoice, *, status: str | None, signature: str) -> Letter | None:
        """A webhook. A forged one carries the right Basic header too, for a client that falls back
        on it, unless the account says otherwise.
        """
        url = invoice.details["notification_url"]
        if url is None:
            return None
        step = invoice.step if status is None else _step_of(invoice, status)
        body = simplejson.dumps(self._document(invoice, step)).encode()
        headers = {
            "Content-Type": "application/json",
            "Authorization": self._authorization.decode(),
        }
        if signature != "good" and self._options.forged_basic:
            headers["Authorization"] = "Basic " + base64.b64encode(b"0:forged").decode()
        if signature == "good":
            headers["Content-Signature"] = self._signer.sign(body)
        elif signature == "wrong":
            headers["Content-Signature"] = self._signer.sign(body + b" ")
        return Letter(url, body, headers)

    # Creating.

    def _route_create(self, call: Call, part: str) -> Action:
        document = read_json(call.body)
        if document is None:
            # Unreadable, so no tracking id can be told: a 400 is our guess.
            return Action("create", None, lambda: self.error(400))
        tracking_id = bodies.tracking_id(document)
        return Action("create", tracking_id, lambda: self._once(call, part, document))

    def _once(self, call: Call, part: str, document: dict[str, Any]) -> Answer:
        """Carry a create out, unless its RequestID has been seen within a day."""
        key = call.headers.get("RequestID") if self._options.request_id == "replay" else None
        if not key:
            return self._told_of(self._create(call, part, document), call)
        at, told = self._told.get((part, key), (0.0, None))
        if told is None or call.now - at >= KEY_KEPT_S:
            created = self._create(call, part, document)
            if isinstance(created, Answer):
                # A refusal is the first answer too, as the page has it. It dies with the process.
                self._told[part, key] = (call.now, lambda _: created)
            return self._told_of(created, call)
        if call.now - at < self._options.busy_s and self._options.busy_answer != "wait":
            return self.error(int(self._options.busy_answer))
        # To wait looks the same from outside, only later: the first answer, with a fresh status.
        return told(call)

    def _told_of(self, created: Invoice | Answer, call: Call) -> Answer:
        if isinstance(created, Answer):
            return created
        v3 = part_of(created) == CARDS and _version(call) == "3"
        declined = created.status in WORDS.given_back
        http = self._options.declined_http if declined else 200
        return answer(http, self._document(created, v3=v3))

    def _create(self, call: Call, part: str, document: dict[str, Any]) -> Invoice | Answer:
        v3 = _version(call) == "3"
        asked = document.get("request")
        if not isinstance(asked, dict):
            return views.invalid({"base": ["request is missing"]}, part=part, v3=v3)
        if wrong := self._faults_of(asked, part):
            return views.invalid(wrong, part=part, v3=v3)
        if part == CARDS:
            if bodies.names_a_card_number(asked) and not self._options.card_numbers:
                return views.no_card_numbers()
            if self._paid_before(asked, call.now):
                duplicate = {"base": ["Duplicate transaction"]}
                return views.invalid(duplicate, part=part, v3=v3)
        amount = self._options.major(asked["amount"], asked["currency"])
        if self._options.low_balance == "422" and not self._desk.covers(asked["currency"], amount):
            low = {"base": ["Insufficient funds"]}
            return views.invalid(low, part=part, v3=v3)
        if self._is_rejected(asked):
            return views.rejected(asked, self._options.declined_http)
        invoice = self._store(call, part, asked)
        if self._awaits_verification(invoice):
            self._verify(invoice)
        else:
            self._desk.release(invoice, call.now)
        return invoice

    def _faults_of(self, asked: dict[str, Any], part: str) -> bodies.Faults:
        if part == CARDS:
            wrong = bodies.card_faults(asked)
        else:
            wrong = bodies.beyag_faults(asked, self._options.methods)
        if "currency" not in wrong and asked["currency"] not in self._ledger.balances:
            wrong["currency"] = ["is not supported"]
        return wrong

    def _paid_before(self, asked: dict[str, Any], now: float) -> bool:
        """The acquirer's own check: the same card, amount and currency within its window."""
        if asked.get("duplicate_check") is False:
            return False
        paid = self._paid_cards.get((bodies.card_key(asked), asked["amount"], asked["currency"]))
        return paid is not None and now - paid < DUPLICATE_WINDOW_S

    def _is_rejected(self, asked: dict[str, Any]) -> bool:
        """Whether a fault asks for the status `error` without a uid."""
        behaviour = self._faults.behaviour(
            asked.get("tracking_id") or "",
            len(self._ledger.invoices) + 1,
            default=faults.NOTHING,
        )
        return (behaviour.status, behaviour.resolution) == ("error", NO_UID)

    def _store(self, call: Call, part: str, asked: dict[str, Any]) -> Invoice:
        amount, currency = asked["amount"], asked["currency"]
        if part == CARDS:
            uid, service = str(uuid.uuid4()), "credit_card"
            people = bodies.details_of_card(asked)
            self._paid_cards[bodies.card_key(asked), amount, currency] = call.now
        else:
            uid, service = f"2-{secrets.token_hex(8)}", asked["method"]["type"]
            people = bodies.details_of_customer(asked)
        invoice = self._desk.store(
            Instruction(
                id=uid,
                reference_id=asked.get("tracking_id") or "",
                service=service,
                amount=self._options.major(amount, currency),
                currency=currency,
                test_mode=asked.get("test") is True,
                details={
                    "part": part,
                    "request_id": call.headers.get("RequestID") or None,
                    "description": asked["description"],
                    "language": asked.get("language") or "en",
                    "notification_url": asked.get("notification_url"),
                    "verification_url": asked.get("verification_url"),
                    **people,
                },
                asked=self._asked_by_amount(amount),
            ),
            call.now,
        )
        self._recall(invoice)
        return invoice

    def _asked_by_amount(self, amount_minor: int) -> faults.Behaviour:
        """The test amounts of section 13: 999, and whatever ends in it."""
        if self._options.magic and amount_minor % 1000 == bodies.MAGIC_ENDING:
            return faults.Behaviour(status="failed")
        return faults.NOTHING

    def _recall(self, invoice: Invoice) -> None:
        """Know a stored payout by its key and its ids."""
        key = invoice.details["request_id"]
        if key is not None:
            self._told[part_of(invoice), key] = (
                invoice.created,
                lambda call: self._told_of(invoice, call),
            )
        if ";" in invoice.reference_id:
            self._joined.append(invoice.reference_id)

    # The verification call, section 8.

    def _awaits_verification(self, invoice: Invoice) -> bool:
        if self._options.verification == "ignore" or not invoice.details["verification_url"]:
            return False
        return not invoice.queued and len(invoice.history) == 1

    def _verify(self, invoice: Invoice) -> None:
        """Ask the merchant whether this payout may be made."""
        letter = Letter(
            invoice.details["verification_url"],
            simplejson.dumps(self._document(invoice)).encode(),
            {"Content-Type": "application/json", "Authorization": self._authorization.decode()},
        )
        self._ask(letter, lambda status, body: self._verified(invoice, status, body))

    def _verified(self, invoice: Invoice, status: int, body: bytes) -> None:
        if not self._awaits_verification(invoice):
            return  # moved by hand meanwhile
        verdict = self._verdict(invoice, status, body)
        log.info("verified uid=%s status=%d verdict=%s", invoice.id, status, verdict)
        if verdict == "release":
            self._desk.release(invoice, self._clock.now())
        elif verdict == "decline":
            word, resolution = VERIFICATION_REFUSED
            self._desk.move(
                invoice,
                status=word,
                resolution=resolution,
                processed_amount=None,
                now=self._clock.now(),
            )

    def _verdict(self, invoice: Invoice, status: int, body: bytes) -> str:
        """`release`, `decline` or `hold`."""
        if status == 0 or status >= 500:
            return self._options.verification_silence
        told = read_json(body) or {}
        amount = self._options.minor(invoice.amount, invoice.currency)
        wanted = {"code": 0, "uid": invoice.id, "amount": amount}
        agreed = all(
            told.get(name) == value and not isinstance(told.get(name), bool)
            for name, value in wanted.items()
        )
        return "release" if status == 200 and agreed else "decline"

    # Telling and reading.

    def _document(
        self, invoice: Invoice, step: Step | None = None, *, v3: bool = False
    ) -> dict[str, Any]:
        return views.document(invoice, self._options, step=step, v3=v3)

    def _tell(self, invoice: Invoice) -> None:
        letter = self.letter(invoice, status=None, signature="good")
        if letter is not None and self._options.webhooks:
            self._post(invoice, letter)

    def _renotify(self, invoice: Invoice) -> Answer:
        self._tell(invoice)
        return answer(200, {"response": {"message": "Notification has been sent"}})

    def _about(self, part: str, uid: str, perform: Callable[[Invoice], Answer]) -> Action:
        invoice = self._ledger.by_id.get(uid)
        if invoice is None or part_of(invoice) != part:
            return Action("read", None, lambda: self.error(404))
        return Action("read", invoice.reference_id or None, lambda: perform(invoice))

    def _found(self, part: str, tracking_id: str, now: float) -> list[Invoice]:
        """What a part has by that id, the newest first; `a;b` is found by `a` and by `b`."""
        joined = [each for each in self._joined if tracking_id in each.split(";")]
        references = dict.fromkeys([] if ";" in tracking_id else [tracking_id, *joined])
        found = [
            invoice
            for each in references
            for invoice in self._desk.visible(each, now)
            if part_of(invoice) == part
        ]
        return sorted(found, key=lambda invoice: -invoice.serial)

    def _find_beyag(self, tracking_id: str, now: float) -> Answer:
        decoys = views.decoys(tracking_id) if self._options.decoys else []
        found = self._found(BEYAG, tracking_id, now)
        return views.found_by_beyag(
            decoys + [views.transaction(each, self._options) for each in found]
        )

    def _find_cards(self, tracking_id: str, now: float, *, v3: bool) -> Answer:
        decoys = views.decoys(tracking_id) if self._options.decoys else []
        found = self._found(CARDS, tracking_id, now)
        shown = [views.shown_by_cards(each, self._options, v3=v3) for each in found]
        return views.found_by_cards(decoys + shown, self._options.card_find, v3=v3)

    # The precheck and the balances.

    def _route_precheck(self, call: Call) -> Action:
        document = read_json(call.body)
        if document is None:
            return Action("precheck", None, lambda: self.error(400))
        return Action("precheck", bodies.tracking_id(document), lambda: self._precheck(document))

    def _precheck(self, document: dict[str, Any]) -> Answer:
        asked = document.get("request")
        if not isinstance(asked, dict):
            return views.invalid_precheck({"request": ["is missing"]})
        if wrong := self._faults_of(asked, BEYAG):
            return views.invalid_precheck(wrong)
        amount = self._options.major(asked["amount"], asked["currency"])
        allowed = self._asked_by_amount(asked["amount"]) == faults.NOTHING and self._desk.covers(
            asked["currency"], amount
        )
        return views.precheck(self._options.gateway_id, asked["currency"], allowed=allowed)

    def _balance_of_beyag(self, body: bytes) -> Answer:
        asked = read_json(body)
        if asked is None:
            return self.error(400)
        return self._balance(asked, asked.get("gateway_id"), views.beyag_balance)

    def _balance_of_cards(self, body: bytes) -> Answer:
        asked = (read_json(body) or {}).get("request")
        if not isinstance(asked, dict) or not {"account", "currency", "gateway_id"} & asked.keys():
            return views.invalid_balance({"base": ["request is missing"]})
        # Any one of the three will do here, and the id of a gateway is text.
        gateway_id = asked.get("gateway_id", str(self._options.gateway_id))
        known = gateway_id == str(self._options.gateway_id)
        return self._balance(
            asked, self._options.gateway_id if known else gateway_id, views.card_balance
        )

    def _balance(
        self, asked: dict[str, Any], gateway_id: Any, show: Callable[..., Answer]
    ) -> Answer:
        """What can be spent; the form of a refusal is our guess."""
        options = self._options
        if gateway_id is None:
            return views.invalid_balance({"gateway_id": ["is missing"]})
        if gateway_id != options.gateway_id or isinstance(gateway_id, bool):
            return views.invalid_balance({"gateway_id": ["is invalid"]})
        if not options.balance_call:
            return views.invalid_balance({"base": ["Balance is not supported by the gateway"]})
        # A gateway has one currency at the platform; which one it is without a word is our guess.
        currency = asked.get("currency") or next(iter(self._ledger.balances))
        balance = self._ledger.balances.get(str(currency))
        if balance is None:
            return views.invalid_balance({"currency": ["is not supported"]})
        amount = options.minor(balance.active, str(currency))
        return show(gateway_id, asked.get("account"), amount, str(currency))


_BEYAG_PATHS = re.compile(r"/transactions/(tracking_id/[^/]+|[^/]+(/renotify)?)|/balance")
_CARD_PATHS = re.compile(r"(/v2/transactions/tracking_id|/transactions)/[^/]+")


def _version(call: Call) -> str | None:
    return call.headers.get("X-API-Version")


def _step_of(invoice: Invoice, status: str) -> Step:
    """The last step with that status, or one that never was."""
    for step in reversed(invoice.history):
        if step.status == status:
            return step
    return Step(invoice.step.at, status, WORDS.resolutions.get(status, "ok"))
