"""A PostgreSQL of our own as a program: it says its address, and ends with its standard input.

    python -m benchmarks.server

For a measurement of memory: what the process that measures has loaded counts for each command that
it starts, so it starts this instead of a server.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks import program
from benchmarks.machine import Postgres, Processes


def main() -> int:
    folder_of_all = sys.argv[1] if sys.argv[1:] else None
    with tempfile.TemporaryDirectory(dir=folder_of_all, prefix="paybatch-bench-") as name:
        # PostgreSQL's own user has to get through.
        Path(name).chmod(0o711)
        folder = Path(name) / "postgres"
        folder.mkdir(mode=0o700)
        with Postgres(Processes(), folder).running() as server:
            print(server.dsn("postgres"), flush=True)
            sys.stdin.read()
    return 0


if __name__ == "__main__":
    program.run(main)
