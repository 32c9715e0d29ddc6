"""The writes of the sketches on other task queues: the same commits that Paybatch makes.

Each is a guarded update of the payment, and the events that tell of it; one transaction has one of
them, or two that follow each other at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# A wait shorter than this is slept; a longer one gives the place to another payment.
WAIT_HERE_S = 1

Statement = tuple[str, Mapping[str, Any]]

_BEGIN = """
UPDATE payments SET state = 'creating', attempts = attempts + 1, begun_at = clock_timestamp(),
    idempotency_key = coalesce(idempotency_key, gen_random_uuid()::text)
WHERE id = %(id)s AND state = 'queued' RETURNING attributes
"""
_MOVE = """
UPDATE payments SET state = %(to)s, provider_id = coalesce(%(provider_id)s, provider_id),
    final_at = CASE WHEN %(final)s THEN clock_timestamp() END
WHERE id = %(id)s AND state = %(from)s RETURNING id
"""
_EVENT = """
INSERT INTO payment_events (payment_id, from_state, to_state, note)
VALUES (%(id)s, %(from)s, %(to)s, %(note)s)
"""


def begin(payment_id: int) -> Sequence[Statement]:
    """The claim, and the intent to create."""
    return (_BEGIN, {"id": payment_id}), _event(payment_id, "queued", "creating", "intent")


def created(payment_id: int, provider_id: str) -> Sequence[Statement]:
    """The answer to the create, and the intent to release."""
    return (
        _move(payment_id, "creating", "created", provider_id=provider_id),
        _event(payment_id, "creating", "created", "created"),
        _event(payment_id, "created", "created", "intent to release"),
    )


def processing(payment_id: int) -> Sequence[Statement]:
    """The answer to the release."""
    return (
        _move(payment_id, "created", "processing"),
        _event(payment_id, "created", "processing", "released"),
    )


def final(payment_id: int, state: str) -> Sequence[Statement]:
    """The end."""
    return (
        _move(payment_id, "processing", state, final=True),
        _event(payment_id, "processing", state, "the provider says so"),
    )


def _move(
    payment_id: int, source: str, to: str, *, provider_id: str | None = None, final: bool = False
) -> Statement:
    return _MOVE, {
        "id": payment_id, "from": source, "to": to, "provider_id": provider_id, "final": final,
    }  # fmt: skip


def _event(payment_id: int, source: str, to: str, note: str) -> Statement:
    return _EVENT, {"id": payment_id, "from": source, "to": to, "note": note}
