"""`GET /quality`: how right the labels are, and what is new, for the page."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from connectors.api.routes.file_problems import told
from connectors.api.routes.page_actions import Page, note_looks

router = APIRouter(include_in_schema=False)

Name = Annotated[str, Query(min_length=1, max_length=300)]
Version = Annotated[str | None, Query(min_length=1, max_length=300)]


@router.get("/quality")
async def quality(
    page: Page,
    version: Version = None,
    by: Literal["week", "domain", "length"] | None = None,
    accuracy: Annotated[float, Query(ge=0, le=1)] = 0.95,
) -> dict[str, Any]:
    """As `labelstream evaluate --json`, with `versions` side by side."""
    with told():
        return await page.quality.quality(version, by, accuracy)


@router.get("/quality/drift")
async def drift(page: Page) -> dict[str, Any]:
    """What differs from the reference."""
    return page.quality.drift()


@router.get("/quality/drift/rows")
async def drift_rows(request: Request, page: Page, series: Name) -> dict[str, Any]:
    """Some rows that show why ``series`` is in alarm."""
    with told():
        found = await page.quality.drift_rows(series)
    await note_looks(request, page, [str(one["row_id"]) for one in found], "quality")
    return {"rows": found}


@router.get("/quality/rows")
async def rows(
    request: Request, page: Page, right: Name, given: Name, version: Version = None
) -> dict[str, Any]:
    """Some rows whose right label is ``right``, and that the version labelled ``given``."""
    with told():
        found = await page.quality.rows(version, right, given)
    await note_looks(request, page, [str(one["row_id"]) for one in found], "quality")
    return {"rows": found}


@router.get("/quality/new")
async def new(request: Request, page: Page, anew: bool = False) -> dict[str, Any]:
    """As `labelstream discover --json`."""
    with told():
        found = await page.quality.discover(anew=anew)
    shown = [str(one["row_id"]) for group in found["groups"] for one in group["examples"]]
    await note_looks(request, page, shown, "quality")
    return found


@router.get("/quality/new/entry")
async def entry(request: Request, page: Page, group: Name, name: Name) -> dict[str, Any]:
    """As `labelstream discover --make GROUP --name NAME --json`."""
    with told():
        found = await page.quality.entry(group, name)
    await note_looks(request, page, [str(row) for row in found["rows"]], "quality")
    return found
