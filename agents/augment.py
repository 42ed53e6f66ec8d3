"""Augment: a labelled row gets rewordings, all asked for in one call and each checked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from agents.check import check_variants
from agents.ports import Answers, Model, outcome_of
from agents.prompting import LONGEST, parse_answer, prompt_text, wrap_query
from streams.errors import AnswerError, LabelstreamError, RefusedError
from streams.messages import Augmented, Labeled
from streams.outcomes import Done, Reject, Retry
from streams.topics import normalise

_STRICTER = 'Прошлый ответ не подошёл. Ответь ровно одним объектом JSON {"variants": ["...", "..."]}.'


class Augmenter:
    """The augment step. The model's name is asked for with the first row, so that labelling need not wait."""

    def __init__(self, model: Model, variants: int, answers: Answers) -> None:
        self._model = model
        self._variants = variants
        self._answers = answers
        self._system = prompt_text("augment").format(count=variants)
        self._schema: dict[str, Any] = {
            "type": "object",
            "properties": {
                "variants": {
                    "type": "array",
                    "items": {"type": "string"},
                    "minItems": variants,
                    "maxItems": variants,
                }
            },
            "required": ["variants"],
            "additionalProperties": False,
        }
        self._with_schema = True

    async def augment(self, message: Labeled) -> Done[Augmented] | Reject | Retry:
        """Write variants; none are asked for where AUGMENT_VARIANTS is 0."""
        try:
            name = await self._model.model() if self._variants else ""
            written: list[str] = []
            if self._variants:
                written, _ = await self._answers.get(
                    normalise(message.text), lambda: self._write(message.text)
                )
        except LabelstreamError as error:
            return outcome_of(error)
        kept, rejected = check_variants(message.text, written)
        return Done(
            Augmented(
                **message.model_dump(),
                variants=kept,
                rejected=rejected,
                augment_model=name,
                augmented_at=datetime.now(UTC),
            )
        )

    async def _write(self, text: str) -> list[str]:
        messages = [
            {"role": "system", "content": self._system},
            {"role": "user", "content": wrap_query(text)},
        ]
        tokens = 64 + self._variants * (32 + min(len(text), LONGEST))
        said = ""
        for turn in ([], [{"role": "user", "content": _STRICTER}]):
            said = await self._ask([*messages, *turn], tokens)
            answer = parse_answer(said)
            variants = answer.get("variants") if answer is not None else None
            if isinstance(variants, list) and all(isinstance(variant, str) for variant in variants):
                return variants[: self._variants]
        raise AnswerError(f"the model answered {said[:300]!r}")

    async def _ask(self, messages: list[dict[str, str]], tokens: int) -> str:
        try:
            schema = self._schema if self._with_schema else None
            return (
                await self._model.complete(messages, schema=schema, max_tokens=tokens, temperature=0.7)
            ).text
        except RefusedError as error:
            refusal = str(error).lower()
            if not self._with_schema or not any(
                w in refusal for w in ("response_format", "json_schema", "grammar")
            ):
                raise
            self._with_schema = False
            return (
                await self._model.complete(messages, schema=None, max_tokens=tokens, temperature=0.7)
            ).text
