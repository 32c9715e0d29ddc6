"""What is shipped for Prometheus and Grafana fits what /metrics really answers: a metric, a label
or a value that is renamed here breaks a test before it silences an alert."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.worlds import HandClock, settings
from workers.logs import FIELDS
from workers.record.calls import CallBook, Count, Kind
from workers.record.status import Step
from workers.runtime import Runtime
from workers.webhooks import application

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
RULES = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus-rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
CASES = ROOT / "tests" / "prometheus-rules.test.yml"
DASHBOARD = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
EXPRESSIONS = [
    *(rule["expr"] for rule in RULES),
    *(target["expr"] for panel in PANELS for target in panel["targets"]),
    *(one["definition"] for one in VARIABLES.values() if one["type"] == "query"),
]
# What Prometheus itself adds to what it scrapes.
ITS_OWN = {"up": {"job": {"paybatch"}, "instance": set()}}
ANSWERS = ("2xx", "3xx", "4xx", "429", "5xx", "ReadTimeout", "ConnectError", "error")
Known = Mapping[str, Mapping[str, set[str]]]

NAME = r"\b(?:paybatch_\w+|up\b)"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    """Each metric's labels and their values, as a real answer has them."""
    nightly = {"name": "nightly", "time": "02:30", "time_zone": "UTC", "inbox": "inbox"}
    chosen = settings(tmp_path_factory.mktemp("deploy"), schedules=[nightly])
    runtime = Runtime.open(chosen, HandClock())
    counts = {Kind(step, answer, 25): Count(1, 1) for step in (*Step, "ask") for answer in ANSWERS}
    CallBook(runtime.database).add("main", counts)
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    found.update({name: dict(labels) for name, labels in ITS_OWN.items()})  # type: ignore[arg-type]
    for sample in _samples(runtime):
        found[sample.name]["instance"] = set()
        for label, value in sample.labels.items():
            found[sample.name][label].add(value)
    yield found
    runtime.close()


def _samples(runtime: Runtime) -> list[Any]:
    async def ask() -> str:
        transport = httpx.ASGITransport(application(runtime), client=("127.0.0.1", 9))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            return (await http.get("/metrics")).text

    families = text_string_to_metric_families(asyncio.run(ask()))
    return [sample for family in families for sample in family.samples]


def _selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Each metric of an expression, with its matchers: label, operator, value."""
    for name, inside in re.findall(rf"({NAME})(?:\{{([^}}]*)\}})?", expression):
        yield name, re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', inside)


def _grouped(expression: str) -> set[str]:
    lists = re.findall(r"\b(?:by|on|without|group_left|ignoring) \(([^)]*)\)", expression)
    return {label for one in lists for label in one.replace(" ", "").split(",") if label}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_only_metrics_labels_and_values_that_there_are(
    known: Known, expression: str
) -> None:
    selectors = list(_selectors(expression))
    assert selectors
    for name, matchers in selectors:
        assert name in known, name
        for label, operator, value in matchers:
            assert label in known[name], (name, label)
            for one in value.split("|") if "~" in operator else [value]:
                assert one == "$account" or one in known[name][label], (name, label, one)
    labels = {label for name, _ in selectors for label in known[name]}
    assert _grouped(expression) <= labels


def test_every_metric_is_used_by_an_alert_or_shown(known: Known) -> None:
    used = {name for expression in EXPRESSIONS for name, _ in _selectors(expression)}
    # The sum of a histogram gives an average: the quantiles are shown instead.
    assert set(known) - used == {"paybatch_call_duration_seconds_sum"}


def test_the_page_on_monitoring_tells_of_every_metric_alert_and_field(known: Known) -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    metrics = {re.sub(r"_(?:bucket|count|sum)$", "", name) for name in set(known) - set(ITS_OWN)}
    alerts = {rule["alert"] for rule in RULES}
    told = set(re.findall(r"`(\w+)`", page))
    assert {*metrics, *alerts, *FIELDS} <= told
    assert {name for name in told if name.startswith(("paybatch_", "Paybatch"))} == metrics | alerts


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_what_it_is_and_what_to_do(rule: Any) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"].endswith(".")
    assert re.fullmatch(r"docs/operations\.md#[a-z-]+", rule["annotations"]["runbook"])
    # What a summary tells of must be left of the expression: `max by (account)`, say.
    told = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert told <= _grouped(rule["expr"])


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    """Whether promtool is there to try them or not."""
    groups = yaml.safe_load(CASES.read_text())["tests"]
    cases = [case for group in groups for case in group["alert_rule_test"]]
    alerts = {rule["alert"] for rule in RULES}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == alerts
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == alerts


def test_no_two_alerts_have_one_name() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)


def test_the_dashboard_can_be_imported_anywhere() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert VARIABLES["datasource"]["type"] == "datasource"
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in PANELS:
        for one in (panel, *panel["targets"]):
            assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_no_panel_lies_over_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_example_scrapes_the_receiver_with_the_token_and_loads_the_rules() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    [scraped] = config["scrape_configs"]
    assert (scraped["job_name"], scraped["metrics_path"]) == ("paybatch", "/metrics")
    assert scraped["authorization"]["type"] == "Bearer"
    assert [(DEPLOY / name).exists() for name in config["rule_files"]] == [True]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "prometheus-rules.yml"),
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("test", "rules", str(CASES)),
    ],
)
def test_prometheus_takes_them(arguments: tuple[str, ...]) -> None:
    ended = subprocess.run(
        ["promtool", *arguments], cwd=DEPLOY, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
