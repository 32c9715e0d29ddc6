"""The simulated provider's memory: invoices, money committed, balances and calls received.

This is the oracle: what it says was released is what would have been paid. Every change is an
event, applied to memory and appended to a file as a JSON line before the HTTP answer leaves, so a
killed simulator continues where it was. It never holds an unmasked beneficiary value: whoever
builds an event masks first.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from workers.errors import SimulatorError

Event = dict[str, Any]
ZERO = Decimal(0)


class LedgerLocked(SimulatorError):
    """Another simulator has this ledger open."""

    exit_code = 3


class LedgerDamaged(SimulatorError):
    """The ledger file cannot be read back."""


@dataclass(frozen=True, slots=True)
class Step:
    """A status at a time; ahead of it a plan, in the history a fact."""

    at: float
    status: str
    resolution: str = "ok"
    processed_amount: Decimal | None = None


@dataclass(slots=True)
class Invoice:
    """One payout as the provider keeps it; `details` is the provider's own part, masked."""

    id: str
    # Its place in the ledger, from 1.
    serial: int
    reference_id: str
    service: str
    amount: Decimal
    currency: str
    # What leaves the balance: the amount and the fee.
    writeoff: Decimal
    test_mode: bool
    created: float
    # From here on a find shows it.
    visible_at: float
    details: Mapping[str, Any]
    history: list[Step]
    ahead: deque[Step] = field(default_factory=deque)
    # Every moment at which money was committed: more than one entry is a payout made twice.
    releases: list[float] = field(default_factory=list)
    # Of the writeoff: still pending, and gone.
    held: Decimal = ZERO
    spent: Decimal = ZERO
    # A process call was answered and not acted upon.
    ignored: bool = False
    # A process call was acted upon, whether or not there was money.
    queued: bool = False

    @property
    def step(self) -> Step:
        return self.history[-1]

    @property
    def status(self) -> str:
        return self.history[-1].status


@dataclass(slots=True)
class Balance:
    """One currency of the account."""

    active: Decimal
    pending: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Swallowed:
    """A call that a fault struck, and whether it had been carried out."""

    point: str
    effect: str
    applied: bool


class Ledger:
    """Memory and file in one; see `record`.

    Args:
        path: the file, created if missing; None keeps everything in memory.

    Raises:
        LedgerLocked: another process, or another ledger of this one, has the file open.
        LedgerDamaged: a line before the last cannot be read.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.invoices: list[Invoice] = []
        self.by_id: dict[str, Invoice] = {}
        self.by_reference: dict[str, list[Invoice]] = {}
        self.balances: dict[str, Balance] = {}
        self.calls: Counter[str] = Counter()
        self.calls_of: dict[str, Counter[str]] = {}
        self.swallowed_of: dict[str, list[Swallowed]] = {}
        self.fault_uses: Counter[tuple[str, str | None]] = Counter()
        self.scripts: dict[str, str] = {}
        self.last_at = 0.0
        self._due: list[tuple[float, int, str]] = []
        self._due_serial = 0
        self._unwritten: list[str] = []
        self._file = None if path is None else _open_locked(path)
        if self._file is not None:
            self._reload(self._file)

    def record(self, event: Event) -> None:
        """Apply an event and keep it for the next `commit`; the only way anything changes."""
        self._apply(event)
        if self._file is not None:
            self._unwritten.append(json.dumps(event, separators=(",", ":")))

    def commit(self) -> None:
        """Hand all recorded events to the operating system; survives a kill of this process."""
        if self._file is None or not self._unwritten:
            return
        block = ("\n".join(self._unwritten) + "\n").encode()
        self._unwritten.clear()
        while block:
            block = block[os.write(self._file, block) :]

    def close(self) -> None:
        """Write what is left and let go of the file."""
        self.commit()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def due(self, now: float) -> Iterator[Invoice]:
        """Invoices whose next step ahead is due, earliest first; take the step before going on."""
        while self._due and self._due[0][0] <= now:
            at, _, invoice_id = heapq.heappop(self._due)
            invoice = self.by_id[invoice_id]
            # A script may have moved the invoice since, and thrown its plan away.
            if invoice.ahead and invoice.ahead[0].at == at:
                yield invoice

    def references(self) -> list[str]:
        """Every reference id heard of, in order of first call."""
        return list(dict.fromkeys([*self.calls_of, *self.by_reference]))

    def _reload(self, file: int) -> None:
        size = os.fstat(file).st_size
        lines = os.pread(file, size, 0).split(b"\n")
        torn = lines.pop()  # a whole line ends in a newline, so what follows the last one is torn
        for number, line in enumerate(lines, start=1):
            try:
                self._apply(json.loads(line))
            except (ValueError, KeyError, TypeError, ArithmeticError) as error:
                raise LedgerDamaged(f"the ledger's line {number} cannot be read") from error
        if torn:
            os.ftruncate(file, size - len(torn))

    def _apply(self, event: Event) -> None:
        self.last_at = max(self.last_at, event.get("at", 0.0))
        _APPLY[event["event"]](self, event)

    def _apply_balances(self, event: Event) -> None:
        for currency, active in event["active"].items():
            self.balances.setdefault(currency, Balance(ZERO)).active = Decimal(active)

    def _apply_clock(self, event: Event) -> None:
        """Only its time matters, and that is kept for every event."""

    def _apply_script(self, event: Event) -> None:
        self.scripts[event["reference_id"]] = event["text"]

    def _apply_invoice(self, event: Event) -> None:
        invoice = Invoice(
            id=event["id"],
            serial=len(self.invoices) + 1,
            reference_id=event["reference_id"],
            service=event["service"],
            amount=Decimal(event["amount"]),
            currency=event["currency"],
            writeoff=Decimal(event["writeoff"]),
            test_mode=event["test_mode"],
            created=event["at"],
            visible_at=event["visible_at"],
            details=event["details"],
            history=[Step(event["at"], event["status"])],
        )
        self.invoices.append(invoice)
        self.by_id[invoice.id] = invoice
        self.by_reference.setdefault(invoice.reference_id, []).append(invoice)

    def _apply_ignored(self, event: Event) -> None:
        self.by_id[event["id"]].ignored = True

    def _apply_release(self, event: Event) -> None:
        invoice = self.by_id[event["id"]]
        invoice.queued = True
        invoice.ahead = deque(
            Step(at, status, resolution) for at, status, resolution in event["ahead"]
        )
        if event["committed"]:
            invoice.releases.append(event["at"])
            self._move_money(invoice, held=invoice.held + invoice.writeoff, spent=invoice.spent)
        self._announce(invoice)

    def _apply_status(self, event: Event) -> None:
        invoice = self.by_id[event["id"]]
        if event["scripted"]:
            invoice.ahead.clear()
        else:
            invoice.ahead.popleft()
        processed = event["processed_amount"]
        step = Step(
            event["at"],
            event["status"],
            event["resolution"],
            None if processed is None else Decimal(processed),
        )
        invoice.history.append(step)
        self._move_money(invoice, held=Decimal(event["held"]), spent=Decimal(event["spent"]))
        self._announce(invoice)

    def _apply_call(self, event: Event) -> None:
        point, reference_id = event["point"], event.get("reference_id")
        self.calls[point] += 1
        if reference_id is not None:
            self.calls_of.setdefault(reference_id, Counter())[point] += 1
        if "rule" in event:
            self.fault_uses[event["rule"], reference_id] += 1
            if reference_id is not None:
                self.swallowed_of.setdefault(reference_id, []).append(
                    Swallowed(point, event["effect"], event["applied"])
                )

    def _move_money(self, invoice: Invoice, *, held: Decimal, spent: Decimal) -> None:
        balance = self.balances.setdefault(invoice.currency, Balance(ZERO))
        balance.pending += held - invoice.held
        balance.active += invoice.held + invoice.spent - held - spent
        invoice.held, invoice.spent = held, spent

    def _announce(self, invoice: Invoice) -> None:
        if invoice.ahead:
            self._due_serial += 1
            heapq.heappush(self._due, (invoice.ahead[0].at, self._due_serial, invoice.id))


_APPLY: Mapping[str, Callable[[Ledger, Event], None]] = {
    "balances": Ledger._apply_balances,
    "clock": Ledger._apply_clock,
    "script": Ledger._apply_script,
    "invoice": Ledger._apply_invoice,
    "ignored": Ledger._apply_ignored,
    "release": Ledger._apply_release,
    "status": Ledger._apply_status,
    "call": Ledger._apply_call,
}


def mask(value: Any, *, key: str = "") -> Any:
    """A beneficiary value fit to be kept: `400000******0002`, `*****6789`, `****`.

    A card number keeps its first six and last four digits, as the provider shows it; anything else
    only its last four, and nothing if it is no longer than that. Lists and objects keep their form.
    """
    if isinstance(value, dict):
        return {name: mask(each, key=name) for name, each in value.items()}
    if isinstance(value, list):
        return [mask(each, key=key) for each in value]
    text = str(value)
    if "card" in key and text.isdigit() and len(text) >= 13:
        return f"{text[:6]}{'*' * (len(text) - 10)}{text[-4:]}"
    if len(text) <= 4:
        return "*" * len(text)
    return "*" * (len(text) - 4) + text[-4:]


def _open_locked(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SimulatorError(f"the ledger {path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise LedgerLocked(f"the ledger {path} is in use by another simulator") from error
    return file
