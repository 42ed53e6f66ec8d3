"""What is not certain about a file: warnings, and questions for whoever uploads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from streams.core.errors import RefusedError

# The answer that a part of a row is in no column.
NONE = "none"


class Question(BaseModel):
    """``id``: what is to be decided. ``guess``: the choice that is taken if the client accepts."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="What is to be decided: the key in `answers` of `POST /process`.")
    about: str = Field(description="What is not certain, and why.")
    choices: list[str] = Field(description="The possible answers.")
    guess: str = Field(description="The most likely one: taken with `accept`, and in this answer.")


class Findings:
    """Collects them while a file is analysed. ``answers``: choices by question, from the client."""

    def __init__(self, answers: Mapping[str, str] | None = None) -> None:
        self.warnings: list[str] = []
        self.questions: list[Question] = []
        self._asked: set[str] = set()
        self._answers = answers or {}

    def warn(self, text: str) -> None:
        """State a decision that is likely and not certain."""
        if text not in self.warnings:
            self.warnings.append(text)

    def ask(self, about: str, text: str, choices: Sequence[str], guess: str) -> str:
        """The answer to a question, or the guess if it is open.

        Raises:
            RefusedError: reason `answers`: the client's answer is none of the choices.
        """
        self._asked.add(about)
        choices = list(dict.fromkeys(choices))
        if (answer := self._answers.get(about)) is not None:
            if answer not in choices:
                raise RefusedError(f"{answer!r} is no answer to {about!r}: {choices}", reason="answers")
            return answer
        self.questions.append(Question(id=about, about=text, choices=choices, guess=guess))
        return guess

    def check(self) -> None:
        """Raises:
        RefusedError: reason `answers`: an answer to what nobody asked.
        """
        if unknown := sorted(set(self._answers) - self._asked):
            asked = ", ".join(sorted(self._asked)) or "nothing"
            raise RefusedError(f"there is no question {unknown[0]!r}; asked is {asked}", reason="answers")
