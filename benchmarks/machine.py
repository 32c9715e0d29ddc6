"""The servers of a measurement, started here and ended here, and the processor time they use.

Everything that a contender needs is a child of this process: a PostgreSQL cluster of its own, with
fsync as it is by default, a Redis of its own, a simulator. So each one's time can be read from
/proc, and nothing else on the machine is in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

import psycopg

from benchmarks.program import held
from tests.conftest_servers import free_port, installed_postgres, unprivileged

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
START_S = 60
STOP_S = 60
# Enough for any file.
BALANCE = "USD=999999999999.00"
Command = Sequence[str | Path]
# Of a program that is spoken with line by line.
PIPES: Mapping[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
# The kinds of process that the time is split by, in the order of the table.
KINDS = ("worker", "dispatch", "database", "broker", "webhooks", "simulator")


def cpu_s(root: int) -> float:
    """The time of a process, of its children, and of those of them that have ended."""
    ticks, left = 0, [root]
    children = _children()
    while left:
        pid = left.pop()
        left += children.get(pid, [])
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # utime, stime, and the same of the children that were waited for.
            ticks += sum(int(text) for text in _stat(pid)[11:15])
    return ticks / TICKS_PER_S


def machine_cpu_s() -> float:
    """The time that all processes of the machine have used."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / TICKS_PER_S


def _children() -> Mapping[int, list[int]]:
    found: defaultdict[int, list[int]] = defaultdict(list)
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found[int(_stat(int(name))[1])].append(int(name))
    return found


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def wait_for(what: Callable[[], bool], name: str, *, seconds: float = START_S) -> None:
    """Look again and again until it is so.

    Raises:
        SystemExit: it is not so in time.
    """
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            raise SystemExit(f"{name}: not within {seconds:.0f} s")
        time.sleep(0.02)


@dataclass
class Processes:
    """What this measurement has started, by kind."""

    roots: dict[int, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def started(
        self,
        kind: str,
        command: Command,
        *,
        log: Path | None = None,
        stop: signal.Signals = signal.SIGTERM,
        **options: Any,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A process in a session of its own, told to stop at the end of the block."""
        with contextlib.ExitStack() as stack:
            if log is not None:
                out = stack.enter_context(log.open("ab"))
                options |= {"stdout": options.get("stdout", out), "stderr": subprocess.STDOUT}
            with held():
                process = subprocess.Popen(
                    [str(part) for part in command], start_new_session=True, **options
                )
                self.roots[process.pid] = kind
                stack.callback(self._end, process, stop)
            yield process

    def _end(self, process: subprocess.Popen[bytes], stop: signal.Signals) -> None:
        with held():
            if process.poll() is None:
                process.send_signal(stop)
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    # With its children: nobody else would stop them.
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            self.roots.pop(process.pid)

    def cpu(self) -> Mapping[str, float]:
        """Seconds used so far, by kind."""
        used: defaultdict[str, float] = defaultdict(float)
        for pid, kind in self.roots.items():
            used[kind] += cpu_s(pid)
        return used


def postgres_programs() -> Path:
    """The folder with PostgreSQL's programs.

    Raises:
        SystemExit: there are none.
    """
    found = installed_postgres()
    if found is None:
        raise SystemExit(
            "There is no PostgreSQL on this machine: its programs initdb and postgres are needed."
            " Install the package postgresql; a server need not run."
        )
    return found


def redis_program() -> str:
    """Redis's server.

    Raises:
        SystemExit: there is none.
    """
    found = shutil.which("redis-server")
    if found is None:
        raise SystemExit(
            "There is no Redis on this machine: its program redis-server is needed. Install the"
            " package redis-server; it need not run."
        )
    return found


class Postgres:
    """A cluster of our own: the server's defaults, but for the number of connections."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self._binaries = postgres_programs()
        self._processes = processes
        self._folder = folder
        self._port = free_port()
        self._owner: dict[str, Any] = {}
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root.
            name = unprivileged()
            shutil.chown(folder, name)
            group = pwd.getpwnam(name).pw_gid
            self._owner = {"user": name, "group": group, "extra_groups": []}

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        data = self._folder / "data"
        subprocess.run(
            [self._binaries / "initdb", "-D", data, "-A", "trust", "-U", "postgres"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
            start_new_session=True,
            **self._owner,
        )
        command: Command = [
            self._binaries / "postgres", "-D", data, "-p", str(self._port), "-k", self._folder,
            "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300",
        ]  # fmt: skip
        with (
            (self._folder.parent / "postgres.log").open("wb") as log,
            self._processes.started(
                "database",
                command,
                # A fast shutdown: SIGTERM would wait for every client to leave by itself.
                stop=signal.SIGINT,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                **self._owner,
            ),
        ):
            wait_for(self._answers, "PostgreSQL")
            yield self

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn("postgres"), connect_timeout=1).close()
        except psycopg.OperationalError:
            return False
        return True

    def dsn(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/{name}"

    def execute(self, statement: str, name: str = "postgres") -> None:
        with psycopg.connect(self.dsn(name), autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextlib.contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """The name of a database of one's own."""
        name = f"bench_{secrets.token_hex(4)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        # What was written so far is written now, not during the measurement.
        self.execute("CHECKPOINT")
        try:
            yield name
        finally:
            self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextlib.contextmanager
def redis(processes: Processes, folder: Path) -> Iterator[str]:
    """A Redis of our own, that keeps nothing on the disk; its address."""
    port = free_port()
    command = [redis_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    command += ["--appendonly", "no", "--dir", str(folder)]
    with processes.started("broker", command, log=folder / "redis.log"):
        wait_for(lambda: listens(port), "Redis")
        yield f"redis://127.0.0.1:{port}"


def listens(port: int) -> bool:
    """Whether somebody does at that port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class Simulator:
    """Payelata on this machine."""

    def __init__(self, address: Mapping[str, str], pid: int) -> None:
        self.base_url = address["base_url"]
        self.public_base_url = address["public_base_url"]
        self.pid = pid

    def calls(self) -> Mapping[str, int]:
        """How many calls of each kind it has answered."""
        calls: Mapping[str, int] = self._control("calls")
        return calls

    def paid_once(self) -> int:
        """How many payouts it has paid.

        Raises:
            SystemExit: one of them more than once.
        """
        found = [each["invoices"] for each in self._control("ledger")]
        twice = sum(len(each) > 1 for each in found)
        if twice:
            raise SystemExit(f"{twice} payouts are at the provider more than once")
        return sum(each[0]["status"] == "processed" for each in found)

    def _control(self, name: str) -> Any:
        with urllib.request.urlopen(f"{self.public_base_url}/_control/{name}") as answered:
            return json.load(answered)


@contextlib.contextmanager
def simulator(
    processes: Processes, folder: Path, *, latency_s: float, settle_s: float
) -> Iterator[Simulator]:
    """A new simulator, that has paid nobody yet."""
    command = [sys.executable, "-m", "workers.simulator.payelata", "--quiet"]
    command += ["--until-stdin-closes", "--balance", BALANCE]
    command += ["--latency", str(latency_s), "--settle", str(settle_s)]
    log = folder / "simulator.log"
    with processes.started("simulator", command, log=log, cwd=ROOT, **PIPES) as process:
        yield Simulator(json.loads(read_line(process)), process.pid)


def read_line(process: subprocess.Popen[bytes]) -> bytes:
    """The next line that a process writes.

    Raises:
        SystemExit: it has ended instead.
    """
    out: IO[bytes] | None = process.stdout
    line = out.readline() if out is not None else b""
    if not line:
        raise SystemExit(f"{process.args!r} ended without a word")
    return line


def write_line(process: subprocess.Popen[bytes]) -> None:
    """Let a process that waits for a line go on."""
    if process.stdin is not None:
        process.stdin.write(b"\n")
