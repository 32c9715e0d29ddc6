"""The servers of the fault suite, each of which can be killed and started again in its place."""

from __future__ import annotations

import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import redis

from tests.batches.cli_world import ROOT, TIMEOUT_S, until
from tests.conftest_servers import free_port
from tests.worlds import give_up
from workers.simulator.control import account_of
from workers.simulator.ledger import Ledger

# More money than any scenario pays.
BALANCES = ("USD=9000000000.00", "EUR=9000000000.00", "BRL=9000000000.00")
ONE_STEP_FAULTS = (
    *("create:drop-after", "create:504-after", "create:drop", "create:hang-after"),
    *("create:reset-after", "read:503", "hide=1", "settle=1"),
)


class Server(ABC):
    """A process that listens at the same port at each start."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, unless it is there, and wait until it answers."""
        if self.is_alive:
            return
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=ROOT
            )
        until(self.answers)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(TIMEOUT_S)
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it can be used."""


class RedisServer(Server):
    """A Redis that keeps nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "redis")
        program = shutil.which("redis-server")
        if program is None:
            give_up("no Redis: install redis-server")
        self._program = program
        self.client = redis.Redis(port=self.port)

    def command(self) -> list[str]:
        quiet = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
        return [self._program, "--port", str(self.port), *quiet, "--dir", str(self.folder)]

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False


class Provider(Server):
    """A simulated provider that pays again when a reference id is created again."""

    def __init__(self, folder: Path, name: str, *flags: str) -> None:
        super().__init__(folder, name)
        self._flags = flags
        self.ledger_file = folder / f"{name}.ledger"

    def command(self) -> list[str]:
        program = [sys.executable, "-m", f"workers.simulator.{self.name}"]
        where = ["--port", str(self.port), "--ledger", str(self.ledger_file)]
        return [*program, *where, "--quiet", "--until-stdin-closes", *self._flags]

    def answers(self) -> bool:
        try:
            return bool(self.control("GET", "health")["healthy"])
        except httpx.TransportError:
            return False

    def control(self, method: str, path: str, **body: Any) -> Any:
        url = f"http://127.0.0.1:{self.port}/_control/{path}"
        answer = httpx.request(method, url, json=body, trust_env=False, timeout=TIMEOUT_S)
        answer.raise_for_status()
        return answer.json()

    def fault(self, words: str) -> None:
        """Put a fault in force for every reference id, each by itself."""
        self.control("POST", "faults", faults=words)

    def ledger(self) -> Mapping[str, Any]:
        """What the provider knows, by reference id: from its file, whether or not it is alive."""
        copy = self.ledger_file.with_suffix(".copy")
        shutil.copyfile(self.ledger_file, copy)
        ledger = Ledger(copy)
        try:
            return {each: account_of(ledger, each) for each in ledger.references()}
        finally:
            ledger.close()
            copy.unlink()


def payelata(folder: Path) -> Provider:
    """Two steps; the harshest form of Payelata."""
    balances = [flag for each in BALANCES for flag in ("--balance", each)]
    life = ["--settle", "0.1", "--latency", "0.02", "--allow-duplicates"]
    return Provider(folder, "payelata", *life, *balances)


def echelon(folder: Path) -> Provider:
    """One step: a create is the release. Each kind of fault strikes some of the payouts."""
    life = ["--settle", "0.1", "--latency", "0.02", "--duplicates", "pay-again"]
    faults = [flag for each in ONE_STEP_FAULTS for flag in ("--fault", each)]
    balance = ["--balance", "IDR=9000000000000"]
    return Provider(folder, "echelon", *life, *balance, *faults, "--fault-every", "9")
