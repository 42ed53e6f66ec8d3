"""The HTTP front, an ASGI application: ClickHouse's HTTP interface over the engine in this process."""

import asyncio
import contextlib
import hmac
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
import structlog

from connectors.local.clickhouse import native
from connectors.local.clickhouse.compression import Encoder, choose_encoder
from connectors.local.clickhouse.engine import Connection, Engine
from connectors.local.clickhouse.errors import EngineError
from connectors.local.clickhouse.request import ClientGone, Message, Receive, Request, read_request
from connectors.local.clickhouse.statement import (
    MAX_STATEMENT_HEAD,
    STREAMABLE,
    Insert,
    Query,
    find_insert,
    read_query,
)

log = structlog.get_logger()

Send = Callable[[Message], Awaitable[None]]
T = TypeVar("T")

_MAX_QUERY = 64 * 1024 * 1024
_INSERT_PIECE = 1024 * 1024
_CONTENT_TYPES = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "JSON": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
}
# `query_id` of KILL QUERY is the id that the client gave; the engine has its own, and carries ours as the comment.
_QUERY_ID = re.compile(r"\bquery_id\b", re.IGNORECASE)


@dataclass(slots=True)
class _Answer:
    """What a statement gave: its output, block by block, and the format and counts that go into the headers."""

    output: Iterator[bytes]
    format: str
    summary: dict[str, int] = field(default_factory=dict)


class Front:
    """Serves ``engine`` to one user. At most ``threads`` statements run at once, further ones wait."""

    def __init__(self, engine: Engine, user: str = "default", password: str = "", threads: int = 64) -> None:
        self._engine = engine
        self._user = user
        self._password = password
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="query")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] in ("/ping", "/replicas_status"):
            return await _plain(send, 200, "Ok.\n", {})
        query_id = ""
        try:
            request = await read_request(scope, receive)
            query_id = request.query_id
            self._authenticate(request)
            await self._handle(request, receive, send)
        except ClientGone:
            log.info("client closed the connection", query_id=query_id)
        except EngineError as error:
            headers = {"X-ClickHouse-Exception-Code": str(error.code), "X-ClickHouse-Query-Id": query_id}
            if error.code == 516:
                headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
            await _plain(send, error.status, error.render(self._engine.version), headers)

    def _authenticate(self, request: Request) -> None:
        user, password = request.credentials()
        known = hmac.compare_digest(user.encode(), self._user.encode())
        if not (hmac.compare_digest(password.encode(), self._password.encode()) and known):
            raise EngineError(
                516,
                f"{user}: Authentication failed: password is incorrect, or there is no user with such name.",
                "AUTHENTICATION_FAILED",
            )

    async def _handle(self, request: Request, receive: Receive, send: Send) -> None:
        if request.path != "/":
            return await _plain(send, 404, f"There is no handle {request.path}\n", {})
        statement, rest = await _read_statement(request)
        if isinstance(statement, Query) and not statement.verb:
            if request.method in ("GET", "HEAD"):
                return await _plain(send, 200, "Ok.\n", {})
            raise EngineError(62, "Syntax error: empty query", "SYNTAX_ERROR")
        with contextlib.ExitStack() as stack:
            connection = await self._run(stack.enter_context, self._connection(request))
            if isinstance(statement, Insert):
                answer = await self._insert(connection, statement, rest, request)
                return await self._respond(send, request, answer)
            watch = asyncio.create_task(self._kill_when_gone(request, receive, statement))
            try:
                answer = await self._run(self._execute, connection, statement, request)
                await self._respond(send, request, answer)
            finally:
                watch.cancel()

    @contextlib.contextmanager
    def _connection(self, request: Request, session_id: str | None = None) -> Iterator[Connection]:
        """A connection prepared for this request; a session's one is given back as it was.

        ``session_id`` replaces the request's own one; "" is a connection without a session.
        """
        session = request.params.get("session_id", "") if session_id is None else session_id
        timeout = float(request.params.get("session_timeout") or 60)
        with self._engine.connection(session, timeout, request.flag("session_check")) as connection:
            settings = {"log_comment": request.query_id, **request.settings}
            settings.update({f"param_{name}": value for name, value in request.bind_params.items()})
            if request.method in ("GET", "HEAD"):
                settings.setdefault("readonly", "2")  # last in effect: a GET changes nothing
            if request.database:
                connection.use(request.database)
            readonly = settings.pop("readonly", None)
            connection.set(settings)
            for table in request.external:
                connection.query(f"CREATE OR REPLACE TEMPORARY TABLE `{table.name}` ({table.structure})")
                rows = connection.insert(f"INSERT INTO `{table.name}`", table.format)
                rows.append(table.data)
                rows.finish()
            if readonly:
                connection.set({"readonly": readonly})
            try:
                yield connection
            finally:
                if session:
                    names = [name for name in settings if not name.startswith("param_")]
                    connection.reset([*(["readonly"] if readonly else []), *names])

    async def _insert(
        self, connection: Connection, statement: Insert, body: AsyncIterator[bytes], request: Request
    ) -> _Answer:
        rows = await self._run(connection.insert, statement.sql, statement.format)
        try:
            async for piece in _pieces(body, _INSERT_PIECE):
                await self._run(rows.append, piece)
            written = await self._run(rows.finish)
        except BaseException:
            await asyncio.shield(self._run(rows.cancel))
            raise
        summary = {"written_rows": written.rows, "written_bytes": written.bytes}
        return _Answer(iter(()), request.default_format, summary)

    def _execute(self, connection: Connection, query: Query, request: Request) -> _Answer:
        """Run a statement up to its first block of output, so that most errors still get a status of their own."""
        sql = query.sql
        if query.verb == "KILL":
            sql = _QUERY_ID.sub("Settings['log_comment']", sql)
        elif connection.statements(sql) > 1:
            raise EngineError(62, "Multi-statements are not allowed", "SYNTAX_ERROR")
        output_format = query.format or request.default_format
        whole = request.flag("wait_end_of_query") or output_format.lower() not in STREAMABLE
        if query.selects and not whole:
            blocks = connection.stream(sql, output_format, request.bind_params)
            try:
                first = next(blocks, b"")
            except EngineError as error:
                if "Streaming query is not supported" not in error.text:
                    raise
            else:
                return self._with_zones(query, request, output_format, _chain(first, blocks))
        result = connection.query(sql, output_format, request.bind_params)
        answer = self._with_zones(query, request, output_format, iter((result.bytes(),)))
        answer.summary.update(
            read_rows=result.storage_rows_read(),
            read_bytes=result.storage_bytes_read(),
            written_rows=result.rows_written(),
            written_bytes=result.bytes_written(),
            result_rows=result.rows_read(),
        )
        return answer

    def _with_zones(
        self, query: Query, request: Request, output_format: str, output: Iterator[bytes]
    ) -> _Answer:
        """``output`` as an answer; in Native with the zones of its DateTime columns."""
        if not (query.selects and output_format.lower() == "native"):
            return _Answer(output, output_format)
        first = next(output, b"")
        blocks = _chain(first, output)
        types = self._result_types(query, request) if native.may_need_zones(first) else []
        return _Answer(
            native.restore_zones(blocks, types) if native.needs_zones(types) else blocks, output_format
        )

    def _result_types(self, query: Query, request: Request) -> list[str]:
        # On a connection of its own: a further statement on the request's one would end the query under way.
        try:
            with self._connection(request, session_id="") as connection:
                described = connection.query(f"DESCRIBE (\n{query.core}\n)", "JSONCompact")
        except EngineError:
            return []  # it reads a temporary table of its session: the column arrives without its zone
        return [row[1] for row in orjson.loads(described.bytes())["data"]]

    async def _respond(self, send: Send, request: Request, answer: _Answer) -> None:
        tag = secrets.token_hex(8)
        summary = {key: str(value) for key, value in answer.summary.items()}
        headers = {
            "Content-Type": _CONTENT_TYPES.get(answer.format, "application/octet-stream"),
            "X-ClickHouse-Query-Id": request.query_id,
            "X-ClickHouse-Format": answer.format,
            "X-ClickHouse-Timezone": request.params.get("session_timezone") or self._engine.timezone,
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
                block = _late_exception(error.render(self._engine.version), tag)
            return encoder.compress(block) if encoder and block is not None else block

        try:
            while (piece := await self._run(next_piece)) is not None:
                if piece:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": encoder.flush() if encoder else b""})
        finally:
            close = getattr(answer.output, "close", None)
            if close:
                await asyncio.shield(self._run(close))

    async def _kill_when_gone(self, request: Request, receive: Receive, query: Query) -> None:
        """ClickHouse's ``cancel_http_readonly_queries_on_client_close``: nobody is left to read the result."""
        while (await receive())["type"] != "http.disconnect":
            pass
        if query.selects:
            await self._run(self._engine.kill, request.query_id)

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


async def _read_statement(request: Request) -> tuple[Insert | Query, AsyncIterator[bytes]]:
    """The statement, from the ``query`` parameter, the body, or both, and the rest of the body."""
    given = request.params.get("query", "")
    head = given.encode() + b"\n" if given else b""
    body = aiter(request.body)
    while True:
        found = find_insert(head)
        if isinstance(found, Insert):
            return found, _rest(head[found.data_offset :], body)
        piece = await anext(body, None)
        if piece is None:
            break
        head += piece
        if (found is True and len(head) > MAX_STATEMENT_HEAD) or len(head) > _MAX_QUERY:
            raise EngineError(62, "Max query size exceeded", "SYNTAX_ERROR")
    try:
        return read_query(head.decode("utf-8")), body
    except UnicodeDecodeError as error:
        raise EngineError(62, f"Syntax error: the query is not UTF-8: {error}", "SYNTAX_ERROR") from error


async def _rest(first: bytes, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for piece in body:
        yield piece


async def _pieces(body: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The body in pieces of at least ``size`` bytes: each one costs a change of thread."""
    waiting = bytearray()
    async for piece in body:
        waiting += piece
        if len(waiting) >= size:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield first
        yield from rest
    finally:
        close = getattr(rest, "close", None)
        if close:
            close()


def _late_exception(text: str, tag: str) -> bytes:
    """An error after the first bytes were sent, in the form that clients look for at the end of a response."""
    body = text.encode()
    return b"__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (
        tag.encode(),
        body,
        len(body),
        tag.encode(),
    )


async def _plain(send: Send, status: int, text: str, headers: dict[str, str]) -> None:
    body = text.encode()
    headers = {"Content-Type": "text/plain; charset=UTF-8", "Content-Length": str(len(body)), **headers}
    await send({"type": "http.response.start", "status": status, "headers": _encode(headers)})
    await send({"type": "http.response.body", "body": body})


def _encode(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in headers.items()
    ]
