"""The rules of the house that no linter keeps, read from the code itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.record.status import diagram

ROOT = Path(__file__).parent.parent
LINES_MAX = 500
FUNCTION_LINES_MAX = 70
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in ("workers", "batches")
    for path in (ROOT / package).rglob("*.py")
)
TREES = {file: ast.parse((ROOT / file).read_text(encoding="utf-8")) for file in FILES}
TESTS = {path.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("*.py")}
# Written by Alembic: a list of columns, not code that is read for its steps.
MIGRATIONS = "workers/record/migrations/"
# Modules whose rules are tested elsewhere, because they only mean something in a whole run.
TESTED_BY = {
    "batches/cells.py": "batches/test_quick_csv.py",
    "batches/checked.py": "batches/test_screening.py",
    "batches/command.py": "batches/test_cli.py",
    "batches/comparison.py": "batches/test_duplicates.py",
    "batches/dispatch.py": "batches/test_run.py",
    "batches/health.py": "batches/test_cli_health.py",
    "batches/key_change.py": "batches/test_cli_keys.py",
    "batches/local.py": "batches/test_run.py",
    "batches/preflight.py": "batches/test_cli.py",
    "batches/repeats.py": "batches/test_cli.py",
    "batches/screens.py": "batches/test_cli.py",
    "batches/start.py": "batches/test_cli.py",
    "batches/summary.py": "batches/test_cli.py",
    "workers/app.py": "batches/test_run.py",
    "workers/tasks.py": "batches/test_run.py",
    "workers/payment.py": "workers/test_crash_points.py",
    "workers/sweep.py": "workers/test_crash_points.py",
    "workers/runtime.py": "workers/test_crash_points.py",
    "workers/record/schedule_tables.py": "workers/record/test_database.py",
    "workers/record/tables.py": "workers/record/test_database.py",
    "workers/record/bulk.py": "workers/record/test_drafts.py",
    "workers/record/sealing.py": "workers/record/test_batches.py",
    "workers/record/rows.py": "workers/record/test_store.py",
    "workers/providers/payelata_config.py": "workers/providers/test_payelata.py",
    "workers/providers/port.py": "workers/providers/test_contract.py",
    "workers/providers/tokens.py": "workers/test_tokens.py",
    "workers/simulator/desk.py": "workers/simulator/test_life.py",
    "workers/simulator/program.py": "workers/simulator/test_payelata.py",
}
every_file = pytest.mark.parametrize("file", FILES)
EVERY = [*FILES, *(f"tests/{file}" for file in sorted(TESTS))]


def _calls(file: str, name: str) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(TREES[file])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    ]


@pytest.mark.parametrize("file", EVERY)
def test_no_file_is_longer_than_500_lines(file: str) -> None:
    assert len((ROOT / file).read_text(encoding="utf-8").splitlines()) <= LINES_MAX


@every_file
def test_no_function_is_longer_than_70_lines(file: str) -> None:
    long = [
        node.name
        for node in ast.walk(TREES[file])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert long == [] or file.startswith(MIGRATIONS)


@every_file
def test_nothing_is_left_to_do(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.findall(r"\b(?:TODO|FIXME|XXX)\b", text) == []


@every_file
def test_nothing_is_made_a_float(file: str) -> None:
    # The simulator reads seconds from its flags.
    assert _calls(file, "float") == [] or file.startswith("workers/simulator/")


def test_money_knows_no_float_at_all() -> None:
    tree = TREES["workers/record/money.py"]
    literals = [
        n.lineno for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) is float
    ]
    names = [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "float"]
    divisions = [n for n in ast.walk(tree) if isinstance(n, ast.Div)]
    assert (literals, names, divisions) == ([], [], [])


def _writes_a_state(tree: ast.AST) -> Iterator[int]:
    """Lines that store a column called `state`: `.values(state=...)`, `.values({"state": ...})`, or
    an UPDATE in words."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.search(r"(?is)\bupdate\s+payouts\b.*\bset\b.*\bstate\s*=", node.value):
                yield node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr != "values":
                continue
            inside = [n for argument in node.args for n in ast.walk(argument)]
            named = [k.arg for k in node.keywords] + [
                n.value for n in inside if isinstance(n, ast.Constant)
            ]
            if "state" in named:
                yield node.lineno


def _keys_named_state(tree: ast.AST) -> list[int]:
    """Lines with a dictionary display that has the key "state": values on their way to a table."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and key.value == "state"
    ]


@every_file
def test_only_the_store_moves_a_payout(file: str) -> None:
    if file == "workers/record/moves.py":
        assert list(_writes_a_state(TREES[file])) != []
    else:
        assert list(_writes_a_state(TREES[file])) == []


def test_in_the_record_a_state_is_otherwise_only_given_to_a_new_draft() -> None:
    found = {
        file: len(_keys_named_state(TREES[file]))
        for file in FILES
        if file.startswith("workers/record/") and _keys_named_state(TREES[file])
    }
    assert found == {"workers/record/moves.py": 2, "workers/record/drafts.py": 1}


def test_only_the_keys_and_what_makes_orders_open_beneficiary_data() -> None:
    opening = {
        file
        for file in FILES
        for node in ast.walk(TREES[file])
        if isinstance(node, ast.Attribute) and node.attr == "decrypt"
    }
    assert opening == {"workers/record/keys.py", "workers/record/orders.py"}


def _twins(file: str) -> set[str]:
    package, _, name = file.rpartition("/")
    return {test for test in TESTS if re.fullmatch(rf"{package}/test_{name[:-3]}(_\w+)?\.py", test)}


@pytest.mark.parametrize(
    "file", [f for f in FILES if not f.endswith("__init__.py") and not f.startswith(MIGRATIONS)]
)
def test_every_module_has_a_test_module(file: str) -> None:
    assert _twins(file) or TESTED_BY.get(file) in TESTS


def test_the_table_of_other_test_modules_names_no_module_that_is_gone() -> None:
    assert set(TESTED_BY) <= set(FILES)


def test_the_readme_shows_the_moves_as_they_are() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```mermaid\n(.*?)\n```", readme, re.DOTALL)
    states = [block for block in blocks if block.startswith("stateDiagram")]
    assert states == [diagram()]


def test_the_readme_maps_every_module() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    house = readme.partition("## The house")[2].partition("```\n\n")[0]
    named = set(re.findall(r"\w+\.py", house))
    # A simulator is mapped as a whole, an adapter with what lies beside it: `ecart_words.py`.
    adapters = tuple(f"{name.removesuffix('.py')}_" for name in named)
    assert not [
        file
        for file in FILES
        if (name := file.rpartition("/")[2]) not in {*named, "__init__.py"}
        and not file.startswith((MIGRATIONS, "workers/simulator/"))
        and not (file.startswith("workers/providers/") and name.startswith(adapters))
    ]
