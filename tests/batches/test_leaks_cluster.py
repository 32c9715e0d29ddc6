"""No secret of a whole cluster's run is anywhere but in the settings, the key and the input."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from sqlalchemy import make_url

from tests import leaks
from tests.batches.cli_world import API_KEY, TIMEOUT_S, Row, World, until, usd_row
from tests.batches.test_leaks import left_behind, rows, secrets_of
from tests.conftest_servers import PostgresServer, postgres_server
from tests.workers.cluster_world import Cluster, clustered
from tests.workers.record.test_vault import OTHER_KEY
from tests.worlds import KEY

__all__ = ["postgres_server"]

PASSWORD = "pw-Quetzalcoatl-17"
DATABASE_PASSWORD = "db-Huitzilopochtli-23"
METRICS_TOKEN = "mt-Tezcatlipoca-1234567"
SIGNING_KEY = "sk_test_demo"
# Not beneficiary data, so it is stored as it is: but in no log, no message and on no screen.
DESCRIPTION = "Bonus-of-Xochiquetzal"
NOTE = "Note-of-Mictlantecuhtli"
SECRETS = {API_KEY, SIGNING_KEY, PASSWORD, DATABASE_PASSWORD, METRICS_TOKEN, KEY, OTHER_KEY}

# Adapters with a mistake: what they were working on is in the words of their errors.
CRASHING = """
from workers.providers.payelata import Payelata


class Crashing(Payelata):
    name = "crashing"

    def create(self, order):
        try:
            raise KeyError(f"{dict(order.fields)} {dict(order.customer)}")
        except KeyError as error:
            raise ValueError(f"cannot read {order.fields} of {order.customer}") from error


class Unbalanced(Payelata):
    name = "unbalanced"
    words = "cannot send Authorization: demo-api-key"

    def balances(self):
        raise LookupError(self.words)
"""


def install_crashing(folder: Path) -> str:
    """A package with these adapters, as an installer would put it; the path to find it by."""
    info = folder / "acme_crashing-0.1.dist-info"
    info.mkdir(parents=True)
    (folder / "acme_crashing.py").write_text(CRASHING)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-crashing\nVersion: 0.1\n")
    points = [f"{name.lower()} = acme_crashing:{name}" for name in ("Crashing", "Unbalanced")]
    (info / "entry_points.txt").write_text("\n".join(["[paybatch.providers]", *points, ""]))
    return str(folder)


class Run:
    """Commands in processes of their own, so that they find the adapters."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._count = 0

    def start(self, name: str, *arguments: str) -> tuple[subprocess.Popen[bytes], Path, Path]:
        """The process, and the files that its output goes to, which are searched."""
        self._count += 1
        said = self.world.screens / f"{self._count:02}-{arguments[0]}"
        out, err = said.with_suffix(".out"), said.with_suffix(".err")
        plain = {key: value for key, value in os.environ.items() if "PAYBATCH" not in key}
        with out.open("wb") as screen, err.open("wb") as errors:
            process = subprocess.Popen(
                [Path(sys.executable).with_name(name), *arguments],
                cwd=self.world.folder,
                env=plain | self.world.env,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=errors,
            )
        return process, out, err

    def program(self, name: str, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        """Run it to its end."""
        process, out, err = self.start(name, *arguments)
        code = process.wait(TIMEOUT_S)
        assert code in codes, err.read_text()
        assert "Traceback" not in err.read_text()
        return out.read_text()

    def paybatch(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        return self.program("paybatch", *arguments, codes=codes)


def given_rows() -> list[Row]:
    """Rows with every kind of trouble, of two accounts: one has the adapter with the mistake."""
    made = rows()
    for row in made:
        row |= {"account": "main", "description": DESCRIPTION, "metadata.note": NOTE}
    crashing = {
        **usd_row(77, account="second"),
        "customer.reference_id": "person-77",
        "customer.name": "Ottoline T-0077 Featherstonehaugh",
        "customer.email": "ottoline.t-0077@example.net",
        "fields.account": "550000770077317731",
    }
    return [*made, crashing]


def with_second(world: World, provider: str) -> None:
    """Give the world an account `second`, like `main`, of another adapter."""
    settings = world.folder / "paybatch.toml"
    main = settings.read_text()
    second = main.replace("[accounts.main]", "[accounts.second]").replace("payelata", provider)
    settings.write_text(f"{main}{second}")
    for name in [name for name in world.env if name.startswith("PAYBATCH_ACCOUNTS__MAIN__")]:
        if not name.endswith("PROVIDER"):
            world.env[name.replace("MAIN", "SECOND")] = world.env[name]


@pytest.fixture
def cluster(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[Cluster]:
    """A cluster on PostgreSQL and a Redis with a password."""
    with clustered(tmp_path) as cluster:
        env, url = cluster.world.env, postgres_server.create()
        cluster.redis.config_set("requirepass", PASSWORD)
        broker = make_url(cluster.url).set(username="", password=PASSWORD)
        env["PAYBATCH_BROKER_URL"] = broker.render_as_string(hide_password=False)
        database = make_url(url).set(password=DATABASE_PASSWORD)
        env |= {
            "PAYBATCH_DATABASE_URL": database.render_as_string(hide_password=False),
            "PAYBATCH_ENCRYPTION_KEY": KEY,
            "PAYBATCH_METRICS_TOKEN": METRICS_TOKEN,
            "PAYBATCH_LOG_FORMAT": "json",
            "PYTHONPATH": install_crashing(tmp_path / "plug-ins"),
            "PYTHONUNBUFFERED": "1",
        }
        with_second(cluster.world, "crashing")
        try:
            yield cluster
        finally:
            cluster.close()
            postgres_server.drop(url)


def receive(run: Run) -> tuple[subprocess.Popen[bytes], str]:
    """A receiver of webhooks, and its address."""
    process, out, _ = run.start("paybatch", "webhooks", "--port", "0")
    until(lambda: out.read_text().startswith("Receiving webhooks at http"))
    return process, out.read_text().split()[3].removesuffix("/webhooks/ACCOUNT")


@pytest.mark.timeout(600)
def test_no_secret_of_a_whole_run_is_left_anywhere(cluster: Cluster) -> None:
    run, given = Run(cluster.world), given_rows()
    world = run.world
    personal = secrets_of(given)
    world.write(given)
    world.write([{**row, "amount": "4000 0000 0001 6628"} for row in given], "bad.csv")
    processes: dict[str, bytes] = {}
    told: dict[str, bytes] = {}
    with leaks.Monitor(world.env["PAYBATCH_BROKER_URL"]) as monitor:
        run.paybatch("check", "bad.csv", "--json", "--errors", "wrong.csv", codes=(3,))
        receiver, url = receive(run)
        world.env["PAYBATCH_CALLBACK_BASE_URL"] = url
        cluster.start("worker", "-P", "threads", "-c", "8", "-l", "DEBUG", "-E", "-n", "w@here")
        cluster.start_beat()
        try:
            run.paybatch("submit", "p.csv", "--approve", "--json")
            log = world.screens / "worker.0.err"
            until(lambda: b"task failed" in log.read_bytes())
            processes |= leaks.commands_of_processes()
            batch = batch_of(run)
            settled = settle_a_night(run, given)
            until(lambda: b'"held": [{' in run.paybatch("status", batch, "--json").encode())
            for what in ("active", "reserved", "conf", "report", "stats", "registered"):
                run.program("celery", "-A", "workers.app", "inspect", what, codes=(0, 69))
            headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}
            told["metrics"] = httpx.get(f"{url}/metrics", headers=headers).content
            ask_the_rest(run, url, batch)
        finally:
            receiver.kill()
            receiver.wait(TIMEOUT_S)
        told |= {"redis told": monitor.told, "redis kept": monitor.kept()}
    rows_ = {"rows": leaks.rows_of(world.env["PAYBATCH_DATABASE_URL"])}
    left = left_behind(world)
    assert settled <= set(left)
    assert b'"fate":"rejected"' in rows_["rows"]
    assert b"withheld" in left["worker.0.err"]
    assert b"workers.tasks.pay" in told["redis told"]
    # As it is told to Flower.
    failed = '"type": "task-failed"'
    assert leaks.found_in(told["redis told"], [failed, "DeveloperError"]) == [
        failed,
        "DeveloperError",
    ]
    everything = {**left, **processes, **told, **rows_}
    leaks.check(everything, personal | (SECRETS - {PASSWORD}))
    # Redis is told its own password, by whoever logs in.
    leaks.check({**left, **processes, **rows_}, {PASSWORD})
    exported = {name for name in left if name.startswith("r.")}
    shown = {name: content for name, content in {**left, **told}.items() if name not in exported}
    leaks.check(shown, {DESCRIPTION, NOTE})


NIGHTLY = """
[[schedules]]
name = "nightly"
time = "00:00"
time_zone = "UTC"
business_days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
inbox = "inbox"
account = "main"
valid_rows_only = true
allow_repeats = true
quiet_s = 0
"""


def settle_a_night(run: Run, given: list[Row]) -> set[str]:
    """Have a schedule take a file with a faulty row, which a person rejects, and one that has
    nothing else; the names of the texts and reports that tell of it.

    The workers have their settings by now, so nobody else takes the files.
    """
    folder = run.world.folder
    settings = folder / "paybatch.toml"
    settings.write_text(f"{settings.read_text()}{NIGHTLY}")
    inbox = folder / "inbox"
    inbox.mkdir()
    night = [{**row, "reference_id": f"N-{at}"} for at, row in enumerate(given[:5])]
    bad = {"amount": "4000 0000 0001 6628"}
    run.world.write([{**night[0], **bad}, *night[1:]], "inbox/partly.csv")
    run.world.write([{**row, **bad} for row in night], "inbox/faulty.csv")
    today = datetime.now(UTC).date()
    arguments = ("settle", "--schedule", "nightly", "--date", f"{today}")
    told = json.loads(run.paybatch(*arguments, "--json", codes=(3,)))
    [batch] = [one["batch_id"] for one in told["schedules"][0]["files"] if one["batch_id"]]
    run.paybatch("reject", batch, "--reason", "the wrong month")
    run.paybatch("settle")
    errors = list((inbox / "refused").glob("*.errors.csv"))
    assert [path.stat().st_mode & 0o777 for path in errors] == [0o600, 0o600]
    reasons = {path.name for path in (inbox / "refused").glob("*.reason.txt")}
    assert len(reasons) == 2
    return reasons | {f"nightly.{today}.csv", f"nightly.{today}.html"}


def batch_of(run: Run) -> str:
    return str(run.paybatch("status", "--json").split('"batch_id": "')[1].split('"')[0])


def ask_the_rest(run: Run, url: str, batch: str) -> None:
    """Every other command that tells something."""
    for suffix in ("csv", "parquet", "xlsx"):
        run.paybatch("results", batch, "-o", f"r.{suffix}")
    run.paybatch("results", batch, "--failed", "-o", "failed.csv")
    run.paybatch("status", batch)
    run.paybatch("doctor", codes=(0, 1, 6))
    run.paybatch("balance", codes=(0, 2))
    run.paybatch("keys", "status")
    run.paybatch("purge", "--before", "2020-01-01")
    body = f'{{"data": "{API_KEY}"}}'
    assert httpx.post(f"{url}/webhooks/main", content=body).status_code == 401
    run.world.env |= {"PAYBATCH_ENCRYPTION_KEY": OTHER_KEY, "PAYBATCH_ENCRYPTION_KEYS_OLD": KEY}
    run.paybatch("keys", "rotate", "--json", codes=(0, 5))
    wrong = {"PAYBATCH_ENCRYPTION_KEY": KEY[::-1], "PAYBATCH_ENCRYPTION_KEYS_OLD": "x"}
    right = dict(run.world.env)
    run.world.env |= wrong
    run.paybatch("status", codes=(2,))
    run.world.env |= right
    for name in ("failed.csv", "wrong.csv"):
        assert (run.world.folder / name).stat().st_mode & 0o777 == 0o600


def test_the_search_finds_a_secret_however_it_is_written() -> None:
    secret = "Ottoline/Featherstonehaugh"
    for spelled in leaks.spellings(secret):
        assert leaks.found_in(b"x" + spelled + b"y", [secret]) == [secret]
    for ahead in range(4):
        written = base64.b64encode(b"a" * ahead + f'"{secret}"'.encode() + b"tail")
        assert leaks.found_in(written, [secret]) == [secret]
    assert leaks.found_in(b"Ottoline", [secret]) == []
