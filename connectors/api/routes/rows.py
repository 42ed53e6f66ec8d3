"""`GET /rows/{row_id}`: everything about one row."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request

from connectors.api.problems import Problem
from connectors.api.routes.page_actions import entry
from connectors.api.routes.params import Ports
from connectors.api.views import RowAnswer, row_answer
from streams.ports.audit import LOOK

router = APIRouter(tags=["labels"])


@router.get("/rows/{row_id:path}", summary="A row: text, every version's label, variants, dead letters")
async def row(
    request: Request,
    services: Ports,
    row_id: Annotated[
        str,
        Path(
            min_length=1,
            max_length=1000,
            description="The row's id: of the source table, or `upload:<digest>:<n>` for a file's.",
            examples=["42"],
        ),
    ],
) -> RowAnswer:
    """What the result tables have of it. A row in flight is not there yet. Who asks is noted in the audit
    log.
    """
    found = await services.lookups.row(row_id)
    if services.page is not None:
        # An id without rows may be an erased one.
        shown = ("", "unknown-row") if found is None else (row_id, "done")
        await services.page.audit.note(entry(request, LOOK, target=shown[0], result=shown[1]))
    if found is None:
        raise Problem(
            404, "nothing is stored of a row with this id; it may be on its way", code="unknown-row"
        )
    return row_answer(row_id, found)
