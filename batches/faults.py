"""What is wrong with a row, in words that last, and how a cell may be shown while saying so.

No message, log or export may show what belongs to a beneficiary: every value passes `mask_cell`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

PERSONAL = ("fields.", "context.", "customer.")
# Nine digits may be an account or a telephone number, whatever column they are in.
_LONG_NUMBER = re.compile(r"\d(?:[ \u00a0\u2010-\u2015-]{0,2}\d){8,}")
_SHOWN_CHARS_MAX = 40


class FaultKind(StrEnum):
    """What is wrong with a row or one of its cells. The words are a promise to whoever reads them
    by program: add, never rename.
    """

    RAGGED_ROW = "ragged_row"  # more or fewer cells than the header has columns
    HIDDEN_ROW = "hidden_row"  # in a spreadsheet: filtered out, perhaps, and not to be paid
    CELL_TOO_LONG = "cell_too_long"
    NUMERIC_CELL = "numeric_cell"  # a spreadsheet number where text is needed
    FORMULA_CELL = "formula_cell"
    DATE_CELL = "date_cell"
    BOOLEAN_CELL = "boolean_cell"
    ERROR_CELL = "error_cell"  # a spreadsheet's #N/A and the like
    REQUIRED = "required"  # the cell is empty
    CONTROL_CHARACTER = "control_character"  # or another character that cannot be seen
    BLANK_AT_EDGE = "blank_at_edge"
    SCIENTIFIC_NOTATION = "scientific_notation"  # 1.23E+15: a spreadsheet dropped the digits
    REFERENCE_TOO_LONG = "reference_too_long"
    REFERENCE_CHARACTER = "reference_character"
    DUPLICATE_REFERENCE = "duplicate_reference"  # within the file and the account
    REFERENCE_USED = "reference_used"  # by a payout that is stored already
    REPEATED = "repeated"  # the same beneficiary and amount as another row or a recent payout
    REPLACES_ITSELF = "replaces_itself"
    NOT_REPLACEABLE = "not_replaceable"  # no failed payout, or it is replaced already
    NOT_PLAIN_DECIMAL = "not_plain_decimal"
    TOO_MANY_DECIMALS = "too_many_decimals"  # for the currency or the service
    AMOUNT_TOO_LARGE = "amount_too_large"  # more digits than can be held exactly
    AMOUNT_ZERO = "amount_zero"
    BELOW_MINIMUM = "below_minimum"
    ABOVE_MAXIMUM = "above_maximum"
    CURRENCY_UNKNOWN = "currency_unknown"
    CURRENCY_NOT_OFFERED = "currency_not_offered"  # the account does not pay from it
    ACCOUNT_UNKNOWN = "account_unknown"
    SERVICE_UNKNOWN = "service_unknown"
    SERVICE_UNUSABLE = "service_unusable"  # listed by the provider, but not for use now
    FIELD_UNKNOWN = "field_unknown"  # the service does not ask for it
    FIELD_TOO_LONG = "field_too_long"
    PATTERN_MISMATCH = "pattern_mismatch"
    DESCRIPTION_TOO_LONG = "description_too_long"
    NOT_ACCEPTED = "not_accepted"  # by another rule of the provider: a check digit, a length
    WOULD_BE_REFUSED = "would_be_refused"  # the provider was asked beforehand, and says so
    LEFT_OUT = "left_out"  # when its file was stored, for a fault that it has no more


# The same for a person, behind the name of the column: "amount: more decimals than ..."
MEANINGS: Mapping[FaultKind, str] = {
    FaultKind.RAGGED_ROW: "more or fewer cells than the header has columns",
    FaultKind.HIDDEN_ROW: "a row that is hidden in the spreadsheet",
    FaultKind.CELL_TOO_LONG: "a cell that is too long",
    FaultKind.NUMERIC_CELL: "a numeric cell where text is needed",
    FaultKind.FORMULA_CELL: "a formula",
    FaultKind.DATE_CELL: "a date cell where text is needed",
    FaultKind.BOOLEAN_CELL: "a true/false cell where text is needed",
    FaultKind.ERROR_CELL: "a spreadsheet error such as #N/A",
    FaultKind.REQUIRED: "empty, though it is required",
    FaultKind.CONTROL_CHARACTER: "a character that cannot be seen",
    FaultKind.BLANK_AT_EDGE: "a blank before or after the value",
    FaultKind.SCIENTIFIC_NOTATION: "a number that a spreadsheet has shortened",
    FaultKind.REFERENCE_TOO_LONG: "longer than the provider takes",
    FaultKind.REFERENCE_CHARACTER: "a character that the provider does not take",
    FaultKind.DUPLICATE_REFERENCE: "the reference id of another row",
    FaultKind.REFERENCE_USED: "the reference id of a payout that is stored already",
    FaultKind.REPEATED: "the same beneficiary and amount as another row or a recent payout",
    FaultKind.REPLACES_ITSELF: "the row's own reference id",
    FaultKind.NOT_REPLACEABLE: "no failed payout, or one that is replaced already",
    FaultKind.NOT_PLAIN_DECIMAL: "not a plain decimal number",
    FaultKind.TOO_MANY_DECIMALS: "more decimals than the currency or the service has",
    FaultKind.AMOUNT_TOO_LARGE: "more digits than can be paid",
    FaultKind.AMOUNT_ZERO: "zero",
    FaultKind.BELOW_MINIMUM: "below the least amount of the service",
    FaultKind.ABOVE_MAXIMUM: "above the largest amount of the service",
    FaultKind.CURRENCY_UNKNOWN: "not a currency code",
    FaultKind.CURRENCY_NOT_OFFERED: "a currency that the account does not pay from",
    FaultKind.ACCOUNT_UNKNOWN: "not an account of the settings",
    FaultKind.SERVICE_UNKNOWN: "not a service of the account",
    FaultKind.SERVICE_UNUSABLE: "a service that cannot be used now",
    FaultKind.FIELD_UNKNOWN: "a field that the service does not ask for",
    FaultKind.FIELD_TOO_LONG: "a field that is too long",
    FaultKind.PATTERN_MISMATCH: "not what the service asks for in that field",
    FaultKind.DESCRIPTION_TOO_LONG: "too long",
    FaultKind.NOT_ACCEPTED: "not what the provider takes",
    FaultKind.WOULD_BE_REFUSED: "refused by the provider when it was asked beforehand",
    FaultKind.LEFT_OUT: "left out when its file was stored",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to correct. `column` is empty where the whole row is meant."""

    line: int
    column: str
    kind: FaultKind
    # Masked already, so a fault may be shown and logged.
    value: str
    expected: str


def mask_cell(column: str, value: str) -> str:
    """A cell as it may be shown: of personal columns the last four characters of nine or more, of
    others everything but long numbers, cut at 40 characters.
    """
    shown = "".join(char if char.isprintable() else "?" for char in value)
    if column.startswith(PERSONAL):
        return _starred(shown)
    shown = _LONG_NUMBER.sub(lambda found: _starred(found[0]), shown)
    if len(shown) <= _SHOWN_CHARS_MAX:
        return shown
    return shown[: _SHOWN_CHARS_MAX - 1] + "…"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was most likely meant."""
    same = {re.sub(r"[\W_]", "", word).lower(): word for word in known}
    found = difflib.get_close_matches(re.sub(r"[\W_]", "", name).lower(), same, n=1, cutoff=0.7)
    return same[found[0]] if found else None


def _starred(text: str) -> str:
    if len(text) < 9:
        return "*" * len(text)
    return "*" * min(len(text) - 4, 8) + text[-4:]
