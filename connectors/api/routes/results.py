"""A job's rows with their labels, as a file that is produced while it is downloaded."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from connectors.api.routes.file_problems import (
    JSON_LINES,
    MEDIA_TYPES,
    Language,
    Work,
    broken_lines,
    file_content,
    streamed,
)
from connectors.api.routes.jobs import JobId
from streams.ports.files import FileFormat

router = APIRouter(tags=["jobs"])


@router.get(
    "/jobs/{job_id}/result",
    summary="A job's rows with their labels, as a file",
    response_class=Response,
    responses=file_content(*MEDIA_TYPES.values()),
)
async def result(
    work: Work,
    job_id: JobId,
    format: Annotated[FileFormat, Query(description="csv, JSON lines or Parquet.")] = "csv",
    variants: Annotated[bool, Query(description="Include the variants, in a column of that name.")] = False,
    escape_formulas: Annotated[
        bool,
        Query(description="csv: put an apostrophe before what a spreadsheet would take for a formula."),
    ] = False,
) -> Response:
    """One line for each record of the file, in the file's order, with its number `row` and its `line`.
    `status` is `labeled`, `waiting`, `given-up`, `skipped` or `broken`, and `reason` says why.

    For a fetch: the labelled rows of its range, by time. 404 for replays: their rows are in `logs_labeled`.
    """
    pieces = work.result(job_id, format, variants=variants, escape_formulas=escape_formulas)
    return await streamed(pieces, MEDIA_TYPES[format], name=f"{job_id.replace(':', '-')}.{format}")


@router.get(
    "/jobs/{job_id}/broken",
    summary="Every broken record of a job's file, as JSON lines",
    response_class=Response,
    responses=file_content(JSON_LINES),
)
async def broken(work: Work, language: Language, job_id: JobId) -> Response:
    """With row, line, column and reason."""
    return await streamed(broken_lines(work.broken(job_id), language), JSON_LINES)
