"""The page of a report shows what others wrote as text, stands alone, and runs nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from batches.settlement_page import write_page
from batches.settlement_report import gather
from tests.batches.settlement_world import SettlementWorld, rows, settlement_world
from workers.errors import UsageError


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SettlementWorld]:
    with settlement_world(tmp_path, time_zone="America/New_York", time="21:00") as made:
        yield made


def a_night(world: SettlementWorld) -> None:
    world.deliver("a.csv", rows(1, 2))
    world.at("03T02:00")
    world.settle()
    world.pay()
    world.settle()


class Page(HTMLParser):
    """What a page has: its tags, and whatever could load or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action") or name.startswith("on"):
                self.outside.append(f"{tag} {name}={value}")


def test_the_page_stands_alone_and_runs_nothing(world: SettlementWorld) -> None:
    a_night(world)
    text = world.report(".html")
    page = Page(text)
    assert page.outside == []
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(page.tags)
    assert "url(" not in text
    assert "default-src 'none'" in text
    assert "@media print" in text


def test_what_others_wrote_is_text_on_the_page_and_no_formula_in_the_table(
    world: SettlementWorld,
) -> None:
    shutil.rmtree(world.inbox)
    world.inbox.mkdir()
    world.deliver("=1<script>alert(1)<&>.csv", rows(1, 1, amount="x"))
    world.deliver("\x1b[31m\u202e.csv", rows(1, 1, amount="x"))
    world.at("03T02:00")
    world.settle()
    text = world.report(".html")
    assert "<script" not in text
    assert "=1&lt;script&gt;alert(1)&lt;&amp;&gt;.csv" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "'=1<script>" in world.report(".csv")


def test_times_are_those_of_the_schedules_zone(world: SettlementWorld) -> None:
    a_night(world)
    text = world.report(".html")
    assert "Due 2026-03-02 21:00:00, begun 2026-03-02 21:00:00" in text
    assert "times are those of America/New_York" in text


def test_every_section_is_there_also_when_it_is_empty(world: SettlementWorld) -> None:
    a_night(world)
    text = world.report(".html")
    for title in ("In and out", "Files", "Failed or returned", "Needs a person", "Still open"):
        assert f"<h2>{title}</h2>" in text
    assert text.count("None.") == 3


def test_a_page_that_cannot_be_written_is_told_of(world: SettlementWorld, tmp_path: Path) -> None:
    a_night(world)
    report = gather(world.run(), world.schedule, world.runtime)
    with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
        write_page(report, tmp_path / "nowhere" / "r.html")
