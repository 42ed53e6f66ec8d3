"""A job's rows with their labels, in the order of their source, some hundred at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any

from connectors.clickhouse.queries.relabel_rows import LabelledRows
from connectors.clickhouse.queries.upload_rows import Label, given_up_of, labels_of, ranks_of, variants_of
from connectors.files.records import Broken
from connectors.files.results import result_writer
from connectors.files.rows import FileRow
from streams.core.errors import ConfigurationError, RefusedError
from streams.core.messages import Row
from streams.core.times import micros_of, moment
from streams.jobs.context import JobContext
from streams.jobs.file_source import rows_of
from streams.jobs.job import Job
from streams.ports.files import NOT_FOUND, FileFormat, text_in

_PAGE = 1_000
# Of a row that cannot be masked.
_HIDDEN = {"text": "", "user_id": None, "session_id": None, "source_domain": None}


async def result_of(
    context: JobContext, job: Job, format_: FileFormat, *, variants: bool, escape_formulas: bool
) -> AsyncIterator[bytes]:
    """The result as a file of ``format_``: one row for each record of an uploaded file, in its order. For a
    fetch: the labelled rows of its range, by time.

    ``status``: `labeled`, `waiting`, `given-up`, `skipped` (text too short) or `broken`; ``reason`` says why.

    Raises:
        RefusedError: reason `not-found`: the job's rows are not stored separately, or the file is gone.
        UnavailableError, AccessError.
    """
    if job.source == "file":
        pages = _file_pages(context, job, variants)
    elif job.source == "source":
        pages = _range_pages(context, job, variants)
    else:
        raise RefusedError(
            f"the rows of a replay are in logs_labeled, under version {job.version}", reason=NOT_FOUND
        )
    writer = result_writer(format_, escape_formulas=escape_formulas)
    async for page in pages:
        if piece := await asyncio.to_thread(writer.write, page):
            yield piece
    if piece := await asyncio.to_thread(writer.close):
        yield piece


async def broken_of(context: JobContext, job: Job) -> AsyncIterator[dict[str, Any]]:
    """Every broken record of a file's job.

    Raises:
        RefusedError: reason `not-found`.
    """
    rows = _rows(context, job)
    while some := await asyncio.to_thread(_some, rows):
        for one in some:
            if isinstance(one, Broken):
                yield one.as_dict()


def _rows(context: JobContext, job: Job) -> Iterator[FileRow | Broken]:
    if job.file is None:
        raise RefusedError(f"job {job.id} is not of a file", reason=NOT_FOUND)
    try:
        return iter(rows_of(context.settings, job.file))
    except ConfigurationError as error:
        raise RefusedError(str(error), reason=NOT_FOUND) from error


def _some(rows: Iterator[FileRow | Broken]) -> list[FileRow | Broken]:
    return list(islice(rows, _PAGE))


async def _file_pages(context: JobContext, job: Job, variants: bool) -> AsyncIterator[list[dict[str, Any]]]:
    rows = _rows(context, job)
    ranks = await ranks_of(context.client, context.settings)
    while some := await asyncio.to_thread(_some, rows):
        some = await _masked(context, some)
        labelled = await _labelled(
            context, job, [one.row for one in some if isinstance(one, FileRow) and one.row], ranks, variants
        )
        yield [_line(one, labelled) for one in some]


async def _masked(context: JobContext, some: list[FileRow | Broken]) -> list[FileRow | Broken]:
    """The rows of the file as they were published, where they are masked."""
    if context.door is None:
        return some
    rows = [one.row for one in some if isinstance(one, FileRow) and one.row is not None]
    masked = iter(await context.door.rows(rows, from_source=False))
    return [
        one._replace(row=next(masked) or one.row.model_copy(update=_HIDDEN))
        if isinstance(one, FileRow) and one.row is not None
        else one
        for one in some
    ]


async def _range_pages(context: JobContext, job: Job, variants: bool) -> AsyncIterator[list[dict[str, Any]]]:
    ranks = await ranks_of(context.client, context.settings)
    number = 0
    source = LabelledRows(context.client, context.settings, since=job.since, until=job.until)
    async for page, _ in source.pages(None):
        for start in range(0, len(page), _PAGE):
            rows = page[start : start + _PAGE]
            labelled = await _labelled(context, job, rows, ranks, variants)
            lines = []
            for row in rows:
                number += 1
                lines.append(_line(FileRow(number, number, row, None, row.row_id), labelled))
            yield lines


async def _labelled(
    context: JobContext, job: Job, rows: list[Row], ranks: dict[str, int], variants: bool
) -> dict[str, dict[str, Any]]:
    """The content of the tables for each row, by its id."""
    keys = [(row.row_id, micros_of(row.created_at)) for row in rows]
    labels = await labels_of(context.client, context.settings, keys, version=job.version, ranks=ranks)
    found = {row_id: _told(label) for row_id, label in labels.items()}
    if variants:
        reworded = await variants_of(context.client, context.settings, keys)
        for row_id, label in labels.items():
            found[row_id]["variants"] = reworded.get((row_id, label.version))
    missing = [row_id for row_id, _ in keys if row_id not in labels]
    for row_id, reason in (await given_up_of(context.client, context.settings, missing)).items():
        found[row_id] = {"status": "given-up", "reason": reason}
    return found


def _told(label: Label) -> dict[str, Any]:
    return {
        "status": "labeled",
        "label": label.label,
        "confidence": label.confidence,
        "label_version": label.version,
        "model": label.model,
        "labeled_at": moment(label.labeled_at),
    }


def _line(one: FileRow | Broken, labelled: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if isinstance(one, Broken):
        return {"row": one.number, "line": one.line, "status": "broken", "reason": text_in(one.detail)}
    told: dict[str, Any] = {"row": one.number, "line": one.line, "id": one.id}
    row = one.row
    if row is None:
        return {**told, "status": "skipped", "reason": one.skipped}
    return {
        **told,
        "status": "waiting",
        "row_id": row.row_id,
        "text": row.text,
        "ts": row.created_at,
        "user_id": row.user_id,
        "session_id": row.session_id,
        "domain": row.source_domain,
        **labelled.get(row.row_id, {}),
    }
