"""The HTTP front, an ASGI application: ClickHouse's HTTP interface over the engine in this process."""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import orjson
import structlog

from connectors.local.clickhouse import native
from connectors.local.clickhouse.engine import Connection, Engine
from connectors.local.clickhouse.errors import EngineError
from connectors.local.clickhouse.inserts import Inserts, RowInsert
from connectors.local.clickhouse.request import (
    ClientGone,
    Message,
    Receive,
    Request,
    pieces,
    read_request,
    read_statement,
)
from connectors.local.clickhouse.response import Answer, Response, Send, plain, respond
from connectors.local.clickhouse.running import kill_queries, with_processes
from connectors.local.clickhouse.statement import STREAMABLE, Insert, Query

log = structlog.get_logger()

T = TypeVar("T")

_INSERT_PIECE = 1024 * 1024


class Front:
    """Serves ``engine`` to one user. At most ``threads`` statements run at once; others wait."""

    def __init__(self, engine: Engine, user: str = "default", password: str = "", threads: int = 64) -> None:
        self._engine = engine
        self._user = user
        self._password = password
        self._inserts = Inserts(engine.spool)
        self._running: set[str] = set()  # by the ids that clients gave
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
            return await plain(send, 200, "Ok.\n", {})
        query_id = ""
        try:
            request = await read_request(scope, receive)
            query_id = request.query_id
            self._authenticate(request)
            with self._only_one(query_id):
                await self._handle(request, receive, send)
        except ClientGone:
            log.info("client closed the connection", query_id=query_id)
        except EngineError as error:
            headers = {"X-ClickHouse-Exception-Code": str(error.code), "X-ClickHouse-Query-Id": query_id}
            if error.code == 516:
                headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
            await plain(send, error.status, error.render(self._engine.version), headers)

    @contextlib.contextmanager
    def _only_one(self, query_id: str) -> Iterator[None]:
        """A second statement with the id of one that still runs is refused."""
        if query_id in self._running:
            raise EngineError(
                216,
                f"Query with id = {query_id} is already running.",
                "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING",
            )
        self._running.add(query_id)
        try:
            yield
        finally:
            self._running.discard(query_id)

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
            await plain(send, 404, f"There is no handle {request.path}\n", {})
            return
        statement, rest = await read_statement(request)
        if isinstance(statement, Query) and not statement.verb:
            if request.method in ("GET", "HEAD"):
                await plain(send, 200, "Ok.\n", {})
                return
            raise EngineError(62, "Syntax error: empty query", "SYNTAX_ERROR")
        if isinstance(statement, Insert):
            end = await self._insert(statement, rest, request, send)
        else:
            end = await self._query(statement, request, receive, send)
        # The last bytes are sent only now: a client that has them may use the session again.
        await send({"type": "http.response.body", "body": end})

    async def _query(self, query: Query, request: Request, receive: Receive, send: Send) -> bytes:
        stack, closed = contextlib.ExitStack(), False
        watch = asyncio.create_task(self._kill_when_gone(request, receive, query))
        try:
            response = await self._run(self._begin, stack, query, request)
            closed = response.ended
            return await respond(send, response, self._run)
        finally:
            watch.cancel()
            if not closed:
                await asyncio.shield(self._run(stack.close))

    def _begin(self, stack: contextlib.ExitStack, query: Query, request: Request) -> Response:
        """Run a statement up to its first blocks, and to its end where these are all.

        In one call, because a switch of threads costs a good part of what a small query does.
        """
        connection = stack.enter_context(self._connection(request))
        response = Response(request, self._execute(connection, query, request), self._engine)
        stack.callback(response.close)
        response.read_ahead()
        if response.ended:
            stack.close()
        return response

    @contextlib.contextmanager
    def _connection(self, request: Request, session_id: str | None = None) -> Iterator[Connection]:
        """A connection prepared for this request; that of a session is returned in its former state.

        ``session_id`` replaces the request's own one; "" is a connection without a session.
        """
        session = request.params.get("session_id", "") if session_id is None else session_id
        timeout = float(request.params.get("session_timeout") or 60)
        with self._engine.connection(session, timeout, request.flag("session_check")) as connection:
            settings = {"log_comment": request.query_id, **request.settings}
            settings.update({f"param_{name}": value for name, value in request.bind_params.items()})
            if request.method in ("GET", "HEAD"):
                settings.setdefault("readonly", "2")  # a GET changes nothing
            if request.database:
                connection.use(request.database)
            readonly = {"readonly": settings.pop("readonly")} if "readonly" in settings else {}
            # A statement of its own only where rows of external tables, which it would refuse, come before.
            connection.set(settings if request.external else settings | readonly)
            for table in request.external:
                connection.query(f"CREATE OR REPLACE TEMPORARY TABLE `{table.name}` ({table.structure})")
                target = Insert(f"INSERT INTO `{table.name}`", "", table.format, 0)
                with RowInsert(request.query_id, target, self._engine.spool) as rows:
                    rows.append(table.data)
                    rows.store(connection)
            if request.external:
                connection.set(readonly)
            try:
                yield connection
            finally:
                if session:
                    names = [name for name in settings if not name.startswith("param_")]
                    connection.reset([*readonly, *names])

    async def _insert(
        self, statement: Insert, body: AsyncIterator[bytes], request: Request, send: Send
    ) -> bytes:
        stack = contextlib.ExitStack()
        try:
            connection = await self._run(stack.enter_context, self._connection(request))
            with self._inserts.begin(request.query_id, statement) as rows:
                async for piece in pieces(body, _INSERT_PIECE):
                    await self._run(rows.append, piece)
                written = await self._run(rows.store, connection)
            summary = {"written_rows": written.rows, "written_bytes": written.bytes}
            answer = Answer(iter(()), request.default_format, summary)
            return await respond(send, Response(request, answer, self._engine), self._run)
        finally:
            await asyncio.shield(self._run(stack.close))

    def _execute(self, connection: Connection, query: Query, request: Request) -> Answer:
        """Run a statement up to its first block of output, so that most errors still get an HTTP status of
        their own.
        """
        sql = with_processes(query.sql, self._inserts)
        output_format = query.format or request.default_format
        if query.kills:
            result = kill_queries(
                connection, query, request.query_id, request.bind_params, output_format, self._inserts
            )
            return Answer(iter((result.bytes(),)), output_format)
        if connection.statements(sql) > 1:
            raise EngineError(62, "Multi-statements are not allowed", "SYNTAX_ERROR")
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
    ) -> Answer:
        """``output`` as an answer; in Native format with the zones of its DateTime columns."""
        if not (query.selects and output_format.lower() == "native"):
            return Answer(output, output_format)
        first = next(output, b"")
        blocks = _chain(first, output)
        types = self._result_types(query, request) if native.may_need_zones(first) else []
        return Answer(
            native.restore_zones(blocks, types) if native.needs_zones(types) else blocks, output_format
        )

    def _result_types(self, query: Query, request: Request) -> list[str]:
        # On a connection of its own: another statement on the request's connection would end its query.
        try:
            with self._connection(request, session_id="") as connection:
                described = connection.query(f"DESCRIBE (\n{query.core}\n)", "JSONCompact")
        except EngineError:
            return []  # it reads a temporary table of its session: the column is sent without its zone
        return [row[1] for row in orjson.loads(described.bytes())["data"]]

    async def _kill_when_gone(self, request: Request, receive: Receive, query: Query) -> None:
        """``cancel_http_readonly_queries_on_client_close``: nobody is left to read the result."""
        while (await receive())["type"] != "http.disconnect":
            pass
        if query.selects:
            await self._run(self._engine.kill, request.query_id)

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield first
        yield from rest
    finally:
        close = getattr(rest, "close", None)
        if close:
            close()
