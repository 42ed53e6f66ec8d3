"""Augment: ask for variants of a labelled row, all in one call, and check each of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from agents.asking import JsonAsker, ask_shorter
from agents.check import check_variants
from agents.label import answer_key
from agents.ports import Answers, Model, ModelAnswer, outcome_of
from agents.prompting import parse_answer, prompt_text, with_placeholders, wrap_query
from agents.verify import Verifier
from streams.core.errors import LabelstreamError
from streams.core.messages import Augmented, Labeled, RejectedVariant
from streams.core.outcomes import Done, Outcome

_STRICTER = 'Прошлый ответ не подошёл. Ответь ровно одним объектом JSON {"variants": ["...", "..."]}.'
_TEMPERATURE = 0.7


Mask = Callable[[Sequence[str]], Awaitable[list[str | None]]]


class Augmenter:
    """The augment step. It asks for the model's name with the first row, so that labelling need not wait."""

    def __init__(
        self,
        model: Model,
        variants: int,
        answers: Answers,
        *,
        mask: Mask | None = None,
        verifier: Verifier | None = None,
    ) -> None:
        """``mask``: masks texts, None for one that cannot be, where texts have placeholders in the place of
        personal data. The model is told so, and a variant with personal data of its own is rejected.
        ``verifier``: labels the variants of some rows.
        """
        prompt = prompt_text("augment")
        if mask is not None:
            prompt = with_placeholders(prompt, "placeholders_kept")
        self._model = model
        self._mask = mask
        self._verifier = verifier
        self._variants = variants
        self._answers = answers
        self._system = {"role": "system", "content": prompt.format(count=variants)}
        schema: dict[str, Any] = {
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
        self._json = JsonAsker(model, schema, temperature=_TEMPERATURE)

    async def augment(self, message: Labeled) -> Outcome[Augmented]:
        """Write variants; none are requested if AUGMENT_VARIANTS is 0."""
        try:
            name = await self._model.model() if self._variants else ""
            written: list[str] = []
            if self._variants:
                packed, _ = await self._answers.get(
                    answer_key(f"{name}/{self._variants}", message.text), lambda: self._write(message.text)
                )
                written = orjson.loads(packed)
            kept, rejected = check_variants(message.text, written)
            if self._mask is not None:
                kept, rejected = await _without_invented(kept, rejected, self._mask)
            written_at, calls = datetime.now(UTC), None
            if self._verifier is not None and (verified := await self._verifier.verify(message, kept)):
                kept, calls = verified.kept, verified.calls
                rejected = [*rejected, *verified.rejected]
        except LabelstreamError as error:
            return outcome_of(error)
        return Done(
            # No validation is needed: the message was validated when it was read, the rest was checked here.
            Augmented.made(
                **message.__dict__,
                variants=kept,
                rejected=rejected,
                augment_model=name,
                augmented_at=written_at,
                verify_calls=calls,
            )
        )

    def cache_entry(self, message: Augmented) -> tuple[bytes, bytes] | None:
        """The cache key and the answer in a published message; None if it was made with other settings."""
        written = [*message.variants, *(one.text for one in message.rejected)]
        if len(written) != self._variants or not written:
            return None
        return answer_key(f"{message.augment_model}/{self._variants}", message.text), orjson.dumps(written)

    async def _write(self, text: str) -> bytes:
        written = await ask_shorter(text, self._ask)
        # Text that is not valid UTF-8 could not be published.
        return orjson.dumps([variant.encode("utf-8", "replace").decode() for variant in written])

    async def _ask(self, text: str, longest: int) -> list[str]:
        query = wrap_query(text, longest)
        tokens = 64 + self._variants * (32 + min(len(text), longest))
        return await self._json.ask_until_readable(
            [self._system], query, _STRICTER, tokens, self._read_variants
        )

    def _read_variants(self, completion: ModelAnswer) -> list[str] | None:
        found = parse_answer(completion.text, "variants")
        if not isinstance(found, list) or not all(isinstance(variant, str) for variant in found):
            return None
        return found[: self._variants]


async def _without_invented(
    kept: list[str], rejected: list[RejectedVariant], mask: Mask
) -> tuple[list[str], list[RejectedVariant]]:
    """Reject variants with personal data: the source has placeholders for its own, so the model has invented
    it. Nothing of it is published with the rejected ones either.
    """
    masked = await mask([*kept, *(one.text for one in rejected)])
    safe, told = masked[: len(kept)], masked[len(kept) :]
    return (
        [text for text, one in zip(kept, safe, strict=True) if one == text],
        [
            *(one.model_copy(update={"text": text or ""}) for one, text in zip(rejected, told, strict=True)),
            *(
                RejectedVariant(text=one or "", reason="placeholder-changed")
                for text, one in zip(kept, safe, strict=True)
                if one != text
            ),
        ],
    )
