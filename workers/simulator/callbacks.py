"""Delivery of callbacks with the retry ladder; what a callback says is the provider's business.

Only hosts that were allowed get any: a test file may name a real receiver, and a stand-in must not
write to strangers. A delivery that is waiting dies with the process, as a client has to expect.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from workers.simulator.clock import SimulatorClock
from workers.simulator.ledger import Invoice
from workers.simulator.port import Ladder, Letter

log = logging.getLogger(__name__)

# Source: Payelata API facts, section 7: 10 s to connect, 10 s to read, 20 s in all; of the other
# providers nothing is known.
TIMEOUT = aiohttp.ClientTimeout(total=20, connect=10, sock_read=10)

# A merchant's answer is a few words.
ANSWER_BYTES_MAX = 65_536

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(slots=True)
class Delivery:
    """One callback on its way; `answers` are the receiver's statuses, 0 for none."""

    invoice_id: str
    status: str
    letter: Letter
    queued_at: float
    answers: list[int] = field(default_factory=list)
    # When it was tried, in simulator time.
    tried_at: list[float] = field(default_factory=list)

    delivered: bool = False


class Callbacks:
    """The outbox. Its `tick` must be called from the event loop."""

    def __init__(self, clock: SimulatorClock, hosts: Collection[str] = ()) -> None:
        self.deliveries: list[Delivery] = []
        # How this provider repeats; told before anything is posted.
        self.ladder = Ladder((), lambda _: True)
        self._clock = clock
        self._hosts = LOOPBACK_HOSTS | set(hosts)
        self._waiting: list[tuple[float, int, Delivery]] = []
        self._serial = 0
        self._session: aiohttp.ClientSession | None = None
        self._posting: set[asyncio.Task[None]] = set()

    def post(self, invoice: Invoice, letter: Letter) -> None:
        """Send at once, and again by the ladder until the receiver has taken it."""
        if not self.allows(letter):
            return
        delivery = Delivery(invoice.id, invoice.status, letter, self._clock.now())
        self.deliveries.append(delivery)
        self._wait(delivery, delivery.queued_at)

    def allows(self, letter: Letter) -> bool:
        """Whether the receiver is one of the hosts this simulator may write to."""
        try:
            host = urlsplit(letter.url).hostname
        except ValueError:
            host = None
        if host not in self._hosts:
            log.warning("callback_not_sent reason=host_not_allowed host=%s", host)
            return False
        return True

    def tick(self) -> None:
        """Send what is due."""
        now = self._clock.now()
        while self._waiting and self._waiting[0][0] <= now:
            delivery = heapq.heappop(self._waiting)[2]
            self._begin(self._deliver(delivery))

    def ask(self, letter: Letter, then: Callable[[int, bytes], None]) -> None:
        """Post once and give the answer to `then`: status 0 where there is none, or where the
        receiver may not be written to.
        """
        if not self.allows(letter):
            then(0, b"")
            return

        async def asked() -> None:
            then(*await self._exchange(letter))

        self._begin(asked())

    async def send(self, letter: Letter) -> int:
        """Post once, without the ladder; the receiver's status, or 0 if it gave none."""
        return (await self._exchange(letter))[0]

    async def _exchange(self, letter: Letter) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=TIMEOUT)
        try:
            async with self._session.post(
                letter.url, data=letter.body, headers=letter.headers, allow_redirects=False
            ) as response:
                return response.status, await response.content.read(ANSWER_BYTES_MAX)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            log.info("callback_unanswered error=%s", type(error).__name__)
            return 0, b""

    async def close(self) -> None:
        for task in list(self._posting):
            task.cancel()
        await asyncio.gather(*self._posting, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _deliver(self, delivery: Delivery) -> None:
        delivery.tried_at.append(self._clock.now())
        delivery.answers.append(await self.send(delivery.letter))
        delivery.delivered = self.ladder.delivered(delivery.answers[-1])
        wait_s = self.ladder.wait_s(delivery.answers)
        if wait_s is not None:
            self._wait(delivery, delivery.tried_at[-1] + wait_s)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._posting.add(task)
        task.add_done_callback(self._posting.discard)

    def _wait(self, delivery: Delivery, due: float) -> None:
        self._serial += 1
        heapq.heappush(self._waiting, (due, self._serial, delivery))
