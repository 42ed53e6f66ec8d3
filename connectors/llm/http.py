"""One endpoint over HTTP: httpx on aiohttp's connection pool, our errors only.

httpx's own pool spends tens of milliseconds of CPU a request at 64 in flight; aiohttp's does not. Requests
go straight to the transport: redirects, cookies and authentication flows, which are not wanted, are
httpx's client, and cost as much again.
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

from connectors.llm.errors import FOREIGN, from_status, translate
from streams.core.errors import ConfigurationError, RetryableError

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
_LARGEST_ANSWER = 16 * 2**20
_LOOK_AGAIN = 0.02


async def until_permitted(permitted: Callable[[], bool]) -> None:
    """Wait while ``permitted`` says no."""
    while not permitted():  # noqa: ASYNC110 - another thread's clock decides
        await asyncio.sleep(_LOOK_AGAIN)


class _Held(aiohttp.BytesPayload):
    """A body that is written once its sender may: the look is the last thing before the socket.

    Between a look in the caller and the write lie some turns of the event loop. A process that is stopped
    there would send, when it wakes, what another has long asked in its place. aiohttp keeps the headers
    back until it has the body.
    """

    def __init__(self, value: bytes, permitted: Callable[[], bool]) -> None:
        super().__init__(value)
        self._permitted = permitted

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await until_permitted(self._permitted)
        await super().write_with_length(writer, content_length)


class _Transport(AiohttpTransport):
    """httpx-aiohttp's transport for small answers: they are read whole, which saves a fifth of a request."""

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
                    if size > _LARGEST_ANSWER:
                        raise RetryableError(f"the endpoint's answer is larger than {_LARGEST_ANSWER} bytes")
            finally:
                response.release()  # closes the connection if something is left on it
        return httpx.Response(
            response.status, headers=response.raw_headers, stream=httpx.ByteStream(b"".join(chunks))
        )


class Http:
    """Requests to the endpoint at ``base_url``, and to no other place."""

    def __init__(
        self,
        base_url: str,
        *,
        setting: str,
        api_key: SecretStr | None,
        connections: int,
        ca_file: str | None,
    ) -> None:
        """``connections``: at most; ``setting``: the setting to be named where it cannot be reached.

        Raises:
            ConfigurationError: the key cannot be sent in a header.
        """
        self._base_url = base_url.rstrip("/")
        self._setting = setting
        self._secret = api_key.get_secret_value().strip() if api_key is not None else ""
        self._connections = connections
        self._ca_file = ca_file
        self._transport: _Transport | None = None
        # Nothing here decompresses: aiohttp would offer gzip by itself, and a gateway would take it.
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
        """Close the pool."""
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
        """The body of the answer to one request; ``path`` is joined to the base, or a whole URL. While
        ``permitted`` says no, the request's own body is not written.

        Raises:
            RetryableError, UnavailableError, OverloadedError, RefusedError, ConfigurationError, AccessError.
        """
        try:
            async with asyncio.timeout(seconds):
                status, headers, content = await self._once(method, path, body, permitted)
        except FOREIGN as error:
            raise translate(error, self._setting) from error
        if status != 200:
            text = self._without_secret(content[:2000].decode("utf-8", "replace"))
            raise from_status(status, headers, text, self._setting)
        return content

    async def _once(
        self, method: str, path: str, body: object, permitted: Callable[[], bool] | None
    ) -> tuple[int, httpx.Headers, bytes]:
        # The headers are the session's, and the body comes as a stream that was read: what httpx does to
        # make headers for a request costs a tenth of a call, and aiohttp makes its own.
        content = httpx.ByteStream(orjson.dumps(body) if body is not None else b"")
        extensions = {} if permitted is None else {"permitted": permitted}
        request = httpx.Request(method, self._url(path), stream=content, extensions=extensions)
        request.read()
        response = await self._open().handle_async_request(request)
        stream = response.stream  # as it came: nothing is asked for compressed, and nothing is decompressed
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
                # Nothing may leave the network by way of a proxy in the environment.
                trust_env=False,
            )
        return self._transport

    def _without_secret(self, text: str) -> str:
        return text.replace(self._secret, "***") if self._secret else text
