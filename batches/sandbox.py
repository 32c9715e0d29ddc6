"""The sandbox account: the Payelata simulator as a program of its own, beside the database.

Its ledger outlives it, so a run that was killed finds the same provider again. Two commands at a
time share one simulator; whoever outlives it starts it anew at the same address, when it next asks
something or, paying, within a second.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from workers.errors import SimulatorError, UsageError
from workers.settings import SANDBOX, AccountSettings, Settings

START_S = 15
LOCKED = 3
PROVIDERS = ("payelata", "ecomcharge", "echelon", "ecart", "etpay")
# The time from a release to its settlement; rows may ask for more in `metadata.simulate`.
SETTLE_S = "0.1"


def run_simulator(provider: str, flags: Sequence[str]) -> int:
    """Run the simulator of a provider in the foreground; its exit code.

    Raises:
        UsageError: there is no simulator of that provider.
    """
    if provider not in PROVIDERS:
        raise UsageError(f"there is no simulator of {provider!r}; there is: {', '.join(PROVIDERS)}")
    code: int = importlib.import_module(f"workers.simulator.{provider}").main(list(flags))
    return code


class Sandbox:
    """A running simulator: this command's own, or another's."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._address_file = ledger.with_suffix(".json")
        self._process: subprocess.Popen[bytes] | None = None
        self._address: Mapping[str, Any] = {}

    @classmethod
    def beside(cls, folder: Path) -> Sandbox:
        return cls(folder / "paybatch.sandbox.ledger")

    def __enter__(self) -> Self:
        # Where it was before, if that is free: whoever knows the old address finds it again.
        known = self._known_address().get("listening", ":0")
        try:
            self._start(port=int(known.rsplit(":", 1)[1]))
        except SimulatorError:
            self._start(port=0)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            _let_go(self._process)

    def settled(self, settings: Settings) -> Settings:
        """The settings with the simulator's real address in the sandbox account."""
        sandbox = settings.accounts[SANDBOX]
        values = {
            **sandbox.model_dump(),
            "base_url": self._address["base_url"],
            "public_base_url": self._address["public_base_url"],
        }
        accounts = {**settings.accounts, SANDBOX: AccountSettings.model_validate(values)}
        return settings.model_copy(update={"accounts": accounts})

    @property
    def url(self) -> str:
        """The simulator's address."""
        return str(self._address["listening"])

    def keep_up(self) -> None:
        """Start the simulator anew where it was, if whoever had started it is gone."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._answers(self._address):
            return
        if self._process is not None:
            _let_go(self._process)
            self._process = None
        self._start(port=int(self.url.rsplit(":", 1)[1]))

    def _start(self, port: int) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if self._start_own(port):
                return
            # Another command has the ledger; its simulator serves this one too.
            known = self._known_address()
            if known and self._answers(known):
                self._address = known
                return
            time.sleep(0.1)
        raise SimulatorError(f"the sandbox's simulator did not start; its ledger is {self._ledger}")

    def _start_own(self, port: int) -> bool:
        command = [sys.executable, "-m", "workers.simulator.payelata"]
        command += ["--ledger", str(self._ledger), "--port", str(port)]
        command += ["--settle", SETTLE_S, "--until-stdin-closes", "--quiet"]
        # Its own log: what it says there is for whoever looks into the simulator.
        log = os.open(
            self._ledger.with_suffix(".log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600
        )
        try:
            process = subprocess.Popen(  # noqa: S603 - our own program, by this interpreter
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        line = process.stdout.readline() if process.stdout else b""
        if not line:
            _let_go(process)
            if process.wait(START_S) == LOCKED:
                return False
            raise SimulatorError(f"the sandbox's simulator ended with code {process.returncode}")
        self._process = process
        self._address = json.loads(line)
        draft = self._address_file.with_suffix(".tmp")
        draft.write_bytes(line)
        draft.replace(self._address_file)
        return True

    def _known_address(self) -> Mapping[str, Any]:
        try:
            known: Mapping[str, Any] = json.loads(self._address_file.read_text())
        except (OSError, ValueError):
            return {}
        return known

    def _answers(self, address: Mapping[str, Any]) -> bool:
        try:
            answer = httpx.get(f"{address['listening']}/_control/health", trust_env=False)
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """Have a simulator end with its standard input, as it does when this command is killed."""
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    if process.stdout is not None:
        process.stdout.close()
