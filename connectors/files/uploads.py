"""Uploaded files on disk: stored under the digest of their content, beside what was detected.

The same content is the same file, whatever its name. No file is ever whole in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from hashlib import blake2b, file_digest
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connectors.files.archives import unpack
from connectors.files.mapping import Columns, is_null
from connectors.files.questions import Question
from connectors.files.records import Broken, Reading, text_of
from connectors.files.rows import FileRow, Rows
from connectors.files.texts import refused, text
from connectors.files.understand import Chosen, Understood, understand
from streams.core.errors import UnavailableError
from streams.core.settings import Settings
from streams.ports.files import NOT_FOUND, Text

_ID = re.compile(r"^[0-9a-f]{32}$")
_LISTED = 100
_SHOWN = 10
SHOWN_CHARACTERS = 500
_STALE_SECONDS = 86_400.0
# Changes when files are understood in another way.
_RELEASE = 4
_TOTAL = re.compile(
    r"\W*(итог|всего|total|grand total|sum\b|сумма\b|rows?\W*\d|\d+ rows?\b|строк\W*\d)", re.I
)
_NOTES = ("times", "zones", "nulls", "replaced")


class Upload(BaseModel):
    """A stored file, and how it was understood.

    ``mapping``: part of a row and column, as suggested. ``rows``: its records, of which ``broken`` cannot be
    read; ``listed``: the first of these. ``skipped``: those whose text is too short. ``release``: of what
    understood it.
    """

    model_config = ConfigDict(extra="ignore")

    file_id: str
    name: str
    bytes: int
    uploaded_at: datetime
    reading: Reading
    mapping: dict[str, str]
    rows: int = 0
    broken: int = 0
    skipped: int = 0
    listed: list[dict[str, Any]] = Field(default_factory=list)
    sample: list[list[str | None]] = Field(default_factory=list)
    warnings: list[Text | str] = Field(default_factory=list)
    questions: list[Question] = Field(default_factory=list)
    release: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For the API."""
        reading, shown = (
            self.reading,
            {"file_id", "name", "bytes", "uploaded_at", "mapping", "rows", "warnings"},
        )
        csv = reading.format == "csv"
        return self.model_dump(mode="json", include={*shown, "questions"}) | {
            "format": reading.format,
            "encoding": reading.encoding if reading.format not in ("parquet", "xlsx") else None,
            "delimiter": reading.delimiter if csv else None,
            "header": reading.header if csv or reading.format == "xlsx" else None,
            "columns": list(reading.columns),
            "rows_broken": self.broken,
            "rows_skipped": self.skipped,
            "broken": self.listed,
            "first_rows": [dict(zip(reading.columns, row, strict=True)) for row in self.sample],
        }


class Uploads:
    """The folder of uploaded files."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = folder_of(settings)

    async def receive(self, pieces: AsyncIterator[bytes], name: str) -> tuple[Upload, bool]:
        """Store a file; False if it was there already.

        Raises:
            RefusedError: not a file of rows (reason `format`), or an unusable one.
            UnavailableError: it cannot be written to disk.
            whatever ``pieces`` raises; then nothing of it is kept.
        """
        partial = self._folder / f".{secrets.token_hex(8)}.part"
        unpacked = partial.with_suffix(".unpacked.part")
        try:
            with _disk(self._folder):
                await asyncio.to_thread(self._prepare)
                file = partial.open("wb")
            try:
                async for piece in pieces:  # what this raises is the sender's: a lost connection, too
                    with _disk(self._folder):
                        await asyncio.to_thread(file.write, piece)
                with _disk(self._folder):
                    await asyncio.to_thread(file.close)
            finally:
                # In a thread, as it waits for a write that was cancelled. It may fail as that did.
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(file.close)
            with _disk(self._folder):
                size, digest = await asyncio.to_thread(self._settle, partial, unpacked)
                known = await asyncio.to_thread(self._known, digest)
                path = path_of(self._settings, digest)
                # What an older release understood may be wrong.
                if known is not None and known.release == _RELEASE and path.is_file():
                    os.utime(path)  # it is kept for longer
                    return known, False
                upload = await self._looked_at(partial, digest, size, name)
                await asyncio.to_thread(self._keep, partial, upload)
                return upload, True
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
                unpacked.unlink(missing_ok=True)

    async def shown(self, file_id: str, chosen: Chosen | None = None) -> Upload:
        """How it is understood, or would be under ``chosen``.

        Raises:
            RefusedError: reason `not-found`; or it cannot be read in that way.
        """
        known = self._known(file_id)
        path = path_of(self._settings, file_id)
        if known is None or not path.is_file():
            raise refused("no upload", reason=NOT_FOUND, file=file_id)
        if chosen is None or chosen == Chosen():
            return known
        with _disk(self._folder):
            found = await self._looked_at(path, file_id, known.bytes, known.name, chosen)
        return found.model_copy(update={"uploaded_at": known.uploaded_at})

    async def every(self) -> list[Upload]:
        """All of them, newest first."""
        names = [path.stem for path in self._folder.glob("*.json")] if self._folder.is_dir() else []
        found = [known for name in names if (known := self._known(name)) is not None]
        return sorted(found, key=lambda one: one.uploaded_at, reverse=True)

    async def records(self, upload: Upload) -> AsyncIterator[FileRow | Broken]:
        """Its rows, under the suggested mapping.

        Raises:
            UnavailableError: it cannot be read.
        """
        path = path_of(self._settings, upload.file_id)
        rows = iter(self._each(path, upload, Columns.of(upload.mapping)))
        while True:
            with _disk(self._folder):
                some = await asyncio.to_thread(lambda: list(islice(rows, 1000)))
            if not some:
                return
            for one in some:
                yield one

    def _settle(self, path: Path, unpacked: Path) -> tuple[int, str]:
        """Replace an archive by the file in it; size and digest of the file."""
        if unpack(path, unpacked, self._settings.api_upload_bytes):
            unpacked.replace(path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
            return path.stat().st_size, file_digest(file, lambda: blake2b(digest_size=16)).hexdigest()

    async def _looked_at(
        self, path: Path, digest: str, size: int, name: str, chosen: Chosen | None = None
    ) -> Upload:
        ended = threading.Event()

        def work() -> Upload:
            found = understand(path, self._settings, chosen)
            upload = Upload(
                file_id=digest,
                name=name,
                bytes=size,
                uploaded_at=datetime.now(UTC),
                reading=found.reading,
                mapping=found.mapping,
                sample=_sample(found),
                warnings=found.warnings,
                questions=found.questions,
                release=_RELEASE,
            )
            self._count(path, upload, ended)
            return upload

        try:
            upload = await asyncio.to_thread(work)
        finally:
            ended.set()  # nobody waits for it any more
        if not upload.rows:
            raise refused("no rows", reason="empty")
        # Records that only lack a time can be read under another mapping.
        if upload.broken == upload.rows and all(one["reason"] != "timestamp" for one in upload.listed):
            raise refused("none readable", reason="broken")
        return upload

    def _count(self, path: Path, upload: Upload, ended: threading.Event) -> None:
        columns, last = Columns.of(upload.mapping), None
        rows = self._each(path, upload, columns)
        for one in rows:
            upload.rows += 1
            if isinstance(one, Broken):
                upload.broken += 1
                if len(upload.listed) < _LISTED:
                    upload.listed.append(one.as_dict())
            elif one.row is None:
                upload.skipped += 1
            else:
                last = one
            if upload.rows % 1000 == 0 and ended.is_set():
                raise UnavailableError("nobody waits for it any more")
        more = [
            text(note, count=n, encoding=upload.reading.encoding)
            for note in _NOTES
            if (n := rows.notes[note])
        ]
        if upload.skipped * 5 > upload.rows and columns is not None:
            more.append(text("skipped", count=upload.skipped, rows=upload.rows))
        if upload.broken:
            more.append(text("broken", count=upload.broken, rows=upload.rows))
        if last is not None and last.row is not None and _TOTAL.match(last.row.text):
            value = last.row.text[:80] if self._settings.privacy == "off" else "…"
            more.append(text("total", value=value))
        upload.warnings.extend(more)

    def _each(self, path: Path, upload: Upload, columns: Columns | None) -> Rows:
        # Without a text column, any column serves to find the broken records.
        return Rows(
            path,
            upload.reading,
            columns or Columns(text=upload.reading.columns[0]),
            digest=upload.file_id,
            time=upload.uploaded_at,
            least_bytes=self._settings.min_text_length if columns else -1,
            quoting=self._settings.privacy == "off",
        )

    def _prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in self._folder.glob(".*.part"):  # left by a process that was killed
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                    left.unlink()

    def _keep(self, partial: Path, upload: Upload) -> None:
        beside = partial.with_suffix(".json.part")
        beside.write_text(upload.model_dump_json(), "utf-8")
        partial.replace(path_of(self._settings, upload.file_id))
        beside.replace(self._folder / f"{upload.file_id}.json")

    def _known(self, file_id: str) -> Upload | None:
        if not _ID.match(file_id):
            return None
        try:
            return Upload.model_validate_json((self._folder / f"{file_id}.json").read_bytes())
        except (OSError, ValidationError):
            return None


def folder_of(settings: Settings) -> Path:
    """The folder of uploaded files."""
    return settings.labelstream_data / "uploads"


def path_of(settings: Settings, file_id: str) -> Path:
    """The path of a file's content."""
    name = file_id if _ID.match(file_id) else "none"
    return folder_of(settings) / f"{name}.data"


def _sample(found: Understood) -> list[list[str | None]]:
    return [
        [
            None if is_null(value) and value != "" else text_of(value)[:SHOWN_CHARACTERS]
            for value in record.values
        ]
        for record in found.sample[:_SHOWN]
    ]


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            f"{folder} cannot be written or read: {error.strerror or error}", setting="LABELSTREAM_DATA"
        ) from error
