"""The page's actions on the pipeline: dead letters, replays, versions; and the audit log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from connectors.api.routes.file_problems import told
from connectors.api.routes.page_actions import Acting, Page, note_looks
from streams.core.text import bounded

router = APIRouter(include_in_schema=False, prefix="/page")

_PAYLOAD = 20_000
_ERROR = 4_000
Name = Annotated[str, Field(min_length=1, max_length=300)]


class LetterAsked(BaseModel):
    """A dead letter, by its `id`."""

    id: Annotated[str, Field(min_length=1, max_length=1000)]


class ReplayAsked(BaseModel):
    """What to do with a replay."""

    id: Name
    wish: Literal["pause", "resume", "cancel"]


class VersionAsked(BaseModel):
    """A label version."""

    version: Name


class PromotionAsked(VersionAsked):
    """A label version; ``force``: also if the gate refuses it."""

    force: bool = False


@router.get("/letters")
async def letters(
    request: Request,
    page: Page,
    step: Annotated[str | None, Query(max_length=100)] = None,
    reason: Annotated[str | None, Query(max_length=200)] = None,
    only_open: bool = False,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """The newest dead letters, with payloads cut after 20,000 characters."""
    found = await page.operations.letters(step=step, reason=reason, only_open=only_open, limit=limit)
    for one in found["dead_letters"]:
        one["error"] = bounded(one["error"], _ERROR)
        for name in ("payload", "payload_base64"):
            if name in one:
                one[name] = bounded(one[name], _PAYLOAD)
    await note_looks(request, page, [one["row_id"] for one in found["dead_letters"]], "dead letters")
    return found


@router.post("/letters/retry")
async def retry(asked: LetterAsked, act: Acting) -> dict[str, Any]:
    """Retry it, as `labelstream dead-letters retry` does."""
    async with act.audited("letter-retry", asked.id) as done:
        found = await act.page.operations.retry(asked.id)
        done.detail = ", ".join(found["left"]) or ("stored" if found["stored"] else "sent again")
    return found


@router.get("/replays")
async def replays(page: Page) -> dict[str, Any]:
    """All of them, newest first."""
    with told():
        return {"replays": (await page.operations.replays())[:200]}


@router.post("/replays/steer")
async def steer(asked: ReplayAsked, act: Acting) -> dict[str, Any]:
    """Pause, resume or cancel. A replay that was started on the command line continues in this process."""
    async with act.audited(f"replay-{asked.wish}", asked.id):
        return await act.page.operations.steer(asked.id, asked.wish)


@router.get("/versions")
async def versions(page: Page) -> dict[str, Any]:
    """Label versions, promoted ones first."""
    return {"versions": await page.operations.versions()}


@router.get("/versions/diff")
async def diff(
    page: Page, a: Annotated[str, Query(max_length=300)], b: Annotated[str, Query(max_length=300)]
) -> dict[str, Any]:
    """``b`` compared with ``a``."""
    with told():
        return await page.operations.diff(a, b)


@router.post("/versions/promote")
async def promote(asked: PromotionAsked, act: Acting) -> dict[str, Any]:
    """Make it the current version of every row that has it. 409 with the `verdict` if the gate refuses it."""
    async with act.audited("version-promote", asked.version) as done:
        found = await act.page.operations.promote(asked.version, force=asked.force)
        done.detail = ("forced: " if found["forced"] else "") + found["verdict"]["text"]
    return found


@router.post("/versions/retire")
async def retire(asked: VersionAsked, act: Acting) -> dict[str, Any]:
    """No longer show it."""
    async with act.audited("version-retire", asked.version):
        return await act.page.operations.retire(asked.version)


@router.get("/audit")
async def audit(
    request: Request, page: Page, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> dict[str, Any]:
    """Audited actions, the newest first. Only an admin sees who looked at which row."""
    found = await page.audit.newest(limit, looks=bool(getattr(request.state, "is_admin", False)))
    return {"entries": [one.model_dump(mode="json") for one in found]}
