"""Ask for a JSON object, and once more, more strictly, if the answer is none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from agents.ports import Model, ModelAnswer
from agents.prompting import LONGEST, SHORTER
from agents.reading import is_refusal
from streams.core.errors import REFUSAL, TOO_LONG, AnswerError, RefusedError

T = TypeVar("T")

# As many as endpoints usually tell of.
MOST_LOGPROBS = 20
_THINKING_TOKENS = 2048


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
        self._logprobs = MOST_LOGPROBS if logprobs else 0
        self._thinking_tokens = 0

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
        completion = await self._model.complete(
            messages,
            schema=self._schema,
            max_tokens=max_tokens + extra,
            temperature=self._temperature,
            logprobs=self._logprobs,
            check=check,
            at_once=() if last else (AnswerError,),
        )
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
