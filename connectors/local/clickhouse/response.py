"""The front's responses: headers, blocks of output as they come, errors before and after the first one."""

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


class Response:
    """An answer on its way to the client: headers, and its output piece by piece, compressed if asked for.

    All of it blocks but the headers.
    """

    def __init__(self, request: Request, answer: Answer, engine: Engine) -> None:
        self._output = answer.output
        self._version = engine.version
        self._tag = secrets.token_hex(8)
        self._encoder: Encoder | None = None
        summary = {key: str(value) for key, value in answer.summary.items()}
        self.headers = {
            "Content-Type": _CONTENT_TYPES.get(answer.format, "application/octet-stream"),
            "X-ClickHouse-Query-Id": request.query_id,
            "X-ClickHouse-Format": answer.format,
            "X-ClickHouse-Timezone": request.params.get("session_timezone") or engine.timezone,
            "X-ClickHouse-Server-Display-Name": "local",
            "X-ClickHouse-Summary": orjson.dumps(summary).decode(),
            "X-ClickHouse-Exception-Tag": self._tag,
        }
        if request.flag("enable_http_compression"):
            chosen = choose_encoder(request.headers.get("accept-encoding", ""))
            if chosen:
                self.headers["Content-Encoding"], self._encoder = chosen
        self.ahead = b""
        self.ended = False

    def read_ahead(self) -> None:
        """Read the first pieces into ``ahead``: two, which are all of a small answer."""
        for _ in range(2):
            if not self.ended:
                self.ahead += self.next_piece()

    def next_piece(self) -> bytes:
        """The next piece, which may be empty; with the last one, ``ended`` is set."""
        try:
            block = next(self._output, None)
        except EngineError as error:
            block = _late_exception(error.render(self._version), self._tag)
        if block is None:
            self.ended = True
            return self._encoder.flush() if self._encoder else b""
        return self._encoder.compress(block) if self._encoder else block

    def close(self) -> None:
        """Let the output go, read or not."""
        close = getattr(self._output, "close", None)
        if close:
            close()


async def respond(send: Send, response: Response, run: Callable[..., Awaitable[Any]]) -> bytes:
    """Send ``response`` piece by piece, except the returned end; ``run`` calls blocking functions."""
    await send({"type": "http.response.start", "status": 200, "headers": _encode(response.headers)})
    piece = response.ahead
    while not response.ended:
        if piece:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        piece = await run(response.next_piece)
    return piece


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
