"""Delivery of callbacks with the retry ladder; what a callback says is the provider's business.

Only hosts that were allowed get any: a test file may name a real receiver, and a stand-in must not
write to strangers. A delivery that is waiting dies with the process, as a client has to expect.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp

from workers.simulator.clock import SimulatorClock
from workers.simulator.ledger import Invoice
from workers.simulator.port import Letter

log = logging.getLogger(__name__)

# Source: Payelata API facts, section 7: the n-th retry n minutes after the previous, up to 100;
# test mode waits 10 s to connect, 10 s to read, 20 s in all.
RETRY_STEP_S = 60
TRIES_MAX = 100
TIMEOUT = aiohttp.ClientTimeout(total=20, connect=10, sock_read=10)

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

    @property
    def delivered(self) -> bool:
        """The receiver answered exactly 200."""
        return bool(self.answers) and self.answers[-1] == 200


class Callbacks:
    """The outbox. Its `tick` must be called from the event loop."""

    def __init__(self, clock: SimulatorClock, hosts: Collection[str] = ()) -> None:
        self.deliveries: list[Delivery] = []
        self._clock = clock
        self._hosts = LOOPBACK_HOSTS | set(hosts)
        self._waiting: list[tuple[float, int, Delivery]] = []
        self._serial = 0
        self._session: aiohttp.ClientSession | None = None
        self._posting: set[asyncio.Task[None]] = set()

    def post(self, invoice: Invoice, letter: Letter) -> None:
        """Send at once, and again by the ladder until the receiver answers 200."""
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
            task = asyncio.get_running_loop().create_task(self._deliver(delivery))
            self._posting.add(task)
            task.add_done_callback(self._posting.discard)

    async def send(self, letter: Letter) -> int:
        """Post once, without the ladder; the receiver's status, or 0 if it gave none."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=TIMEOUT)
        try:
            async with self._session.post(
                letter.url, data=letter.body, headers=letter.headers, allow_redirects=False
            ) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            log.info("callback_unanswered error=%s", type(error).__name__)
            return 0

    async def close(self) -> None:
        for task in list(self._posting):
            task.cancel()
        await asyncio.gather(*self._posting, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _deliver(self, delivery: Delivery) -> None:
        delivery.tried_at.append(self._clock.now())
        delivery.answers.append(await self.send(delivery.letter))
        retries = len(delivery.answers)
        if not delivery.delivered and retries < TRIES_MAX:
            self._wait(delivery, delivery.tried_at[-1] + retries * RETRY_STEP_S)

    def _wait(self, delivery: Delivery, due: float) -> None:
        self._serial += 1
        heapq.heappush(self._waiting, (due, self._serial, delivery))
