"""What a fault looks like on the wire.

An effect is applied to an answer that may not exist: before the call was carried out there is
none. Nothing here knows the ledger.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from aiohttp import web

from workers.simulator.faults import Effect
from workers.simulator.port import JSON_HEADERS, Answer

HUGE_BYTES = 20 * 1024 * 1024
DRIP_PAUSE_S = 0.5
# How soon a hanging call notices that its client has gone.
HANG_CHECK_S = 0.05

_BAD_GATEWAY = Answer(
    502,
    b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>",
    {"Content-Type": "text/html"},
)
# Linger on, for no time: closing then sends RST instead of FIN.
_NO_LINGER = struct.pack("ii", 1, 0)


def response(answer: Answer) -> web.Response:
    """The answer as aiohttp sends it."""
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


async def strike(
    request: web.BaseRequest,
    effect: Effect,
    answered: Answer | None,
    error: Callable[[int], Answer],
) -> web.StreamResponse:
    """Answer, or fail to, as the effect says.

    Args:
        answered: what a healthy provider would send; None if the call was not carried out.
        error: makes the provider's own form of an error status.
    """
    if effect.kind in _RAW:
        await _RAW[effect.kind](request, answered)
        return web.Response()  # goes nowhere: the connection is closed
    if effect.kind == "slow":
        await asyncio.sleep(effect.seconds)
    return response(_spoilt(effect, answered, error))


def _spoilt(effect: Effect, answered: Answer | None, error: Callable[[int], Answer]) -> Answer:
    if effect.kind == "status":
        return _status(effect, error(effect.status))
    if effect.kind == "html" or answered is None:
        return _BAD_GATEWAY
    if effect.kind == "garbage":
        return Answer(answered.status, b'{"data":{"type":"payo\xff\xfe', JSON_HEADERS)
    if effect.kind == "empty":
        return Answer(answered.status, b"", JSON_HEADERS)
    if effect.kind == "huge":
        # Still JSON: only a limit on size tells it from a good answer.
        padding = b" " * (HUGE_BYTES - len(answered.body))
        return Answer(answered.status, answered.body + padding, JSON_HEADERS)
    return answered


def _status(effect: Effect, answer: Answer) -> Answer:
    headers = dict(answer.headers)
    if effect.status == 429:
        headers["Retry-After"] = f"{effect.seconds:g}"
    if effect.status == 302:
        headers["Location"] = "/moved"
    return Answer(answer.status, answer.body, headers)


async def _drop(request: web.BaseRequest, _answered: Answer | None) -> None:
    if request.transport is not None:
        request.transport.close()


async def _reset(request: web.BaseRequest, _answered: Answer | None) -> None:
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    request.transport.abort()


async def _hang(request: web.BaseRequest, _answered: Answer | None) -> None:
    while not _is_gone(request):
        await asyncio.sleep(HANG_CHECK_S)


async def _drip(request: web.BaseRequest, answered: Answer | None) -> None:
    """Before: a header without end. After: a body without end, below good headers."""
    start = b"HTTP/1.1 200 OK\r\nX-Slow: "
    if answered is not None:
        start = _head(answered, HUGE_BYTES)
    _write(request, start)
    while not _is_gone(request):
        await asyncio.sleep(DRIP_PAUSE_S)
        _write(request, b"x" if answered is None else b" ")


async def _cut(request: web.BaseRequest, answered: Answer | None) -> None:
    if answered is not None:
        half = answered.body[: len(answered.body) // 2]
        _write(request, _head(answered, len(answered.body)) + half)
    await _drop(request, answered)


_RAW = {"drop": _drop, "reset": _reset, "hang": _hang, "drip": _drip, "cut": _cut}


def _head(answer: Answer, length: int) -> bytes:
    return (
        f"HTTP/1.1 {answer.status} OK\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def _write(request: web.BaseRequest, data: bytes) -> None:
    # Past aiohttp, which would not send a broken message.
    if not _is_gone(request) and isinstance(request.transport, asyncio.WriteTransport):
        request.transport.write(data)


def _is_gone(request: web.BaseRequest) -> bool:
    return request.transport is None or request.transport.is_closing()
