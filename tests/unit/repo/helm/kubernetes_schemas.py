"""Kubernetes' own schemas of its objects, strict: a field that is not there is refused."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import jsonschema_rs

VERSIONS = ("1.25", "1.28", "1.31", "1.34", "1.37")
# Objects of others, which Kubernetes has no schema of; `rules.py` looks at their form.
CUSTOM = {"ServiceMonitor", "PrometheusRule", "ScaledObject", "TriggerAuthentication"}


def faults(one: dict[str, Any], version: str) -> Iterator[str]:
    """What the API of Kubernetes ``version`` would refuse in the object ``one``."""
    group, _, api = one["apiVersion"].rpartition("/")
    for error in _validator(version, group, api, one["kind"]).iter_errors(one):
        yield f"{one['kind']}/{one['metadata']['name']} {error.instance_path}: {error.message[:300]}"


@functools.cache
def _definitions(version: str) -> tuple[dict[str, str], Any]:
    """The names of the definitions by group, version and kind, and where they are."""
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    found = json.loads((folder / "_definitions.json").read_text("utf-8"))
    names = {
        f"{kind['group']}/{kind['version']}/{kind['kind']}": name
        for name, schema in found["$defs"].items()
        for kind in schema.get("x-kubernetes-group-version-kind", ())
    }
    return names, jsonschema_rs.Registry([("urn:kubernetes", {"$defs": found["$defs"]})])


@functools.cache
def _validator(version: str, group: str, api: str, kind: str) -> Any:
    names, registry = _definitions(version)
    name = names[f"{group}/{api}/{kind}"]
    return jsonschema_rs.validator_for({"$ref": f"urn:kubernetes#/$defs/{name}"}, registry=registry)
