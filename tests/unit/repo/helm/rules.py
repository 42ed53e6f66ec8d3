"""What must hold of every object that the chart renders, whatever the values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from streams.cli.common import SETTLE_SECONDS
from streams.core.settings import Settings
from streams.observability.metrics import METRICS
from streams.roles.registry import Role
from tests.unit.repo.command_lines import refusal

Object = dict[str, Any]

SETTINGS = {name.upper() for name in Settings.model_fields}
SECRETS = {
    name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
}
TARGET_LABELS = {"job", "instance", "namespace", "service", "pod", "container", "endpoint", "node"}
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
IMAGE = re.compile(r"[a-z0-9.:/_-]+(:[\w.-]+|@sha256:[0-9a-f]{64})")
URL = re.compile(r"[a-z]+://([^/\s\"':,]+)")
# Hosts of the values in these tests, and of this machine. `.svc` is inside a cluster.
INSIDE = re.compile(r".*\.svc|.*\.internal|127\.0\.0\.1|localhost")


def violations(objects: list[Object]) -> list[str]:
    """Each rule that an object breaks, as `Kind/name: what`."""
    found = [
        f"{one['kind']}/{one['metadata']['name']}: {what}"
        for one in objects
        for what in (*_named(one), *_workload(one, objects), *_custom(one))
    ]
    return found + list(_together(objects))


def containers(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Each pod's specification, with each of its containers."""
    for one in objects:
        if pod := pod_of(one):
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                yield pod, container


def images(objects: list[Object]) -> set[str]:
    """The images that run."""
    return {container["image"] for _, container in containers(objects)}


def pod_of(one: Object) -> Object | None:
    """The specification of the pods that ``one`` makes; None if it makes none."""
    if one["kind"] == "Pod":
        found: Object = one["spec"]
        return found
    return one["spec"]["template"]["spec"] if "template" in one.get("spec", {}) else None


def hosts(text: str) -> set[str]:
    """Hosts outside of the cluster that a text names in a URL."""
    return {host for host in URL.findall(text) if not INSIDE.fullmatch(host)}


def _named(one: Object) -> Iterator[str]:
    if not NAME.fullmatch(one["metadata"]["name"]):
        yield "the name is too long, or no DNS label"
    if "namespace" in one["metadata"]:
        yield "names a namespace of its own"
    for label, value in one["metadata"]["labels"].items():
        if len(str(value)) > 63:
            yield f"label {label} is too long"
    if one["kind"] == "Secret":
        yield "a Secret is rendered"


def _workload(one: Object, objects: list[Object]) -> Iterator[str]:
    pod = pod_of(one)
    if pod is None:
        return
    role = one["kind"] == "Deployment"
    if pod.get("automountServiceAccountToken") is not False:
        yield "the token of the service account is mounted"
    if pod.get("enableServiceLinks") is not False:
        yield "other Services set environment variables"
    if any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")):
        yield "shares something with the node"
    security = pod["securityContext"]
    if security.get("runAsNonRoot") is not True or security.get("seccompProfile") != {
        "type": "RuntimeDefault"
    }:
        yield "the pod's security context is not restricted"
    if {security.get(name, 1) for name in ("runAsUser", "runAsGroup", "fsGroup")} & {0}:
        yield "an id is root's"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    if len(volumes) != len(pod["volumes"]):
        yield "two volumes have one name"
    for name, volume in volumes.items():
        kinds = set(volume) - {"name"}
        if not kinds <= {"emptyDir", "configMap", "secret", "persistentVolumeClaim"}:
            yield f"volume {name} is a {kinds}"
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"volume {name} has no limit"
    for container in pod["containers"]:
        yield from _container(container, volumes, role=role)
    if role:
        if pod["terminationGracePeriodSeconds"] <= SETTLE_SECONDS + 5:
            yield "is killed before it has ended"
        if pod.get("restartPolicy", "Always") != "Always":
            yield "is not restarted"
        if (
            one["spec"]["selector"]["matchLabels"].items()
            - one["spec"]["template"]["metadata"]["labels"].items()
        ):
            yield "does not select its own pods"
    elif pod["restartPolicy"] != "Never":
        yield "a Job that gives up deletes the pod with the log"
    before = {
        h for h in one["metadata"].get("annotations", {}).get("helm.sh/hook", "").split(",") if "pre-" in h
    }
    ours = {(o["kind"], o["metadata"]["name"]) for o in objects}
    for volume in volumes.values():
        for kind, name in (("ConfigMap", volume.get("configMap", {}).get("name")),):
            if before and (kind, name) in ours:
                yield f"runs before {kind} {name} is there"


def _container(container: Object, volumes: dict[str, Object], *, role: bool) -> Iterator[str]:
    security = container.get("securityContext", {})
    wanted = {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    if security != wanted:
        yield f"the container's security context is {security}"
    if not IMAGE.fullmatch(container["image"]) or container["image"].endswith(":latest"):
        yield f"the image {container['image']} is not named by a tag or a digest"
    resources = container["resources"]
    if not {"cpu", "memory", "ephemeral-storage"} <= set(resources["requests"]):
        yield "does not say what it needs"
    if not {"memory", "ephemeral-storage"} <= set(resources["limits"]) or "cpu" in resources["limits"]:
        yield "its limits are not memory and files"
    mounts = container["volumeMounts"]
    if {mount["name"] for mount in mounts} != set(volumes):
        yield "mounts other volumes than there are"
    writable = {mount["mountPath"] for mount in mounts if not mount.get("readOnly")}
    if writable != {"/tmp", "/var/lib/labelstream"}:
        yield f"may write to {writable}"
    yield from _environment(container, {mount["mountPath"] for mount in mounts})
    if (why := refusal(container["args"])) is not None:
        yield f"labelstream does not understand {container['args']}: {why}"
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    if len(container.get("ports", [])) != (2 if container["args"] == ["run", "api"] else int(role)):
        yield f"opens {ports}"
    if not role:
        return
    for probe, path in (
        ("startupProbe", "/healthz"),
        ("livenessProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
    ):
        asked = container.get(probe, {}).get("httpGet", {})
        if asked != {"path": path, "port": "health"}:
            yield f"{probe} asks {asked}"
    start = container.get("startupProbe", {})
    if start.get("periodSeconds", 0) * start.get("failureThreshold", 0) < 60:
        yield "has less than a minute to start"


def _environment(container: Object, mounted: set[str]) -> Iterator[str]:
    environment = container["env"]
    values = {one["name"]: one.get("value") for one in environment}
    if len(values) != len(environment):
        yield "a variable is there twice"
    if strange := set(values) - SETTINGS - {"HOME"}:
        yield f"there are no such settings: {strange}"
    for one in environment:
        if (one["name"] in SECRETS) is not ("valueFrom" in one):
            yield f"{one['name']} is a plain value, or should be one"
        if "valueFrom" in one and not all(
            one["valueFrom"]["secretKeyRef"].get(key) for key in ("name", "key")
        ):
            yield f"{one['name']} comes from no Secret"
    if values.get("HEALTH_PORT") != "8081" or values.get("LABELSTREAM_DATA") != "/var/lib/labelstream":
        yield "the ports or the folder are not those of the chart"
    for name, value in values.items():
        under = str(value).startswith("/etc/labelstream/")
        if under and str(value).rpartition("/")[0] not in mounted:
            yield f"{name} names {value}, which is not mounted"
        if value is not None and re.search(r"\de\+\d", value):
            yield f"{name} is {value}"


def _custom(one: Object) -> Iterator[str]:
    spec = one.get("spec", {})
    match one["kind"]:
        case "ScaledObject":
            if spec["minReplicaCount"] < 1 or spec["maxReplicaCount"] < spec["minReplicaCount"]:
                yield "may have no workers"
            down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
            if down["stabilizationWindowSeconds"] < 300:
                yield "takes workers away at once"
            for trigger in spec["triggers"]:
                if not all(isinstance(value, str) for value in trigger["metadata"].values()):
                    yield "KEDA takes texts only"
        case "TriggerAuthentication":
            if not set(spec) <= {"env", "secretTargetRef", "configMapTargetRef"} or not spec:
                yield "authenticates with nothing"
        case "ServiceMonitor":
            (endpoint,) = spec["endpoints"]
            if (endpoint["port"], endpoint["path"]) != ("health", "/metrics"):
                yield "scrapes something else"
            # What the operator labels a target with takes the place of a metric's own label of that name.
            dropped = {
                relabel["regex"]
                for relabel in endpoint["relabelings"]
                if relabel.get("action") == "labeldrop"
            }
            if taken := (TARGET_LABELS - dropped) & {name for one in METRICS for name in one.labels}:
                yield f"hides the metrics' labels {taken}"
        case "PrometheusRule":
            if not all(rule["expr"] and rule["alert"] for group in spec["groups"] for rule in group["rules"]):
                yield "a rule is empty"


def _together(objects: list[Object]) -> Iterator[str]:
    keys = [(one["kind"], one["metadata"]["name"]) for one in objects]
    yield from (f"{kind}/{name}: twice" for kind, name in set(keys) if keys.count((kind, name)) > 1)
    pods = [
        (one["spec"]["template"]["metadata"] if "template" in one["spec"] else one["metadata"])["labels"]
        for one in objects
        if pod_of(one)
    ]
    policies = [one["spec"] for one in objects if one["kind"] == "NetworkPolicy"]
    for labels in pods:
        component = labels["app.kubernetes.io/component"]
        selecting = [p for p in policies if p["podSelector"]["matchLabels"].items() <= labels.items()]
        if policies and (not selecting or any(policy != selecting[0] for policy in selecting)):
            yield f"{component}: no policy, or several"
        for policy in selecting:
            yield from (f"{component}: {what}" for what in _policy(policy))
    for one in objects:
        selector = one.get("spec", {}).get("selector", {})
        if one["kind"] in ("Service", "PodDisruptionBudget"):
            wanted = selector.get("matchLabels", selector).items()
            if not any(wanted <= labels.items() for labels in pods):
                yield f"{one['kind']}/{one['metadata']['name']}: selects no pod"
    roles = {
        one["metadata"]["labels"]["app.kubernetes.io/component"]
        for one in objects
        if one["kind"] == "Deployment"
    }
    if not roles <= {role.value for role in Role} - {"all"}:
        yield f"there are no such roles: {roles}"


def _policy(policy: Object) -> Iterator[str]:
    if sorted(policy["policyTypes"]) != ["Egress", "Ingress"]:
        yield "one direction is open"
    for way, peers in (("egress", "to"), ("ingress", "from")):
        for rule in policy[way]:
            if not rule.get(peers) or not rule.get("ports"):
                yield f"{way} is open to all, or on all ports"
