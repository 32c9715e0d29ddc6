"""What belongs to a beneficiary, or opens the account, is nowhere in what a run leaves behind."""

from __future__ import annotations

import contextlib
import json
import stat
import threading
from collections.abc import Collection, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests import leaks
from tests.batches.cli_world import (
    API_KEY,
    TIMEOUT_S,
    Provider,
    Row,
    World,
    bank_row,
    card_row,
    pix_row,
    provided,
    until,
    usd_row,
)
from tests.workers.cluster_world import clustered

PERSONAL = ("card_number", "account", "account_number", "document_id", "pix_key", "full_name")
# The only files that may carry the input's own cells.
PRIVATE = {"failed.csv", "wrong.csv", "again.csv"}


def rows() -> list[Row]:
    made = [
        card_row(1, "USD", "55.10"),
        card_row(2, "EUR", "55.20", "create:422"),
        card_row(3, "USD", "55.30", "status=process_failed resolution=invalid_details"),
        bank_row(4, "USD", "55.40", "create:drop-after"),
        bank_row(5, "MXN", "55.50", "create:504-after"),
        pix_row(6, "55.60", "create:html-after"),
        pix_row(7, "55.70", "amount=1.00"),
        usd_row(8, "create:409-after"),
        usd_row(9, "create:500-after"),
        usd_row(10, "create:garbage-after"),
    ]
    for row in made:
        row["description"] = "Salary"
        row["customer.reference_id"] = f"person-{row['reference_id']}"
        row["customer.name"] = f"Ottoline {row['reference_id']} Featherstonehaugh"
        row["customer.email"] = f"ottoline.{row['reference_id']}@example.net"
    return made


def secrets_of(given: list[Row]) -> set[str]:
    """Every value of the input that is somebody's, and the account's key."""
    found = {
        value
        for row in given
        for name, value in row.items()
        if name in ("customer.name", "customer.email")
        or name.removeprefix("fields.") in PERSONAL
        or name.endswith("_document_id")
    }
    found.discard("")
    assert len(found) > 20
    return {*found, API_KEY}


def left_behind(world: World) -> dict[str, bytes]:
    """Every file in the folder but the input, and everything that was said on the screen."""
    files = [path for path in world.folder.rglob("*") if path.is_file()]
    # What was delivered to a schedule is input too, and so are its rows that were left out.
    files = [path for path in files if path.suffix != ".csv" or "inbox" not in path.parts]
    files += [path for path in world.screens.rglob("*") if path.is_file()]
    named = {path.name: path.read_bytes() for path in files}
    return {
        name: content
        for name, content in named.items()
        if name not in PRIVATE | {"p.csv", "bad.csv", "paybatch.toml"}
        and not name.startswith("paybatch.key")
    }


def check_nothing_leaked(
    world: World,
    secrets: set[str],
    searched: Collection[str] = ("paybatch.db", "paybatch.log"),
) -> None:
    left = left_behind(world)
    assert set(searched) <= set(left)
    leaks.check(left, secrets)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_personal_is_left_behind_by_a_run_with_every_kind_of_trouble(
    tmp_path: Path, log_format: str
) -> None:
    world = World(tmp_path)
    world.env["PAYBATCH_LOG_FORMAT"] = log_format
    given = rows()
    world.write(given)
    bad = [{**row, "reference_id": f"W{row['reference_id']}"} for row in given]
    # Wrong in the very cells that are secret.
    for row in bad:
        for name in list(row):
            if name.startswith("fields.") and row[name]:
                row[name] = f"{row[name]}/{'7' * 60}"
    bad[0]["amount"] = "4000 0000 0001 6628"
    bad[1]["currency"] = "4000000000026628"
    world.write(bad, "bad.csv")

    world.paybatch("check", "bad.csv", "--errors", "wrong.csv", code=3)
    world.paybatch("check", "bad.csv", "--json", code=3)
    world.paybatch("run", "bad.csv", "--yes", code=3)
    world.paybatch("run", "p.csv", "--yes", code=5)
    batch = world.batch_id()
    for suffix in ("csv", "parquet", "xlsx"):
        world.paybatch("results", batch, "-o", f"r.{suffix}")
    world.paybatch("results", batch, "--failed", "-o", "failed.csv")
    world.paybatch("check", "failed.csv", "--json")
    world.paybatch("status", batch)

    check_nothing_leaked(world, secrets_of(given))
    for name in ("failed.csv", "wrong.csv", "paybatch.db", "paybatch.log", "paybatch.key"):
        mode = stat.S_IMODE((world.folder / name).stat().st_mode)
        assert mode == 0o600, f"{name} {mode:o}"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_personal_is_in_the_logs_of_workers(tmp_path: Path, log_format: str) -> None:
    with clustered(tmp_path) as cluster:
        world = cluster.world
        world.env["PAYBATCH_LOG_FORMAT"] = log_format
        given = rows()
        world.write(given)
        cluster.start("worker", "-P", "threads", "-c", "8", "-l", "DEBUG", "-E")
        cluster.start_beat()
        batch = cluster.submit("p.csv", "--approve")
        # A message that no task takes is told of with all that is in it.
        cluster.publish({"reference_id": given[0]["reference_id"]})
        until(lambda: set(cluster.states(batch)) <= {"paid", "failed", "held"})
        told = (world.screens / "worker.0.err").read_text()
        assert told.count(batch) >= len(given)
        check_nothing_leaked(world, secrets_of(given), {"paybatch.db", "worker.0.err"})


def test_nothing_personal_is_left_behind_by_a_killed_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    given = [row | {"metadata.simulate": "settle=20"} for row in rows()]
    world.write(given)
    with world.start("run", "p.csv", "--yes") as run:
        run.until(lambda: world.count("processing"))
    check_nothing_leaked(world, secrets_of(given))


def test_a_provider_that_repeats_what_it_was_sent_is_not_repeated(tmp_path: Path) -> None:
    # Such a refusal is looked up, and tried once more after the grace.
    budgets = {"claim_s": 1.2, "announce_s": 1.4, "lookup_grace_s": 1.6}
    with provided(tmp_path, **budgets) as (world, provider), echoing(provider) as url:
        world.env["PAYBATCH_ACCOUNTS__MAIN__BASE_URL"] = url
        given = rows()
        world.write(given)
        world.paybatch("run", "p.csv", "--yes", code=4)
        assert set(world.states().values()) == {"failed"}
        world.paybatch("status", world.batch_id())
        world.paybatch("results", world.batch_id(), "-o", "all.xlsx")
        check_nothing_leaked(world, secrets_of(given))


@contextlib.contextmanager
def echoing(provider: Provider) -> Iterator[str]:
    """The provider, but that refuses every create by repeating all of it; its address."""

    class Echo(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            attributes = sent["data"]["attributes"]
            fields = attributes["fields"]
            others = f"{attributes.get('customer')} {API_KEY} {self.headers['Authorization']}"
            told = {name: f"{value} is not valid. {others}" for name, value in fields.items()}
            self.answer(422, json.dumps({"errors": told}).encode())

        def do_GET(self) -> None:
            authorized = {"Authorization": self.headers["Authorization"]}
            url = provider.running.public_base_url + self.path
            got = httpx.get(url, headers=authorized, trust_env=False, timeout=TIMEOUT_S)
            self.answer(got.status_code, got.content)

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join(TIMEOUT_S)


def test_a_refused_key_is_never_repeated(tmp_path: Path) -> None:
    wrong = "sk_live_9f8e7d6c5b4a"
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(1)])
        world.paybatch("submit", "p.csv", "--approve")
        provider.fault("create:401*0 balances:401*0")
        env = {"PAYBATCH_ACCOUNTS__MAIN__API_KEY": wrong}
        world.paybatch("run", "p.csv", "--yes", code=6, **env)
        world.paybatch("doctor", code=6, **env)
        world.paybatch("status", **env)
        check_nothing_leaked(world, {wrong, "sk_test_demo"})
