"""Jobs over uploaded files: the same file under the same mapping and version is the same job."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import orjson
from pydantic import ValidationError

from connectors.clickhouse.queries.label_versions import list_versions
from connectors.files.mapping import Columns
from connectors.files.records import Reading
from connectors.files.texts import refused, text
from connectors.files.understand import Chosen
from connectors.files.uploads import Upload, Uploads
from streams.core.errors import ConfigurationError, QuestionsError, RefusedError
from streams.files.shown_uploads import personal_names
from streams.jobs.context import JobContext
from streams.jobs.job import FileSource, Job
from streams.ports.files import AskedFile, text_in
from streams.versions.registry import read_versions


async def file_job(context: JobContext, uploads: Uploads, asked: AskedFile) -> Job:
    """The job, known or new; a new one is not recorded yet.

    Raises:
        RefusedError: no such file (reason `not-found`), or an invalid mapping, version or reading.
        UnavailableError, AccessError.
    """
    first = await uploads.shown(asked.file_id)
    given = _named(asked.mapping)
    upload = await uploads.shown(asked.file_id, _chosen(first, asked, given))
    if await personal_names(upload.reading.columns, context.door):
        raise refused("personal names", reason="mapping")  # they would stand on a topic
    columns = mapped(upload, asked.mapping)
    _check_questions(upload, asked, given)
    version = await _version(context, asked.version)
    to = asked.to if version is not None else "labeled"
    content = {
        "file": upload.file_id,
        "reading": upload.reading.model_dump(),
        "columns": columns.model_dump(),
        "version": version,
        "to": to,
    }
    job = f"upload-{_digest(content, 8)}"
    if job in context.jobs.jobs:
        return context.jobs.jobs[job]
    same = [one.file for one in context.jobs.jobs.values() if one.file and one.file.id == upload.file_id]
    return Job(
        id=job,
        source="file",
        version=version,
        to=to,
        kept=True,
        expected=upload.rows,
        file=FileSource(
            id=upload.file_id,
            name=upload.name if context.door is None else (await context.door.texts([upload.name]))[0] or "",
            digest=row_digest(first, upload.reading, columns),
            reading=upload.reading.model_dump(),
            columns=columns.model_dump(),
            time=min((one.time for one in same), default=first.uploaded_at),
        ),
    )


def _chosen(first: Upload, asked: AskedFile, given: Mapping[str, str | None]) -> Chosen:
    """What differs from how the file was understood: reading it again takes time."""
    guesses = {one.id: one.guess for one in first.questions}
    answers = {about: choice for about, choice in asked.answers.items() if choice != guesses.get(about)}
    # The order of day and month is that of the column with the time.
    differs = "timestamp" in given and given["timestamp"] != first.mapping.get("timestamp")
    return Chosen(asked.encoding, asked.delimiter, asked.header, given if answers or differs else {}, answers)


def _check_questions(upload: Upload, asked: AskedFile, given: Mapping[str, str | None]) -> None:
    """Raises:
    QuestionsError: one has no answer, and the client does not accept the guesses.
    """
    settled = {*asked.answers, *given}
    settled |= {name for name in ("encoding", "delimiter", "header") if getattr(asked, name) is not None}
    missing = [one for one in upload.questions if one.id not in settled]
    if missing and not asked.accept:
        told = {
            language: " ".join([*(f"{one.id}: {text_in(one.about, language)}" for one in missing), what])
            for language, what in text("open questions", first=missing[0].id).items()
        }
        raise QuestionsError(told, [one.model_dump() for one in missing])


def _named(given: Mapping[str, str | None]) -> dict[str, str | None]:
    try:
        return Columns.named(given)
    except ValidationError as error:
        raise RefusedError(_told(error), reason="mapping") from error


def mapped(upload: Upload, given: Mapping[str, str | None]) -> Columns:
    """The requested mapping, or the suggested one.

    Raises:
        RefusedError: reason `mapping`.
    """
    merged = {role: name for role, name in {**upload.mapping, **_named(given)}.items() if name}
    columns = Columns.of(merged)
    there = ", ".join(upload.reading.columns[:50])
    if columns is None:
        raise refused("which text", reason="mapping", names=there)
    if missing := columns.missing(upload.reading.columns):
        role, name = next(iter(missing.items()))
        raise refused("no column", reason="mapping", name=name, role=role, names=there)
    return columns


def row_digest(first: Upload, reading: Reading, columns: Columns) -> str:
    """The digest in the rows' ids: the file's id, or another one if texts or times are read from other
    columns, because then they are different rows.
    """
    usual = (first.mapping.get("text"), first.mapping.get("timestamp"))
    if reading == first.reading and usual == (columns.text, columns.timestamp):
        return first.file_id
    content = [first.file_id, reading.model_dump(), columns.text, columns.timestamp]
    return _digest(content, 16)


async def _version(context: JobContext, version: str | None) -> str | None:
    """None for the version of live rows."""
    if version is None:
        return None
    known = await read_versions(context.settings)
    if any(
        one.version == version and one.current
        for one in await list_versions(context.client, context.settings)
    ):
        return None
    if version not in known.specs:
        raise RefusedError(f"there is no label version {version}", reason="version")
    try:
        known.usable(version)
    except ConfigurationError as error:
        raise RefusedError(str(error), reason="version") from error
    return version


def _digest(content: Any, size: int) -> str:
    return blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=size).hexdigest()


def _told(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"mapping: {where}: {first['msg']}"
