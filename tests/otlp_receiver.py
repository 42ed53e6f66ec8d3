"""An OTLP receiver for tests: decodes what it gets with OpenTelemetry's own messages."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.thread_server import ThreadServer


class OtlpReceiver(ThreadServer):
    """What was received. ``status``: how it answers, after ``first``, the answers to its first requests.
    ``holds``: it answers when this is no longer set. ``after``: its `Retry-After`. ``rejects``: so many spans
    of each request are not taken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.spans: list[Any] = []
        self.resources: list[dict[str, Any]] = []
        self.status = 200
        self.first: list[int] = []
        self.holds = threading.Event()
        self.after = "0"
        self.rejects = 0

    @property
    def endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return self.url.removesuffix("/v1")

    def named(self, name: str) -> list[Any]:
        """The spans of that name."""
        return [span for span in list(self.spans) if span.name == name]

    async def make_runner(self) -> web.BaseRunner[Any]:
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        return web.AppRunner(app)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((request.path, {name.lower(): value for name, value in request.headers.items()}))
        while self.holds.is_set():
            await asyncio.sleep(0.002)
        status = self.first.pop(0) if self.first else self.status
        if status == 200:
            for found in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(attributes_of(found.resource))
                for scope in found.scope_spans:
                    self.spans += scope.spans
        answer = ExportTraceServiceResponse()
        if self.rejects:
            answer.partial_success.rejected_spans = self.rejects
            answer.partial_success.error_message = "attribute too long"
        return web.Response(
            status=status,
            body=answer.SerializeToString(),
            headers={"retry-after": self.after},
            content_type="application/x-protobuf",
        )


def attributes_of(found: Any) -> dict[str, Any]:
    """The attributes of a span, a resource or an event."""
    return {one.key: _value(one.value) for one in found.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)
