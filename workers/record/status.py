"""The states of a payout, the moves between them, and the outcomes of a provider's answer: the one
table.

Everything that depends on a state derives from here: the guard of every UPDATE, the README's
diagram and the property tests. No other module lists states by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """Where one payout stands. Each comment: what it means, who moves it on, may money have
    moved.
    """

    # Stored from a file, waiting for a person's approval. No money has moved.
    DRAFT = "draft"
    # Approved and waiting for a worker. No money has moved.
    QUEUED = "queued"
    # A worker has stored its intent to create it at the provider. A crash here leaves it in doubt.
    CREATING = "creating"
    # It may have been sent; the sweep has it looked up by reference id. Money may have moved.
    UNKNOWN = "unknown"
    # The provider has it and waits for its release. Money may have moved, if a release was asked
    # for.
    CREATED = "created"
    # The provider is paying it; polls and webhooks move it on. Money may have moved.
    PROCESSING = "processing"
    # The provider says that the beneficiary has the money. Only a return can follow.
    PAID = "paid"
    # The money came back after it had been paid.
    RETURNED = "returned"
    # The provider says that no money moved and none will.
    FAILED = "failed"
    # Withdrawn by a person before anything was sent.
    CANCELLED = "cancelled"
    # Only a person can tell what became of it; nothing is sent until one decides.
    HELD = "held"


class Outcome(StrEnum):
    """What a provider's answer says, whatever its words were."""

    CREATED = "created"  # it has the payout, and waits for its release
    PROCESSING = "processing"  # it has the payout, and is paying it (or uses a word no table lists)
    PAID = "paid"
    PARTLY_PAID = "partly_paid"
    REFUSED = "refused"  # final: no money moved; claimed only from the adapter's tables
    NOT_SENT = "not_sent"  # the request never left us, or was turned away unread
    NOT_FOUND = "not_found"  # a look-up that was answered: nothing under this id
    EXISTS = "exists"  # the reference id is taken, or several payouts carry it
    UNKNOWN = "unknown"  # sent, and nothing can be concluded
    RETURNED = "returned"
    ACCOUNT_FAULT = "account_fault"  # the account or our settings are at fault, not this payout


class Step(StrEnum):
    """The provider call that an answer belongs to."""

    CREATE = "create"
    PROCESS = "process"
    POLL = "poll"
    LOOK_UP = "look_up"


class Move(NamedTuple):
    """One allowed arrow and when it is taken."""

    source: State
    target: State
    when: str


MOVES = (
    Move(State.DRAFT, State.QUEUED, "approved"),
    Move(State.DRAFT, State.CANCELLED, "rejected or withdrawn"),
    Move(State.QUEUED, State.CREATING, "a worker claimed it; the intent is stored"),
    Move(State.QUEUED, State.CANCELLED, "withdrawn before any send"),
    Move(State.QUEUED, State.HELD, "its seal is broken, or its tries are used up"),
    Move(State.CREATING, State.CREATED, "the provider has it, money not released"),
    Move(State.CREATING, State.PROCESSING, "it took it in one step"),
    Move(State.CREATING, State.PAID, "paid at once"),
    Move(State.CREATING, State.FAILED, "refused: no money moved"),
    Move(State.CREATING, State.QUEUED, "proved not sent"),
    Move(State.CREATING, State.UNKNOWN, "may have been sent: no answer, or a dead worker"),
    Move(State.CREATING, State.HELD, "accepted, but not what was sent"),
    Move(State.UNKNOWN, State.CREATED, "a look-up found it, not yet released"),
    Move(State.UNKNOWN, State.PROCESSING, "a look-up found it under way"),
    Move(State.UNKNOWN, State.PAID, "a look-up found it paid"),
    Move(State.UNKNOWN, State.FAILED, "a look-up found it refused, or absent after equal refusals"),
    Move(State.UNKNOWN, State.QUEUED, "absence proven, and the provider refuses duplicates"),
    Move(State.UNKNOWN, State.HELD, "past its limits, two hits, or something differs"),
    Move(State.CREATED, State.PROCESSING, "release asked for, or already under way"),
    Move(State.CREATED, State.PAID, "a read says so"),
    Move(State.CREATED, State.FAILED, "a read says so"),
    Move(State.CREATED, State.HELD, "something differs, or its releases are used up"),
    Move(State.PROCESSING, State.PAID, "a poll, webhook or look-up says so"),
    Move(State.PROCESSING, State.FAILED, "a poll, webhook or look-up says so"),
    Move(State.PROCESSING, State.HELD, "partly paid, or open past its limit"),
    Move(State.PAID, State.RETURNED, "money came back"),
    Move(State.HELD, State.QUEUED, "a person decided"),
    Move(State.HELD, State.UNKNOWN, "a person decided"),
    Move(State.HELD, State.CREATED, "a person decided"),
    Move(State.HELD, State.PROCESSING, "a person decided"),
    Move(State.HELD, State.PAID, "a person decided"),
    Move(State.HELD, State.FAILED, "a person decided"),
    Move(State.HELD, State.CANCELLED, "a person decided"),
)

_SOURCES: Mapping[State, frozenset[State]] = {
    target: frozenset(move.source for move in MOVES if move.target is target) for target in State
}
_TARGETS: Mapping[State, frozenset[State]] = {
    source: frozenset(move.target for move in MOVES if move.source is source) for source in State
}

# Final: nothing will change it but, for PAID, a return.
FINAL = frozenset({State.PAID, State.RETURNED, State.FAILED, State.CANCELLED})
# Approved and not final: its money is promised (design, "Money promised").
PROMISED = frozenset(State) - FINAL - {State.DRAFT}
# Of those, the money can still be spent as far as we know: nobody is told to be paying it.
UNSPENT = PROMISED - {State.PROCESSING}
# The provider has moved the money, for good or, for RETURNED, until it came back.
MOVED = frozenset({State.PAID, State.RETURNED})
# Of these it is told why.
TURNED_DOWN = frozenset({State.FAILED, State.RETURNED})
# The provider may have it: it must never be created again without a look-up.
MAYBE_SENT = frozenset({State.CREATING, State.UNKNOWN, State.CREATED, State.PROCESSING})
# Work that goes on by itself; a batch with none of these is completed.
OPEN = MAYBE_SENT | {State.QUEUED}


def is_allowed(source: State, target: State) -> bool:
    """Whether the table has this arrow."""
    return target in _TARGETS[source]


def sources_of(target: State) -> frozenset[State]:
    """The states from which a payout may come to `target`: the guard of the UPDATE that moves
    it.
    """
    return _SOURCES[target]


def is_final(state: State) -> bool:
    """Whether the payout is settled."""
    return state in FINAL


def diagram() -> str:
    """The moves as a Mermaid state diagram; the README shows it and a test compares the two."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.DRAFT}"]
    lines += [
        f"    {move.source} --> {move.target}: {move.when.split(':')[0].replace(';', ',')}"
        for move in MOVES
        if move.source is not State.HELD
    ]
    decided = ", ".join(move.target for move in MOVES if move.source is State.HELD)
    lines.append(f"    note right of {State.HELD}: a person decides, to {decided}")
    lines += [f"    {state} --> [*]" for state in State if state in FINAL]
    return "\n".join(lines)
