"""The control API under `/_control/`: what tests and people ask of the simulator itself.

It has no password, so it answers loopback clients only; it shows masked data and nothing else.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from aiohttp import web

from workers.errors import UsageError
from workers.simulator import faults
from workers.simulator.callbacks import Callbacks, Delivery
from workers.simulator.ledger import Invoice, Ledger, Step
from workers.simulator.port import Answer, Api, Parts, answer

PREFIX = "/_control/"
# The second name is the one that the providers' pages use.
PREFIXES = (PREFIX, "/__sim/")
COPIES_MAX = 100

_PLAIN_AMOUNT = re.compile(r"-?\d{1,15}(\.\d{1,4})?", re.ASCII)
_COUNTED = {"create": "creates", "process": "processes", "read": "reads", "find": "finds"}


class BadControl(UsageError):
    """The control call cannot be carried out as written."""


class Control:
    """The routes under `/_control/`."""

    def __init__(self, api: Api, parts: Parts, callbacks: Callbacks) -> None:
        self._api = api
        self._ledger = parts.ledger
        self._clock = parts.clock
        self._faults = parts.faults
        self._callbacks = callbacks
        self._routes: dict[tuple[str, str], Callable[[str, Any], Awaitable[Any]]] = {
            ("GET", "health"): self._health,
            ("GET", "ledger"): self._read_ledger,
            ("GET", "calls"): self._read_calls,
            ("POST", "faults"): self._add_faults,
            ("DELETE", "faults"): self._clear_faults,
            ("POST", "clock"): self._move_clock,
            ("POST", "balances"): self._set_balances,
            ("POST", "invoices"): self._move_invoice,
            ("GET", "callbacks"): self._read_callbacks,
            ("POST", "callbacks"): self._send_callbacks,
        }

    async def answer(self, request: web.BaseRequest, path: str, body: bytes) -> Answer:
        """Carry out a control call; 400 with a sentence where it cannot be."""
        if request.remote is None or not ipaddress.ip_address(request.remote).is_loopback:
            return answer(403, {"error": "the control API answers loopback clients only"})
        name, _, rest = path.lstrip("/").partition("/")[2].partition("/")
        route = self._routes.get((request.method, name))
        if route is None:
            return answer(404, {"error": "no such control call"})
        try:
            asked = json.loads(body, parse_float=Decimal) if body.strip() else {}
            if not isinstance(asked, dict):
                raise BadControl("expected a JSON object")
            self._api.advance(self._clock.now())
            result = await route(rest, asked)
        except UsageError as error:
            return answer(400, {"error": str(error)})
        except ValueError:
            return answer(400, {"error": "the body is not JSON"})
        finally:
            self._ledger.commit()
        if result is None:
            return answer(404, {"error": f"nothing known of {rest}"})
        return answer(200, result)

    async def _health(self, _rest: str, _asked: Any) -> Any:
        return {"healthy": True, "now": self._clock.now(), "invoices": len(self._ledger.invoices)}

    async def _read_ledger(self, rest: str, _asked: Any) -> Any:
        references = self._ledger.references()
        if rest:
            return account_of(self._ledger, rest) if rest in references else None
        return [account_of(self._ledger, each) for each in references]

    async def _read_calls(self, _rest: str, _asked: Any) -> Any:
        return {**dict.fromkeys((*faults.POINTS[:-1], "refused"), 0), **self._ledger.calls}

    async def _add_faults(self, _rest: str, asked: Any) -> Any:
        reference_id, text = asked.get("reference_id"), asked.get("faults")
        if not isinstance(text, str) or not isinstance(reference_id, str | None):
            raise BadControl('expected {"reference_id": TEXT or null, "faults": "SPEC SPEC"}')
        script = faults.parse(text)
        self._faults.add(reference_id, script)
        return {"added": len(text.split())}

    async def _clear_faults(self, _rest: str, _asked: Any) -> Any:
        self._faults.clear()
        return {"cleared": True}

    async def _move_clock(self, _rest: str, asked: Any) -> Any:
        now = self._clock.now()
        match asked:
            case {"advance_s": int() | Decimal() as advance_s} if advance_s >= 0:
                now += faults.seconds(f"{advance_s:f}")
            case {"now": int() | Decimal() as moment} if now <= moment < 10**11:
                now = float(moment)
            case _:
                raise BadControl('expected {"advance_s": SECONDS} or {"now": UNIX}, not backwards')
        self._clock.move_to(now)
        self._ledger.record({"event": "clock", "at": now})
        self._api.advance(now)
        self._callbacks.tick()
        return {"now": now}

    async def _set_balances(self, _rest: str, asked: Any) -> Any:
        active = {currency: str(_amount(value)) for currency, value in asked.items()}
        if not active or not all(re.fullmatch("[A-Z]{3}", currency) for currency in active):
            raise BadControl('expected {"USD": "10.00"}')
        self._ledger.record({"event": "balances", "active": active})
        return {
            currency: {"active": str(balance.active), "pending": str(balance.pending)}
            for currency, balance in self._ledger.balances.items()
        }

    async def _move_invoice(self, rest: str, asked: Any) -> Any:
        invoice = self._ledger.by_id.get(rest)
        if invoice is None:
            return None
        status, processed = asked.get("status"), asked.get("processed_amount")
        resolution = asked.get("resolution", "ok")
        if not isinstance(status, str) or not isinstance(resolution, str):
            raise BadControl('expected {"status": WORD, "resolution": WORD}')
        self._api.move(
            invoice,
            status=status,
            resolution=resolution,
            processed_amount=None if processed is None else _amount(processed),
            now=self._clock.now(),
        )
        return _invoice(invoice)

    async def _read_callbacks(self, _rest: str, _asked: Any) -> Any:
        return [_delivery(each) for each in self._callbacks.deliveries]

    async def _send_callbacks(self, _rest: str, asked: Any) -> Any:
        """Once for each status in the order asked, each so many times: doubles and disorder."""
        invoice = self._ledger.by_id.get(str(asked.get("id")))
        statuses, times = asked.get("statuses", [None]), asked.get("times", 1)
        signature = asked.get("signature", "good")
        if invoice is None:
            raise BadControl('expected {"id": ID of an invoice}')
        if not isinstance(statuses, list) or not isinstance(times, int):
            raise BadControl('expected {"statuses": [WORD], "times": NUMBER}')
        if signature not in ("good", "wrong", "absent"):
            raise BadControl("expected a signature of good, wrong, absent")
        if not 1 <= times * len(statuses) <= COPIES_MAX:
            raise BadControl(f"expected 1 to {COPIES_MAX} callbacks")
        sent = []
        for status in [each for each in statuses for _ in range(times)]:
            letter = self._api.letter(invoice, status=status, signature=signature)
            if letter is None or not self._callbacks.allows(letter):
                raise BadControl("the invoice has no callback address that may be written to")
            sent.append({"status": status, "answer": await self._callbacks.send(letter)})
        return {"sent": sent}


def account_of(ledger: Ledger, reference_id: str) -> dict[str, Any]:
    """Everything the ledger knows of one reference id."""
    calls = ledger.calls_of.get(reference_id, Counter())
    return {
        "reference_id": reference_id,
        "invoices": [_invoice(each) for each in ledger.by_reference.get(reference_id, ())],
        **{name: calls.get(point, 0) for point, name in _COUNTED.items()},
        "swallowed": [
            {"point": each.point, "effect": each.effect, "applied": each.applied}
            for each in ledger.swallowed_of.get(reference_id, ())
        ],
    }


def _invoice(invoice: Invoice) -> dict[str, Any]:
    return {
        "id": invoice.id,
        "status": invoice.status,
        "resolution": invoice.step.resolution,
        "amount": str(invoice.amount),
        "currency": invoice.currency,
        "service": invoice.service,
        "writeoff": str(invoice.writeoff),
        "test_mode": invoice.test_mode,
        "created": invoice.created,
        "releases": invoice.releases,
        "pending": str(invoice.held),
        "paid_out": str(invoice.spent),
        "history": [_step(each) for each in invoice.history],
        "ahead": [_step(each) for each in invoice.ahead],
    }


def _step(step: Step) -> dict[str, Any]:
    return {"at": step.at, "status": step.status, "resolution": step.resolution}


def _delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.invoice_id,
        "status": delivery.status,
        "queued_at": delivery.queued_at,
        "tried_at": delivery.tried_at,
        "answers": delivery.answers,
        "delivered": delivery.delivered,
    }


def _amount(value: Any) -> Decimal:
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    if isinstance(value, bool) or not _PLAIN_AMOUNT.fullmatch(text):
        raise BadControl("expected an amount such as 10.00")
    return Decimal(text)
