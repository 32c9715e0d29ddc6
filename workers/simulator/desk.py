"""What every simulated provider does with a payout it has taken: store, release, settle, tell.

The provider's own file reads requests and writes answers; the desk keeps the ledger. It knows no
paths, no JSON and no provider.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from workers.errors import UsageError
from workers.simulator import faults, life
from workers.simulator.ledger import Invoice, Step
from workers.simulator.port import Parts

_STATUS_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How an account's payouts go where nothing says otherwise; times in seconds."""

    settle_s: float = 0.5
    release_s: float = 0.0
    # How long a find does not show a new payout.
    hide_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What a create asks for, as the provider has read it."""

    id: str
    reference_id: str
    service: str
    amount: Decimal
    currency: str
    fee: Decimal = Decimal(0)
    test_mode: bool = False
    # The provider's own part, masked: it is written to the ledger.
    details: Mapping[str, Any] = field(default_factory=dict)
    # How the payout is to live by the provider's own test values.
    asked: faults.Behaviour = faults.NOTHING


class Desk:
    """The payouts of one simulated provider.

    Args:
        words: the provider's status words.
        habits: where neither fault nor test value says otherwise.
        told: called after each step that a payout took; sends the callback.
        failed: the end of a payout that is released without enough money, and its resolution.
    """

    def __init__(
        self,
        parts: Parts,
        words: life.Words,
        habits: Habits,
        told: Callable[[Invoice], None],
        *,
        failed: tuple[str, str],
    ) -> None:
        self._ledger = parts.ledger
        self._clock = parts.clock
        self._faults = parts.faults
        self._words = words
        self._habits = habits
        self._told = told
        self._failed = failed

    def store(self, asked: Instruction, now: float, *, status: str | None = None) -> Invoice:
        """Store a payout, with whatever the faults change of it; no money moves."""
        ledger = self._ledger
        behaviour = self._faults.behaviour(
            asked.reference_id, len(ledger.invoices) + 1, default=asked.asked
        )
        amount = asked.amount if behaviour.amount is None else behaviour.amount
        hide_s = self._habits.hide_s if behaviour.hide_s is None else behaviour.hide_s
        ledger.record(
            {
                "event": "invoice",
                "at": now,
                "id": asked.id,
                "reference_id": asked.reference_id,
                "service": asked.service,
                "amount": str(amount),
                "currency": behaviour.currency or asked.currency,
                "writeoff": str(amount + asked.fee),
                "test_mode": asked.test_mode != behaviour.mode_flipped,
                "visible_at": now + hide_s,
                "status": status or self._words.created,
                "details": {
                    **asked.details,
                    "fee": str(asked.fee),
                    "asked_status": asked.asked.status,
                    "asked_path": asked.asked.path,
                    "asked_resolution": asked.asked.resolution,
                },
            }
        )
        return ledger.by_id[asked.id]

    def behaviour(self, invoice: Invoice) -> faults.Behaviour:
        """How a stored payout is to live."""
        details = invoice.details
        path = details["asked_path"]
        asked = faults.Behaviour(
            status=details["asked_status"],
            path=None if path is None else tuple(path),
            resolution=details["asked_resolution"],
        )
        return self._faults.behaviour(invoice.reference_id, invoice.serial, default=asked)

    def covers(self, currency: str, writeoff: Decimal) -> bool:
        """Whether the balance has that much to spend."""
        balance = self._ledger.balances.get(currency)
        return balance is not None and balance.active >= writeoff

    def release(self, invoice: Invoice, now: float, *, settle_s: float | None = None) -> None:
        """Commit the money, if there is enough, and plan the way to the end; takes what is due.

        Args:
            settle_s: the time to the end, where the provider knows it better than the habit.
        """
        behaviour = self.behaviour(invoice)
        balance = self._ledger.balances.get(invoice.currency)
        enough = balance is None or balance.active >= invoice.writeoff
        if not enough:
            status, resolution = self._failed
            behaviour = faults.Behaviour(
                settle_s=behaviour.settle_s,
                release_s=behaviour.release_s,
                status=status,
                resolution=resolution,
            )
        ahead = life.plan(
            self._words,
            behaviour,
            now,
            release_s=self._habits.release_s,
            settle_s=self._habits.settle_s if settle_s is None else settle_s,
        )
        self._release(invoice, now, ahead, committed=enough)
        self.advance(now)

    def advance(self, now: float) -> None:
        """Take every step that time has brought."""
        for invoice in self._ledger.due(now):
            self._take(invoice, invoice.ahead[0], scripted=False)

    def move(
        self,
        invoice: Invoice,
        *,
        status: str,
        resolution: str,
        processed_amount: Decimal | None,
        now: float,
    ) -> None:
        """Put a payout into a status, as the provider's staff or a bank could.

        Raises:
            UsageError: not a status word.
        """
        if not _STATUS_WORD.fullmatch(status):
            raise UsageError("expected a status of letters, digits and _")
        if status in self._words.committing and not invoice.releases:
            self._release(invoice, now, [])
        self._take(invoice, Step(now, status, resolution, processed_amount), scripted=True)

    def visible(self, reference_id: str, now: float) -> list[Invoice]:
        """What a find shows, the newest first."""
        found = self._ledger.by_reference.get(reference_id, [])
        return [each for each in reversed(found) if each.visible_at <= now]

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

    def _take(self, invoice: Invoice, step: Step, *, scripted: bool) -> None:
        """Make a step a fact, with the money it moves and the callback it causes."""
        processed = life.processed_amount(self._words, invoice, step)
        held, spent = life.money_at(self._words, invoice, step.status, processed)
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
        self._told(invoice)
