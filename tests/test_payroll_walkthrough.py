"""docs/payroll-walkthrough.md is true: its files are written, its commands run in a shell, in
order, and print what the page shows.

What differs from one run to the next (ids, times, ages, who is at the keyboard) is compared by its
shape; a batch's id must be the same wherever the page has the same one.
"""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "payroll-walkthrough.md"
BIN = Path(sys.executable).parent
TIMEOUT_S = 110
# Whoever types the commands of the page.
SOMEBODY = "payroll"
# Progress without a terminal comes by the clock.
PROGRESS = re.compile(r"[0-9]+/[0-9]+ (?:settled|rows)")

_BATCH = r"\b[23456789BCDFGHJKMNPQRSTVWXZ]{7}\b"
# In this order; a batch's id is seen to before all of them.
_SHAPES = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", r"\S+"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?", r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?"),
    (r"\d{4}-\d\d-\d\d", r"\d{4}-\d\d-\d\d"),
    (r"cli \S+ pid \d+", r"cli [^)]+"),
    (r"\d+ (?:s|min|h)\b", r"\d+ (?:s|min|h)\b"),
    (rf"\b{SOMEBODY}\b", re.escape(pwd.getpwuid(os.getuid()).pw_name)),
)
_TOKEN = re.compile("|".join(f"({shape})" for shape in (_BATCH, *(one for one, _ in _SHAPES))))


@dataclass
class Walk:
    """A folder in which the page is followed, and the batches that the page names."""

    folder: Path
    ids: dict[str, str] = field(default_factory=dict)

    def follow(self, page: str) -> int:
        """Do what the page says, from its top to its end; the number of commands."""
        commands = 0
        for lead, language, text in blocks(page):
            if language == "csv":
                name = re.findall(r"`([\w.-]+)`", lead)[-1]
                (self.folder / name).write_text(text, encoding="utf-8")
            elif language == "console":
                for command, shown in typed(text):
                    self._run(command, shown)
                    commands += 1
        return commands

    def _run(self, command: str, shown: list[str]) -> None:
        for ours, theirs in self.ids.items():
            command = command.replace(ours, theirs)
        ended = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env={
                "PATH": f"{BIN}{os.pathsep}/usr/bin{os.pathsep}/bin",
                "HOME": str(self.folder),
                "PYTHONUNBUFFERED": "1",
                "COLUMNS": "200",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        printed = [line.rstrip() for line in ended.stdout.splitlines()]
        printed = [line for line in printed if not PROGRESS.match(line)]
        assert self._is(shown, printed), "\n".join(
            [f"$ {command}", *printed, "--- the page has", *shown]
        )

    def _is(self, shown: list[str], printed: list[str]) -> bool:
        if not shown:
            return not printed
        if shown[0] == "...":
            return any(self._is(shown[1:], printed[at:]) for at in range(len(printed) + 1))
        return bool(
            printed and self._is_line(shown[0], printed[0]) and self._is(shown[1:], printed[1:])
        )

    def _is_line(self, shown: str, printed: str) -> bool:
        pattern, names, end = "", [], 0
        for token in _TOKEN.finditer(shown):
            pattern += re.escape(shown[end : token.start()])
            end = token.end()
            if token[1] is None:
                shapes = (_SHAPES[at][1] for at, found in enumerate(token.groups()[1:]) if found)
                pattern += next(shapes)
            elif token[0] in self.ids:
                pattern += self.ids[token[0]]
            else:
                names.append(token[0])
                pattern += f"({_BATCH})"
        found = re.fullmatch(pattern + re.escape(shown[end:]), printed)
        if found is None:
            return False
        self.ids |= dict(zip(names, found.groups(), strict=True))
        return True


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """Each fenced block: the paragraph before it, its language and its text."""
    end = 0
    for fence in re.finditer(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        yield page[end : fence.start()].strip().rpartition("\n\n")[2], fence[1], fence[2]
        end = fence.end()


def typed(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console, and the lines that it shows."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *shown = part.rstrip("\n").split("\n")
        while command.endswith("\\"):
            command = command[:-1] + shown.pop(0).strip()
        yield command, [line.rstrip() for line in shown]


@pytest.mark.timeout(600)
def test_the_page_can_be_followed_word_by_word(tmp_path: Path) -> None:
    assert Walk(tmp_path).follow(PAGE.read_text(encoding="utf-8")) >= 15
