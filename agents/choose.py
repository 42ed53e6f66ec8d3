"""Choose a label by letter: one output token, with the distribution over all labels."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import structlog

from agents.distribution import Distribution, choice_distribution, letter_in, of_choice
from agents.ports import Model, ModelAnswer
from agents.prompting import prompt_text, wrap_query
from agents.reading import without_thoughts
from agents.taxonomy import Taxonomy
from streams.core.errors import TOO_LONG, RefusedError

log = structlog.get_logger()

MOST_OPTIONS = 20  # endpoints usually return the probabilities of at most so many tokens
# An answer that is no option is usable if the options have at least this share of the probability.
_ENOUGH_ON_OPTIONS = 0.5
_PROBE = "где мой заказ"


@dataclass(frozen=True)
class ChosenLabel:
    """A label and its distribution."""

    label: str
    distribution: Distribution


class Chooser:
    """Asks for the letter of an option. Models favour some letters and positions, so the order of the options
    is shuffled once for each label version.
    """

    def __init__(self, model: Model, taxonomy: Taxonomy, seed: str, *, prompt: str | None = None) -> None:
        """``prompt``: its template, if it is not the packaged one."""
        self._model = model
        ordered = sorted(
            taxonomy.domains, key=lambda d: blake2b(f"{seed}\n{d.name}".encode(), digest_size=8).digest()
        )
        self._letters = string.ascii_uppercase[: len(ordered)]
        self.options = dict(zip(self._letters, (domain.name for domain in ordered), strict=True))
        lines = "\n".join(
            f"{letter}. {taxonomy.line(domain)}"
            for letter, domain in zip(self._letters, ordered, strict=True)
        )
        self._system = (prompt or prompt_text("choice")).format(domains=lines)
        self._held = True
        self._taken = False  # a request in this form was accepted
        self._logprobs = len(ordered)

    async def choose(self, text: str, longest: int, *, trial: bool = False) -> ChosenLabel | None:
        """The label; None if the answer is no option. ``trial``: it is tried whether the endpoint takes this
        at all.

        Raises:
            RefusedError: the endpoint refuses the row.
        """
        messages = [
            {"role": "system", "content": self._system},
            {"role": "user", "content": wrap_query(text, longest)},
        ]
        completion = await self._ask(messages, trial)
        chances, mass = of_choice(completion.tokens, self.options)
        label = self.options.get(letter_in(without_thoughts(completion.text)))
        if label is None and mass >= _ENOUGH_ON_OPTIONS:
            label = max(chances, key=lambda name: chances[name])
        return ChosenLabel(label, choice_distribution(chances, label)) if label is not None else None

    async def supported(self) -> bool:
        """Whether the endpoint answers with one letter and returns the probabilities of all letters.

        Raises:
            RetryableError, ConfigurationError: it cannot be asked now.
        """
        try:
            chosen = await self.choose(_PROBE, len(_PROBE), trial=True)
        except RefusedError as error:
            log.info("choice_not_supported", why=str(error)[:200])
            return False
        confidence = chosen.distribution[0] if chosen is not None else None
        return confidence is not None and self._logprobs > 0

    async def _ask(self, messages: Sequence[dict[str, str]], trial: bool) -> ModelAnswer:
        while True:
            held, logprobs = self._held, self._logprobs
            other = not self._taken and (held or logprobs)
            try:
                completion = await self._model.complete(
                    messages,
                    choice=list(self._letters) if held else None,
                    max_tokens=1,
                    logprobs=logprobs,
                    at_once=(RefusedError,) if trial or other else (),
                )
            except RefusedError as error:
                if error.reason == TOO_LONG or error.attempts > 1 or not other:
                    raise
                if self._taken:
                    continue  # it was accepted for another row, and this one is asked again
                why = str(error).lower()
                if logprobs and "logprobs" in why:
                    self._logprobs = 0
                elif held and not (logprobs and "top_" in why):
                    self._held = False
                else:
                    self._logprobs = 0
            else:
                self._taken = True
                return completion
