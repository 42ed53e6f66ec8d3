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
from connectors.files.retention import count_lines, cut_lines, delete_upload, exports_in, has_bytes, mentions
from connectors.files.rows import ROW_ID
from connectors.files.times import time_in
from connectors.files.uploads import Upload, Uploads, folder_of, path_of
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

    async def delete_uploads(self, uploads: Sequence[Upload]) -> tuple[int, list[str]]:
        """Delete them; returns how many are gone, and why others are not."""
        gone, left = 0, []
        for upload in uploads:
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

    async def cut_exports(self, person: Person, rows: Sequence[FoundRow], exports: Sequence[Path]) -> int:
        """Take the person's rows out of ``exports``; returns out of how many.

        Raises:
            UnavailableError: one cannot be written.
        """
        for path in exports:
            with _disk(path):
                await asyncio.to_thread(cut_lines, path, _theirs(person, rows))
        return len(exports)

    async def doubtful_uploads(self, person: Person) -> list[str]:
        """What is left, and why: files that have the user's id, but nobody said which column has users."""
        if person.kind == "row":
            return []
        left, known = [], set[str]()
        for upload in await Uploads(self._settings).every():
            known.add(upload.file_id)
            readings = self._readings(upload)
            if any(columns is not None and columns.user in reading.columns for reading, columns in readings):
                continue
            for reading, _ in readings:
                if await self._has(upload.file_id, reading, reading.columns, person.ids):
                    left.append(
                        f"uploaded file {upload.file_id} ({upload.name}) has the id in some column, and none "
                        "is known as that of users: look whether it is theirs, and delete it"
                    )
                    break
        for path in sorted(folder_of(self._settings).glob("*.data")):
            with _disk(path):
                if path.stem not in known and await asyncio.to_thread(has_bytes, path, person.ids):
                    left.append(f"{path} has the id, and no description: delete it")
        return left

    def _readings(self, upload: Upload) -> list[tuple[Reading, Columns | None]]:
        """As the file was understood, and as jobs read it."""
        return [
            (upload.reading, Columns.of(upload.mapping)),
            *(
                (Reading.model_validate(job.file.reading), Columns.model_validate(job.file.columns))
                for job in self._jobs.jobs.values()
                if job.file and job.file.id == upload.file_id
            ),
        ]

    async def _names(self, upload: Upload, users: Sequence[str]) -> bool:
        """Whether a column with users has one of them."""
        for reading, columns in self._readings(upload):
            if columns is None or columns.user not in reading.columns:
                continue
            if await self._has(upload.file_id, reading, [str(columns.user)], users):
                return True
        return False

    async def _has(
        self, file_id: str, reading: Reading, columns: Sequence[str], users: Sequence[str]
    ) -> bool:
        path = path_of(self._settings, file_id)
        try:
            return await asyncio.to_thread(mentions, path, reading, columns, set(users))
        except (OSError, RefusedError) as error:
            raise UnavailableError(
                f"{path} cannot be searched: {error}", setting="LABELSTREAM_DATA"
            ) from error

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
