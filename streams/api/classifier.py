"""Labels on demand, with the label agent's code and within its endpoint's limit."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from agents.label import Labeler, label_spec, labeler_of
from agents.taxonomy import load_taxonomy
from connectors.llm.cache import Shared
from connectors.llm.client import ChatClient
from streams.core.errors import (
    LabelstreamError,
    OverloadedError,
    PermanentError,
    RetryableError,
    UnavailableError,
)
from streams.core.label_version import LabelSpec
from streams.core.messages import Row
from streams.core.outcomes import Done, Reject
from streams.core.settings import Settings
from streams.core.text import clean, why_skipped
from streams.ports.classifier import OnDemand
from streams.privacy.door import Door, refuse_unmasked
from streams.runtime.local_stack import with_local_stack
from streams.versions.topic import KnownVersions

# A client waits for the answer: a call that takes longer is cancelled.
_PATIENCE_SECONDS = 10.0
_MOST_SECONDS = 60.0


@dataclass(frozen=True)
class _Model:
    base: str | None
    client: ChatClient
    asked: LabelSpec
    version: str
    labeler: Labeler


class LabelOnDemand:
    """Implements `streams.ports.classifier.Classifier`; one client and one cache for all requests."""

    def __init__(
        self,
        settings: Settings,
        known: KnownVersions | None = None,
        door: Door | None = None,
    ) -> None:
        """``known``: the label versions, which are followed elsewhere. ``door``: what masks the texts."""
        refuse_unmasked(settings, door)
        self._settings = settings
        self._door = door
        self._known = known or KnownVersions()
        self._model: _Model | None = None
        self._clients: list[ChatClient] = []
        self._making = asyncio.Lock()

    async def classify(self, texts: Sequence[str]) -> list[OnDemand]:
        model = await self._ready()
        try:
            async with asyncio.timeout(_MOST_SECONDS):
                return await _all([self._one(model, text) for text in texts])
        except TimeoutError:
            raise OverloadedError("the labels were not there in time", after=5.0) from None
        except RetryableError:
            await self._look_again(model)
            raise

    async def close(self) -> None:
        """Close every client."""
        for client in self._clients:
            await client.close()

    async def _one(self, model: _Model, text: str) -> OnDemand:
        cleaned = clean(text)
        raw = text.encode("utf-8", "surrogatepass")
        if skipped := why_skipped(raw, cleaned, self._settings.min_text_length):
            return OnDemand(cleaned, skipped=skipped)
        if (away := model.client.away) is not None:
            raise away.with_traceback(None)  # it says whether a person must change something
        if self._door is not None:
            try:
                cleaned = await self._door.text(cleaned)
            except PermanentError as error:
                return OnDemand("", error=error.reason)
        now = datetime.now(UTC)
        row = Row.made(
            row_id="on-demand",
            text=cleaned,
            created_at=now,
            user_id=None,
            session_id=None,
            source_domain=None,
            polled_at=now,
        )
        outcome = await model.labeler.label(row)
        if isinstance(outcome, Done):
            return OnDemand(cleaned, labeled=outcome.message)
        if isinstance(outcome, Reject):
            return OnDemand(cleaned, error=outcome.reason)
        if (away := model.client.away) is not None:
            raise away.with_traceback(None)
        raise UnavailableError(outcome.reason, setting="LLM_LABELER_API_BASE", after=outcome.after)

    async def _ready(self) -> _Model:
        async with self._making:
            if self._model is None:
                settings = await asyncio.to_thread(with_local_stack, self._settings)
                taxonomy = await asyncio.to_thread(load_taxonomy, settings.taxonomy_path)
                client = ChatClient.from_settings(settings, "labeler", patience_seconds=_PATIENCE_SECONDS)
                try:
                    spec = await label_spec(settings, client, taxonomy)
                except LabelstreamError:
                    await client.close()
                    raise
                self._clients.append(client)
                self._model = self._under(settings.llm_labeler_api_base, client, spec)
            model = self._model
            if self._known.under_own_name(model.asked).version != model.version:
                self._model = self._under(model.base, model.client, model.asked)
            return self._model

    def _under(self, base: str | None, client: ChatClient, asked: LabelSpec) -> _Model:
        """Under the name that workers which ask so have."""
        spec = self._known.under_own_name(asked)
        calibration = partial(self._known.calibration_of, spec.version)
        return _Model(base, client, asked, spec.version, labeler_of(spec, client, Shared(), calibration))

    async def _look_again(self, used: _Model) -> None:
        """The local stand-in may have been restarted at another address."""
        if self._settings.llm_labeler_api_base is None and self._model is used:
            found = await asyncio.to_thread(with_local_stack, self._settings)
            if found.llm_labeler_api_base != used.base:
                self._model = None


async def _all(work: Sequence[Coroutine[Any, Any, OnDemand]]) -> list[OnDemand]:
    """The results, or the first error: then the others are not awaited."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
