"""An erasure in files: an uploaded file with a row of the person is deleted, for it may have any format;
from an exported one the rows are taken out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from connectors.clickhouse.erasure.person import FoundRow, Person
from connectors.files.mapping import Columns
from connectors.files.records import Reading
from connectors.files.retention import count_lines, cut_lines, delete_upload, exports_in, mentions
from connectors.files.rows import ROW_ID
from connectors.files.times import time_in
from connectors.files.uploads import Upload, Uploads, path_of
from streams.core.errors import RefusedError, UnavailableError
from streams.core.settings import Settings
from streams.core.text import clean
from streams.core.times import micros_of
from streams.jobs.job import UNFINISHED, Jobs

# As an export has its columns.
_TEXT, _TIME, _USER = 0, 2, 3


class Files:
    """The files below LABELSTREAM_DATA, of this machine or a volume that it shares."""

    def __init__(self, settings: Settings, jobs: Jobs) -> None:
        self._settings = settings
        self._jobs = jobs

    async def uploads(self, person: Person, row_ids: Sequence[str]) -> list[Upload]:
        """The uploaded files with a row of ``row_ids``, or that name the user."""
        digests = {row_id.split(":")[1] for row_id in [*row_ids, *person.ids] if _is_of_file(row_id)}
        ids = digests | {
            job.file.id for job in self._jobs.jobs.values() if job.file and job.file.digest in digests
        }
        found = []
        for upload in await Uploads(self._settings).every():
            if upload.file_id in ids or (person.kind == "user" and await self._names(upload, person.ids)):
                found.append(upload)
        return found

    async def delete_uploads(self, person: Person, row_ids: Sequence[str]) -> tuple[int, list[str]]:
        """Delete them; returns how many are gone, and why others are not."""
        gone, left = 0, []
        for upload in await self.uploads(person, row_ids):
            if job := self._unfinished(upload.file_id):
                left.append(
                    f"uploaded file {upload.file_id} ({upload.name}): job {job} still reads it; erase again "
                    "when it is done, or cancel it"
                )
                continue
            try:
                await asyncio.to_thread(delete_upload, self._settings, upload.file_id)
                gone += 1
            except OSError as error:
                left.append(f"uploaded file {upload.file_id}: {error.strerror or error}")
        return gone, left

    async def exports(self, person: Person, rows: Sequence[FoundRow]) -> list[Path]:
        """The exported files with a row of the person."""
        theirs = _theirs(person, rows)
        found = []
        for path in exports_in(self._settings):
            with _disk(path):
                if await asyncio.to_thread(count_lines, path, theirs):
                    found.append(path)
        return found

    async def cut_exports(self, person: Person, rows: Sequence[FoundRow]) -> int:
        """Take the person's rows out of them; returns out of how many.

        Raises:
            UnavailableError: one cannot be written.
        """
        found = await self.exports(person, rows)
        for path in found:
            with _disk(path):
                await asyncio.to_thread(cut_lines, path, _theirs(person, rows))
        return len(found)

    async def _names(self, upload: Upload, users: Sequence[str]) -> bool:
        """Whether a column with users, as the file was understood or as a job reads it, has one of them."""
        readings = [(upload.reading, Columns.of(upload.mapping))]
        readings += [
            (Reading.model_validate(job.file.reading), Columns.model_validate(job.file.columns))
            for job in self._jobs.jobs.values()
            if job.file and job.file.id == upload.file_id
        ]
        path = path_of(self._settings, upload.file_id)
        for reading, columns in readings:
            if columns is not None and columns.user in reading.columns:
                try:
                    if await asyncio.to_thread(mentions, path, reading, str(columns.user), set(users)):
                        return True
                except (OSError, RefusedError) as error:
                    raise UnavailableError(
                        f"{path} cannot be searched: {error}", setting="LABELSTREAM_DATA"
                    ) from error
        return False

    def _unfinished(self, file_id: str) -> str | None:
        for job in self._jobs.jobs.values():
            state = self._jobs.state(job)
            if job.file and job.file.id == file_id and state in UNFINISHED and state != "cancelled":
                return job.id
        return None


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        return  # another process has deleted it meanwhile
    except OSError as error:
        raise UnavailableError(
            f"{path} cannot be read or written: {error.strerror or error}", setting="LABELSTREAM_DATA"
        ) from error


def _is_of_file(row_id: str) -> bool:
    return row_id.startswith(f"{ROW_ID}:") and row_id.count(":") >= 2


def _theirs(person: Person, rows: Sequence[FoundRow]) -> Callable[[list[str]], bool]:
    """Whether a record of an export is one of the person's. It has no id: a row is known by time and text."""
    known = {(row.micros, row.text) for row in rows}

    def theirs(fields: list[str]) -> bool:
        if len(fields) <= _USER:
            return False
        if person.kind == "user":
            return fields[_USER] in person.ids
        at = time_in(fields[_TIME])
        return at is not None and (micros_of(at), clean(fields[_TEXT])) in known

    return theirs
