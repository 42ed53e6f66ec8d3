"""A client for one OpenAI-compatible endpoint: httpx on aiohttp's connection pool.

httpx's own pool spends tens of milliseconds of CPU a request at 64 in flight; aiohttp's does not.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport
from pydantic import SecretStr

from connectors.llm.errors import from_status, translate
from streams.errors import ConfigurationError, LabelstreamError, RetryableError
from streams.settings import Settings

_TRIES = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 3.0


@dataclass(frozen=True)
class TokenChance:
    """A token of the answer, its log probability, and those of the tokens that might have stood there."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Completion:
    """An answer. ``tokens`` is None where the endpoint gives no logprobs."""

    text: str
    model: str
    finish_reason: str
    tokens: tuple[TokenChance, ...] | None
    output_tokens: int


class ChatClient:
    """At most ``concurrency`` requests are in flight; a cancelled call frees its place at once."""

    def __init__(
        self,
        *,
        base_url: str,
        model: str | None,
        setting: str,
        api_key: SecretStr | None = None,
        concurrency: int = 64,
        timeout_seconds: float = 60.0,
        ca_file: str | None = None,
    ) -> None:
        self.stats: Counter[str] = Counter()
        self.concurrency = concurrency
        self._base_url = base_url.rstrip("/")
        self._model = model
        self._setting = setting
        self._api_key = api_key
        self._timeout = timeout_seconds
        self._ca_file = ca_file
        self._places = asyncio.Semaphore(concurrency)
        self._http: httpx.AsyncClient | None = None

    @classmethod
    def from_settings(cls, settings: Settings, which: str) -> ChatClient:
        """The client of the ``labeler`` or the ``augmenter``.

        Raises:
            ConfigurationError: no address.
        """
        setting = f"LLM_{which.upper()}_API_BASE"
        base_url = getattr(settings, f"llm_{which}_api_base")
        if not base_url:
            raise ConfigurationError(
                f"{setting} is not set and the local stack does not run",
                setting=setting,
                fix="set it to your endpoint's URL, or start the local stack: labelstream local up",
            )
        return cls(
            base_url=base_url,
            model=getattr(settings, f"llm_{which}_model"),
            setting=setting,
            api_key=getattr(settings, f"llm_{which}_api_key"),
            concurrency=getattr(settings, f"llm_{which}_concurrency"),
            timeout_seconds=settings.llm_timeout_seconds,
            ca_file=str(settings.llm_ca_cert) if settings.llm_ca_cert else None,
        )

    async def close(self) -> None:
        """Close the pool."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def models(self) -> list[str]:
        """The names that the endpoint offers."""
        answer = await self._request("GET", "/models", None)
        try:
            return [str(entry["id"]) for entry in answer["data"]]
        except (KeyError, TypeError) as error:
            raise RetryableError("the endpoint's list of models is not one") from error

    async def model(self) -> str:
        """The model in use: the one that is set, or the only one that is offered.

        Raises:
            ConfigurationError: several are offered and none is set.
        """
        if self._model is None:
            offered = await self.models()
            if len(offered) != 1:
                name = self._setting.replace("_API_BASE", "_MODEL")
                raise ConfigurationError(
                    f"the endpoint offers {len(offered)} models: {', '.join(offered) or 'none'}",
                    setting=name,
                    fix=f"set {name} to one of them",
                )
            self._model = offered[0]
        return self._model

    async def complete(
        self,
        messages: Sequence[dict[str, str]],
        *,
        schema: dict[str, Any] | None,
        max_tokens: int,
        temperature: float = 0.0,
        logprobs: bool = False,
        plain_json: bool = False,
    ) -> Completion:
        """One answer, held to ``schema`` if given; ``plain_json`` asks for any JSON object instead.

        Raises:
            RetryableError: after three tries; RefusedError, ConfigurationError at once.
        """
        body: dict[str, Any] = {
            "model": await self.model(),
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        if schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema},
            }
        elif plain_json:
            body["response_format"] = {"type": "json_object"}
        if logprobs:
            body |= {"logprobs": True, "top_logprobs": 20}
        answer = await self._request("POST", "/chat/completions", body)
        try:
            completion = _completion(answer)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise RetryableError(f"the endpoint's answer is not a completion: {str(answer)[:200]}") from error
        self.stats["output_tokens"] += completion.output_tokens
        return completion

    async def _request(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        async with self._places:
            for attempt in range(_TRIES):
                try:
                    self.stats["calls"] += 1
                    return await self._once(method, path, body)
                except RetryableError as error:
                    self.stats["failures"] += 1
                    if attempt == _TRIES - 1:
                        raise
                    pause = random.uniform(0, min(_FIRST_PAUSE * 4**attempt, _LONGEST_PAUSE))
                    if error.after is not None and error.after > _LONGEST_PAUSE:
                        raise
                    self.stats["retries"] += 1
                    await asyncio.sleep(max(pause, error.after or 0.0))
        raise AssertionError("unreachable")

    async def _once(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        try:
            response = await self._client().request(
                method,
                self._base_url + path,
                content=orjson.dumps(body) if body is not None else None,
                headers={"content-type": "application/json"},
            )
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise translate(error, self._setting) from error
        if response.status_code != 200:
            raise from_status(response, self._setting)
        try:
            return orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise RetryableError("the endpoint's answer is cut off or not JSON") from error

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            context = ssl.create_default_context(cafile=self._ca_file)
            transport = AiohttpTransport(
                client=lambda: aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=self.concurrency + 8, ssl=context),
                    # Nothing may leave the network by way of a proxy in the environment.
                    trust_env=False,
                    auto_decompress=False,
                )
            )
            headers = {}
            if self._api_key is not None:
                headers["authorization"] = f"Bearer {self._api_key.get_secret_value()}"
            self._http = httpx.AsyncClient(
                transport=transport,
                trust_env=False,
                headers=headers,
                timeout=httpx.Timeout(self._timeout, connect=5.0, pool=None),
            )
        return self._http


def _completion(answer: dict[str, Any]) -> Completion:
    choice = answer["choices"][0]
    usage = answer.get("usage") or {}
    return Completion(
        text=choice["message"]["content"] or "",
        model=str(answer.get("model", "")),
        finish_reason=str(choice.get("finish_reason") or ""),
        tokens=_tokens(choice.get("logprobs")),
        output_tokens=int(usage.get("completion_tokens") or 0),
    )


def _tokens(logprobs: Any) -> tuple[TokenChance, ...] | None:
    if not isinstance(logprobs, dict) or not isinstance(logprobs.get("content"), list):
        return None
    tokens = tuple(
        TokenChance(
            str(entry["token"]),
            float(entry["logprob"]),
            tuple((str(top["token"]), float(top["logprob"])) for top in entry.get("top_logprobs") or []),
        )
        for entry in logprobs["content"]
    )
    return tokens or None


def is_suspect(error: LabelstreamError) -> bool:
    """Whether the endpoint answered, and failed on this very request."""
    return type(error) is RetryableError
