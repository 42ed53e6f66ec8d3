"""One endpoint over HTTP: httpx on aiohttp's connection pool; raises only our errors.

httpx's own pool takes tens of milliseconds of CPU for a request with 64 in flight; aiohttp's does not.
Requests go straight to the transport: httpx's client adds redirects, cookies and authentication, which are
not wanted, and costs as much again.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
import orjson
from aiohttp.abc import AbstractStreamWriter
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import map_aiohttp_exceptions
from pydantic import SecretStr
from yarl import URL

from connectors.llm.body import LARGEST, decompressed
from connectors.llm.errors import FOREIGN, from_status, translate
from streams.core.errors import ConfigurationError, RetryableError

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
_LOOK_AGAIN = 0.02


async def until_permitted(permitted: Callable[[], bool]) -> None:
    """Wait while ``permitted`` returns False."""
    while not permitted():  # noqa: ASYNC110 - another thread's clock decides
        await asyncio.sleep(_LOOK_AGAIN)


class _Held(aiohttp.BytesPayload):
    """A request body that is written only if its sender may write: the check is the last thing before the
    socket.

    Between a check by the caller and the write, the event loop runs some other callbacks. A process that is
    paused there would send a request, when it wakes, that another process has made long ago. aiohttp sends
    the headers together with the body.
    """

    def __init__(self, value: bytes, permitted: Callable[[], bool]) -> None:
        super().__init__(value)
        self._permitted = permitted

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await until_permitted(self._permitted)
        await super().write_with_length(writer, content_length)


class _Transport(AiohttpTransport):
    """httpx-aiohttp's transport for small answers: it reads them whole, which saves a fifth of a request's
    cost.
    """

    def __init__(self, session: Callable[[], aiohttp.ClientSession], **arguments: Any) -> None:
        super().__init__(client=session, **arguments)
        self._made = session
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._session is None:
            self.client = self._session = self._made()
        text = str(request.url)
        url = self._urls.get(text)
        if url is None:
            url = self._urls[text] = URL(text)
        content = request.content
        body: bytes | _Held | None = content or None
        if content and (permitted := request.extensions.get("permitted")) is not None:
            body = _Held(content, permitted)
        chunks, size = [], 0
        with map_aiohttp_exceptions():
            response = await self._session.request(
                request.method, url, data=body, allow_redirects=False, timeout=_TIMEOUT
            )
            try:
                while chunk := await response.content.readany():
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > LARGEST:
                        raise RetryableError(f"the endpoint's answer is larger than {LARGEST} bytes")
            finally:
                response.release()  # closes the connection if unread data is left
        return httpx.Response(
            response.status, headers=response.raw_headers, stream=httpx.ByteStream(b"".join(chunks))
        )


class Http:
    """Requests to the endpoint at ``base_url``, and to nothing else."""

    def __init__(
        self,
        base_url: str,
        *,
        setting: str,
        api_key: SecretStr | None,
        connections: int,
        ca_file: str | None,
    ) -> None:
        """``connections``: maximum number; ``setting``: named in errors when the endpoint cannot be reached.

        Raises:
            ConfigurationError: the key cannot be sent in a header.
        """
        self._base_url = base_url.rstrip("/")
        self._setting = setting
        self._secret = api_key.get_secret_value().strip() if api_key is not None else ""
        self._connections = connections
        self._ca_file = ca_file
        self._transport: _Transport | None = None
        # Small answers are not worth compressing. Some gateways compress all the same: see `decompressed`.
        self._headers = {
            "accept": "application/json",
            "accept-encoding": "identity",
            "content-type": "application/json",
        }
        if not (self._secret.isascii() and self._secret.isprintable()):
            name = setting.removesuffix("_API_BASE") + "_API_KEY"
            raise ConfigurationError(
                f"{name} holds characters that no key has", setting=name, fix="copy the key again"
            )
        if self._secret:
            self._headers["authorization"] = f"Bearer {self._secret}"
        self._urls: dict[str, httpx.URL] = {}

    async def close(self) -> None:
        """Close the connection pool."""
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        seconds: float,
        permitted: Callable[[], bool] | None = None,
    ) -> bytes:
        """The body of the answer to one request; ``path`` is relative to the base, or a whole URL. While
        ``permitted`` returns False, the request's body is not written.

        Raises:
            RetryableError, UnavailableError, OverloadedError, RefusedError, ConfigurationError, AccessError.
        """
        try:
            async with asyncio.timeout(seconds):
                status, headers, content = await self._once(method, path, body, permitted)
            # Some gateways decompress an answer, and leave the header.
            if content[:1] != b"{":
                content = decompressed(content, headers.get("content-encoding", ""))
        except FOREIGN as error:
            raise translate(error, self._setting) from error
        if self._secret:
            content = content.replace(self._secret.encode(), b"***")  # some servers quote it
        if not 200 <= status < 300:
            raise from_status(status, headers, content[:4000].decode("utf-8", "replace"), self._setting)
        return content

    async def _once(
        self, method: str, path: str, body: object, permitted: Callable[[], bool] | None
    ) -> tuple[int, httpx.Headers, bytes]:
        # The session sets the headers, and the body is a stream that was read. Building headers with httpx
        # costs a tenth of a call, and aiohttp builds its own.
        content = httpx.ByteStream(orjson.dumps(body) if body is not None else b"")
        extensions = {} if permitted is None else {"permitted": permitted}
        request = httpx.Request(method, self._url(path), stream=content, extensions=extensions)
        request.read()
        response = await self._open().handle_async_request(request)
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        return response.status_code, response.headers, b"".join([part async for part in stream])

    def _url(self, path: str) -> httpx.URL:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = httpx.URL(path if "://" in path else self._base_url + path)
        return url

    def _open(self) -> _Transport:
        if self._transport is None:
            context = ssl.create_default_context(cafile=self._ca_file)
            self._transport = _Transport(
                lambda: aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=self._connections, ssl=context),
                    headers=self._headers,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                    auto_decompress=False,
                ),
                verify=context,
                # No request may leave the network through a proxy from the environment.
                trust_env=False,
            )
        return self._transport
