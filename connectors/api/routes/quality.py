"""`GET /quality`: how far a label version is right, for the page."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from connectors.api.routes.file_problems import told
from connectors.api.routes.page_actions import Page

router = APIRouter(include_in_schema=False)


@router.get("/quality")
async def quality(
    page: Page,
    version: Annotated[str | None, Query(min_length=1, max_length=300)] = None,
    by: Literal["week", "domain", "length"] | None = None,
    accuracy: Annotated[float, Query(ge=0, le=1)] = 0.95,
) -> dict[str, Any]:
    """As `labelstream evaluate --json`; of the current version, unless one is named."""
    with told():
        return await page.quality.quality(version, by, accuracy)
