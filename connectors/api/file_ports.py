"""What the routes for files and jobs need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal, Protocol

ResultFormat = Literal["csv", "jsonl", "parquet"]


class FileWork(Protocol):
    """Files, jobs and fetches. Besides our other errors every method may raise RefusedError, whose text is
    for who asks and whose reason says which status it has."""

    async def upload(self, pieces: AsyncIterator[bytes], name: str) -> dict[str, Any]:
        """Store a file; what was understood of it."""

    async def uploads(self) -> list[dict[str, Any]]:
        """All files, newest first."""

    async def upload_shown(
        self, file_id: str, encoding: Any, delimiter: str | None, header: bool | None
    ) -> dict[str, Any]:
        """What was understood, or would be if it is read as given."""

    def upload_broken(self, file_id: str) -> AsyncIterator[dict[str, Any]]:
        """Every broken record."""

    async def process(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Begin a job, or tell of the one that is there. Raises pydantic's ValidationError."""

    async def fetch(self, days: int, limit: int | None, process: bool) -> dict[str, Any]:
        """Rows of the source table as a file, and as a job."""

    async def jobs(self) -> list[dict[str, Any]]:
        """All jobs, newest first."""

    async def job(self, job: str) -> dict[str, Any]:
        """One job."""

    async def cancel(self, job: str) -> dict[str, Any]:
        """Publish no more of it."""

    async def resume(self, job: str) -> dict[str, Any]:
        """Go on with it."""

    def result(
        self, job: str, format_: ResultFormat, *, variants: bool, escape_formulas: bool
    ) -> AsyncIterator[bytes]:
        """The job's rows with their labels, as a file."""

    def broken(self, job: str) -> AsyncIterator[dict[str, Any]]:
        """Every broken record of a job's file."""

    def media_type(self, format_: ResultFormat) -> str:
        """Of a result."""
