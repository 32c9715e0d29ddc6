"""Echelon Pay's words as ours: the tables of its statuses, codes and faults, and the reading of its
answers.

Pure functions of what was received and of the settings. What cannot be read exactly is never
guessed: it is None, or told as something that differs. No beneficiary data gets into a text that
leaves this module, and no error that speaks of access becomes "not there".

Source: Echelon Pay outgoing payments, sections 3 to 5 and 8; read 2026-11-21.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from workers.providers import wire
from workers.providers.echelon_config import EchelonConfig, Kind, Meaning
from workers.providers.port import Order, Reply
from workers.providers.transport import Answer, Lost
from workers.record.money import Money
from workers.record.status import Outcome

PROVIDER = "Echelon Pay"

# Source: section 5. Beside an outcome: why, where the answer itself does not say it.
STATES: Mapping[str, tuple[Outcome, str]] = {
    "SUCCESS": (Outcome.PAID, ""),
    "FAILED": (Outcome.REFUSED, "the payout failed"),
    "EXPIRED": (Outcome.REFUSED, "the payout's time ran out before it was paid"),
    "REJECTED": (Outcome.REFUSED, "the payout was rejected"),
    "CANCELLED": (Outcome.REFUSED, "the payout was cancelled at the provider"),
    "CANCELED": (Outcome.REFUSED, "the payout was cancelled at the provider"),
    "PENDING": (Outcome.PROCESSING, ""),
    "CREATED": (Outcome.PROCESSING, ""),
    "PROCESSING": (Outcome.PROCESSING, ""),
    "ACCEPTED": (Outcome.PROCESSING, ""),
    "WAITING": (Outcome.PROCESSING, ""),
}
# What the setting `status_map` may say of a word.
MEANINGS: Mapping[Meaning, tuple[Outcome, str]] = {
    "open": (Outcome.PROCESSING, ""),
    "paid": (Outcome.PAID, ""),
    "partly_paid": (Outcome.PARTLY_PAID, "less than ordered was paid"),
    "failed": (Outcome.REFUSED, "the payout failed"),
    "returned": (Outcome.RETURNED, "the money came back"),
}

# Source: section 8. None is listed as `validation`: the page has every 400 and 422 looked up once,
# since an id that is repeated may be refused in the same words.
ERRORS: Mapping[str, Kind] = {
    "ENTITY_DUPLICATED": "duplicate",
    "ENTITY_NOT_FOUND": "absent",
    "BALANCE_INSUFFICIENT": "low_balance",
    "CHANNEL_LIMIT": "limit",
    "CREDENTIALS_INVALID": "account",
    "IP_DENIED": "account",
    "MERCHANT_UNAVAILABLE": "account",
    "SIGNATURE_INVALID": "account",
    "CHANNEL_UNAVAILABLE": "temporary",
    "CONNECTION_ERROR": "temporary",
    "SYSTEM": "temporary",
}
# The kinds that blame the account.
BLAMES: Mapping[Kind | None, str] = {
    "low_balance": "the account has too little money",
    "limit": "a limit of the account or its channel is reached",
    "account": "the account, its keys or our IP address are refused",
}

# Not this payout's fault. Source: section 8.
FAULTS: Mapping[int, str] = {
    401: "a new token was refused as well: merchant_code or secret may be wrong",
    403: "a new token may not do this either, or our IP address is not allowed",
    404: "base_url is wrong: there are no payouts at that address",
    405: "base_url is wrong: the address does not take this call",
}
# The same for the call that gives a token. Source: section 3.3.
TOKEN_FAULTS: Mapping[int, str] = {
    401: "merchant_code or secret is wrong",
    403: "merchant_code or secret is wrong, or our IP address is not allowed",
    404: "base_url is wrong: there are no tokens at that address",
    405: FAULTS[405],
}

# What is told of an error that is no JSON. Source: section 8.
ERROR_BYTES_MAX = 500
# An id that is cut is longer than any of ours, so it cannot be taken for ours.
ID_CHARS_MAX = 256
FAILURES_MAX = 10


def at(document: Any, path: str) -> Any:
    """What stands at `error.code`; None where nothing does."""
    for name in path.split("."):
        document = wire.members(document).get(name)
    return document


def without_token(cause: Answer | Lost, otherwise: Outcome) -> Reply:
    """There was no token, so no call about the payout was made. Source: section 3.3."""
    if isinstance(cause, Lost):
        return replace(wire.lost(cause), outcome=otherwise)
    if cause.status in TOKEN_FAULTS:
        return wire.account_fault(PROVIDER, cause.status, TOKEN_FAULTS[cause.status])
    if cause.status == 429:
        return replace(wire.rate_limited(cause), outcome=otherwise)
    retry_after_s = wire.retry_after_s(cause, default=None)
    reply = wire.unknown(cause, "no token was given")
    return replace(reply, outcome=otherwise, retry_after_s=retry_after_s)


class _Error(NamedTuple):
    """What an error's body says; its words are not masked yet."""

    code: str | None
    message: str | None
    kind: Kind | None


class Reader:
    """Reads answers as the settings of one account say."""

    def __init__(self, config: EchelonConfig) -> None:
        self._config = config
        told = {word: MEANINGS[meaning] for word, meaning in config.status_map.items()}
        self._states = {**STATES, **told}
        self._errors = {**ERRORS, **config.error_map}

    # Answers about a payout.

    def created(self, answer: Answer, order: Order) -> Reply:
        """The answer to a create. A 2xx takes the payout if it names its id and money; it has no
        status. Source: sections 4 and 8.
        """
        if not 200 <= answer.status < 300:
            return self._not_created(answer, order)
        document = wire.members(answer.json())
        named = _payout_id(document)
        if named is None or _money_told(document) is None:
            return wire.unknown(answer, "the answer names no payout or no money")
        if named != order.reference_id:
            differs = "the answer is about another payout"
            reply = wire.unknown(answer, differs)
            return replace(reply, reference_id=named[:ID_CHARS_MAX], differs=(differs,))
        return self._payout(document, order, order.reference_id, created=True)

    def read(self, answer: Answer, order: Order, payout_id: str) -> Reply:
        """The answer to a read of that id. Source: sections 5 and 8."""
        if not 200 <= answer.status < 300:
            return self._not_read(answer, order)
        document = wire.members(answer.json())
        if _payout_id(document) is None and _money_told(document) is None:
            return wire.unknown(answer, "the answer cannot be read")
        return self._payout(document, order, payout_id)

    def _payout(
        self, document: wire.Json, order: Order, payout_id: str, *, created: bool = False
    ) -> Reply:
        process = wire.members(document.get("process"))
        told = process.get("status")
        outcome, why, warning = Outcome.PROCESSING, "", None
        if not isinstance(told, str):
            # A create's answer has none; a read goes on until there is one.
            warning = None if told is None and created else "the answer has no status"
        elif told in self._states:
            outcome, why = self._states[told]
        else:
            warning = f"unlisted status: {wire.word(told)}"
        named = _payout_id(document)
        reply = Reply(
            outcome=outcome,
            provider_payout_id=payout_id,
            status=wire.word(told),
            reference_id=None if named is None else named[:ID_CHARS_MAX],
            amount=_money(_money_told(document)),
            differs=tuple(self._differs(document, order)),
            fee=_money(document.get("fee")),
            warning=warning,
        )
        return self._explained(reply, process, order, why)

    def _explained(self, reply: Reply, process: wire.Json, order: Order, why: str) -> Reply:
        """The reply with the reasons of a failure. Source: section 5."""
        code, words = _failures(process)
        shown = wire.word(code)
        reason = wire.masked(words, order) or why or None
        if reply.outcome is Outcome.PAID and (shown or reason):
            told = ": ".join(filter(None, (shown, reason)))
            return replace(reply, warning=f"paid, yet with the reason of a failure: {told}")
        if reply.outcome in (Outcome.PROCESSING, Outcome.PAID):
            # Nothing has failed for good: it may tell of an earlier try.
            return reply
        reply = replace(reply, code=shown or reply.status, reason=reason)
        kind = self._errors.get(code or "")
        if kind == "duplicate":
            # Money may have moved under the id that was seen before.
            return replace(reply, differs=(*reply.differs, f"it failed as a duplicate: {shown}"))
        if reply.outcome is Outcome.REFUSED and kind in ("low_balance", "account"):
            fault = f"{PROVIDER} failed a payout with {shown}: {BLAMES[kind]}"
            return replace(reply, account_fault=fault, low_balance=kind == "low_balance")
        return reply

    def _differs(self, document: wire.Json, order: Order) -> Iterator[str]:
        """What an answer says that is not what was sent, but for id and amount."""
        told = _money_told(document)
        if told is not None and _money(told) is None:
            yield "paymentRequested.money: it cannot be read exactly"
        mode, ours = at(document, "process.isTest"), self._config.test_mode
        if mode is not None and mode is not ours:
            yield f"isTest: {wire.word(str(mode).lower())}, expected: {str(ours).lower()}"
        method = wire.members(document.get("paymentMethodResponse"))
        code = method.get("paymentMethodCode")
        if code is not None and code != order.service:
            yield f"paymentMethodCode: {wire.word(str(code))}, sent: {order.service}"
        if not self._config.compares_echo:
            return
        for name, path in (
            ("accountNumber", "account.accountNumber"),
            ("paymentOperatorCode", "paymentOperatorCode"),
        ):
            shown, sent = wire.text(at(method, path)), order.fields.get(name)
            if shown and sent and not _same(shown, str(sent)):
                yield f"{name}: another one than was sent"

    # Answers that are not what was hoped for. Source: section 8.

    def _not_created(self, answer: Answer, order: Order) -> Reply:
        status, error = answer.status, self._error(answer)
        if status == 429:
            reply = wire.rate_limited(answer)
            sure = self._config.rate_limited_is_not_created
            return reply if sure else replace(reply, outcome=Outcome.UNKNOWN)
        reply = _told(answer, error, order)
        if status == 409 or error.kind == "duplicate":
            return replace(reply, outcome=Outcome.EXISTS)
        if error.kind in BLAMES or status in FAULTS:
            return _fault(answer, error)
        if status not in (400, 422) or error.kind == "temporary":
            return reply
        if error.kind == "validation":
            return replace(reply, outcome=Outcome.REFUSED)
        # These two alone are final when one look-up finds nothing.
        refusal = ": ".join(filter(None, (str(status), wire.word(error.code), reply.reason)))
        return replace(reply, refusal=refusal)

    def _not_read(self, answer: Answer, order: Order) -> Reply:
        status, error = answer.status, self._error(answer)
        if status == 429:
            return wire.rate_limited(answer)
        if error.kind in BLAMES or (status in FAULTS and status != 404):
            return _fault(answer, error)
        if status != 404:
            return _told(answer, error, order)
        if self._says_absent(error):
            return Reply(outcome=Outcome.NOT_FOUND, code=wire.word(error.code) or "404")
        return wire.unknown(answer, "not found, but not in the platform's own words")

    def _says_absent(self, error: _Error) -> bool:
        if error.kind is not None or self._config.absence_needs_code:
            return error.kind == "absent"
        return error.code is not None or error.message is not None

    def _error(self, answer: Answer) -> _Error:
        """The code and words of an error's body. A 5xx may have been stored whatever it says, so
        its code decides nothing.
        """
        document, config = answer.json(), self._config
        codes = (_code(at(document, path)) for path in config.error_code_paths)
        words = (wire.text(at(document, path)) for path in config.error_message_paths)
        code = next(filter(None, codes), None)
        kind = self._errors.get(code or "") if 400 <= answer.status < 500 else None
        return _Error(code, next(filter(None, words), None), None if kind == "unlisted" else kind)


def _told(answer: Answer, error: _Error, order: Order) -> Reply:
    """Nothing is concluded yet; what the provider says, masked."""
    status = answer.status
    words = error.message or ""
    if error.code is None and not words and status >= 400:
        words = answer.body[:ERROR_BYTES_MAX].decode(errors="replace")
    silent = f"answered {status}, not followed" if 300 <= status < 400 else f"answered {status}"
    return Reply(
        outcome=Outcome.UNKNOWN,
        code=wire.word(error.code) or str(status),
        reason=wire.masked(words, order) or silent,
        retry_after_s=wire.retry_after_s(answer, default=None),
    )


def _fault(answer: Answer, error: _Error) -> Reply:
    """The account's fault, by the error's code or else by its status."""
    if error.kind not in BLAMES:
        return wire.account_fault(PROVIDER, answer.status, FAULTS[answer.status])
    why = f"{BLAMES[error.kind]} ({wire.word(error.code)})"
    # A limit ends as a lack of money does: what is open can still be read.
    low_balance = error.kind != "account"
    return wire.account_fault(PROVIDER, answer.status, why, low_balance=low_balance)


def _code(value: Any) -> str | None:
    return (
        str(value) if isinstance(value, int) and not isinstance(value, bool) else wire.text(value)
    )


def _payout_id(document: wire.Json) -> str | None:
    return wire.text(at(document, "paymentMethodResponse.idPayout"))


def _money_told(document: wire.Json) -> Any:
    return at(document, "paymentRequested.money")


def _money(told: Any) -> Money | None:
    money = wire.members(told)
    return wire.money(money.get("amount"), wire.currency_of(money.get("currencyCode")))


def _failures(process: wire.Json) -> tuple[str | None, str]:
    """The first code and all words of `failureReasons`, which is an object, a list or absent; where
    it has no words, the processor's own status. Source: section 5.
    """
    told = process.get("failureReasons")
    items: Sequence[Any] = told if isinstance(told, list) else [told]
    reasons = [wire.members(item) for item in items[:FAILURES_MAX]]
    codes = [wire.text(reason.get("failureReasonCode")) for reason in reasons]
    words = [wire.text(reason.get("message")) for reason in reasons]
    code, said = next(filter(None, codes), None), "; ".join(filter(None, words))
    processor = wire.text(process.get("processorStatus"))
    return code, f"the processor says {processor}" if code and not said and processor else said


def _same(shown: str, sent: str) -> bool:
    """Whether what is repeated is what was sent, by what is visible where it is masked."""
    shown, sent = (re.sub(r"[\s-]", "", value) for value in (shown, sent))
    start, star, rest = shown.partition("*")
    end = rest.rpartition("*")[2]
    return sent.startswith(start) and sent.endswith(end) if star else shown == sent
