"""A client for one OpenAI-compatible endpoint, with retries, a limit of concurrent requests and time-outs."""

from __future__ import annotations

import asyncio
import copy
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import SecretStr

from connectors.llm.answer import Completion, completion_in, json_in
from connectors.llm.errors import is_late
from connectors.llm.http import Http, until_permitted
from connectors.llm.limit import Limit, LimitState, Load
from connectors.llm.load import load_in, metrics_url
from streams.core.errors import (
    ConfigurationError,
    LabelstreamError,
    OverloadedError,
    RefusedError,
    RetryableError,
    UnavailableError,
)
from streams.core.settings import Settings

_TRIES = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 3.0
_ASIDE_SECONDS = 4.0  # for the list of models and the metrics
_NO_METRICS_SECONDS = 60.0


class ChatClient:
    """At most ``concurrency`` requests are in flight; a cancelled call frees its slot at once.

    While the endpoint is down, calls wait, and go on when it is back; no row is lost or rejected for it. A
    request that fails while others succeed raises an error after three tries.
    """

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
        patience_seconds: float = math.inf,
    ) -> None:
        """``patience_seconds``: the longest time of a call in all, before its last error is raised."""
        self.stats: Counter[str] = Counter()
        # Called with the seconds that each answered request took.
        self.observe: Callable[[float], None] = _unobserved
        self.concurrency = concurrency
        self._base_url = base_url
        self._model = model
        self._setting = setting
        self._timeout = timeout_seconds
        self._patience = patience_seconds
        self._http = Http(
            base_url, setting=setting, api_key=api_key, connections=concurrency + 8, ca_file=ca_file
        )
        self._no_metrics_until = 0.0
        # Asked before each request, and again right before it is written; while it returns False, nothing is
        # sent. In a worker it tells whether the lease is valid.
        self.permitted: Callable[[], bool] = lambda: True
        self.limit = Limit(concurrency, setting=setting, probe=self._reachable, load=self._load)

    @classmethod
    def from_settings(
        cls, settings: Settings, which: str, *, patience_seconds: float = math.inf
    ) -> ChatClient:
        """The client of the ``labeler`` or the ``augmenter``.

        Raises:
            ConfigurationError: there is no address.
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
            patience_seconds=patience_seconds,
        )

    @property
    def available(self) -> bool:
        """False while the endpoint is down: calls wait."""
        return self.limit.available

    def state(self) -> LimitState:
        """The state of the limit, for metrics and `status`."""
        return self.limit.state()

    async def close(self) -> None:
        """Close the connection pool."""
        await self.limit.close()
        await self._http.close()

    async def models(self) -> list[str]:
        """The names of the models that the endpoint serves. Raises our errors at once."""
        answer = json_in(await self._http.ask("GET", "/models", seconds=min(self._timeout, 10.0)))
        try:
            return [str(entry["id"]) for entry in answer["data"]]
        except (KeyError, TypeError) as error:
            raise RetryableError("the endpoint's list of models is not one") from error

    async def model(self) -> str:
        """The model in use: the configured one, or the only one that is served.

        Raises:
            ConfigurationError: several are served and none is configured.
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

    def asking(self, model: str) -> ChatClient:
        """A client for another model of the same endpoint, with the same limit and connection pool."""
        other = copy.copy(self)
        other._model = model
        return other

    async def complete(
        self,
        messages: Sequence[dict[str, str]],
        *,
        schema: dict[str, Any] | None = None,
        choice: Sequence[str] | None = None,
        max_tokens: int,
        temperature: float = 0.0,
        logprobs: int = 0,
        plain_json: bool = False,
    ) -> Completion:
        """One answer, restricted to ``schema`` or to one of ``choice`` if given. ``plain_json`` asks for any
        JSON object instead. ``logprobs``: number of alternatives for each token.

        Raises:
            RetryableError: it failed three times, while others succeeded.
            RefusedError: the endpoint refuses this request; raised at once.
            UnavailableError, OverloadedError, ConfigurationError: only when patience ends.
        """
        body: dict[str, Any] = {
            "model": self._model or await self.model(),
            "messages": messages,
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
        if choice is not None:
            body["structured_outputs"] = {"choice": choice}
        if logprobs:
            body["logprobs"] = True
            body["top_logprobs"] = logprobs
        return await self._persist(body)

    async def _persist(self, body: dict[str, Any]) -> Completion:
        began = time.monotonic()
        tries = blamed = 0
        answers = math.inf
        while True:
            completion = await self._once(body, began)
            if isinstance(completion, Completion):
                return completion
            error, tries = completion, tries + 1
            if not isinstance(error, (OverloadedError, ConfigurationError)):
                # Others were answered since its last failure: the endpoint is up, and fails on this request.
                blamed += self.limit.answers > answers
                answers = self.limit.answers
                if blamed >= _TRIES - 1:
                    raise error if type(error) is RetryableError else RetryableError(str(error)) from error
            pause = random.uniform(0, min(_FIRST_PAUSE * 4 ** min(tries - 1, 5), _LONGEST_PAUSE))
            after = error.after if isinstance(error, RetryableError) and error.after is not None else 0.0
            pause = max(pause, after)
            if time.monotonic() + pause - began > self._patience:
                raise error
            self.stats["retries"] += 1
            await self.limit.rest(pause)

    async def _once(self, body: dict[str, Any], began: float) -> Completion | LabelstreamError:
        """One request within the limit: an answer, or an error that may be temporary."""
        await self._enter(began)
        try:
            await until_permitted(self.permitted)  # before its time-out begins
            started = time.monotonic()
            self.stats["calls"] += 1
            content = await self._http.ask(
                "POST", "/chat/completions", body, seconds=self._timeout, permitted=self.permitted
            )
            completion = completion_in(content)
        except RefusedError:
            self.limit.refused()
            raise
        except (RetryableError, ConfigurationError) as error:
            self.stats["failures"] += 1
            self.limit.failed(error, late=is_late(error.__cause__))
            return error
        except BaseException:
            self.limit.left()
            raise
        self.limit.answered(started, completion.output_tokens)
        self.stats["output_tokens"] += completion.output_tokens
        self.stats["input_tokens"] += completion.input_tokens
        self.observe(time.monotonic() - started)
        return completion

    async def _enter(self, began: float) -> None:
        if math.isinf(self._patience):
            await self.limit.enter()
            return
        try:
            async with asyncio.timeout(max(0.0, self._patience - (time.monotonic() - began))):
                await self.limit.enter()
        except TimeoutError:
            raise self.limit.away or OverloadedError("no place at the endpoint came free in time") from None

    async def _reachable(self) -> bool:
        try:
            await self._http.ask("GET", "/models", seconds=_ASIDE_SECONDS)
        except ConfigurationError as error:
            # A wrong key, model or path: only a real request can show whether it was corrected.
            return "certificate" not in str(error)
        except UnavailableError:
            return False
        except LabelstreamError as error:
            return isinstance(error, RefusedError)
        return True

    async def _load(self) -> Load | None:
        if time.monotonic() < self._no_metrics_until:
            return None
        try:
            content = await self._http.ask("GET", metrics_url(self._base_url), seconds=_ASIDE_SECONDS)
            found = load_in(content.decode("utf-8", "replace"))
        except LabelstreamError as error:
            found = None
            if isinstance(error, RetryableError):
                return None
        if found is None:
            self._no_metrics_until = time.monotonic() + _NO_METRICS_SECONDS
        return found


def _unobserved(_: float) -> None:
    """The default: nothing is measured."""
