"""What people read: plain lines without a terminal, a bar with colours on one."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console

from batches import screens
from tests.batches.cli_world import TIMEOUT_S, World, provided, usd_row

ESCAPE = "\x1b["


def test_without_a_terminal_there_are_no_colours_and_no_line_is_cut(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        reference_id = "R-" + "x" * 60
        world.write([usd_row(1, "amount=1.00", reference_id=reference_id), usd_row(2)])
        ended = world.paybatch("run", "p.csv", "--yes", code=5)
        assert ESCAPE not in ended.out + ended.err
        assert f"{reference_id}: looked up, but amount: 1.00 USD, sent: 11.25 USD" in ended.out
        for told in ("2 rows, 2 to pay", "needs a person", "Results: p.results.csv"):
            assert told in ended.out


def test_many_faults_are_counted_by_kind_and_only_the_first_are_shown(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(number, amount="1,5") for number in range(60)])
        ended = world.paybatch("check", "p.csv", code=3)
        assert "... and 40 more." in ended.out
        assert "60 x amount: not a plain decimal number, first at line 2" in ended.out
        assert "60. Nothing was stored or sent." in ended.err


def test_what_is_read_on_the_screen_is_never_markup(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1, amount="[red]5[/]"), usd_row(2, currency="[/b]")])
        ended = world.paybatch("check", "p.csv", code=3)
        assert "[red]5[/]" in ended.out
        assert "[/b]" in ended.out


def on_a_terminal(world: World, *command: str | Path, code: int = 0) -> str:
    """What a command shows on a terminal of its own."""
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read() -> None:
        try:
            while part := os.read(ours, 65536):
                shown.extend(part)
        except OSError:
            """The other side is closed."""

    process = subprocess.Popen(
        command,
        cwd=world.folder,
        env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", **world.env},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert process.wait(TIMEOUT_S) == code, shown.decode()
    finally:
        process.kill()
        process.wait(TIMEOUT_S)
        reader.join(TIMEOUT_S)
        os.close(ours)
    return shown.decode()


def test_on_a_terminal_a_bar_follows_the_batch(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(number) for number in range(5)])
        paybatch = Path(sys.executable).with_name("paybatch")
        text = on_a_terminal(world, paybatch, "run", "p.csv", "--yes")
        assert ESCAPE in text
        assert "5/5" in text
        assert "Traceback" not in text


def patiently(world: World, *arguments: str, code: int = 0) -> str:
    """What a command shows on a terminal if all that it does takes longer than a second."""
    program = (
        "from batches import cli, screens; screens.BAR_AFTER_S = 0; raise SystemExit(cli.main())"
    )
    return on_a_terminal(world, sys.executable, "-c", program, *arguments, code=code)


def test_the_results_of_a_run_have_a_bar_as_they_are_written(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1)])
        assert "Writing" in patiently(world, "run", "p.csv", "--yes")
        (world.folder / "p.results.csv").unlink()
        assert "Writing" in patiently(world, "run", "p.csv", "--yes", code=3)


def test_failed_lines_have_a_bar_as_they_are_written_and_stored_again(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1, "create:422"), usd_row(2)])
        world.paybatch("run", "p.csv", "--yes", code=4)
        batch = world.batch_id()
        assert "Writing" in patiently(world, "results", batch, "--failed", "-o", "failed.csv")
        assert "Storing" in patiently(world, "retry", batch)


def test_faulty_rows_have_a_bar_as_they_are_written(tmp_path: Path) -> None:
    with provided(tmp_path) as (world, _):
        world.write([usd_row(1, amount="1,5")])
        command = ("check", "p.csv", "--errors", "errors.csv")
        assert "Writing" in patiently(world, *command, code=3)
        assert "Writing" not in patiently(world, *command, "--json", code=3)


def shown_by(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, after_s: float) -> str:
    """What a bar of a hundred rows leaves on standard error."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=80)
    monkeypatch.setattr(screens, "err", console)
    monkeypatch.setattr(screens, "BAR_AFTER_S", after_s)
    with screens.working("Storing", 100) as progress:
        progress(60)
        progress(100)
    return screen.getvalue()


def test_long_work_has_a_bar_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Storing" in shown_by(monkeypatch, terminal=True, after_s=0)
    assert shown_by(monkeypatch, terminal=True, after_s=3600) == ""
    assert shown_by(monkeypatch, terminal=False, after_s=0) == ""


def test_a_quiet_command_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screens, "err", Console(file=screen, force_terminal=True))
    monkeypatch.setattr(screens, "BAR_AFTER_S", 0)
    with screens.working("Storing", 100, quiet=True) as progress:
        progress(60)
    assert screen.getvalue() == ""
