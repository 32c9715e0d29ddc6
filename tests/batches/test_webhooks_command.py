"""`paybatch webhooks` as a program: it listens, keeps what verifies, and ends when it is told."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.batches.cli_world import provided

BODY = b'{"data": {"type": "payout-invoices", "id": "cpoi_1", "attributes": {"status": "created"}}}'
KEY = b"sk_test_demo"
END_S_MAX = 60


def signature(body: bytes) -> str:
    return base64.b64encode(hashlib.sha1(KEY + body + KEY).digest()).decode()


@contextmanager
def receiving(folder: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and the address that it says it listens at."""
    program = [str(Path(sys.executable).with_name("paybatch")), "webhooks", *flags]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        program, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith("Receiving webhooks at http://127.0.0.1:"), said
            yield process, said.split()[3].removesuffix("/webhooks/ACCOUNT")
        finally:
            process.kill()


def test_it_keeps_what_verifies_and_ends_cleanly_when_it_is_told_to(tmp_path: Path) -> None:
    with (
        provided(tmp_path) as (world, _),
        receiving(world.folder, "--port", "0") as (process, url),
    ):
        good = {"X-Signature": signature(BODY)}
        assert httpx.get(f"{url}/health").json() == {"healthy": True}
        answer = httpx.post(f"{url}/webhooks/main", content=BODY, headers=good)
        assert answer.status_code == 200
        assert httpx.post(f"{url}/webhooks/main", content=BODY).status_code == 401
        assert httpx.post(f"{url}/webhooks/other", content=BODY, headers=good).status_code == 404
        with sqlite3.connect(world.folder / "paybatch.db") as database:
            rows = database.execute("SELECT account, provider_payout_id, times FROM webhooks")
            assert rows.fetchall() == [("main", "cpoi_1", 1)]
        database.close()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=END_S_MAX)
        assert (process.returncode, out) == (0, "")
        assert "Traceback" not in err


def test_an_address_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _), socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = world.paybatch("webhooks", "--port", str(port), code=1)
        assert f"cannot listen on 127.0.0.1:{port}" in ended.err
        assert "Traceback" not in ended.err
