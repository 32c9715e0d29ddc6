"""The sandbox: a provider of its own beside the database, that outlives whoever started it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

from batches.doctor import services_of
from batches.local import open_runtime
from batches.preflight import balances_of
from tests.batches.cli_world import World, check_money, until, usd_row
from tests.worlds import USD
from workers.runtime import settings_of
from workers.settings import Settings


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
    world.write([usd_row(number, "settle=8") for number in range(3)])
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


def test_a_command_goes_on_when_the_one_that_had_started_the_provider_is_killed(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    world.write([usd_row(1, "settle=60")])
    world.write([usd_row(9)], "q.csv")
    keyboard, terminal = os.openpty()
    with world.start("run", "p.csv", "--yes") as owner:
        owner.until(lambda: world.count("processing") == 1)
        pid = simulator_pid(world)
        with world.start("run", "q.csv", stdin=Path(os.ttyname(terminal))) as other:
            # It has asked for the services, and asks for the balance once it is answered.
            other.until(lambda: "Pay 1 payout now?" in world.screen(2))
            assert simulator_pid(world) == pid
            owner.send(signal.SIGKILL)
            owner.wait()
            until(lambda: not is_alive(pid))
            os.write(keyboard, b"y\n")
            ended = other.wait()
        assert ended.code == 0, ended.out + ended.err
        assert simulator_pid(world) != pid
    os.close(keyboard)
    os.close(terminal)
    assert set(world.states("q.results.csv").values()) == {"paid"}
    check_money(world.read("q.results.csv"), {"T-0009": world.ledger()["T-0009"]})


def test_every_question_finds_a_provider_that_has_ended_started_anew(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write([usd_row(1, "settle=60")])
    environ = {**world.env, "PAYBATCH_DATABASE_URL": f"sqlite:///{world.folder}/paybatch.db"}
    settings = Settings.load(settings_of, environ=environ, folder=world.folder)
    with world.start("run", "p.csv", "--yes") as owner:
        owner.until(lambda: world.count("processing") == 1)
        with open_runtime(settings) as opened:
            account = opened.runtime.accounts["sandbox"]
            before = balances_of(account)
            owner.send(signal.SIGKILL)
            owner.wait()
            for question in (
                lambda: balances_of(account) == before,
                lambda: services_of(account, [USD]),
            ):
                pid = simulator_pid(world)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                until(lambda: not is_alive(pid))  # noqa: B023 - it is called at once
                assert question()
                assert simulator_pid(world) != pid
