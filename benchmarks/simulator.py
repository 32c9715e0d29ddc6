"""How many requests a second the Payelata simulator answers, and how much of a core that takes.

    python -m benchmarks.simulator [--seconds 5] [--connections 16] [--ledger FILE]

Each payout is created, processed and read. The client is a bare asyncio loop over sockets in a
process of its own, so that it costs as little as possible.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import program
from benchmarks.program import held

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
AUTHORIZATION = base64.b64encode(b"coma_Demo0000Demo0001:demo-api-key").decode()


@dataclass(frozen=True)
class Load:
    """What a simulator answered while it was asked as fast as it could be."""

    requests: int
    seconds: float
    cpu_s: float


def measure(seconds: int, connections: int, *flags: str) -> Load:
    """Ask a simulator of our own for so long."""
    command = [sys.executable, "-m", "workers.simulator.payelata", "--until-stdin-closes"]
    command += ["--quiet", *flags]
    with contextlib.ExitStack() as stack:
        with held():
            simulator = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
            # It ends with its standard input.
            stack.callback(simulator.communicate)
        assert simulator.stdout is not None
        base_url = json.loads(simulator.stdout.readline())["base_url"]
        cpu_before, started = _cpu_s(simulator.pid), time.perf_counter()
        requests = asyncio.run(_load(base_url, seconds, connections))
        elapsed = time.perf_counter() - started
        cpu = _cpu_s(simulator.pid) - cpu_before
    return Load(requests, elapsed, cpu)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--ledger", type=Path)
    flags = parser.parse_args()
    ledger = [] if flags.ledger is None else ["--ledger", str(flags.ledger)]
    load = measure(flags.seconds, flags.connections, "--settle", "0.2", *ledger)
    print(f"{'connections':>12}{'requests':>10}{'requests/s':>12}{'of a core':>11}{'us each':>9}")
    print(
        f"{flags.connections:>12}{load.requests:>10}{load.requests / load.seconds:>12.0f}"
        f"{load.cpu_s / load.seconds:>11.0%}{load.cpu_s / load.requests * 1e6:>9.0f}"
    )
    return 0


def _cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICKS_PER_S


async def _load(base_url: str, seconds: int, connections: int) -> int:
    deadline = time.perf_counter() + seconds
    clients = [_client(base_url, deadline, number) for number in range(connections)]
    return sum(await asyncio.gather(*clients))


async def _client(base_url: str, deadline: float, number: int) -> int:
    address = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    sent = 0

    async def ask(method: str, path: str, body: bytes = b"") -> bytes:
        writer.write(
            f"{method} {address.path}{path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Authorization: Basic {AUTHORIZATION}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 20"), head
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        return await reader.readexactly(length)

    while time.perf_counter() < deadline:
        created = await ask("POST", "/payout-invoices", _order(f"bench-{number}-{sent}"))
        invoice_id = created.partition(b'"id":"')[2].partition(b'"')[0].decode()
        await ask("POST", f"/payout-invoices/{invoice_id}/process")
        await ask("GET", f"/payout-invoices/{invoice_id}")
        sent += 3
    writer.close()
    await writer.wait_closed()
    return sent


def _order(reference_id: str) -> bytes:
    attributes = {
        "reference_id": reference_id,
        "service": "payment_card_usd",
        "currency": "USD",
        "amount": 1,
        "test_mode": True,
        "fields": {"card_number": "4000000000000002"},
    }
    return json.dumps({"data": {"type": "payout-invoice", "attributes": attributes}}).encode()


if __name__ == "__main__":
    program.run(main)
