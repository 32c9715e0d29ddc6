"""The fault language: what a simulated provider does wrong, written as a few words.

The same words are taken from a flag, from a control call and from the row itself (the create
body's `metadata.simulate`), blank separated:

    create:drop-after            the first create of each reference is stored, then cut off
    create:503*2 find:hang*0     two refusals, then none; a find that never answers, always
    status=process_failed        how the invoice ends

`POINT:EFFECT[*TIMES]` harms a call, `WORD[=VALUE]` changes an invoice's life. TIMES counts for
each reference id by itself (1 unless told, 0 for always), and a call suffers one fault only: the
first that is left of the row's, then of the control calls', then of the flags'. An effect that
ends in `-after` strikes when the call has been carried out, the others before anything happened.
`429=5` asks for a `Retry-After` of five seconds; without a number it is one.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any

from workers.errors import UsageError

POINTS = (
    "create",
    "process",
    "read",
    "find",
    "list",
    "balances",
    "profile",
    "services",
    "prerequest",
    "token",
    "precheck",
    "any",
)
STATUSES = (302, 400, 401, 403, 404, 405, 409, 422, 429, 500, 502, 503, 504)
# These strike before or after the call has been carried out.
EITHER = ("drop", "reset", "hang", "drip", "html")
# These spoil an answer, so there has to be one.
AFTER_ONLY = ("garbage", "empty", "cut", "huge")

# A day: longer than any test waits, short enough to catch a number in milliseconds.
SECONDS_MAX = 86_400
TIMES_MAX = 1_000_000
WORDS_MAX = 50

_FAULT = re.compile(
    r"(?P<point>[a-z]+):(?P<name>[a-z]+|\d{3})(?P<after>-after)?"
    r"(?:=(?P<seconds>[^*]+))?(?:\*(?P<times>\d{1,7}))?"
)
_STATUS_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_AMOUNT = re.compile(r"\d{1,15}(\.\d{1,4})?", re.ASCII)
_SECONDS = re.compile(r"\d{1,6}(\.\d{1,6})?", re.ASCII)


class BadSpec(UsageError):
    """A fault is not written in the fault language."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What the client sees: `Effect("drop", applied=True)` is `drop-after`."""

    kind: str
    applied: bool
    status: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """An effect at a point, for so many calls of each reference id; 0 means always."""

    point: str
    effect: Effect
    times: int
    text: str

    def meets(self, point: str) -> bool:
        return self.point in (point, "any")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How an invoice lives; None and False leave the simulator's own settings as they are."""

    # From processing to the last status of the path.
    settle_s: float | None = None
    status: str | None = None
    resolution: str | None = None
    # Statuses walked through after processing, the last one final.
    path: tuple[str, ...] | None = None
    # How long a find does not show the new invoice.
    hide_s: float | None = None
    amount: Decimal | None = None
    currency: str | None = None
    mode_flipped: bool = False
    # How long the invoice reads `created` after a process call that counted.
    release_s: float | None = None
    release_ignored: bool = False
    auto: bool = False
    # From the end of the path to `canceled`.
    returned_s: float | None = None

    def under(self, over: Behaviour) -> Behaviour:
        """This one, with whatever `over` says in its place."""
        if over == NOTHING:
            return self
        values = {field.name: getattr(over, field.name) for field in fields(over)}
        # By identity: a settle time of 0 is said, though it equals False.
        said = {
            name: value
            for name, value in values.items()
            if value is not None and value is not False
        }
        if over.status or over.path:  # one of them tells the whole way, so the other goes with it
            said.update(status=over.status, path=over.path)
        return replace(self, **said)


NOTHING = Behaviour()


@dataclass(frozen=True, slots=True)
class Script:
    """A parsed specification: the calls it harms and the life it gives an invoice."""

    faults: tuple[Fault, ...] = ()
    behaviour: Behaviour = NOTHING


def parse(text: str) -> Script:
    """Read a specification of blank-separated words.

    Raises:
        BadSpec: a word that is not in the language; the message names it and what was expected.
    """
    words = text.split()
    if len(words) > WORDS_MAX:
        raise BadSpec(f"at most {WORDS_MAX} fault words, found {len(words)}")
    faults = tuple(_parse_fault(word) for word in words if ":" in word)
    behaviour = NOTHING
    said: set[str] = set()
    for word in words:
        if ":" in word:
            continue
        name, value = _parse_word(word)
        if name in said or {name} | said >= {"status", "path"}:
            raise BadSpec(f"fault {word!r}: said twice, or both status and path")
        said.add(name)
        behaviour = replace(behaviour, **{name: value})
    return Script(faults, behaviour)


def seconds(text: str) -> float:
    """A plain number of seconds, at most a day.

    Raises:
        BadSpec: anything else.
    """
    if not _SECONDS.fullmatch(text) or float(text) > SECONDS_MAX:
        raise BadSpec(f"expected seconds from 0 to {SECONDS_MAX}, found {text!r}")
    return float(text)


def _parse_fault(word: str) -> Fault:
    match = _FAULT.fullmatch(word)
    if match is None or match["point"] not in POINTS:
        raise BadSpec(f"fault {word!r}: expected POINT:EFFECT[*TIMES], POINT of {_or(POINTS)}")
    times = 1 if match["times"] is None else int(match["times"])
    if times > TIMES_MAX:
        raise BadSpec(f"fault {word!r}: at most {TIMES_MAX} times")
    effect = _parse_effect(word, match["name"], match["after"] is not None, match["seconds"])
    return Fault(match["point"], effect, times, word.partition("*")[0])


def _parse_effect(word: str, name: str, after: bool, delay: str | None) -> Effect:
    if name == "slow" and delay is not None and not after:
        return Effect("slow", applied=True, seconds=seconds(delay))
    if name == "429":
        return Effect("status", after, 429, seconds(delay) if delay else 1.0)
    if delay is None:
        if name.isdigit() and int(name) in STATUSES:
            return Effect("status", after, int(name))
        if name in EITHER or (name in AFTER_ONLY and after):
            return Effect(name, after)
    known = [*EITHER, *(f"{each}-after" for each in AFTER_ONLY), "slow=SECONDS", "429=SECONDS"]
    raise BadSpec(f"fault {word!r}: expected an effect of {_or(known)} or a status of {STATUSES}")


def _parse_word(word: str) -> tuple[str, Any]:
    """The field of Behaviour that the word sets, and its value."""
    name, equals, value = word.partition("=")
    if name in _FLAGS and not equals:
        return _FLAGS[name], True
    if name in _VALUES and value:
        field, read = _VALUES[name]
        try:
            return field, read(value)
        except (BadSpec, ValueError) as error:
            raise BadSpec(f"fault {word!r}: {error}") from error
    raise BadSpec(f"fault {word!r}: expected {_or([*_FLAGS, *(f'{each}=' for each in _VALUES)])}")


def _status_word(text: str) -> str:
    if not _STATUS_WORD.fullmatch(text):
        raise BadSpec("expected a word of letters, digits and _")
    return text


def _path(text: str) -> tuple[str, ...]:
    return tuple(_status_word(word) for word in text.split(">"))


def _amount(text: str) -> Decimal:
    if not _AMOUNT.fullmatch(text):
        raise BadSpec("expected a plain decimal")
    return Decimal(text)


def _currency(text: str) -> str:
    if not re.fullmatch("[A-Z]{3}", text):
        raise BadSpec("expected three capital letters")
    return text


def _or(words: Iterable[str]) -> str:
    return ", ".join(words)


_FLAGS = {"mode-flipped": "mode_flipped", "release-ignored": "release_ignored", "auto": "auto"}
_VALUES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "settle": ("settle_s", seconds),
    "status": ("status", _status_word),
    "resolution": ("resolution", _status_word),
    "path": ("path", _path),
    "hide": ("hide_s", seconds),
    "amount": ("amount", _amount),
    "currency": ("currency", _currency),
    "release": ("release_s", seconds),
    "returned": ("returned_s", seconds),
}


@dataclass(frozen=True, slots=True)
class Taken:
    """The fault that a call suffers; `rule` is what its uses are counted under."""

    rule: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a script came from; `reference_id` None means every call."""

    name: str
    reference_id: str | None
    script: Script


class FaultBook:
    """Every fault in force.

    `uses` is kept by the ledger, since a restarted provider must not repeat a fault that is used
    up: it maps (rule, reference id) to how often the rule struck.
    """

    def __init__(
        self, flags: Script, *, every: int, uses: Mapping[tuple[str, str | None], int]
    ) -> None:
        self._flags = flags
        self._every = every
        self._uses = uses
        self._control: list[_Source] = []
        self._rows: dict[str, Script] = {}
        self._met: dict[str, int] = {}

    def add(self, reference_id: str | None, script: Script) -> None:
        """Put a script in force by control call, for one reference id or for all."""
        # The random part keeps the uses of an earlier run, known from the ledger, apart.
        name = f"control-{secrets.token_hex(4)}"
        self._control.append(_Source(name, reference_id, script))

    def learn(self, reference_id: str, script: Script) -> None:
        """Keep what a row says about its own reference id."""
        self._rows[reference_id] = script

    def clear(self) -> None:
        """Take back what flags and control calls said; a row keeps its own word."""
        self._control.clear()
        self._flags = Script()

    def take(self, point: str, reference_id: str | None) -> Taken | None:
        """The fault this call suffers; the caller records its use in the ledger."""
        if reference_id is not None and reference_id in self._rows:
            taken = self._first(
                "row", self._rows[reference_id].faults, point, reference_id, every=1
            )
            if taken:
                return taken
        for source in self._control:
            if source.reference_id in (None, reference_id):
                taken = self._first(source.name, source.script.faults, point, reference_id, every=1)
                if taken:
                    return taken
        return self._first("flag", self._flags.faults, point, reference_id, every=self._every)

    def behaviour(self, reference_id: str, serial: int, *, default: Behaviour) -> Behaviour:
        """How the invoice lives.

        Args:
            serial: which invoice of the ledger it is, from 1; flags touch every Nth.
            default: what the provider's own test fields ask for.
        """
        merged = self._flags.behaviour if serial % self._every == 0 else NOTHING
        merged = merged.under(default)
        if reference_id in self._rows:
            merged = merged.under(self._rows[reference_id].behaviour)
        for source in self._control:
            if source.reference_id in (None, reference_id):
                merged = merged.under(source.script.behaviour)
        return merged

    def _first(
        self,
        source: str,
        faults: tuple[Fault, ...],
        point: str,
        reference_id: str | None,
        *,
        every: int,
    ) -> Taken | None:
        for place, fault in enumerate(faults):
            if not fault.meets(point):
                continue
            rule = f"{source}:{place}:{fault.text}"
            if fault.times and self._uses.get((rule, reference_id), 0) >= fault.times:
                continue
            if every > 1:
                self._met[rule] = self._met.get(rule, 0) + 1
                if self._met[rule] % every:
                    continue
            return Taken(rule, fault)
        return None
