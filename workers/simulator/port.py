"""What the shared server asks of a simulated provider: one protocol and the values it deals in."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol
from urllib.parse import parse_qsl

import simplejson

from workers.simulator.clock import SimulatorClock
from workers.simulator.faults import FaultBook
from workers.simulator.ledger import Invoice, Ledger

JSON_HEADERS: Mapping[str, str] = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTP request, read whole; `now` is the simulator's time in unix seconds."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    now: float

    def arguments(self) -> dict[str, str]:
        """The query's names and values, brackets raw or percent-encoded alike."""
        return dict(parse_qsl(self.query, keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_HEADERS)


def answer(status: int, document: Any) -> Answer:
    """A JSON answer; a Decimal becomes an exact JSON number."""
    return Answer(status, simplejson.dumps(document, separators=(",", ":")).encode())


def read_json(body: bytes) -> dict[str, Any] | None:
    """A body that is a JSON object, its fractions exact; None for anything else."""
    try:
        document = json.loads(body, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError, ArithmeticError):
        return None
    return document if isinstance(document, dict) else None


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def number(value: Decimal) -> Decimal | int:
    """An amount the way it stands in JSON: `25.5`, `25`, never `25.50` or `2.5E+1`."""
    whole = int(value)
    return whole if whole == value else value.normalize()


@dataclass(frozen=True, slots=True)
class Action:
    """A well-formed call that has not been carried out yet, so that a fault can come before it."""

    # One of `faults.POINTS`.
    point: str
    # The payout it is about, if the call names one that can be known.
    reference_id: str | None
    perform: Callable[[], Answer]


@dataclass(frozen=True, slots=True)
class Letter:
    """A callback ready to be posted."""

    url: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ladder:
    """How a provider repeats a callback that was not taken."""

    # The seconds before each repeat; past the last it gives up.
    waits_s: Sequence[float]
    # The receiver's statuses that count as delivered, and those that are never repeated.
    delivered: Callable[[int], bool]
    hopeless: Callable[[int], bool] = lambda _: False

    def wait_s(self, answers: Sequence[int]) -> float | None:
        """How long until the next try; None: there is none.

        Args:
            answers: the receiver's statuses so far, 0 for none.
        """
        last, tries = answers[-1], len(answers)
        if self.delivered(last) or self.hopeless(last) or tries > len(self.waits_s):
            return None
        return self.waits_s[tries - 1]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a simulated provider is built on."""

    ledger: Ledger
    clock: SimulatorClock
    faults: FaultBook
    # Sends a callback, with its repeats.
    post: Callable[[Invoice, Letter], None]
    # Asks the merchant once and gives the answer's status (0 for none) and body to a function.
    ask: Callable[[Letter, Callable[[int, bytes], None]], None]


class Api(Protocol):
    """A simulated provider: pure logic, no sockets."""

    # Where clients find it, below `http://host:port`.
    prefix: str
    ladder: Ladder

    def route(self, call: Call) -> Action | Answer:
        """The action that the call asks for, or the refusal of a call that asks for none."""
        ...

    def error(self, status: int) -> Answer:
        """That status in the provider's own form."""
        ...

    def advance(self, now: float) -> None:
        """Take every step that time has brought."""
        ...

    def move(
        self,
        invoice: Invoice,
        *,
        status: str,
        resolution: str,
        processed_amount: Decimal | None,
        now: float,
    ) -> None:
        """Put an invoice into a status, as the provider's staff or a bank could."""
        ...

    def letter(self, invoice: Invoice, *, status: str | None, signature: str) -> Letter | None:
        """A callback; None if there is no address for it.

        Args:
            status: a status of its history, or any word to claim; None for the present one.
            signature: `good`, `wrong` or `absent`.
        """
        ...
