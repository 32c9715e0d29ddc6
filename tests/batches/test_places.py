"""Names under which files and their companions lie: of their own, and short enough for any disk."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from batches.places import PLACE_OF, cut, errors_path, placed_name
from workers.record.runs import File
from workers.record.schedule_tables import PLACES

FILE = File(
    id=7,
    schedule="nightly",
    business_date=date(2026, 3, 2),
    name="a.csv",
    content_hash="",
    stamp="",
    bytes=1,
    taken_at=datetime(2026, 3, 2, tzinfo=UTC),
    fate="waiting",
    reason=None,
    waits_for="person",
    plan_hash=None,
    batch_id="BATCH22",
    twin_of=None,
    place="waiting",
    left_out=2,
)


def test_a_placed_name_has_the_date_and_a_number_of_its_own() -> None:
    assert placed_name(FILE) == "a.2026-03-02-7.csv"
    assert placed_name(replace(FILE, name="b")) == "b.2026-03-02-7"


def test_every_place_of_a_fate_is_one_that_the_record_knows() -> None:
    assert set(PLACE_OF.values()) == set(PLACES) - {"inbox", "gone"}


@pytest.mark.parametrize(
    ("place", "folder"),
    [
        ("waiting", "waiting"),
        ("done", "done"),
        ("refused", "refused"),
        # Not moved so far, or never: what is beside it is where it was put first.
        ("inbox", "waiting"),
        ("gone", "waiting"),
    ],
)
def test_rows_left_out_are_beside_their_file(place: str, folder: str) -> None:
    assert errors_path(replace(FILE, place=place)) == f"{folder}/a.2026-03-02-7.csv.errors.csv"


def test_rows_are_left_out_of_what_is_stored_alone() -> None:
    assert FILE.rows_left_out == 2
    assert replace(FILE, batch_id=None).rows_left_out == 0
    assert replace(FILE, left_out=None).rows_left_out == 0


def test_a_long_name_is_cut_between_letters() -> None:
    assert cut(f"{'ö' * 120}.csv") == f"{'ö' * 80}.csv"
    assert len(os.fsencode(cut("x" * 300))) == 160
    assert cut("a.csv") == "a.csv"
