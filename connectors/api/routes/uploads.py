"""`POST /upload`: a file of rows, streamed to disk, and how it was understood."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import PurePath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from connectors.api.problems import in_openapi
from connectors.api.routes.file_problems import (
    JSON_LINES,
    BrokenRecord,
    Language,
    Work,
    broken_in,
    broken_lines,
    file_content,
    questions_in,
    streamed,
    told,
)
from connectors.api.routes.multipart import MultipartForm, boundary_of
from streams.ports.files import Encoding, ReadAs, SourceFormat, text_in

router = APIRouter(tags=["files"])

FileId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="From the answer of `POST /upload`.")]
_FILE = {"type": "string", "format": "binary"}


class FileQuestion(BaseModel):
    """What is not certain about a file."""

    id: str = Field(description="What is to be decided: the key in `answers` of `POST /process`.")
    about: str = Field(description="What is not certain, and why.")
    choices: list[str] = Field(description="The possible answers.")
    guess: str = Field(description="The most likely one; the rest of this answer follows from it.")


class UploadAnswer(BaseModel):
    """A file, and how it was understood."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "file_id": "5f0c2a9e6b1d4c7f8a3e2d1c0b9a8f7e",
                    "name": "logs.csv",
                    "bytes": 1840,
                    "uploaded_at": "2026-01-31T10:00:00Z",
                    "format": "csv",
                    "encoding": "cp1251",
                    "delimiter": ";",
                    "header": True,
                    "columns": ["query_text", "created_at"],
                    "mapping": {"text": "query_text", "timestamp": "created_at"},
                    "rows": 20,
                    "rows_broken": 0,
                    "rows_skipped": 0,
                    "broken": [],
                    "first_rows": [{"query_text": "где мой заказ", "created_at": "2026-01-30 09:12:44"}],
                    "warnings": ["The bytes are no UTF-8: read as cp1251, ..."],
                    "questions": [],
                    "known": False,
                }
            ]
        }
    )

    file_id: str = Field(description="A digest of the content: the same content is the same file.")
    name: str = Field(description="The file's name at its first upload.")
    bytes: int
    uploaded_at: datetime = Field(description="Time of its first upload.")
    format: SourceFormat
    encoding: str | None = Field(description="Null for Parquet and workbooks.")
    delimiter: str | None = Field(description="For CSV; U+001F stands for a single column.")
    header: bool | None = Field(
        description="For CSV and workbooks: whether the first record names the columns."
    )
    columns: list[str]
    mapping: dict[str, str] = Field(
        description="The suggested column of each part of a row: `text`, `timestamp`, `id`, `user`, "
        "`session`, `domain`, as far as they were found."
    )
    rows: int = Field(description="Records, broken ones too.")
    rows_broken: int = Field(description="Records that cannot be read.")
    rows_skipped: int = Field(description="Records with too little text to label.")
    broken: list[BrokenRecord] = Field(description="The first 100; all of them: `/uploads/{file_id}/broken`.")
    first_rows: list[dict[str, str | None]] = Field(description="The first records, texts shortened.")
    warnings: list[str] = Field(
        default_factory=list, description="What is likely and not certain, or damaged in the file, and why."
    )
    questions: list[FileQuestion] = Field(
        default_factory=list, description="What has to be answered in `POST /process`, or accepted."
    )
    known: bool = Field(default=True, description="Whether the same content had been uploaded before.")


class UploadList(BaseModel):
    """Files, newest first."""

    uploads: list[UploadAnswer]


@router.post(
    "/upload",
    summary="Upload a file of rows: CSV, JSON, Parquet or an Excel workbook",
    responses=in_openapi(415),
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "A form with a field `file` (`curl -F file=@logs.csv`), or the content itself.",
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": {"file": _FILE}, "required": ["file"]}
                },
                "application/octet-stream": {"schema": _FILE},
            },
        }
    },
)
async def upload(
    request: Request,
    work: Work,
    language: Language,
    name: Annotated[
        str | None, Query(max_length=255, description="The file's name, if the body is its content.")
    ] = None,
) -> UploadAnswer:
    """Streamed to disk; an archive (.gz, .zst, .bz2, .zip) of one file is unpacked. Encoding, delimiter,
    header and the meaning of the columns are detected; `warnings` and `questions` say what is not certain.
    Nothing is labelled yet: `POST /process` does that.

    413 for a file that is too large, 415 for a file that holds no rows, 422 for one without a readable row.
    """
    boundary = boundary_of(request.headers.get("content-type", ""))
    pieces = _pieces(request)
    if boundary is None:
        with told(language):
            return _answer(await work.upload(pieces, _name(name or "")), language)
    form = MultipartForm(pieces, boundary)
    content = form.file()
    # The form's headers, which have the name, come before its content.
    first = await anext(content, b"")
    with told(language):
        return _answer(await work.upload(_again(first, content), _name(name or form.name)), language)


@router.get("/uploads", summary="The files that were uploaded")
async def uploads(work: Work, language: Language) -> UploadList:
    """Newest first."""
    with told(language):
        return UploadList(uploads=[_answer(one, language) for one in await work.uploads()])


@router.get("/uploads/{file_id}", summary="What was understood of a file", responses=in_openapi(415))
async def shown(
    work: Work,
    language: Language,
    file_id: FileId,
    encoding: Annotated[Encoding | None, Query(description="Use this encoding instead.")] = None,
    delimiter: Annotated[
        str | None,
        Query(
            min_length=1, max_length=1, pattern=r'^[^"\r\n\x00]$', description="Use this delimiter instead."
        ),
    ] = None,
    header: Annotated[bool | None, Query(description="Whether the first record names the columns.")] = None,
    answer: Annotated[
        list[str] | None, Query(max_length=20, description="Answers to questions: `dates:day-month-year`.")
    ] = None,
) -> UploadAnswer:
    """How the file is understood with the given parameters; `POST /process` takes the same ones."""
    with told(language):
        read_as = ReadAs(encoding=encoding, delimiter=delimiter, header=header)
        if answer:
            pairs = (one.partition(":") for one in answer)
            read_as["answers"] = {about: choice for about, _, choice in pairs}
        return _answer(await work.upload_shown(file_id, read_as), language)


@router.get(
    "/uploads/{file_id}/broken",
    summary="Every broken record of a file, as JSON lines",
    response_class=Response,
    responses=file_content(JSON_LINES),
)
async def broken(work: Work, language: Language, file_id: FileId) -> Response:
    """With the suggested mapping. Each line is like `broken` in the answer to the upload."""
    return await streamed(broken_lines(work.upload_broken(file_id), language), JSON_LINES)


def _answer(found: dict[str, Any], language: str) -> UploadAnswer:
    warnings = [text_in(one, language) for one in found.get("warnings", ())]
    questions = questions_in(language, found.get("questions", ()))
    listed = [broken_in(language, one) for one in found.get("broken", ())]
    return UploadAnswer(**{**found, "warnings": warnings, "questions": questions, "broken": listed})


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        if piece:
            yield piece


async def _again(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for piece in rest:
        yield piece


def _name(given: str) -> str:
    """Without folders, and without control characters for a terminal."""
    name = PurePath(given.replace("\\", "/")).name
    return "".join(character for character in name if character.isprintable())[:255]
