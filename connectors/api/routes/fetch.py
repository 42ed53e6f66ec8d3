"""`POST /fetch-from-clickhouse`: rows of the source table as a file and as a job."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from connectors.api.routes.file_problems import Work, told

router = APIRouter(tags=["jobs"])


class FetchAnswer(BaseModel):
    """The rows that were fetched."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "success",
                    "rows_fetched": 10000,
                    "file_path": ".labelstream/exports/clickhouse_20260131_100000_1f2e.csv",
                    "job_id": "fetch-20260131-100000-3d4c",
                }
            ]
        }
    )

    status: Literal["success"]
    rows_fetched: int = Field(description="Rows in the file.")
    file_path: str = Field(description="The CSV file, on the service's machine: text, domain, ts, user_id.")
    job_id: str | None = Field(description="The job that labels them; null with `process=false`.")


@router.post("/fetch-from-clickhouse", summary="Fetch rows of the source table, and label them")
async def fetch_from_clickhouse(
    work: Work,
    days: Annotated[
        int,
        Query(
            ge=0, le=36_500, description="Rows of today and of so many days before, by ClickHouse's clock."
        ),
    ] = 7,
    limit: Annotated[
        int | None, Query(ge=1, le=10**12, description="At most so many rows, the newest. Default: all.")
    ] = None,
    process: Annotated[bool, Query(description="Label the rows that have no label yet.")] = True,
) -> FetchAnswer:
    """Rows keep their ids: what the poller labelled or will label is not labelled twice.

    503 if ClickHouse is not configured or does not answer, 404 if there are no rows.
    """
    with told():
        return FetchAnswer(**await work.fetch(days, limit, process))
