"""A health check tells work that is done from mere presence."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from batches import health
from tests.batches.cli_world import provided, usd_row
from tests.workers.test_heartbeat import age
from tests.worlds import approved, order, settings
from workers import heartbeat
from workers.errors import UsageError
from workers.record.batches import BatchBook
from workers.runtime import Runtime
from workers.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


# --- a beat ---


@pytest.fixture
def given(tmp_path: Path) -> Settings:
    return settings(tmp_path, heartbeat_folder=tmp_path)


def sign(who: str, folder: Path, age_s: float) -> None:
    """Leave a sign of that age at `NOW`."""
    path = heartbeat.path_of(who, folder)
    heartbeat.leave(path)
    age(path, path.stat().st_mtime - NOW.timestamp() + age_s)


@pytest.mark.parametrize(("age_s", "ok"), [(0, True), (14, True), (16, False), (9999, False)])
def test_a_beat_is_healthy_while_it_publishes(given: Settings, age_s: float, ok: bool) -> None:
    sign(heartbeat.BEAT, given.heartbeat_folder, age_s)
    assert health.beat(given, NOW).ok is ok


def test_where_none_has_begun_there_is_nothing_healthy(given: Settings) -> None:
    for found in (health.beat(given, NOW), health.worker(given, NOW)):
        assert not found.ok
        assert "has begun here" in found.sentence


# --- a worker ---


class Waiting:
    """A record with a payout that has been due for some time."""

    def __init__(self, given: Settings) -> None:
        self.settings = given
        self.runtime = Runtime.open(given)

    def queue(self, due_s: float, account: str = "main") -> str:
        book = BatchBook(self.runtime.store)
        return approved(book, [order(account=account)], now=NOW - timedelta(seconds=due_s))

    def judge(self, age_s: float, *accounts: str) -> health.Health:
        sign(heartbeat.WORKER, self.settings.heartbeat_folder, age_s)
        return health.worker(self.settings, NOW, accounts)


@pytest.fixture
def waiting(given: Settings) -> Iterator[Waiting]:
    made = Waiting(given)
    yield made
    made.runtime.close()


@pytest.mark.parametrize(
    ("finished_s", "due_s", "ok"),
    [
        (10, 3600, True),  # It works: others, or the rate limit, keep the payout waiting.
        (3600, 10, True),  # It was idle, and has not had its time yet.
        (3600, 3600, False),
        (91, 91, False),
        (89, 3600, True),  # A single task may take as long as a claim of 90 s.
        (3600, 89, True),
    ],
)
def test_a_worker_is_unhealthy_only_when_it_finishes_nothing_while_a_payout_waits(
    waiting: Waiting, finished_s: float, due_s: float, ok: bool
) -> None:
    waiting.queue(due_s)
    assert waiting.judge(finished_s).ok is ok


def test_an_idle_worker_is_healthy(waiting: Waiting) -> None:
    assert waiting.judge(3600).ok


def test_what_a_worker_may_not_take_does_not_count_against_it(waiting: Waiting) -> None:
    waiting.queue(3600)
    waiting.runtime.book.pause("main", "outage", "breaker", NOW)
    assert waiting.judge(3600).ok
    waiting.runtime.book.resume("main")
    assert not waiting.judge(3600).ok


def test_what_another_worker_has_claimed_does_not_count_against_this_one(waiting: Waiting) -> None:
    waiting.queue(3600)
    [due] = waiting.runtime.due.announce(NOW, window=1, announce_s={"main": 120})
    assert not waiting.judge(3600).ok
    assert waiting.runtime.store.claim(due.payout_id, waiting.runtime.policies, NOW) is not None
    assert waiting.judge(3600).ok


def test_a_worker_is_judged_by_its_own_accounts(tmp_path: Path) -> None:
    given = settings(
        tmp_path, heartbeat_folder=tmp_path, accounts={"other": main_account(tmp_path)}
    )
    made = Waiting(given)
    made.queue(3600, "other")
    try:
        assert not made.judge(3600).ok
        assert not made.judge(3600, "other").ok
        assert made.judge(3600, "main").ok
        with pytest.raises(UsageError, match="no account 'mian'"):
            made.judge(3600, "mian")
    finally:
        made.runtime.close()


def main_account(folder: Path) -> dict[str, Any]:
    one = settings(folder).accounts["main"]
    return {**one.options, "provider": one.provider, "rate_per_s": 0}


def test_payouts_of_an_account_that_is_gone_do_not_count(waiting: Waiting) -> None:
    waiting.queue(3600)
    with sqlite3.connect(waiting.runtime.database.path or "") as database:
        database.execute("PRAGMA foreign_keys=OFF")
        database.execute("INSERT INTO accounts (name, provider) VALUES ('gone', 'payelata')")
        database.execute("UPDATE payouts SET account = 'gone'")
    database.close()
    assert waiting.judge(3600).ok


@pytest.mark.parametrize("answering", [False, True])
def test_a_database_that_does_not_answer_is_not_the_workers_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answering: bool
) -> None:
    monkeypatch.setattr(health, "ANSWER_S_MAX", 0.5)
    # One that refuses, and one that takes the connection and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if answering else 9
        url = f"postgresql+psycopg://u@127.0.0.1:{port}/x"
        given = settings(tmp_path, heartbeat_folder=tmp_path, database_url=url)
        sign(heartbeat.WORKER, tmp_path, 3600)
        found = health.worker(given, NOW)
    assert found.ok
    assert "the database does not answer" in found.sentence or "cannot be asked" in found.sentence


# --- what listens ---


@contextlib.contextmanager
def answering(status: int, body: bytes, seen: list[str]) -> Iterator[str]:
    """A server that gives everybody the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(f"{self.path} {self.headers.get('Authorization')}")
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


def flower(url: str) -> health.Health:
    return health.flower(url, "me:s3cret,you:x")


@pytest.mark.parametrize(
    ("ask", "status", "body", "ok", "words"),
    [
        (health.webhooks, 200, b'{"healthy": true}', True, "can use the record"),
        (health.webhooks, 503, b"{}", False, "cannot use the record"),
        (health.webhooks, 404, b"", False, "answers with status 404"),
        (health.simulator, 200, b'{"healthy": true}', True, "works"),
        (health.simulator, 403, b"{}", False, "status 403"),
        (flower, 200, b'{"a": true, "b": false, "c": true}', True, "sees 2 workers alive"),
        (flower, 200, b'{"a": true}', True, "sees 1 worker alive"),
        (flower, 200, b'{"a": false}', False, "no worker alive"),
        (flower, 200, b"{}", False, "no worker alive"),
        (flower, 200, b"not JSON", False, "does not answer"),
        (flower, 401, b"", False, "refuses the login"),
    ],
)
def test_a_service_is_judged_by_what_it_answers(
    ask: Callable[[str], health.Health], status: int, body: bytes, ok: bool, words: str
) -> None:
    seen: list[str] = []
    with answering(status, body, seen) as url:
        found = ask(url)
    assert (found.ok, words in found.sentence) == (ok, True), found
    assert "s3cret" not in found.sentence
    if ask is flower:
        assert seen == ["/api/workers?status=1 Basic bWU6czNjcmV0"]


@pytest.mark.parametrize("ask", [health.webhooks, health.simulator, flower])
def test_nobody_there_is_unhealthy(ask: Callable[[str], health.Health]) -> None:
    assert "does not answer" in ask("http://127.0.0.1:9").sentence


# --- the command ---


def test_the_command_ends_with_0_or_1_and_says_why(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        env = {"PAYBATCH_HEARTBEAT_FOLDER": str(tmp_path)}
        ended = world.paybatch("health", "worker", code=1, **env)
        assert ended.out.startswith("Unhealthy: no worker has begun here")
        heartbeat.leave(heartbeat.path_of(heartbeat.WORKER, tmp_path))
        assert world.paybatch("health", "worker", **env).out.startswith("Healthy: the worker")
        heartbeat.leave(heartbeat.path_of(heartbeat.BEAT, tmp_path))
        assert world.paybatch("health", "beat", "--json", **env).json["healthy"] is True
        url = provider.running.control_url.removesuffix("/_control")
        assert world.paybatch("health", "simulator", "--url", url).out.startswith("Healthy")
        login = {"FLOWER_BASIC_AUTH": "me:s3cret"}
        ended = world.paybatch("health", "flower", "--url", url, code=1, **login)
        assert "s3cret" not in ended.out + ended.err


def test_an_embedded_run_leaves_no_signs(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1)])
        world.paybatch("run", "p.csv", "--yes", PAYBATCH_HEARTBEAT_FOLDER=str(tmp_path))
        assert list(tmp_path.glob("*.heartbeat")) == []


def test_the_program_of_its_own_loads_nothing_that_reads_files(tmp_path: Path) -> None:
    code = "import sys, batches.cli_health; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    heavy = {b"pandas", b"pyarrow", b"openpyxl", b"aiohttp", b"starlette", b"celery"}
    assert heavy & set(loaded.split()) == set()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("beat",), 1, "Unhealthy: no beat has begun here"),
        (("worker", "--account", "mian"), 2, "paybatch-health: no account 'mian'"),
        (("ping",), 2, "is not one of"),
    ],
)
def test_the_program_of_its_own_says_the_same(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    program = Path(sys.executable).with_name("paybatch-health")
    env = {"PAYBATCH_HEARTBEAT_FOLDER": str(tmp_path)}
    done = subprocess.run(
        [program, *arguments], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
