"""The embedded run: interrupted at will, carried on by the next, with a log for its owner alone."""

from __future__ import annotations

import signal
import stat
from pathlib import Path

import pytest

from tests.batches.cli_world import World, check_money, provided, usd_row


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_130_and_the_next_carries_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    world = World(tmp_path)
    world.write([usd_row(number, "settle=1.5" if number > 20 else "") for number in range(30)])
    with world.start("run", "p.csv", "--yes") as run:
        run.until(lambda: world.count("paid"))
        run.send(number)
        ended = run.wait()
    assert ended.code == 130, ended.err
    assert "run the same command again" in ended.err
    assert "Traceback" not in ended.err
    assert 0 < world.count("paid") < 30
    again = world.paybatch("run", "p.csv", "--yes")
    assert "Carrying on with batch" in again.out
    assert set(world.states().values()) == {"paid"}
    check_money(world.read(), world.ledger())


def test_the_log_tells_steps_by_reference_id_and_is_its_owners_alone(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1), usd_row(2, "create:422")])
        world.paybatch("run", "p.csv", "--yes", code=4)
        log = world.folder / "paybatch.log"
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        for told in ("reference_id=T-0001", "state=paid", "reference_id=T-0002", "state=failed"):
            assert told in log.read_text()


def test_what_is_settled_is_not_asked_for_again_by_the_next_run(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, provider):
        world.write([usd_row(number) for number in range(6)])
        provider.fault("process:401*0", "T-0005")
        world.paybatch("run", "p.csv", "--yes", code=6)
        settled = [each for each, state in world.states().items() if state == "paid"]
        before = provider.ledger()
        provider.mend()
        world.paybatch("run", "p.csv", "--yes")
        after = provider.ledger()
        assert all(after[each] == before[each] for each in settled)
        check_money(world.read(), after)
