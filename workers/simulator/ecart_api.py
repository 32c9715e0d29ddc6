"""What the Ecart Pay simulator answers: paths, checks and the order of events, as pure logic.

It shares nothing with the adapter, so that it cannot share its mistakes; the sockets are in
`server`, the memory in `ledger`.

Source: Ecart Pay payouts (the page), read 2026-11-21; "our guess" marks what no source says.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice, takewhile
from typing import Any, Literal

from workers.simulator import ecart_requests as requests
from workers.simulator import ecart_views as views
from workers.simulator import faults, server
from workers.simulator.desk import Desk, Habits, Instruction
from workers.simulator.ecart_keys import Keys, new_id, sign, stringify
from workers.simulator.ledger import ZERO, Invoice, mask
from workers.simulator.life import Words
from workers.simulator.port import Action, Answer, Call, Ladder, Letter, Parts, answer, read_json

# Source: section 8 of the page, which leaves out PEN, CAD and AUD.
DEFAULT_BALANCES = {
    code: Decimal("10000000.00")
    for code in ("ARS", "BRL", "CLP", "COP", "EUR", "GTQ", "INR", "MXN", "USD")
}
# Source: section 9; waits in seconds. The page says five attempts and lists a sixth one's wait.
WAITS_S = (10, 15, 20, 25, 30)
CREDITED = "transfer.created"
# Source: section 7.
WORDS = Words(
    created="pending",
    processing=None,
    processed="paid",
    returned="refunded",
    committing=frozenset({"paid", "confirmed", "processing"}),
    paid=frozenset({"paid"}),
    given_back=frozenset(
        {"cancelled", "canceled", "expired", "failed", "declined", "error", "refunded"}
    ),
)
# The provider has no test values. Ours: `luis+declined@example.com` is declined.
ASKED = (WORDS.given_back | {"processing", "confirmed"}) - {"refunded"}
FEE_ASKED = Decimal("2.50")


@dataclass(frozen=True, kw_only=True)
class EcartOptions(server.ServerOptions):
    """The account and its habits; see the flags of the same names."""

    balances: dict[str, Decimal] = field(default_factory=lambda: dict(DEFAULT_BALANCES))
    # Invented; they open nothing but this simulator.
    public_key: str = "pub_demo"
    private_key: str = "priv_demo"
    account_id: str = "67dfab0626e963414d247523"
    webhook_secret: str = "whsec_demo"  # noqa: S105 - as invented as the other two
    token_ttl_s: int = 3600
    bearer: bool = False
    # Nobody whose name begins with `unknown` is ever among them.
    recipients: tuple[str, ...] = ("*@example.com",)
    duplicate_status: Literal["409", "400", "422", "pay-again"] = "409"
    hold_on_pending: bool = True
    repeat_confirm: Literal["200", "400"] = "200"
    lookup: Literal["on", "off", "ignored"] = "on"
    list_shape: Literal["data", "payouts", "bare"] = "data"
    page_size_max: int = 100
    find_delay_s: float = 0.0
    # None: a payout is credited inside the call that releases it. Source: section 4.
    settle_s: float = 0.0
    fee: Decimal = ZERO
    exchange: Decimal = Decimal(1)
    amount_decimals: int = 2
    callback_url: str | None = None
    sign_scope: Literal["data", "body"] = "data"
    webhook_id: Literal["delivery", "subscription"] = "delivery"
    webhook_attempts: int = 5


@dataclass(frozen=True, slots=True)
class Webhook:
    """A registered address. It dies with the process; that of the flag does not."""

    id: str
    url: str
    events: tuple[str, ...]


class Holds:
    """What unconfirmed payouts keep from being spent; nothing has been committed for them."""

    def __init__(self) -> None:
        self.sums: dict[str, Decimal] = {}
        self._kept: set[str] = set()

    def look_at(self, invoice: Invoice) -> None:
        """Keep its money, or let it go, as it stands now."""
        kept = invoice.id in self._kept
        wanted = not invoice.queued and invoice.status not in WORDS.final
        if kept == wanted:
            return
        self._kept ^= {invoice.id}
        change = invoice.writeoff if wanted else -invoice.writeoff
        self.sums[invoice.currency] = self.sums.get(invoice.currency, ZERO) + change


class Ecart:
    """The provider; see `port.Api`."""

    prefix = ""

    def __init__(self, options: EcartOptions, parts: Parts) -> None:
        self._options = options
        self._ledger = parts.ledger
        self._clock = parts.clock
        self._post = parts.post
        self._keys = Keys(
            public_key=options.public_key,
            private_key=options.private_key,
            account_id=options.account_id,
            ttl_s=options.token_ttl_s,
            bearer=options.bearer,
        )
        self.ladder = Ladder(
            WAITS_S[: options.webhook_attempts - 1],
            delivered=lambda status: 200 <= status < 300,
            hopeless=lambda status: 400 <= status < 500,
        )
        habits = Habits(settle_s=options.settle_s, hide_s=options.find_delay_s)
        # Only where money was taken away after the create; what follows then is our guess.
        self._desk = Desk(parts, WORDS, habits, self._tell, failed=("failed", "low_balance"))
        self._holds = Holds()
        self._webhooks: list[Webhook] = []
        if options.callback_url is not None:
            stable = hashlib.sha256(options.callback_url.encode()).hexdigest()[:24]
            self._webhooks.append(Webhook(stable, options.callback_url, (CREDITED,)))
        for invoice in parts.ledger.invoices:
            self._hold(invoice)

    def route(self, call: Call) -> Action | Answer:
        if (call.method, call.path) == ("POST", "/api/authorizations/token"):
            if not self._keys.opens(call.headers.get("Authorization")):
                return views.error(401, views.WRONG_KEYS, call=call)
            return Action("token", None, lambda: answer(200, {"token": self._keys.token(call.now)}))
        if not call.path.startswith("/api/"):
            return self.error(404)
        if not self._keys.admits(call.headers.get("Authorization"), call.now):
            return views.error(401, views.INVALID_TOKEN, call=call)
        path = call.path.split("/")[2:]
        if path[0] == "payouts":
            return self._route_payouts(call, *path[1:])
        match [call.method, *path]:
            case ["GET", "transactions"]:
                return Action("list", None, lambda: self._list(call))
            case ["GET", "transactions", "summary"]:
                return Action("balances", None, self._summary)
            case ["GET", "transactions", line_id] if line_id != "balance-details":
                payout_id = views.payout_id_of(line_id) or ""
                return self._about("read", payout_id, call, self._line)
            case ["POST", "webhooks"]:
                return Action("profile", None, lambda: self._register(call))
            case ["GET", "authorizations", "credentials", "webhooks"]:
                secret = {"secret": self._options.webhook_secret}
                return Action("profile", None, lambda: answer(200, secret))
        return self.error(404)

    def _route_payouts(self, call: Call, *path: str) -> Action | Answer:
        match [call.method, *path]:
            case ["POST"]:
                return self._route_create(call)
            case ["GET"] if self._options.lookup != "off":
                return self._route_find(call)
            case ["GET", payout_id]:
                return self._about("read", payout_id, call, self._read)
            case ["PUT", payout_id, "confirm"]:
                return self._about("process", payout_id, call, self._confirm)
            case ["PUT", _]:
                return self.error(405)  # an update, which nobody here should use
        return self.error(404)

    def error(self, status: int) -> Answer:
        """As the provider, without its own code but for a token that is not taken."""
        return views.error(status, views.INVALID_TOKEN if status == 401 else None)

    def advance(self, now: float) -> None:
        self._desk.advance(now)

    def move(self, invoice: Invoice, **how: Any) -> None:
        self._desk.move(invoice, **how)

    def letter(self, invoice: Invoice, *, status: str | None, signature: str) -> Letter | None:
        webhooks = self._listening()
        return self._letter(invoice, webhooks[0], status, signature) if webhooks else None

    # Creating.

    def _route_create(self, call: Call) -> Action:
        asked = read_json(call.body)
        if asked is None:
            return Action("create", None, lambda: self._invalid("body", call))
        reference_id = asked.get("reference_id")
        if not requests.is_reference_id(reference_id):
            return Action("create", None, lambda: self._invalid("reference_id", call))
        return Action("create", reference_id, lambda: self._create(reference_id, asked, call))

    def _create(self, reference_id: str, asked: dict[str, Any], call: Call) -> Answer:
        """In what order the provider checks is our guess: form, reference, recipient, money."""
        if wrong := requests.create_fault(asked, decimals=self._options.amount_decimals):
            return self._invalid(wrong, call)
        policy = self._options.duplicate_status
        if policy != "pay-again" and reference_id in self._ledger.by_reference:
            return views.error(int(policy), views.DUPLICATE, call=call)
        if not self._knows(asked["email"]):
            return views.error(404, views.UNKNOWN_RECIPIENT, call=call)
        instruction = self._instruction(reference_id, asked)
        spending = (
            instruction.amount + instruction.fee + self._holds.sums.get(instruction.currency, ZERO)
        )
        if not self._desk.covers(instruction.currency, spending):
            return views.error(400, views.LOW_BALANCE, call=call)
        invoice = self._desk.store(instruction, call.now)
        if not asked.get("require_confirmation") or self._desk.behaviour(invoice).auto:
            self._desk.release(invoice, call.now)
        self._hold(invoice)
        return self._read(invoice, call)

    def _knows(self, email: str) -> bool:
        name = email.lower()
        return not name.startswith("unknown") and any(
            fnmatch.fnmatchcase(name, each.lower()) for each in self._options.recipients
        )

    def _instruction(self, reference_id: str, asked: dict[str, Any]) -> Instruction:
        email = asked["email"]
        # `luis+declined@example.com` asks for `declined`.
        word = email.partition("@")[0].partition("+")[2]
        return Instruction(
            id=new_id(),
            reference_id=reference_id,
            service="payout",
            amount=round(Decimal(asked["amount"]), self._options.amount_decimals),
            currency=asked["currency"],
            fee=FEE_ASKED if word == "fee" else self._options.fee,
            details={
                "email": mask(email),
                "require_confirmation": asked.get("require_confirmation") or False,
                "available_at": requests.read_moment(asked.get("available_at")),
                "authorization_id": new_id(),
                "reference": new_id(),
                "exchange": str(self._options.exchange),
            },
            asked=faults.Behaviour(status=word) if word in ASKED else faults.NOTHING,
        )

    def _hold(self, invoice: Invoice) -> None:
        if self._options.hold_on_pending:
            self._holds.look_at(invoice)

    # Confirming.

    def _confirm(self, invoice: Invoice, call: Call) -> Answer:
        asked = read_json(call.body or b"{}")
        if asked is None:
            return self._invalid("body", call)
        at = requests.read_moment(asked.get("available_at"))
        if at is None and asked.get("available_at") is not None:
            return self._invalid("available_at", call)
        closed = invoice.status in WORDS.given_back
        repeated = invoice.queued and self._options.repeat_confirm == "400"
        if closed or repeated or not invoice.details["require_confirmation"]:
            return views.error(400, views.NOT_CONFIRMABLE, call=call)
        if invoice.queued:
            return self._read(invoice, call)  # there is never a second credit
        if self._desk.behaviour(invoice).release_ignored and not invoice.ignored:
            self._ledger.record({"event": "ignored", "id": invoice.id})
            return self._read(invoice, call)
        if not self._desk.covers(invoice.currency, invoice.writeoff):
            return views.error(400, views.LOW_BALANCE, call=call)  # our guess: it stays pending
        wait_s = None if at is None else max(0.0, at - call.now)
        self._desk.release(invoice, call.now, settle_s=wait_s)
        self._hold(invoice)
        return self._read(invoice, call)

    # Reading.

    def _about(
        self, point: str, payout_id: str, call: Call, tell: Callable[[Invoice, Call], Answer]
    ) -> Action:
        invoice = self._ledger.by_id.get(payout_id)
        if invoice is None:
            return Action(point, None, lambda: views.error(404, views.UNKNOWN_PAYOUT, call=call))
        return Action(point, invoice.reference_id, lambda: tell(invoice, call))

    def _read(self, invoice: Invoice, _call: Call) -> Answer:
        return answer(200, views.payout(invoice, account_id=self._options.account_id))

    def _line(self, invoice: Invoice, call: Call) -> Answer:
        if not self._has_line(invoice):
            return views.error(404, views.UNKNOWN_PAYOUT, call=call)
        return answer(200, views.transaction(invoice, account_id=self._options.account_id))

    def _route_find(self, call: Call) -> Action:
        """By our own reference; without one, or where it is ignored, the newest (our guess)."""
        reference_id = call.arguments().get("reference_id")

        def perform() -> Answer:
            if reference_id is None or self._options.lookup == "ignored":
                shown = list(islice(self._newest_first(call.now), requests.PAGE_SIZE))
            else:
                shown = self._desk.visible(reference_id, call.now)
            form = {"account_id": self._options.account_id, "shape": self._options.list_shape}
            return answer(200, views.payouts(shown, **form))

        return Action("list" if reference_id is None else "find", reference_id or None, perform)

    def _newest_first(self, now: float, *, below: int | None = None) -> Iterator[Invoice]:
        """What look-ups show; only serial numbers below that one, if it is given."""
        invoices = self._ledger.invoices
        end = len(invoices) if below is None else min(len(invoices), below - 1)
        return (
            invoices[place] for place in range(end - 1, -1, -1) if invoices[place].visible_at <= now
        )

    def _has_line(self, invoice: Invoice) -> bool:
        """The ledger list shows money that is held or has moved (our guess)."""
        waiting = invoice.status == WORDS.created and not invoice.queued
        return self._options.hold_on_pending or not waiting

    def _list(self, call: Call) -> Answer:
        """Numbered pages up to the tenth, then by token; how the tokens work is our guess."""
        asked = call.arguments()
        read = requests.read_list(asked, size_max=self._options.page_size_max)
        if isinstance(read, str):
            return self._invalid(read, call)
        newest = self._newest_first(call.now, below=read.after)
        wanted = (each for each in newest if self._has_line(each) and read.takes(each))
        limit, before = read.limit, read.before
        if before is not None:  # the page in front of it, which begins `limit` lines earlier
            newer = list(takewhile(lambda each: each.serial > before, wanted))
            shown, more = newer[-limit:], True
        else:
            first = 0 if read.page is None else (read.page - 1) * limit
            found = list(islice(wanted, first, first + limit + 1))
            shown, more = found[:limit], len(found) > limit
        page = views.ledger_page(
            shown,
            account_id=self._options.account_id,
            page=read.page,
            limit=limit,
            more=more and bool(shown),
        )
        return answer(200, page)

    def _summary(self) -> Answer:
        return answer(200, views.summary(self._ledger.balances, self._holds.sums))

    # Webhooks.

    def _register(self, call: Call) -> Answer:
        asked = read_json(call.body)
        if asked is None:
            return self._invalid("body", call)
        if wrong := requests.webhook_fault(asked):
            return self._invalid(wrong, call)
        webhook = Webhook(new_id(), asked["url"], tuple(asked["events"]))
        self._webhooks.append(webhook)
        # The answer is not shown anywhere.
        return answer(200, {"id": webhook.id, "url": webhook.url, "events": webhook.events})

    def _listening(self) -> list[Webhook]:
        return [each for each in self._webhooks if CREDITED in each.events]

    def _tell(self, invoice: Invoice) -> None:
        """No event but this one is known for payouts, so no other end is told."""
        self._hold(invoice)
        if invoice.status in WORDS.paid:
            for webhook in self._listening():
                self._post(invoice, self._letter(invoice, webhook, None, "good"))

    def _letter(
        self, invoice: Invoice, webhook: Webhook, status: str | None, signature: str
    ) -> Letter:
        """That `data` is the payout object is our guess."""
        document = views.payout(invoice, account_id=self._options.account_id, status=status)
        data = stringify(document)
        body = stringify({"event": CREDITED, "data": document})
        timestamp = str(int(self._clock.now() * 1000))
        webhook_id = webhook.id if self._options.webhook_id == "subscription" else new_id()
        headers = {
            "Content-Type": "application/json",
            "x-pay-timestamp": timestamp,
            "x-pay-webhook-id": webhook_id,
        }
        if signature != "absent":
            headers["x-pay-signature"] = sign(
                data if self._options.sign_scope == "data" else body,
                timestamp=timestamp,
                webhook_id=webhook_id,
                secret=self._options.webhook_secret
                + ("" if signature == "good" else "-of-a-forger"),
            )
        return Letter(webhook.url, body, headers)

    def _invalid(self, wrong: str, call: Call) -> Answer:
        return views.error(400, views.INVALID, call=call, field=wrong)
