"""One HTTP request to the front: parameters, credentials, settings, a body read piece by piece."""

import asyncio
import base64
import binascii
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from connectors.local.clickhouse.compression import Decoder
from connectors.local.clickhouse.errors import EngineError
from connectors.local.clickhouse.statement import MAX_STATEMENT_HEAD, Insert, Query, find_insert, read_query

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

# Parameters of the HTTP interface; every other one is a setting of the query.
_TRANSPORT = frozenset(
    {
        "query",
        "user",
        "password",
        "database",
        "default_format",
        "query_id",
        "quota_key",
        "role",
        "session_id",
        "session_timeout",
        "session_check",
        "close_session",
        "wait_end_of_query",
        "buffer_size",
        "stacktrace",
        "compress",
        "decompress",
        "client_protocol_version",
    }
)


_MAX_QUERY = 64 * 1024 * 1024
# ClickHouse's default of `http_max_field_value_size`.
_MAX_FIELD = 128 * 1024
# ClickHouse's default of `http_receive_timeout`, in seconds: a client has to send some of its body within
# this time.
_RECEIVE_SECONDS = 30.0


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


@dataclass(frozen=True, slots=True)
class ExternalTable:
    """Data that is sent with a query, which sees it as a table."""

    name: str
    structure: str
    format: str
    data: bytes


@dataclass(slots=True)
class Request:
    """``params`` merges the URL's parameters with the form's fields; ``headers`` has lower-case names."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: AsyncIterator[bytes]
    external: list[ExternalTable] = field(default_factory=list)

    @property
    def query_id(self) -> str:
        given = self.params.get("query_id")
        if not given:
            given = self.params["query_id"] = str(uuid.uuid4())
        return given

    @property
    def database(self) -> str:
        return self.params.get("database") or self.headers.get("x-clickhouse-database", "")

    @property
    def bind_params(self) -> dict[str, str]:
        """The values of ``{name:Type}`` placeholders, by name, escaped as in tab-separated text."""
        return {k.removeprefix("param_"): v for k, v in self.params.items() if k.startswith("param_")}

    @property
    def settings(self) -> dict[str, str]:
        of_tables = {
            f"{table.name}_{part}" for table in self.external for part in ("format", "structure", "types")
        }
        return {
            k: v
            for k, v in self.params.items()
            if k not in _TRANSPORT and k not in of_tables and not k.startswith("param_")
        }

    @property
    def default_format(self) -> str:
        return self.params.get("default_format") or self.headers.get("x-clickhouse-format") or "TabSeparated"

    def flag(self, name: str) -> bool:
        return self.params.get(name, "0").lower() in ("1", "true")

    def credentials(self) -> tuple[str, str]:
        """User and password: from headers, basic authentication or parameters; ``default`` without any."""
        if "x-clickhouse-user" in self.headers or "x-clickhouse-key" in self.headers:
            return self.headers.get("x-clickhouse-user") or "default", self.headers.get(
                "x-clickhouse-key", ""
            )
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                user, _, password = (
                    base64.b64decode(token.strip(), validate=True).decode("utf-8").partition(":")
                )
            except (binascii.Error, UnicodeDecodeError):
                return "", ""
            return user, password
        return self.params.get("user") or "default", self.params.get("password", "")


async def read_request(scope: MutableMapping[str, Any], receive: Receive) -> Request:
    """Parse the request; a multipart form is read whole, any other body is left to be streamed."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    query_string = scope["query_string"].decode("latin-1")
    params = dict(parse_qsl(query_string, keep_blank_values=True))
    decoder = Decoder(headers.get("content-encoding", "").strip().lower())
    body = _body(receive, decoder, float(params.get("http_receive_timeout") or _RECEIVE_SECONDS))
    request = Request(scope["method"], scope["path"], params, headers, body)
    content_type = headers.get("content-type", "")
    if content_type.lower().startswith("multipart/form-data"):
        whole = b"".join([piece async for piece in body])
        _read_form(request, whole, content_type)
        request.body = _nothing()
    return request


async def _body(receive: Receive, decoder: Decoder, seconds: float) -> AsyncIterator[bytes]:
    more = True
    while more:
        try:
            message = await asyncio.wait_for(receive(), seconds)
        except TimeoutError as error:
            raise EngineError(
                209, f"Timeout exceeded while reading from socket ({seconds:g} s)", "SOCKET_TIMEOUT"
            ) from error
        if message["type"] == "http.disconnect":
            raise ClientGone
        more = message.get("more_body", False)
        plain = decoder.decode(message.get("body", b""))
        if plain:
            yield plain
    decoder.finish()


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _read_form(request: Request, body: bytes, content_type: str) -> None:
    found = re.search(r'boundary="?([^";]+)"?', content_type)
    if not found:
        raise EngineError(36, "A multipart form without a boundary", "BAD_ARGUMENTS")
    files: list[tuple[str, bytes]] = []
    for part in (b"\r\n" + body).split(b"\r\n--" + found.group(1).encode("latin-1"))[1:]:
        head, separator, data = part.partition(b"\r\n\r\n")
        name = re.search(rb'(?<!file)name="([^"]*)"', head)
        if not separator or not name:
            continue  # the end of the form
        if re.search(rb"filename=", head):
            files.append((name.group(1).decode("utf-8"), data))
        else:
            if len(data) > _MAX_FIELD:
                raise EngineError(1000, "HTML Form Exception: Field value too long", "POCO_EXCEPTION")
            request.params[name.group(1).decode("utf-8")] = data.decode("utf-8")
    for table, data in files:
        request.external.append(_external_table(request.params, table, data))


def _external_table(params: dict[str, str], name: str, data: bytes) -> ExternalTable:
    structure = params.get(f"{name}_structure", "")
    if not structure:
        types = _split_types(params.get(f"{name}_types", ""))
        structure = ", ".join(f"_{number} {type_}" for number, type_ in enumerate(types, 1))
    if not structure:
        raise EngineError(
            36, f"External table {name} has neither {name}_structure nor {name}_types", "BAD_ARGUMENTS"
        )
    return ExternalTable(name, structure, params.get(f"{name}_format", "TabSeparated"), data)


def _split_types(types: str) -> list[str]:
    """Split at the commas outside of brackets: ``Array(Int8), Decimal(9, 2)`` are two types."""
    parts, depth = [""], 0
    for character in types:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


async def read_statement(request: Request) -> tuple[Insert | Query, AsyncIterator[bytes]]:
    """The statement, from the ``query`` parameter, the body, or both, and the rest of the body."""
    given = request.params.get("query", "")
    head = given.encode() + b"\n" if given else b""
    body = aiter(request.body)
    found: Insert | bool = True
    while True:
        if found is True:  # checking once is enough for a long SELECT
            found = find_insert(head[:MAX_STATEMENT_HEAD])
        if isinstance(found, Insert):
            return found, _rest(head[found.data_offset :], body)
        if (found is True and len(head) > MAX_STATEMENT_HEAD) or len(head) > _MAX_QUERY:
            raise EngineError(62, "Max query size exceeded", "SYNTAX_ERROR")
        piece = await anext(body, None)
        if piece is None:
            break
        head += piece
    try:
        return read_query(head.decode("utf-8")), body
    except UnicodeDecodeError as error:
        raise EngineError(62, f"Syntax error: the query is not UTF-8: {error}", "SYNTAX_ERROR") from error


async def _rest(first: bytes, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for piece in body:
        yield piece


async def pieces(body: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The body in pieces of at least ``size`` bytes, because each piece costs a switch of threads."""
    waiting = bytearray()
    async for piece in body:
        waiting += piece
        if len(waiting) >= size:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)
