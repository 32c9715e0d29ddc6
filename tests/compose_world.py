"""docker-compose.yml without a container engine: each service's own command and environment as a
process of this machine.

What a container would have of its own is translated, and nothing else: the names of other services
and the ports become addresses of this machine, mounted files are read where they lie, `/tmp` is a
folder for each container, and a worker's host name is its container's. Redis and PostgreSQL are
this machine's programs; what PostgreSQL's image does before its command is done here.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.batches.cli_world import ROOT, Ended, until
from tests.conftest_servers import free_port, installed_postgres, unprivileged
from tests.workers.cluster_world import end
from tests.worlds import give_up

FILE = ROOT / "docker-compose.yml"
# A dozen programs begin at once, and not on this machine alone.
LIMIT_S = 180
# Compose's own, for a service that names none.
GRACE_S = 10
# Where each service listens in its container.
PORTS = {
    "redis": 6379,
    "postgres": 5432,
    "flower": 5555,
    "webhooks": 8080,
    "payelata": 9101,
    "ecomcharge": 9102,
    "echelon": 9103,
    "ecart": 9104,
    "etpay": 9105,
}
CONFIG = "/etc/paybatch/paybatch.toml"
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?:(:-|:\?)([^}]*))?\})")


class Missing(Exception):
    """A variable that the file cannot do without is not set."""


def interpolated(value: Any, environ: Mapping[str, str]) -> Any:
    """A part of the file with its variables filled in, as Compose does it.

    Source: Docker documentation, "Interpolation"; read 2026-03-01.

    Raises:
        Missing: a variable written as `${NAME:?...}` is not set, or empty.
    """
    if isinstance(value, dict):
        return {name: interpolated(each, environ) for name, each in value.items()}
    if isinstance(value, list):
        return [interpolated(each, environ) for each in value]
    if not isinstance(value, str):
        return value

    def fill(found: re.Match[str]) -> str:
        name, mark, text = found.groups()
        if name is None:
            return "$"
        if given := environ.get(name):
            return given
        if mark == ":?":
            raise Missing(f"{name}: {text}")
        return text or ""

    return _VARIABLE.sub(fill, value)


def raw_services() -> dict[str, Any]:
    """The services as they are written."""
    read: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))["services"]
    return read


def env_file(path: Path) -> dict[str, str]:
    """The variables of an env file: NAME=text, or NAME='text'; a # begins a comment line."""
    lines = [line for line in path.read_text("utf-8").splitlines() if line and line[0] != "#"]
    pairs = [line.partition("=") for line in lines]
    return {name: text.removeprefix("'").removesuffix("'") for name, _, text in pairs}


def environment_of(service: Mapping[str, Any]) -> dict[str, str]:
    """What a service's container has in its environment; what the file says itself wins."""
    found: dict[str, str] = {}
    for one in service.get("env_file", []):
        if (ROOT / one["path"]).exists() or one["required"]:
            found |= env_file(ROOT / one["path"])
    return found | service.get("environment", {})


def seconds(text: str) -> int:
    """A duration as the file writes it, such as 60s."""
    return int(text.removesuffix("s"))


@dataclass
class Container:
    """A service's process, and what only it has."""

    name: str
    service: Mapping[str, Any]
    folder: Path
    env: Mapping[str, str]
    process: subprocess.Popen[bytes]
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "log"

    @property
    def tmp(self) -> Path:
        return self.folder / "tmp"

    @property
    def home(self) -> Path:
        """Its working folder, which is read-only in a container."""
        return self.folder / "home"

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def told_to_stop(self) -> None:
        self.send(signal.Signals[self.service.get("stop_signal", "SIGTERM")])

    def exit_code(self) -> int:
        """How it ended, which must be before a container engine would kill it."""
        grace_s = seconds(self.service.get("stop_grace_period", f"{GRACE_S}s"))
        return self.process.wait(grace_s)


class Compose:
    """The services of the file, and those of them that run."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.environ = environ
        self.services: dict[str, Any] = interpolated(raw_services(), environ)
        self.ports = {name: free_port() for name in PORTS}
        self.running: list[Container] = []
        found = installed_postgres()
        if found is None or shutil.which("redis-server") is None:
            give_up("no PostgreSQL or no Redis: install postgresql and redis-server")
        self._binaries = found

    # --- translation ---

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.ports[service]}"

    def local(self, service: str, text: str) -> str:
        """A text of the file as this machine must read it."""
        for name, port in PORTS.items():
            text = text.replace(f"{name}:{port}", f"127.0.0.1:{self.ports[name]}")
        if own := PORTS.get(service):
            text = re.sub(rf"\b{own}\b", str(self.ports[service]), text)
        text = text.replace("0.0.0.0", "127.0.0.1")
        return text.replace(CONFIG, str(ROOT / self._mounted_config()))

    def _mounted_config(self) -> str:
        [source] = [
            one["source"]
            for one in self.services["worker"]["volumes"]
            if isinstance(one, dict) and one["target"] == CONFIG
        ]
        return str(source)

    def env(self, name: str, folder: Path) -> dict[str, str]:
        given = environment_of(self.services[name])
        return {
            "PATH": f"{Path(sys.executable).parent}:{self._binaries}:/usr/bin:/bin",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **{key: self.local(name, value) for key, value in given.items()},
        }

    # --- containers ---

    def start(self, name: str, number: int = 1) -> Container:
        """Start a service, or one of its replicas."""
        folder = self._folder(f"{name}-{number}")
        command = [self.local(name, part) for part in self.services[name]["command"]]
        env = self.env(name, folder)
        options: dict[str, Any] = {}
        if name == "redis":
            command += ["--port", str(self.ports[name]), "--bind", "127.0.0.1"]
        elif name == "postgres":
            options = _as_nobody(folder)
            command += self._initialised(folder, env, options)
        elif "worker" in command:
            command += ["--hostname", f"celery@{name}-{number}"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=folder / "home",
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **options,
            )
        made = Container(f"{name}-{number}", self.services[name], folder, env, process)
        self.running.append(made)
        return made

    def replicas(self, name: str) -> list[Container]:
        count = self.services[name].get("deploy", {}).get("replicas", 1)
        return [self.start(name, number) for number in range(1, count + 1)]

    def run(self, name: str, *arguments: str, code: int = 0) -> Ended:
        """Run a one-off service to its end, with these arguments or its own command."""
        service = self.services[name]
        folder = self._folder(name)
        files = self.folder / "files"
        files.mkdir(exist_ok=True)
        command = [*service.get("entrypoint", []), *(arguments or service["command"])]
        ended = _ended(
            subprocess.run(
                [self.local(name, part) for part in command],
                cwd=files if "working_dir" in service else folder / "home",
                env=self.env(name, folder),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LIMIT_S,
                check=False,
            )
        )
        assert ended.code == code, ended
        return ended

    def health(self, container: Container) -> Ended:
        """Run a container's health check as it is written, but for its time-out."""
        name = container.name.rpartition("-")[0]
        how, *command = container.service["healthcheck"]["test"]
        assert how == "CMD"
        command = [self.local(name, part) for part in command]
        env = dict(container.env)
        if name == "redis":
            command[1:1] = ["-p", str(self.ports[name])]
        elif name == "postgres":
            # Here the password is asked for at this address too.
            env |= {"PGPORT": str(self.ports[name]), "PGPASSWORD": env["POSTGRES_PASSWORD"]}
        return _ended(
            subprocess.run(
                command,
                env=env,
                cwd=container.home,
                capture_output=True,
                timeout=LIMIT_S,
                check=False,
            )
        )

    def until_healthy(self, container: Container) -> None:
        def is_healthy() -> bool:
            assert container.process.poll() is None, container.log.read_text()
            return self.health(container).code == 0

        until(is_healthy, limit_s=LIMIT_S)

    def close(self) -> None:
        for container in self.running:
            if container.process.poll() is None:
                end(container.process)

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        for made in (folder, folder / "tmp", folder / "home"):
            made.mkdir(exist_ok=True)
        return folder

    def _initialised(
        self, folder: Path, env: Mapping[str, str], options: Mapping[str, Any]
    ) -> Sequence[str]:
        """What the image's entry point does: a cluster, its user and its database, with the usual
        rules of who must give a password. What the command then needs here."""
        data, password = folder / "data", folder / "password"
        password.write_text(env["POSTGRES_PASSWORD"])
        for path in (folder, folder / "tmp", folder / "home", password):
            os.chown(path, options.get("user", -1), options.get("group", -1))
        user = env["POSTGRES_USER"]
        rules = ["--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile", str(password)]
        initdb = ["initdb", "-D", str(data), "-U", user, "-E", "UTF8", "-N", *rules]
        single = ["postgres", "--single", "-D", str(data), "postgres"]
        for command, given in (
            (initdb, b""),
            (single, f'CREATE DATABASE "{env["POSTGRES_DB"]}"\n'.encode()),
        ):
            subprocess.run(
                command,
                env=env,
                cwd=folder,
                input=given,
                capture_output=True,
                check=True,
                **options,
            )
        own = {"listen_addresses": "127.0.0.1", "unix_socket_directories": folder / "tmp"}
        flags = [part for name, value in own.items() for part in ("-c", f"{name}={value}")]
        # The data need not outlive the test.
        return ["-D", str(data), "-p", str(self.ports["postgres"]), "-c", "fsync=off", *flags]


@contextlib.contextmanager
def composed(environ: Mapping[str, str]) -> Iterator[Compose]:
    """The file's services in a folder that PostgreSQL's user may enter too."""
    folder = Path(tempfile.mkdtemp(prefix="paybatch-compose-"))
    folder.chmod(0o755)
    compose = Compose(folder, environ)
    try:
        yield compose
    finally:
        compose.close()
        shutil.rmtree(folder, ignore_errors=True)


def _ended(done: subprocess.CompletedProcess[bytes]) -> Ended:
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def _as_nobody(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(unprivileged())
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
