"""The embedded run: the worker, the sweep and the sandbox's simulator inside one command.

The worker is a real Celery worker on an in-process broker, with the same tasks as in a cluster.
What it leaves behind when it is killed is what any dead worker leaves, and the next run carries on.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from io import TextIOWrapper
from pathlib import Path

from batches.sandbox import Sandbox
from workers import sweep
from workers.errors import PaybatchError
from workers.logs import LogFormat, log_to
from workers.pace import threads_for
from workers.record.accounts import Pause
from workers.record.answers import is_completed
from workers.record.batches import BatchBook
from workers.record.due import SENDING_ONLY
from workers.record.status import MAYBE_SENT, State
from workers.runtime import Runtime
from workers.settings import SANDBOX, Settings

log = logging.getLogger(__name__)

TICK_S = 0.05
ANNOUNCE_S = 0.2
SWEEP_S = 1
COUNT_S = 0.25
# Counting a large batch takes its time: of the database's, it may have one part in so many.
COUNT_SHARE = 20
# An outage is waited out for so long before the command gives up: one probe gets its chance.
OUTAGE_S = 45
# A worker told to stop lets its calls end; a call cannot outlast its own deadline.
STOP_S = 35
START_S = 20
# With nothing moving for so long, and no sweep, a cluster's workers or beats are not there.
IDLE_S = 20
NOBODY_WORKS = (
    "Nothing moves, and nobody sweeps: are a worker and a beat running? They are"
    " `celery -A workers.app worker -P threads` and"
    " `celery -A workers.app beat -S celery.beat:Scheduler`; `paybatch doctor` says more."
    " Nothing is lost meanwhile."
)
LOG_BYTES_MAX = 5_000_000

Counts = Mapping[State, int]


@dataclass(frozen=True, slots=True)
class Opened:
    """A runtime, and the simulator behind its sandbox account."""

    runtime: Runtime
    sandbox: Sandbox | None


@contextlib.contextmanager
def open_runtime(settings: Settings) -> Iterator[Opened]:
    """A runtime for one command, with the sandbox's simulator where the settings name it.

    Raises:
        OperatorError: the database, its key or the simulator cannot be used.
    """
    with contextlib.ExitStack() as stack:
        sandbox = None
        if SANDBOX in settings.accounts:
            sandbox = stack.enter_context(Sandbox.beside(home(settings)))
            settings = sandbox.settled(settings)
        runtime = Runtime.open(settings)
        stack.callback(runtime.close)
        if sandbox is not None:
            account = replace(runtime.accounts[SANDBOX], keep_up=sandbox.keep_up)
            runtime = replace(runtime, accounts={**runtime.accounts, SANDBOX: account})
        yield Opened(runtime, sandbox)


def home(settings: Settings) -> Path:
    """The folder of the embedded database, where its key, log and sandbox lie too."""
    path = settings.database_url.removeprefix("sqlite:///")
    return Path(path).parent if path != settings.database_url else Path()


class _PrivateLog(logging.handlers.RotatingFileHandler):
    """A log whose every new file is readable by its owner alone."""

    def _open(self) -> TextIOWrapper:
        os.close(os.open(self.baseFilename, os.O_CREAT | os.O_WRONLY, 0o600))
        return super()._open()

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: ARG002, N802 - logging's
        # Without asking the disk what kind of file it is, at every line.
        return self.stream is not None and self.stream.tell() >= self.maxBytes


def log_to_file(folder: Path, log_format: LogFormat = "text") -> Path:
    """Send this process's log to `paybatch.log`, readable by its owner alone; its path."""
    path = folder / "paybatch.log"
    handler = _PrivateLog(path, maxBytes=LOG_BYTES_MAX, backupCount=2)
    log_to(handler, log_format)
    return path


class EmbeddedWorker:
    """A Celery worker in this process, with the sweep beside it."""

    def __init__(self, opened: Opened) -> None:
        # Most commands pay nothing, and Celery takes a quarter of the time in which they start.
        from celery.worker import state  # noqa: PLC0415

        from workers import tasks  # noqa: PLC0415

        self._tasks, self._state = tasks, state
        self._runtime = runtime = opened.runtime
        self._sandbox = opened.sandbox
        self._ready = threading.Event()
        self._failed: list[BaseException] = []
        self._swept = self._announced = 0.0
        accounts = runtime.accounts.values()
        self._threads = threads_for(account.settings.in_flight_max for account in accounts)

    def __enter__(self) -> EmbeddedWorker:
        self._tasks.use(self._runtime)
        # Messages of an earlier process died with it: what they announced is announced anew.
        self._runtime.due.forget_announcements()
        thread = threading.Thread(target=self._work, name="paybatch-worker", daemon=True)
        thread.start()
        if not self._ready.wait(START_S) or self._failed:
            raise PaybatchError(f"the embedded worker did not start: {self._why()}")
        return self

    def __exit__(self, *_: object) -> None:
        """Let the calls that are under way end; what is not begun stays due."""
        until = time.monotonic() + STOP_S
        # From here on its messages are taken, but nothing is begun.
        self._tasks.stop()
        while self._state.active_requests and time.monotonic() < until:
            time.sleep(TICK_S)
        self._tasks.use(None)

    @property
    def busy(self) -> bool:
        """Whether a payout is being worked on in this process."""
        return bool(self._state.active_requests)

    def tick(self) -> None:
        """Announce what is due, and now and then sweep."""
        if self._failed:
            raise PaybatchError(f"the embedded worker stopped: {self._why()}")
        now = time.monotonic()
        if now - self._announced < ANNOUNCE_S:
            return
        self._announced = now
        if now - self._swept >= SWEEP_S:
            self._swept = now
            if self._sandbox is not None:
                self._sandbox.keep_up()
            # A provider that hangs keeps its own account waiting, and no other.
            sweep.sweep(self._runtime, self._tasks.broker, start=sweep.in_background)
        else:
            sweep.announce(self._runtime, self._tasks.broker)

    def _why(self) -> str:
        return str(self._failed[0]) if self._failed else f"no answer in {START_S} s"

    def _work(self) -> None:
        from celery.worker import WorkController  # noqa: PLC0415 - as above

        from workers.app import app  # noqa: PLC0415

        try:
            WorkController(
                app=app,
                hostname=f"embedded-{os.getpid()}@localhost",
                pool="threads",
                concurrency=self._threads,
                without_gossip=True,
                without_mingle=True,
                without_heartbeat=True,
                ready_callback=lambda _consumer: self._ready.set(),
                quiet=True,
            ).start()
            # It logs its own errors and returns; nobody has told it to end.
            self._failed.append(PaybatchError("it ended; paybatch.log says why"))
        except BaseException as error:  # noqa: BLE001 - told to the command, which then ends
            self._failed.append(error)
        finally:
            self._ready.set()


def follow(
    batch_id: str,
    runtime: Runtime,
    worker: EmbeddedWorker | None,
    show: Callable[[Counts], None],
    warn: Callable[[str], None],
) -> Pause | None:
    """Work on a batch, or watch the cluster do it, until no payout of it moves by itself.

    Args:
        worker: this command's own; None: the cluster's workers pay.
        show: told the counts now and then.
        warn: told, once, that nobody seems to be working.

    Returns:
        None when every payout is settled or waits for a person, or somebody paused the batch and
        nothing of it moves any more; else the pause of the accounts that stops it.
    """
    book = BatchBook(runtime.store)
    count_at = 0.0
    idle = _Idle(runtime) if worker is None else None
    while True:
        if worker is not None:
            worker.tick()
        began = time.monotonic()
        if began >= count_at:
            counts = book.counts_by_account(batch_id)
            count_at = began + max(COUNT_S, COUNT_SHARE * (time.monotonic() - began))
            total: Counter[State] = Counter()
            for each in counts.values():
                total.update(each)
            show(total)
            if idle is not None and idle.lasts(total):
                idle = None
                warn(NOBODY_WORKS)
            if is_completed(total):
                return None
            if _stands(batch_id, total, worker, book):
                return None
            pause = _stopped(counts, worker, runtime)
            if pause is not None:
                return pause
        time.sleep(TICK_S)


def _stands(batch_id: str, counts: Counts, worker: EmbeddedWorker | None, book: BatchBook) -> bool:
    """Whether somebody paused the batch, and what was on its way has come to its end."""
    if worker is not None and worker.busy:
        return False
    if any(counts.get(state) for state in MAYBE_SENT - {State.CREATED}):
        return False
    batch = book.get(batch_id)
    return batch is not None and batch.decision == "paused"


class _Idle:
    """Whether a cluster seems to have nobody who works: nothing moves, and no sweep is made."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._last: Counts = {}
        self._since = time.monotonic()

    def lasts(self, counts: Counts) -> bool:
        """Whether it has lasted for long, with these counts now."""
        if counts != self._last:
            self._last, self._since = dict(counts), time.monotonic()
        if time.monotonic() - self._since < IDLE_S:
            return False
        swept_at = self._runtime.book.swept_at()
        return swept_at is None or self._runtime.clock.now() - swept_at > timedelta(seconds=IDLE_S)


def _stopped(
    counts: Mapping[str, Counts], worker: EmbeddedWorker | None, runtime: Runtime
) -> Pause | None:
    """The pause that ends the command now: every account that has something left is stopped. One
    account's pause does not end the work of the others.
    """
    pauses = {pause.account: pause for pause in runtime.book.pauses()}
    left = [account for account, each in counts.items() if not is_completed(each)]
    for account in left:
        pause = pauses.get(account)
        if pause is None or not _ends(pause, counts[account], worker, runtime):
            return None
    return pauses[left[0]]


def _ends(pause: Pause, counts: Counts, worker: EmbeddedWorker | None, runtime: Runtime) -> bool:
    """Whether nothing of a paused account goes on by itself; nothing is cut off half-way."""
    if worker is not None and worker.busy:
        return False
    if pause.kind in SENDING_ONLY:
        # Only sending waits: what needs none is still followed to its end.
        return not any(counts.get(state) for state in MAYBE_SENT - {State.CREATED})
    if pause.kind == "outage":
        return (runtime.clock.now() - pause.since).total_seconds() > OUTAGE_S
    return True
