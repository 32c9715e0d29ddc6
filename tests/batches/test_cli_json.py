"""With `--json` every command prints one JSON object, also where it is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from batches import cli_health
from batches.cli import cli
from tests.batches.cli_world import World, provided, usd_row
from workers.record.keys import new_key_text

# What each command needs to come to its work.
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "approve": ("QQQQQQQ",),
    "balance": (),
    "cancel": ("QQQQQQQ",),
    "check": ("p.csv",),
    "doctor": (),
    "freeze": ("--reason", "x"),
    "health": ("worker",),
    "keys new": (),
    "keys rotate": (),
    "keys status": (),
    "migrate": (),
    "pause": ("QQQQQQQ",),
    "providers": (),
    "purge": ("--before", "2026-01-01"),
    "reconcile": ("--from", "2026-01-01", "--to", "2026-01-02"),
    "reject": ("QQQQQQQ",),
    "report": ("nightly", "2026-01-01"),
    "resolve": ("R", "--as", "paid", "--reason", "x"),
    "results": ("QQQQQQQ", "-o", "r.csv"),
    "resume": ("QQQQQQQ",),
    "retry": ("QQQQQQQ",),
    "run": ("p.csv", "--yes"),
    "schedules": (),
    "services": (),
    "settle": (),
    "status": ("QQQQQQQ",),
    "submit": ("p.csv",),
    "watch": ("QQQQQQQ",),
}
# They say what is wrong as their facts, or need nothing that could be.
ALWAYS_ANSWER = {"doctor", "keys new", "providers"}


def _commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def test_every_command_with_facts_is_tried() -> None:
    with_json = {
        name for name, command in _commands(cli) if any(p.name == "as_json" for p in command.params)
    }
    assert with_json == set(ARGUMENTS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with provided(tmp_path_factory.mktemp("json")) as (world, _):
        world.write([usd_row(1)])
        yield world


def told(world: World, *arguments: str, code: int, **env: str) -> Any:
    """The one object that a refused command prints; its error is on the screen too."""
    ended = world.paybatch(*arguments, "--json", code=code, **env)
    facts = ended.json
    assert facts["exit_code"] == code
    for line in facts["error"].splitlines():
        assert line in ended.err
    return facts


@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - ALWAYS_ANSWER))
def test_wrong_settings_are_an_object(world: World, name: str) -> None:
    given = (*name.split(), *ARGUMENTS[name])
    facts = told(world, *given, code=2, PAYBATCH_APPROVALS="7", PAYBATCH_LOG_FORMAT="x")
    # All of them, one by one.
    assert len(facts["problems"]) == 2


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_wrong_usage_is_an_object(world: World, name: str) -> None:
    facts = told(world, *name.split(), "--no-such-option", code=2)
    assert "no-such-option" in facts["error"].lower()


@pytest.mark.parametrize("name", sorted(ALWAYS_ANSWER))
def test_what_always_answers_answers_with_an_object(world: World, name: str) -> None:
    broken = {"PAYBATCH_APPROVALS": "7"}
    facts = world.paybatch(*name.split(), "--json", code=2 if name == "doctor" else 0, **broken)
    assert isinstance(facts.json, dict)


@pytest.mark.parametrize("name", ["check", "submit", "run"])
def test_a_file_that_is_refused_as_a_whole_is_an_object(world: World, name: str) -> None:
    more = ("--yes",) if name == "run" else ()
    (world.folder / "p.txt").write_text("x")
    (world.folder / "header.csv").write_text("reference_id,amount,currency\n")
    (world.folder / "damaged.xlsx").write_text("x")
    world.write([usd_row(number) for number in range(3)], "three.csv")
    for file, says in (
        ("none.csv", "does not exist"),
        ("p.txt", "does not end in .csv, .parquet or .xlsx"),
        ("header.csv", "has a header and no rows"),
        ("damaged.xlsx", "cannot be read as .xlsx"),
        ("three.csv", "over the limit rows_max"),
    ):
        assert says in told(world, name, file, *more, code=3, PAYBATCH_ROWS_MAX="2")["error"]
    assert world.nothing_is_stored()


@pytest.mark.parametrize("name", ["check", "submit", "run"])
def test_a_file_with_faults_has_the_error_beside_its_faults(world: World, name: str) -> None:
    more = ("--yes",) if name == "run" else ()
    world.write([usd_row(1, amount="x"), usd_row(2)], "faults.csv")
    facts = world.paybatch(name, "faults.csv", *more, "--json", code=3).json
    assert (facts["error"], facts["exit_code"]) == ("the file has 1 fault", 3)
    assert len(facts["faults"]) == 1
    facts = world.paybatch(name, "p.csv", *more, "--expect-count", "2", "--json", code=3).json
    assert "2 rows stated" in facts["error"]


def test_a_file_that_was_paid_already_names_its_batch(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1)])
        assert "error" not in world.paybatch("run", "p.csv", "--yes", "--json").json
        facts = told(world, "run", "p.csv", "--yes", code=3)
        assert facts["batch_id"] == world.batch_id()
        facts = told(world, "submit", "p.csv", code=3)
        assert facts["batch_id"] == world.batch_id()
        assert "decided already" in told(world, "approve", world.batch_id(), code=3)["error"]
        assert "no batch" in told(world, "status", "XXXXXXX", code=2)["error"]


def test_missing_money_and_an_unreachable_provider_are_objects(tmp_path: Path) -> None:
    with provided(tmp_path, "--balance", "USD=5.00") as (world, _):
        world.write([usd_row(1)])
        assert "not enough USD" in told(world, "run", "p.csv", "--yes", code=6)["error"]
        assert "not enough USD" in told(world, "submit", "p.csv", code=6)["error"]
        checked = world.paybatch("check", "p.csv", "--json", code=6).json
        assert checked["error"] == "not enough money in account main (USD)"
        away = {"PAYBATCH_ACCOUNTS__MAIN__BASE_URL": "http://127.0.0.1:9/api"}
        for name, *more in (("check", "p.csv"), ("balance",), ("services",)):
            assert told(world, name, *more, code=6, **away)["error"]


def test_a_wrong_key_and_a_question_that_nobody_answers_are_objects(
    tmp_path: Path,
) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1)])
        assert "there is no terminal" in told(world, "run", "p.csv", code=2)["error"]
        world.paybatch("submit", "p.csv")
        wrong = {"PAYBATCH_ENCRYPTION_KEY": new_key_text()}
        assert "key" in told(world, "status", code=1, **wrong)["error"]


def test_an_argument_of_that_name_is_no_option(world: World) -> None:
    ended = world.paybatch("status", "--", "--json", code=2)
    assert ended.out == ""


def test_the_health_check_alone_prints_an_object_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAYBATCH_APPROVALS", "7")
    for arguments, says in ((["worker"], "approvals"), (["nobody"], "'nobody' is not one of")):
        with pytest.raises(SystemExit) as ended:
            cli_health.main([*arguments, "--json"])
        facts = json.loads(capsys.readouterr().out)
        assert (ended.value.code, facts["exit_code"]) == (2, 2)
        assert says in facts["error"]


def test_nothing_of_it_is_printed_without_the_option(world: World) -> None:
    assert world.paybatch("check", "none.csv", code=3).out == ""
