"""The shared front of every simulated provider: sockets, faults, ledger, control API.

`Simulator` joins the parts, `serving` runs one inside this process (for tests), `run` as a program
of its own. Requests are carried out one at a time and without a pause in the middle, so the
ledger needs no locks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from email.utils import formatdate
from pathlib import Path

from aiohttp import web

from workers.errors import PaybatchError, SimulatorError
from workers.simulator import control, effects, faults
from workers.simulator.callbacks import Callbacks
from workers.simulator.clock import SimulatorClock
from workers.simulator.ledger import Event, Ledger
from workers.simulator.port import Action, Answer, Api, Call, Parts

log = logging.getLogger(__name__)

# How often steps that nobody asks about are taken and callbacks sent: 20 times a second is prompt
# to a person and costs nothing.
TICK_S = 0.05
# A stop cuts off what hangs; every answered call is in the ledger already.
STOP_S = 0.05
START_S_MAX = 10.0
# A burst of workers connects at once; more than the usual 128 then must not be refused.
BACKLOG = 1024


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What all simulated providers can be told; see the flags of the same names."""

    host: str = "127.0.0.1"
    port: int = 0
    ledger: Path | None = None
    # These count only for a new ledger; one with a past keeps its own.
    balances: dict[str, Decimal] = field(default_factory=dict)
    faults: faults.Script = field(default_factory=faults.Script)
    fault_every: int = 1
    latency_s: float = 0.0
    clock_scale: float = 1.0
    manual_clock: float | None = None
    callback_hosts: tuple[str, ...] = ()
    until_stdin_closes: bool = False
    quiet: bool = False


MakeApi = Callable[[Parts], Api]


@dataclass(frozen=True, slots=True)
class Running:
    """Where a started simulator answers."""

    base_url: str
    public_base_url: str

    @property
    def control_url(self) -> str:
        return self.public_base_url + control.PREFIX.rstrip("/")

    def announcement(self) -> str:
        """The one line that a parent process reads."""
        return json.dumps(
            {
                "listening": self.public_base_url,
                "base_url": self.base_url,
                "public_base_url": self.public_base_url,
                "pid": os.getpid(),
            }
        )


class Simulator:
    """One simulated provider on one ledger.

    Raises:
        LedgerLocked, LedgerDamaged: see `Ledger`.
    """

    def __init__(self, options: ServerOptions, make_api: MakeApi) -> None:
        self._options = options
        self._ledger = Ledger(options.ledger)
        clock = SimulatorClock(
            scale=options.clock_scale,
            manual=options.manual_clock,
            not_before=self._ledger.last_at,
        )
        book = faults.FaultBook(
            options.faults, every=options.fault_every, uses=self._ledger.fault_uses
        )
        for reference_id, text in self._ledger.scripts.items():
            book.learn(reference_id, faults.parse(text))
        self._callbacks = Callbacks(clock, options.callback_hosts)
        parts = Parts(self._ledger, clock, book, self._callbacks.post, self._callbacks.ask)
        if not self._ledger.balances:
            active = {currency: str(each) for currency, each in options.balances.items()}
            self._ledger.record({"event": "balances", "active": active})
            self._ledger.commit()
        self._clock = clock
        self._faults = book
        try:
            self._api = make_api(parts)
        except BaseException:
            # Nobody else could open it while this process lives.
            self._ledger.close()
            raise
        self._callbacks.ladder = self._api.ladder
        self._control = control.Control(self._api, parts, self._callbacks)

    @contextlib.asynccontextmanager
    async def started(self) -> AsyncIterator[Running]:
        """Listen until the block ends."""
        runner = web.ServerRunner(
            web.Server(self._respond, access_log=None), shutdown_timeout=STOP_S
        )
        await runner.setup()
        ticking = asyncio.get_running_loop().create_task(self._tick())
        ticking.add_done_callback(_tell_of_failure)
        try:
            yield await self._listen(runner)
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
            await runner.cleanup()
            await self._callbacks.close()
            self._ledger.close()

    async def _listen(self, runner: web.ServerRunner) -> Running:
        options = self._options
        site = web.TCPSite(runner, options.host, options.port, backlog=BACKLOG)
        try:
            await site.start()
        except OSError as error:
            raise SimulatorError(
                f"cannot listen on {options.host}:{options.port}: {error.strerror}"
            ) from error
        host = f"[{options.host}]" if ":" in options.host else options.host
        root = f"http://{host}:{runner.addresses[0][1]}"
        return Running(root + self._api.prefix, root)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._api.advance(self._clock.now())
            self._ledger.commit()
            self._callbacks.tick()

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._answered(request)
        # Clients may count from it, so it is of the simulated time, as everything else.
        response.headers["Date"] = formatdate(self._clock.now(), usegmt=True)
        return response

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await request.read()
        except ConnectionResetError:
            # The client broke off in the middle of its request: nobody waits for an answer.
            return web.Response(status=400)
        path, _, query = request.raw_path.partition("?")
        if path.startswith(control.PREFIXES):
            return effects.response(await self._control.answer(request, path, body))
        if self._options.latency_s:
            await asyncio.sleep(self._options.latency_s)
        now = self._clock.now()
        self._api.advance(now)
        found = self._api.route(Call(request.method, path, query, request.headers, body, now))
        if isinstance(found, Answer):
            self._ledger.calls["refused"] += 1
            self._ledger.commit()
            return effects.response(found)
        taken = self._faults.take(found.point, found.reference_id)
        answered = self._carry_out(found, taken)
        if taken is not None:
            return await effects.strike(request, taken.fault.effect, answered, self._api.error)
        assert answered is not None  # noqa: S101 - without a fault every call is carried out
        return effects.response(answered)

    def _carry_out(self, action: Action, taken: faults.Taken | None) -> Answer | None:
        """Do what was asked, unless the fault comes first, and have all of it on file."""
        applied = taken is None or taken.fault.effect.applied
        answered = action.perform() if applied else None
        event: Event = {"event": "call", "point": action.point}
        if action.reference_id is not None:
            event["reference_id"] = action.reference_id
        if taken is not None:
            effect = taken.fault.text.partition(":")[2]
            event |= {"rule": taken.rule, "effect": effect, "applied": applied}
            log.info(
                "fault point=%s effect=%s reference_id=%s applied=%s",
                action.point,
                effect,
                action.reference_id,
                applied,
            )
        self._ledger.record(event)
        self._ledger.commit()
        return answered


def _tell_of_failure(ticking: asyncio.Task[None]) -> None:
    # Time would stand still without a word.
    if not ticking.cancelled() and (error := ticking.exception()) is not None:
        log.error("time_stopped error=%r", error)


@contextlib.contextmanager
def serving(options: ServerOptions, make_api: MakeApi) -> Iterator[Running]:
    """Run a simulator in a thread of this process until the block ends.

    Raises:
        SimulatorError: it could not be started.
    """
    ready: list[Running | BaseException] = []
    signalled = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def live() -> None:
        async with Simulator(options, make_api).started() as running:
            ready.append(running)
            signalled.set()
            await stop.wait()

    def work() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(live())
        except BaseException as error:  # noqa: BLE001 - it is raised again by the starting thread
            ready.append(error)
            signalled.set()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    thread = threading.Thread(target=work, name="simulator", daemon=True)
    thread.start()
    if not signalled.wait(START_S_MAX):
        raise SimulatorError(f"the simulator did not start within {START_S_MAX} s")
    if isinstance(ready[0], BaseException):
        thread.join(START_S_MAX)
        raise ready[0]
    try:
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(START_S_MAX)
    if len(ready) > 1 and isinstance(ready[1], BaseException):
        raise ready[1]


def run(options: ServerOptions, make_api: MakeApi) -> int:
    """Run a simulator as this process's only work; the exit code."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.ERROR if options.quiet else logging.INFO,
        format="%(asctime)s %(message)s",
    )
    try:
        asyncio.run(_live(options, make_api))
    except PaybatchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


async def _live(options: ServerOptions, make_api: MakeApi) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Simulator(options, make_api).started() as running:
        if options.until_stdin_closes:
            threading.Thread(target=_watch_stdin, args=(loop, stop), daemon=True).start()
        sys.stdout.write(running.announcement() + "\n")
        sys.stdout.flush()
        await stop.wait()


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # The kernel closes our stdin when the parent dies, even by kill -9. os.read takes no lock of
    # Python's that would stand in the way of leaving.
    with contextlib.suppress(OSError):
        while os.read(0, 65536):
            pass
    with contextlib.suppress(RuntimeError):  # the loop has ended by itself
        loop.call_soon_threadsafe(stop.set)
