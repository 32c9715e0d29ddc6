"""The fault language and which call suffers which fault."""

from __future__ import annotations

import contextlib
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.simulator import faults
from workers.simulator.faults import AFTER_ONLY, EITHER, POINTS, STATUSES, Behaviour, Effect

GOOD_EFFECTS = [
    *EITHER,
    *(f"{each}-after" for each in (*EITHER, *AFTER_ONLY)),
    *(str(each) for each in STATUSES),
    *(f"{each}-after" for each in STATUSES),
    "slow=0.5",
    "429=7",
    "429-after=7",
]


@pytest.mark.parametrize("effect", GOOD_EFFECTS)
def test_every_effect_is_known_at_every_point(effect: str) -> None:
    for point in POINTS:
        (fault,) = faults.parse(f"{point}:{effect}*3").faults
        assert (fault.point, fault.times, fault.text) == (point, 3, f"{point}:{effect}")
        assert fault.effect.applied is ("-after" in effect or effect.startswith("slow"))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("settle=2", Behaviour(settle_s=2.0)),
        ("status=process_failed", Behaviour(status="process_failed")),
        ("status=made_up", Behaviour(status="made_up")),
        ("resolution=declined_error", Behaviour(resolution="declined_error")),
        ("path=process_error>processed", Behaviour(path=("process_error", "processed"))),
        ("hide=30", Behaviour(hide_s=30.0)),
        ("amount=1.23", Behaviour(amount=Decimal("1.23"))),
        ("currency=EUR", Behaviour(currency="EUR")),
        ("mode-flipped", Behaviour(mode_flipped=True)),
        ("release=5", Behaviour(release_s=5.0)),
        ("release-ignored", Behaviour(release_ignored=True)),
        ("auto", Behaviour(auto=True)),
        ("returned=60", Behaviour(returned_s=60.0)),
    ],
)
def test_every_behaviour_word_is_known(word: str, expected: Behaviour) -> None:
    assert faults.parse(word).behaviour == expected


@pytest.mark.parametrize(
    "text",
    [
        "create",
        "create:",
        "nowhere:drop",
        "create:explode",
        "create:418",
        "create:garbage",  # there is no answer to spoil
        "create:slow",
        "create:slow=-1",
        "create:slow=nan",
        "create:slow=1-after",
        "create:drop=1",
        "create:drop*",
        "create:drop*-1",
        "create:drop*9999999",
        "settle=",
        "settle=99999999",
        "status=Process-Failed",
        "path=a>>b",
        "amount=1e5",
        "currency=usd",
        "auto=1",
        "unknown=1",
        "status=a path=b",
        "settle=1 settle=2",
        "auto " * 51,
    ],
)
def test_bad_specification_is_refused(text: str) -> None:
    with pytest.raises(faults.BadSpec):
        faults.parse(text)


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(faults.BadSpec):
        faults.parse(text)


def test_429_asks_for_one_second_unless_told() -> None:
    assert faults.parse("create:429").faults[0].effect == Effect("status", False, 429, 1.0)
    assert faults.parse("create:429=7").faults[0].effect.seconds == 7.0


def test_later_word_on_the_way_replaces_the_earlier_one() -> None:
    lower = faults.parse("path=process_pending>processed settle=9").behaviour
    upper = faults.parse("status=expired").behaviour
    assert lower.under(upper) == Behaviour(settle_s=9.0, status="expired")


def test_zero_seconds_are_said_too() -> None:
    lower = faults.parse("settle=9 hide=9 release=9 returned=9").behaviour
    upper = faults.parse("settle=0 hide=0 release=0 returned=0").behaviour
    assert lower.under(upper) == upper


class Book:
    """A book whose uses are kept as the ledger keeps them."""

    def __init__(self, flags: str = "", every: int = 1) -> None:
        self.uses: Counter[tuple[str, str | None]] = Counter()
        self.book = faults.FaultBook(faults.parse(flags), every=every, uses=self.uses)

    def strike(self, point: str, reference_id: str | None = "r-1") -> str | None:
        taken = self.book.take(point, reference_id)
        if taken is None:
            return None
        self.uses[taken.rule, reference_id] += 1
        return taken.fault.text


def test_times_count_for_each_reference_id() -> None:
    book = Book("create:drop*2")
    assert [book.strike("create", "a") for _ in range(3)] == ["create:drop"] * 2 + [None]
    assert book.strike("create", "b") == "create:drop"


def test_zero_times_is_always() -> None:
    book = Book("read:500*0")
    assert all(book.strike("read") for _ in range(20))


def test_faults_strike_in_the_order_written() -> None:
    book = Book("create:503*2 create:drop-after")
    struck = [book.strike("create") for _ in range(4)]
    assert struck == ["create:503", "create:503", "create:drop-after", None]


def test_point_any_meets_every_call() -> None:
    book = Book("any:500*0")
    assert all(book.strike(point, None) for point in POINTS[:-1])
    assert Book("read:500").strike("find") is None


def test_every_nth_matching_call_suffers() -> None:
    book = Book("create:500*0", every=3)
    struck = [bool(book.strike("create", f"r-{number}")) for number in range(9)]
    assert struck == [False, False, True] * 3


def test_every_nth_invoice_lives_as_the_flags_say() -> None:
    book = Book("status=expired", every=3).book
    lives = [
        book.behaviour(f"r-{serial}", serial, default=Behaviour()).status for serial in range(1, 7)
    ]
    assert lives == [None, None, "expired", None, None, "expired"]


def test_row_comes_before_control_and_control_before_flags() -> None:
    book = Book("create:500")
    book.book.add("r-1", faults.parse("create:502"))
    book.book.learn("r-1", faults.parse("create:503"))
    assert [book.strike("create") for _ in range(4)] == [
        "create:503",
        "create:502",
        "create:500",
        None,
    ]


def test_behaviour_of_a_control_call_wins_over_row_over_test_fields_over_flags() -> None:
    book = Book("status=a resolution=a settle=1 release=1").book
    book.learn("r-1", faults.parse("settle=3 resolution=c"))
    book.add("r-1", faults.parse("settle=4"))
    merged = book.behaviour("r-1", 1, default=Behaviour(status="b", resolution="b", settle_s=2.0))
    assert merged == Behaviour(status="b", resolution="c", settle_s=4.0, release_s=1.0)


def test_fault_for_one_reference_id_spares_the_others() -> None:
    book = Book()
    book.book.add("r-1", faults.parse("create:drop status=expired"))
    assert book.strike("create", "r-2") is None
    assert book.book.behaviour("r-2", 1, default=Behaviour()).status is None
    assert book.strike("create", "r-1") == "create:drop"


def test_clear_takes_back_flags_and_control_but_not_the_row() -> None:
    book = Book("create:500")
    book.book.add(None, faults.parse("create:502"))
    book.book.learn("r-1", faults.parse("create:503"))
    book.book.clear()
    assert [book.strike("create") for _ in range(2)] == ["create:503", None]
