"""A client for one OpenAI-compatible endpoint, with retries, a limit of concurrent requests and time-outs."""

from __future__ import annotations

import copy
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pydantic import SecretStr

from connectors.llm.answer import Completion, likeliest
from connectors.llm.calls import Check, Failure, Patience
from connectors.llm.capabilities import Capabilities
from connectors.llm.endpoint import Endpoint
from connectors.llm.endpoints import Endpoints, place_of
from connectors.llm.errors import of_everyone, of_text
from connectors.llm.http import Http
from connectors.llm.limit import Limit, LimitState
from connectors.llm.request import Asked, ChoiceForm, RequestForm
from connectors.llm.server import Server, owner_of, server_at
from streams.core.context import resting
from streams.core.errors import (
    TOO_LONG,
    AnswerError,
    ConfigurationError,
    LabelstreamError,
    RefusedError,
    RetryableError,
)
from streams.core.settings import Settings
from streams.ports.spans import OnCall

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
# For finding out what one of several endpoints takes: it may go away meanwhile.
_ALONE_SECONDS = 30.0


class _Call(NamedTuple):
    """One of the calls for a text."""

    endpoint: Endpoint
    asked: Asked
    text: int
    first: bool
    check: Check | None
    at_once: tuple[type[LabelstreamError], ...]
    patience: Patience


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
        # Of each model, since it was asked whether its answers are held to them.
        self._options: dict[str, Sequence[str]] = {}

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
        self,
        *,
        permitted: Callable[[], bool],
        observe: Callable[[float], None] = lambda seconds: None,
        traced: OnCall | None = None,
    ) -> None:
        """``observe`` is called with the seconds of each answered request, ``traced`` with each that has
        ended. While ``permitted`` returns False, nothing is sent.
        """
        for one in self._endpoints.all:
            one.observe, one.permitted, one.traced = observe, permitted, traced

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
        if self._model is None:
            return ""
        told = {one.name: one.takes(self._model).told for one in self._endpoints.all}
        if len(set(told.values())) == 1:
            return next(iter(told.values()))
        return "; ".join(f"{name}: {form}" for name, form in told.items() if form)

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
        asked = Asked(messages, max_tokens, temperature, schema, choice, logprobs, choice_form, seed)
        patience, tries, against = Patience(lambda: self._patience, lambda: self.away), 0, 0.0
        text, tried = hash(messages[-1]["content"]), set[Endpoint]()
        enough = _GUILTY if patience.endless else _SUSPECTED
        reason: LabelstreamError | None = None
        while True:
            endpoint = await patience.within(self._endpoints.enter(model), or_else=reason)
            call = _Call(endpoint, asked, text, endpoint not in tried, check, at_once, patience)
            if not await self._knows_choice(call, model):
                continue  # it has left
            found = await self._ask(call, model)
            tried.add(endpoint)
            if isinstance(found, Completion):
                return found
            error, tries = found.error, tries + 1
            if _can_be_shortened(error, messages) or (isinstance(error, at_once) and not _is_too_long(error)):
                raise error
            await self._pause(endpoint, found, text, tries, patience)
            reason = self._reason(found)
            against += found.form.evidence.against(text, found.ended)
            if tries >= _LEAST_TRIES and against >= enough:
                raise of_text(error, tries) from error
            self.stats["retries"] += 1

    async def holds_choice(self, options: Sequence[str]) -> bool:
        """Whether answers are held to one of ``options``, in any form, and of several endpoints in the same.
        Tried once for each endpoint, with a question that none of them answers.

        Raises:
            as `complete`; RetryableError if the endpoint refuses every request.
        """
        model = await self.model()
        self._options[model] = options
        available = [one for one in self._endpoints.all if one.limit.available]
        for one in available or self._endpoints.all:
            try:
                await self._find_choice(one, model, options)
            except LabelstreamError:
                if self.away is not None or len(self._endpoints.all) == 1:
                    raise
        forms = {one.takes(model).choice for one in self._endpoints.all} - {None}
        return len(forms) == 1 and False not in forms

    async def _find_choice(self, endpoint: Endpoint, model: str, options: Sequence[str]) -> None:
        """Find out in which form one endpoint holds answers to a choice, if it is not known. If that fails,
        and there are others, it leaves.
        """
        takes = endpoint.takes(model)
        if takes.choice is not None:
            return
        if (away := endpoint.limit.away) is not None and len(self._endpoints.all) > 1:
            raise away
        alone = copy.copy(self)
        alone._endpoints, alone._options = self._endpoints.only(endpoint), {}
        if len(self._endpoints.all) > 1:
            alone._patience = min(self._patience, _ALONE_SECONDS)

        async def probe(form: ChoiceForm | None) -> ChoiceForm | None:
            after = form == "post_sampling_probs"
            answer = await alone.complete(
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

        try:
            await takes.find_choice(probe, await owner_of(endpoint.look, model))
        except LabelstreamError as error:
            if len(self._endpoints.all) > 1:
                endpoint.leave(error)
            raise

    def capabilities(self, model: str) -> Capabilities:
        """What is known of how the first endpoint takes requests for ``model``."""
        return self._endpoints.all[0].takes(model)

    async def server(self) -> Server:
        """The server that answers, as far as it tells."""
        return await server_at(self._endpoints.all[0].look, await self.model())

    async def _knows_choice(self, call: _Call, model: str) -> bool:
        """Whether the endpoint, in whose slot the call is, may be asked for a choice. Another server may
        answer since it was tried, or it has just come: then it is tried now. If that fails, it leaves.

        Raises:
            AnswerError: its answers are not held to a choice.
        """
        takes, options = call.endpoint.takes(model), self._options.get(model)
        if call.asked.choice is None or call.asked.choice_form is not None or options is None or takes.choice:
            return True
        call.endpoint.limit.left()
        try:
            await self._find_choice(call.endpoint, model, options)
        except LabelstreamError:
            if len(self._endpoints.all) == 1:
                raise
            return False
        if not takes.choice:
            raise AnswerError("the endpoint's answers are not held to a choice")
        await call.patience.within(call.endpoint.limit.enter())
        return True

    async def _ask(self, call: _Call, model: str) -> Completion | Failure:
        """One call in a slot that was entered, in the form that the endpoint takes; more of them, if that has
        to be found out.
        """
        endpoint, asked, takes = call.endpoint, call.asked, call.endpoint.takes(model)
        if asked.choice is not None and asked.choice_form is None:
            asked = asked._replace(choice_form=takes.choice or None)
        entered = True

        async def send(request: RequestForm, trial: bool) -> Completion | Failure:
            nonlocal entered
            if not entered:
                await call.patience.within(endpoint.limit.enter())
            entered = False
            last = AnswerError not in call.at_once
            return await endpoint.ask(
                endpoint.form(model, request, asked, call.check, last=last),
                request.body(model, asked),
                call.text,
                first=call.first,
                check=call.check,
                at_once=(*call.at_once, RefusedError) if trial else call.at_once,
            )

        found = await takes.ask(asked, send)
        sampled = call.asked.choice_form is None and asked.choice_form == "post_sampling_probs"
        if sampled and asked.choice is not None and isinstance(found, Completion):
            return likeliest(found, asked.choice)
        return found

    async def _pause(
        self, endpoint: Endpoint, found: Failure, text: int, tries: int, patience: Patience
    ) -> None:
        """Let others go first, without a slot, and see how they fare."""
        error = found.error
        pause = random.uniform(0.8, 1.2) * min(_FIRST_PAUSE * 2 ** min(tries - 1, 8), _LONGEST_PAUSE)
        after = error.after if isinstance(error, RetryableError) and error.after is not None else 0.0
        pause = max(pause, after)
        if not patience.lasts(pause):
            raise self._reason(found)
        with resting():
            await endpoint.limit.rest(pause)
            if tries > 1:  # most causes have passed by the first other try
                compared = endpoint.compare(found.form, text, found.ended)
                await patience.within(compared, or_else=self._reason(found))

    def _reason(self, found: Failure) -> LabelstreamError:
        """Why a call ends with the patience: the endpoint, the form of the requests, or what it met last."""
        return self.away or (of_everyone(found.error, self._setting) if found.form.said else found.error)


def _can_be_shortened(error: LabelstreamError, messages: Sequence[dict[str, str]]) -> bool:
    """Whether a text is too long and has a shorter form, in which the steps ask again."""
    return _is_too_long(error) and len(messages[-1]["content"]) > _SHORT_TEXT


def _is_too_long(error: LabelstreamError) -> bool:
    return isinstance(error, RefusedError) and error.reason == TOO_LONG
