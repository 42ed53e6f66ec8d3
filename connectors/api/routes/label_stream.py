"""`GET /stream/labeled`: the labelled topic as server-sent events, for clients without Kafka.

The id of an event holds the next offset of each partition. A client that sends it as `Last-Event-ID`
continues there, and loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from connectors.api.problems import Problem, unavailable
from connectors.api.routes.params import Ports, Probability
from streams.core.errors import RefusedError
from streams.ports.label_feed import LiveLabel, LiveSlice, Positions, Start

log = structlog.get_logger()
router = APIRouter(tags=["labels"])

MOST_STREAMS = 500
_BEAT_SECONDS = 15.0
_STUCK_SECONDS = 30.0  # a client that takes nothing for so long is disconnected
_ID_SECONDS = 1.0
_RETRY_MS = 2_000
_CHUNK = 1 << 16
_ID = r"^[0-9]{1,18}(\.[0-9]{1,18}){0,1023}$"
_EXAMPLE = """\
retry: 2000
id: 17.20.5.11

id: 18.20.5.11
data: {"row_id":"42","text":"не проходит оплата картой","label":"payments","confidence":0.93}

: nothing new
id: 18.20.5.11

"""


@dataclass
class Streams:
    """How long streams may be open, and how many are."""

    seconds: float
    open: int = 0


@dataclass(frozen=True)
class Wanted:
    """The labels that a client asked for."""

    labels: frozenset[str]
    sources: frozenset[str]
    least: float | None
    most: float | None

    def __call__(self, one: LiveLabel) -> bool:
        """Whether ``one`` is among them."""
        if not one.data or (self.labels and one.label not in self.labels):
            return False
        if self.sources and one.source_domain not in self.sources:
            return False
        if self.least is None and self.most is None:
            return True
        if one.confidence is None:
            return False
        return (self.least or 0.0) <= one.confidence <= (1.0 if self.most is None else self.most)


@router.get(
    "/stream/labeled",
    summary="Labels as they are made, as server-sent events",
    response_class=Response,
    responses={
        200: {
            "description": "Events without end. Each one's data is a message of the labelled topic.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        }
    },
)
async def stream_labeled(
    request: Request,
    services: Ports,
    label: Annotated[
        list[str] | None, Query(max_length=50, description="Only this label; may be given several times.")
    ] = None,
    source: Annotated[
        list[str] | None,
        Query(max_length=50, description="Only rows with this domain in the source table."),
    ] = None,
    min_confidence: Annotated[Probability | None, Query(description="At least this confidence.")] = None,
    max_confidence: Annotated[
        Probability | None, Query(description="At most this confidence. Labels without one match neither.")
    ] = None,
    start: Annotated[
        Literal["now", "beginning"], Query(description="Where to begin without a last event's id.")
    ] = "now",
    seconds: Annotated[
        float | None,
        Query(gt=0, le=86_400, allow_inf_nan=False, description="End after so many seconds."),
    ] = None,
    last_event_id: Annotated[
        str | None, Query(pattern=_ID, description="As the header, for clients that cannot set it.")
    ] = None,
    last_event_id_header: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            pattern=_ID,
            description="The id of the last event that was received: continue after it.",
        ),
    ] = None,
) -> Response:
    """Browsers' `EventSource` and `curl -N` read it. A client that is too slow is disconnected; with the id
    of its last event it continues where it was.
    """
    last = last_event_id_header or last_event_id
    begin: Start = tuple(int(part) for part in last.split(".")) if last else start
    streams: Streams = request.app.state.streams
    if streams.open >= MOST_STREAMS:
        raise unavailable(f"{MOST_STREAMS} streams are open, which is the most", code="too-many-streams")
    wanted = Wanted(frozenset(label or ()), frozenset(source or ()), min_confidence, max_confidence)
    slices = services.feed.follow(begin, _BEAT_SECONDS)
    try:
        first = await anext(slices)
    except RefusedError:
        raise Problem(409, "the topic has another number of partitions", code="unknown-position") from None
    except StopAsyncIteration:
        raise unavailable("the service ends", after=1.0) from None
    return EventStream(
        _frames(first, slices, wanted), streams, min(seconds or streams.seconds, streams.seconds)
    )


async def _frames(
    first: LiveSlice, slices: AsyncGenerator[LiveSlice], wanted: Wanted
) -> AsyncGenerator[bytes]:
    """The stream's bytes, in pieces of whole events."""
    yield f"retry: {_RETRY_MS}\n{_id(first.before)}\n".encode()
    told = time.monotonic()
    async with contextlib.aclosing(slices):
        async for found in slices:
            at, piece = list(found.before), bytearray()
            unsaid = False
            for one in found.labels:
                at[one.partition] = one.offset + 1
                unsaid = not wanted(one)
                if not unsaid:
                    piece += _id(at).encode() + b"data: " + one.data + b"\n\n"
                if len(piece) > _CHUNK:
                    yield bytes(piece)
                    piece.clear()
            now = time.monotonic()
            if not found.labels:
                piece += f": nothing new\n{_id(at)}\n".encode()
            elif unsaid and now - told > _ID_SECONDS:
                # The id covers filtered events too, so they need not be read again after a reconnect.
                piece += f"{_id(at)}\n".encode()
            if piece:
                told = now
                yield bytes(piece)


def _id(at: Positions | list[int]) -> str:
    return f"id: {'.'.join(map(str, at))}\n"


class EventStream(Response):
    """Sends pieces until there are no more, the client has disconnected, or it takes none."""

    media_type = "text/event-stream"

    def __init__(self, pieces: AsyncGenerator[bytes], streams: Streams, seconds: float) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._pieces = pieces
        self._streams = streams
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._streams.open += 1
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._streams.open -= 1
            sending.cancel()
            leaving.cancel()
            await asyncio.wait([sending, leaving])
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error

    async def _send(self, send: Send) -> None:
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds), contextlib.aclosing(self._pieces) as pieces:
                async for piece in pieces:
                    if not await self._taken(send, piece):
                        return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _taken(self, send: Send, piece: bytes) -> bool:
        try:
            async with asyncio.timeout(_STUCK_SECONDS):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except TimeoutError:
            log.info("stream_let_go", reason="the client takes nothing")
            return False
        return True


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
