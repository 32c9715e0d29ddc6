"""docs/settlement.md is true: its example is run as the page says, and prints what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from batches.folders import is_wanted
from workers.schedules import Schedule

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "settlement.md").read_text(encoding="utf-8")
# By the name that the paragraph before it begins with.
FILES = dict(
    re.findall(r"^`([\w./]+)`[^\n]*\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)
SCREENS = [
    command
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for command in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]


def shown(text: str) -> str:
    """A screen without what is different each time."""
    return re.sub(r"batch [2-9BCDFGHJKMNPQRSTVWXZ]{7}\b", "batch QQQQQQQ", text)


def not_due_now(settings: str) -> str:
    """The page's settings with a time that has just passed, so that the night's own run, which a
    screen would show as well, is not due while the test runs.
    """
    there = datetime.now(UTC).astimezone(ZoneInfo("Europe/Berlin")) - timedelta(hours=1)
    assert settings.count('"02:30"') == 1
    return settings.replace("02:30", f"{there:%H:%M}")


def test_the_example_does_what_the_page_says(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    settings = tmp_path / "paybatch.toml"
    settings.write_text(not_due_now(settings.read_text()))
    assert set(FILES) == {"paybatch.toml", "inbox/march.csv"}
    plain = {name: text for name, text in os.environ.items() if "PAYBATCH" not in name}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**plain, "PATH": path, "LC_ALL": "C", "TZ": "UTC"}
    for command, expected in SCREENS:
        ended = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert shown(ended.stdout) == expected, (command, ended.stderr)
    assert len(SCREENS) == 7


def test_the_page_tells_of_every_setting_and_its_default() -> None:
    table = PAGE.partition("| key |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines()[2:]]
    told = {name: default for names, default in rows for name in re.findall(r"`(\w+)`", names)}
    assert set(told) == set(Schedule.model_fields)
    for name, field in Schedule.model_fields.items():
        default = told[name].strip().strip("`").strip('"')
        if isinstance(field.default, str | int | float) and not isinstance(field.default, bool):
            assert default == str(field.default), name
        if isinstance(field.default, bool):
            assert default == str(field.default).lower(), name
        if field.is_required():
            assert default == "", name


def test_the_page_tells_of_every_ending_of_a_file_that_is_not_complete() -> None:
    rule = PAGE.partition("**Which files.**")[2].partition("\n- ")[0]
    begin, _, end = rule.partition("end in")
    for ending in re.findall(r"`(\S+?)`", end.partition("once they")[0]):
        assert not is_wanted(f"a.csv{ending}")
    for beginning in re.findall(r"`(\S+?)`", begin):
        assert not is_wanted(f"{beginning}a.csv")
