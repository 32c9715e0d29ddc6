"""A real Celery worker and beat on a real Redis: messages may be lost, doubled or forged."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from celery import Task

from tests.batches.cli_world import TIMEOUT_S, check_money, released, toml, until, usd_row
from tests.workers.cluster_world import QUEUE, Cluster, clustered, end
from tests.worlds import Post, approved, order, settings
from workers import tasks
from workers.errors import BrokerUnreachable, DeveloperError
from workers.queues import SWEEP, queue_of
from workers.record.batches import BatchBook
from workers.record.database import Database
from workers.redis_broker import TICKS_MAX
from workers.runtime import Runtime
from workers.simulator.payelata import read_flags, serve
from workers.tasks import told_here


def test_messages_that_are_doubled_or_forged_pay_nothing_more(tmp_path: Path) -> None:
    with clustered(tmp_path) as cluster:
        cluster.start_worker()
        cluster.start_beat()
        world = cluster.world
        words = ["create:slow=0.2", "create:drop-after", "process:drop-after", "create:409-after"]
        world.write([usd_row(n, words[n % len(words)]) for n in range(20)])
        world.write([usd_row(300), usd_row(301)], "draft.csv")
        world.write([usd_row(310)], "rejected.csv")
        world.write([usd_row(320)], "last.csv")
        draft, rejected = cluster.submit("draft.csv"), cluster.submit("rejected.csv")
        world.paybatch("reject", rejected)

        # Of what is not approved, a message moves nothing; nor does one of anything else.
        for number in [*cluster.ids(draft), *cluster.ids(rejected)]:
            cluster.publish(number, times=2)
        for arguments in ((10**9,), ("1 OR 1=1",), (None,), ({"reference_id": "T-0300"},), ()):
            cluster.publish(*arguments)
        # Each message of an approved batch comes four times.
        batch = cluster.submit("p.csv", "--approve")
        for number in cluster.ids(batch):
            cluster.publish(number, times=3)
        # The command follows; the workers pay.
        assert world.paybatch("watch", batch, "--json").json["counts"] == {"paid": 20}
        world.paybatch("results", batch, "-o", "p.results.csv")
        for number in cluster.ids(batch):
            cluster.publish(number)
        # The same worker pays what comes after all of them.
        cluster.until_paid(cluster.submit("last.csv", "--approve"))
        until(lambda: cluster.redis.llen(QUEUE) == 0)

        assert cluster.states(draft) == ["draft", "draft"]
        assert cluster.states(rejected) == ["cancelled"]
        ledger = dict(cluster.provider.ledger())
        assert released(ledger).pop("T-0320") == 1
        del ledger["T-0320"]
        assert ledger["T-0000"]["creates"] == 1
        check_money(world.read(), ledger)


def test_a_killed_worker_and_a_flushed_broker_cost_time_and_nothing_else(tmp_path: Path) -> None:
    with clustered(tmp_path) as cluster:
        world = cluster.world
        world.write([usd_row(n, "create:slow=0.3") for n in range(30)])
        batch = cluster.submit("p.csv", "--approve")

        # What is in the broker is an id, and when it is worthless.
        messages = [json.loads(message) for message in cluster.redis.lrange(QUEUE, 0, -1)]
        bodies = [json.loads(base64.b64decode(message["body"])) for message in messages]
        assert sorted(cluster.messages()) == cluster.ids(batch)
        assert all(len(body[0]) == 1 and body[1] == {} for body in bodies)
        assert all(message["headers"]["expires"] for message in messages)
        for row in world.read("p.csv"):
            for secret in (row["reference_id"], row["fields.account"]):
                assert secret not in json.dumps([messages, bodies])

        # A worker that starts late finds expired messages, and what the sweep announces again.
        worker = cluster.start_worker()
        cluster.start_beat()
        until(lambda: world.count("creating") and world.count("created", "processing", "paid"))
        worker.kill()
        cluster.redis.flushdb()
        cluster.start_worker()
        cluster.until_paid(batch)
        world.paybatch("results", batch, "-o", "p.results.csv")
        check_money(world.read(), cluster.provider.ledger())


def test_a_worker_told_to_stop_ends_its_calls_and_gives_the_rest_back(tmp_path: Path) -> None:
    with clustered(tmp_path) as cluster:
        world = cluster.world
        world.write([usd_row(n, "create:slow=0.3") for n in range(60)])
        # No mark runs out here: what is lost now would stay so.
        for name, value in {"ANNOUNCE_S": 400, "LOOKUP_GRACE_S": 500}.items():
            world.env[f"PAYBATCH_ACCOUNTS__MAIN__{name}"] = str(value)
        batch = cluster.submit("p.csv", "--approve")
        # It has fetched more than it can begin.
        worker = cluster.start_worker("--prefetch-multiplier", "3")
        beat = cluster.start_beat()
        until(lambda: world.count("creating") and world.count("processing", "paid"))
        end(beat)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(TIMEOUT_S) == 0
        # All that is announced has its message, for another worker to take at once.
        awaited = "SELECT id FROM payouts WHERE state = 'queued' AND announced_until IS NOT NULL"
        assert {number for (number,) in world.query(awaited)} <= set(cluster.messages())
        # Nothing of it is left in a worker's hands, and nothing is in doubt.
        assert world.one("SELECT count(*) FROM payouts WHERE claimed_until IS NOT NULL") == 0
        assert world.count("creating") == 0
        assert world.count("queued") > 0
        cluster.start_worker()
        cluster.start_beat()
        cluster.until_paid(batch)
        dead = (
            "SELECT count(*) FROM payout_events WHERE cause = 'its worker was not heard of again'"
        )
        assert world.one(dead) == 0
        world.paybatch("results", batch, "-o", "p.results.csv")
        check_money(world.read(), cluster.provider.ledger())


def test_a_provider_that_hangs_does_not_hold_up_anothers_payouts(tmp_path: Path) -> None:
    hangs = ["--quiet", "--fault", "create:hang-after*0"]
    with clustered(tmp_path) as cluster, serve(read_flags(hangs)) as hanging:
        world = cluster.world
        settings = world.folder / "paybatch.toml"
        other = toml(hanging).replace("[accounts.main]", "[accounts.other]")
        # Each account alone could have more calls than this worker has threads.
        settings.write_text('default_account = "main"\n' + settings.read_text() + other)
        for name, value in {"CALL_DEADLINE_S": "20", "READ_TIMEOUT_S": "20"}.items():
            world.env[f"PAYBATCH_ACCOUNTS__OTHER__{name}"] = value
        for name, value in {"CLAIM_S": 40, "ANNOUNCE_S": 50, "LOOKUP_GRACE_S": 60}.items():
            world.env[f"PAYBATCH_ACCOUNTS__OTHER__{name}"] = str(value)
        world.write([usd_row(n) for n in range(100, 150)], "hangs.csv")
        world.write([usd_row(n) for n in range(50)])
        stuck = cluster.submit("hangs.csv", "--approve", "--account", "other")
        cluster.start_worker()
        cluster.start_beat()
        until(lambda: cluster.states(stuck).count("creating") >= 4)
        healthy = cluster.submit("p.csv", "--approve")
        cluster.until_paid(healthy)
        assert set(cluster.states(stuck)) <= {"creating", "queued", "unknown"}


def test_while_the_broker_is_away_an_approved_batch_is_stored_and_announced_later(
    tmp_path: Path,
) -> None:
    with clustered(tmp_path) as cluster:
        world = cluster.world
        world.write([usd_row(n) for n in range(5)])
        away = {"PAYBATCH_BROKER_URL": "redis://127.0.0.1:9/0"}
        ended = world.paybatch("submit", "p.csv", "--approve", **away)
        assert "the broker does not answer" in ended.err
        assert "paybatch doctor" in ended.err
        batch = world.batch_id()
        cluster.start_worker()
        cluster.start_beat()
        cluster.until_paid(batch)
        assert cluster.redis.llen(queue_of("main", to_send=True)) == 0


def test_beats_without_a_worker_keep_the_latest_ticks_and_no_more(tmp_path: Path) -> None:
    with clustered(tmp_path) as cluster:
        cluster.redis.lpush(SWEEP, *(["an old one"] * 2 * TICKS_MAX))
        cluster.start_beat()
        until(lambda: cluster.redis.llen(SWEEP) == TICKS_MAX)
        until(lambda: {"workers.tasks.dispatch", "workers.tasks.sweep"} <= set(ticks(cluster)))
        assert cluster.redis.llen(SWEEP) == TICKS_MAX


def ticks(cluster: Cluster) -> list[str]:
    """What the latest ticks ask for, each."""
    latest = cluster.redis.lrange(SWEEP, 0, 99)
    return [json.loads(one)["headers"]["task"] for one in latest if one != b"an old one"]


@pytest.fixture
def lent(tmp_path: Path) -> Iterator[Runtime]:
    """What this process's tasks work with: a record with a payout that is due."""
    runtime = Runtime.open(settings(tmp_path))
    approved(BatchBook(runtime.store), [order()], now=runtime.clock.now())
    tasks.use(runtime)
    yield runtime
    tasks.use(None)
    runtime.close()


@pytest.mark.parametrize("tick", [tasks.sweep, tasks.dispatch])
def test_however_long_a_tick_takes_the_next_ones_keep_no_thread(
    tick: Task, lent: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "TICK_S_MIN", 0)
    monkeypatch.setattr(tasks, "broker", Post())
    waiting = [threading.Thread(target=tick.run) for _ in range(4)]
    with contextlib.closing(sqlite3.connect(lent.settings.database_url[10:])) as other:
        # Until this is undone, nobody stores anything.
        other.execute("BEGIN IMMEDIATE")
        for each in waiting:
            each.start()
        until(lambda: [each.is_alive() for each in waiting].count(True) == 1)
        other.rollback()
    for each in waiting:
        each.join()
    assert len(tasks.broker.take()) == 1
    # Whoever comes after it does its work again.
    lent.due.forget_announcements()
    tick.run()
    assert len(tasks.broker.take()) == 1


def test_a_sweep_does_not_wait_for_a_provider_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "TICK_S_MIN", 0)
    monkeypatch.setattr(tasks, "broker", Post())
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as hanging:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}/api"
        runtime = Runtime.open(settings(tmp_path, base_url=url))
        tasks.use(runtime)
        # Long enough ago to be probed now.
        then = runtime.clock.now() - timedelta(hours=1)
        runtime.book.pause("main", "fault", "the key was refused", then)
        # Before any answer: there is none.
        tasks.sweep.run()
        [probe] = [each for each in threading.enumerate() if each.name == "paybatch-probe"]
        hanging.settimeout(TIMEOUT_S)
        hanging.accept()[0].close()
    probe.join()
    tasks.use(None)
    runtime.close()


def test_ticks_that_come_together_do_their_work_once(lent: Runtime) -> None:
    done: list[int] = []

    @tasks.one_at_a_time
    def work() -> None:
        done.append(1)

    for _ in range(3):
        work()
    assert len(done) == 1
    until(lambda: work() or len(done) == 2)
    tasks.stop()
    monotonic = time.monotonic()
    until(lambda: work() or time.monotonic() - monotonic > 2 * tasks.TICK_S_MIN)
    assert len(done) == 2


@pytest.mark.parametrize("tick", [tasks.sweep, tasks.dispatch])
def test_a_broker_that_is_away_is_told_in_a_line(
    tick: Task,
    lent: Runtime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    post = Post()
    post.away = BrokerUnreachable("nobody is there")
    monkeypatch.setattr(tasks, "TICK_S_MIN", 0)
    monkeypatch.setattr(tasks, "broker", post)
    tick.run()
    [record] = [one for one in caplog.records if one.levelname != "INFO"]
    assert (record.levelname, record.message) == ("WARNING", "broker unreachable")
    assert record.exc_info is None
    post.away = None
    tick.run()
    assert len(post.take()) == 1


def test_on_rabbitmq_the_same_code_pays_each_line_once(tmp_path: Path, amqp_url: str) -> None:
    with clustered(tmp_path) as cluster:
        world = cluster.world
        cluster.use_broker(amqp_url)
        world.write([usd_row(n, ["", "create:drop-after"][n % 2]) for n in range(20)])
        batch = cluster.submit("p.csv", "--approve")
        cluster.start_beat()
        worker = cluster.start_worker()
        for number in cluster.ids(batch):
            cluster.publish(number, times=2)
        until(lambda: world.count("processing", "paid"))
        # What a killed worker had taken comes back, or is announced again.
        worker.kill()
        cluster.start_worker()
        cluster.until_paid(batch)
        world.paybatch("results", batch, "-o", "p.results.csv")
        check_money(world.read(), cluster.provider.ledger())
        assert "quorum" in cluster.queue_type(QUEUE)


def test_a_database_that_is_away_is_told_in_a_line(caplog: pytest.LogCaptureFixture) -> None:
    database = Database("postgresql+psycopg://127.0.0.1:1/none")

    @told_here
    def ask() -> None:
        database.now()

    ask()
    [record] = caplog.records
    assert (record.levelname, record.message, record.exc_info) == ("WARNING", "database away", None)


def test_what_a_database_takes_amiss_is_told_in_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(f"sqlite:///{tmp_path}/p.db")

    @told_here
    def ask() -> None:
        with database.read() as connection:
            connection.exec_driver_sql("SELECT * FROM none")

    with pytest.raises(DeveloperError, match="OperationalError"):
        ask()
    [record] = caplog.records
    assert (record.levelname, record.message) == ("ERROR", "task failed")
    assert record.exc_info is not None
