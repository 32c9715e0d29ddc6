"""The sandbox: a provider of its own beside the database, that outlives whoever started it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests.batches.cli_world import World, check_money, until, usd_row


def simulator_pid(world: World) -> int:
    return int(json.loads((world.folder / "paybatch.sandbox.json").read_text())["pid"])


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that has ended and was not waited for is dead too.
    return ") Z" not in Path(f"/proc/{pid}/stat").read_text()


def test_without_any_settings_money_is_not_real_and_that_is_said(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.env.clear()
    world.write([usd_row(1), usd_row(2)])
    ended = world.paybatch("run", "p.csv", "--yes")
    assert "No real money moves" in ended.out
    assert {row["account"] for row in world.read()} == {"sandbox"}
    check_money(world.read(), world.ledger())


def test_the_sandbox_ends_with_its_command_even_if_that_is_killed(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write([usd_row(number, "settle=30") for number in range(3)])
    with world.start("run", "p.csv", "--yes") as run:
        run.until(lambda: world.count("processing") == 3)
        pid = simulator_pid(world)
        assert is_alive(pid)
        run.send(signal.SIGKILL)
        run.wait()
    until(lambda: not is_alive(pid))


def test_a_sandbox_that_is_killed_in_mid_run_is_started_again_where_it_was(
    tmp_path: Path,
) -> None:
    # One call at a time, so that the outage is over before it has cost ten calls.
    world = World(tmp_path, in_flight_max=1)
    world.write([usd_row(number, "settle=5") for number in range(4)])
    with world.start("run", "p.csv", "--yes") as run:
        run.until(lambda: world.count("processing") == 4)
        pid = simulator_pid(world)
        os.kill(pid, signal.SIGKILL)
        ended = run.wait()
    assert ended.code == 0, ended.out + ended.err
    assert simulator_pid(world) != pid
    assert set(world.states().values()) == {"paid"}
    check_money(world.read(), world.ledger())


def test_two_commands_at_a_time_share_one_provider(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write([usd_row(number, "settle=2") for number in range(3)])
    world.write([usd_row(9)], "q.csv")
    with world.start("run", "p.csv", "--yes") as run:
        run.until(lambda: world.count("processing") == 3)
        pid = simulator_pid(world)
        world.paybatch("run", "q.csv", "--yes")
        assert simulator_pid(world) == pid
        assert run.wait().code == 0
    results = [*world.read(), *world.read("q.results.csv")]
    assert {row["state"] for row in results} == {"paid"}
    check_money(results, world.ledger())
