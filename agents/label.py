"""Label: a row gets a domain of the taxonomy, or it gets none."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import structlog

from agents.ports import Answers, Completion, Model, TokenChance, outcome_of
from agents.prompting import parse_answer, prompt_text, wrap_query
from agents.taxonomy import Taxonomy
from streams.errors import AnswerError, LabelstreamError, RefusedError
from streams.messages import Alternative, Labeled, Row
from streams.outcomes import Done, Reject, Retry
from streams.settings import Settings
from streams.topics import normalise

log = structlog.get_logger()

_TOKENS = 60
_STRICTER = (
    'Прошлый ответ не подошёл. Ответь ровно одним объектом JSON {{"label": "..."}}, где значение — '
    "одно из имён: {names}."
)


@dataclass(frozen=True)
class Decision:
    """A label and its distribution, as far as the endpoint tells."""

    label: str
    confidence: float | None
    alternatives: tuple[Alternative, ...]


def label_version(model: str, prompt: str, taxonomy: Taxonomy, mode: str) -> str:
    """A name that changes with the model, the prompt, the taxonomy or the way of asking."""
    digest = blake2b(f"{model}\n{prompt}\n{taxonomy.digest}\n{mode}".encode(), digest_size=4).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', model).strip('-')[:60] or 'model'}.{digest}"


async def make_labeler(
    settings: Settings, model: Model, taxonomy: Taxonomy, answers: Answers
) -> tuple[Callable[[Row], Awaitable[Done[Labeled] | Reject | Retry]], str]:
    """The step and the label version under which it works.

    Raises:
        RetryableError, ConfigurationError: the endpoint cannot say which model it serves.
    """
    name = await model.model()
    prompt = prompt_text("label")
    version = settings.label_version or label_version(name, prompt, taxonomy, settings.llm_labeler_mode)
    labeler = Labeler(model, name, prompt, taxonomy, version, answers)
    return labeler.label, version


class Labeler:
    """The label step."""

    def __init__(
        self, model: Model, name: str, prompt: str, taxonomy: Taxonomy, version: str, answers: Answers
    ) -> None:
        self._model = model
        self._name = name
        self._taxonomy = taxonomy
        self._version = version
        self._answers = answers
        self._system = prompt.format(domains=taxonomy.as_prompt())
        self._schema = {
            "type": "object",
            "properties": {"label": {"type": "string", "enum": list(taxonomy.names)}},
            "required": ["label"],
            "additionalProperties": False,
        }
        # What an older endpoint refuses is not asked again.
        self._with_schema = True
        self._with_logprobs = True

    async def label(self, row: Row) -> Done[Labeled] | Reject | Retry:
        """Decide. Equal texts share one answer."""
        try:
            decision, cached = await self._answers.get(
                (self._version, normalise(row.text)), lambda: self._decide(row.text)
            )
        except LabelstreamError as error:
            return outcome_of(error)
        return Done(
            Labeled(
                **row.model_dump(),
                label=decision.label,
                confidence=decision.confidence,
                alternatives=list(decision.alternatives),
                label_version=self._version,
                model=self._name,
                labeled_at=datetime.now(UTC),
                cached=cached,
            )
        )

    async def _decide(self, text: str) -> Decision:
        messages = [
            {"role": "system", "content": self._system},
            {"role": "user", "content": wrap_query(text)},
        ]
        completion = await self._ask(messages)
        label = self._label_in(completion)
        if label is None:
            stricter = {"role": "user", "content": _STRICTER.format(names=", ".join(self._taxonomy.names))}
            completion = await self._ask([*messages, stricter])
            label = self._label_in(completion)
        if label is None:
            raise AnswerError(f"the model answered {completion.text[:300]!r}")
        confidence, alternatives = distribution(completion.tokens, label, self._taxonomy.names)
        return Decision(label, confidence, alternatives)

    async def _ask(self, messages: list[dict[str, str]]) -> Completion:
        while True:
            try:
                return await self._model.complete(
                    messages,
                    schema=self._schema if self._with_schema else None,
                    max_tokens=_TOKENS,
                    logprobs=self._with_logprobs,
                )
            except RefusedError as error:
                if not self._give_way(str(error).lower()):
                    raise

    def _give_way(self, refusal: str) -> bool:
        """Do without what this endpoint does not know. False if it refused something else."""
        if self._with_logprobs and "logprobs" in refusal:
            self._with_logprobs = False
        elif self._with_schema and any(
            word in refusal for word in ("response_format", "json_schema", "guided", "grammar")
        ):
            self._with_schema = False
        else:
            return False
        log.warning(
            "the endpoint knows less than expected", logprobs=self._with_logprobs, schema=self._with_schema
        )
        return True

    def _label_in(self, completion: Completion) -> str | None:
        answer = parse_answer(completion.text)
        label = answer.get("label") if answer is not None else None
        return label if isinstance(label, str) and label in self._taxonomy.names else None


def distribution(
    tokens: Sequence[TokenChance] | None, label: str, names: Sequence[str]
) -> tuple[float | None, tuple[Alternative, ...]]:
    """The label's probability among all labels, and the others', from the answer's logprobs.

    At each token of the label's value, the tokens that might have stood there are put to the labels
    that they would begin or continue, and renormalised over these: some servers (llama-server) take
    logprobs before the grammar mask. Where several labels begin with the same token, the next token
    decides. (None, ()) without logprobs.
    """
    if not tokens:
        return None, ()
    chances: dict[str, float] = {}
    share = 1.0  # of the probability that is still on the label's own path
    written = ""
    position = _value_start(tokens, label)
    for token in tokens[position:] if position is not None else ():
        weights: dict[str, float] = {}
        for text, logprob in {**dict(token.top), token.token: token.logprob}.items():
            piece = text.strip(' "\n')
            if piece:
                weights[piece] = weights.get(piece, 0.0) + math.exp(logprob)
        alive = [name for name in names if name.startswith(written) and name not in chances]
        own_piece = token.token.strip(' "\n')
        by_piece = {
            piece: [name for name in alive if _fits(name[len(written) :], piece)] for piece in weights
        }
        total = sum(weight for piece, weight in weights.items() if by_piece[piece])
        if total <= 0:
            break
        for piece, members in by_piece.items():
            apart = [name for name in members if not _fits(name[len(written) :], own_piece)]
            for name in apart:
                chances[name] = chances.get(name, 0.0) + share * weights[piece] / total / len(apart)
        share *= sum(weights[p] for p, members in by_piece.items() if label in members) / total
        written += own_piece
        if written == label or sum(name.startswith(written) for name in names) <= 1:
            break
    if position is None:
        return None, ()
    others = sorted(
        ((min(c, 1.0), name) for name, c in chances.items() if name != label and c > 1e-6), reverse=True
    )
    return min(max(share, 0.0), 1.0), tuple(
        Alternative(label=name, confidence=chance) for chance, name in others[:5]
    )


def _fits(rest: str, piece: str) -> bool:
    return rest.startswith(piece) or (bool(rest) and piece.startswith(rest))


def _value_start(tokens: Sequence[TokenChance], label: str) -> int | None:
    """The token with which the label begins in the answer's text."""
    whole = "".join(token.token for token in tokens)
    found: Any = re.search(r'"label"\s*:\s*"', whole)
    begin = whole.find(label, found.end() if found else 0)
    if begin < 0:
        return None
    at = 0
    for index, token in enumerate(tokens):
        at += len(token.token)
        if at > begin:
            return index
    return None
