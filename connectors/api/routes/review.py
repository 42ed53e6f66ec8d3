"""`/review`: rows for people to label, and the gold set of their labels."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from connectors.api.problems import in_openapi
from connectors.api.routes.file_problems import file_content, streamed
from connectors.api.routes.page_actions import Acting, Page, note_looks, who
from connectors.api.routes.params import CURSOR, cursor_of, place_in
from streams.ports.review import GOLD_COLUMNS, UNSURE, Answer, DrawnBy, GoldLabel, Queue, ReviewRow

router = APIRouter(prefix="/review", tags=["labels"])

_AT_ONCE = 500
# The name of a browser tab: two tabs of one person are two desks.
Desk = Annotated[str, Header(alias="X-Desk", min_length=1, max_length=40, pattern=r"^[\w-]+$")]


Key = Annotated[str, Field(pattern=CURSOR)]


class QueuedRow(BaseModel):
    """A row of a queue, by the `key` under which it was handed out."""

    key: Key

    queue: Queue = UNSURE


class RowAsked(BaseModel):
    """A row that was handed out, or with the queue `search` any one: its time in microseconds since 1970, and
    its id in hexadecimal.
    """

    key: Key

    queue: DrawnBy = UNSURE


class LabelAsked(RowAsked):
    """A row and its label."""

    label: Annotated[str, Field(min_length=1, max_length=200)]


class AnswerAsked(RowAsked):
    """A row and an answer without a label."""

    answer: Answer


@router.get("", include_in_schema=False)
async def state(page: Page) -> dict[str, Any]:
    """The labels to choose from, and how many rows are labelled and waiting."""
    choices = await page.review.choices()
    return {"choices": [asdict(one) for one in choices], **asdict(await page.review.counts())}


@router.post("/claim", include_in_schema=False)
async def claim(
    act: Acting, desk: Desk, want: Annotated[int, Query(ge=1, le=20)] = 10, queue: Queue = UNSURE
) -> dict[str, Any]:
    """Rows that nobody else has now, in the queue's order."""
    rows = await act.page.review.claim(_owner(act, desk), want, queue)
    await note_looks(act.request, act.page, [one.place.row_id for one in rows], f"review, {queue}")
    return {"rows": [_shown(one) for one in rows]}


@router.post("/label", include_in_schema=False)
async def label(asked: LabelAsked, act: Acting, desk: Desk) -> dict[str, Any]:
    """A person's label: published and stored as version `human`."""
    place = place_in(asked.key)
    async with act.audited("review-label", place.row_id, asked.label):
        await act.page.review.label(_owner(act, desk), place, asked.label, asked.queue)
    return {"key": asked.key, "label": asked.label}


@router.post("/answer", include_in_schema=False)
async def answer(asked: AnswerAsked, act: Acting, desk: Desk) -> dict[str, Any]:
    """A person's answer that is no label: it is stored, and is no label of the row."""
    place = place_in(asked.key)
    async with act.audited("review-answer", place.row_id, asked.answer):
        await act.page.review.answer(_owner(act, desk), place, asked.answer, asked.queue)
    return {"key": asked.key, "answer": asked.answer}


@router.post("/skip", include_in_schema=False)
async def skip(asked: QueuedRow, act: Acting, desk: Desk) -> dict[str, Any]:
    """Leave the row to somebody else."""
    place = place_in(asked.key)
    async with act.audited("review-skip", place.row_id):
        await act.page.review.skip(_owner(act, desk), place, asked.queue)
    return {"key": asked.key}


@router.post("/undo", include_in_schema=False)
async def undo(asked: RowAsked, act: Acting, desk: Desk) -> dict[str, Any]:
    """Take one's own answer back: the row has its former label again, and can be answered again."""
    place = place_in(asked.key)
    async with act.audited("review-undo", place.row_id):
        return _shown(await act.page.review.undo(_owner(act, desk), place, asked.queue))


@router.post("/release", include_in_schema=False)
async def release(act: Acting, desk: Desk) -> dict[str, Any]:
    """Return the rows that were not labelled."""
    await act.page.review.release(_owner(act, desk))
    return {}


@router.get(
    "/gold",
    summary="The labels that people gave",
    response_class=StreamingResponse,
    responses={**file_content("text/csv", "application/x-ndjson"), **in_openapi(422, 503)},
)
async def gold(
    page: Page,
    format_: Annotated[Literal["csv", "jsonl"], Query(alias="format", description="Of the file.")] = "csv",
) -> StreamingResponse:
    """Each row that somebody judged once, with the answer that counts: the one that settled a disagreement,
    else the last one of the audit, else the last one. `no-label`: no label fits.
    """
    media = "text/csv; charset=utf-8" if format_ == "csv" else "application/x-ndjson"
    return await streamed(_file(page.review.gold(), format_), media, name=f"gold.{format_}")


async def _file(found: AsyncIterator[GoldLabel], format_: str) -> AsyncIterator[bytes]:
    held: list[GoldLabel] = []
    if format_ == "csv":
        yield (",".join(GOLD_COLUMNS) + "\n").encode()
    async for one in found:
        held.append(one)
        if len(held) == _AT_ONCE:
            yield _lines(held, format_)
            held.clear()
    yield _lines(held, format_)


def _lines(rows: list[GoldLabel], format_: str) -> bytes:
    if format_ == "jsonl":
        return b"".join(
            orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z) for one in rows
        )
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(one.values() for one in rows)
    return text.getvalue().encode("utf-8", "replace")


def _owner(act: Acting, desk: str) -> str:
    return f"{who(act.request)}/{desk}"


def _shown(one: ReviewRow) -> dict[str, Any]:
    row: dict[str, Any] = {
        "row_id": one.place.row_id,
        "created_at": one.place.created_at,
        "text": one.text,
        "key": cursor_of(one.place),
    }
    if one.labeled is not None:
        hidden = {"polled_at", "user_id", "session_id", "cached"}
        row |= one.labeled.model_dump(mode="json", exclude=hidden)
    if one.answers:
        row["answers"] = list(one.answers)
    return row
