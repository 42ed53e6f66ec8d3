"""`POST /process` and the jobs: progress, stop, resume."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from connectors.api.problems import in_openapi
from connectors.api.routes.file_problems import Language, Work, told
from streams.ports.files import AskedFile

router = APIRouter(tags=["jobs"])

JobId = Annotated[
    str, Path(min_length=1, max_length=100, pattern=r"^[\w.:@+-]+$", description="The job's id.")
]


class JobAnswer(BaseModel):
    """A job: an uploaded file, a fetch, a replay or a backfill."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {
                    "job_id": "upload-8c1d2e3f4a5b6c7d",
                    "source": "file",
                    "state": "publishing",
                    "progress": 0.42,
                    "rows": 1000,
                    "rows_remaining": 580,
                    "rate": 96.5,
                    "seconds_remaining": 6.0,
                    "labeled": 410,
                    "published": 660,
                    "settled": 0,
                    "skipped": 4,
                    "unreadable": 6,
                    "version": None,
                    "begun_at": "2026-01-31T10:00:00Z",
                    "updated_at": "2026-01-31T10:00:07Z",
                    "file": {
                        "file_id": "5f0c2a9e6b1d4c7f8a3e2d1c0b9a8f7e",
                        "name": "logs.csv",
                        "mapping": {"text": "query_text"},
                    },
                    "row_ids": "upload:5f0c2a9e6b1d4c7f8a3e2d1c0b9a8f7e:<row>",
                    "export": None,
                    "problem": None,
                }
            ]
        },
    )

    job_id: str
    source: Literal["file", "source", "topic", "table", "live"] = Field(
        description="Where its rows come from: a file, the source table, the rows topic, the labels, or live "
        "rows (a canary)."
    )
    state: str = Field(
        description="`waiting` (for another job), `publishing`, `working` (all is published), `done` (all is "
        "labelled and stored), `cancelled`, `paused`, `dropped` or `interrupted`; of a canary `running` and "
        "`stopped`."
    )
    progress: float = Field(ge=0, le=1, description="Share of the rows that are done.")
    rows: int = Field(description="Number of rows; approximate for other sources than files.")
    rows_remaining: int
    rate: float | None = Field(description="Recent rows a second; null if unknown.")
    seconds_remaining: float | None = Field(description="At that rate.")
    labeled: int = Field(description="Published rows that the workers have processed.")
    published: int
    settled: int = Field(description="Rows left out: they have a label, are dead letters, or are in flight.")
    skipped: int = Field(description="Rows left out because their text is too short.")
    unreadable: int = Field(description="Broken records: `/jobs/{job_id}/broken` lists them.")
    version: str | None = Field(description="The label version; null: that of live rows.")
    begun_at: datetime
    updated_at: datetime
    file: dict[str, Any] | None = Field(default=None, description="The uploaded file.")
    row_ids: str | None = Field(default=None, description="The form of the ids of a file's rows.")
    export: str | None = Field(default=None, description="Where a fetch's CSV file is.")
    problem: str | None = Field(default=None, description="Why it makes no progress.")


class JobList(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobAnswer]


@router.post("/process", summary="Label the rows of an uploaded file", responses=in_openapi(409))
async def process(work: Work, language: Language, asked: AskedFile) -> JobAnswer:
    """The same file with the same mapping and version is the same job, however often and under whatever name
    it is posted: its rows are labelled once. A job that was stopped continues.

    409 with `questions` while a question of the upload has no answer in `answers`, and `accept` is not set.

    The body is JSON, also if it is sent as a form, as `curl -d` does.
    """
    with told(language):
        return JobAnswer(**await work.process(asked))


@router.get("/jobs", summary="Jobs, newest first")
async def jobs(work: Work) -> JobList:
    """Including those of the command line."""
    with told():
        return JobList(jobs=[JobAnswer(**one) for one in await work.jobs()])


@router.get("/jobs/{job_id}", summary="A job: state, progress, rate, what remains")
async def job(work: Work, job_id: JobId) -> JobAnswer:
    """Its state and progress."""
    with told():
        return JobAnswer(**await work.job(job_id))


@router.delete("/jobs/{job_id}", summary="Stop a job", responses=in_openapi(409))
async def cancel(work: Work, job_id: JobId) -> JobAnswer:
    """Nothing more of it is published; published rows are labelled. A finished job stays as it is."""
    with told():
        return JobAnswer(**await work.cancel(job_id))


@router.post("/jobs/{job_id}/resume", summary="Go on with a job that was stopped", responses=in_openapi(409))
async def resume(work: Work, job_id: JobId) -> JobAnswer:
    """No row is labelled twice. A replay that was started on the command line continues in the API's
    process.
    """
    with told():
        return JobAnswer(**await work.resume(job_id))
