"""What Payelata's errors mean, and the replies to them.

Every reading errs towards "look it up": a refusal is claimed only from the platform's own words,
and absence only from its own 404. The words that are passed on are masked.

Source: Payelata API facts, section 6; read 2026-11-21.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, NamedTuple

from workers.errors import AccountFault, ProviderUnreachable
from workers.providers.payelata_words import masked, members
from workers.providers.port import Order, Reply
from workers.providers.transport import Answer, Lost
from workers.record.status import Outcome

MESSAGES_MAX = 50
DEPTH_MAX = 8
RETRY_AFTER_S_DEFAULT = 5
RETRY_AFTER_S_MAX = 3600

# Not this payout's fault. Source: Payelata API facts, sections 2 and 6.
ACCOUNT_FAULTS: Mapping[int, str] = {
    401: "account_id or api_key is wrong, or the key was revoked",
    403: "the key may not do this, or our IP address is not on the account's white list",
    404: "base_url is wrong (with or without /api?), or the service does not exist",
    405: "base_url is wrong: the address does not take this call",
}

# Answers of servers on the way, which judge the connection and not the payout: RFC 9110, RFC 8470.
NOT_JUDGED = frozenset({408, 425})


def account_fault(status: int) -> str:
    """A sentence for whoever runs Paybatch; `status` is one of ACCOUNT_FAULTS."""
    return f"Payelata answered {status}: {ACCOUNT_FAULTS[status]}"


def without(answer: Answer | Lost, *secrets: str) -> Answer | Lost:
    """The answer, where an error's words may repeat what was sent, without our secrets."""
    if isinstance(answer, Lost) or answer.status < 400:
        return answer
    body = answer.body
    for secret in secrets:
        body = body.replace(secret.encode(), b"***")
    return replace(answer, body=body)


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
    errors = members(answer.json()).get("errors")
    found: Iterator[Message]
    if isinstance(errors, list):
        found = (message for item in errors for message in _listed(item))
    else:
        found = _nested(errors, ())
    return list(islice(found, MESSAGES_MAX))


def is_listed_error(answer: Answer) -> bool:
    """Whether the platform itself answered, with the list of errors that its 404 has."""
    errors = members(answer.json()).get("errors")
    return isinstance(errors, list) and any(isinstance(item, dict) for item in errors)


def _listed(item: Any) -> Iterator[Message]:
    told = members(item)
    words = [told.get(key) for key in ("title", "detail")]
    said = [str(value) for value in words if isinstance(value, str) and value]
    if not said:
        said = [str(told[key]) for key in ("status", "code") if isinstance(told.get(key), str)][:1]
    if not said:
        yield from _nested(item, ())
        return
    pointer = members(told.get("source")).get("pointer")
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
    return masked("; ".join(map(str, messages(answer))), order) or None


def retry_after_s(answer: Answer, default: int | None = RETRY_AFTER_S_DEFAULT) -> int | None:
    """How long the provider asks us to wait, at least a second and capped.

    A date is measured against the answer's own `Date`, so that no clock of ours matters.
    """
    asked = answer.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+", asked, re.ASCII):
        # Longer numbers are over the cap whatever they are.
        seconds = int(asked[:9])
    else:
        try:
            until = parsedate_to_datetime(asked)
            seconds = int((until - parsedate_to_datetime(answer.headers["date"])).total_seconds())
        except (ValueError, TypeError, KeyError, IndexError, OverflowError):
            return default
    return min(max(seconds, 1), RETRY_AFTER_S_MAX)


# Answers that are not what was hoped for. Source: Payelata API facts, section 6.


def lost(call: Lost) -> Reply:
    """The call got no answer."""
    return Reply(
        outcome=call.outcome,
        code=call.code,
        reason=call.reason,
        retry_after_s=call.retry_after_s,
    )


def unknown(answer: Answer, reason: str) -> Reply:
    """Nothing can be concluded."""
    return Reply(outcome=Outcome.UNKNOWN, code=str(answer.status), reason=reason)


def rate_limited(answer: Answer) -> Reply:
    """Too many calls; the provider may say how long to wait."""
    return Reply(
        outcome=Outcome.NOT_SENT,
        code="429",
        reason="too many calls",
        retry_after_s=retry_after_s(answer),
    )


def not_found(answer: Answer) -> Reply:
    """A 404 to a read: absence if the platform itself says so, nothing if a server on the way."""
    if is_listed_error(answer):
        return Reply(outcome=Outcome.NOT_FOUND, code="404")
    return unknown(answer, "not found, but not in the platform's own words")


def not_done(answer: Answer, order: Order, *, judged: bool = False) -> Reply:
    """The account's fault, too many calls, or nothing that can be concluded.

    Args:
        judged: a 4xx is the provider's judgement of the payout; equal ones may end it.
    """
    status = answer.status
    if status in ACCOUNT_FAULTS:
        fault = account_fault(status)
        return Reply(
            outcome=Outcome.ACCOUNT_FAULT, code=str(status), reason=fault, account_fault=fault
        )
    if status == 429:
        return rate_limited(answer)
    told = said(answer, order) if status >= 400 else None
    refuses = judged and 400 <= status < 500 and status not in NOT_JUDGED
    return Reply(
        outcome=Outcome.UNKNOWN,
        code=str(status),
        reason=told or f"answered {status}" + (", not followed" if 300 <= status < 400 else ""),
        refusal=f"{status}: {told or 'no message'}" if refuses else None,
        retry_after_s=retry_after_s(answer, default=None),
    )


def expect_200(answer: Answer | Lost, question: str) -> Answer:
    """The answer to a question, if it is one.

    Raises:
        AccountFault: the account or its settings are at fault.
        ProviderUnreachable: any other answer, or none.
    """
    if isinstance(answer, Lost):
        raise ProviderUnreachable(f"Payelata was asked for {question}: {answer.reason}")
    if answer.status in ACCOUNT_FAULTS:
        raise AccountFault(f"{account_fault(answer.status)} (asked for {question})")
    if answer.status != 200:
        told = said(answer) or "no message"
        raise ProviderUnreachable(
            f"Payelata was asked for {question} and answered {answer.status}: {told}"
        )
    return answer


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
