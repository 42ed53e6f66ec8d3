"""Choose a label by letter: one output token, with the distribution over all labels."""

from __future__ import annotations

import string
from dataclasses import dataclass
from hashlib import blake2b

import structlog

from agents.asking import MOST_LOGPROBS
from agents.distribution import Distribution, choice_distribution, letter_in, of_choice
from agents.ports import Model
from agents.prompting import prompt_text, wrap_query
from agents.reading import without_thoughts
from agents.taxonomy import Taxonomy
from streams.core.errors import AnswerError, RefusedError

log = structlog.get_logger()

MOST_OPTIONS = MOST_LOGPROBS
# An answer that is no option is usable if the options have at least this share of the probability.
_ENOUGH_ON_OPTIONS = 0.5
# Then each row would take two calls.
_MOST_MISSED = 3
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

    def __init__(
        self,
        model: Model,
        taxonomy: Taxonomy,
        seed: str,
        *,
        prompt: str | None = None,
        turned_round: bool = False,
    ) -> None:
        """``prompt``: its template, if it is not the packaged one. ``turned_round``: the options in the
        opposite order.
        """
        self._model = model
        ordered = sorted(
            taxonomy.domains,
            key=lambda d: blake2b(f"{seed}\n{d.name}".encode(), digest_size=8).digest(),
            reverse=turned_round,
        )
        self._letters = list(string.ascii_uppercase[: len(ordered)])
        self.options = dict(zip(self._letters, (domain.name for domain in ordered), strict=True))
        lines = "\n".join(
            f"{letter}. {taxonomy.line(domain)}"
            for letter, domain in zip(self._letters, ordered, strict=True)
        )
        self._system = (prompt or prompt_text("choice")).format(domains=lines)
        self._missed = 0  # answers in a row that were no option

    async def choose(self, text: str, longest: int) -> ChosenLabel | None:
        """The label; None if the answer is no option, or the endpoint's answers are not held to options.

        Raises:
            RefusedError: the endpoint refuses the row.
        """
        if self._missed >= _MOST_MISSED or not await self._model.holds_choice(self._letters):
            return None
        messages = [
            {"role": "system", "content": self._system},
            {"role": "user", "content": wrap_query(text, longest)},
        ]
        try:
            completion = await self._model.complete(
                messages,
                choice=self._letters,
                max_tokens=1,
                logprobs=len(self._letters),
                at_once=(AnswerError,),
            )
        except AnswerError as error:  # it is empty
            self._count(None, str(error))
            return None
        chances, mass = of_choice(completion.tokens, self.options)
        label = self.options.get(letter_in(without_thoughts(completion.text)))
        if label is None and mass >= _ENOUGH_ON_OPTIONS:
            label = max(chances, key=lambda name: chances[name])
        self._count(label, completion.text)
        return ChosenLabel(label, choice_distribution(chances, label)) if label is not None else None

    def _count(self, label: str | None, answer: str) -> None:
        self._missed = 0 if label is not None else self._missed + 1
        if self._missed == _MOST_MISSED:
            log.warning(
                "choice_not_used",
                why=f"the last {_MOST_MISSED} answers were no options, such as {answer[:80]!r}",
            )

    async def supported(self, *, told: bool) -> bool:
        """Whether the endpoint holds its answers to one letter; ``told``: and tells its probability.

        Raises:
            RetryableError, ConfigurationError: it cannot be asked now.
        """
        try:
            chosen = await self.choose(_PROBE, len(_PROBE))
        except RefusedError as error:
            log.info("choice_not_supported", why=str(error)[:200])
            return False
        return chosen is not None and (not told or chosen.distribution[0] is not None)
