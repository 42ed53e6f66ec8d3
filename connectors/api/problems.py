"""Problem details (RFC 9457): every error leaves the API in this format, without a stack trace or a
secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from streams.core.errors import (
    ConfigurationError,
    LabelstreamError,
    PermanentError,
    RetryableError,
    UnavailableError,
)

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
_MOST_ERRORS = 20


class FieldProblem(BaseModel):
    """What is wrong with one part of the request."""

    location: str = Field(description="Where: `query.limit`, `body.texts.3`, `path.row_id`.")
    detail: str = Field(description="What is wrong with it.")


class ProblemDetails(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(
        title="Problem",
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "no row with this id is stored",
                    "code": "not-found",
                }
            ]
        },
    )

    type: str = Field(
        default="about:blank", description="Always `about:blank`: `code` identifies the problem."
    )
    title: str = Field(description="The status in words.")
    status: int = Field(ge=400, le=599, description="The HTTP status.")
    detail: str = Field(description="What happened, for a person.")
    code: str = Field(description="A short name of the problem, for programs.")
    errors: list[FieldProblem] | None = Field(
        default=None, description="With status 422: what is wrong with which part of the request."
    )


class Problem(HTTPException):
    """An error to be returned. ``extra`` become members of the answer beside the standard ones."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.code = code
        self.extra = extra


def unavailable(detail: str, *, after: float | None = None, code: str = "unavailable") -> Problem:
    """503 with a time to come back. ``after``: seconds."""
    seconds = max(1, math.ceil(after if after is not None else RETRY_AFTER_SECONDS))
    return Problem(503, detail, code=code, headers={"Retry-After": str(seconds)})


def answer(
    status: int,
    detail: str,
    *,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """The response for a problem."""
    title = HTTPStatus(status).phrase
    body = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code or title.lower().replace(" ", "-"),
        **(extra or {}),
    }
    content = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z, default=str)
    return Response(content, status, dict(headers or {}), media_type=MEDIA_TYPE)


def of_error(error: LabelstreamError) -> Problem:
    """The problem for one of our errors. Its text stays in the log: it may name hosts and statements."""
    setting = error.setting if isinstance(error, (UnavailableError, ConfigurationError)) else ""
    hint = f" (see {setting})" if setting else ""
    if isinstance(error, ConfigurationError):
        return unavailable(f"the service is not configured for this{hint}", code="not-configured")
    if isinstance(error, RetryableError):
        return unavailable(f"something that is needed for this does not answer now{hint}", after=error.after)
    reason = error.reason if isinstance(error, PermanentError) else "failed"
    return Problem(422, "the request was understood and cannot be processed", code=reason)


def in_openapi(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of an operation that may return these problems."""
    reference = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: reference}}
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Make ``app`` return all errors of its routes as problems."""

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        code = error.code if isinstance(error, Problem) else None
        extra = error.extra if isinstance(error, Problem) else None
        detail = str(error.detail)
        if not isinstance(error, Problem) and detail == HTTPStatus(error.status_code).phrase:
            detail = _PLAIN.get(error.status_code, detail)
        headers = dict(error.headers or {})
        if error.status_code == 405 and (methods := _allowed(app, request)):
            headers["Allow"] = ", ".join(methods)
        return answer(error.status_code, detail, code=code, headers=headers, extra=extra)

    @app.exception_handler(RequestValidationError)
    async def on_validation(_: Request, error: RequestValidationError) -> Response:
        return answer(422, "the request is not as it should be", code="invalid", extra=_told(error.errors()))

    @app.exception_handler(LabelstreamError)
    async def on_ours(request: Request, error: LabelstreamError) -> Response:
        log.warning("request_failed", path=request.url.path, kind=type(error).__name__, reason=str(error))
        problem = of_error(error)
        return answer(problem.status_code, str(problem.detail), code=problem.code, headers=problem.headers)


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """The methods of the path in all routes: a router reports those of the first matching route only."""
    path = request.scope["path"]
    for template, operations in app.openapi()["paths"].items():
        pattern = "[^/]+".join(re.escape(part) for part in re.split(r"{\w+}", template))
        if re.fullmatch(pattern, path):
            return sorted(method.upper() for method in operations)
    return []


_PLAIN = {
    404: "there is nothing here",
    405: "this method is not for this path",
}


def _told(errors: Sequence[Any]) -> dict[str, Any]:
    # Without the input: it may be a secret, megabytes long, or invalid text.
    return {
        "errors": [
            {
                "location": ".".join(_part(part) for part in one["loc"])[:200],
                "detail": str(one["msg"]).removeprefix("Value error, ")[:300],
            }
            for one in errors[:_MOST_ERRORS]
        ]
    }


def _part(part: object) -> str:
    return str(part).encode("utf-8", "replace").decode()
