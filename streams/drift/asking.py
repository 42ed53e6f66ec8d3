"""Asks some texts of the live version again each hour, in the worker that has the rows' first partition.

With the priority of replays, few at a time, and past the cache of answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Container, Iterable
from datetime import UTC, datetime

import structlog
from prometheus_client.metrics_core import Metric

from agents.label import labeler_of
from agents.ports import Model
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.given_labels import labels_at
from connectors.clickhouse.queries.watching.asked_texts import recent_texts
from connectors.llm.cache import Uncached
from streams.core.background import gathered
from streams.core.context import REPLAY
from streams.core.errors import LabelstreamError, LeaseLostError
from streams.core.label_version import LabelSpec
from streams.core.messages import Row
from streams.core.outcomes import Done, Retry
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.drift.checkpoint import KnownDrift, endpoint_message
from streams.drift.endpoint import LEAST_ANSWERS, TEXTS, AskedText, EndpointWatch, Round
from streams.observability.collectors import model_metrics
from streams.ports.kafka import Lease, Sender
from streams.ports.lookups import Place
from streams.runtime.result_tables import ResultTables

log = structlog.get_logger()

# Not at once: a worker that has just started has rows to catch up with.
_FIRST_SECONDS, _SECONDS = 600.0, 30.0
_ROUND_SECONDS = 3600.0
_AT_ONCE = 4  # calls in flight
_AGAIN_SECONDS = 300.0  # after a round that had to be left


class EndpointDrift:
    """Of one worker. ``watch``: the state that this worker made or last heard of."""

    def __init__(
        self,
        topics: Topics,
        spec: LabelSpec,
        model: Model,
        tables: ResultTables,
        known: KnownDrift,
        *,
        sender: Sender,
        lease: Lease,
        asks: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``known``: what the versions topic says, which is followed elsewhere. ``asks``: whether this worker
        is the one that asks. ``clock``: seconds since 1970.
        """
        self._topics, self._spec, self._tables, self._known = topics, spec, tables, known
        self._sender, self._lease, self._asks, self._clock = sender, lease, asks, clock
        self._labeler = labeler_of(spec, model, Uncached())
        self._not_before = float("-inf")
        self.asking = False

    @property
    def watch(self) -> EndpointWatch | None:
        return self._known.endpoints.get(self._spec.version)

    def measure(self) -> Iterable[Metric]:
        """Metrics; of the worker that asks alone."""
        watch = self.watch
        if not self.asking or watch is None:
            return ()
        told = watch.told()
        differs = told["differs"]
        return model_metrics(
            self._spec.version,
            changed=watch.since is not None,
            differs=differs if isinstance(differs, float) else None,
        )

    async def run(self, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Ask whenever a round is due, until cancelled."""
        REPLAY.set(True)
        await pause(_FIRST_SECONDS)
        while True:
            await pause(_SECONDS)
            self.asking = self._asks()
            if not self.asking:
                continue
            try:
                await self.step()
            except LeaseLostError:
                continue
            except LabelstreamError as error:
                log.info("texts_not_asked_again", why=str(error))
            except Exception:  # rows are labelled whatever happens here
                log.exception("texts_not_asked_again")

    async def step(self) -> None:
        """The next round, if it is due. The rounds of the beginning follow each other at once.

        Raises:
            LeaseLostError: another worker asks now.
            UnavailableError, ConfigurationError: of Kafka or ClickHouse.
        """
        generation = self._lease.generation
        watch = self.watch or EndpointWatch(version=self._spec.version)
        last = watch.asked_at
        if last is not None and not watch.learning and self._clock() - last.timestamp() < _ROUND_SECONDS:
            return
        if self._clock() < self._not_before:
            return
        found = await self._texts(watch) if watch.texts else {}
        if len(found) < max(LEAST_ANSWERS, len(watch.texts) // 2):
            await self._begin(generation)
            return
        answers = await self._ask(watch, found)
        if answers is None or len(answers) < LEAST_ANSWERS:  # the endpoint is away: later
            self._not_before = self._clock() + _AGAIN_SECONDS
            return
        await self._note(_forgotten(watch, found), answers, generation)

    async def _begin(self, generation: int) -> None:
        """Choose texts, and ask them for the first time."""
        now = int(self._clock() * 1e6)
        version = self._spec.version
        places, many = await self._tables.ask(
            lambda client, settings: recent_texts(client, settings, version, now, TEXTS)
        )
        if len(places) < (LEAST_ANSWERS if many else TEXTS):
            return
        texts = [AskedText(row_id=one.row_id, created_at=one.created_at, label="") for one in places]
        watch = EndpointWatch(version=version, texts=texts)
        answers = await self._ask(watch, await self._texts(watch))
        if answers is None or len(answers) < LEAST_ANSWERS:
            self._not_before = self._clock() + _AGAIN_SECONDS
            return
        kept = [texts[number].model_copy(update={"label": answers[number]}) for number in sorted(answers)]
        begun = EndpointWatch(version=version, texts=kept, asked_at=self._at())
        await self._save(begun, generation)
        log.info("texts_asked_first", label_version=version, texts=len(kept))

    async def _note(self, watch: EndpointWatch, answers: dict[int, str], generation: int) -> None:
        numbers = range(len(watch.texts))
        one = Round(
            at=self._at(),
            differed=[n for n in numbers if n in answers and answers[n] != watch.texts[n].label],
            missing=[n for n in numbers if n not in answers],
        )
        new = await asyncio.to_thread(watch.add, one)
        new = new.model_copy(update={"asked_at": one.at})
        if new.since is not None and watch.since is None:
            log.warning("model_changed", **new.told())
        await self._save(new, generation)

    async def _texts(self, watch: EndpointWatch) -> dict[int, str]:
        """The texts by number, without those of rows that are gone."""
        places = {n: Place(one.created_at, one.row_id) for n, one in enumerate(watch.texts) if one.row_id}

        async def look(client: ClickHouseClient, settings: Settings) -> dict[int, str]:
            given = await labels_at(
                client, settings, watch.version, list(places.values()), with_text=True, with_others=False
            )
            return {
                number: text
                for number, place in places.items()
                if place in given and (text := given[place].text)
            }

        return await self._tables.ask(look)

    async def _ask(self, watch: EndpointWatch, texts: dict[int, str]) -> dict[int, str] | None:
        """The labels of ``texts`` by number, those that it fails on left out; None if it is away."""
        found: dict[int, str] = {}
        numbers = list(texts)
        for start in range(0, len(numbers), _AT_ONCE):
            if not self._asks():
                return None
            some = numbers[start : start + _AT_ONCE]
            rows = [
                Row(
                    row_id=watch.texts[number].row_id,
                    text=texts[number],
                    created_at=watch.texts[number].created_at,
                    polled_at=self._at(),
                )
                for number in some
            ]
            outcomes = await gathered(map(self._labeler.label, rows))
            # One of several may be a text that the endpoint always fails on: it is missing.
            if len(outcomes) > 1 and all(isinstance(outcome, Retry) for outcome in outcomes):
                return None
            for number, outcome in zip(some, outcomes, strict=True):
                if isinstance(outcome, Done):
                    found[number] = outcome.message.label
        return found

    async def _save(self, watch: EndpointWatch, generation: int) -> None:
        await self._lease.hold(generation)
        await self._sender.send(endpoint_message(self._topics, watch))
        self._known.endpoints[watch.version] = watch

    def _at(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _forgotten(watch: EndpointWatch, found: Container[int]) -> EndpointWatch:
    """Without ids and times of rows that are gone: they may have been erased."""
    gone = {"row_id": "", "created_at": datetime.fromtimestamp(0, UTC)}
    texts = [
        one if number in found else one.model_copy(update=gone) for number, one in enumerate(watch.texts)
    ]
    return watch.model_copy(update={"texts": texts})
