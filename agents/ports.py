"""What the steps need of a model, as a protocol: no HTTP here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from streams.core.errors import (
    ConfigurationError,
    LabelstreamError,
    PermanentError,
    RetryableError,
)
from streams.core.outcomes import Reject, Retry

_PERSON_SECONDS = 5.0


class AnswerToken(Protocol):
    """A token of the answer and its alternatives, with log probabilities."""

    @property
    def token(self) -> str: ...
    @property
    def logprob(self) -> float: ...
    @property
    def top(self) -> tuple[tuple[str, float], ...]: ...


class ModelAnswer(Protocol):
    """An answer of the model."""

    @property
    def text(self) -> str: ...
    @property
    def finish_reason(self) -> str: ...
    @property
    def tokens(self) -> Sequence[AnswerToken] | None: ...


class Model(Protocol):
    """One chat model."""

    async def model(self) -> str:
        """Its name."""

    async def complete(
        self,
        messages: Sequence[dict[str, str]],
        *,
        schema: dict[str, Any] | None = None,
        choice: Sequence[str] | None = None,
        max_tokens: int,
        temperature: float = 0.0,
        logprobs: int = 0,
        check: Callable[[ModelAnswer], None] | None = None,
        at_once: tuple[type[LabelstreamError], ...] = (),
    ) -> ModelAnswer:
        """One answer; raises our errors. ``logprobs``: number of alternatives for each token. What the model
        does not take is left out.

        ``check`` raises AnswerError for an answer that cannot be used. Such an answer, and a refusal, are
        judged by what happens to other texts, before they are raised as the fault of this one. ``at_once``:
        the errors that are raised without that, because the caller has another request to try.
        """

    async def holds_choice(self, options: Sequence[str]) -> bool:
        """Whether its answers are held to one of ``options``, if asked for."""


class Answers(Protocol):
    """Shares one call among equal questions."""

    async def get(self, key: bytes, ask: Callable[[], Awaitable[bytes]]) -> tuple[bytes, bool]:
        """The answer for that key, and whether it came without a call of its own."""

    def known(self, key: bytes) -> bytes | None:
        """The answer, if it is there without any call."""


def outcome_of(error: LabelstreamError) -> Reject | Retry:
    """What to do with the message after an error: wait for what is down or misconfigured, reject what is
    refused.
    """
    if isinstance(error, PermanentError):
        return Reject(error.reason, str(error), error.attempts)
    if isinstance(error, ConfigurationError):
        return Retry(_PERSON_SECONDS, f"{error.setting}: {error}")
    after = error.after if isinstance(error, RetryableError) and error.after is not None else 0.5
    return Retry(after, str(error))
