"""The worlds of the crash points, made once a file: their payouts do not meet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest_rabbitmq import amqp_url
from tests.workers.crash_world import CrashWorld
from tests.workers.kinds import KINDS, Kind

# Fixtures that the tests here ask for by name.
__all__ = ["amqp_url"]


@pytest.fixture(scope="module")
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CrashWorld]:
    """A provider that takes a second create of a reference id for a second payout."""
    kind = KINDS[request.param]
    yield from _world(tmp_path_factory.mktemp(kind.name), kind, harsh=True)


@pytest.fixture(scope="module")
def strict_world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CrashWorld]:
    """A provider that does with a second create what it is believed to do."""
    kind = KINDS[request.param]
    yield from _world(tmp_path_factory.mktemp(f"{kind.name}-strict"), kind, harsh=False)


def _world(folder: Path, kind: Kind, *, harsh: bool) -> Iterator[CrashWorld]:
    # Soon enough to be settled by the next call, late enough not to be in the answer to this one.
    settle = {} if kind.name == "ecart" else {"settle_s": 0.001}
    with kind.serve(**(kind.harsh if harsh else {}), **settle, quiet=True) as running:
        made = CrashWorld(folder, kind, running)
        yield made
        made.close()
