"""Files, jobs and fetches: what the API needs, implemented by `streams/files`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal, NotRequired, Protocol, TypedDict

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

CodePage = Literal["cp1251", "koi8-r", "cp866", "iso8859-5", "mac-cyrillic", "cp1252"]
Encoding = Literal["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"] | CodePage
FileFormat = Literal["csv", "jsonl", "parquet"]
SourceFormat = FileFormat | Literal["json", "xlsx"]
# A text for people, by language.
Text = dict[str, str]
LANGUAGES = ("en", "ru")
# Those with Russian letters, most usual first.
CODE_PAGES: tuple[CodePage, ...] = ("cp1251", "koi8-r", "cp866", "iso8859-5", "mac-cyrillic")

# Reasons of a RefusedError, besides those that concern a file.
NOT_FOUND, NO_ROWS, CONFLICT, NO_FILE_OF_ROWS = "not-found", "no-rows", "conflict", "format"


def text_in(text: Text | str, language: str = LANGUAGES[0]) -> str:
    """A text in one language. Files of an older release have English ones only."""
    return text if isinstance(text, str) else text[language]


class AskedFile(BaseModel):
    """A file to be labelled."""

    model_config = ConfigDict(
        extra="forbid",
        title="ProcessRequest",
        json_schema_extra={
            "examples": [
                {
                    "file_id": "5f0c2a9e6b1d4c7f8a3e2d1c0b9a8f7e",
                    "mapping": {"text": "query_text", "timestamp": "created_at"},
                }
            ]
        },
    )

    file_id: str = Field(pattern=r"^[0-9a-f]{32}$", description="As `POST /upload` answered it.")
    mapping: dict[str, str | None] = Field(
        default_factory=dict,
        max_length=12,
        description="Column by part of a row: `text`, `timestamp`, `id`, `user`, `session`, `domain`. "
        "It goes before what was suggested; null takes a suggestion back.",
    )
    version: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="A known label version. Without it, or with the live one, as live rows are.",
    )
    to: Literal["shadow", "labeled"] = Field(
        default="shadow",
        description="With another than the live version: into the tables only, or to the subscribers too.",
    )
    encoding: Encoding | None = Field(default=None, description="If not the one that was found out.")
    delimiter: str | None = Field(
        default=None, min_length=1, max_length=1, description="If not the one that was found out."
    )
    header: bool | None = Field(
        default=None, description="Whether the first record names the columns, if not as was found out."
    )

    answers: dict[str, str] = Field(
        default_factory=dict, max_length=20, description="Choice by question of `POST /upload`."
    )
    accept: bool = Field(default=False, description="Take the guess for each question without an answer.")

    @model_validator(mode="before")
    @classmethod
    def _as_it_comes(cls, given: Any) -> Any:
        # `curl -d '{...}'` declares its body as a form.
        if isinstance(given, bytes):
            try:
                return orjson.loads(given)
            except orjson.JSONDecodeError as error:
                raise ValueError(f"the body is no JSON: {error}") from None
        return given

    @field_validator("delimiter")
    @classmethod
    def _parts_fields(cls, value: str | None) -> str | None:
        if value is not None and value in '"\r\n\x00':
            raise ValueError("no delimiter of fields")
        return value


class ReadAs(TypedDict):
    """How a file is to be read, instead of the detected values; None: as detected. ``answers``: choices by
    question.
    """

    encoding: Encoding | None
    delimiter: str | None
    header: bool | None
    answers: NotRequired[dict[str, str]]


class FileService(Protocol):
    """Files, jobs and fetches for the API's routes.

    Besides our other errors every method may raise RefusedError. Its text is for the client, and its reason
    determines the HTTP status.
    """

    async def upload(self, pieces: AsyncIterator[bytes], name: str) -> dict[str, Any]:
        """Store a file; returns how it was understood."""

    async def uploads(self) -> list[dict[str, Any]]:
        """All files, newest first."""

    async def upload_shown(self, file_id: str, read_as: ReadAs) -> dict[str, Any]:
        """How it is understood, or would be if it is read in that way."""

    def upload_broken(self, file_id: str) -> AsyncIterator[dict[str, Any]]:
        """Every broken record."""

    async def process(self, asked: AskedFile) -> dict[str, Any]:
        """Start a job, or return the existing one; a job that was stopped continues."""

    async def fetch(self, days: int, limit: int | None, process: bool) -> dict[str, Any]:
        """Rows of the source table as a file, and as a job."""

    async def jobs(self) -> list[dict[str, Any]]:
        """All jobs, newest first."""

    async def job(self, job: str) -> dict[str, Any]:
        """One job."""

    async def cancel(self, job: str) -> dict[str, Any]:
        """Stop publishing."""

    async def resume(self, job: str) -> dict[str, Any]:
        """Continue it."""

    def result(
        self, job: str, format_: FileFormat, *, variants: bool, escape_formulas: bool
    ) -> AsyncIterator[bytes]:
        """The job's rows with their labels, as a file."""

    def broken(self, job: str) -> AsyncIterator[dict[str, Any]]:
        """Every broken record of a job's file."""
