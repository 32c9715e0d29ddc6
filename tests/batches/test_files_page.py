"""docs/files.md: every message of the code stands there, and each that stands there is said."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from batches.faultbook import LISTED_MAX
from batches.faults import MEANINGS, FaultKind
from batches.loading import DROPPED, NESTED, PLAIN
from batches.screens import FAULTS_SHOWN
from tests.batches.files_page import PAGE, Example, examples, tables, told_by
from tests.batches.files_refusals import SCENARIOS
from workers.settings import Settings

ROOT = PAGE.parent.parent
TEXT = PAGE.read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (.+)$", TEXT, flags=re.MULTILINE)
# Where the messages about a file are, and the only functions of a module that has others too.
MODULES = {
    "batches/loading.py": None,
    "batches/formats.py": None,
    "batches/parquet.py": None,
    "batches/checks.py": None,
    "batches/rules.py": None,
    "batches/repeats.py": None,
    "batches/history.py": None,
    "batches/controls.py": None,
    "batches/faults.py": None,
    "batches/preflight.py": None,
    "batches/approval.py": ("store", "_note", "_stored_already"),
    "batches/command.py": (
        "chosen_account",
        "read_options",
        "_mapping",
        "_pairs",
        "_control_total",
    ),
    "workers/record/money.py": ("of", "parse", "_decimals", "_why_not_plain"),
}
# Texts that are no messages, or that nobody can be told.
UNTOLD = {
    "is not UTF-8; save it as CSV (UTF-8)": "if a decoder refuses what another one takes",
    "rows or cells out of order": "caught, and told as damage",
    "at most 1 decimal": "no currency has one decimal",
    "{}: {}": "another message, with the account or file before it",
    "service {}: {}": "the adapter's own words",
}


def documented() -> list[tuple[str, str]]:
    """When, and what is said: of all tables that have it so."""
    found: list[tuple[str, str]] = []
    for section in SECTIONS:
        is_told = False
        for cells in tables(section):
            if len(cells) != 2 or cells == ["when", "what is said"]:
                is_told = cells == ["when", "what is said"]
            elif cells[0] in ("kind", "column"):
                is_told = False
            elif is_told:
                found.append((cells[0], cells[1]))
    return found


def plain(told: str) -> str:
    """As a table of the page spells it."""
    return re.sub(r"\s+", " ", told).strip()


@pytest.mark.parametrize("example", examples(), ids=lambda one: f"{one.kind}: {one.example}")
def test_each_example_of_a_row_has_the_fault_that_the_page_tells(
    example: Example, tmp_path: Path
) -> None:
    found = [
        (str(fault.kind), plain(fault.expected)) for fault in told_by(example.example, tmp_path)
    ]
    assert (example.kind, example.told) in found


@pytest.mark.parametrize(("when", "told"), documented())
def test_each_refusal_is_what_the_page_says(when: str, told: str, tmp_path: Path) -> None:
    assert plain(SCENARIOS[when](tmp_path)) == told


def test_the_page_has_every_scenario_and_every_kind() -> None:
    assert sorted(when for when, _ in documented()) == sorted(SCENARIOS)
    assert {example.kind for example in examples()} == {str(kind) for kind in FaultKind}
    kinds = dict(cells for cells in tables("Faults of a row") if len(cells) == 2)
    assert {kind: kinds[f"`{kind}`"] for kind in MEANINGS} == MEANINGS


def test_the_page_has_every_column_and_limit() -> None:
    named = set(re.findall(r"`([a-z_]+(?:\.NAME)?)`", "".join(c[0] for c in tables("Columns"))))
    assert named == {*PLAIN, *DROPPED, *(f"{prefix}NAME" for prefix in NESTED)}
    limits = {cells[0].strip("`"): cells[1] for cells in tables("Limits") if cells[0][:1] == "`"}
    assert limits == {name: f"{getattr(Settings(), name):,}" for name in limits}
    assert {name for name in Settings.model_fields if name.endswith("s_max")} <= set(limits)
    assert f"the first {LISTED_MAX:,} in" in TEXT
    assert f"the first {FAULTS_SHOWN};" in TEXT


def messages(file: str) -> Iterator[str]:
    """The texts of a module that have several words, `{}` where a value goes."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    parts: list[ast.AST] = [tree]
    if (names := MODULES[file]) is not None:
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        parts = [one for one in functions if one.name in names]
        assert {one.name for one in functions} >= set(names)
    for part in parts:
        inside = set(_docstrings(part))
        for node in ast.walk(part):
            if isinstance(node, ast.JoinedStr):
                inside.update(each for each in ast.walk(node) if each is not node)
        for node in ast.walk(part):
            text = "" if node in inside else _text(node)
            if text.isprintable() and len(text.split()) > 2:
                yield text


def _docstrings(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(one) or "{}" for one in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@pytest.mark.parametrize("file", MODULES)
def test_no_message_is_missing_on_the_page(file: str) -> None:
    lines = re.sub(r"(?<!\n)\n(?![\n|])", " ", TEXT.replace("\\|", "|"))
    missing = []
    for message in messages(file):
        # What was expected stands behind that word, in a column of its own.
        text = plain(message.replace("{batch}", "{}")).removeprefix("expected ")
        pattern = ".*?".join(re.escape(part) for part in text.split("{}"))
        if text not in UNTOLD and re.search(pattern, lines) is None:
            missing.append(text)
    assert missing == []
