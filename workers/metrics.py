"""`/metrics`: what the record knows, as Prometheus reads it. Only reads.

Every figure comes from the database, so one process answers for all of them. An answer is kept for
a while, so that no number of scrapers is felt there.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

from prometheus_client import generate_latest
from prometheus_client.core import (
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from workers.record.calls import BEYOND, UP_TO_MS, Count, Counted
from workers.record.figures import AGING, FigureBook, Figures
from workers.record.runs import RunBook
from workers.record.schedule_tables import RUN_OUTCOMES
from workers.record.status import State
from workers.runtime import Runtime
from workers.settings import is_loopback
from workers.standing import Standing, standings

log = logging.getLogger(__name__)

# An answer, or the news that there is none, is given again for so long; and for so many times as
# long as it took to make, so that asking never takes more than a tenth of the database's time.
KEPT_S = 5
KEPT_RATIO = 9
# All that `accounts.paused_kind` may hold: each has a series, so that an alert sees it end.
PAUSES = ("fault", "balance", "outage", "person", "restore")
# A request with one of these came through a proxy: who is connected is not who asked.
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")

_Sample = tuple[Sequence[str], float]


@dataclass(frozen=True)
class Page(Collector):
    """Figures as families of metrics, made anew for each answer and registered nowhere."""

    figures: Figures
    # The revision of the database's tables.
    schema: str
    took_s: float
    standings: Sequence[Standing] = ()

    def text(self) -> bytes:
        """In Prometheus's text format 0.0.4."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        about = {"version": version("paybatch"), "schema": self.schema}
        yield InfoMetricFamily("paybatch", "Who answers: its version, its tables.", about)
        yield _gauge(
            "paybatch_metrics_read_seconds",
            "How long the database took to give these figures.",
            [((), self.took_s)],
        )
        swept_at = self.figures.swept_at
        yield _gauge(
            "paybatch_sweep_age_seconds",
            "Time since a sweep last went all the way through; +Inf if none ever did.",
            [((), math.inf if swept_at is None else self._age(swept_at))],
        )
        yield from self._payouts()
        yield from self._work()
        yield from self._accounts()
        yield from self._webhooks()
        yield from self._schedules()
        yield _durations(self.figures.calls)

    def _age(self, since: datetime | None) -> float:
        """Seconds since then; 0 where there is nothing. Clocks may differ by a little."""
        return 0 if since is None else max(0, (self.figures.at - since).total_seconds())

    def _payouts(self) -> Iterator[Metric]:
        accounts = self.figures.accounts
        yield _gauge(
            "paybatch_payouts",
            "Payouts in each state.",
            [((a.name, state), a.counts.get(state, 0)) for a in accounts for state in State],
            "account",
            "state",
        )
        yield _gauge(
            "paybatch_oldest_open_seconds",
            "Time since the longest open payout of a state was sent, or stored if it was not sent"
            " yet; 0 if there is none.",
            [
                ((a.name, state), self._age(a.open_since.get(state)))
                for a in accounts
                for state in AGING
            ],
            "account",
            "state",
        )

    def _work(self) -> Iterator[Metric]:
        accounts = self.figures.accounts
        yield _gauge(
            "paybatch_oldest_due_seconds",
            "How long the longest due payout has waited for a worker, to be sent or to be asked"
            " about; 0 if there is none, or its account or batch is paused.",
            [
                ((a.name, work), self._age(since))
                for a in accounts
                for work, since in (("send", a.send_due_since), ("ask", a.ask_due_since))
            ],
            "account",
            "work",
        )
        yield _gauge(
            "paybatch_claims_expired",
            "Payouts whose worker was not heard of until its claim ran out, not taken over yet.",
            [((a.name,), a.claims_expired) for a in accounts],
            "account",
        )
        yield _gauge(
            "paybatch_messages_out",
            "Payouts that are announced to the workers and not taken yet.",
            [((a.name,), a.messages_out) for a in accounts],
            "account",
        )
        yield _gauge(
            "paybatch_messages_overdue",
            "Payouts that were announced to the workers and not taken in time.",
            [((a.name,), a.messages_overdue) for a in accounts],
            "account",
        )

    def _accounts(self) -> Iterator[Metric]:
        accounts = self.figures.accounts
        yield _gauge(
            "paybatch_account_paused",
            "1 if nothing is sent for the account, for that kind of reason.",
            [
                ((a.name, kind), 1 if a.paused_kind == kind else 0)
                for a in accounts
                for kind in PAUSES
            ],
            "account",
            "kind",
        )
        yield _gauge(
            "paybatch_account_paused_seconds",
            "Time since the account was paused; 0 if it is not.",
            [((a.name,), self._age(a.paused_at) if a.paused_kind else 0) for a in accounts],
            "account",
        )
        yield _gauge(
            "paybatch_account_blocked_seconds",
            "Time until the provider lets the account call again (Retry-After); 0 if it does.",
            [((a.name,), self._left(a.blocked_until)) for a in accounts],
            "account",
        )

    def _left(self, until: datetime | None) -> float:
        return 0 if until is None else max(0, (until - self.figures.at).total_seconds())

    def _webhooks(self) -> Iterator[Metric]:
        accounts = self.figures.accounts
        yield _gauge(
            "paybatch_webhooks_pending",
            "Deliveries of webhooks that are kept and have not woken their payouts yet.",
            [((a.name,), a.deliveries_pending) for a in accounts],
            "account",
        )
        yield _gauge(
            "paybatch_webhooks_oldest_pending_seconds",
            "Age of the oldest delivery that has not woken its payout yet; 0 if there is none.",
            [((a.name,), self._age(a.delivery_pending_since)) for a in accounts],
            "account",
        )

    def _schedules(self) -> Iterator[Metric]:
        yield _gauge(
            "paybatch_schedule_overdue_seconds",
            "Since when a schedule's run should have been begun, or be over; 0 if it is in time.",
            [((one.schedule.name,), self._age(one.overdue_since)) for one in self.standings],
            "schedule",
        )
        yield _gauge(
            "paybatch_schedule_last_run",
            "1 for how the last run of a schedule ended, or that it is open.",
            [
                ((one.schedule.name, outcome), 1 if one.last and one.last.outcome == outcome else 0)
                for one in self.standings
                for outcome in RUN_OUTCOMES
            ],
            "schedule",
            "outcome",
        )
        yield _gauge(
            "paybatch_schedule_files_waiting",
            "Files of a schedule whose batches wait for money or a person.",
            [((one.schedule.name,), one.waiting) for one in self.standings],
            "schedule",
        )


def _gauge(name: str, told: str, samples: Iterable[_Sample], *labels: str) -> Metric:
    family = GaugeMetricFamily(name, told, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _durations(counted: Sequence[Counted]) -> Metric:
    """The counts of calls as a histogram: each bucket also counts what the smaller ones do."""
    family = HistogramMetricFamily(
        "paybatch_call_duration_seconds",
        "Calls of the provider by what they were for and how they were answered, without the wait"
        " for their turn.",
        labels=["account", "step", "answer"],
    )
    ranges: dict[tuple[str, str, str], dict[int, Count]] = defaultdict(dict)
    for one in counted:
        ranges[one.account, one.kind.step, one.kind.answer][one.kind.up_to_ms] = one.count
    for labels, counts in sorted(ranges.items()):
        number, buckets = 0, []
        for up_to_ms in (*UP_TO_MS, BEYOND):
            number += counts.get(up_to_ms, Count(0, 0)).number
            buckets.append((f"{up_to_ms / 1000}" if up_to_ms else "+Inf", number))
        total_us = sum(count.total_us for count in counts.values())
        family.add_metric(labels, buckets, total_us / 1_000_000)
    return family


class MetricsEndpoint:
    """Answers `/metrics` for one process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._book = FigureBook(runtime.database)
        self._asking = asyncio.Lock()
        # The last answer, None if there was none, and until when it is given again.
        self._text: bytes | None = None
        self._kept_until = -math.inf

    async def answer(self, request: Request) -> Response:
        """The figures, for whoever may see them."""
        refused = self._refusal(request)
        if refused is not None:
            return refused
        # One at a time: the others get its answer, and take no thread from the webhooks.
        async with self._asking:
            if self._runtime.clock.monotonic() >= self._kept_until:
                await run_in_threadpool(self._read)
        if self._text is None:
            return PlainTextResponse("the database does not answer\n", status_code=503)
        return Response(self._text, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    def _read(self) -> None:
        clock = self._runtime.clock
        started = clock.monotonic()
        try:
            figures = self._book.figures(clock.now())
            schema = self._runtime.database.revision() or ""
            runs, settings = RunBook(self._runtime.database), self._runtime.settings
            found = standings(settings.schedules, runs, clock.now(), embedded=settings.embedded)
            self._text = Page(figures, schema, clock.monotonic() - started, found).text()
        except Exception:
            log.exception("the figures cannot be read")
            self._text = None
        ended = clock.monotonic()
        self._kept_until = ended + max(KEPT_S, KEPT_RATIO * (ended - started))

    def _refusal(self, request: Request) -> Response | None:
        """What to tell who may not see the figures; None: he may."""
        token = self._runtime.settings.metrics_token
        if token is not None:
            wanted = f"Bearer {token.get_secret_value()}".encode()
            if hmac.compare_digest(
                request.headers.get("authorization", "").encode("latin-1"), wanted
            ):
                return None
            return PlainTextResponse(
                "expected the header Authorization: Bearer, with the metrics_token of the"
                " settings\n",
                status_code=401,
                headers={"WWW-Authenticate": "Bearer"},
            )
        near = request.client is not None and is_loopback(request.client.host)
        if near and not any(name in request.headers for name in _FORWARDED):
            return None
        return PlainTextResponse(
            "without a metrics_token in the settings only this machine itself is answered\n",
            status_code=403,
        )
