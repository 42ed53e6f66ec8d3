"""The outcomes of a step. A step never decides about delivery: `streams/delivery/delivery.py` does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from streams.core.messages import Message

M = TypeVar("M", bound=Message, covariant=True)
I_contra = TypeVar("I_contra", bound=Message)


@dataclass(frozen=True, slots=True)
class Done(Generic[M]):
    """The step's result, to be published downstream."""

    message: M


@dataclass(frozen=True, slots=True)
class Reject:
    """This message can never be processed; it goes to the dead-letter topic with its bytes.

    ``reason`` is short and countable (`invalid-answer`), ``error`` is the exact problem, ``attempts`` is how
    often the step had tried.
    """

    reason: str
    error: str = ""
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now. ``after``: seconds to wait, at least; ``reason`` is for the log.

    ``suspect``: the step failed in a way that it does not know, so that the message may be the reason. Only
    suspect failures are counted, and can end in a dead letter, while other messages succeed. What a model's
    endpoint fails with is judged by its connector.
    """

    after: float
    reason: str
    suspect: bool = False


Outcome = Done[M] | Reject | Retry
Step = Callable[[I_contra], Awaitable[Outcome[M]]]
