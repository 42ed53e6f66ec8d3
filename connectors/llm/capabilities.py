"""What one model of an endpoint takes: found out with the first refusals, and remembered."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import structlog

from streams.core.context import of_no_row
from streams.core.errors import TOO_LONG, AnswerError, RefusedError, RetryableError

log = structlog.get_logger()

T = TypeVar("T")

# How servers are told that the answer is one of several texts: vLLM, older vLLM, llama-server, SGLang.
# `post_sampling_probs` is the grammar of a llama-server that tells probabilities after it.
ChoiceForm = Literal["structured_outputs", "guided_choice", "grammar", "regex", "post_sampling_probs"]
CHOICE_FORMS: tuple[ChoiceForm, ...] = ("structured_outputs", "guided_choice", "grammar", "regex")
_BY_OWNER: dict[str, ChoiceForm] = {"llamacpp": "grammar", "sglang": "regex"}
# llama-server applies a grammar only if the token that it sampled does not fit: otherwise the probabilities
# are those before the grammar. With the options raised alike, they are always those among the options.
_RAISED = 100.0

Part = Literal["logprobs", "schema", "system", "tokens", "temperature"]
# In the order in which they are left out if the refusal names none of them.
_PARTS: tuple[Part, ...] = ("logprobs", "schema", "tokens", "temperature", "system")
# In the order in which parts that are named are left out: first those that cost nothing.
_LIGHT_FIRST: tuple[Part, ...] = ("tokens", "temperature", "system", "logprobs", "schema")
SYSTEM_ROLE = re.compile(
    r"system\W{0,2}\s*(?:role|message|prompt)|role\W+system|roles must alternate|only user and assistant",
    re.IGNORECASE,
)
_NAMES: dict[Part, re.Pattern[str]] = {
    "logprobs": re.compile("logprob", re.IGNORECASE),
    "schema": re.compile(
        "response_format|json_schema|json_object|schema|structured|guided|grammar", re.IGNORECASE
    ),
    "tokens": re.compile("max_tokens", re.IGNORECASE),
    "temperature": re.compile("temperature", re.IGNORECASE),
    "system": SYSTEM_ROLE,
}
_FEWER_LOGPROBS = {20: 5, 5: 0}
_QUIET_SECONDS = 10.0


@dataclass(frozen=True)
class Asked:
    """A request, whatever its form. ``logprobs``: the number of alternatives for each token.
    ``choice_form``: how it is held to ``choice``.
    """

    messages: Sequence[dict[str, str]]
    max_tokens: int
    temperature: float = 0.0
    schema: dict[str, Any] | None = None
    choice: Sequence[str] | None = None
    logprobs: int = 0
    choice_form: ChoiceForm | None = None
    seed: int | None = None

    @property
    def kind(self) -> tuple[bool, bool, bool]:
        """Requests of the same kind are taken or refused alike."""
        return self.schema is not None, self.choice is not None, self.logprobs > 0

    def names_choice(self, error: RefusedError) -> bool:
        """Whether a refusal names the field of the choice, which is never left out."""
        if self.choice_form == "post_sampling_probs":
            return any(name in str(error) for name in _choice(self.choice or (), self.choice_form))
        return self.choice_form is not None and self.choice_form in str(error)


@dataclass(frozen=True)
class RequestForm:
    """The optional parts of a request, and their names. ``logprobs``: the most alternatives that are told."""

    schema: Literal["json_schema", "json_object", "none"] = "json_schema"
    logprobs: int = 20
    tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: bool = True
    system: bool = True

    def body(self, model: str, asked: Asked) -> dict[str, Any]:
        """The request as JSON."""
        messages = asked.messages if self.system else _without_system(asked.messages)
        body: dict[str, Any] = {"model": model, "messages": messages, self.tokens: asked.max_tokens}
        if self.temperature:
            body["temperature"] = asked.temperature
        if asked.seed is not None:
            body["seed"] = asked.seed
        if asked.schema is not None and self.schema == "json_schema":
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": asked.schema},
            }
        elif asked.schema is not None and self.schema == "json_object":
            body["response_format"] = {"type": "json_object"}
        if asked.choice is not None:
            body |= _choice(asked.choice, asked.choice_form or CHOICE_FORMS[0])
        if asked.logprobs and self.logprobs:
            body["logprobs"] = True
            body["top_logprobs"] = min(asked.logprobs, self.logprobs)
        return body

    def uses(self, part: Part, asked: Asked) -> bool:
        """Whether the request has a part that may be left out."""
        return {
            "logprobs": bool(asked.logprobs and self.logprobs),
            "schema": asked.schema is not None and self.schema != "none",
            "system": self.system and any(one["role"] == "system" for one in asked.messages),
            "tokens": self.tokens == "max_tokens",
            "temperature": self.temperature,
        }[part]

    def without(self, part: Part) -> RequestForm:
        """With less of ``part``, or another name for it."""
        match part:
            case "logprobs":
                return replace(self, logprobs=_FEWER_LOGPROBS.get(self.logprobs, 0))
            case "schema":
                return replace(self, schema="json_object" if self.schema == "json_schema" else "none")
            case "system":
                return replace(self, system=False)
            case "tokens":
                return replace(self, tokens="max_completion_tokens")
            case "temperature":
                return replace(self, temperature=False)


# Tries a form of choice, or asks without one: the form to which the answer was held, None if it was not.
Probe = Callable[[ChoiceForm | None], Awaitable[ChoiceForm | None]]
# Sends a request in a form. On trial, a refusal is raised at once: another form may be taken.
Send = Callable[[RequestForm, bool], Awaitable[T]]


class Capabilities:
    """The form in which a model is asked. Nothing is left out until a request was refused with it, and
    accepted without it.
    """

    def __init__(self) -> None:
        self.form = RequestForm()
        # None: not tried. False: the model's answers are not held to a choice, in any form.
        self.choice: ChoiceForm | Literal[False] | None = None
        self._lock = asyncio.Lock()
        self._choosing = asyncio.Lock()
        self._taken: set[tuple[bool, bool, bool]] = set()
        self._quiet_until: dict[tuple[bool, bool, bool], float] = {}

    @property
    def told(self) -> str:
        """For a person: what requests hold. Empty until one was accepted."""
        if not self._taken:
            return ""
        form = self.form
        parts = [form.schema if form.schema != "none" else "no schema", f"{form.logprobs} logprobs"]
        parts += [f"choice as {self.choice}"] if self.choice else []
        parts += [form.tokens] if form.tokens != "max_tokens" else []
        parts += [] if form.temperature else ["no temperature"]
        parts += [] if form.system else ["no system role"]
        return ", ".join(parts)

    async def ask(self, asked: Asked, send: Send[T]) -> T:
        """The answer to a request, in a form that the endpoint takes.

        Raises:
            as ``send``; a RefusedError in every form is that of the usual form.
        """
        form, trial = self.form, self._on_trial(asked)
        try:
            return self._took(asked, await send(form, trial))
        except AnswerError:
            self._taken.add(asked.kind)  # it is taken, whatever the answer
            raise
        except RefusedError as error:
            if not trial or error.attempts > 1 or error.reason == TOO_LONG or asked.names_choice(error):
                raise
            refused = error
        async with self._lock:
            # Otherwise another request has found out meanwhile.
            if self.form == form and self._on_trial(asked):
                found = await self._try_others(asked, send, refused)
                if found is not None:
                    return found
        return self._took(asked, await send(self.form, False))

    async def find_choice(self, probe: Probe, owner: str) -> None:
        """Set ``choice``: ``probe`` tries a form, which is done once for each, or asks without one.
        ``owner``: `owned_by` in the endpoint's list of models.

        Raises:
            RetryableError: the endpoint refuses every request, so that this cannot be known now.
            as ``probe``, but for RefusedError.
        """
        async with self._choosing:
            if self.choice is None:
                first = _BY_OWNER.get(owner, CHOICE_FORMS[0])
                for form in sorted(CHOICE_FORMS, key=lambda form: form != first):
                    if (held := await _held(probe, form)) is not None:
                        self.choice = held
                        break
                else:
                    try:
                        await probe(None)
                    except RefusedError as error:
                        raise RetryableError(f"the endpoint refuses every request: {error}") from error
                    except AnswerError:
                        pass  # it is taken, whatever the answer
                    self.choice = False

    def _on_trial(self, asked: Asked) -> bool:
        return asked.kind not in self._taken and time.monotonic() >= self._quiet_until.get(asked.kind, 0.0)

    def _took(self, asked: Asked, answer: T) -> T:
        self._taken.add(asked.kind)
        return answer

    async def _try_others(self, asked: Asked, send: Send[T], refused: RefusedError) -> T | None:
        """The answer in another form, which is used from now on; None if all are refused."""
        others, form, why = _Others(self.form, asked), self.form, refused
        while (form := others.after(form, why)) is not None:  # type: ignore[assignment]
            try:
                answer = await send(form, True)
            except RefusedError as error:
                why = error
                continue
            except AnswerError:
                self._left_out(form, asked, refused)
                raise
            self._left_out(form, asked, refused)
            return answer
        # Others need not try them all again.
        self._quiet_until[asked.kind] = time.monotonic() + _QUIET_SECONDS
        return None

    def _left_out(self, form: RequestForm, asked: Asked, why: RefusedError) -> None:
        self._taken.add(asked.kind)
        self.form = form
        of_no_row(
            log.warning,
            "the endpoint refuses a part of the requests, which is left out from now on",
            why=str(why)[:200],
            **{name: getattr(form, name) for name in form.__dataclass_fields__},
        )


async def _held(probe: Probe, form: ChoiceForm) -> ChoiceForm | None:
    """``form`` if answers are held to it, with the probabilities after it if it is a grammar and they are
    told; None if they are not.
    """
    for tried in ("post_sampling_probs", form) if form == "grammar" else (form,):
        try:
            return await probe(tried)
        except (RefusedError, AnswerError, RetryableError) as error:
            # Some servers fail with a field that they do not know.
            if isinstance(error, RetryableError) and type(error) is not RetryableError:
                raise
            if form in str(error):
                break
    return None


class _Others:
    """Forms to try, one after the other: first without what a refusal names, then without each part, then
    without more and more of them.
    """

    def __init__(self, form: RequestForm, asked: Asked) -> None:
        self._asked = asked
        self._tried = {form}
        self._rest = _fewer(form, asked)

    def after(self, form: RequestForm, error: RefusedError) -> RequestForm | None:
        """The form to try after ``form`` was refused; None if there is none."""
        named = [
            form.without(part)
            for part in _LIGHT_FIRST
            if form.uses(part, self._asked) and _NAMES[part].search(str(error))
        ]
        for other in itertools.chain(named, self._rest):
            if other not in self._tried:
                self._tried.add(other)
                return other
        return None


def _fewer(form: RequestForm, asked: Asked) -> Iterator[RequestForm]:
    used = [part for part in _PARTS if form.uses(part, asked)]
    for part in used:
        yield form.without(part)
        yield _wholly_without(form, part, asked)
    for part in used:
        form = _wholly_without(form, part, asked)
        yield form


def _wholly_without(form: RequestForm, part: Part, asked: Asked) -> RequestForm:
    while form.uses(part, asked):
        form = form.without(part)
    return form


def _choice(options: Sequence[str], form: ChoiceForm) -> dict[str, Any]:
    match form:
        case "structured_outputs":
            return {"structured_outputs": {"choice": list(options)}}
        case "guided_choice":
            return {"guided_choice": list(options)}
        case "grammar":
            return {"grammar": "root ::= " + " | ".join(f'"{option}"' for option in options)}
        case "post_sampling_probs":
            # At temperature 0, or with the default samplers, all but the first option would have none.
            return _choice(options, "grammar") | {
                "post_sampling_probs": True,
                "temperature": 1.0,
                "samplers": ["temperature"],
                "mirostat": 0,
                "logit_bias": [[option, _RAISED] for option in options],
            }
        case "regex":
            return {"regex": "(" + "|".join(re.escape(option) for option in options) + ")"}


def _without_system(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """What the system message says, at the beginning of the user's."""
    said = "\n\n".join(one["content"] for one in messages if one["role"] == "system")
    rest = [one for one in messages if one["role"] != "system"]
    if said and rest:
        rest[0] = {**rest[0], "content": f"{said}\n\n{rest[0]['content']}"}
    return rest
