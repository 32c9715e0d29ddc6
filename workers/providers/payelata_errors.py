"""What Payelata's errors mean, and the replies to them.

Every reading errs towards "look it up": a refusal is claimed only from the platform's own words,
and absence only from its own 404. The words that are passed on are masked.

Source: Payelata API facts, section 6; read 2026-11-21.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from workers.providers import wire
from workers.providers.port import Order, Reply
from workers.providers.transport import Answer, Lost
from workers.record.status import Outcome

MESSAGES_MAX = 50
DEPTH_MAX = 8

# Not this payout's fault. Source: Payelata API facts, sections 2 and 6.
ACCOUNT_FAULTS: Mapping[int, str] = {
    401: "account_id or api_key is wrong, or the key was revoked",
    403: "the key may not do this, or our IP address is not on the account's white list",
    404: "base_url is wrong (with or without /api?), or the service does not exist",
    405: "base_url is wrong: the address does not take this call",
}

# Answers of servers on the way, which judge the connection and not the payout: RFC 9110, RFC 8470.
NOT_JUDGED = frozenset({408, 425})


class Message(NamedTuple):
    """One fault that the provider tells: `Message(("amount",), "This value should be ...")`."""

    path: tuple[str, ...]
    words: str

    def __str__(self) -> str:
        return ": ".join(part for part in (".".join(self.path), self.words) if part)


def messages(answer: Answer) -> list[Message]:
    """The faults in an answer's body, in the list form or in the object form, nested or not.

    Source: Payelata API facts, section 6.
    """
    errors = wire.members(answer.json()).get("errors")
    found: Iterator[Message]
    if isinstance(errors, list):
        found = (message for item in errors for message in _listed(item))
    else:
        found = _nested(errors, ())
    return list(islice(found, MESSAGES_MAX))


def is_listed_error(answer: Answer) -> bool:
    """Whether the platform itself answered, with the list of errors that its 404 has."""
    errors = wire.members(answer.json()).get("errors")
    return isinstance(errors, list) and any(isinstance(item, dict) for item in errors)


def _listed(item: Any) -> Iterator[Message]:
    told = wire.members(item)
    words = [told.get(key) for key in ("title", "detail")]
    said = [str(value) for value in words if isinstance(value, str) and value]
    if not said:
        said = [str(told[key]) for key in ("status", "code") if isinstance(told.get(key), str)][:1]
    if not said:
        yield from _nested(item, ())
        return
    pointer = wire.members(told.get("source")).get("pointer")
    path = pointer.strip("/").split("/") if isinstance(pointer, str) else []
    yield Message(
        tuple(part for part in path if part not in ("", "data", "attributes")),
        ", ".join(dict.fromkeys(said)),
    )


def _nested(value: Any, path: tuple[str, ...], depth: int = 0) -> Iterator[Message]:
    if depth > DEPTH_MAX:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _nested(inner, (*path, *_steps(key)), depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _nested(inner, path, depth + 1)
    elif isinstance(value, str) and value:
        yield Message(path, value)


def _steps(key: str) -> tuple[str, ...]:
    """`data.attributes.fields.pan`, `fields[pan]` and nested objects name the same field."""
    steps = re.split(r"[.\[\]/]+", key)
    return tuple(step for step in steps if step not in ("", "data", "attributes"))


def said(answer: Answer, order: Order | None = None) -> str | None:
    """The provider's words on what is wrong, masked; None where it has none."""
    return wire.masked("; ".join(map(str, messages(answer))), order) or None


# Answers that are not what was hoped for. Source: Payelata API facts, section 6.


def not_found(answer: Answer) -> Reply:
    """A 404 to a read: absence if the platform itself says so, nothing if a server on the way."""
    if is_listed_error(answer):
        return Reply(outcome=Outcome.NOT_FOUND, code="404")
    return wire.unknown(answer, "not found, but not in the platform's own words")


def not_done(answer: Answer, order: Order, *, judged: bool = False) -> Reply:
    """The account's fault, too many calls, or nothing that can be concluded.

    Args:
        judged: a 4xx is the provider's judgement of the payout; equal ones may end it.
    """
    status = answer.status
    if status in ACCOUNT_FAULTS:
        return wire.account_fault("Payelata", status, ACCOUNT_FAULTS[status])
    if status == 429:
        return wire.rate_limited(answer)
    told = said(answer, order) if status >= 400 else None
    refuses = judged and 400 <= status < 500 and status not in NOT_JUDGED
    return Reply(
        outcome=Outcome.UNKNOWN,
        code=str(status),
        reason=told or f"answered {status}" + (", not followed" if 300 <= status < 400 else ""),
        refusal=f"{status}: {told or 'no message'}" if refuses else None,
        retry_after_s=wire.retry_after_s(answer, default=None),
    )


def expect_200(answer: Answer | Lost, question: str) -> Answer:
    """The answer to a question, if it is one; raises as `wire.expect_200` does."""
    return wire.expect_200(answer, question, "Payelata", faults=ACCOUNT_FAULTS, said=said)


_BENEFICIARY = frozenset({"fields", "context", "customer"})
_OWN = frozenset({"reference_id", "amount", "currency", "service"})


def _is_beneficiary(path: Sequence[str], order: Order) -> bool:
    """Whether a message is about the beneficiary: it never speaks of balance or reference id."""
    first = path[0] if path else ""
    return first in _BENEFICIARY or (first in order.fields and first not in _OWN)


def _holds(messages: Sequence[Message], wanted: Sequence[str]) -> bool:
    return any(part.lower() in message.words.lower() for message in messages for part in wanted)


def refused(
    answer: Answer,
    order: Order,
    *,
    duplicate_words: Sequence[str],
    low_balance_words: Sequence[str],
) -> Reply:
    """What a 422 means: the payout is refused with the provider's words, unless they blame the
    reference id or the balance. Source: Payelata API facts, sections 6 and 12.
    """
    told = messages(answer)
    reason = said(answer, order)
    refusal = f"422: {reason or 'no message'}"
    unsure = Reply(outcome=Outcome.UNKNOWN, code="422", reason=reason, refusal=refusal)
    own = [message for message in told if not _is_beneficiary(message.path, order)]
    if any(message.path[-1:] == ("reference_id",) for message in own):
        return replace(unsure, outcome=Outcome.EXISTS)
    if not told or _holds(told, duplicate_words):
        return unsure
    if _holds(own, low_balance_words):
        return Reply(
            outcome=Outcome.ACCOUNT_FAULT,
            code="422",
            reason=reason,
            account_fault=f"Payelata refuses for lack of money: {reason}",
            low_balance=True,
        )
    return Reply(outcome=Outcome.REFUSED, code="422", reason=reason)
