"""Which faults are alike at a crash point, and what the design demands of a life with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.workers.crash_world import NO_ANSWER, NOT_SENT, Life
from tests.workers.kinds import Kind
from workers.record.status import State
from workers.record.verdict import Policy

_UNREADABLE = ("302", "500", "502", "503", "504", "html", "garbage", "empty")
_LOST_UNDONE = tuple(f"{name}:undone" for name in (*NO_ANSWER, *_UNREADABLE))
LOST_DONE = tuple(f"{name}:done" for name in (*NO_ANSWER, *_UNREADABLE))
_UNSENT = tuple(f"{name}:undone" for name in NOT_SENT)
_ACCOUNT = ("401:undone", "403:undone", "405:undone")
_SAFE = (
    ("die-before",),
    (*_UNSENT, *_LOST_UNDONE, "400:undone", "409:undone", "422:undone"),
    _ACCOUNT,
    ("429:undone",),
)
# Kinds of one class leave the payout, and the provider, in the same place.
CLASSES: Mapping[str, Sequence[Sequence[str]]] = {
    "commit": (("die-before",), ("die-after",), ("fails",), ("lost-but-done",)),
    "create": (
        ("die-before",),
        ("die-after",),
        _UNSENT,
        _LOST_UNDONE,
        LOST_DONE,
        ("400:undone",),
        ("400:done",),
        ("409:undone",),
        ("409:done",),
        (*_ACCOUNT, "404:undone"),
        ("422:undone",),
        ("429:undone",),
        ("differs:done",),
    ),
    "process": (
        ("die-before",),
        ("die-after",),
        _UNSENT,
        (*_LOST_UNDONE, "400:undone", "404:undone", "409:undone", "422:undone"),
        (*LOST_DONE, "400:done", "409:done"),
        _ACCOUNT,
        ("429:undone",),
    ),
    "read": (*_SAFE, ("404:undone",)),
    "find": (*_SAFE, ("404:undone", "absent:undone")),
    "list": (*_SAFE, ("404:undone",)),
    "token": (*_SAFE, ("404:undone",)),
}
# A commit that fails is made again by the same worker where it records an answer. Such a life is
# one that is walked anyhow, with a commit more: a test of its own shows it, and pairs leave it out.
REPEATED = frozenset({"fails", "lost-but-done"})
# The boundaries of a life without faults; a test of its own says that they are these. A token is
# leased, fetched and kept.
TOKEN = ("commit", "token", "commit")
BASES: Mapping[str, Sequence[str]] = {
    "payelata": (
        *("commit", "commit", "create", "commit", "process", "commit"),
        *("commit", "commit", "read", "commit"),
    ),
    "ecomcharge": ("commit", "commit", "create", "commit", "commit", "commit", "read", "commit"),
    "echelon": (
        *("commit", "commit", *TOKEN, "create", "commit"),
        *("commit", "commit", "read", "commit"),
    ),
    "ecart": ("commit", "commit", *TOKEN, "create", "commit", "process", "commit"),
    "etpay": (
        *("commit", "commit", *TOKEN, "create", "commit"),
        *("commit", "commit", "read", "commit"),
    ),
}
# After these nobody knows whether the provider has the payout, and it has not.
_IN_DOUBT = {"die-before", *_LOST_UNDONE, "400:undone", "409:undone", "422:undone"}


def classes(kind: Kind, boundary: str) -> Sequence[Sequence[str]]:
    """The classes of a boundary, as far as that provider's adapter knows no finer ones."""
    found = []
    for alike in CLASSES[boundary]:
        rest = list(alike)
        for apart in kind.apart.get(boundary, ()):
            if apart < set(rest):
                found.append(sorted(apart))
                rest = [fault for fault in rest if fault not in apart]
        found.append(rest)
    return found


def judge(life: Life, can: Policy, kind: Kind) -> None:
    """The two laws, and the state that the design demands of a provider that can do that."""
    assert life.invoices <= 1, life.told()
    assert life.releases <= 1, life.told()
    if can.refused_when_absent and _lied_to_twice(life, kind):
        # It refused what it had stored, and then did not find it: that is taken for a refusal, by
        # the ruling on such providers (design, section 8).
        return
    assert life.state in _demanded(life, can, kind), life.told()
    if life.state is not State.HELD:
        assert life.releases == (1 if life.state is State.PAID else 0), life.told()


def _demanded(life: Life, can: Policy, kind: Kind) -> set[State]:
    struck = life.script.struck
    refused = ("create", "422:undone")
    unlisted = ("create", "400:undone")
    if refused in struck or struck == [unlisted] * 2:
        # A second refusal ends it too; after a create that was never answered, or with its own
        # record lost, a person must look, unless it is taken when it is sent again.
        alone = len(struck) == 1 or struck == [unlisted] * 2
        held = {State.HELD, State.PAID} if life.releases else {State.FAILED, State.HELD, State.PAID}
        may_repeat = can.may_repeat or can.refused_when_absent
        return ({State.FAILED} if may_repeat else {State.FAILED, State.HELD}) if alone else held
    if can.refused_when_absent and unlisted in struck:
        # One look-up ends it, unless that is lost too and the refusal with it.
        return {State.FAILED} if len(struck) == 1 else {State.FAILED, State.PAID, State.HELD}
    if struck[:1] == [("create", "differs:done")] and struck[-1] in kind.not_found:
        # It accepted something, but not this, and now has nothing: a person must look.
        return {State.HELD}
    if not can.may_repeat and life.invoices == 0 and _in_doubt(struck):
        # Not there, and never to be sent again: a person must look.
        return {State.HELD}
    return {State.PAID}


def _lied_to_twice(life: Life, kind: Kind) -> bool:
    struck = life.script.struck
    return struck[:1] == [("create", "400:done")] and struck[-1] in kind.not_found


def _in_doubt(struck: Sequence[tuple[str, str]]) -> bool:
    # A worker that died with a claim to create is in doubt, whatever it was doing.
    return any(
        boundary == "commit"
        or fault == "die-before"
        or (boundary == "create" and fault in _IN_DOUBT)
        for boundary, fault in struck
    )
