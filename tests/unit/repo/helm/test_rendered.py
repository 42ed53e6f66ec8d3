"""The chart as the real helm renders it. Without helm this is skipped: `make helm` builds it."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from tests.unit.repo.command_lines import ROOT
from tests.unit.repo.helm.chart import (
    BASE,
    CHART,
    GOLDEN,
    NEWEST,
    OLDEST,
    SETS,
    digest,
    find_helm,
    golden,
    objects,
    rendered,
    run_helm,
    template,
)
from tests.unit.repo.helm.kubernetes_schemas import CUSTOM, VERSIONS, faults
from tests.unit.repo.helm.rules import containers, hosts, images, violations

pytestmark = pytest.mark.skipif(find_helm() is None, reason="helm is not here; `make helm` builds it")

GUIDE = ROOT / "docs" / "guide" / "kubernetes.md"

# What is refused, by the part of the message that names it.
REFUSED = {
    "replicaCount=2": "replicaCount",
    "settings.CLICKHOUSE_HOTS=db": "CLICKHOUSE_HOTS",
    "settings.CLICKHOUSE_PORT=70000": "CLICKHOUSE_PORT",
    "settings.CLICKHOUSE_PASSWORD=plain": "CLICKHOUSE_PASSWORD",
    "settings.LLM_LABELER_API_BASE=labeler:8000": "LLM_LABELER_API_BASE",
    "settings.PRIVACY=on": "PRIVACY",
    "settings.HEALTH_PORT=9000": "HEALTH_PORT",
    "secrets.API_KEYS=plain": "API_KEYS",
    "secrets.API_KEYS.value=plain": "value",
    "secrets.TOPIC_PREFIX.key=x": "TOPIC_PREFIX",
    "image.tag=latest": "tag",
    "image.digest=sha256:abc": "digest",
    "image.registry=https://registry.internal": "registry",
    "agents.replicas=0": "replicas",
    "poller.replicas=3": "replicas",
    "pod.userId=0": "userId",
    "pod.terminationGracePeriodSeconds=10": "terminationGracePeriodSeconds",
    "autoscaling.minReplicas=0": "minReplicas",
    "autoscaling.stabilizationSeconds=60": "stabilizationSeconds",
    "agents.resources.limits=null": "limits",
    "networkPolicy.clickhouse.to[0].host=db": "host",
    # By the templates: values that need each other.
    "settings.KAFKA_BOOTSTRAP_SERVERS=": "settings.KAFKA_BOOTSTRAP_SERVERS is not set",
    "existingSecret=null": "names no existingSecret",
    "api.replicas=2": "api.persistence with accessMode ReadWriteMany",
    "settings.PRIVACY=mask": "secrets.PRIVACY_SECRET is missing",
    "settings.KAFKA_SECURITY_PROTOCOL=SASL_SSL": "KAFKA_SASL_USERNAME",
    "settings.OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318": "networkPolicy.collector.to is empty",
    "settings.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c:4318": "networkPolicy.collector.to is empty",
    "networkPolicy.kafka.to=null": "networkPolicy.kafka.to is empty",
    "autoscaling.enabled=true,autoscaling.minReplicas=8,settings.TOPIC_PARTITIONS=4": "above settings.TOPIC",
}


@pytest.fixture(scope="module")
def sets() -> dict[str, str]:
    return {name: rendered(name) for name in SETS}


def test_helm_lint_finds_nothing() -> None:
    for values in ((), (BASE,), (BASE, SETS["everything"])):
        given = [word for path in values for word in ("-f", str(path))]
        found = run_helm("lint", "--strict", str(CHART), *given)
        assert found.returncode == 0, found.stdout
        assert "[WARNING]" not in found.stdout


@pytest.mark.parametrize("name", SETS)
def test_a_set_of_values_keeps_the_rules(name: str, sets: dict[str, str]) -> None:
    found = objects(sets[name])
    assert violations(found) == []
    assert hosts(sets[name]) == set()
    for version in VERSIONS:
        assert [fault for one in found if one["kind"] not in CUSTOM for fault in faults(one, version)] == []


@pytest.mark.parametrize("name", GOLDEN)
def test_the_golden_file_is_what_helm_renders(name: str, sets: dict[str, str]) -> None:
    assert golden(name).read_text("utf-8").partition("\n")[2] == sets[name], "make helm-golden"
    assert rendered(name, OLDEST) == rendered(name, NEWEST)


@pytest.mark.parametrize("value", REFUSED)
def test_a_wrong_value_is_refused(value: str) -> None:
    found = template(BASE, value)
    assert found.returncode != 0
    assert REFUSED[value] in found.stderr


def test_the_values_of_the_guide_are_enough(tmp_path: Path) -> None:
    examples = re.findall(r"^ *```yaml\n(.*?)^ *```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    files = [tmp_path / f"{number}.yaml" for number in range(len(examples))]
    for file, text in zip(files, examples, strict=True):
        file.write_text(dedent(text), "utf-8")
    found = template(*files)
    assert found.returncode == 0, found.stderr
    assert violations(objects(found.stdout)) == []


def test_what_is_missing_is_named_all_at_once() -> None:
    found = template()
    assert found.returncode != 0
    assert found.stderr.count("\n- ") == 8
    assert "secrets.API_KEYS is missing" in found.stderr


def test_images_are_named_by_registry_and_digest(sets: dict[str, str]) -> None:
    digest_ = "0123456789abcdef" * 4
    assert images(objects(sets["digest"])) == {
        f"registry.internal:5000/mirror/team/labelstream@sha256:{digest_}"
    }
    assert images(objects(sets["registry"])) == {
        "registry.internal/labelstream:0.1.0-full",
        "registry.internal/labelstream:0.1.0-agents",
        f"registry.internal/labelstream-core@sha256:{'f' * 64}",
    }


def test_a_tag_of_one_role_goes_before_the_digest_of_all(sets: dict[str, str]) -> None:
    found = template(BASE, SETS["digest"], "agents.image.tag=0.0.9")
    (agents,) = [one for one in images(objects(found.stdout)) if "@" not in one]
    assert agents.endswith("/labelstream:0.0.9")


def test_a_role_gets_the_secrets_and_certificates_of_what_it_connects_to(sets: dict[str, str]) -> None:
    found = {
        container["args"][-1]: {
            one["name"]
            for one in container["env"]
            if "valueFrom" in one or str(one["value"]).startswith("/etc/labelstream")
        }
        for _, container in containers(objects(sets["tls"]))
    }
    kafka = {"KAFKA_SASL_PASSWORD", "KAFKA_SSL_CAFILE"}
    clickhouse = {"CLICKHOUSE_PASSWORD", "CLICKHOUSE_CA_CERT"}
    models = {"LLM_LABELER_API_KEY", "LLM_AUGMENTER_API_KEY", "LLM_CA_CERT"}
    assert found == {
        "agents": kafka | clickhouse | models,
        "poller": kafka | clickhouse,
        "trainer": kafka | clickhouse | models,
        "sink": kafka | clickhouse,
        "init": kafka | clickhouse,
        "api": kafka | clickhouse | models | {"API_KEYS"},
        "check": kafka | clickhouse | models,
    }


def test_numbers_are_written_as_settings_take_them(sets: dict[str, str]) -> None:
    from streams.core.environment import load

    _, container = next(containers(objects(sets["numbers"])))
    given = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    given = {name: value for name, value in given.items() if not value.startswith("/etc/")}
    settings = load(given, None)
    assert settings.api_upload_bytes == 2147483648
    assert (settings.promote_margin, settings.review_audit_share) == (0.025, 0.00001)
    assert settings.clickhouse_secure is False


@pytest.mark.parametrize(
    "change", ["settings.LOG_LEVEL=debug", "taxonomy.text=labels: []", "image.tag=0.2.0"]
)
def test_a_change_of_the_configuration_rolls_the_pods(change: str) -> None:
    def pods(*values: Any) -> dict[str, Any]:
        found = objects(template(BASE, *values).stdout)
        return {
            one["metadata"]["name"]: one["spec"]["template"] for one in found if one["kind"] == "Deployment"
        }

    before, after = pods("taxonomy.text=none: 1"), pods("taxonomy.text=none: 1", change)
    assert before
    assert all(before[name] != after[name] for name in before)


def test_nothing_is_let_out_but_to_what_a_role_connects_to(sets: dict[str, str]) -> None:
    found = ports_out(sets["minimal"])
    kafka, models = {9092, 9093}, {8000, 80, 443}
    assert found["agents"] == {53, *kafka, *models, 8123}
    assert found["poller"] == found["sink"] == found["init"] == {53, *kafka, 8123}
    assert found["api"] == found["check"] == {53, *kafka, *models, 8123}
    assert ports_out(sets["tls"])["sink"] == {53, *kafka, 8443, 9443}


def ports_out(text: str) -> dict[str, set[int]]:
    """The ports that each component may connect to."""
    return {
        one["metadata"]["labels"]["app.kubernetes.io/component"]: {
            port["port"] for rule in one["spec"]["egress"] for port in rule["ports"]
        }
        for one in objects(text)
        if one["kind"] == "NetworkPolicy"
    }


def test_the_network_s_exceptions_are_as_they_are_given(sets: dict[str, str]) -> None:
    found = {
        one["metadata"]["labels"]["app.kubernetes.io/component"]: one["spec"]
        for one in objects(sets["closed-network"])
        if one["kind"] == "NetworkPolicy"
    }
    assert all(not policy["ingress"] for policy in found.values())
    found_ports = ports_out(sets["closed-network"])
    assert found_ports["sink"] == {53, 9094, 9095, 8123, 4318}
    assert 4318 in found_ports["check"]


def test_a_collector_may_ask_for_a_certificate(sets: dict[str, str]) -> None:
    for _, container in containers(objects(sets["closed-network"])):
        given = {one["name"]: one.get("value") for one in container["env"]}
        if container["args"][-1] != "init":
            assert given["OTEL_EXPORTER_OTLP_CLIENT_KEY"] == "/etc/labelstream/collector-client/tls.key"
            assert given["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"].endswith("/collector-client/tls.crt")
            assert any(one["name"] == "collector-client" for one in container["volumeMounts"])


@pytest.mark.parametrize(
    ("host", "ports"),
    [("a, b:8124", {8123, 8124}), ("fd00::1", {8123}), ("[fd00::1]:9000,[fd00::2]", {9000, 8123})],
)
def test_the_ports_are_those_of_the_hosts(host: str, ports: set[int]) -> None:
    value = host.replace(",", "\\,")
    assert ports_out(template(BASE, f"settings.CLICKHOUSE_HOST={value}").stdout)["init"] == {
        53,
        9092,
        9093,
        *ports,
    }


def test_without_a_resolver_no_port_of_it_is_open() -> None:
    assert 53 not in ports_out(template(BASE, "networkPolicy.dns.to=null").stdout)["sink"]


def test_workers_are_as_many_as_there_are_partitions(sets: dict[str, str]) -> None:
    found = objects(sets["autoscaling"])
    (scaled,) = [one["spec"] for one in found if one["kind"] == "ScaledObject"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (2, 4)
    assert {one["metadata"]["topic"] for one in scaled["triggers"]} == {"calls.rows", "calls.labeled"}
    (agents,) = [
        one
        for one in found
        if one["metadata"]["name"] == scaled["scaleTargetRef"]["name"] and one["kind"] == "Deployment"
    ]
    assert "replicas" not in agents["spec"]


def test_the_scaler_has_the_agents_credentials(sets: dict[str, str]) -> None:
    found = objects(sets["autoscaling-sasl"])
    (given,) = [one["spec"] for one in found if one["kind"] == "TriggerAuthentication"]
    (scaled,) = [one["spec"] for one in found if one["kind"] == "ScaledObject"]
    assert {one["name"] for one in given["env"]} == {"KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"}
    assert given["secretTargetRef"] == [{"parameter": "ca", "name": "kafka-ca", "key": "root.pem"}]
    assert {(one["metadata"]["sasl"], one["metadata"]["tls"]) for one in scaled["triggers"]} == {
        ("scram_sha512", "enable")
    }


def test_the_alerts_and_the_dashboard_are_those_of_deploy(sets: dict[str, str]) -> None:
    found = objects(sets["monitoring"])
    (rule,) = [one["spec"] for one in found if one["kind"] == "PrometheusRule"]
    assert rule == yaml.safe_load((CHART.parents[1] / "prometheus" / "alerts.yml").read_text("utf-8"))
    (shown,) = [one["data"] for one in found if one["metadata"]["name"].endswith("-dashboard")]
    assert (
        shown["labelstream.json"].strip() == (CHART / "files" / "dashboard.json").read_text("utf-8").strip()
    )
    (monitor,) = [one["spec"] for one in found if one["kind"] == "ServiceMonitor"]
    (service,) = [
        one
        for one in found
        if one["kind"] == "Service"
        and monitor["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items()
    ]
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_the_taxonomy_is_mounted_as_it_is_written(sets: dict[str, str]) -> None:
    text = yaml.safe_load(SETS["taxonomy"].read_text("utf-8"))["taxonomy"]["text"]
    (found,) = [one for one in objects(sets["taxonomy"]) if one["kind"] == "ConfigMap"]
    assert found["data"]["taxonomy.yaml"] == text


def test_the_digest_sees_the_values_and_the_templates() -> None:
    assert len({digest(name) for name in SETS}) == len(SETS)
