"""A real FTP server on this machine, for inboxes that lie elsewhere: `python -m ... FOLDER`.

In a process of its own, as every server is; it prints its port and ends with its standard input.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
USER, PASSWORD = "bank", "geheim"
WAIT_S = 30


@contextlib.contextmanager
def ftp_served(folder: Path) -> Iterator[str]:
    """Serve a folder; the address of its root, with user and password."""
    # The library still builds on a module that Python has given up, and is warned about.
    command = [sys.executable, "-W", "ignore", "-m", "tests.batches.ftp_server", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            yield f"ftp://{USER}:{PASSWORD}@127.0.0.1:{port}"
        finally:
            process.stdin.close()
            process.wait(WAIT_S)


def main(folder: str) -> None:
    """Serve until standard input ends."""
    from pyftpdlib.authorizers import DummyAuthorizer  # noqa: PLC0415 - only the server needs it
    from pyftpdlib.handlers import FTPHandler  # noqa: PLC0415
    from pyftpdlib.servers import FTPServer  # noqa: PLC0415

    class Handler(FTPHandler):  # type: ignore[misc]
        authorizer = DummyAuthorizer()

    logging.basicConfig(level=logging.ERROR)
    Handler.authorizer.add_user(USER, PASSWORD, folder, perm="elradfmwMT")
    server = FTPServer(("127.0.0.1", 0), Handler)
    print(server.address[1], flush=True)

    def end() -> None:
        sys.stdin.read()
        # Whoever is connected still is cut off, as by any server that goes away.
        os._exit(0)

    threading.Thread(target=end, daemon=True).start()
    server.serve_forever(handle_exit=False)


if __name__ == "__main__":
    main(sys.argv[1])
