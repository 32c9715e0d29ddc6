"""ETpay's words as ours: what its answers and errors say, as the settings map them.

Pure functions of what was received. What cannot be read exactly is never guessed: it is None, or
told as something that differs. No beneficiary data gets into a text that leaves this module. ETpay
has not published its field names, status words and codes: all of them come from the settings.

Source: "ETpay payouts (Chile)", sections 3 to 7 and 9; read 2026-11-21.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from workers.providers import wire
from workers.providers.etpay_config import (
    CLP,
    PLACEHOLDER,
    PROVIDER,
    ErrorClass,
    ETpayConfig,
    Form,
)
from workers.providers.port import Order, Reply
from workers.providers.transport import Answer, Lost
from workers.record.money import Currency
from workers.record.status import Outcome

# What the forms of `status_map` mean; section 5.
STATES: Mapping[Form, Outcome] = {
    "in_flight": Outcome.PROCESSING,
    "paid": Outcome.PAID,
    "failed": Outcome.REFUSED,
    "returned": Outcome.RETURNED,
}
# What the classes of `error_map` mean; section 9.
ERRORS: Mapping[ErrorClass, Outcome] = {
    "validation": Outcome.REFUSED,
    "low_balance": Outcome.ACCOUNT_FAULT,
    "duplicate": Outcome.EXISTS,
    "account_fault": Outcome.ACCOUNT_FAULT,
    "not_sent": Outcome.NOT_SENT,
}
# What a login's status says of the settings; section 3.
LOGIN_FAULTS: Mapping[int, str] = {
    400: "the login was not understood: check login_path and field_map.login",
    401: "username, password, merchant_code or merchant_api_token is wrong",
    403: "username, password, merchant_code or merchant_api_token is wrong",
    404: "base_url or login_path is wrong",
    405: "base_url or login_path is wrong",
}
# Not this payout's fault; section 9.
ACCOUNT_FAULTS: Mapping[int, str] = {
    401: "it refuses an access token that it has just given",
    403: "the account may not do this",
    404: "base_url or a path in the settings is wrong",
    405: "base_url or a path in the settings is wrong: the address does not take this call",
}
# Words or codes that speak of a payout prove nothing where its create was turned away unread.
_JUDGEMENTS = frozenset({Outcome.EXISTS, Outcome.REFUSED})
# Answers of servers on the way, which judge the connection and not the payout: RFC 9110, RFC 8470.
_NOT_JUDGED = frozenset({408, 425})

# Paths within a document.


def at(document: Any, path: str) -> Any:
    """The value at a dotted path; None where there is none. An empty path is the document."""
    for key in path.split(".") if path else ():
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def put(document: dict[str, Any], path: str, value: Any) -> None:
    """Place a value at a dotted path."""
    *outer, last = path.split(".")
    for key in outer:
        document = document.setdefault(key, {})
    document[last] = value


def has(document: Any, path: str) -> bool:
    """Whether there is a value at the path, null included."""
    outer, _, last = path.rpartition(".")
    return last in wire.members(at(document, outer))


# Days of the date query.


def local_day(at_time: datetime, zone: tzinfo) -> date:
    return at_time.astimezone(zone).date()


def days_before(answer: Answer, zone: tzinfo, days: int) -> tuple[date, date] | None:
    """The days that a look-up reads, by the provider's own clock; None where it does not tell.

    One day more at the end, since nobody knows where its days begin. Source: section 6.
    """
    try:
        told = parsedate_to_datetime(answer.headers["date"])
        # -0000 says UTC too, and is read as a time without a zone: RFC 5322, 3.3.
        today = local_day(told if told.tzinfo else told.replace(tzinfo=UTC), zone)
        return today - timedelta(days=days), today + timedelta(days=1)
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        return None


# Answers.

_PAYOUT_ID = re.compile(r"(?!\.{1,2}\Z)[!-~]{1,128}", re.ASCII)
_TOKEN = re.compile(r"[!-~]([ -~]*[!-~])?", re.ASCII)


def read_id(value: Any) -> str | None:
    """An id or code as text, also where it is a JSON number."""
    return str(value) if type(value) is int else wire.text(value)


def read_payout_id(value: Any) -> str | None:
    """The provider's id of a payout, if it can stand in a path."""
    told = read_id(value)
    return told if told and _PAYOUT_ID.fullmatch(told) else None


@dataclass(frozen=True, slots=True)
class Found:
    """One payout in an answer."""

    id: str
    reference_id: str | None
    facts: wire.Json


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the date query."""

    payouts: Sequence[Found]
    # As the answer counts; None: it does not.
    pages: int | None


class Error(NamedTuple):
    """What an error's body says."""

    code: str | None
    words: str | None

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


class Reader:
    """Reads answers as one account's settings say."""

    def __init__(self, config: ETpayConfig) -> None:
        self._config = config
        self._of = config.field_map.response

    def token(self, document: Any) -> str | None:
        """The access token; None unless it can stand in a header."""
        told = wire.text(at(document, self._of.token))
        return told if told and _TOKEN.fullmatch(told) else None

    def token_ends(self, document: Any, now: datetime) -> datetime:
        """When the token ends; where that is not told, or is past, as the settings assume."""
        told = wire.number(at(document, self._of.token_ends))
        assumed = now + timedelta(seconds=self._config.token_ttl_s)
        try:
            ends = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(told or 0))
        except OverflowError:
            return assumed
        return ends if ends > now else assumed

    def no_token(self, cause: Answer | Lost, outcome: Outcome) -> Reply:
        """No call about the payout was made, or none that was taken. Source: section 3."""
        if isinstance(cause, Lost):
            reason = f"no login: {cause.reason}"
            wait_s = cause.retry_after_s
            return Reply(outcome=outcome, code=cause.code, reason=reason, retry_after_s=wait_s)
        faults = self.login_faults
        if cause.status in faults:
            return wire.account_fault(PROVIDER, cause.status, faults[cause.status])
        said = self.said(cause) if cause.status >= 400 else None
        wait_s = 5 if cause.status == 429 else None
        return Reply(
            outcome=outcome,
            code=str(cause.status),
            reason=f"no login: {said or f'answered {cause.status}, without a token'}",
            retry_after_s=wire.retry_after_s(cause, default=wait_s),
        )

    @property
    def login_faults(self) -> Mapping[int, str]:
        """The statuses of a login that no later one will better, and why."""
        statuses = self._config.login_fault_statuses
        return {status: LOGIN_FAULTS.get(status, "the login was refused") for status in statuses}

    # Payouts.

    def _found(self, facts: Any) -> Found | None:
        told = read_payout_id(at(facts, self._of.payout_id))
        if told is None:
            return None
        reference_id = read_id(at(facts, self._of.reference_id))
        # One that is cut is longer than any of ours, so it cannot be taken for ours.
        return Found(told, reference_id and reference_id[:256], facts)

    def payout(self, document: Any) -> Found | None:
        """The one payout that an answer is about."""
        return self._found(at(document, self._of.payout))

    def payouts(self, document: Any) -> Sequence[Found] | None:
        """The payouts that an answer lists, or the one that it is about; None unless each tells
        its id and our reference id, be it null: only then it can say that ours is not among them.
        """
        listed = at(document, self._of.payouts)
        if not isinstance(listed, list):
            listed = [at(document, self._of.payout)]
        elif self.error(document).code is not None:
            return None
        found = [self._found(item) for item in listed if has(item, self._of.reference_id)]
        read = [payout for payout in found if payout is not None]
        return read if len(read) == len(listed) else None

    def page(self, document: Any) -> Page | None:
        """One page of the date query; None unless every payout of it can be read."""
        payouts = self.payouts(document)
        if payouts is None or not isinstance(at(document, self._of.payouts), list):
            return None
        count = at(document, self._of.pages)
        return Page(payouts, count if type(count) is int else None)

    def created_at(self, payout: Found, zone: tzinfo) -> datetime | None:
        try:
            told = datetime.fromisoformat(at(payout.facts, self._of.created_at))
        except (ValueError, TypeError):
            return None
        return told if told.tzinfo else told.replace(tzinfo=zone)

    def reply(self, payout: Found, order: Order | None = None) -> Reply:
        """What an answer says about a payout.

        Args:
            order: what was sent; None where it is not known, as in a list.
        """
        told = at(payout.facts, self._of.status)
        status = told if isinstance(told, str) else None
        form = self._config.status_map.get((status or "").casefold())
        outcome = STATES[form] if form else Outcome.PROCESSING
        warning = f"unlisted status: {wire.word(status)}" if status else "it tells no status"
        # Without the order its beneficiary's data cannot be masked in free words.
        said = self._words(payout.facts, (self._of.error_message,), order) if order else None
        error = Error(self._word(payout.facts, self._of.error_code), said)
        known = self._config.error_map.get((error.code or "").casefold())
        fault, low = None, False
        if outcome is Outcome.REFUSED and known and ERRORS[known.meaning] is Outcome.ACCOUNT_FAULT:
            fault = f"{PROVIDER} failed a payout: {_explained(error, known.text)}"
            low = known.meaning == "low_balance"
        failed = outcome is not Outcome.PAID
        code = error.code or (wire.word(status) if outcome is Outcome.REFUSED else None)
        currency = self.currency(payout.facts, self._of.currency)
        return Reply(
            outcome=outcome,
            provider_payout_id=payout.id,
            status=wire.word(status),
            code=code if failed else None,
            reason=_explained(error, known.text if known else "") if failed else None,
            reference_id=payout.reference_id,
            amount=wire.money(at(payout.facts, self._of.amount), currency),
            differs=tuple(self._differs(payout, currency, order)),
            account_fault=fault,
            low_balance=low,
            warning=None if form else warning,
        )

    def currency(self, document: Any, path: str) -> Currency | None:
        """ETpay's payouts in Chile are in pesos, where the answer does not say otherwise."""
        told = at(document, path) if path else None
        if told is None:
            return CLP
        return wire.currency_of(told.upper() if isinstance(told, str) else told)

    def _differs(
        self, payout: Found, currency: Currency | None, order: Order | None
    ) -> Iterator[str]:
        """What the answer says that is not what was sent, but for reference id and amount.
        Beneficiary data is never told.
        """
        facts, of = payout.facts, self._of
        told = at(facts, of.amount)
        if told is not None and wire.money(told, currency) is None:
            shown = wire.masked(f"{told} {at(facts, of.currency)}", order)
            yield f"amount: {shown} cannot be read exactly"
        elif currency is None:
            yield "currency: cannot be read"
        if payout.reference_id is None and at(facts, of.reference_id) is not None:
            yield "reference id: cannot be read"
        if order is None:
            return
        for name in ("rut", "account_number"):
            echo, sent = read_id(at(facts, getattr(of, name))), order.fields.get(name)
            if echo and sent and not _same(echo, str(sent)):
                yield f"fields.{name}: another value than was sent"
        if not self._same_bank(read_id(at(facts, of.bank_code)), order):
            yield "fields.bank_code: another value than was sent"

    def _same_bank(self, shown: str | None, order: Order) -> bool:
        """Whether it is our bank, by its code or its name; a form that no table lists says
        nothing.
        """
        said = (shown or "").casefold()
        known = {code: {code, name.casefold()} for code, name in self._config.bank_codes.items()}
        ours = known.get(str(order.fields.get("bank_code")), set())
        return not said or said in ours or not any(said in names for names in known.values())

    # Errors.

    def error(self, document: Any, order: Order | None = None) -> Error:
        """Code and words in a body, masked; both None where it has none. Source: section 9."""
        codes = (self._word(document, path) for path in self._of.error_codes)
        return Error(
            next(filter(None, codes), None),
            self._words(document, self._of.error_messages, order),
        )

    def said(self, answer: Answer, order: Order | None = None) -> str | None:
        return str(self.error(answer.json(), order)) or None

    def _word(self, document: Any, path: str) -> str | None:
        return wire.word(read_id(at(document, path)))

    def _words(self, document: Any, paths: Sequence[str], order: Order | None) -> str | None:
        for told in (at(document, path) for path in paths):
            parts = told if isinstance(told, list) else [told]
            if words := "; ".join(part for part in parts if isinstance(part, str) and part):
                return wire.masked(words, order)
        return None

    def refused(self, answer: Answer, order: Order) -> Reply:
        """What a create means that was not taken. Source: section 9."""
        status, config = answer.status, self._config
        judged = 400 <= status < 500 and status not in (401, 429, *_NOT_JUDGED)
        error = self.error(answer.json(), order)
        known = config.error_map.get((error.code or "").casefold())
        kind = (known.meaning if known else self._meant(error, order)) if judged else None
        if kind is not None and status in ACCOUNT_FAULTS and ERRORS[kind] in _JUDGEMENTS:
            kind = None
        code = error.code or str(status)
        text = known.text if known else ""
        reason = _explained(error, text)
        if kind is not None and ERRORS[kind] is Outcome.ACCOUNT_FAULT:
            why = "; ".join(part for part in (text, str(error)) if part)
            low = kind == "low_balance"
            return wire.account_fault(PROVIDER, status, why, low_balance=low)
        if kind is not None:
            return Reply(outcome=ERRORS[kind], code=code, reason=reason)
        if status == 409:
            return Reply(outcome=Outcome.EXISTS, code=code, reason=reason)
        if status in (400, 422) and config.trust_4xx:
            return Reply(outcome=Outcome.REFUSED, code=code, reason=reason)
        if status in config.not_created_statuses:
            return self.not_done(answer, order)
        refusal = f"{status}: {error}" if str(error) else f"{status}: no message"
        return Reply(
            outcome=Outcome.UNKNOWN,
            code=code,
            reason=_why(answer, error),
            refusal=refusal if judged else None,
            retry_after_s=wire.retry_after_s(answer, default=None),
        )

    def _meant(self, error: Error, order: Order) -> ErrorClass | None:
        """What an unlisted error is about, told by its words. What the order says itself, and the
        provider may repeat, is left out.
        """
        said = str(error)
        if order.description:
            said = said.replace(order.description, "")
        said = re.sub(r"[\s_-]+", " ", said).casefold()
        if any(word.casefold() in said for word in self._config.low_balance_words):
            return "low_balance"
        if any(word.casefold() in said for word in self._config.duplicate_words):
            return "duplicate"
        return None

    def not_found(self, answer: Answer) -> Reply:
        """A 404 to a read: absence if the provider itself says so. Servers on the way answer with
        words at most, not with a code of the provider's.
        """
        if self.error(answer.json()).code is not None:
            return Reply(outcome=Outcome.NOT_FOUND, code="404")
        return wire.unknown(answer, f"not found, but not in {PROVIDER}'s own words")

    def not_done(self, answer: Answer, order: Order) -> Reply:
        """The account's fault, too many calls, or nothing that can be concluded."""
        if answer.status in ACCOUNT_FAULTS:
            return wire.account_fault(PROVIDER, answer.status, ACCOUNT_FAULTS[answer.status])
        if answer.status == 429:
            return wire.rate_limited(answer)
        return Reply(
            outcome=Outcome.UNKNOWN,
            code=str(answer.status),
            reason=_why(answer, self.error(answer.json(), order)),
            retry_after_s=wire.retry_after_s(answer, default=None),
        )


def _why(answer: Answer, error: Error) -> str:
    said = str(error) if answer.status >= 400 else ""
    redirected = ", not followed" if 300 <= answer.status < 400 else ""
    return said or f"answered {answer.status}{redirected}"


def _explained(error: Error, text: str) -> str | None:
    return "; ".join(part for part in (text, error.words) if part) or None


def _same(shown: str, sent: str) -> bool:
    """Whether a RUT or account number is the one that was sent, which may come back grouped, with
    its leading zeros lost, or masked by stars.
    """
    shown, sent = (re.sub(r"[ .-]", "", value).casefold() for value in (shown, sent))
    start, star, rest = shown.partition("*")
    if star:
        return sent.startswith(start) and sent.endswith(rest.rpartition("*")[2])
    return shown.lstrip("0") == sent.lstrip("0")


def filled(template: str, values: Mapping[str, str], quote: Any) -> str:
    """A path with each placeholder's value, quoted."""
    return PLACEHOLDER.sub(lambda found: quote(values[found[1]]), template)
