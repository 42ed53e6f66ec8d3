"""The service for files, jobs and fetches behind the API's routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from connectors.files.records import Broken
from connectors.files.understand import Chosen
from connectors.files.uploads import Upload, Uploads
from streams.core.errors import RefusedError
from streams.core.settings import Settings
from streams.files.fetch import begin, export, fetch_job
from streams.files.results import broken_of, result_of
from streams.files.shown_uploads import ShownUploads
from streams.files.upload_jobs import file_job
from streams.jobs.context import note
from streams.jobs.job import Job, Wish, wish_message
from streams.jobs.scheduler import JobScheduler
from streams.ports.files import CONFLICT, NOT_FOUND, AskedFile, FileFormat, ReadAs


class FileWork:
    """Implements `streams.ports.files.FileService`."""

    def __init__(self, settings: Callable[[], Settings], keeper: JobScheduler) -> None:
        self._settings = settings
        self._keeper = keeper
        self._shown_uploads = ShownUploads(keeper.door)

    async def upload(self, pieces: AsyncIterator[bytes], name: str) -> dict[str, Any]:
        upload, new = await self._uploads.receive(pieces, name)
        return {**await self._shown_uploads.describe(upload), "known": not new}

    async def uploads(self) -> list[dict[str, Any]]:
        return [await self._shown_uploads.describe(upload) for upload in await self._uploads.every()]

    async def upload_shown(self, file_id: str, read_as: ReadAs) -> dict[str, Any]:
        return await self._shown_uploads.describe(await self._uploads.shown(file_id, Chosen(**read_as)))

    async def upload_broken(self, file_id: str) -> AsyncIterator[dict[str, Any]]:
        """Every broken record of a file under its suggested mapping."""
        upload: Upload = await self._uploads.shown(file_id)
        async for one in self._uploads.records(upload):
            if isinstance(one, Broken):
                yield one.as_dict()

    async def process(self, asked: AskedFile) -> dict[str, Any]:
        job = await file_job(self._keeper.context, self._uploads, asked)
        known = job.id in self._keeper.context.jobs.jobs
        job = await begin(self._keeper.context, job)
        if known and not job.done and self._keeper.context.jobs.wish(job.id) is not Wish.RUN:
            return await self._wished(job, Wish.RUN)
        return self._shown(job)

    async def fetch(self, days: int, limit: int | None, process: bool) -> dict[str, Any]:
        settings = self._settings()
        context = self._keeper.context if process else None  # before anything is written
        fetched = await export(settings, days=days, limit=limit, door=self._keeper.door)
        told: dict[str, Any] = {
            "status": "success",
            "rows_fetched": fetched.rows,
            "file_path": str(fetched.path),
            "job_id": None,
        }
        if context is not None:
            job = await begin(context, await fetch_job(context, fetched, limit=limit))
            told["job_id"] = job.id
        return told

    async def jobs(self) -> list[dict[str, Any]]:
        return [self._shown(job) for job in self._keeper.context.jobs.newest_first()]

    async def job(self, job: str) -> dict[str, Any]:
        return self._shown(self._named(job))

    async def cancel(self, job: str) -> dict[str, Any]:
        """Stop publishing."""
        return await self._wished(self._named(job), Wish.CANCEL)

    async def resume(self, job: str) -> dict[str, Any]:
        """Continue it."""
        return await self._wished(self._named(job), Wish.RUN)

    async def result(
        self, job: str, format_: FileFormat, *, variants: bool, escape_formulas: bool
    ) -> AsyncIterator[bytes]:
        found = self._named(job)
        pieces = result_of(
            self._keeper.context, found, format_, variants=variants, escape_formulas=escape_formulas
        )
        async for piece in pieces:
            yield piece

    async def broken(self, job: str) -> AsyncIterator[dict[str, Any]]:
        """Every broken record of a file's job."""
        async for one in broken_of(self._keeper.context, self._named(job)):
            yield one

    async def _wished(self, job: Job, wish: Wish) -> dict[str, Any]:
        context = self._keeper.context
        if context.jobs.wish(job.id) is Wish.DROP:
            raise RefusedError(f"job {job.id} was dropped", reason=CONFLICT)
        if not job.done:
            await note(context, wish_message(context.topics, job.id, wish))
            context.jobs.wishes[job.id] = wish
        return self._shown(context.jobs.jobs[job.id])

    def _named(self, job: str) -> Job:
        found = self._keeper.context.jobs.jobs.get(job)
        if found is None:
            raise RefusedError(f"there is no job {job}", reason=NOT_FOUND)
        return found

    def _shown(self, job: Job) -> dict[str, Any]:
        told = self._keeper.shown(job)
        file = told.pop("file", None)
        if file is not None:
            told["file"] = {"file_id": file["id"], "name": file["name"], "mapping": file["columns"]}
            told["row_ids"] = f"upload:{file['digest']}:<row>"
        return {**told, "job_id": job.id}

    @property
    def _uploads(self) -> Uploads:
        return Uploads(self._settings())
