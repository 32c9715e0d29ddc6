"""What Ecart Pay's errors mean, and the replies to them.

A refusal is claimed only from a code that a table lists, and never from words, which are in the
language of the account. Every other reading errs towards "look it up".

Source: Ecart Pay payouts, adapter and simulator reference, section 10; read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from workers.providers import wire
from workers.providers.ecart_config import ErrorClass
from workers.providers.port import Order, Reply
from workers.providers.transport import Answer, Lost
from workers.record.status import Outcome

NAME = "Ecart Pay"

# Not this payout's fault.
ACCOUNT_FAULTS: Mapping[int, str] = {
    401: "public_key or private_key is wrong, or the pair was revoked",
    403: "the keys may not do this: a scope, the account's level or its verification",
    404: "base_url or a path of the settings is wrong",
    405: "base_url or a path of the settings is wrong: the address does not take this call",
}
CLASS_FAULTS: Mapping[ErrorClass, str] = {
    "token": ACCOUNT_FAULTS[401],
    "low_balance": "the balance is too small",
    "account": "the account cannot pay",
}
# Answers of servers on the way, which judge the connection and not the payout: RFC 9110, RFC 8470.
NOT_JUDGED = frozenset({408, 425})
# A refused key, right or address judges no payout, whatever class its code has.
NO_JUDGEMENTS = frozenset({401, 403, 405})
MESSAGES_MAX = 20


def error_code(answer: Answer) -> int | None:
    """The provider's own numeric code: it, and no server on the way, has answered."""
    code = wire.number(wire.members(answer.json()).get("code"))
    return int(code) if code is not None and code == code.to_integral_value() else None


def is_own(answer: Answer) -> bool:
    """Whether an error has a code of the provider's; one that repeats the HTTP status is the web
    server's, as in `{"statusCode": 404, "message": "Route not found", "code": 404}`.
    """
    return error_code(answer) not in (None, answer.status)


def said(answer: Answer, order: Order | None = None) -> str | None:
    """The provider's code and words on what is wrong, masked; None where it has none."""
    code, told = error_code(answer), wire.members(answer.json()).get("message")
    texts = [wire.text(one) for one in (told if isinstance(told, list) else [told])]
    parts = ["" if code is None else f"code {code}", *texts[:MESSAGES_MAX]]
    return wire.masked(": ".join(part for part in parts if part), order) or None


def expect_200(answer: Answer | Lost, question: str) -> Answer:
    """The answer to a question, if it is one; raises as `wire.expect_200` does."""
    return wire.expect_200(answer, question, NAME, faults=ACCOUNT_FAULTS, said=said)


class Errors:
    """The replies to answers that are not what was hoped for, by the classes of their codes."""

    def __init__(self, classes: Mapping[int, ErrorClass]) -> None:
        self._classes = classes

    def kind(self, answer: Answer) -> ErrorClass | None:
        """What the provider's code means; only of a 4xx, which is a judgement."""
        code = error_code(answer) if 400 <= answer.status < 500 else None
        kind = None if code is None else self._classes.get(code)
        judges = kind in ("validation", "duplicate")
        return None if judges and answer.status in NO_JUDGEMENTS else kind

    def refuses_token(self, answer: Answer | Lost) -> bool:
        """Whether a new token is to be asked for."""
        return isinstance(answer, Answer) and (answer.status == 401 or self.kind(answer) == "token")

    def refused(self, answer: Answer, order: Order) -> Reply:
        """What an error means that answered a create."""
        if answer.status == 409:
            return Reply(outcome=Outcome.EXISTS, code="409", reason="the reference id is taken")
        if not 400 <= answer.status < 500 or answer.status == 429:
            return self.not_done(answer, order)
        kind, code, words = self.kind(answer), error_code(answer), said(answer, order)
        if kind in ("duplicate", "validation"):
            outcome = Outcome.EXISTS if kind == "duplicate" else Outcome.REFUSED
            return Reply(outcome=outcome, code=str(code), reason=words)
        if kind == "unknown_beneficiary" or (
            kind is None and answer.status == 404 and is_own(answer)
        ):
            return Reply(
                outcome=Outcome.UNKNOWN,
                code=str(code),
                reason=words,
                needs_person=f"the beneficiary's e-mail is unknown to {NAME} ({words}):"
                " correct it, or have the beneficiary open an account there",
            )
        if kind is None and answer.status in ACCOUNT_FAULTS:
            return self.account_fault(answer, order)
        reply = self.not_done(answer, order)
        if reply.outcome is not Outcome.UNKNOWN or answer.status in NOT_JUDGED:
            return reply
        return replace(reply, refusal=f"{answer.status}: {words or 'no message'}")

    def not_done(self, answer: Answer, order: Order) -> Reply:
        """The account's fault, too many calls, or nothing that can be concluded."""
        if answer.status == 429:
            return wire.rate_limited(answer)
        if answer.status in (401, 403) or self.kind(answer) in CLASS_FAULTS:
            return self.account_fault(answer, order)
        words = said(answer, order) if answer.status >= 400 else None
        return Reply(
            outcome=Outcome.UNKNOWN,
            code=str(answer.status),
            reason=words or f"answered {answer.status}",
            retry_after_s=wire.retry_after_s(answer, default=None),
        )

    def account_fault(self, answer: Answer, order: Order | None, why: str | None = None) -> Reply:
        """The account or our settings are at fault, and why: by the code, else by the status."""
        kind, words = self.kind(answer), said(answer, order)
        why = (CLASS_FAULTS.get(kind) if kind else None) or why or ACCOUNT_FAULTS[answer.status]
        return wire.account_fault(
            NAME,
            answer.status,
            f"{why} ({words})" if words else why,
            low_balance=kind == "low_balance",
        )

    def without_token(self, cause: Answer | Lost, outcome: Outcome) -> Reply:
        """There was no access token, so nothing was asked of the provider."""
        if isinstance(cause, Lost):
            reason, code, wait_s = cause.reason, cause.code, cause.retry_after_s
        elif cause.status in ACCOUNT_FAULTS:
            return self.account_fault(cause, None)
        else:
            default = wire.RETRY_AFTER_S_DEFAULT if cause.status == 429 else None
            wait_s = wire.retry_after_s(cause, default=default)
            reason, code = said(cause) or f"answered {cause.status}", str(cause.status)
        return Reply(
            outcome=outcome,
            code=code,
            reason=f"no access token: {reason}",
            retry_after_s=wait_s,
        )
