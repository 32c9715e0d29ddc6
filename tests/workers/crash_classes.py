"""Which faults are alike at a crash point, and what the design demands of a life with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.workers.crash_world import NO_ANSWER, NOT_SENT, Life
from workers.record.status import State

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
_NOT_FOUND = [("find", "404:undone"), ("find", "absent:undone")]
# Kinds of one class leave the payout, and the provider, in the same place.
CLASSES: Mapping[str, Sequence[Sequence[str]]] = {
    "commit": (("die-before", "fails"), ("die-after", "lost-but-done")),
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
}
# The boundaries of a life without faults; a test of its own says that they are these.
BASE = (
    *("commit", "commit", "create", "commit", "process", "commit"),
    *("commit", "commit", "read", "commit"),
)


def judge(life: Life) -> None:
    """The two laws, and the state that the design demands."""
    assert life.invoices <= 1, life.told()
    assert life.releases <= 1, life.told()
    struck = life.script.struck
    refused = ("create", "422:undone")
    refused_twice = struck == [("create", "400:undone")] * 2
    if refused_twice or struck[-1:] == [refused]:
        demanded = {State.FAILED}
    elif refused in struck:
        # The refusal's own record was lost: it may be refused or taken when it is sent again.
        demanded = {State.FAILED, State.PAID}
    elif struck[:1] == [("create", "differs:done")] and struck[-1] in _NOT_FOUND:
        # Not what was sent, and then not to be found: a person has to look.
        demanded = {State.HELD}
    else:
        demanded = {State.PAID}
    assert life.state in demanded, life.told()
    assert life.releases == (1 if life.state is State.PAID else 0), life.told()
