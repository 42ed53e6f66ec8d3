"""Puts the application together: routers, problems, keys and limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from connectors.api import problems
from connectors.api.access.authentication import OPEN_PATHS, Gate
from connectors.api.access.limits import Rate
from connectors.api.access.middleware import Guard, Observe
from connectors.api.access.sessions import Sessions
from connectors.api.routes import (
    classify,
    fetch,
    health,
    jobs,
    label_stream,
    labels,
    operations,
    overview,
    page_files,
    quality,
    results,
    review,
    rows,
    session,
    uploads,
)
from connectors.api.services import Services
from streams.core.api_keys import ApiKey

# The routes get their dependencies from `Services`, by `params.Ports`.
ROUTERS = (
    health.router,
    classify.router,
    labels.router,
    rows.router,
    label_stream.router,
    uploads.router,
    jobs.router,
    results.router,
    fetch.router,
    review.router,
    page_files.router,
    session.router,
    overview.router,
    operations.router,
    quality.router,
)

_ABOUT = """\
Labels of contact-centre queries: what is stored, what arrives, and labels on demand.

With `API_KEYS` set every path but `/healthz` and `/readyz` asks for a key, as `Authorization: Bearer KEY` or
`X-API-Key: KEY`. Errors are problem details (RFC 9457).
"""
# Problems that any operation may return.
_ANYWHERE = (400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 503)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the API. ``requests_per_second``: for each client, 0 for no limit. ``larger``: paths that
    accept larger bodies than ``body_bytes``. ``stream_seconds``: when a stream ends at the latest.
    ``session_secret``: see `Sessions`.
    """

    keys: Sequence[ApiKey] = ()
    requests_per_second: float = 0.0
    body_bytes: int = 1 << 20
    stream_seconds: float = 3600.0
    larger: Mapping[str, int] = field(default_factory=dict)
    session_secret: str | None = None


def create_app(
    services: Services, options: Options, observe: Observe = lambda route, method, status, seconds: None
) -> FastAPI:
    """The application over these ports. Starts nothing."""
    app = FastAPI(
        title="labelstream",
        version=version("labelstream"),
        description=_ABOUT,
        # FastAPI's documentation pages load scripts from the internet, which a closed network does not have.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=problems.in_openapi(*_ANYWHERE),
        # curl -d sends JSON as a form; `Gate` refuses pages of other origins.
        strict_content_type=False,
    )
    app.state.services = services
    app.state.streams = label_stream.Streams(options.stream_seconds)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    sessions = Sessions(options.keys, options.session_secret)
    gate = Gate(options.keys, reads_by_post=("/classify",), sessions=sessions)
    app.state.sessions, app.state.gate = sessions, gate
    app.add_middleware(
        Guard,
        gate=gate,
        rate=Rate(options.requests_per_second),
        body_bytes=options.body_bytes,
        larger=options.larger,
        json_paths=("/classify", "/process"),
        observe=observe,
    )
    app.openapi = lambda: _openapi(app, gate.asks_for_keys)  # type: ignore[method-assign]
    return app


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document of an API with keys. It does not use the ports."""
    keys = (ApiKey("anybody", "admin", b""),)
    return create_app(cast(Services, None), Options(keys=keys)).openapi()


def _openapi(app: FastAPI, keys: bool) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        parts = document.setdefault("components", {})
        schemas = parts.setdefault("schemas", {})
        schema = problems.ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas["Problem"] = schema
        # FastAPI's own format of validation errors, which is not used.
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        if keys:
            parts["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            }
            document["security"] = [{"bearer": []}, {"key": []}]
            for path in OPEN_PATHS:
                document["paths"][path]["get"]["security"] = []
        app.openapi_schema = document
    return app.openapi_schema
