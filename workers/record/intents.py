"""Whether a claimed payout may be created now, and what is stored before it is: pure.

A record that was put back to an earlier state does not know what it sent since. Until the account
has been reconciled, a payout may be at its provider whatever the record says of it, so its first
create is preceded by a look-up, as every later one is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row

from workers.record.model import Payout
from workers.record.status import State
from workers.record.verdict import Policy, not_again

NO_LOOK_UP = "the provider offers no look-up"
LOST = (
    "the record was put back to an earlier state, and the provider offers no look-up: it may have"
    " been sent already"
)


def not_before(row: Row[Any], policy: Policy) -> datetime | None:
    """When a queued payout may be created at the earliest, because the record was put back; None:
    at once.

    What was sent right before that may be seen by no look-up yet.

    Args:
        row: the payout, and when its account was put back.
    """
    if row.state != State.QUEUED or row.restored_at is None:
        return None
    at: datetime = row.restored_at + timedelta(seconds=policy.settings.lookup_grace_s)
    return at


def looks_first(row: Row[Any], policy: Policy) -> bool:
    """Whether a queued payout is looked up before its first create too."""
    return row.state == State.QUEUED and row.restored_at is not None and policy.look_up


def why_held(row: Row[Any], payout: Payout, policy: Policy, now: datetime) -> str | None:
    """Why a payout must not be worked on by itself; None: it may.

    Args:
        payout: what the row says.
    """
    if row.state == State.UNKNOWN:
        return None if policy.look_up else NO_LOOK_UP
    if row.state != State.QUEUED:
        return None
    if row.restored_at is not None:
        # A doubt that is younger: a person has decided since that it is to be sent.
        decided = payout.doubted_at is not None and payout.doubted_at >= row.restored_at
        if not policy.look_up and not decided:
            return LOST
        payout = replace(payout, doubted_at=payout.doubted_at or row.restored_at)
    return not_again(payout, policy, now)


def doubted(row: Row[Any], now: datetime) -> Mapping[str, Any]:
    """What is stored with a payout that is held before its create."""
    return {"doubted_at": now} if row.state == State.QUEUED and row.restored_at else {}


def anew(row: Row[Any], now: datetime) -> Mapping[str, Any]:
    """What is stored with a held payout that a person has tried again: its tries count anew, and it
    is looked up before it is sent all the same.
    """
    return {
        "attempts_base": row.attempts,
        "attempts_excused": 0,
        "doubted_at": row.doubted_at or now,
        "refusal_first": None,
        "refusal_last": None,
        "repeat_until": None,
        "shape": None,
    }


def intent(row: Row[Any], policy: Policy, now: datetime) -> Mapping[str, Any]:
    """The columns of an intent to create."""
    return {
        "attempts": row.attempts + 1,
        # What was turned away was not sent: the time of what may be there counts.
        "sent_at": row.sent_at if row.doubted_at or row.repeat_until else now,
        "last_sent_at": now,
        "lookups": 0,
        "polls": 0,
        "shape": policy.shape,
    }
