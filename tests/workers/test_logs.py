"""A line of a log can be read by a machine or by a person, and holds only what is named."""

from __future__ import annotations

import ast
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.batches.cli_world import until, usd_row
from tests.test_house import FILES, TREES
from tests.workers.cluster_world import clustered
from workers.errors import VaultError
from workers.logs import FIELDS, JsonLines, TextLines

AT = 1772366400.123


def line(formatter: logging.Formatter, event: str = "payout", *args: object, **more: Any) -> str:
    exc_info = more.pop("exc_info", None)
    record = logging.LogRecord("workers.x", logging.INFO, "x.py", 1, event, args, exc_info)
    record.created = AT
    record.__dict__.update(more)
    return formatter.format(record)


def test_a_json_line_has_time_level_logger_event_and_the_fields() -> None:
    told = json.loads(line(JsonLines(), batch_id="B1", payout_id=7, state="paid", allowed=False))
    assert told == {
        "time": "2026-03-01T12:00:00.123Z",
        "level": "INFO",
        "logger": "workers.x",
        "event": "payout",
        "batch_id": "B1",
        "payout_id": 7,
        "state": "paid",
        "allowed": False,
    }


def test_a_text_line_reads_the_same() -> None:
    told = line(TextLines(), "claim %s", "lost", payout_id=7, account="main", state=None)
    assert told == "2026-03-01T12:00:00.123Z INFO workers.x claim lost payout_id=7 account=main"


@pytest.mark.parametrize(
    "value", ["a b", "a\nb", 'a"b', "a=b", "", "\u2028", "2026 ERROR forged\n", "\ud800", "\x1b[2J"]
)
def test_a_value_cannot_pass_for_another_value_or_line(value: str) -> None:
    for formatter in (JsonLines(), TextLines()):
        told = line(formatter, reference_id=value, state="paid")
        assert told.isascii()
        assert told.isprintable()
        assert len(told.splitlines()) == 1
    assert json.loads(line(JsonLines(), reference_id=value))["reference_id"] == value
    text = line(TextLines(), reference_id=value, state="paid")
    quoted = text.split("reference_id=")[1].removesuffix(" state=paid")
    assert json.loads(quoted) == value


def test_what_is_not_named_is_not_written() -> None:
    more = {"beneficiary": "Ottoline", "data": {"args": "(5500,)"}, "account_number": "5500"}
    for formatter in (JsonLines(), TextLines()):
        told = line(formatter, **more)
        assert "Ottoline" not in told
        assert "5500" not in told


def _raised(error: BaseException, cause: BaseException | None = None) -> Any:
    try:
        raise error from cause
    except BaseException:  # noqa: BLE001 - any kind is told of
        return sys.exc_info()


def test_a_traceback_is_part_of_its_record() -> None:
    info = _raised(VaultError("no\nway"))
    told = json.loads(line(JsonLines(), exc_info=info))
    assert told["exception"].endswith("workers.errors.VaultError: no\nway")
    first, *rest = line(TextLines(), exc_info=info).splitlines()
    assert first.endswith("workers.x payout")
    assert rest[0].startswith("Traceback")
    assert "in _raised" in rest[1]


@pytest.mark.parametrize(
    "error", [ValueError("Ottoline"), KeyError("Ottoline"), httpx.InvalidURL("Ottoline")]
)
def test_the_words_of_an_error_that_may_quote_somebody_are_withheld(error: Exception) -> None:
    chained = _raised(VaultError("ours"), _raised(TypeError("Ottoline"), error)[1])
    for info in (_raised(error), chained):
        for formatter in (JsonLines(), TextLines()):
            told = line(formatter, exc_info=info)
            assert type(error).__name__ in told
            assert "withheld" in told
            assert "Ottoline" not in told
    assert "ours" in line(TextLines(), exc_info=chained)
    assert line(TextLines(), exc_info=chained).count("which led to:") == 2


def test_the_words_of_the_system_are_told() -> None:
    told = line(TextLines(), exc_info=_raised(ConnectionRefusedError(111, "Connection refused")))
    assert told.endswith("ConnectionRefusedError: [Errno 111] Connection refused")


def test_errors_that_led_to_each_other_in_a_circle_are_told_once() -> None:
    one, two = ValueError("a"), ValueError("b")
    one.__context__, two.__context__ = two, one
    assert line(TextLines(), exc_info=(ValueError, one, None)).count("Traceback") == 2


def _log_calls() -> Iterator[tuple[str, ast.Call]]:
    for file in FILES:
        # The simulators are programs of their own, and know nothing of ours.
        if not file.startswith("workers/simulator/"):
            for node in ast.walk(TREES[file]):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and isinstance(node.func.value, ast.Name)
                    and node.func.value.id == "log"
                ):
                    yield f"{file}:{node.lineno}", node


def test_every_call_names_a_fixed_event_and_known_fields() -> None:
    found = dict(_log_calls())
    assert len(found) > 10
    for where, call in found.items():
        [event] = call.args
        assert isinstance(event, ast.Constant), where
        for keyword in call.keywords:
            assert (keyword.arg, type(keyword.value)) == ("extra", ast.Dict), where
            names = {getattr(key, "value", None) for key in keyword.value.keys}
            assert names <= set(FIELDS), where


def _events(path: Path) -> list[dict[str, Any]]:
    """The lines of a log that are whole; each must be a JSON object."""
    return [json.loads(one) for one in path.read_text().splitlines(keepends=True) if "\n" in one]


def test_a_worker_and_a_beat_log_json_and_nothing_else(tmp_path: Path) -> None:
    with clustered(tmp_path) as cluster:
        world = cluster.world
        world.env["PAYBATCH_LOG_FORMAT"] = "json"
        world.write([usd_row(1), usd_row(2, "create:422"), usd_row(3, "create:drop-after")])
        worker = cluster.start_worker()
        beat = cluster.start("beat", "-S", "celery.beat:Scheduler", "-l", "INFO")
        batch = cluster.submit("p.csv", "--approve")
        until(lambda: set(cluster.states(batch)) <= {"paid", "failed", "held"})
        for process in (worker, beat):
            process.terminate()
        for process in (worker, beat):
            process.wait(60)
        told = {name: _events(world.screens / name) for name in ("worker.0.err", "beat.1.err")}

    for events in told.values():
        for event in events:
            assert {"time", "level", "logger", "event"} <= set(event)
    payouts = [event for event in told["worker.0.err"] if event["event"] == "payout"]
    assert {event["reference_id"] for event in payouts} == {"T-0001", "T-0002", "T-0003"}
    for event in payouts:
        assert event["batch_id"] == batch
        assert event["payout_id"] in cluster.ids(batch)
        assert {"account", "step", "outcome", "state"} <= set(event)
    # Of Celery itself too, but not each message: what became of a payout is told above.
    assert "celery.apps.worker" in {event["logger"] for event in told["worker.0.err"]}
    assert "celery.beat" in {event["logger"] for event in told["beat.1.err"]}


@pytest.mark.parametrize("kind", ["json", "text"])
def test_the_format_is_a_setting(tmp_path: Path, kind: str) -> None:
    program = "from workers.app import app; app.log.setup(20); import warnings, logging as l;"
    program += "warnings.warn('old'); l.getLogger('x').info('hello', extra={'state': 'paid'})"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PAYBATCH_LOG_FORMAT": kind},
        capture_output=True,
        text=True,
        check=True,
    )
    warned, hello = ended.stderr.splitlines()[0], ended.stderr.splitlines()[-1]
    if kind == "json":
        assert json.loads(hello)["state"] == "paid"
        assert json.loads(warned)["logger"] == "py.warnings"
    else:
        assert hello.endswith(" INFO x hello state=paid")
        assert " WARNING py.warnings " in warned
