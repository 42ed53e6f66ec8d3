"""Follows the published labels, and teaches, certifies and watches the proxy of each version."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from agents.proxy.audited import is_audited
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.watching.cascade_rows import (
    first_sights,
    first_sights_at,
    labels_by_people,
)
from streams.cascade.generation import Generation, LabeledText, learn
from streams.core.availability import until_available
from streams.core.background import in_background
from streams.core.cascade import CascadeState, positions_message
from streams.core.errors import LeaseLostError
from streams.core.label_version import HUMAN, UNDONE
from streams.core.messages import HumanLabel
from streams.core.records import Outgoing, Partition
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.ports.kafka import Lease, Sender, Tail, TopicIds
from streams.ports.lookups import Place
from streams.ports.review import AUDIT
from streams.quality.audit import draw_number, salt_of
from streams.quality.gate import judged_rows
from streams.training.feed import Labels, LabelTopics, seen_of
from streams.training.generations import AuditedText
from streams.training.second_labels import SecondLabels
from streams.training.sights import MOST_TEXTS, Sight, text_digest
from streams.training.version_training import MOST_JUDGED, CascadeLimits, VersionTraining
from streams.versions.topic import KnownVersions

log = structlog.get_logger()

_LOOK_SECONDS = 1.0
_SAVE_SECONDS = 30.0
# What people say is on the topic before it is in the tables, where it is read.
_PEOPLE_SECONDS, _PEOPLE_AFTER = 10.0, 120.0
_MOST_BY_PEOPLE = 5_000
# In memory at once: those whose labels came last.
_MOST_VERSIONS = 8

Learn = Callable[[Sequence[LabeledText], float], Generation]
Repair = Callable[[VersionTraining], Awaitable[bool]]


class Trainer:
    """The work of one ownership. ``told``: counters that outlive it, for reports."""

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        *,
        tail: Tail,
        ids: TopicIds,
        sender: Sender,
        lease: Lease,
        generation: int,
        client: ClickHouseClient,
        repair: Repair,
        told: dict[str, Any],
        clock: Callable[[], float] = time.time,
        learn: Learn = learn,
        second: SecondLabels | None = None,
    ) -> None:
        """``generation``: of the group, with which it may write. ``repair``: begins to label again what a
        revoked proxy labelled; False: later. ``second``: labels some texts a second time; None: nobody does.
        """
        self._settings = settings
        self._topics = topics
        self._tail = tail
        self._sender = sender
        self._lease = lease
        self._generation = generation
        self._client = client
        self._repair = repair
        self._told = told
        self._clock = clock
        self._learn = learn
        self._second = second
        self._limits = CascadeLimits(
            settings.cascade_margin,
            settings.cascade_risk,
            settings.cascade_delay_minutes,
            settings.cascade == "on",
        )
        self.known = KnownVersions()
        self._read_to = 0  # of the versions topic
        self._labels = LabelTopics(settings, topics, tail, ids)
        self._trainings: dict[str, VersionTraining] = {}  # the one with the newest label last
        self._unsent: dict[str, list[Outgoing]] = {}  # parts of proxies
        self._saved_at = float("-inf")
        self._people_until = 0.0
        self._people_at = float("-inf")
        self._answered: frozenset[Place] = frozenset()  # the rows that people had judged then

    async def run(self, ending: asyncio.Event) -> None:
        """Train until ``ending`` is set.

        Raises:
            LeaseLostError: another trainer is at work.
            AccessError, ConfigurationError: a person must change something.
        """
        await self._while_owner("Kafka (to learn the cascades)", self._begin)
        asking = None if self._second is None else in_background(self._second.run(), "ask texts twice")
        try:
            while not ending.is_set():
                await self._while_owner("what the trainer needs", self._turn)
                try:
                    await asyncio.wait_for(ending.wait(), _LOOK_SECONDS)
                except TimeoutError:
                    continue
        finally:
            if asking is not None:
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asking
        await self._save(force=True)

    async def _while_owner(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        """As `until_available`, and ends when another trainer is at work."""

        async def attempt() -> LeaseLostError | None:
            try:
                await step()
            except LeaseLostError as error:
                return error
            return None

        if (lost := await until_available(what, attempt)) is not None:
            raise lost

    async def _begin(self) -> None:
        self.known, self._read_to = KnownVersions(), 0
        place = Partition(self._topics.versions, 0)
        # Also what the trainer before wrote and nobody can see yet, because a replica is slow.
        await self._read_versions(await self._tail.written_many([place]))
        await self._labels.begin(self.known.cascades.positions, int(self._clock() * 1000))
        self._trainings.clear()
        self._people_until = self._clock() + _PEOPLE_AFTER
        leftovers = [
            Outgoing(self._topics.versions, 0, key.encode(), None) for key in self.known.cascades.unnamed
        ]
        await self._send(leftovers)
        for version in self.known.cascades.versions:
            state = self.known.cascades.newest_of(version)
            self._told["states"][version] = state
            if state is not None and not state.checkpoint.get("repaired", True):
                await self._training(version)

    async def _turn(self) -> None:
        """Once all that is to be done now."""
        place = Partition(self._topics.versions, 0)
        await self._read_versions({place: await self._tail.bounds(*place)})
        for version in self.known.cascades.wished:
            training = await self._training(version)
            wish = self.known.cascades.wish_of(version)
            if training.now_state.reset != wish:
                log.info("cascade_reset", label_version=version)
                training.begin_anew(wish)
                await self._publish(training)
        async for labels in self._labels.new():
            await self._observe(labels)
        self._ask_twice()
        await self._ask_people()
        for training in list(self._trainings.values()):
            await self._fit(training)
            if not training.memory.repaired and await self._repair(training):
                training.memory.repaired = True
                training.unsaved = training.urgent = True
        await self._save()

    # --- what comes in ---

    async def _read_versions(self, bounds: dict[Partition, tuple[int, int]]) -> None:
        place = Partition(self._topics.versions, 0)
        async for records in self._tail.read_many({place: self._read_to}, bounds):
            for record in records:
                self.known.learn(record)
                self._read_to = record.offset + 1

    async def _observe(self, labels: Labels) -> None:
        by_version: dict[str, list[tuple[int, HumanLabel]]] = {}
        for offset, label in zip(labels.offsets, labels.labels, strict=True):
            if label is not None:
                by_version.setdefault(label.label_version, []).append((offset, label))
        for version, found in by_version.items():
            if version == HUMAN:
                self._hear([label for _, label in found])
                continue
            training = await self._training(version)
            done = training.memory.offsets.get(labels.topic_id, {}).get(labels.partition, 0)
            if any(Place(label.created_at, label.row_id) in self._answered for _, label in found):
                # A replay comes to rows that people judged long ago.
                self._people_until = self._clock() + _PEOPLE_AFTER
            seen = [seen_of(self._settings, label) for offset, label in found if offset >= done]
            before = training.now_state.state
            await asyncio.to_thread(training.observe, seen)
            training.reached(labels.topic_id, labels.partition, labels.offsets[-1] + 1)
            if labels.topic == self._topics.labeled and any(one.decided_by == "proxy" for one in seen):
                training.memory.published = True
            self._told["labels"] += len(seen)
            self._report(training, before)
            if training.urgent:  # not when all is read: it may be a revocation
                await self._publish(training)

    def _hear(self, labels: Sequence[HumanLabel]) -> None:
        if any(one.drawn_by == AUDIT or one.draw_probability is not None for one in labels):
            self._people_until = self._clock() + _PEOPLE_AFTER
        texts = [
            LabeledText(one.text, one.label, _BY_PEOPLE_WEIGHT)
            for one in labels
            if one.drawn_by not in (None, AUDIT) and not one.model.endswith(UNDONE)
        ]
        back = [one.text for one in labels if one.model.endswith(UNDONE)]
        for training in self._trainings.values():
            training.forget_by_people(back)
            training.teach_by_people(texts)

    async def _training(self, version: str) -> VersionTraining:
        """That of ``version``, which is the newest now."""
        found = self._trainings.pop(version, None)
        if found is None:
            found = await self._made(version)
        self._trainings[version] = found
        while len(self._trainings) > _MOST_VERSIONS:
            await self._retire(self._trainings.pop(next(iter(self._trainings))))
        return found

    async def _retire(self, training: VersionTraining) -> None:
        """Or proxies of all versions that ever were would be in each worker's memory."""
        log.info("cascade_retired", label_version=training.version)
        training.retire()
        await self._publish(training)

    async def _made(self, version: str) -> VersionTraining:
        cascades = self.known.cascades
        state = cascades.newest_of(version) or CascadeState(version=version)
        proxies = {}
        for proxy in (state.proxy, state.candidate):
            if proxy is not None and (packed := cascades.packed(version, proxy)) is not None:
                proxies[proxy.generation] = packed
        training = await asyncio.to_thread(VersionTraining, state, self._limits, proxies, self._clock)
        await self._load(training)
        return training

    async def _load(self, training: VersionTraining) -> None:
        """What a cascade has in memory, from the tables: the labels that it has observed. Those behind come
        from the topics, and must be new to it then.
        """
        version, memory = training.version, training.memory
        stored = await first_sights(self._client, self._settings, version, memory.since, MOST_TEXTS)
        salt, share = salt_of(self._settings), self._settings.review_audit_share
        rate, since = training.certain_rate, memory.deciding_since

        def sights() -> list[Sight]:
            return [
                Sight(
                    one.text,
                    one.label,
                    one.at,
                    draw_number(salt, one.place) < share,
                    since is None or one.at < since or is_audited(version, one.text, rate),
                )
                for one in stored
                if _is_behind(one.message, memory.offsets or self._labels.offsets)
            ]

        training.remember(await asyncio.to_thread(sights))
        by_people = await labels_by_people(self._client, self._settings, _MOST_BY_PEOPLE)
        training.teach_by_people(
            LabeledText(text, label, _BY_PEOPLE_WEIGHT) for text, label in reversed(by_people)
        )
        await self._judge(training, await self._judged())
        log.info("cascade_loaded", label_version=version, texts=len(training.sights))

    def _ask_twice(self) -> None:
        """How often the model differs from itself."""
        if self._second is None:
            return
        for version, sight, label in self._second.taken():
            if (training := self._trainings.get(version)) is not None:
                training.hear_twice(sight, label)
        for version, training in self._trainings.items():
            if (spec := self.known.specs.get(version)) is not None and spec.taxonomy:
                self._second.want(spec, training.take_twice())

    # --- people ---

    async def _ask_people(self) -> None:
        """What people said of drawn rows, while they are at it."""
        now = self._clock()
        if now > self._people_until or now - self._people_at < _PEOPLE_SECONDS or not self._trainings:
            return
        answers = await self._judged()
        for training in list(self._trainings.values()):
            await self._judge(training, answers)
        self._people_at = now

    async def _judged(self) -> dict[Place, str | None]:
        rows = [one for one in await judged_rows(self._client, self._settings) if one.probability]
        found = {one.place: one.label for one in rows[-MOST_JUDGED:]}
        self._answered = frozenset(found)
        return found

    async def _judge(self, training: VersionTraining, answers: dict[Place, str | None]) -> None:
        if not answers:
            return
        version = training.version
        rows = await first_sights_at(self._client, self._settings, version, list(answers))
        judged = [
            AuditedText(text_digest(one.text), one.text, one.label, answers[place], one.at)
            for place, one in sorted(rows.items())
        ]
        before = training.now_state.state
        await asyncio.to_thread(training.judge, judged)
        self._report(training, before)

    # --- fitting and publishing ---

    async def _fit(self, training: VersionTraining) -> None:
        while training.fit_due:
            # Whom people judged until now does not teach.
            await self._judge(training, await self._judged())
            number = training.memory.generation + 1
            teach = await asyncio.to_thread(training.lessons)
            began = time.monotonic()
            try:
                learned, packed = await asyncio.to_thread(self._fitted, teach)
            except ValueError as error:
                log.warning(
                    "cascade_not_fitted",
                    label_version=training.version,
                    generation=number,
                    reason=str(error),
                )
                training.not_fitted()
                continue
            before = training.now_state.state
            proxy = await asyncio.to_thread(training.fitted, learned, packed)
            log.info(
                "cascade_fitted",
                label_version=training.version,
                generation=number,
                texts=len(teach),
                bytes=len(packed),
                seconds=round(time.monotonic() - began, 2),
            )
            self._told["fits"] += 1
            self._unsent.setdefault(training.version, []).extend(
                proxy.messages(training.version, packed, self._topics)
            )
            await self._publish(training)
            self._report(training, before)

    def _fitted(self, teach: Sequence[LabeledText]) -> tuple[Generation, bytes]:
        learned = self._learn(teach, self._limits.margin)
        return learned, learned.proxy.pack()

    async def _save(self, *, force: bool = False) -> None:
        due = force or self._clock() - self._saved_at > _SAVE_SECONDS
        for training in list(self._trainings.values()):
            if training.urgent or (due and training.unsaved):
                await self._publish(training)
        # All that is read is in a state: a successor begins here.
        if due and self._labels.offsets != self.known.cascades.positions:
            await self._send([positions_message(self._topics, self._labels.offsets)])
            self._saved_at = self._clock()

    async def _publish(self, training: VersionTraining) -> None:
        version = training.version
        before = self.known.cascades.newest_of(version)
        state = training.state(self._labels.offsets)
        # The parts of a proxy before the state that names it, also when Kafka refused them at first.
        await self._send(self._unsent.get(version, []))
        self._unsent.pop(version, None)
        await self._send([state.message(self._topics)])
        training.unsaved = training.urgent = False
        kept = {state.proxy, state.candidate}
        gone = [
            tombstone
            for proxy in ((before.proxy, before.candidate) if before is not None else ())
            if proxy is not None and proxy not in kept
            for tombstone in proxy.tombstones(version, self._topics)
        ]
        await self._send(gone)
        self._told["states"][version] = state

    async def _send(self, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            await self._lease.hold(self._generation)
            await self._sender.send(message)

    def _report(self, training: VersionTraining, before: str) -> None:
        state = training.now_state
        if state.state == before:
            return
        if state.state == "certified":
            log.info(
                "cascade_certified",
                label_version=state.version,
                generation=state.generation,
                threshold=state.threshold,
                against=state.certified_against,
                coverage=state.coverage,
            )
        elif before == "certified" and state.state == "learning":
            log.warning("cascade_paused", label_version=state.version, generation=state.generation)
        elif state.state == "revoked":
            log.warning(
                "cascade_revoked",
                label_version=state.version,
                generation=state.generation,
                reason=state.revoked_why,
                clean_until=state.clean_until and state.clean_until.isoformat(),
            )


_BY_PEOPLE_WEIGHT = 5.0


def _is_behind(message: tuple[str, int, int], offsets: Mapping[str, Mapping[int, int]]) -> bool:
    """Whether it lies before ``offsets``; of a topic that was made anew all does."""
    topic_id, partition, offset = message
    return topic_id not in offsets or offset < offsets[topic_id].get(partition, 0)


def empty_report() -> dict[str, Any]:
    """What `Trainer` counts."""
    return {"labels": 0, "fits": 0, "repairs": 0, "states": {}}
