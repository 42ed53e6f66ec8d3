"""Ask for a JSON object: with a schema and with logprobs, if the endpoint supports them.

When an endpoint refuses a request, optional parts of it are left out one by one, for all later rows too.
Once a form of the request was accepted, a refusal concerns the row.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import structlog

from agents.ports import Model, ModelAnswer
from agents.prompting import LONGEST, SHORTER
from agents.reading import is_refusal
from streams.core.errors import REFUSAL, TOO_LONG, AnswerError, RefusedError

log = structlog.get_logger()

T = TypeVar("T")

_SCHEMA_WORDS = ("response_format", "json_schema", "json_object", "guided", "grammar", "schema", "structured")
_FEWER_LOGPROBS = {20: 5, 5: 0}
_THINKING_TOKENS = 2048


@dataclass(frozen=True)
class PromptForm:
    """The optional parts of a request, beside the messages."""

    hold: Literal["schema", "json", "nothing"]
    logprobs: int


_PLAINEST = PromptForm("nothing", 0)


async def ask_shorter(text: str, ask: Callable[[str, int], Awaitable[T]]) -> T:
    """The result of ``ask`` (text, how much of it), with less of the text if the model finds it too long.

    Raises:
        as ``ask``.
    """
    try:
        return await ask(text, LONGEST)
    except RefusedError as error:
        if error.reason != TOO_LONG or len(text) <= SHORTER:
            raise
        return await ask(text, SHORTER)


class JsonAsker:
    """Asks one model for objects of one schema."""

    def __init__(
        self, model: Model, schema: dict[str, Any], *, logprobs: bool = False, temperature: float = 0.0
    ) -> None:
        self._model = model
        self._schema = schema
        self._temperature = temperature
        self._form = PromptForm("schema", 20 if logprobs else 0)
        self._taken = False
        self._thinking_tokens = 0

    @property
    def form(self) -> PromptForm:
        """The form that the endpoint accepts, as far as is known."""
        return self._form

    async def ask(
        self,
        messages: Sequence[dict[str, str]],
        max_tokens: int,
        *,
        check: Callable[[ModelAnswer], None] | None = None,
        last: bool = True,
        cut_off: bool = False,
    ) -> ModelAnswer:
        """One answer. ``check`` as in `Model.complete`; ``last``: there is no other question to ask.
        ``cut_off``: the last answer for this row was truncated, so allow many more tokens.

        Raises:
            RefusedError: the endpoint refuses the row, and takes others.
            AnswerError: of ``check``, as far as the row is the reason; always, if not ``last``.
        """
        extra = _THINKING_TOKENS if cut_off else self._thinking_tokens
        while True:
            form = self._form
            # A form that was never accepted may be the reason of a refusal; then another one is tried.
            on_trial = not self._taken and form != _PLAINEST
            at_once = (*((RefusedError,) if on_trial else ()), *(() if last else (AnswerError,)))
            try:
                completion = await self._model.complete(
                    messages,
                    schema=self._schema if form.hold == "schema" else None,
                    plain_json=form.hold == "json",
                    max_tokens=max_tokens + extra,
                    temperature=self._temperature,
                    logprobs=form.logprobs,
                    check=check,
                    at_once=at_once,
                )
            except RefusedError as error:
                if not on_trial or error.attempts > 1 or error.reason == TOO_LONG:
                    raise
                if not self._taken:  # otherwise it was accepted for another row, and this one is asked again
                    self._give_way(form, str(error).lower())
                continue
            except AnswerError:
                self._taken = self._taken or form == self._form
                raise
            if form == self._form:
                self._taken = True
            if cut_off and completion.finish_reason != "length":
                self._thinking_tokens = _THINKING_TOKENS  # it thinks before it answers, and will do so again
            return completion

    async def ask_until_readable(
        self,
        prompts: Sequence[dict[str, str]],
        query: str,
        stricter: str,
        max_tokens: int,
        read: Callable[[ModelAnswer], T | None],
    ) -> T:
        """What ``read`` finds in the answer to ``query``; if that is None, asked again with ``stricter``.

        Raises:
            AnswerError: it is None again and again, and other rows' answers can be read. Its reason says
                whether the model refuses.
            RefusedError: as `ask`.
        """
        answer: ModelAnswer | None = None
        found: T | None = None

        def check(given: ModelAnswer) -> None:
            nonlocal answer, found
            answer, found = given, read(given)
            if found is None:
                refused = given.finish_reason == REFUSAL or is_refusal(given.text)
                raise AnswerError(
                    f"the model {'refuses' if refused else 'answered'}: {given.text[:300]!r}",
                    reason=REFUSAL if refused else None,
                )

        try:
            completion = await self.ask(
                [*prompts, {"role": "user", "content": query}], max_tokens, check=check, last=False
            )
        except AnswerError:
            # In the same message: Mistral's chat template refuses two user messages in a row.
            again = {"role": "user", "content": f"{query}\n\n{stricter}"}
            cut_off = answer is not None and answer.finish_reason == "length"
            try:
                completion = await self.ask([*prompts, again], max_tokens, check=check, cut_off=cut_off)
            except AnswerError as error:
                error.attempts += 1
                raise
        # A harmless text may have been checked since.
        result = found if answer is completion else read(completion)
        assert result is not None
        return result

    def _give_way(self, refused: PromptForm, why: str) -> None:
        """Leave out an optional part that this endpoint may not support."""
        if refused != self._form:
            return  # another row has met the same refusal
        fewer = replace(refused, logprobs=_FEWER_LOGPROBS.get(refused.logprobs, 0))
        looser = replace(refused, hold="json" if refused.hold == "schema" else "nothing")
        if refused.logprobs and "logprobs" in why:
            self._form = fewer
        elif refused.hold != "nothing" and any(word in why for word in _SCHEMA_WORDS):
            self._form = looser
        else:  # the refusal does not name the part
            self._form = replace(refused, logprobs=0) if refused.logprobs else looser
        log.warning(
            "the endpoint refuses a part of the request, which is left out",
            logprobs=self._form.logprobs,
            held_to=self._form.hold,
            why=why[:200],
        )
