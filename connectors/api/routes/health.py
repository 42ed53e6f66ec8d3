"""`/healthz`, `/readyz` and `/metrics`, as every role serves them at its health port."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from connectors.api.routes.params import Ports
from connectors.api.services import Services

router = APIRouter(tags=["health"])

_PLAIN: dict[str, Any] = {"content": {"text/plain": {"schema": {"type": "string"}, "example": "ok\n"}}}
_VERSION: dict[str, Any] = {
    "content": {"text/plain": {"schema": {"type": "string"}, "example": "ok\nlabelstream 0.1.0\n"}}
}
_METRICS = """\
# HELP process_resident_memory_bytes Resident memory size in bytes.
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 8.1e+07
"""
_WAITS: dict[int | str, dict[str, Any]] = {
    503: {
        "description": "Not now; the text says why.",
        "content": {"text/plain": {"schema": {"type": "string"}, "example": "Kafka\n"}},
    }
}


async def _ask(services: Services, path: str) -> Response:
    status, kind, content = await services.health(path)
    return Response(content, status, {"content-type": kind})


@router.get(
    "/healthz",
    summary="Whether the process works",
    response_class=Response,
    responses={200: {"description": "It does; with the version.", **_VERSION}, **_WAITS},
)
async def healthz(services: Ports) -> Response:
    """No key needed."""
    return await _ask(services, "/healthz")


@router.get(
    "/readyz",
    summary="Whether the service can answer",
    response_class=Response,
    responses={200: {"description": "It can.", **_PLAIN}, **_WAITS},
)
async def readyz(services: Ports) -> Response:
    """No key needed."""
    return await _ask(services, "/readyz")


@router.get(
    "/metrics",
    summary="Metrics in Prometheus' text format",
    response_class=Response,
    responses={
        200: {
            "description": "The metrics of this process.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": _METRICS}},
        }
    },
)
async def metrics(services: Ports) -> Response:
    """Also at the role's health port, there without a key."""
    return await _ask(services, "/metrics")
