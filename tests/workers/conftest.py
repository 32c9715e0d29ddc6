"""The worlds of the crash points, made once a file: their payouts do not meet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.crash_world import CrashWorld
from workers.simulator.payelata import PayelataOptions, serve


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrashWorld]:
    yield from _world(tmp_path_factory.mktemp("crash"), allow_duplicates=True)


@pytest.fixture(scope="module")
def strict_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrashWorld]:
    yield from _world(tmp_path_factory.mktemp("strict"), allow_duplicates=False)


def _world(folder: Path, *, allow_duplicates: bool) -> Iterator[CrashWorld]:
    # Soon enough to be settled by the next call, late enough not to be in the answer to this one.
    options = PayelataOptions(settle_s=0.001, quiet=True, allow_duplicates=allow_duplicates)
    with serve(options) as running:
        made = CrashWorld(folder, running.base_url, running.control_url)
        yield made
        made.close()
