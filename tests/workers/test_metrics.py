"""/metrics over real HTTP: who is answered, with what, and at what cost to the database."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event, text

from tests.workers.receiver_world import served
from tests.workers.record.conftest import BOTH, new_url, postgres_server
from tests.worlds import HandClock, approved, order, settings
from workers import metrics
from workers.calendars import occasion
from workers.metrics import KEPT_S, PAUSES
from workers.record.batches import BatchBook
from workers.record.calls import CallBook, Count, Kind
from workers.record.database import _head
from workers.record.runs import RunBook
from workers.record.status import State
from workers.runtime import Runtime
from workers.webhooks import application

__all__ = ["new_url", "postgres_server"]

TOKEN = "a-token-of-the-tests"
Samples = dict[tuple[str, tuple[str, ...]], float]
both = pytest.mark.parametrize("new_url", BOTH, indirect=True)


@dataclass
class Page:
    """A receiver that listens, and the record behind it."""

    runtime: Runtime
    clock: HandClock
    http: httpx.Client

    def get(self, **headers: str) -> httpx.Response:
        return self.http.get("/metrics", headers=headers)

    def samples(self) -> Samples:
        """What a scraper understands: name and values of the labels to number."""
        self.clock.sleep(60)
        answer = self.get()
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return {
            (
                sample.name,
                tuple(sample.labels[name] for name in sorted(sample.labels)),
            ): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }


def _values(labels: dict[str, str]) -> tuple[str, ...]:
    """In the order of the labels' names."""
    return tuple(value for _, value in sorted(labels.items()))


def paged(folder: Path, **changes: Any) -> Iterator[Page]:
    clock = HandClock()
    runtime = Runtime.open(settings(folder, **changes), clock)
    with served(runtime) as url, httpx.Client(base_url=url, timeout=10) as http:
        yield Page(runtime, clock, http)
    runtime.close()


@pytest.fixture
def page(tmp_path: Path, new_url: str) -> Iterator[Page]:
    yield from paged(tmp_path, database_url=new_url)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Page]:
    yield from paged(tmp_path, metrics_token=TOKEN)


only_sqlite = pytest.mark.parametrize("new_url", ["sqlite"], indirect=True)


@both
def test_every_account_and_state_has_a_series_from_the_start(page: Page) -> None:
    samples = page.samples()
    for state in State:
        assert samples["paybatch_payouts", ("main", state)] == 0
    for kind in PAUSES:
        assert samples["paybatch_account_paused", ("main", kind)] == 0
    assert samples["paybatch_oldest_due_seconds", ("main", "send")] == 0
    assert samples["paybatch_sweep_age_seconds", ()] == math.inf
    assert samples["paybatch_info", (_head(), "0.1.0")] == 1


def test_a_schedules_lateness_and_last_run_are_told(tmp_path: Path) -> None:
    nightly = {"name": "nightly", "time": "13:00", "time_zone": "UTC", "inbox": "inbox"}
    every_day = {"business_days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]}
    for page in paged(tmp_path, schedules=[{**nightly, **every_day}]):
        samples = page.samples()
        assert samples["paybatch_schedule_overdue_seconds", ("nightly",)] == 0
        assert samples["paybatch_schedule_files_waiting", ("nightly",)] == 0
        book = RunBook(page.runtime.database)
        book.known_since("nightly", page.clock.now())
        page.clock.move_to(datetime(2026, 3, 1, 14, tzinfo=UTC))
        assert page.samples()["paybatch_schedule_overdue_seconds", ("nightly",)] == 3660
        [schedule] = page.runtime.settings.schedules
        one = occasion(date(2026, 3, 1), schedule)
        book.begin("nightly", one, page.clock.now(), outcome="missed")
        samples = page.samples()
        assert samples["paybatch_schedule_overdue_seconds", ("nightly",)] == 0
        assert samples["paybatch_schedule_last_run", ("missed", "nightly")] == 1
        assert samples["paybatch_schedule_last_run", ("finished", "nightly")] == 0


@both
def test_what_the_record_holds_is_told_in_base_units(page: Page) -> None:
    runtime, clock = page.runtime, page.clock
    approved(BatchBook(runtime.store), [order(), order()], now=clock.now())
    runtime.book.pause("main", "balance", "short", clock.now())
    with runtime.database.write() as connection:
        connection.execute(
            text("UPDATE accounts SET blocked_until = :at"),
            {"at": _stored(runtime, clock.now() + timedelta(seconds=90))},
        )
        connection.execute(
            text("UPDATE installation SET swept_at = :at"), {"at": _stored(runtime, clock.now())}
        )
    samples = page.samples()
    assert samples["paybatch_payouts", ("main", "queued")] == 2
    assert samples["paybatch_oldest_open_seconds", ("main", "queued")] == 60
    assert samples["paybatch_account_paused", ("main", "balance")] == 1
    assert samples["paybatch_account_paused", ("main", "fault")] == 0
    assert samples["paybatch_account_paused_seconds", ("main",)] == 60
    assert samples["paybatch_account_blocked_seconds", ("main",)] == 30
    assert samples["paybatch_sweep_age_seconds", ()] == 60
    runtime.book.resume("main")
    samples = page.samples()
    assert samples["paybatch_account_paused_seconds", ("main",)] == 0
    assert samples["paybatch_account_blocked_seconds", ("main",)] == 0
    assert samples["paybatch_oldest_due_seconds", ("main", "send")] == 120


def _stored(runtime: Runtime, at: Any) -> Any:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f") if runtime.database.is_sqlite else at


@both
def test_calls_are_a_histogram_in_seconds(page: Page) -> None:
    counts = {
        Kind("create", "2xx", 50): Count(3, 120_000),
        Kind("create", "2xx", 1000): Count(2, 1_500_000),
        Kind("create", "2xx", 0): Count(1, 31_000_000),
        Kind("poll", "ReadTimeout", 30_000): Count(1, 25_000_000),
    }
    CallBook(page.runtime.database).add("main", counts)
    samples = page.samples()

    def of(name: str, *labels: str) -> float:
        return samples[f"paybatch_call_duration_seconds_{name}", labels]

    # Labels in alphabetic order: account, answer, le, step.
    expected = {"0.025": 0, "0.05": 3, "0.5": 3, "1.0": 5, "30.0": 5, "+Inf": 6}
    for up_to_s, number in expected.items():
        assert of("bucket", "main", "2xx", up_to_s, "create") == number, up_to_s
    assert of("count", "main", "2xx", "create") == 6
    assert of("sum", "main", "2xx", "create") == 32.62
    assert of("count", "main", "ReadTimeout", "poll") == 1


@only_sqlite
def test_an_answer_is_given_again_for_a_while(page: Page) -> None:
    questions: list[object] = []
    engine = page.runtime.database.engine
    event.listen(engine, "before_cursor_execute", lambda *asked: questions.append(asked))
    first = page.get()
    assert questions
    approved(BatchBook(page.runtime.store), [order()], now=page.clock.now())
    asked = len(questions)
    with ThreadPoolExecutor(8) as pool:
        again = list(pool.map(lambda _: page.get().text, range(40)))
    assert set(again) == {first.text}
    assert len(questions) == asked
    page.clock.sleep(KEPT_S)
    assert page.get().text != first.text


@only_sqlite
def test_what_took_long_to_make_is_kept_for_longer(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_of = metrics.Page.text

    def slow(one: metrics.Page) -> bytes:
        page.clock.sleep(2)
        return text_of(one)

    monkeypatch.setattr(metrics.Page, "text", slow)
    first = page.get().text
    approved(BatchBook(page.runtime.store), [order()], now=page.clock.now())
    page.clock.sleep(metrics.KEPT_RATIO * 2 - 1)
    assert page.get().text == first
    page.clock.sleep(1)
    assert page.get().text != first


@both
def test_without_the_database_there_is_no_answer_until_it_is_back(page: Page) -> None:
    with page.runtime.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE webhooks RENAME TO gone")
    answer = page.get()
    assert (answer.status_code, answer.text) == (503, "the database does not answer\n")
    with page.runtime.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO webhooks")
    # It is left alone for a while, too.
    assert page.get().status_code == 503
    page.clock.sleep(KEPT_S)
    assert page.get().status_code == 200


@pytest.mark.parametrize(
    ("header", "status"),
    [
        *((f"Bearer {TOKEN}", 200), (f"Bearer {TOKEN}x", 401), (f"Bearer {TOKEN[:-1]}", 401)),
        *(("Bearer", 401), (TOKEN, 401), (f"Basic {TOKEN}", 401), ("Bearer \u00fc", 401)),
    ],
)
def test_with_a_token_only_those_who_know_it_are_answered(
    guarded: Page, header: str, status: int
) -> None:
    answer = guarded.http.get("/metrics", headers={"Authorization": header.encode()})
    assert answer.status_code == status
    assert ("paybatch_payouts" in answer.text) is (status == 200)
    assert TOKEN not in answer.text
    assert (answer.headers.get("www-authenticate") == "Bearer") is (status == 401)


def test_with_a_token_a_request_without_it_is_refused(guarded: Page) -> None:
    assert guarded.get().status_code == 401
    through = guarded.get(Authorization=f"Bearer {TOKEN}", **{"X-Forwarded-For": "203.0.113.9"})
    assert through.status_code == 200


@only_sqlite
@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"X-Real-IP": "203.0.113.9"},
    ],
)
def test_without_a_token_what_comes_through_a_proxy_is_refused(
    page: Page, headers: dict[str, str]
) -> None:
    answer = page.get(**headers)
    assert answer.status_code == 403
    assert answer.text.startswith("without a metrics_token")


@only_sqlite
@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 200), ("203.0.113.9", 403)])
def test_without_a_token_only_this_machine_is_answered(page: Page, host: str, status: int) -> None:
    async def ask() -> int:
        transport = httpx.ASGITransport(application(page.runtime), client=(host, 9))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            return (await http.get("/metrics")).status_code

    assert asyncio.run(ask()) == status


@only_sqlite
def test_only_get_is_answered(page: Page) -> None:
    assert page.http.post("/metrics").status_code == 405
