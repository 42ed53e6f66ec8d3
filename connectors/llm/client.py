"""A client for one OpenAI-compatible endpoint, with retries, a limit of concurrent requests and time-outs."""

from __future__ import annotations

import asyncio
import copy
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeVar

from pydantic import SecretStr

from connectors.llm.answer import Completion, likeliest
from connectors.llm.capabilities import Asked, Capabilities, ChoiceForm, RequestForm
from connectors.llm.endpoint import Check, Endpoint, Failure, Form
from connectors.llm.endpoints import Endpoints, place_of
from connectors.llm.errors import of_text
from connectors.llm.http import Http
from connectors.llm.limit import Limit, LimitState
from connectors.llm.server import Server, owner_of, server_at
from streams.core.context import resting
from streams.core.errors import (
    TOO_LONG,
    AnswerError,
    ConfigurationError,
    LabelstreamError,
    OverloadedError,
    RefusedError,
    RetryableError,
)
from streams.core.settings import Settings

# A text is given up when its failures in a row have a smaller probability, if it fails like the others; see
# `evidence.py`. Who waits for the answer is told sooner: then nothing is lost by an error.
_GUILTY, _SUSPECTED = math.log(1e6), math.log(10)
_LEAST_TRIES = 3
# Pauses between tries: long enough for a passing cause to pass, and short enough that 15 tries, which 30 % of
# failures among the others may take, end within a minute.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 2.0
# The steps ask again with less of a longer text.
_SHORT_TEXT = 1500
# Of no label, and no row: for tries of what an endpoint takes and tells.
NEUTRAL_QUESTION = [{"role": "user", "content": "Сколько будет два плюс два? Ответь одной цифрой."}]


T = TypeVar("T")


class ChatClient:
    """At most ``concurrency`` requests are in flight; a cancelled call frees its slot at once.

    While the endpoint is down, or refuses every request, calls wait, and go on when it is back; no row is
    lost or rejected for it. A text that fails again and again while others are answered is given up.
    """

    def __init__(
        self,
        *,
        base_urls: Sequence[str],
        model: str | None,
        setting: str,
        api_key: SecretStr | None = None,
        concurrency: int = 64,
        timeout_seconds: float = 60.0,
        ca_file: str | None = None,
        patience_seconds: float = math.inf,
    ) -> None:
        """``patience_seconds``: the longest time of a call in all, before its last error is raised."""
        self.concurrency = concurrency * len(base_urls)
        self._model = model
        self._setting = setting
        self._timeout = timeout_seconds
        self._patience = patience_seconds
        self._endpoints = Endpoints(
            [
                Endpoint(
                    Http(url, setting=setting, api_key=api_key, connections=concurrency + 8, ca_file=ca_file),
                    base_url=url,
                    setting=setting,
                    concurrency=concurrency,
                    timeout_seconds=timeout_seconds,
                    name=place_of(url) if len(base_urls) > 1 else None,
                )
                for url in base_urls
            ],
            setting=setting,
        )
        self._capabilities: dict[str, Capabilities] = {}

    @classmethod
    def from_settings(
        cls, settings: Settings, which: str, *, patience_seconds: float = math.inf
    ) -> ChatClient:
        """The client of the ``labeler`` or the ``augmenter``.

        Raises:
            ConfigurationError: there is no address.
        """
        setting = f"LLM_{which.upper()}_API_BASE"
        base_urls = settings.api_bases(which)
        if not base_urls:
            raise ConfigurationError(
                f"{setting} is not set and the local stack does not run",
                setting=setting,
                fix="set it to your endpoint's URL, or start the local stack: labelstream local up",
            )
        return cls(
            base_urls=base_urls,
            model=getattr(settings, f"llm_{which}_model"),
            setting=setting,
            api_key=getattr(settings, f"llm_{which}_api_key"),
            concurrency=getattr(settings, f"llm_{which}_concurrency"),
            timeout_seconds=settings.llm_timeout_seconds,
            ca_file=str(settings.llm_ca_cert) if settings.llm_ca_cert else None,
            patience_seconds=patience_seconds,
        )

    @property
    def limit(self) -> Limit:
        """The slots of the first endpoint."""
        return self._endpoints.all[0].limit

    @property
    def stats(self) -> Counter[str]:
        """Counts of calls, failures, retries and tokens."""
        return self._endpoints.stats

    def watch(
        self, *, permitted: Callable[[], bool], observe: Callable[[float], None] = lambda seconds: None
    ) -> None:
        """``observe`` is called with the seconds of each answered request. While ``permitted`` returns False,
        nothing is sent.
        """
        for one in self._endpoints.all:
            one.observe, one.permitted = observe, permitted

    @property
    def available(self) -> bool:
        """False while the endpoint, or each of them, is down or refuses every request: calls wait."""
        return self._endpoints.away is None

    @property
    def away(self) -> LabelstreamError | None:
        """Why calls wait; None if they do not."""
        return self._endpoints.away

    @property
    def form(self) -> str:
        """What requests hold, as far as it was found out; empty before that."""
        return self.capabilities(self._model).told if self._model is not None else ""

    def state(self) -> LimitState:
        """The state of the limit, for metrics and `status`."""
        return self._endpoints.state()

    async def close(self) -> None:
        """Close the connection pools."""
        await self._endpoints.close()

    async def models(self) -> list[str]:
        """The names of the models that each endpoint serves. Raises our errors at once."""
        return await self._endpoints.models()

    async def model(self) -> str:
        """The model in use: the configured one, or the only one that is served.

        Raises:
            ConfigurationError: several are served and none is configured, or not every endpoint serves it.
        """
        if self._model is None or not self._endpoints.agreed:
            self._model = await self._endpoints.agree(self._model)
        return self._model

    async def agree(self) -> None:
        """Check that several endpoints serve the same model; nothing is asked of a single one.

        Raises:
            ConfigurationError: they do not.
            LabelstreamError: none of them answers.
        """
        if not self._endpoints.agreed:
            await self.model()

    def asking(self, model: str) -> ChatClient:
        """A client for another model of the same endpoints, with the same limits and connection pools."""
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
        seed: int | None = None,
        choice_form: ChoiceForm | None = None,
        check: Check | None = None,
        at_once: tuple[type[LabelstreamError], ...] = (),
    ) -> Completion:
        """One answer, restricted to ``schema`` or to one of ``choice`` if given. ``logprobs``: number of
        alternatives for each token. Parts that the endpoint does not take are left out. ``choice_form``: how
        it is held to ``choice``, if not as was found by `holds_choice`.

        ``check`` raises AnswerError for an answer that cannot be used. ``at_once``: errors that are raised at
        once, because the caller has another request to try.

        Raises:
            RefusedError, AnswerError: the reason is this text; always, if ``at_once`` has it.
            UnavailableError, OverloadedError, ConfigurationError: only when patience ends.
        """
        model = await self.model()
        takes = self.capabilities(model)
        form_of_choice = choice_form or takes.choice or None
        asked = Asked(messages, max_tokens, temperature, schema, choice, logprobs, form_of_choice, seed)

        async def send(form: RequestForm, trial: bool) -> Completion:
            return await self._persist(
                form.body(model, asked), check, (*at_once, RefusedError) if trial else at_once
            )

        found = await takes.ask(asked, send)
        if choice is not None and choice_form is None and form_of_choice == "post_sampling_probs":
            return likeliest(found, choice)
        return found

    async def holds_choice(self, options: Sequence[str]) -> bool:
        """Whether answers are held to one of ``options``, in any form, and of several endpoints in the same.
        Tried once, with a question that none of them answers.

        Raises:
            as `complete`; RetryableError if the endpoint refuses every request.
        """
        takes = self.capabilities(await self.model())
        if takes.choice is None:
            alone = self._each() if len(self._endpoints.all) > 1 else [self]
            forms = {await one._find_choice(options) for one in alone}
            takes.choice = forms.pop() if len(forms) == 1 else False
        return bool(takes.choice)

    async def _find_choice(self, options: Sequence[str]) -> ChoiceForm | Literal[False] | None:
        async def probe(form: ChoiceForm | None) -> ChoiceForm | None:
            after = form == "post_sampling_probs"
            answer = await self.complete(
                NEUTRAL_QUESTION,
                choice=options if form is not None else None,
                max_tokens=1,
                logprobs=len(options) if after else 0,
                choice_form=form,
                at_once=(RefusedError, AnswerError, RetryableError),
            )
            if answer.text.strip() not in options:
                return None
            told = any(token.after_sampling for token in answer.tokens or ())
            return "grammar" if after and not told else form

        model = await self.model()
        takes = self.capabilities(model)
        await takes.find_choice(probe, await owner_of(self._endpoints.all[0].look, model))
        return takes.choice

    def _each(self) -> list[ChatClient]:
        """A client for each endpoint that is available, which learns by itself what that one takes.

        Raises:
            LabelstreamError: none is.
        """
        if (away := self.away) is not None:
            raise away
        made = []
        for endpoint in self._endpoints.all:
            if endpoint.limit.available:
                made.append(copy.copy(self))
                made[-1]._endpoints, made[-1]._capabilities = self._endpoints.only(endpoint), {}
        return made

    def capabilities(self, model: str) -> Capabilities:
        """What is known of how the endpoint takes requests for ``model``."""
        return self._capabilities.setdefault(model, Capabilities())

    async def server(self) -> Server:
        """The server that answers, as far as it tells."""
        return await server_at(self._endpoints.all[0].look, await self.model())

    async def _persist(
        self, body: dict[str, Any], check: Check | None, at_once: tuple[type[LabelstreamError], ...]
    ) -> Completion:
        began, tries, against = time.monotonic(), 0, 0.0
        text, tried = hash(body["messages"][-1]["content"]), set[Endpoint]()
        enough = _GUILTY if math.isinf(self._patience) else _SUSPECTED
        while True:
            endpoint = await self._within(self._endpoints.enter(body["model"]), began)
            form = endpoint.form(body, check, last=AnswerError not in at_once)
            found = await endpoint.ask(
                form, body, text, first=endpoint not in tried, check=check, at_once=at_once
            )
            tried.add(endpoint)
            if isinstance(found, Completion):
                return found
            error, tries = found.error, tries + 1
            if _can_be_shortened(error, body) or (isinstance(error, at_once) and not _is_too_long(error)):
                raise error
            await self._pause(endpoint, form, text, found, tries, began)
            against += form.evidence.against(text, found.ended)
            if tries >= _LEAST_TRIES and against >= enough:
                raise of_text(error, tries) from error
            self.stats["retries"] += 1

    async def _pause(
        self, endpoint: Endpoint, form: Form, text: int, found: Failure, tries: int, began: float
    ) -> None:
        """Let others go first, without a slot, and see how they fare."""
        error = found.error
        pause = random.uniform(0.8, 1.2) * min(_FIRST_PAUSE * 2 ** min(tries - 1, 8), _LONGEST_PAUSE)
        after = error.after if isinstance(error, RetryableError) and error.after is not None else 0.0
        pause = max(pause, after)
        if time.monotonic() + pause - began > self._patience:
            raise self.away or error
        with resting():
            await endpoint.limit.rest(pause)
            if tries > 1:  # most causes have passed by the first other try
                await self._within(endpoint.compare(form, text, found.ended), began, or_else=error)

    async def _within(
        self, work: Awaitable[T], began: float, *, or_else: LabelstreamError | None = None
    ) -> T:
        """The result of ``work``, if it comes before patience ends.

        Raises:
            LabelstreamError: patience ended: ``or_else``, or why it had to wait.
        """
        if math.isinf(self._patience):
            return await work
        try:
            async with asyncio.timeout(max(0.0, self._patience - (time.monotonic() - began))):
                return await work
        except TimeoutError:
            late = OverloadedError("no place at the endpoint came free in time")
            raise (self.away or or_else or late) from None


def _can_be_shortened(error: LabelstreamError, body: dict[str, Any]) -> bool:
    """Whether a text is too long and has a shorter form, in which the steps ask again."""
    return _is_too_long(error) and len(body["messages"][-1]["content"]) > _SHORT_TEXT


def _is_too_long(error: LabelstreamError) -> bool:
    return isinstance(error, RefusedError) and error.reason == TOO_LONG
