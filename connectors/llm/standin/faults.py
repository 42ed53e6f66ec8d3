"""Faults that the stand-in can be told to have, to test failures of an endpoint."""

from __future__ import annotations

import random
import time
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal[
    "status",  # answer with `status` instead (and `retry_after` seconds, if given)
    "slow",  # take `factor` times as long
    "hang",  # never answer
    "drop",  # close the connection without an answer
    "cut",  # close it in the middle of the body
    "garbage",  # 200, but the body is no JSON
    "truncated_json",  # 200 and a whole body, but its JSON stops half-way
    "wrong_json",  # 200 and JSON, but not a chat completion
    "bad_answer",  # a chat completion whose content is not what was asked
    "truncated_answer",  # the content stops half-way, finish_reason `length`
    "unknown_label",  # a label that was not among the choices
]


class Fault(BaseModel):
    """One fault: its kind, how often, for how long, and for which texts.

    ``match``: only for queries that contain this text. ``calls``: only for `label` or only for `augment`
    requests. ``model``: only for requests to that one. ``seconds``: ends after so long; unset: until it is
    removed. ``seed`` makes ``fraction`` hit the same requests in every run.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    status: Annotated[int, Field(ge=400, le=599)] = 503
    retry_after: str | None = None
    fraction: Annotated[float, Field(ge=0, le=1)] = 1.0
    factor: Annotated[float, Field(ge=0)] = 100.0
    seconds: Annotated[float, Field(gt=0)] | None = None
    match: str | None = None
    calls: Literal["label", "augment"] | None = None
    model: str | None = None
    seed: int = 0


class Faults:
    """The faults that are active now."""

    def __init__(self) -> None:
        self._active: list[tuple[Fault, float, random.Random]] = []
        self.struck = 0

    def set(self, faults: list[Fault]) -> None:
        """Have these faults from now on, and no others."""
        now = time.monotonic()
        self._active = [
            (fault, now + (fault.seconds if fault.seconds is not None else 1e12), random.Random(fault.seed))
            for fault in faults
        ]

    def show(self) -> list[dict[str, object]]:
        """The faults that have not ended."""
        now = time.monotonic()
        return [fault.model_dump() for fault, end, _ in self._active if end > now]

    def strike(self, kind: str, query: str, model: str = "") -> Fault | None:
        """The fault that applies to this request, if any."""
        if not self._active:
            return None
        now = time.monotonic()
        for fault, end, chance in self._active:
            if now >= end or (fault.calls and fault.calls != kind):
                continue
            if fault.model is not None and fault.model != model:
                continue
            if fault.match is not None and fault.match not in query:
                continue
            if chance.random() < fault.fraction:
                self.struck += 1
                return fault
        return None
