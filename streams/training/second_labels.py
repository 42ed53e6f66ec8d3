"""Asks the model for a second label of some texts, the labels in another order: how often it differs from
itself.

With the priority of replays, one at a time, and past every cache of answers. Nothing of the trainer's waits
for it, and what cannot be asked now is left out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from agents.label import Labeler, labeler_of
from connectors.llm.cache import Uncached
from connectors.llm.client import ChatClient
from streams.core.context import REPLAY
from streams.core.errors import LabelstreamError, UnavailableError
from streams.core.label_version import LabelSpec
from streams.core.messages import Labeled, Row
from streams.core.outcomes import Done, Outcome
from streams.core.times import moment
from streams.training.sights import Sight, text_digest

log = structlog.get_logger()

_LOOK_SECONDS, _PAUSE_SECONDS = 0.2, 30.0


class SecondLabel(NamedTuple):
    """``label``: None if the model gives the text none."""

    version: str
    sight: Sight
    label: str | None


class SecondLabels:
    """Of all versions; in memory alone. ``client``: of the labelling model; raises ConfigurationError while
    its address is not known. ``pause_seconds``: after a call that gave no label.
    """

    def __init__(self, client: Callable[[], ChatClient], pause_seconds: float = _PAUSE_SECONDS) -> None:
        self._client = client
        self._pause = pause_seconds
        self._model: ChatClient | None = None
        self._wanted: deque[tuple[LabelSpec, Sight]] = deque()
        self._given: list[SecondLabel] = []
        self._labelers: dict[str, tuple[LabelSpec, Labeler]] = {}

    def want(self, spec: LabelSpec, sights: Sequence[Sight]) -> None:
        """Have these texts, which the version ``spec`` labelled once, labelled again."""
        self._wanted.extend((spec, sight) for sight in sights)

    def taken(self) -> list[SecondLabel]:
        """What has come since the last time."""
        found, self._given = self._given, []
        return found

    async def run(self) -> None:
        """Ask, until cancelled."""
        REPLAY.set(True)
        try:
            while True:
                if not self._wanted:
                    await asyncio.sleep(_LOOK_SECONDS)
                    continue
                spec, sight = self._wanted.popleft()
                label, why = None, ""
                try:
                    outcome = await self._ask(spec, sight)
                except LabelstreamError as error:
                    why = str(error)
                else:
                    if isinstance(outcome, Done):
                        label = outcome.message.label
                    else:
                        why = outcome.reason
                self._given.append(SecondLabel(spec.version, sight, label))
                # The next one later: others will come in the place of this one, for ever if the model gives
                # none of them a label.
                if why:
                    log.info("text_not_asked_twice", label_version=spec.version, why=why)
                    await asyncio.sleep(self._pause)
        finally:
            if self._model is not None:
                await self._model.close()
                self._model = None

    async def _ask(self, spec: LabelSpec, sight: Sight) -> Outcome[Labeled]:
        """
        Raises:
            LabelstreamError: it cannot be asked now.
        """
        if self._model is None:
            self._model = self._client()
        labeler = await self._labeler(spec, self._model)
        at = moment(sight.at)
        return await labeler.label(
            Row(row_id=text_digest(sight.text), text=sight.text, created_at=at, polled_at=at)
        )

    async def _labeler(self, spec: LabelSpec, model: ChatClient) -> Labeler:
        made = self._labelers.get(spec.version)
        if made is None or not made[0].same_as(spec):
            if spec.model not in (await model.model(), *await model.models()):
                raise UnavailableError(f"the endpoint does not offer the model {spec.model}")
            labeler = labeler_of(spec, model.asking(spec.model), Uncached(), turned_round=True)
            made = self._labelers[spec.version] = (spec, labeler)
        return made[1]
