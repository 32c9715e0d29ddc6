"""The files of the fault suite: rows of two providers, some with trouble, and how each must end."""

from __future__ import annotations

import random
from collections.abc import Mapping

from tests.batches.cli_world import WORDS, Row, card_row, pix_row, usd_row

# A provider that fails in every way it can: beside those above, for the scenario of its own.
HARSH_WORDS: Mapping[str, str] = {
    **WORDS,
    "create:reset-after": "paid",
    "create:hang": "paid",
    "create:drip-after": "paid",
    "create:cut-after": "paid",
    "create:500-after*2": "paid",
    "create:garbage-after": "paid",
    "create:html-after": "paid",
    "create:429=1": "paid",
    "create:429=1 process:429=1": "paid",
    "process:hang-after": "paid",
    "process:drip-after": "paid",
    "process:504-after": "paid",
    "process:504": "paid",
    "read:hang": "paid",
    "read:cut-after": "paid",
    "find:503*2 create:drop-after": "paid",
    "find:empty-after create:504-after": "paid",
    "create:drop-after hide=3": "paid",
    "create:504-after hide=4": "paid",
    "release=1": "paid",
    "process:drop-after release=1": "paid",
}
# Found late by anybody's clock: who takes the time for later than it is, finds it absent.
LATE_WORDS: Mapping[str, str] = {
    **WORDS,
    "create:drop-after hide=3": "paid",
    "create:504-after hide=4": "paid",
    "create:hang-after hide=4": "paid",
}
# The provider of one step is told by the account number; its calls fail by its own flags.
REFUSED_ACCOUNT = "0001"


def mixed(
    prefix: str, count: int, rng: random.Random, words: Mapping[str, str] = WORDS
) -> tuple[list[Row], dict[str, str]]:
    """A file of so many rows, one in three with trouble; and the state of each in the end."""
    file, expected = [], {}
    for number in range(count):
        one_step = number % 6 == 5
        trouble = rng.choice(list(words)) if words and rng.random() < 1 / 3 else ""
        reference_id = f"{prefix}-{number:05}"
        row = {
            **(
                _one_step_row(number, bool(trouble)) if one_step else _two_step_row(number, trouble)
            ),
            "reference_id": reference_id,
            "account": "second" if one_step else "main",
        }
        file.append(row)
        if one_step:
            expected[reference_id] = "failed" if trouble else "paid"
        else:
            expected[reference_id] = words.get(trouble, "paid")
    return file, expected


def _two_step_row(number: int, trouble: str) -> Row:
    if trouble or number % 4 < 2:
        return usd_row(number, trouble)
    if number % 4 == 2:
        return card_row(number, "EUR", f"{20 + number}.10")
    return pix_row(number, f"{20 + number}.20")


def _one_step_row(number: int, refused: bool) -> Row:
    return {
        "amount": str(10_000 + number),
        "currency": "IDR",
        "service": "BANK_TRANSFER",
        "fields.accountName": "Siti Rahma",
        "fields.accountNumber": f"98{number:06}{REFUSED_ACCOUNT if refused else '7731'}",
        "fields.paymentOperatorCode": "BNK_014",
    }
