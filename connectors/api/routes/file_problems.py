"""What the routes for files, jobs and fetches share: the port, and problems whose text the client may see."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import orjson
from fastapi import Depends, Header
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from connectors.api.problems import Problem
from connectors.api.routes.params import Ports
from streams.core.errors import GateError, QuestionsError, RefusedError
from streams.ports.files import (
    CONFLICT,
    LANGUAGES,
    NO_FILE_OF_ROWS,
    NO_ROWS,
    NOT_FOUND,
    FileFormat,
    FileService,
    text_in,
)

_STATUS = {NOT_FOUND: 404, NO_ROWS: 404, CONFLICT: 409, NO_FILE_OF_ROWS: 415}
JSON_LINES = "application/x-ndjson"
MEDIA_TYPES: dict[FileFormat, str] = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": JSON_LINES,
    "parquet": "application/vnd.apache.parquet",
}


def _work_of(services: Ports) -> FileService:
    if services.files is None:
        raise Problem(503, "this service works on no files", code="not-configured")
    return services.files


Work = Annotated[FileService, Depends(_work_of)]


class BrokenRecord(BaseModel):
    """A record that cannot be read."""

    row: int = Field(description="Its number among the records, from 1.")
    line: int = Field(description="The line of the file.")
    column: int | None = Field(description="The character in that line, from 1, if known.")
    field: str | None = Field(description="The column of the table with the error, if known.")
    reason: str = Field(description="`quote`, `columns`, `encoding`, `json`, `value` or `timestamp`.")
    detail: str = Field(description="The exact error.")


def _language_of(
    accept_language: Annotated[str, Header(description="Of texts for people: `en` or `ru`.")] = "",
) -> str:
    wanted = (one.strip()[:2].lower() for one in accept_language.split(","))
    return next((one for one in wanted if one in LANGUAGES), LANGUAGES[0])


Language = Annotated[str, Depends(_language_of)]


def questions_in(language: str, questions: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The questions with their texts in one language."""
    return [{**one, "about": text_in(one["about"], language)} for one in questions]


@contextmanager
def told(language: str = LANGUAGES[0]) -> Iterator[None]:
    """Turn a refusal into a problem with its text."""
    try:
        yield
    except QuestionsError as error:
        raise Problem(
            409,
            error.texts.get(language, str(error)),
            code=error.reason,
            questions=questions_in(language, error.questions),
        ) from error
    except GateError as error:
        raise Problem(409, str(error), code=error.reason, verdict=error.verdict) from error
    except RefusedError as error:
        detail = error.texts.get(language, str(error))
        raise Problem(_STATUS.get(error.reason, 422), detail, code=error.reason) from error


async def streamed(
    pieces: AsyncIterator[bytes], media_type: str, *, name: str | None = None
) -> StreamingResponse:
    """A response of ``pieces``. An error before the first of them still becomes a problem."""
    with told():
        first = await anext(pieces, None)

    async def all_of_them() -> AsyncIterator[bytes]:
        if first is not None:
            yield first
        async for piece in pieces:
            yield piece

    headers = {"content-disposition": f'attachment; filename="{name}"'} if name is not None else None
    return StreamingResponse(all_of_them(), media_type=media_type, headers=headers)


def broken_in(language: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """A broken record with its detail in one language."""
    return {**record, "detail": text_in(record["detail"], language)}


async def broken_lines(found: AsyncIterator[dict[str, Any]], language: str) -> AsyncIterator[bytes]:
    """Broken records, one JSON object a line, some hundred in each piece."""
    held: list[bytes] = []
    async for one in found:
        held.append(orjson.dumps(broken_in(language, one), option=orjson.OPT_APPEND_NEWLINE))
        if len(held) == 500:
            yield b"".join(held)
            held.clear()
    yield b"".join(held)


def file_content(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of an operation that returns a file."""
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"description": "The file.", "content": dict.fromkeys(media_types, schema)}}
