"""One measurement: what is asked for, with which servers, and what was taken down of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.machine import (
    BIN,
    PIPES,
    ROOT,
    Command,
    Postgres,
    Processes,
    Simulator,
    machine_cpu_s,
    read_line,
    wait_for,
    write_line,
)

# A measurement in which nothing has moved for so long has failed.
STUCK_S = 90
# Times come from the records, so a look need not be prompt.
LOOK_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What the provider is like, and how much is to be paid how."""

    latency_s: float
    settle_s: float
    poll_first_s: float
    payouts: int
    # Calls at a time, over all processes.
    in_flight: int
    # Messages that may be out and not begun.
    window: int

    @property
    def is_slow(self) -> bool:
        return self.latency_s > 0


@dataclass(frozen=True)
class Life:
    """When a payout's message was published, when its work began, and when it was final."""

    published_at: float
    begun_at: float
    final_at: float


@dataclass
class Watch:
    """Takes the time, and what every kind of process and the simulator have done meanwhile."""

    processes: Processes
    simulator: Simulator
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    calls: int = 0
    seconds: float = 0.0
    # What everything else on the machine used meanwhile, of all its cores.
    others: float = 0.0
    _before: Mapping[str, float] = field(default_factory=dict)
    _machine_s: float = 0.0
    _began: float = 0.0

    def start(self) -> None:
        self._before = self.processes.cpu()
        self._machine_s = machine_cpu_s()
        self.calls = -sum(self.simulator.calls().values())
        self._began = time.monotonic()

    def stop(self) -> None:
        self.seconds = time.monotonic() - self._began
        self.calls += sum(self.simulator.calls().values())
        after = self.processes.cpu()
        self.cpu_s = {kind: used - self._before.get(kind, 0) for kind, used in after.items()}
        of_others = machine_cpu_s() - self._machine_s - sum(self.cpu_s.values())
        self.others = max(0.0, of_others / self.seconds / (os.cpu_count() or 1))

    def look(self) -> None:
        """What else is to be seen meanwhile."""

    def until_read(self, count: int) -> None:
        """Wait until the provider has been asked about so many more."""
        wanted = self.simulator.calls()["read"] + count
        wait_for(lambda: self.simulator.calls()["read"] >= wanted, "the payouts", seconds=STUCK_S)

    def until_final(self, count: int, finished: Callable[[], int]) -> None:
        """Wait until so many are final. The simulator is asked first, which costs the contender
        nothing: as long as it was asked too little, they cannot be.
        """
        found, moved = -1, time.monotonic()
        while found < count:
            time.sleep(LOOK_S)
            self.look()
            read = self.simulator.calls()["read"]
            now = finished() if read >= count else read - count
            if now != found:
                found, moved = now, time.monotonic()
            if time.monotonic() - moved > STUCK_S:
                raise SystemExit(f"stuck with {count - max(0, found)} of {count} payouts open")


@dataclass(frozen=True)
class World:
    """The servers and the folder of one measurement."""

    folder: Path
    processes: Processes
    postgres: Postgres
    # The name of this measurement's own database.
    database: str
    redis_url: str
    simulator: Simulator
    scenario: Scenario
    # Where the profiles of the workers go; None: they are not profiled.
    profiles: Path | None = None

    @property
    def dsn(self) -> str:
        return self.postgres.dsn(self.database)

    @property
    def notes(self) -> Path:
        """Where it is noted what was published when."""
        return self.folder / "published"

    def published(self) -> Mapping[int, float]:
        """When the first message of each payout was."""
        found: dict[int, float] = {}
        for line in self.notes.read_text().splitlines():
            at, *ids = line.split()
            for each in ids:
                found.setdefault(int(each), float(at))
        return found

    def lives(self, times: Mapping[int, tuple[float, float]]) -> Sequence[Life]:
        published = self.published()
        # What was paid before this measurement was published before it too.
        return [Life(published[each], *when) for each, when in times.items() if each in published]

    @contextlib.contextmanager
    def workers(
        self,
        command: Command,
        env: Mapping[str, str],
        *,
        ready: str,
        count: int = 1,
    ) -> Iterator[None]:
        """Worker processes, up when the block begins.

        Args:
            ready: what each writes into its log when it is.
        """
        with contextlib.ExitStack() as stack:
            for number in range(1, count + 1):
                log = self.folder / f"worker-{number}.log"
                named = [str(part).replace("NUMBER", str(number)) for part in command]
                heartbeat = self.folder / f"heartbeat-{number}"
                heartbeat.mkdir(exist_ok=True)
                own = {**os.environ, **env, "PAYBATCH_HEARTBEAT_FOLDER": str(heartbeat)}
                started = self.processes.started("worker", named, log=log, env=own, cwd=ROOT)
                process = stack.enter_context(started)
                self._wait(log, ready, process)
                if self.profiles is not None:
                    stack.enter_context(self._profiled(process.pid, number))
            # What they do right after they are up is not in the measurement.
            time.sleep(1)
            yield

    def _wait(self, log: Path, ready: str, process: subprocess.Popen[bytes]) -> None:
        def up() -> bool:
            if process.poll() is not None:
                raise SystemExit(f"a worker ended at once:\n{log.read_text()[-2000:]}")
            return ready in log.read_text(errors="replace")

        wait_for(up, f"{ready!r} in the log of {process.args!r}")

    @contextlib.contextmanager
    def _profiled(self, pid: int, number: int) -> Iterator[None]:
        """py-spy watches a worker from outside, so the worker is as it always is."""
        assert self.profiles is not None
        self.profiles.mkdir(parents=True, exist_ok=True)
        path = self.profiles / f"worker-{number}.stacks"
        command = [str(BIN / "py-spy"), "record", "--pid", str(pid), "--subprocesses", "--gil"]
        command += ["--rate", "200", "--format", "raw", "--output", str(path)]
        # It ends with what it watches, or is told to, and writes then.
        with self.processes.started(
            "profiler", command, log=self.folder / "profiler.log", stop=signal.SIGINT
        ):
            yield

    @contextlib.contextmanager
    def publisher(self, module: str, env: Mapping[str, str]) -> Iterator[Callable[[], None]]:
        """A rival's publisher, up when the block begins; what lets it begin."""
        window = str(self.scenario.window)
        command: Command = [sys.executable, "-m", module, window, self.notes]
        with self.asked_to_begin("dispatch", command, env) as begin:
            yield begin

    @contextlib.contextmanager
    def asked_to_begin(
        self, kind: str, command: Command, env: Mapping[str, str]
    ) -> Iterator[Callable[[], None]]:
        """A program that says when it is ready, and waits for a line."""
        own = {**os.environ, **env}
        log = self.folder / "publisher.log"
        with self.processes.started(kind, command, log=log, env=own, cwd=ROOT, **PIPES) as one:
            read_line(one)
            yield lambda: write_line(one)
