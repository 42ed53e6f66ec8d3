"""`GET /labels`: search in the stored labels, page by page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from connectors.api.routes.page_actions import note_looks
from connectors.api.routes.params import CURSOR, At, Ports, Probability, cursor_of, place_in
from connectors.api.views import LabelsAnswer
from streams.ports.lookups import LabelQuery

router = APIRouter(tags=["labels"])


@router.get("/labels", summary="Search the labels")
async def labels(
    request: Request,
    services: Ports,
    text: Annotated[
        str | None,
        Query(min_length=1, max_length=200, description="A part of the text, ignoring case."),
    ] = None,
    label: Annotated[
        str | None, Query(min_length=1, max_length=200, description="The label, exactly.")
    ] = None,
    min_confidence: Annotated[Probability | None, Query(description="At least this confidence.")] = None,
    max_confidence: Annotated[
        Probability | None, Query(description="At most this confidence. Labels without one match neither.")
    ] = None,
    since: Annotated[
        At | None, Query(description="Rows of this time and later.", examples=["2026-01-31T00:00:00Z"])
    ] = None,
    until: Annotated[
        At | None, Query(description="Rows before this time.", examples=["2026-02-01T00:00:00+03:00"])
    ] = None,
    version: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            description="Labels of this version, instead of each row's current one.",
        ),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Maximum number of labels on a page.")] = 50,
    cursor: Annotated[str | None, Query(pattern=CURSOR, description="`next` of the previous page.")] = None,
) -> LabelsAnswer:
    """The newest rows first. Use the same filters and `cursor` for the next page."""
    query = LabelQuery(
        text=text,
        label=label,
        min_confidence=min_confidence,
        max_confidence=max_confidence,
        since=since,
        until=until,
        version=version,
    )
    after = place_in(cursor) if cursor is not None else None
    page = await services.lookups.search(query, after, limit)
    if text is not None:  # as whoever looks for one person does; others watch what comes
        await note_looks(request, services.page, [one.row_id for one in page.labels], "search")
    return LabelsAnswer(labels=page.labels, next=cursor_of(page.next) if page.next is not None else None)
