"""A request to a chat model as JSON, in the forms in which servers take it."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from streams.core.errors import RefusedError

# How servers are told that the answer is one of several texts: vLLM, older vLLM, llama-server, SGLang.
# `post_sampling_probs` is the grammar of a llama-server that tells probabilities after it.
ChoiceForm = Literal["structured_outputs", "guided_choice", "grammar", "regex", "post_sampling_probs"]
CHOICE_FORMS: tuple[ChoiceForm, ...] = ("structured_outputs", "guided_choice", "grammar", "regex")
# llama-server applies a grammar only if the token that it sampled does not fit: otherwise the probabilities
# are those before the grammar. With the options raised alike, they are always those among the options.
_RAISED = 100.0

# A harmless text, with a number so that no cache answers it.
_HARMLESS = "где мой заказ {number}"
SYSTEM_ROLE = re.compile(
    r"system\W{0,2}\s*(?:role|message|prompt)|role\W+system|roles must alternate|only user and assistant",
    re.IGNORECASE,
)
Part = Literal["logprobs", "schema", "system", "tokens", "temperature"]
_FEWER_LOGPROBS = {20: 5, 5: 0}


# A named tuple: a frozen dataclass takes four times as long to create.
class Asked(NamedTuple):
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

    @property
    def free(self) -> Asked:
        """The same, not held to a choice."""
        return self._replace(choice=None, choice_form=None)

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


def harmless(asked: Asked) -> tuple[Asked, int]:
    """``asked`` with a harmless text as its last message, and the number that identifies it."""
    text = _HARMLESS.format(number=random.randrange(10_000, 10_000_000))
    last = asked.messages[-1]
    _, query, _ = last["content"].rpartition("<query>\n")
    content = f'{query}"{text}"\n</query>' if query else text
    return asked._replace(messages=[*asked.messages[:-1], {**last, "content": content}]), hash(content)


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
