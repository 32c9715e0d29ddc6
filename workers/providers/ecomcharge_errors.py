"""What eComCharge's errors mean, and the replies to them.

Every reading errs towards "look it up": a refusal is claimed only from the platform's own codes and
from its errors of single fields, and absence only from its own 404. The words that are passed on
are masked.

Source: eComCharge payout API facts, sections 6 and 7; read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from workers.providers import wire
from workers.providers.ecomcharge_config import EComChargeConfig
from workers.providers.ecomcharge_words import (
    PROVIDER,
    Means,
    entries,
    holds,
    means_of,
    named,
    word,
)
from workers.providers.port import Order, Reply
from workers.providers.transport import Answer
from workers.record.status import Outcome

MESSAGES_MAX = 50
WORDS_READ_MAX = 10_000
DEPTH_MAX = 8

# The whole account's fault. Source: section 7.
ACCOUNT_FAULTS: Mapping[int, str] = {
    401: "shop_id or secret_key is wrong",
    403: "the shop may not make this call",
    404: "base_url or create_path is wrong (with or without /beyag?)",
    405: "base_url or create_path is wrong: the address does not take this call",
}
# Answers of servers on the way, which judge the connection and not the payout: RFC 9110, RFC 8470.
NOT_JUDGED = frozenset({408, 425})


class Message(NamedTuple):
    """One fault that the platform tells: `Message(("amount",), "is missing")`."""

    path: tuple[str, ...]
    words: str

    def __str__(self) -> str:
        return ": ".join(part for part in (".".join(self.path), self.words) if part)


def messages(document: Any) -> list[Message]:
    """The faults under `errors`, whatever their shape: nested objects, lists or text."""
    told = wire.members(document)
    errors = told.get("errors") or wire.members(told.get("response")).get("errors")
    return list(islice(_nested(errors, ()), MESSAGES_MAX))


def _nested(value: Any, path: tuple[str, ...], depth: int = 0) -> Iterator[Message]:
    if depth > DEPTH_MAX:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            # `request` wraps what was sent, `base` what is tied to no field.
            step = () if key in ("request", "base") else (key,)
            yield from _nested(inner, (*path, *step), depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _nested(inner, path, depth + 1)
    elif isinstance(value, str) and value:
        yield Message(path, value)


def said(answer: Answer, order: Order | None = None) -> str | None:
    """The platform's words on what is wrong, masked; None where it has none."""
    document = answer.json()
    told = wire.members(document)
    words = [str(message) for message in messages(document)]
    if not words:
        inner = wire.members(told.get("response"))
        found = (told.get("friendly_message"), told.get("message"), inner.get("message"))
        words = list(dict.fromkeys(filter(None, map(wire.text, found))))
    return wire.masked("; ".join(words), order) or None


def _repeats(answer: Answer, order: Order, config: EComChargeConfig) -> bool:
    """Whether any words of the answer say that the payout, or its key, is known already: it may
    have been stored under an earlier request, or be at work still.
    """
    document = answer.json()
    told = wire.members(document)
    places = (told, wire.members(told.get("response")), *(entries(document) or ()))
    texts = [str(message) for message in messages(document)]
    for place in places:
        texts += [wire.text(place.get(name)) or "" for name in ("friendly_message", "message")]
    told_as = wire.masked("; ".join(texts), order, chars_max=WORDS_READ_MAX)
    return holds(told_as, config.duplicate_words)


def refusal(answer: Answer, order: Order) -> str:
    """Why the platform would refuse: its code and words, masked."""
    code = word(wire.members(answer.json()).get("code"), order)
    return named(code, said(answer, order) or f"answered {answer.status} without a reason")


def not_found(answer: Answer, config: EComChargeConfig) -> Reply:
    """A 404 to a read: absence in the platform's own words, nothing from a server on the way."""
    if (said(answer) or "").lower() in config.absent_words:
        return Reply(outcome=Outcome.NOT_FOUND, code="404")
    return wire.unknown(answer, "not found, but not in the platform's own words")


def not_done(answer: Answer, order: Order) -> Reply:
    """The account's fault, too many calls, or nothing that can be concluded."""
    status = answer.status
    if status in ACCOUNT_FAULTS:
        return wire.account_fault(PROVIDER, status, ACCOUNT_FAULTS[status])
    if status == 429:
        return wire.rate_limited(answer)
    told = said(answer, order) if status >= 400 else None
    return Reply(
        outcome=Outcome.UNKNOWN,
        code=str(status),
        reason=told or f"answered {status}" + (", not followed" if 300 <= status < 400 else ""),
        retry_after_s=wire.retry_after_s(answer, default=None),
    )


def not_created(answer: Answer, order: Order, config: EComChargeConfig) -> Reply:
    """What an answer to a create means that names no payout of ours."""
    status = answer.status
    if status == 409:
        words = said(answer, order) or "perhaps the same request is still at work"
        return Reply(outcome=Outcome.EXISTS, code="409", reason=words)
    judges = 400 <= status < 500 and status not in ACCOUNT_FAULTS
    if judges and _repeats(answer, order, config):
        reply = wire.rate_limited(answer) if status == 429 else _unsure(answer, order)
        return replace(reply, outcome=Outcome.EXISTS, refusal=None)
    if status in (400, 422):
        return _judged(answer, order, config)
    if status == 429 and not config.rate_limited_is_not_created:
        return replace(wire.rate_limited(answer), outcome=Outcome.UNKNOWN)
    if 200 <= status < 300:
        return _without_id(answer, order, config)
    unsure = not_done(answer, order)
    if unsure.outcome is Outcome.UNKNOWN and 400 <= status < 500 and status not in NOT_JUDGED:
        return replace(unsure, refusal=f"{status}: {said(answer, order) or 'no message'}")
    return unsure


def _without_id(answer: Answer, order: Order, config: EComChargeConfig) -> Reply:
    """Accepted, but there is no id: `error` is the platform's word for a request not accepted."""
    told = (entries(answer.json()) or [{}])[0]
    if str(told.get("status")).lower() != "error":
        return wire.unknown(answer, "no payout with an id in the answer")
    reason = wire.masked(wire.text(told.get("message")) or "no message", order)
    if _repeats(answer, order, config):
        return Reply(outcome=Outcome.EXISTS, status="error", code="error", reason=reason)
    if config.error_is_refusal:
        return Reply(outcome=Outcome.REFUSED, status="error", code="error", reason=reason)
    return replace(wire.unknown(answer, reason), refusal=f"error: {reason}")


def _unsure(answer: Answer, order: Order) -> Reply:
    """Nothing can be concluded of the platform's own words."""
    code, reason = word(wire.members(answer.json()).get("code"), order), said(answer, order)
    return Reply(
        outcome=Outcome.UNKNOWN,
        code=code or str(answer.status),
        reason=reason,
        refusal=f"{answer.status}: {named(code, reason or 'no message')}",
    )


def _judged(answer: Answer, order: Order, config: EComChargeConfig) -> Reply:
    """A 400 or 422 without a payout: refused where a table or the errors of fields say so."""
    document = answer.json()
    raw = wire.members(document).get("code")
    means, code = means_of(raw), word(raw, order)
    unsure = _unsure(answer, order)
    reason = unsure.reason
    told = named(code, reason or "no message")
    if means is Means.DUPLICATE:
        return replace(unsure, outcome=Outcome.EXISTS, refusal=None)
    if "transaction" in wire.members(document):
        return _without_id(answer, order, config)
    if means in (Means.OPEN, Means.ABSENT, Means.DONE):
        return replace(unsure, refusal=None)
    faults = messages(document)
    if any(fault.path and fault.path[0] in config.unsure_fields for fault in faults):
        return unsure
    low = means is Means.FUNDS or holds(reason or "", config.low_balance_words)
    if low or means is Means.SETUP:
        return wire.account_fault(PROVIDER, answer.status, told, low_balance=low)
    # Section 6: an E code that no table lists, on a 4xx with errors, created nothing either.
    of_fields = bool(faults) and (code is None or code.startswith("E."))
    return replace(unsure, outcome=Outcome.REFUSED, refusal=None) if means or of_fields else unsure
