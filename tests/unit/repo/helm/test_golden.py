"""The chart as far as it can be looked at without helm, by what helm made of some values."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import orjson
import pytest
import yaml

from streams.core.settings import Settings
from streams.reference.chart_schema import OF_THE_CHART
from tests.unit.repo.command_lines import ROOT
from tests.unit.repo.helm.chart import CHART, GOLDEN, HERE, MADE_FROM, SETS, digest, golden, objects
from tests.unit.repo.helm.kubernetes_schemas import CUSTOM, VERSIONS, faults
from tests.unit.repo.helm.rules import containers, hosts, images, violations

SCHEMA: dict[str, Any] = orjson.loads((CHART / "values.schema.json").read_bytes())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_file_is_of_these_sources(name: str) -> None:
    first, _, _ = golden(name).read_text("utf-8").partition("\n")
    assert first == MADE_FROM + digest(name), "the chart was changed: make helm, make helm-golden"


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_file_keeps_the_rules(name: str) -> None:
    found = objects(golden(name).read_text("utf-8"))
    assert violations(found) == []
    for version in (VERSIONS[0], VERSIONS[-1]):
        assert [fault for one in found if one["kind"] not in CUSTOM for fault in faults(one, version)] == []


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of a Deployment: ``value`` at ``path``."""

    def change(one: Any) -> None:
        *way, last = [int(step) if step.isdigit() else step.replace("~", "/") for step in path.split("/")]
        for step in way:
            one = one[step]
        if value is None:
            del one[last]
        else:
            one[last] = value

    return change


POD = "spec/template/spec"
FAULTS = [
    (f"{POD}/containers/0/securityContext/readOnlyRootFilesystem", False),
    (f"{POD}/containers/0/securityContext/capabilities", {"drop": ["NET_RAW"]}),
    (f"{POD}/containers/0/image", "labelstream"),
    (f"{POD}/containers/0/image", "registry.internal/labelstream:latest"),
    (f"{POD}/containers/0/args", ["run", "agent"]),
    (f"{POD}/containers/0/livenessProbe/httpGet/path", "/readyz"),
    (f"{POD}/containers/0/startupProbe", None),
    (f"{POD}/containers/0/resources/limits/memory", None),
    (f"{POD}/containers/0/env/0/name", "CLICKHOUSE_HOTS"),
    (f"{POD}/containers/0/env/0/name", "CLICKHOUSE_PASSWORD"),
    (f"{POD}/containers/0/volumeMounts/0/mountPath", "/etc"),
    (f"{POD}/volumes/0", {"name": "tmp", "hostPath": {"path": "/tmp"}}),
    (f"{POD}/hostNetwork", True),
    (f"{POD}/automountServiceAccountToken", True),
    (f"{POD}/enableServiceLinks", None),
    (f"{POD}/securityContext/runAsUser", 0),
    (f"{POD}/securityContext/seccompProfile", None),
    (f"{POD}/terminationGracePeriodSeconds", 10),
    ("spec/template/metadata/labels/app.kubernetes.io~component", "other"),
    ("metadata/name", "a_name"),
]


@pytest.mark.parametrize(("path", "value"), FAULTS, ids=[f"{path}={value}" for path, value in FAULTS])
def test_the_rules_find_what_is_wrong(path: str, value: Any, rendered: list[dict[str, Any]]) -> None:
    found = deepcopy(rendered)
    _set(path, value)(next(one for one in found if one["kind"] == "Deployment"))
    assert violations(found)


@pytest.fixture(scope="module")
def rendered() -> list[dict[str, Any]]:
    return objects(golden("minimal").read_text("utf-8"))


def test_the_rules_find_a_policy_that_is_open_or_missing(rendered: list[dict[str, Any]]) -> None:
    policies = [one for one in rendered if one["kind"] == "NetworkPolicy"]
    assert violations([one for one in rendered if one is not policies[0]])
    found = deepcopy(rendered)
    next(one for one in found if one["kind"] == "NetworkPolicy")["spec"]["egress"][0]["to"] = []
    assert violations(found)


def test_the_schemas_refuse_what_kubernetes_would_refuse(rendered: list[dict[str, Any]]) -> None:
    found = deepcopy(next(one for one in rendered if one["kind"] == "Deployment"))
    found["spec"]["template"]["spec"]["containers"][0]["imagePullPolicies"] = "Always"
    found["spec"]["replicas"] = "two"
    assert len(list(faults(found, VERSIONS[-1]))) == 2


def test_nothing_in_the_chart_names_an_outside_host() -> None:
    for path in CHART.rglob("*.*"):
        assert hosts(path.read_text("utf-8")) == set(), path


def test_the_images_are_those_that_are_listed() -> None:
    listed = set((CHART / "images.txt").read_text("utf-8").split())
    assert images(objects(golden("minimal").read_text("utf-8"))) == listed


# What a component is given, by a setting that only this server needs, and the module that connects to it.
SERVERS = {
    "CLICKHOUSE_PASSWORD": "connectors.clickhouse.client.client",
    "LLM_LABELER_API_KEY": "connectors.llm.client",
    "OTEL_EXPORTER_OTLP_HEADERS": "connectors.otel.exporter",
}
COMPONENTS = {
    **{role: f"streams.roles.{role}" for role in ("poller", "agents", "sink", "api", "fetcher", "trainer")},
    "init": "streams.runtime.provisioning",
    "check": "streams.operations.check",
}
IMPORT = re.compile(r"^ *(?:from|import) ((?:streams|agents|connectors)[\w.]*)", re.MULTILINE)
# It offers waiting for each server to all roles.
FOR_ALL = "streams.runtime.readiness"


def test_a_component_is_given_what_its_code_connects_to() -> None:
    found = {
        container["args"][-1]: {one["name"] for one in container["env"]}
        for _, container in containers(objects(golden("everything").read_text("utf-8")))
    }
    wanted = {
        name: {s for s, module in SERVERS.items() if module in _closure(COMPONENTS[name])} for name in found
    }
    assert {name: given & set(SERVERS) for name, given in found.items()} == wanted


def _closure(module: str) -> set[str]:
    """Each module of ours that ``module`` may import, at its start or later."""
    found, left = set[str](), [module]
    while left:
        if (one := left.pop()) not in found:
            found.add(one)
            left += () if one == FOR_ALL else _imported(one)
    return found


@functools.cache
def _imported(module: str) -> tuple[str, ...]:
    path = ROOT / f"{module.replace('.', '/')}.py"
    return tuple(IMPORT.findall(path.read_text("utf-8"))) if path.is_file() else ()


def test_the_chart_has_the_release_of_the_code() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    (version,) = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_each_value_has_a_schema_and_each_schema_a_value() -> None:
    assert sorted(_missing(VALUES, SCHEMA)) == []


def _missing(values: dict[str, Any], schema: dict[str, Any], at: str = "") -> Iterator[str]:
    schema = _resolved(schema)
    properties = schema.get("properties", {})
    for name in {*values, *properties} - {"global"}:
        if at in ("/settings", "/secrets", "/poller/image") or "image" in at.split("/")[2:]:
            continue
        if name not in properties:
            if not isinstance(schema.get("additionalProperties"), dict):
                yield f"{at}/{name} has no schema"
        elif name not in values:
            yield f"{at}/{name} has no value"
        elif isinstance(values[name], dict):
            yield from _missing(values[name], properties[name], f"{at}/{name}")


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    found = schema.get("$ref", "").rpartition("/")[2]
    return SCHEMA["$defs"][found] if found else schema


def test_each_value_is_described_and_others_are_refused() -> None:
    for at, schema in _objects(SCHEMA):
        assert schema.get("additionalProperties") is not True, at
        for name, one in schema.get("properties", {}).items():
            assert one.get("description"), f"{at}/{name}"
        if "properties" in schema:
            assert "additionalProperties" in schema, at


def _objects(schema: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield at, schema
        for name, one in schema.items():
            yield from _objects(one, f"{at}/{name}")


def test_each_setting_is_a_value_a_secret_or_the_chart_s() -> None:
    known = {name.upper() for name in Settings.model_fields}
    settings, secrets = (set(SCHEMA["$defs"][name]["properties"]) for name in ("settings", "secrets"))
    assert settings | secrets | set(OF_THE_CHART) == known
    assert "CLICKHOUSE_PASSWORD" in secrets
    assert "CLICKHOUSE_HOST" in settings
    assert not settings & secrets


def test_there_are_sets_of_values_for_each_switch() -> None:
    assert len(SETS) >= 20
    given = [yaml.safe_load(path.read_text("utf-8")) for path in [HERE / "base.yaml", *SETS.values()]]
    untouched = [
        f"{name}.{part}"
        for name, value in VALUES.items()
        if isinstance(value, dict) and name not in ("init", "settings", "secrets")
        for part in value
        if not any(part in (one.get(name) or {}) for one in given)
    ]
    # Plain figures and lists, which are passed on as they are.
    assert set(untouched) <= {
        f"{role}.{part}"
        for role in ("poller", "agents", "sink", "api", "fetcher", "trainer")
        for part in ("resources", "scratch", "image", "enabled", "replicas")
    }
