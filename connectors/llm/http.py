"""One endpoint over HTTP, by aiohttp; raises only our errors.

httpx's own pool takes tens of milliseconds of CPU for a request with 64 in flight, and its requests and
responses on aiohttp's connections a fifth of what a call costs.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping

import aiohttp
import orjson
from aiohttp.abc import AbstractStreamWriter
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
        self._session: aiohttp.ClientSession | None = None
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
        self._urls: dict[str, URL] = {}

    async def close(self) -> None:
        """Close the connection pool."""
        if self._session is not None:
            await self._session.close()
            self._session = None

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
    ) -> tuple[int, Mapping[str, str], bytes]:
        content = orjson.dumps(body) if body is not None else None
        data = content if content is None or permitted is None else _Held(content, permitted)
        chunks, size = [], 0
        response = await self._open().request(
            method, self._url(path), data=data, allow_redirects=False, timeout=_TIMEOUT
        )
        try:
            while chunk := await response.content.readany():
                chunks.append(chunk)
                size += len(chunk)
                if size > LARGEST:
                    raise RetryableError(f"the endpoint's answer is larger than {LARGEST} bytes")
        finally:
            response.release()  # closes the connection if unread data is left
        return response.status, response.headers, b"".join(chunks)

    def _url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:
            text = path if "://" in path else self._base_url + path
            try:
                url = self._urls[path] = URL(text)
            except ValueError as error:
                raise aiohttp.InvalidURL(text, str(error)) from error
        return url

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = ssl.create_default_context(cafile=self._ca_file)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=context),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                # No request may leave the network through a proxy from the environment.
                trust_env=False,
                auto_decompress=False,
            )
        return self._session
