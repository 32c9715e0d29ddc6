"""The webhook receiver: verify, keep, answer at once. What it keeps is applied by waking payouts.

An ASGI application with a path per account. It asks no provider and moves no payout; a question of
a provider, whether it should pay, is answered from the record alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import socket
from collections.abc import Callable
from datetime import datetime

import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from workers.errors import OperatorError
from workers.metrics import MetricsEndpoint
from workers.providers.port import Delivery, Verifier
from workers.record.model import Notice
from workers.record.webhooks import APPLIED_AT_ONCE
from workers.runtime import Account, Runtime

log = logging.getLogger(__name__)

# Source: Echelon Pay and ETpay pages, "Callback", "Webhook": a receiver's limit; a provider's whole
# payout object is a few kilobytes.
BODY_BYTES_MAX = 65_536
# The provider's question whether it should pay comes here, below the account's path.
VERIFY = "verify"

# A sender that drips must not keep its place for ever.
READ_S_MAX = 10
CONNECTIONS_MAX = 500
# A restarted provider may send all it had kept at once.
BACKLOG = 512
STOP_S = 10
# Deliveries that come within so long are applied together. What is due is announced less often.
GATHER_S = 0.2

Answered = tuple[int, bytes]


def application(runtime: Runtime) -> Starlette:
    """The receiver for all accounts of the settings, with its health and the metrics beside it."""
    receiver = _Receiver(runtime)
    metrics = MetricsEndpoint(runtime)
    return Starlette(
        routes=[
            Route("/health", receiver.health),
            Route("/metrics", metrics.answer),
            Route("/webhooks/{account}", receiver.take, methods=["POST"]),
            Route("/webhooks/{account}/{tail}", receiver.take, methods=["POST"]),
        ]
    )


def serve(runtime: Runtime, *, host: str, port: int, started: Callable[[str], None]) -> None:
    """Serve the receiver until the process is told to end; the deliveries under way are kept.

    Args:
        port: 0 takes a free one.
        started: told the address that it listens at.

    Raises:
        OperatorError: the address cannot be listened on.
    """
    try:
        listening = socket.create_server((host, port), backlog=BACKLOG, reuse_port=False)
    except OSError as error:
        raise OperatorError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    with listening:
        at, number, *_ = listening.getsockname()
        started(f"http://{at}:{number}")
        config = uvicorn.Config(
            application(runtime),
            # Into the log of this process, like everything else.
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=STOP_S,
        )
        # Being told to end is its usual end.
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


class _Receiver:
    """One process's receiver."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._applying = False
        # Something was kept since the last round of applying began.
        self._kept = False

    async def health(self, _request: Request) -> Response:
        """200 when the record can be asked: without it nothing can be kept."""
        try:
            await run_in_threadpool(self._runtime.webhooks.is_readable)
        except Exception:
            log.exception("the record cannot be used")
            return _json(503, {"healthy": False})
        return _json(200, {"healthy": True})

    async def take(self, request: Request) -> Response:
        account = self._runtime.accounts.get(request.path_params["account"])
        if account is None:
            return _json(404, {"error": "no such account"})
        tail = request.path_params.get("tail", "")
        work: Callable[[Account, Delivery], Answered] = self._keep
        if tail == VERIFY and account.provider.capabilities.verifies:
            work = self._answer
        try:
            body = await _read(request)
        except ClientDisconnect:
            return Response(status_code=400)
        except TimeoutError:
            return Response(status_code=408)
        if body is None:
            return _json(413, {"error": f"more than {BODY_BYTES_MAX} bytes"})
        delivery = Delivery(
            tail=tail,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=body,
            sender=request.client.host if request.client else "",
            received_at=self._now(),
        )
        try:
            status, answer = await run_in_threadpool(work, account, delivery)
        except Exception:
            # Never 4xx for our own trouble: some providers would not try again.
            log.exception("delivery not taken", extra={"account": account.name})
            return Response(status_code=503)
        # Only what verified has anything to apply.
        forged = status == account.provider.webhook_answers.forged[0]
        after = BackgroundTask(self._apply) if work == self._keep and not forged else None
        return Response(answer, status_code=status, media_type=_kind(answer), background=after)

    def _keep(self, account: Account, delivery: Delivery) -> Answered:
        answers = account.provider.webhook_answers
        news = account.provider.read_webhook(delivery)
        if news is None:
            log.warning("delivery does not verify", extra={"account": account.name})
            return answers.forged
        digest = hashlib.sha256(delivery.body).hexdigest()
        notices = [
            Notice(
                key=one.key or f"{digest}:{number}",
                provider_payout_id=one.provider_payout_id,
                reference_id=one.reference_id,
                status=one.status,
            )
            for number, one in enumerate(news)
            if one.provider_payout_id is not None or one.reference_id is not None
        ]
        kept = self._runtime.webhooks.keep(
            account.name, notices, delivery.body, delivery.received_at
        )
        log.info(
            "delivery", extra={"account": account.name, "about": len(notices), "kept": len(kept)}
        )
        return answers.taken

    def _answer(self, account: Account, delivery: Delivery) -> Answered:
        provider = account.provider
        assert isinstance(provider, Verifier)  # noqa: S101 - its capabilities say so
        question = provider.read_question(delivery)
        if question is None:
            log.warning("question does not verify", extra={"account": account.name})
            return provider.webhook_answers.forged
        allowed = not question.differs and self._runtime.webhooks.confirm(
            account.name, question.reference_id, question.provider_payout_id, question.amount
        )
        log.info(
            "question",
            extra={
                "account": account.name,
                "reference_id": question.reference_id,
                "allowed": allowed,
            },
        )
        return 200, provider.answer_question(question, allowed=allowed)

    async def _apply(self) -> None:
        """Wake soon, with what else comes until then; what cannot be woken yet is the sweep's."""
        self._kept = True
        if self._applying:
            return
        self._applying = True
        try:
            while self._kept:
                await asyncio.sleep(GATHER_S)
                self._kept = False
                applied = await run_in_threadpool(self._runtime.webhooks.apply, self._now())
                # As many as a round takes: more may wait.
                self._kept |= applied.woken + applied.idle >= APPLIED_AT_ONCE
        except Exception:
            log.exception("deliveries are kept, but not applied yet")
        finally:
            self._applying = False

    def _now(self) -> datetime:
        return self._runtime.clock.now()


async def _read(request: Request) -> bytes | None:
    """The whole body; None if it is too long.

    Raises:
        TimeoutError: it does not come.
    """
    body = bytearray()
    async with asyncio.timeout(READ_S_MAX):
        async for part in request.stream():
            body += part
            if len(body) > BODY_BYTES_MAX:
                return None
    return bytes(body)


def _json(status: int, document: object) -> Response:
    return Response(json.dumps(document), status_code=status, media_type="application/json")


def _kind(answer: bytes) -> str:
    return "application/json" if answer.startswith(b"{") else "text/plain"
