"""Control totals speak of the whole file, and say plainly what they did not count."""

from __future__ import annotations

from pathlib import Path

import pytest

from batches.checks import CheckedRow, RowChecker
from batches.controls import Controls
from tests.batches.awkward import account, opened
from tests.batches.cli_world import provided, usd_row
from workers.record.money import Currency, Money

HEADER = "reference_id,amount,currency,fields.iban"


def controls(tmp_path: Path, *rows: str, count: int | None = None, **totals: str) -> Controls:
    """The totals of a file of these rows, beside those that were stated."""
    path = tmp_path / "p.csv"
    path.write_text("\n".join([HEADER, *rows, ""]))
    stated = [Money.parse(text, Currency.of(code)) for code, text in totals.items()]
    made = Controls(count, stated)
    checker = RowChecker({"main": account()}, usual_account="main")
    for chunk in opened(path).chunks(2):
        checked: list[CheckedRow]
        checked, _ = checker.check(chunk)
        made.add(chunk, checked)
    return made


ROWS = ("P-1,10.00,EUR,DE89", "P-2,0.50,EUR,DE89", "P-3,7,USD,DE89")


def test_totals_that_hold_say_nothing(tmp_path: Path) -> None:
    made = controls(tmp_path, *ROWS, count=3, EUR="10.50", USD="7.00")
    assert (made.contradictions(), made.warnings()) == ([], [])
    made = controls(tmp_path, *ROWS)
    assert (made.contradictions(), made.warnings()) == ([], [])


def test_each_total_that_does_not_hold_is_told_with_both_numbers(tmp_path: Path) -> None:
    made = controls(tmp_path, *ROWS, count=1200, EUR="1000.00", USD="7.01")
    assert made.contradictions() == [
        "control total: 1,200 rows stated, the file has 3",
        "control total: 1,000.00 EUR stated, the file's rows have 10.50 EUR",
        "control total: 7.01 USD stated, the file's rows have 7.00 USD",
    ]


@pytest.mark.parametrize(
    "faulty",
    [
        "P-1,5.00,EUR,DE89",  # a duplicate
        "P-4,5.00,EUR,D",
        "P 4,5.00,EUR,DE89",
        "P-4,5.00,EUR,DE89\u200b",
    ],
)
def test_rows_with_other_faults_are_part_of_the_file(tmp_path: Path, faulty: str) -> None:
    made = controls(tmp_path, *ROWS, faulty, count=4, EUR="15.50")
    assert made.contradictions() == []


@pytest.mark.parametrize(
    "unread", ["P-4,5.001,EUR,DE89", "P-4,x,EUR,DE89", "P-4,5,eur,DE89", "P-4,5,00,EUR,DE89"]
)
def test_what_cannot_be_read_is_not_counted_and_that_is_said(tmp_path: Path, unread: str) -> None:
    made = controls(tmp_path, *ROWS, unread, count=4, EUR="15.50")
    assert made.contradictions() == [
        "control total: 15.50 EUR stated, the file's rows have 10.50 EUR, not counting 1 row"
        " without an amount that can be read"
    ]


def test_a_currency_that_nothing_was_stated_for_is_a_warning(tmp_path: Path) -> None:
    made = controls(tmp_path, *ROWS, EUR="10.50")
    assert made.contradictions() == []
    assert made.warnings() == [
        "no control total was stated for USD, of which the file has 7.00 USD"
    ]


def test_a_file_that_is_not_what_was_announced_is_refused_whole(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1), usd_row(2), usd_row(3, amount="1e3")])
        totals = ("--expect-count", "3", "--expect-total", "USD=23.50")
        # The faulty row is one of the file's rows, though it is left out and not in the sum.
        facts = world.paybatch("check", "p.csv", *totals, "--valid-rows-only", "--json").json
        assert (facts["ok"], facts["contradictions"]) == (True, [])
        wrong = ("--expect-count", "2", "--expect-total", "USD=23.51", "--valid-rows-only")
        facts = world.paybatch("check", "p.csv", *wrong, "--json", code=3).json
        assert facts["contradictions"] == [
            "control total: 2 rows stated, the file has 3",
            "control total: 23.51 USD stated, the file's rows have 23.50 USD, not counting 1"
            " row without an amount that can be read",
        ]
        told = world.paybatch("run", "p.csv", "--yes", *wrong, code=3)
        assert "Refused: control total: 2 rows stated, the file has 3" in told.out
        assert world.nothing_is_stored()
        assert provider.ledger() == {}
        # A file that is stored, or paid, is held against them all the same.
        good = ("--expect-count", "3", "--valid-rows-only")
        world.paybatch("run", "p.csv", "--yes", *good)
        paid = provider.ledger()
        for command in (("run", "p.csv", "--yes"), ("submit", "p.csv"), ("check", "p.csv")):
            told = world.paybatch(*command, *wrong, code=3).out
            assert "Refused: control total: 2 rows stated, the file has 3" in told
        assert "finished" in world.paybatch("run", "p.csv", "--yes", *good, code=3).err
        assert provider.ledger() == paid
        twice = ("--expect-total", "USD=1", "--expect-total", "USD=2")
        assert "twice for USD" in world.paybatch("check", "p.csv", *twice, code=2).err
        for bad in ("USD", "USD=1,5", "usd=1", "=1"):
            assert (
                "--expect-total"
                in world.paybatch("check", "p.csv", "--expect-total", bad, code=2).err
            )


def test_several_rows_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    [told] = controls(tmp_path, *ROWS, "P-4,x,EUR,DE89", "P-5,y,EUR,DE89", EUR="1").contradictions()
    assert told.endswith(", not counting 2 rows without an amount that can be read")
