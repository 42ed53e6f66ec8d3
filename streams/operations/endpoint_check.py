"""`labelstream check --endpoint`: what the models' endpoints take and tell, and what is made of it."""

from __future__ import annotations

import asyncio
import math
import string
import time
from dataclasses import dataclass
from typing import Any

from agents.distribution import letter_in
from agents.prompting import LONGEST, parse_answer
from agents.reading import without_thoughts
from agents.taxonomy import load_taxonomy
from connectors.llm.answer import Completion, TokenChance
from connectors.llm.client import NEUTRAL_QUESTION, ChatClient
from connectors.llm.endpoints import place_of
from connectors.llm.server import Server
from streams.core.errors import AnswerError, LabelstreamError, RefusedError
from streams.core.settings import Settings
from streams.operations.finding import Finding

MODELS = ("labeler", "augmenter")
# Of roles that do not ask both. The API labels texts and names versions.
MODELS_OF: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("poller", "sink", "fetcher", "trainer"), ()),
    "api": ("labeler",),
}
_PATIENCE_SECONDS = 60.0
_GREEK = ("alpha", "beta", "gamma")
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": list(_GREEK)}},
    "required": ["label"],
    "additionalProperties": False,
}
_LETTERS = list(string.ascii_uppercase[:12])
_MOST_AT_A_TIME = 8
# More of the probability than this on tokens that the answer is not held to: it was taken before that.
_OUTSIDE = 0.05


@dataclass
class _Seen:
    """What the tries of one endpoint have shown so far."""

    held: bool = False
    choice: bool = False
    told: int = 0
    before: bool = False
    thinks: bool = False


async def check_endpoints(settings: Settings, role: str = "") -> list[Finding]:
    """Try each endpoint of the labelling and of the augmenting model; one with one model is tried once.
    ``role``: only those that it asks.
    """
    findings: list[Finding] = []
    tried = set()
    asked_models = MODELS_OF.get(role, MODELS)
    if not asked_models:
        return [Finding("endpoints", True, f"the role {role} asks no model")]
    for which in asked_models:
        bases: list[str | None] = [*settings.api_bases(which)] or [None]
        for base in bases:
            asked = base, getattr(settings, f"llm_{which}_model")
            if asked not in tried:
                tried.add(asked)
                one = settings.model_copy(update={f"llm_{which}_api_base": base})
                name = f"{which} endpoint" + (f" {place_of(base)}" if base and len(bases) > 1 else "")
                findings += await _Trial(one, which, name).run()
    return findings


class _Trial:
    """The tries of one endpoint and model."""

    def __init__(self, settings: Settings, which: str, name: str) -> None:
        self._settings = settings
        self._name = name
        self._which = which
        self._prefix = f"LLM_{which.upper()}"
        self._seen = _Seen()
        self._findings: list[Finding] = []

    async def run(self) -> list[Finding]:
        """Every try; if the endpoint does not answer, the first one says why."""
        client: ChatClient | None = None
        try:
            client = self._client()
            for attempt in (
                self._server,
                self._form,
                self._schema,
                self._choice,
                self._logprobs,
                self._stable,
                self._at_a_time,
                self._longest,
                self._use,
            ):
                await attempt(client)
        except LabelstreamError as error:
            setting = getattr(error, "setting", "") or f"{self._prefix}_API_BASE"
            self._say("answers", str(error), setting, getattr(error, "fix", ""), ok=False)
        finally:
            if client is not None:
                await client.close()
        return self._findings

    def _client(self) -> ChatClient:
        return ChatClient.from_settings(self._settings, self._which, patience_seconds=_PATIENCE_SECONDS)

    def _say(self, name: str, message: str, setting: str = "", fix: str = "", *, ok: bool = True) -> None:
        self._findings.append(Finding(f"{self._name}, {name}", ok, message, setting, fix))

    async def _server(self, client: ChatClient) -> None:
        model = await client.model()
        self._found: Server = await client.server()
        parts = [f"{self._found.name} {self._found.version or '(version not told)'}", f"model {model}"]
        if self._found.context is not None:
            parts.append(f"{self._found.context} tokens of context")
        if self._found.slots is not None:
            parts.append(f"{self._found.slots} slots")
        self._say("server", ", ".join(parts))

    async def _form(self, client: ChatClient) -> None:
        """The first request finds out what is taken."""
        self._answer = await client.complete(
            [{"role": "system", "content": "Отвечай одним объектом JSON."}, *NEUTRAL_QUESTION],
            schema=_SCHEMA,
            max_tokens=64,
            logprobs=20,
        )
        form = client.capabilities(await client.model()).form
        left = [
            *(["the system role"] if not form.system else []),
            *(["temperature"] if not form.temperature else []),
            *(["max_tokens (max_completion_tokens is sent)"] if form.tokens != "max_tokens" else []),
            *(["json_schema"] if form.schema != "json_schema" else []),
            *(["json_object"] if form.schema == "none" else []),
            *(["logprobs"] if not form.logprobs else []),
        ]
        self._say("requests", f"left out: {', '.join(left)}" if left else "taken as they are")

    async def _schema(self, client: ChatClient) -> None:
        text = self._answer.text
        self._seen.thinks = without_thoughts(text) != text.strip() or (
            not text.strip() and self._answer.finish_reason == "length"
        )
        self._seen.held = parse_answer(text, "label") in _GREEK
        if self._seen.held:
            self._say("schema", "answers are held to a JSON schema and its enum")
        else:
            self._say(
                "schema",
                f"an answer was not held to the schema: {text[:80]!r}; each wrong one is asked for again",
                fix="serve the model with structured outputs, or use a server that has them",
            )
        thinking = (
            "the model thinks before it answers: answers take longer, and logprobs may be those of thoughts"
        )
        advice = "turn thinking off: in the chat template (enable_thinking) or at the server's start"
        if self._seen.thinks:
            self._say("thinking", thinking, fix=advice)
        else:
            self._say("thinking", "none in the answer")

    async def _choice(self, client: ChatClient) -> None:
        self._seen.choice = await client.holds_choice(_LETTERS)
        form = client.capabilities(await client.model()).choice
        if self._seen.choice:
            self._say("choice", f"answers are held to one letter, asked for as {form}")
        else:
            self._say("choice", "answers are not held to one letter in any form; the mode choice is not used")

    async def _logprobs(self, client: ChatClient) -> None:
        answer = self._answer
        if self._seen.choice:
            answer = await client.complete(NEUTRAL_QUESTION, choice=_LETTERS, max_tokens=1, logprobs=20)
        tokens = answer.tokens or ()
        self._seen.told = max((_number_told(token) for token in tokens), default=0)
        if not self._seen.told:
            self._say(
                "logprobs",
                "none are told: labels have no confidence",
                fix="turn them on at the server or its gateway, for labels with a confidence",
            )
            return
        self._seen.before = self._seen.choice and _outside(answer) > _OUTSIDE
        message = f"{self._seen.told} alternatives a token"
        fix = ""
        if self._seen.choice:
            message += ", taken " + ("before" if self._seen.before else "after") + " the choice is applied"
        if self._seen.before:
            message += ": the confidence is low where the model would rather write something else"
            fix = "vLLM: --logprobs-mode processed_logprobs" if self._found.name == "vLLM" else ""
        labels = len(load_taxonomy(self._settings.taxonomy_path).names)
        if self._seen.told < min(labels, 20):
            message += f"; of {labels} labels not all can be told"
            fix = fix or "allow 20 (vLLM: --max-logprobs 20)"
        self._say("logprobs", message, fix=fix)

    async def _stable(self, client: ChatClient) -> None:
        answers, seed = [], 1 if await self._takes_seed(client) else None
        for _ in range(2):
            answers.append(
                await client.complete(NEUTRAL_QUESTION, schema=_SCHEMA, max_tokens=64, logprobs=20, seed=seed)
            )
        same = answers[0].text == answers[1].text
        apart = _apart(*answers)
        if same and (apart is None or apart < 1e-3):
            self._say("the same text twice", "gets the same answer")
        elif same:
            self._say("the same text twice", f"gets the same answer, with probabilities {apart:.3f} apart")
        else:
            self._say(
                "the same text twice",
                "gets different answers at temperature 0: labels of equal texts may differ",
            )
        taken = client.capabilities(await client.model()).form.temperature
        words = "0 is taken" if taken else "only the model's own is taken"
        self._say("temperature and seed", f"{words}, a seed is {'taken' if seed else 'refused'}")

    async def _takes_seed(self, client: ChatClient) -> bool:
        try:
            await client.complete(NEUTRAL_QUESTION, max_tokens=1, seed=1, at_once=(RefusedError,))
        except RefusedError:
            return False
        except AnswerError:
            pass  # it is taken, whatever the answer
        return True

    async def _at_a_time(self, client: ChatClient) -> None:
        """Calls at a time, from clients of their own: one client begins with few."""
        clients = [self._client() for _ in range(_MOST_AT_A_TIME)]
        try:
            await asyncio.gather(*(one.models() for one in clients))  # connect
            alone = await _seconds(clients[0])
            began = time.monotonic()
            await asyncio.gather(*(_seconds(one) for one in clients))
            together = time.monotonic() - began
        finally:
            for one in clients:
                await one.close()
        gain = _MOST_AT_A_TIME * alone / together if together else 1.0
        self._say(
            "parallel calls",
            f"one took {alone:.2f} s, {_MOST_AT_A_TIME} together {together:.2f} s: {gain:.1f} times the rate",
        )

    async def _longest(self, client: ChatClient) -> None:
        taxonomy = load_taxonomy(self._settings.taxonomy_path)
        prompt = [
            {"role": "system", "content": taxonomy.as_prompt()},
            {"role": "user", "content": "длинный запрос " * (LONGEST // 15)},
        ]
        characters = sum(len(one["content"]) for one in prompt)
        try:
            answer = await client.complete(prompt, max_tokens=1)
        except RefusedError as error:
            self._say(
                "longest prompt",
                f"{characters} characters are too many, such texts are shortened to 1000: {error}",
                fix="give the server a longer context",
            )
            return
        tokens = f", {answer.input_tokens} tokens" if answer.input_tokens else ""
        self._say("longest prompt", f"{characters} characters{tokens} are taken")

    async def _use(self, client: ChatClient) -> None:
        if self._which != "labeler":
            return
        wanted, mode = self._settings.llm_labeler_mode, "json"
        if wanted == "choice" and self._seen.choice:
            mode = "choice"
        if wanted == "auto" and self._seen.choice and self._seen.told:
            mode = "choice"
        confidence = "with" if self._seen.told else "without"
        better = wanted == "json" and self._seen.choice and self._seen.told
        self._say(
            "what is used",
            f"mode {mode}, {confidence} confidence",
            "LLM_LABELER_MODE" if better else "",
            "auto would take one token a label (and makes another label version)" if better else "",
        )


async def _seconds(client: ChatClient) -> float:
    began = time.monotonic()
    await client.complete(NEUTRAL_QUESTION, schema=_SCHEMA, max_tokens=64)
    return time.monotonic() - began


def _number_told(token: TokenChance) -> int:
    """The number of alternatives with a probability that can be read."""
    return sum(logprob > -math.inf for _, logprob in token.top)


def _outside(answer: Completion) -> float:
    """The probability that was told for tokens that are no letter of the choice."""
    token = next(iter(answer.tokens or ()), None)
    if token is None:
        return 0.0
    return sum(math.exp(min(told, 0.0)) for text, told in token.top if letter_in(text) not in _LETTERS)


def _apart(one: Completion, other: Completion) -> float | None:
    """The greatest difference of the probabilities of two equal answers; None if they are not told."""
    if one.tokens is None or other.tokens is None or len(one.tokens) != len(other.tokens):
        return None
    return max(
        (
            abs(math.exp(min(a.logprob, 0.0)) - math.exp(min(b.logprob, 0.0)))
            for a, b in zip(one.tokens, other.tokens, strict=True)
        ),
        default=0.0,
    )
