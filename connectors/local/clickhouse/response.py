"""The front's responses: headers, blocks of output as they come, errors before and after the first one."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from connectors.local.clickhouse.compression import Encoder, choose_encoder
from connectors.local.clickhouse.engine import Engine
from connectors.local.clickhouse.errors import EngineError
from connectors.local.clickhouse.request import Message, Request

Send = Callable[[Message], Awaitable[None]]

_CONTENT_TYPES = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "JSON": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
}


@dataclass(slots=True)
class Answer:
    """The result of a statement: its output, block by block, and the format and counts for the headers."""

    output: Iterator[bytes]
    format: str
    summary: dict[str, int] = field(default_factory=dict)


async def respond(
    send: Send, request: Request, answer: Answer, engine: Engine, run: Callable[..., Awaitable[Any]]
) -> bytes:
    """Send ``answer`` block by block, except the returned end; ``run`` calls blocking functions."""
    tag = secrets.token_hex(8)
    summary = {key: str(value) for key, value in answer.summary.items()}
    headers = {
        "Content-Type": _CONTENT_TYPES.get(answer.format, "application/octet-stream"),
        "X-ClickHouse-Query-Id": request.query_id,
        "X-ClickHouse-Format": answer.format,
        "X-ClickHouse-Timezone": request.params.get("session_timezone") or engine.timezone,
        "X-ClickHouse-Server-Display-Name": "local",
        "X-ClickHouse-Summary": orjson.dumps(summary).decode(),
        "X-ClickHouse-Exception-Tag": tag,
    }
    encoder: Encoder | None = None
    if request.flag("enable_http_compression"):
        chosen = choose_encoder(request.headers.get("accept-encoding", ""))
        if chosen:
            headers["Content-Encoding"], encoder = chosen
    await send({"type": "http.response.start", "status": 200, "headers": _encode(headers)})

    def next_piece() -> bytes | None:
        try:
            block = next(answer.output, None)
        except EngineError as error:
            block = _late_exception(error.render(engine.version), tag)
        return encoder.compress(block) if encoder and block is not None else block

    try:
        while (piece := await run(next_piece)) is not None:
            if piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        return encoder.flush() if encoder else b""
    finally:
        close = getattr(answer.output, "close", None)
        if close:
            await asyncio.shield(run(close))


async def plain(send: Send, status: int, text: str, headers: dict[str, str]) -> None:
    """Send a whole answer of plain text."""
    body = text.encode()
    headers = {"Content-Type": "text/plain; charset=UTF-8", "Content-Length": str(len(body)), **headers}
    await send({"type": "http.response.start", "status": status, "headers": _encode(headers)})
    await send({"type": "http.response.body", "body": body})


def _late_exception(text: str, tag: str) -> bytes:
    """An error after the first bytes, in the form that clients expect at the end of a response."""
    body = text.encode()
    return b"__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (
        tag.encode(),
        body,
        len(body),
        tag.encode(),
    )


def _encode(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in headers.items()
    ]
