"""What all adapters read and write alike: exact numbers, masked words, answers that say nothing.

Pure functions. What cannot be read exactly is None, never a guess, and no beneficiary data gets
into a text that leaves this module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

import simplejson

from workers.errors import AccountFault, MoneyError, ProviderUnreachable
from workers.providers.port import Order, Reply
from workers.providers.transport import Answer, Lost
from workers.record.money import Currency, Money
from workers.record.status import Outcome

Json = Mapping[str, Any]

TEXT_CHARS_MAX = 300
WORD_CHARS_MAX = 64
# Decimal works with 28 digits; a longer number could be rounded before it is looked at.
DIGITS_MAX = 28
RETRY_AFTER_S_DEFAULT = 5
RETRY_AFTER_S_MAX = 3600
# A list that was too long for one look-up will be so again soon.
TOO_LONG_WAIT_S = 300

# Writing.


def write_json(document: Any) -> bytes:
    """JSON with every Decimal as an exact number, and the keys as they stand."""
    return simplejson.dumps(document, use_decimal=True).encode()


def plain(value: Any) -> Any:
    """Read-only mappings and tuples as what JSON is written from."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def shortest(amount: Money) -> Decimal:
    """The exact amount without trailing zeros, `25.5` and `25`, as providers' samples have it:
    services that take whole numbers only may refuse `25.00`.
    """
    whole, point, fraction = str(amount).partition(".")
    fraction = fraction.rstrip("0")
    return Decimal(whole + (point + fraction if fraction else ""))


# Reading. A number may be text, and an empty object a list.


def read_json(body: bytes) -> Any:
    """The body as JSON with exact numbers; None where it is none."""
    return Answer(200, {}, body).json()


def members(value: Any) -> Json:
    """The object, or an empty one where it is none."""
    return value if isinstance(value, dict) else {}


def text(value: Any) -> str | None:
    """Text that is not empty."""
    return value if isinstance(value, str) and value else None


_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)


def number(value: Any) -> Decimal | None:
    """An exact number, from a JSON number or from plain text; None for anything else."""
    if isinstance(value, str) and len(value) <= 2 * DIGITS_MAX and _NUMBER.fullmatch(value):
        value = Decimal(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**DIGITS_MAX:
        value = Decimal(value)
    if not isinstance(value, Decimal) or not value.is_finite():
        return None
    if len(value.as_tuple().digits) > DIGITS_MAX or abs(value.adjusted()) >= DIGITS_MAX:
        return None
    return value


def money(value: Any, currency: Currency | None) -> Money | None:
    """An exact amount; None where it is none, or has a part smaller than the minor unit."""
    exact = number(value)
    if exact is None or currency is None:
        return None
    try:
        return Money.from_number(exact, currency)
    except MoneyError:
        return None


def currency_of(code: Any) -> Currency | None:
    """The currency of that code, if it is one that we know."""
    try:
        return Currency.of(code) if isinstance(code, str) else None
    except MoneyError:
        return None


# Masking.

# Six digits or more in a row, also when grouped by blanks, points or dashes: cards and accounts.
_DIGITS = re.compile(r"[0-9](?:[ .-]?[0-9]){5,}")


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None:
        yield str(value)


def _one_line(words: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in words).split())


def masked(words: str, order: Order | None = None, *, chars_max: int = TEXT_CHARS_MAX) -> str:
    """The provider's text on one line, cut, without long numbers and without the order's own
    beneficiary data.
    """
    line = _one_line(words[:10_000])
    private: set[str] = set()
    if order is not None:
        leaves = _leaves([order.fields, order.context, order.customer])
        private = {_one_line(leaf) for leaf in leaves}
    for value in sorted(private, key=len, reverse=True):
        # A short value is a code such as "US"; inside a longer word it is that word's.
        bound = r"\b" if len(value) < 6 else ""
        if len(value) > 2:
            line = re.sub(bound + re.escape(value) + bound, "***", line, flags=re.IGNORECASE)
    line = _DIGITS.sub("***", line)
    return line if len(line) <= chars_max else line[: chars_max - 1] + "…"


_PLAIN_WORD = re.compile(rf"[A-Za-z_]{{1,{WORD_CHARS_MAX}}}", re.ASCII)


def word(value: Any) -> str | None:
    """A status, resolution or code of the provider, safe to keep and to show."""
    if isinstance(value, str) and _PLAIN_WORD.fullmatch(value):
        # Almost always; and nothing in it that could be masked.
        return value
    return masked(value, chars_max=WORD_CHARS_MAX) or None if isinstance(value, str) else None


# Answers that are not what was hoped for.


def without(answer: Answer | Lost, *secrets: str) -> Answer | Lost:
    """The answer, where an error's words may repeat what was sent, without our secrets: as they
    are, and as JSON may write them.
    """
    if isinstance(answer, Lost) or answer.status < 400:
        return answer
    body = answer.body
    for secret in secrets:
        if secret:
            body = re.sub(b"".join(map(_written, secret)), b"***", body)
    return replace(answer, body=body)


def _written(char: str) -> bytes:
    """A pattern of one character in all its forms: writers of JSON escape more or less."""
    if char.isascii() and char.isalnum():
        return char.encode()
    code_units = char.encode("utf-16-be", "surrogatepass")
    escaped = "".join(rf"\\u{code_units[at : at + 2].hex()}" for at in range(0, len(code_units), 2))
    forms = {json.dumps(char, ensure_ascii=False)[1:-1], "\\/" if char == "/" else char, char}
    spelt = "|".join(map(re.escape, sorted(forms, key=len, reverse=True)))
    return f"(?:{spelt}|(?i:{escaped}))".encode(errors="surrogatepass")


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


def account_fault(provider: str, status: int, why: str, *, low_balance: bool = False) -> Reply:
    """The account or our settings are at fault: a sentence for whoever runs Paybatch."""
    fault = f"{provider} answered {status}: {why}"
    return Reply(
        outcome=Outcome.ACCOUNT_FAULT,
        code=str(status),
        reason=fault,
        account_fault=fault,
        low_balance=low_balance,
    )


def expect_200(
    answer: Answer | Lost,
    question: str,
    provider: str,
    *,
    faults: Mapping[int, str],
    said: Callable[[Answer], str | None],
) -> Answer:
    """The answer to a question, if it is one.

    Args:
        question: what was asked for, in words: "its balances".
        faults: the statuses that blame the account, and why.
        said: the provider's own words in an error, masked.

    Raises:
        AccountFault: the account or its settings are at fault.
        ProviderUnreachable: any other answer, or none.
    """
    if isinstance(answer, Lost):
        raise ProviderUnreachable(f"{provider} was asked for {question}: {answer.reason}")
    if answer.status in faults:
        fault = account_fault(provider, answer.status, faults[answer.status]).account_fault
        raise AccountFault(f"{fault} (asked for {question})")
    if answer.status != 200:
        told = said(answer) or "no message"
        raise ProviderUnreachable(
            f"{provider} was asked for {question} and answered {answer.status}: {told}"
        )
    return answer
