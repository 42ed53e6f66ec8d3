"""What is not certain about a file: warnings, and questions for whoever uploads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from connectors.files.texts import refused, text
from streams.ports.files import Text

# The parts of a text that quote the file.
_QUOTED, _HIDDEN = ("value", "shown"), "…"
# The answer that a part of a row is in no column.
NONE = "none"


class Question(BaseModel):
    """``id``: what is to be decided; ``about``: what is not certain, and why. ``guess``: the choice that is
    taken if the client accepts.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    about: Text | str
    choices: list[str]
    guess: str


class Findings:
    """Collects them while a file is analysed. ``answers``: choices by question, from the client.
    ``quoting``: they may quote the file's values.
    """

    def __init__(self, answers: Mapping[str, str], *, quoting: bool = True) -> None:
        self.warnings: list[Text | str] = []
        self.questions: list[Question] = []
        self._asked: set[str] = set()
        self._answers = answers
        self._quoting = quoting

    def warn(self, code: str, **values: object) -> None:
        """State a decision that is likely and not certain. ``code``: of the text."""
        if (told := self._text(code, values)) not in self.warnings:
            self.warnings.append(told)

    def ask(self, about: str, choices: Sequence[str], guess: str, code: str, **values: object) -> str:
        """The answer to a question, or the guess if it is open.

        Raises:
            RefusedError: reason `answers`: the client's answer is none of the choices.
        """
        self._asked.add(about)
        choices = list(dict.fromkeys(choices))
        if (answer := self._answers.get(about)) is not None:
            if answer not in choices:
                raise refused("no answer", reason="answers", answer=answer, about=about, choices=choices)
            return answer
        self.questions.append(
            Question(id=about, about=self._text(code, values), choices=choices, guess=guess)
        )
        return guess

    def _text(self, code: str, values: Mapping[str, object]) -> Text:
        hidden = {} if self._quoting else {name: _HIDDEN for name in _QUOTED if name in values}
        return text(code, **{**values, **hidden})

    def check(self) -> None:
        """Raises:
        RefusedError: reason `answers`: an answer to what nobody asked.
        """
        if unknown := sorted(set(self._answers) - self._asked):
            asked = ", ".join(sorted(self._asked)) or "–"
            raise refused("no question", reason="answers", about=unknown[0], asked=asked)
