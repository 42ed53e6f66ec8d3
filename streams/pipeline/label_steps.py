"""The label versions of an agents worker: it announces its own, follows those of others, and labels under all
of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import structlog

from agents.label import labeler_of
from agents.routing import Router
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.kafka.connection import connection
from connectors.kafka.follow import Follower
from connectors.kafka.producer import send_each
from connectors.llm.cache import Beside, Shared
from connectors.llm.client import ChatClient
from streams.core.availability import until_available
from streams.core.background import in_background
from streams.core.errors import ConfigurationError, LabelstreamError
from streams.core.label_version import LabelSpec
from streams.core.messages import Labeled, Row
from streams.core.outcomes import Outcome, Reject, Retry, Step
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.runtime.local_stack import with_local_stack
from streams.versions.registry import register
from streams.versions.topic import KnownVersions

log = structlog.get_logger()

LabelStep = Step[Row, Labeled]

_WAIT_SECONDS = 1.0
# A version is written before its rows. If it is missing so long after the topic was read, it never existed.
_ABSENT_SECONDS = 30.0
_LIST_SECONDS = 30.0
_NOT_OFFERED = Retry(5.0, "the endpoint does not offer the version's model")


class LabelSteps:
    """Label steps by version. ``live``: this worker's own version, after `start` with its final name."""

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        model: ChatClient,
        answers: Shared,
        live: LabelSpec,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.known = KnownVersions()
        self._settings = settings
        self._topics = topics
        self._model = model
        self._answers = answers
        self.live = live
        self.routed = Counter[str]()  # texts by what became of them, see `Router`
        self._clock = clock
        self._beside = Beside(answers)
        self._made: dict[tuple[str, bool, bool], tuple[LabelSpec, LabelStep]] = {}
        self._missed: dict[str, float] = {}
        self._listed: frozenset[str] = frozenset()
        self._listed_at = float("-inf")
        self._follower = Follower(connection(settings), topics.versions, self.known.learn)

    def label_as(self, version: str, *, beside: bool = False, by_model: bool = False) -> LabelStep:
        """The label step of ``version``, which may still be unknown. ``beside``: no other row waits for its
        calls. ``by_model``: no proxy labels.
        """

        async def step(row: Row) -> Outcome[Labeled]:
            try:
                made = self._step(version, beside, by_model)
            except ConfigurationError as error:
                return Reject("unusable-version", str(error))
            if made is not None:
                return await made(row) if await self._offered(version) else _NOT_OFFERED
            if self._absent(version):
                return Reject("unknown-version", f"the versions topic holds no label version {version}")
            return Retry(_WAIT_SECONDS, f"label version {version} is not known yet")

        return step

    async def start(self) -> None:
        """Read the known versions and drops, so that nothing unwanted is processed, and the live version's
        name stands for one way to ask.
        """
        await until_available("the label versions", self._follower.start)
        asked, self.live = self.live, self.known.under_own_name(self.live)
        if self.live.version != asked.version:
            log.warning(
                "label_version_renamed",
                label_version=self.live.version,
                wanted=asked.version,
                different=self.known.specs[asked.version].difference(asked),
                setting="LABEL_VERSION",
                fix="set it to a name of its own whenever the model, a prompt or the taxonomy changes",
            )

    async def run(self) -> None:
        """Announce the live version, then follow the topic, until cancelled."""
        telling = in_background(self._tell(), "tell the label version")
        try:
            await self._follower.run()
        finally:
            telling.cancel()

    def router_of(self, version: str) -> Router | None:
        """Lets the proxy of ``version`` label in the model's place; None where there is no cascade."""
        if self._settings.cascade == "off":
            return None
        return Router(
            partial(self.known.cascade_of, version),
            partial(self.known.proxy_of, version),
            on=self._settings.cascade == "on",
            counts=self.routed,
        )

    def _step(self, version: str, beside: bool, by_model: bool) -> LabelStep | None:
        spec = self.known.specs.get(version, self.live if version == self.live.version else None)
        if spec is None:
            return None
        made = self._made.get((version, beside, by_model))
        if made is None or not made[0].same_as(spec):
            same = spec.model == self.live.model
            model = self._model if same else self._model.asking(spec.model)
            calibration = partial(self.known.calibration_of, version)
            answers = self._beside if beside else self._answers
            router = None if beside or by_model else self.router_of(version)
            labeler = labeler_of(spec, model, answers, calibration, router)
            made = self._made[version, beside, by_model] = (spec, labeler.label)
            log.info("label_version_made", label_version=version, model=spec.model)
        return made[1]

    async def _offered(self, version: str) -> bool:
        """Whether the endpoint serves the version's model. A call for a model that it does not have would
        count as a failure of the endpoint, for live rows too.
        """
        if version == self.live.version or (model := self.known.specs[version].model) == self.live.model:
            return True
        if self._clock() - self._listed_at > _LIST_SECONDS:
            try:
                self._listed, self._listed_at = frozenset(await self._model.models()), self._clock()
            except LabelstreamError:
                return False
        return model in self._listed

    def _absent(self, version: str) -> bool:
        first = self._missed.setdefault(version, self._clock())
        return self._follower.current_at - first > _ABSENT_SECONDS

    async def _tell(self) -> None:
        """Record the live version on the versions topic and in `label_versions`, as soon as they are
        available.
        """
        spec = self.live
        other = self.known.specs.get(spec.version)
        if other is None:
            await until_available("Kafka (to note the label version)", self._publish)
        elif difference := other.difference(spec):
            # Two workers that began at once; what is noted first stands.
            log.warning(
                "another label version has the same name: start this worker again",
                label_version=spec.version,
                different=difference,
                setting="LABEL_VERSION",
            )
        await self._register()

    async def _publish(self) -> None:
        await send_each(connection(self._settings), [self.live.message(self._topics)])

    async def _register(self) -> None:
        async def attempt() -> None:
            async with ClickHouseClient.from_settings(with_local_stack(self._settings)) as client:
                await register(client, self._settings, self.live, live=True)

        try:
            await until_available("ClickHouse (to note the label version)", attempt)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.warning("label_version_not_noted", version=self.live.version, error=str(error))
