"""Starts `paybatch` and `celery` processes at once: what they import is imported one time, and
forked.

    python -m tests.batches.launcher SOCKET

Each command is a process of its own with its own folder, environment, session and files; only the
two seconds of imports are saved. A caller connects, sends one JSON line with the three descriptors
of the command, and is told the command's pid and, in the end, how it ended.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from celery.__main__ import main as celery_main

from batches.start import main

REQUEST_MAX = 200_000
# What a command imports only once it is needed.
LATER = (
    "batches.cli",
    "celery.app.control",
    "celery.apps.worker",
    "celery.bin.beat",
    "celery.concurrency.thread",
    "celery.loaders.app",
    "celery.worker.consumer",
    "encodings.idna",
    "kombu.transport.memory",
    "kombu.transport.redis",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlite3",
    "workers.providers.payelata",
)
PROGRAMS: Mapping[str, Callable[[], object]] = {"paybatch": main, "celery": celery_main}


def serve(path: str) -> None:
    """Start commands until our standard input closes: until the tests are over."""
    for name in LATER:
        importlib.import_module(name)
    # A collection in a child would copy every page that it shares with us.
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(64)
        os.write(1, b"ready\n")
        while True:
            readable, _, _ = select.select([server, 0], [], [])
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if 0 in readable:
                return
            caller, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _supervise(caller)
            caller.close()


def _supervise(caller: socket.socket) -> NoReturn:
    message, fds, _, _ = socket.recv_fds(caller, REQUEST_MAX, 3)
    while not message.endswith(b"\n"):
        message += caller.recv(REQUEST_MAX)
    request = json.loads(message)
    pid = os.fork()
    if pid == 0:
        caller.close()
        _become(request, fds)
    for fd in fds:
        os.close(fd)
    caller.sendall(f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        caller.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(request: dict[str, Any], fds: list[int]) -> NoReturn:
    os.setsid()
    for target, fd in enumerate(fds):
        os.dup2(fd, target)
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["folder"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [request["program"], *request["arguments"]]
    code = 1
    try:
        PROGRAMS[request["program"]]()
    except SystemExit as ended:
        code = int(ended.code or 0)
    # As the interpreter ends, but for the tearing down of modules, which takes longest.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
