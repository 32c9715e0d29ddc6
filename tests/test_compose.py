"""docker-compose.yml does what it says: every service starts, works, tells whether it does, and
stops when it is told to; and no secret, open port or root is in it.
"""

from __future__ import annotations

import csv
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sqlalchemy.pool import QueuePool

from tests.batches.cli_world import ROOT, until
from tests.batches.example_world import EXAMPLES, check_answers
from tests.compose_world import (
    LIMIT_S,
    PORTS,
    Compose,
    Container,
    Missing,
    composed,
    env_file,
    environment_of,
    interpolated,
    raw_services,
    seconds,
)
from tests.worlds import KEY
from workers import heartbeat
from workers.record.database import Database
from workers.runtime import settings_of
from workers.settings import Settings

# A password that would have to be quoted in an address.
PASSWORD = "p@ss/w:rd %41"
LOGIN = ("watcher", "s3cret-9731")
ENVIRON = {
    **env_file(ROOT / ".env.example"),
    "POSTGRES_PASSWORD": PASSWORD,
    "PAYBATCH_ENCRYPTION_KEY": KEY,
    "FLOWER_BASIC_AUTH": ":".join(LOGIN),
}
SERVICES = raw_services()
ONCE = {"migrate", "paybatch"}
LASTING = sorted(set(SERVICES) - ONCE)
OURS = sorted(set(SERVICES) - {"redis", "postgres"})
every_service = pytest.mark.parametrize("name", sorted(SERVICES))
SIMULATORS = sorted(name for name in SERVICES if SERVICES[name].get("profiles") == ["sandbox"])


# --- the whole of it ---


@pytest.mark.timeout(600)
def test_the_services_pay_a_batch_and_stop_when_they_are_told_to() -> None:
    with composed(ENVIRON) as compose:
        stores = [compose.start("redis"), compose.start("postgres")]
        for container in stores:
            compose.until_healthy(container)
        assert " was empty, and is at revision " in compose.run("migrate").out
        for name in sorted(set(LASTING) - {"redis", "postgres"}):
            compose.replicas(name)
        assert {c.name.rpartition("-")[0] for c in compose.running} == set(LASTING)
        for container in compose.running:
            compose.until_healthy(container)

        pay_a_batch(compose)
        see_it_in_flower(compose)
        no_secret_is_in_the_process_list(compose)
        a_beat_that_stands_still_is_unhealthy(compose)
        workers_that_stand_still_are_unhealthy_while_something_is_due(compose)

        programs = [one for one in compose.running if one not in stores]
        stop(programs)
        stop(stores)
        for container in programs:
            # Their file systems are read-only but for /tmp.
            assert list(container.home.iterdir()) == []


def pay_a_batch(compose: Compose) -> None:
    """As a person would, from the folder with the files."""
    files = compose.folder / "files"
    files.mkdir(exist_ok=True)
    shutil.copy(EXAMPLES / "mixed.csv", files)
    batch = compose.run("paybatch", "submit", "mixed.csv", "--json").json
    assert batch["state"] == "draft"
    assert compose.run("paybatch", "approve", batch["batch_id"], "--json").json["state"] == (
        "approved"
    )
    watched = compose.run("paybatch", "watch", batch["batch_id"], code=4)
    assert re.search(r"^failed +4 ", watched.out, re.M), watched.out
    compose.run("paybatch", "results", batch["batch_id"], "-o", "mixed.results.csv")
    with (files / "mixed.results.csv").open(newline="") as file:
        check_answers("mixed", list(csv.DictReader(file)), ledgers(compose))


def ledgers(compose: Compose) -> dict[str, Any]:
    told = {name: httpx.get(f"{compose.url(name)}/_control/ledger").json() for name in SIMULATORS}
    return {name: {each["reference_id"]: each for each in known} for name, known in told.items()}


def see_it_in_flower(compose: Compose) -> None:
    url = compose.url("flower")
    for auth in (None, (LOGIN[0], "wrong")):
        for path in ("/api/workers", "/api/tasks", "/workers", "/tasks", "/"):
            assert httpx.get(f"{url}{path}", auth=auth).status_code == 401, path

    found = until(lambda: httpx.get(f"{url}/api/workers", auth=LOGIN, params={"status": 1}).json())
    assert found == {"celery@worker-1": True, "celery@worker-2": True}
    tasks = httpx.get(f"{url}/api/tasks", auth=LOGIN, params={"taskname": "workers.tasks.pay"})
    paid = list(tasks.json().values())
    assert len(paid) >= len((EXAMPLES / "mixed.csv").read_text().splitlines()) - 1
    for task in paid:
        # An id, and nothing of whom it pays.
        assert re.fullmatch(r"\(\d+,\)", task["args"]), task
        assert (task["kwargs"], task["state"]) == ("{}", "SUCCESS")

    for path in ("worker/shutdown/celery@worker-1", "task/send-task/workers.tasks.pay"):
        answer = httpx.post(f"{url}/api/{path}", auth=LOGIN, json={"args": [1]})
        assert answer.status_code == 403, path


def no_secret_is_in_the_process_list(compose: Compose) -> None:
    secrets = [PASSWORD, KEY, LOGIN[1], "demo-api-key"]
    for container in compose.running:
        shown = Path(f"/proc/{container.process.pid}/cmdline").read_text()
        assert not any(secret in shown for secret in secrets), container.name
        assert not any(secret in container.log.read_text() for secret in secrets), container.name


def a_beat_that_stands_still_is_unhealthy(compose: Compose) -> None:
    beat, other = named(compose, "beat")
    beat.send(signal.SIGSTOP)
    aged(beat, heartbeat.BEAT, 30)
    found = compose.health(beat)
    assert (found.code, found.out.startswith("Unhealthy: the beat published 3")) == (1, True), found
    assert compose.health(other).code == 0
    beat.send(signal.SIGCONT)
    compose.until_healthy(beat)


def workers_that_stand_still_are_unhealthy_while_something_is_due(compose: Compose) -> None:
    workers = named(compose, "worker")
    for worker in workers:
        worker.send(signal.SIGSTOP)
        aged(worker, heartbeat.WORKER, 120)
        # Nothing waits for them.
        assert compose.health(worker).code == 0
    shutil.copy(EXAMPLES / "payelata.csv", compose.folder / "files")
    arguments = ("--account", "payelata", "--approve", "--json")
    batch = compose.run("paybatch", "submit", "payelata.csv", *arguments).json["batch_id"]
    assert compose.health(workers[0]).code == 0
    password = {"user": "paybatch", "dbname": "paybatch", "password": PASSWORD}
    with psycopg.connect(host="127.0.0.1", port=compose.ports["postgres"], **password) as database:
        database.execute("UPDATE payouts SET due_at = due_at - interval '120 s'")
    for worker in workers:
        found = compose.health(worker)
        assert found.code == 1, found
        assert " and a payout has been due for 1" in found.out
    for worker in workers:
        worker.send(signal.SIGCONT)
        compose.until_healthy(worker)
        # Whoever works again leaves a sign of it.
        until(lambda one=worker: signed_s(one) < 60, limit_s=LIMIT_S)
    compose.run("paybatch", "watch", batch, code=4)
    compose.run("paybatch", "results", batch, "-o", "payelata.results.csv")
    with (compose.folder / "files" / "payelata.results.csv").open(newline="") as file:
        known = ledgers(compose)["payelata"]
        mine = {each: known[each] for each in known if each.startswith("INV-")}
        check_answers("payelata", list(csv.DictReader(file)), {"payelata": mine})


def named(compose: Compose, service: str) -> list[Container]:
    return [one for one in compose.running if one.name.startswith(f"{service}-")]


def signed_s(worker: Container) -> float:
    """Seconds since a worker's last sign."""
    age_s = heartbeat.age_s(heartbeat.WORKER, worker.tmp, datetime.now(UTC))
    assert age_s is not None
    return age_s


def aged(container: Container, who: str, seconds: float) -> None:
    """Have it look as if its last sign were so much older."""
    path = heartbeat.path_of(who, container.tmp)
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - seconds))


def stop(containers: list[Container]) -> None:
    """As a container engine does: the signal, and then its time. One after the other, so that each
    has this machine to itself."""
    for container in containers:
        assert container.process.poll() is None, container.log.read_text()
        container.told_to_stop()
        assert container.exit_code() == 0, container.name
        assert "Traceback" not in container.log.read_text(), container.name


# --- what is written ---


@pytest.mark.parametrize(
    "name", ["POSTGRES_PASSWORD", "PAYBATCH_ENCRYPTION_KEY", "FLOWER_BASIC_AUTH"]
)
def test_without_one_of_its_secrets_nothing_starts(name: str) -> None:
    for environ in ({**ENVIRON, name: ""}, {k: v for k, v in ENVIRON.items() if k != name}):
        with pytest.raises(Missing, match=name):
            interpolated(SERVICES, environ)


def test_the_example_has_every_variable_of_the_file_and_no_secret() -> None:
    text = (ROOT / ".env.example").read_text()
    known = set(re.findall(r"^#?(\w+)=", text, re.M))
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert used | {"COMPOSE_PROFILES"} == known
    given = env_file(ROOT / ".env.example")
    assert {name for name, value in given.items() if not value} == {
        "POSTGRES_PASSWORD",
        "PAYBATCH_ENCRYPTION_KEY",
        "FLOWER_BASIC_AUTH",
    }


@every_service
def test_no_secret_is_written_into_the_file(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search("PASSWORD|KEY|SECRET|TOKEN|AUTH", variable):
            assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), variable
        # Nor in an address.
        assert not re.search(r"//[^/@]*:[^/@]*@", value), variable


def test_what_needs_no_secret_of_the_record_gets_none() -> None:
    opens = {name for name in OURS if "PGPASSWORD" in SERVICES[name]["environment"]}
    assert opens == {"migrate", "worker", "webhooks", "paybatch"}
    for name in set(SERVICES) - opens:
        assert "env_file" not in SERVICES[name]
        assert "PAYBATCH_ENCRYPTION_KEY" not in SERVICES[name].get("environment", {})


@every_service
def test_every_port_is_bound_to_this_machine(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:"), port
    assert "network_mode" not in SERVICES[name]


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_has_a_health_check_of_its_own_and_is_started_again(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert not any("ping" in part for part in check["test"])
    assert seconds(check["start_period"]) >= seconds(check["interval"]) or name in SIMULATORS
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(ONCE))
def test_what_runs_once_is_not_started_again(name: str) -> None:
    assert SERVICES[name]["restart"] == "no"


@every_service
def test_a_container_can_change_nothing_but_its_temporary_folder(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    for mounted in service.get("volumes", []):
        if isinstance(mounted, dict):
            assert mounted["read_only"] is True
        else:
            assert name in {"postgres", "paybatch"}


@pytest.mark.parametrize("name", OURS)
def test_no_service_runs_as_root(name: str) -> None:
    assert not SERVICES[name].get("user", "10001").startswith(("0", "root"))
    assert SERVICES[name]["image"] == "paybatch"
    [user] = re.findall(r"^USER (\S+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert user == "10001:10001"
    assert all(SERVICES[other]["user"] == other for other in ("redis", "postgres"))


def test_no_shell_stands_between_a_signal_and_its_program() -> None:
    text = (ROOT / "Dockerfile").read_text()
    started = re.findall(r"^(?:CMD|ENTRYPOINT) (.*)$", text, re.M)
    assert started
    assert all(each.startswith('["') for each in started)
    for name, service in SERVICES.items():
        for key in ("command", "entrypoint"):
            parts = service.get(key, [])
            assert isinstance(parts, list), name
            assert not {"sh", "bash", "-c"} & set(parts[:1]), name
    assert all(SERVICES[name]["init"] is True for name in OURS)


def test_no_secret_can_get_into_the_image() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = {
        part for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.M) for part in line.split()
    }
    listed = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in listed if not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert not re.search(r"^(ARG|ENV) .*(PASSWORD|KEY|SECRET|TOKEN)", text, re.M)
    assert all((ROOT / name).exists() for name in copied)


def required() -> set[str]:
    """The distributions that the image's `pip install .[monitoring]` brings."""
    found: set[tuple[str, str]] = set()
    left = [("paybatch", "monitoring"), ("paybatch", "")]
    while left:
        name, extra = one = left.pop()
        if one in found:
            continue
        found.add(one)
        for text in importlib.metadata.requires(name) or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                inner = canonicalize_name(wanted.name)
                left += [(inner, ""), *((inner, each) for each in wanted.extras)]
    return {name for name, _ in found} - {"paybatch"}


def test_the_image_has_a_locked_version_of_all_that_it_needs() -> None:
    lines = (ROOT / "requirements.lock").read_text().split()
    assert required() <= {canonicalize_name(line.partition("==")[0]) for line in lines}
    assert "pytest" not in required()


def test_the_programs_of_the_image_import_nothing_that_only_the_tests_bring() -> None:
    brought = required() | {"paybatch"}
    absent = [
        module
        for module, names in importlib.metadata.packages_distributions().items()
        if not {canonicalize_name(name) for name in names} & brought
    ]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
        "import batches.cli, batches.cli_health, workers.tasks, flower.command, uvicorn\n"
        "import kombu.transport.redis, kombu.transport.pyamqp\n"
        "from sqlalchemy.dialects.postgresql import psycopg as dialect\n"
        "dialect.dialect.import_dbapi()\n"
        "from batches.sandbox import PROVIDERS\n"
        "from importlib import import_module\n"
        "for name in PROVIDERS: import_module(f'workers.simulator.{name}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_worker_has_more_time_to_stop_than_its_calls_take() -> None:
    celeryconfig = (ROOT / "celeryconfig.py").read_text()
    [waits_s] = re.findall(r"^worker_soft_shutdown_timeout = (\d+)$", celeryconfig, re.M)
    grace_s = seconds(SERVICES["worker"]["stop_grace_period"])
    settings = Settings.load(settings_of, environ={}, folder=EXAMPLES.parent / "workers")
    default = type(settings.accounts["sandbox"]).model_fields["call_deadline_s"].default
    assert default < int(waits_s) < grace_s
    assert SERVICES["worker"]["stop_signal"] == "SIGTERM"


def test_a_worker_can_be_scaled() -> None:
    assert "container_name" not in SERVICES["worker"]
    assert "ports" not in SERVICES["worker"]
    assert SERVICES["beat"]["deploy"]["replicas"] == 2


def test_a_worker_has_the_threads_that_its_accounts_ask_for() -> None:
    command = SERVICES["worker"]["command"]
    assert not [part for part in command if re.match("-c|--conc|--autosc|-O", part)]


def test_the_database_has_connections_for_four_workers_at_their_most_and_two_others() -> None:
    [given] = re.findall(r"max_connections=(\d+)", " ".join(SERVICES["postgres"]["command"]))
    pool = Database("postgresql+psycopg://nobody@127.0.0.1/none").engine.pool
    assert isinstance(pool, QueuePool)
    # PostgreSQL keeps three for its superuser, and its image's health check takes one.
    assert (4 + 2) * (pool.size() + pool._max_overflow) <= int(given) - 4


def test_nothing_begins_before_the_schema_is_up_to_date() -> None:
    for name in ("worker", "webhooks", "paybatch"):
        wait = SERVICES[name]["depends_on"]["migrate"]
        assert wait == {"condition": "service_completed_successfully"}, name


@pytest.mark.parametrize("name", OURS)
def test_every_setting_in_an_environment_is_one_that_exists(name: str) -> None:
    found = environment_of(interpolated(SERVICES[name], ENVIRON))
    if "PAYBATCH_CONFIG" in found:
        found["PAYBATCH_CONFIG"] = str(ROOT / ENVIRON["PAYBATCH_CONFIG_FILE"])
    settings = Settings.load(settings_of, environ=found, folder=ROOT / "workers")
    # The names of the containers are those that the settings let be spoken to without TLS.
    if "PAYBATCH_DATABASE_URL" in found:
        assert sorted(settings.sandbox_hosts) == SIMULATORS == sorted(settings.accounts)


def test_the_broker_forgets_nothing_in_silence_and_keeps_nothing() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    for flags in ("--save  --appendonly no", "--maxmemory-policy noeviction"):
        assert flags in command


def test_the_ports_of_this_test_are_those_of_the_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert all(str(port) in text for name, port in PORTS.items())
