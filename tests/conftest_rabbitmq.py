"""A real RabbitMQ for the tests: the one that PAYBATCH_TEST_AMQP_URL names, else a node of their
own in a temporary folder. A plug-in: a `conftest.py` imports the fixture from here.

Without either, tests that need it are skipped and say what is missing; in CI they fail.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection

from tests.batches.cli_world import TIMEOUT_S, until
from tests.worlds import give_up

# The program itself; the one on the path hands over to it as another user.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
START_S = 100


@pytest.fixture(scope="session")
def amqp_url() -> Iterator[str]:
    """One node for all tests of this process."""
    given = os.environ.get("PAYBATCH_TEST_AMQP_URL")
    if given:
        yield given
        return
    if not PROGRAM.exists():
        give_up("no RabbitMQ: set PAYBATCH_TEST_AMQP_URL, or install rabbitmq-server")
    folder = Path(tempfile.mkdtemp(prefix="paybatch-rabbitmq-"))
    try:
        with _node(folder) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _node(folder: Path) -> Iterator[str]:
    port, other_port = _free_ports(2)
    user = None
    if os.geteuid() == 0:
        user = "rabbitmq" if "rabbitmq" in {one.pw_name for one in pwd.getpwall()} else "nobody"
        shutil.chown(folder, user)
    settings = {
        "NODENAME": f"paybatch{port}@localhost",
        "NODE_PORT": str(port),
        "NODE_IP_ADDRESS": "127.0.0.1",
        "DIST_PORT": str(other_port),
        "MNESIA_BASE": str(folder),
        "LOGS": str(folder / "log"),
        "ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "CONFIG_FILE": str(folder / "none"),
    }
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            [PROGRAM],
            env={"PATH": os.environ["PATH"], "HOME": str(folder)}
            | {f"RABBITMQ_{name}": value for name, value in settings.items()},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=folder,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            start_new_session=True,
        )
    url = f"amqp://guest:guest@127.0.0.1:{port}//"
    try:
        until(lambda: process.poll() is not None or _answers(url), limit_s=START_S)
        assert process.poll() is None, (folder / "out").read_text()
        yield url
    finally:
        # Its shell, the node and the node's helpers.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(TIMEOUT_S)


def _answers(url: str) -> bool:
    with Connection(url, connect_timeout=5) as connection:
        try:
            connection.connect()
        except (OSError, *connection.connection_errors):
            return False
        return True


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in found:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in found]
