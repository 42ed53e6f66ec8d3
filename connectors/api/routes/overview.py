"""`GET /overview` and `/stream/overview`: figures of the running pipeline, for the page and other clients."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from connectors.api.problems import unavailable
from connectors.api.routes.label_stream import MOST_STREAMS, EventStream, Streams
from connectors.api.routes.page_actions import Page

router = APIRouter(include_in_schema=False)

_RETRY_MS = 2_000


@router.get("/overview")
async def overview(page: Page) -> Response:
    """Current rates, lags, endpoints, tables, labels, replays and versions."""
    return Response(orjson.dumps(await page.overview.now()), media_type="application/json")


@router.get("/stream/overview")
async def stream(request: Request, page: Page) -> Response:
    """The same as server-sent events, one a second. The first one has the last five minutes of the charts."""
    streams: Streams = request.app.state.streams
    if streams.open >= MOST_STREAMS:
        raise unavailable(f"{MOST_STREAMS} streams are open, which is the most", code="too-many-streams")
    return EventStream(_frames(page.overview.watch()), streams, streams.seconds)


async def _frames(pictures: AsyncGenerator[dict[str, Any]]) -> AsyncGenerator[bytes]:
    yield f"retry: {_RETRY_MS}\n\n".encode()
    async with aclosing(pictures):
        async for picture in pictures:
            yield b"data: " + orjson.dumps(picture) + b"\n\n"
