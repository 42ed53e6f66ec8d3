"""Dashboard and alert rules speak of metrics that exist, and alerts are raised when they should."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser as pp
import pytest
import yaml

from streams.core.topics import Topics
from streams.observability import metrics
from streams.observability.metrics import METRICS, STAGE_LATENCY
from tests.unit.repo.command_lines import ROOT
from tests.unit.repo.promql import Series, firing, seconds_of

DEPLOY = ROOT / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
EXAMPLES = yaml.safe_load((DEPLOY / "prometheus" / "alerts_test.yml").read_text("utf-8"))
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
# What Prometheus adds by itself, and what its client library serves of each process.
THEIRS = {"up": set[str](), "process_resident_memory_bytes": set[str]()}
TARGET = {"instance", "job", "le"}


def served() -> dict[str, set[str]]:
    """Each name that can be queried, with its labels."""
    names: dict[str, set[str]] = dict(THEIRS)
    for metric in METRICS:
        ends = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        names |= {f"{metric.name}{end}": set(metric.labels) for end in ends}
    return names


SERVED = served()


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def queries() -> Iterator[tuple[str, str]]:
    """Where each expression stands, and the expression with Grafana's variables filled in."""
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text("utf-8"))
        for panel in panels(dashboard):
            for target in panel.get("targets", []):
                yield panel["title"], re.sub(r"\$__\w+", "5m", target["expr"]).replace("$job", "labelstream")
    for rule in RULES:
        yield rule["alert"], rule["expr"]


QUERIES = list(queries())


def selectors(expression: Any) -> Iterator[Any]:
    """Every selector of series in a parsed expression."""
    match expression:
        case pp.VectorSelector():
            yield expression
        case pp.MatrixSelector():
            yield expression.vector_selector
        case pp.BinaryExpr():
            yield from selectors(expression.lhs)
            yield from selectors(expression.rhs)
        case pp.Call():
            for argument in expression.args:
                yield from selectors(argument)
        case pp.AggregateExpr() | pp.ParenExpr() | pp.UnaryExpr():
            yield from selectors(expression.expr)
        case pp.NumberLiteral() | pp.StringLiteral():
            return
        case other:
            raise NotImplementedError(type(other).__name__)


def grouped(expression: Any) -> Iterator[tuple[set[str], set[str]]]:
    """The labels that each aggregation keeps, with the labels that its series have."""
    match expression:
        case pp.AggregateExpr():
            names = [one.name for one in selectors(expression.expr)]
            yield (
                set(expression.modifier.labels if expression.modifier else ()),
                set.union(*(SERVED[name] for name in names)),
            )
            yield from grouped(expression.expr)
        case pp.BinaryExpr():
            yield from grouped(expression.lhs)
            yield from grouped(expression.rhs)
        case pp.Call():
            for argument in expression.args:
                yield from grouped(argument)
        case pp.ParenExpr():
            yield from grouped(expression.expr)


@pytest.mark.parametrize(("where", "text"), QUERIES, ids=[where for where, _ in QUERIES])
def test_every_expression_parses_and_asks_for_what_is_served(where: str, text: str) -> None:
    expression = pp.parse(text)
    asked = list(selectors(expression))
    assert asked
    for selector in asked:
        assert selector.name in SERVED, f"{where}: no such metric"
        named = {matcher.name for matcher in selector.matchers.matchers}
        assert named <= SERVED[selector.name] | TARGET, f"{where}: no such label"
    for kept, there in grouped(expression):
        assert kept <= there | TARGET, f"{where}: no such label to keep"


def test_stages_that_are_asked_for_exist() -> None:
    stages = {value for name, value in vars(metrics).items() if "_TO_" in name}
    asked = {
        matcher.value
        for _, text in QUERIES
        for selector in selectors(pp.parse(text))
        for matcher in selector.matchers.matchers
        if selector.name.startswith(STAGE_LATENCY.name) and matcher.name == "stage"
    }
    assert asked
    assert asked <= stages


def test_the_expression_that_leaves_out_replays_leaves_out_the_replay_topic_alone() -> None:
    (pattern,) = {
        matcher.value
        for _, text in QUERIES
        for selector in selectors(pp.parse(text))
        for matcher in selector.matchers.matchers
        if matcher.name == "topic"
    }
    topics = Topics("some.prefix")
    assert [one.name for one in topics.all() if re.fullmatch(pattern, one.name)] == [topics.replay]


def test_every_metric_but_few_is_looked_at() -> None:
    looked_at = {selector.name for _, text in QUERIES for selector in selectors(pp.parse(text))}
    unseen = {
        metric.name
        for metric in METRICS
        if not {metric.name, f"{metric.name}_bucket", f"{metric.name}_count"} & looked_at
    }
    # Told by others as well, or for a person who looks closer.
    assert unseen <= {
        "labelstream_source_polls_total",
        "labelstream_source_active",
        "labelstream_answer_cache_entries",
        "labelstream_sink_inserts_total",
        "labelstream_llm_form",
        "labelstream_spans_total",
    }


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_whole(path: Any) -> None:
    dashboard = json.loads(path.read_text("utf-8"))
    found = list(panels(dashboard))
    assert len({panel["id"] for panel in found}) == len(found)
    variables = {one["name"] for one in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$\{?([a-z]\w*)", path.read_text("utf-8"))) <= variables
    places: set[tuple[int, int]] = set()
    for panel in found:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places, panel["title"]
        places |= cells
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["description"]
            assert panel["targets"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            for target in panel["targets"]:
                labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
                kept = [kept for kept, _ in grouped(pp.parse(_plain(target["expr"])))]
                assert labels <= set.union(TARGET, *kept), panel["title"]


def _plain(text: str) -> str:
    return re.sub(r"\$__\w+", "5m", text).replace("$job", "labelstream")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert seconds_of(rule["for"]) >= 60
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor == rule["alert"].lower()
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    assert rule["alert"] in headings


CASES = [
    pytest.param(example, case, id=f"{case['alertname']}-{case['eval_time']}")
    for example in EXAMPLES["tests"]
    for case in example["alert_rule_test"]
]


@pytest.mark.parametrize(("example", "case"), CASES)
def test_an_alert_is_raised_by_what_it_is_for(example: dict[str, Any], case: dict[str, Any]) -> None:
    (rule,) = [rule for rule in RULES if rule["alert"] == case["alertname"]]
    series = Series(seconds_of(example["interval"]), example["input_series"])
    every = seconds_of(EXAMPLES["evaluation_interval"])
    found = firing(rule, series, seconds_of(case["eval_time"]), every)
    expected = [one["exp_labels"] for one in case["exp_alerts"]]
    assert sorted(map(_items, found)) == sorted(map(_items, expected))
    for one in case["exp_alerts"]:
        told = one["exp_annotations"]
        assert told["runbook_url"] == rule["annotations"]["runbook_url"]
        assert re.fullmatch(_said(rule["annotations"]["summary"], one["exp_labels"]), told["summary"])


def _said(template: str, labels: dict[str, str]) -> str:
    """A pattern for what a summary says of these labels and any value."""
    parts = re.split(r"(\{\{.*?\}\})", template)
    return "".join(
        re.escape(labels[found[1]])
        if (found := re.fullmatch(r"\{\{ \$labels\.(\w+) \}\}", part))
        else (r"[\w. %]+" if part.startswith("{{ $value") else re.escape(part))
        for part in parts
    )


def _items(labels: dict[str, str]) -> list[tuple[str, str]]:
    return sorted(labels.items())


def test_every_alert_has_an_example_that_raises_it() -> None:
    raised = {
        case["alertname"]
        for example in EXAMPLES["tests"]
        for case in example["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert raised == {rule["alert"] for rule in RULES}


def test_the_example_series_exist() -> None:
    for example in EXAMPLES["tests"]:
        for one in example["input_series"]:
            selector = pp.parse(one["series"])
            assert selector.name in SERVED
            given = {matcher.name for matcher in selector.matchers.matchers}
            assert given <= SERVED[selector.name] | TARGET


def test_prometheus_scrapes_every_role_of_the_compose_file() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    roles = {name for name, service in services.items() if "run" in (service.get("command") or [])[:1]}
    (job,) = PROMETHEUS["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert roles <= set(found["names"])
    assert f"HEALTH_PORT={found['port']}" in (ROOT / "Dockerfile").read_text("utf-8")
    assert all((DEPLOY / "prometheus" / name).is_file() for name in PROMETHEUS["rule_files"])
